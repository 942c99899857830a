"""Weights in and out: bit-exact, complete, and decoded as CTranslate2 itself decodes them."""

from __future__ import annotations

import json
import re
import shutil
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from tests.exports import windows
from tests.hub_server import Hub
from whispertune.data.segments import Segment
from whispertune.data.table import SegmentTable
from whispertune.decode.engines import CTranslate2Engine, live_engine, load_live, open_engine
from whispertune.errors import ModelError
from whispertune.model.bundled import bundled_files
from whispertune.model.export import write_ctranslate2
from whispertune.model.formats.ctranslate2 import model_bin, quantize, read_model_bin
from whispertune.model.generation import Generation, _signs, tuned_generation
from whispertune.model.load import ModelFolder, find_model
from whispertune.model.parameters import merged_state
from whispertune.windows.features import log_mel


def test_weights_come_back_bit_exact(tiny_en: ModelFolder, tmp_path: Path) -> None:
    """float16 from the package, to transformers, to float16 in CTranslate2's format: the same numbers."""
    source = read_model_bin(bundled_files("whisper-tiny.en") / "model.bin")
    write_ctranslate2(tiny_en, tmp_path, "float16")
    again = read_model_bin(tmp_path / "model.bin")
    assert source.keys() == again.keys()
    for name, array in source.items():
        assert np.array_equal(array, again[name]), name
        assert array.dtype == again[name].dtype


def test_an_export_folder_is_complete(tiny: ModelFolder, tmp_path: Path) -> None:
    write_ctranslate2(tiny, tmp_path, "float32")
    names = {path.name for path in tmp_path.iterdir()}
    assert {"model.bin", "config.json", "vocabulary.json", "tokenizer.json", "preprocessor_config.json"} <= names
    assert json.loads((tmp_path / "preprocessor_config.json").read_text())["feature_size"] == 80
    vocabulary = json.loads((tmp_path / "vocabulary.json").read_text())
    assert (len(vocabulary), vocabulary[50364], vocabulary[51864]) == (51865, "<|0.00|>", "<|30.00|>")


def test_the_converted_folder_has_what_transformers_needs(base: ModelFolder) -> None:
    from transformers import WhisperProcessor

    processor = WhisperProcessor.from_pretrained(base.path)
    assert processor.tokenizer.convert_tokens_to_ids("<|0.00|>") == base.vocabulary.timestamp(0)
    assert len(processor.tokenizer) == 51865
    content = json.loads((base.path / "generation_config.json").read_text())
    assert content["eos_token_id"] == base.vocabulary.end
    assert content["max_length"] == 448
    assert "forced_decoder_ids" not in content
    assert len(content["alignment_heads"]) == 8
    model = base.load()
    assert model.dtype == torch.float32
    assert model.proj_out.weight is model.model.decoder.embed_tokens.weight


@pytest.mark.parametrize("quantization", ["float32", "float16", "int8", "int8_float16"])
def test_every_quantization_loads_and_is_near(
    quantization: str, tiny_en: ModelFolder, english_read: Path, tmp_path: Path
) -> None:
    write_ctranslate2(tiny_en, tmp_path, quantization)
    mel = log_mel(windows(english_read, 3), 80)
    (text, *_) = open_engine("ctranslate2", str(tmp_path)).decode(mel[2:], "en", "transcribe")
    assert "ask not what your country can do for you" in text


def test_int8_is_refused_for_training_and_decodes(tiny: ModelFolder, tmp_path: Path) -> None:
    write_ctranslate2(tiny, tmp_path, "int8")
    with pytest.raises(ModelError, match="int8"):
        find_model(str(tmp_path))
    assert isinstance(open_engine("ctranslate2", str(tmp_path)), CTranslate2Engine)


def test_int16_is_refused_for_training_too(tiny: ModelFolder, tmp_path: Path) -> None:
    write_ctranslate2(tiny, tmp_path, "float32")
    arrays = read_model_bin(tmp_path / "model.bin")
    arrays["encoder/conv1/weight"] = np.rint(arrays["encoder/conv1/weight"] * 1000).astype(np.int16)
    (tmp_path / "model.bin").write_bytes(model_bin(arrays))
    with pytest.raises(ModelError, match="int16"):
        find_model(str(tmp_path))


def test_memory_holds_the_weights_once_while_they_are_written() -> None:
    tracemalloc.start()
    arrays = {f"decoder/{number}/weight": np.ones((512, 1024), np.float32) for number in range(8)}
    weights_bytes = tracemalloc.get_traced_memory()[0]
    blob = model_bin(arrays)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(blob) > 8 * 512 * 1024 * 4
    assert not arrays
    assert peak_bytes < 1.5 * weights_bytes


def test_int8_rows_are_within_half_a_step() -> None:
    weight = np.random.default_rng(0).normal(0, 1, (7, 5)).astype(np.float32)
    weight[3] = 0
    stored = quantize({"decoder/x/weight": weight}, "int8")
    back = stored["decoder/x/weight"] / stored["decoder/x/weight_scale"][:, None]
    assert np.all(np.abs(back - weight) <= np.abs(weight).max(axis=1, keepdims=True) / 127 / 2 + 1e-6)


