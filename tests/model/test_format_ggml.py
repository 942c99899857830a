"""whisper.cpp's files: bit-exact there and back, complete, and read with suspicion."""

from __future__ import annotations

import json
import re
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.exports import stored
from tests.model.damage import little_room
from whispertune.errors import InputError, ModelError
from whispertune.model.formats.contents import Contents
from whispertune.model.formats.ggml import FILES, ORDER, read_ggml, write_ggml
from whispertune.model.formats.ggml_vocabulary import matching_only, token_bytes, tokenizer_from
from whispertune.model.formats.openai import Dims, rows
from whispertune.model.formats.transformers import Shape
from whispertune.model.generation import write_generation
from whispertune.model.load import ModelFolder
from whispertune.windows.tokens import Vocabulary, with_all_merges

HEADER_BYTES = 4 + 4 * 11
FILTERS_BYTES = 8 + 80 * 201 * 4


@pytest.fixture(scope="module")
def small(base: ModelFolder) -> Contents:
    """A random Whisper as narrow as a block, with the real vocabulary, in float16."""
    shape = Shape(base.shape.vocabulary, 80, 32, 2, 2, 2, 2, 128, 128)
    rng = np.random.default_rng(0)
    state = {row.theirs: rng.normal(0, 0.1, row.shape).astype(np.float16) for row in rows(Dims.of(shape))}
    return Contents(state, shape, base.tokenizer_json, base.generation)