def test_suppressed_tokens_of_the_training_text_are_allowed(base: ModelFolder) -> None:
    tokens = set(base.vocabulary.encode("a/b: (c) #1", "en"))
    assert tokens & set(base.generation.suppress)
    assert not tokens & set(base.generation.allowing(tokens).suppress)
    assert Generation(language="sv").speaking(None, None).language is None


@pytest.mark.parametrize(("name", "text"), [("tiny_en", "♪ hello my baby ♪"), ("base", "hane ♂ och hona ♀")])
def test_signs_whose_first_bytes_are_suppressed_are_allowed(
    name: str, text: str, request: pytest.FixtureRequest
) -> None:
    """Whisper's lists have the first two bytes of ♪ and ♂ as a token."""
    model: ModelFolder = request.getfixturevalue(name)
    left = [
        tuned_generation(model.generation, model.vocabulary, SegmentTable.of([said])).suppress
        for said in (Segment(told, Path("a.wav"), 0.0, 1.0, told, "en") for told in (text, "hello my baby"))
    ]
    needed = set(model.vocabulary.encode(text, "en")) & set(model.generation.suppress)
    assert needed
    assert not needed & set(left[0])
    assert left[1] == model.generation.suppress


@pytest.mark.parametrize(
    ("token", "found", "left"),
    [
        (b" \xe2\x99", "♀♪", "a…"),
        (b"\xf0", "😀", "a♪"),
        (b"\xe0", "\u0c28", "a♪é"),
        (b"\xed", "\ud7a3", "a♪"),
        (b"\xed\xa0", "", "a♪"),
        (b'("', '("', "a♪"),
    ],
)
def test_what_a_token_may_begin(token: bytes, found: str, left: str) -> None:
    pattern = _signs(token)
    assert all(re.search(f"[{pattern}]", sign) for sign in found)
    assert not (pattern and re.search(f"[{pattern}]", left))
    pattern.encode()  # which lone surrogates could not be


def test_a_script_that_begins_with_a_suppressed_token_may_begin(base: ModelFolder) -> None:
    """Byte 0xE0 is token 220, which may not come first by default: Telugu could never begin."""
    first = base.vocabulary.encode("\u0c28\u0c2e\u0c38\u0c4d\u0c24\u0c47", "te")[0]
    assert first in base.generation.begin_suppress
    assert base.generation.allowing((), [first]).begin_suppress == (base.vocabulary.end,)


def test_what_translations_begin_with_may_begin(base: ModelFolder) -> None:
    """English starts with its space, whatever was spoken, and Japanese without one."""
    vocabulary = base.vocabulary
    rows = [
        ("ja", "translate", "Hello there."),
        ("en", "translate", "こんにちは。"),
        ("ja", "transcribe", "東京です。"),
    ]
    said = SegmentTable.of(Segment(text, Path("a.wav"), 0.0, 1.0, text, spoken, task) for spoken, task, text in rows)
    first = {vocabulary.encode(text, language)[0] for _, _, text in rows for language in ("en", "ja")}
    banned = replace(base.generation, begin_suppress=tuple(first))
    left = tuned_generation(banned, vocabulary, said).begin_suppress
    assert {vocabulary.decode([token]) for token in left} == {"Hello", " こ", " "}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, data: st.DataObject) -> None:
    """Cut short, with a flipped bit in the header, or with a lying size: never a crash."""
    good = model_bin({"encoder/conv1/weight": np.ones((4, 4, 3), np.float32), "decoder/alibi": np.asarray(np.int8(0))})
    bad = bytearray(good)
    if data.draw(st.booleans()):
        bad = bad[: data.draw(st.integers(0, len(bad) - 1))]
    else:
        bad[data.draw(st.integers(0, 50))] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(bad))
    try:
        arrays = read_model_bin(path)
    except ModelError:
        with pytest.raises(ModelError, match="not a readable CTranslate2 model"):
            read_model_bin(path)
    else:
        assert sum(array.nbytes for array in arrays.values()) <= len(good)  # only names or values were hit


def test_a_size_that_lies_is_not_allocated(tmp_path: Path) -> None:
    good = model_bin({"decoder/x": np.ones((2, 2), np.float32)})
    position = good.index(struct.pack("<BII", 2, 2, 2))
    bad = good[: position + 1] + struct.pack("<II", 2**31, 2**31) + good[position + 9 :]
    (tmp_path / "model.bin").write_bytes(bad)
    with pytest.raises(ModelError, match="states 16 bytes"):
        read_model_bin(tmp_path / "model.bin")


def test_bundled_weights_are_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from whispertune.model import bundled

    spoiled = tmp_path / "part"
    shutil.copyfile(bundled_files("whisper-tiny.en") / "model.bin", spoiled)
    with spoiled.open("r+b") as file:
        file.seek(1000)
        file.write(b"x")
    monkeypatch.setenv("WHISPERTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(bundled, "_file", lambda *_: spoiled)
    with pytest.raises(ModelError, match="sha256"):
        bundled_files("whisper-tiny.en")
    assert not list((tmp_path / "cache").iterdir())


def test_models_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="bundled:whisper-base"):
        find_model("openai/whisper-small")  # no hub here, and nothing cached
    with pytest.raises(ModelError, match="no model in this folder"):
        find_model(str(tmp_path))
    with pytest.raises(ModelError, match="whisper-base"):
        find_model("bundled:whisper-medium")


def test_live_weights_are_not_touched(tiny: ModelFolder) -> None:
    live = load_live(tiny)
    before = merged_state(live.model)
    live_engine("ctranslate2", live)
    assert all(np.array_equal(array, before[name]) for name, array in merged_state(live.model).items())


@pytest.fixture
def changed(tiny: ModelFolder, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the tiny model; `name` is a JSON file of it in which keys are set, or left out where they are None."""

    def copy(name: str = "config.json", **keys: Any) -> Path:
        folder = tmp_path / "model"
        shutil.copytree(tiny.path, folder)
        content = json.loads((folder / name).read_text()) | keys
        (folder / name).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
        return folder

    return copy


def test_a_folder_without_generation_settings_is_decoded_by_transformers(changed: Callable[..., Path]) -> None:
    """Older folders keep them in config.json, and prompt tokens with them that newer releases refuse."""
    folder = changed(suppress_tokens=[1, 2], begin_suppress_tokens=[220], forced_decoder_ids=[[1, 50259], [2, 50359]])
    (folder / "generation_config.json").unlink()
    found = find_model(str(folder))
    assert found.generation.suppress == (1, 2)
    live = load_live(found)
    assert live.model.generation_config.lang_to_id["<|sv|>"] == found.vocabulary.languages["sv"]
    engine = live_engine("transformers", live)
    engine.settings.max_new_tokens = 5  # type: ignore[attr-defined]
    assert len(engine.decode(torch.zeros(1, 80, 3000), "sv", "transcribe")) == 1


@pytest.mark.parametrize(("stored", "code"), [("hindi", "hi"), ("<|sv|>", "sv"), ("xx", "xx")])
def test_a_stored_language_may_be_a_name(stored: str, code: str, changed: Callable[..., Path]) -> None:
    assert Generation.from_folder(changed("generation_config.json", language=stored)).language == code


def test_word_times_need_no_alignment_heads(changed: Callable[..., Path], tmp_path: Path) -> None:
    folder = find_model(str(changed("generation_config.json", alignment_heads=None)))
    (tmp_path / "out").mkdir()
    write_ctranslate2(folder, tmp_path / "out", "float32")
    heads = json.loads((tmp_path / "out" / "config.json").read_text())["alignment_heads"]
    assert heads == [[1, 0], [1, 1]]  # all of the later half of the layers


def test_only_the_dropout_that_is_asked_for(changed: Callable[..., Path]) -> None:
    model = find_model(str(changed(dropout=0.3, attention_dropout=0.1, activation_dropout=0.2))).load()
    for layer in (*model.model.encoder.layers, *model.model.decoder.layers):
        assert (layer.dropout, layer.activation_dropout, layer.self_attn.dropout) == (0.0, 0.0, 0.0)


def test_missing_weights_are_no_random_ones(changed: Callable[..., Path]) -> None:
    path = changed() / "model.safetensors"
    kept = {name: array for name, array in load_file(path).items() if "decoder.layers.1.fc" not in name}
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"4 of its weights are missing, model.decoder.layers.1.fc1.bias"):
        find_model(str(path.parent)).load()


def test_cut_weights_are_one_clear_error(changed: Callable[..., Path]) -> None:
    path = changed() / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        find_model(str(path.parent)).load()


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_of_a_hub_model_only_its_own_weights_are_fetched(hub: Hub, tiny: ModelFolder) -> None:
    more = dict.fromkeys(
        ("checkpoint-5/model.safetensors", "model.fp32-00001.safetensors", "pytorch_model.bin"), b"much"
    )
    hub.add_repo("me/tuned", files_of(tiny.path) | more, kind="models")
    assert torch.equal(find_model("me/tuned").load().proj_out.weight, tiny.load().proj_out.weight)
    assert {Path(one.path).name for one in hub.fetched() if "/resolve/" in one.path} == set(files_of(tiny.path))
    assert not hub.fetched("checkpoint-5/model.safetensors")


@pytest.mark.parametrize("form", ["pickled", "ctranslate2"])
def test_hub_models_without_safetensors(form: str, hub: Hub, tiny: ModelFolder, tmp_path: Path) -> None:
    if form == "pickled":
        files = files_of(tiny.path)
        del files["model.safetensors"]
        torch.save(tiny.load().state_dict(), tmp_path / "pytorch_model.bin")
        files["pytorch_model.bin"] = (tmp_path / "pytorch_model.bin").read_bytes()
    else:
        (tmp_path / "out").mkdir()
        write_ctranslate2(tiny, tmp_path / "out", "float32")
        files = files_of(tmp_path / "out")
    hub.add_repo("me/older", files, kind="models")
    state, expected = merged_state(find_model("me/older").load()), merged_state(tiny.load())
    assert all(np.array_equal(state[name], expected[name]) for name in expected)