@pytest.fixture(scope="module")
def written(small: Contents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model's file, with its tokenizer beside it: faster than to make one of its tokens."""
    folder = tmp_path_factory.mktemp("ggml")
    write_ggml(small, folder, "float16")
    (folder / "tokenizer.json").write_bytes(small.tokenizer_json)
    return folder / "ggml-model.bin"


def merges(tokenizer_json: bytes) -> list[list[str]]:
    found: list[list[str]] = with_all_merges(json.loads(tokenizer_json))["model"]["merges"]
    return found


def test_the_real_model_there_and_back(base: ModelFolder, tmp_path: Path) -> None:
    source = stored(base)
    write_ggml(source, tmp_path, "float16")
    path = tmp_path / "ggml-model.bin"
    assert path.stat().st_size == 147_951_465  # as ggml-base.bin that whisper.cpp's authors publish
    back = read_ggml(path)
    assert back.shape == source.shape
    assert back.state.keys() == source.state.keys()
    for name, array in source.state.items():
        assert back.state[name].dtype == array.dtype == np.float16
        assert np.array_equal(back.state[name], array), name
    assert merges(back.tokenizer_json) == merges(source.tokenizer_json)
    ours, theirs = json.loads(back.tokenizer_json), json.loads(source.tokenizer_json)
    assert ours["model"]["vocab"] == theirs["model"]["vocab"]
    assert ours["post_processor"] == theirs["post_processor"]
    assert set(back.generation.suppress) == set(base.generation.suppress)
    assert back.generation.begin_suppress == base.generation.begin_suppress


def test_the_english_tokenizer_is_made_again(tiny_en: ModelFolder, tmp_path: Path) -> None:
    made = tokenizer_from(token_bytes(tiny_en.tokenizer_json), 51_864)
    assert merges(made) == merges(tiny_en.tokenizer_json)
    (tmp_path / "tokenizer.json").write_bytes(made)
    vocabulary = Vocabulary.from_file(tmp_path / "tokenizer.json")
    older = {"<|iw|>": "<|he|>"}  # Hebrew had another code when this one was made
    assert vocabulary.specials == {older.get(name, name): id_ for name, id_ in tiny_en.vocabulary.specials.items()}
    text = " Hello, naïve “world” of 中文 and emoji 🙂 in 2024"
    assert vocabulary.encode(text, "en") == tiny_en.vocabulary.encode(text, "en")


def test_large_v3_has_cantonese_too(base: ModelFolder, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_from(token_bytes(base.tokenizer_json), 51_866))
    vocabulary = Vocabulary.from_file(tmp_path / "tokenizer.json")
    assert (vocabulary.languages["yue"], vocabulary.id("<|translate|>")) == (50_358, 50_359)
    assert (vocabulary.no_timestamps, vocabulary.size) == (50_364, 51_866)


def test_the_expression_matches_the_list_and_nothing_else(base: ModelFolder) -> None:
    tokens = token_bytes(base.tokenizer_json)
    listed = [tokens[token] for token in base.generation.suppress if token < base.vocabulary.end]
    pattern = re.compile(matching_only(listed).encode())
    assert {token for token in tokens if token and pattern.fullmatch(token)} == {*listed}
    assert len(listed) > 80


def test_float32_stays_and_what_float16_cannot_hold_is_not_cut(
    small: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FILES, "float32", "ggml-model-f32.bin")  # others write such files
    state = {name: array.astype(np.float32) for name, array in small.state.items()}
    state["model.encoder.layers.0.fc1.bias"] += np.float32(1e-6)
    source = replace(small, state=state)
    for quantization in ("float32", "float16"):
        write_ggml(source, tmp_path, quantization)
        back = read_ggml(tmp_path / FILES[quantization])
        assert {array.dtype for array in back.state.values()} == {np.dtype(np.float32)}
        for name, array in state.items():
            assert np.array_equal(back.state[name], array), name


def test_what_lies_beside_it_is_taken(small: Contents, written: Path, tmp_path: Path, base: ModelFolder) -> None:
    settings = replace(small.generation, suppress=(1, 2), language="sv")
    shutil.copy(written, tmp_path)
    write_generation(tmp_path, settings, base.vocabulary)
    back = read_ggml(tmp_path / written.name)
    assert (back.generation.suppress, back.generation.language) == ((1, 2), "sv")
    other = json.loads(small.tokenizer_json)
    other["model"]["vocab"]["0"], other["model"]["vocab"]["1"] = (
        other["model"]["vocab"]["1"],
        other["model"]["vocab"]["0"],
    )
    for content, reason in ((json.dumps(other), "other tokens"), ("{}", "no readable tokenizer")):
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(ModelError, match=reason):
            read_ggml(tmp_path / written.name)


def test_older_files_list_the_end_of_text_too(small: Contents, written: Path, tmp_path: Path) -> None:
    data = written.read_bytes()
    place = HEADER_BYTES + FILTERS_BYTES
    assert struct.unpack_from("<i", data, place) == (50_257,)
    tokens_end = place + 4 + sum(4 + len(token) for token in token_bytes(small.tokenizer_json))
    end = b"<|endoftext|>"
    older = data[:place] + struct.pack("<i", 50_258) + data[place + 4 : tokens_end]
    (tmp_path / "ggml-old.bin").write_bytes(older + struct.pack("<i", len(end)) + end + data[tokens_end:])
    (tmp_path / "tokenizer.json").write_bytes(small.tokenizer_json)
    back = read_ggml(tmp_path / "ggml-old.bin")
    assert all(np.array_equal(back.state[name], array) for name, array in small.state.items())


@pytest.mark.parametrize("quantization", ["q8_0", "q5_0"])
def test_small_numbers_are_written_and_refused_for_training(quantization: str, small: Contents, tmp_path: Path) -> None:
    write_ggml(small, tmp_path, quantization)
    data = (tmp_path / FILES[quantization]).read_bytes()
    type_, bits = {"q8_0": (8, 8.5), "q5_0": (6, 5.5)}[quantization]
    name = b"decoder.token_embedding.weight"
    dims = struct.pack("<5i", 2, len(name), type_, 32, 51_865)
    assert dims + name in data
    packed = sum(np.prod(row.shape) for row in rows(Dims.of(small.shape)) if row.ours.endswith("weight"))
    assert len(data) == pytest.approx(packed * bits / 8 + 1_000_000, rel=0.15)
    with pytest.raises(ModelError, match=f"its weights are {quantization}"):
        read_ggml(tmp_path / FILES[quantization])


def test_what_whisper_cpp_cannot_load_is_not_written(small: Contents, contents: Contents, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="four times as wide"):
        write_ggml(contents, tmp_path, "float16")
    narrow = replace(small.shape, width=48, encoder_feed_forward=192, decoder_feed_forward=192)
    with pytest.raises(InputError, match="rows of 48"):
        write_ggml(replace(small, shape=narrow), tmp_path, "q5_0")
    with pytest.raises(InputError, match="this one has 51870"):
        write_ggml(replace(small, shape=replace(small.shape, vocabulary=51_870)), tmp_path, "float16")
    assert not list(tmp_path.iterdir())


def broken(data: bytes, small: Contents) -> list[tuple[str, bytes]]:
    """Files that are cut, flipped or lie, by what is wrong with them."""
    rng = np.random.default_rng(0)
    tokens = HEADER_BYTES + FILTERS_BYTES
    tensors = tokens + 4 + sum(4 + len(token) for token in token_bytes(small.tokenizer_json))
    found = [("empty", b"")]
    cuts = [3, 40, 60, tokens, tokens + 2, tensors - 1, tensors + 5, len(data) - 1]
    found += [(f"cut at {at}", data[:at]) for at in (*cuts, *rng.integers(0, len(data), 12).tolist())]
    for place, name in enumerate(("magic", *ORDER, "type")):
        for lie in (0, -1, 2**31 - 1):
            bad = bytearray(data)
            bad[4 * place : 4 * place + 4] = struct.pack("<i", lie)
            found.append((f"{name} {lie}", bytes(bad)))
        bad = bytearray(data)
        bad[4 * place] ^= 1 << int(rng.integers(0, 8))
        found.append((f"{name} flipped", bytes(bad)))
    numbers = {"mels": HEADER_BYTES, "frequencies": HEADER_BYTES + 4, "tokens": tokens, "length": tokens + 4}
    numbers |= {"dims": tensors, "name": tensors + 4, "tensor type": tensors + 8, "side": tensors + 12}
    for name, place in numbers.items():
        for lie in (-1, 2**30, 2**31 - 1):
            found.append((f"{name} {lie}", data[:place] + struct.pack("<i", lie) + data[place + 4 :]))
    found.append(("a name", data.replace(b"decoder.ln.bias", b"decoder.ln.bia\xff")))
    found.append(("two of a name", data.replace(b"encoder.conv2.bias", b"encoder.conv1.bias")))
    found.append(("more behind", data + b"\0" * 12))
    found.append(("another format", b"PK\x03\x04" + data[4:]))
    return found


def test_damaged_files_are_one_clear_error_each(small: Contents, written: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(small.tokenizer_json)
    cases = broken(written.read_bytes(), small)
    assert len(cases) >= 70
    path = tmp_path / "ggml-bad.bin"
    for wrong, data in cases:
        path.write_bytes(data)
        with little_room(), pytest.raises(ModelError) as told:
            read_ggml(path)
        assert told.value.where == str(path), wrong
        assert told.value.fix, wrong
        assert "memory" not in told.value.what.lower(), wrong  # that was asked for because a number said so


def test_flipped_tokens_make_no_tokenizer(small: Contents, written: Path, tmp_path: Path) -> None:
    data = bytearray(written.read_bytes())
    first = HEADER_BYTES + FILTERS_BYTES + 4 + 4
    data[first] ^= 1  # "!" becomes a space, which is there already
    (tmp_path / "ggml-bad.bin").write_bytes(bytes(data))
    with pytest.raises(ModelError, match="not all different"):
        read_ggml(tmp_path / "ggml-bad.bin")
