"""Damaged model files: cut short, with flipped bits or headers that lie, they are one clear error each.

What such a file says is not allocated before it is known to be there. A flipped bit among the weights themselves is a
weight like any other; nobody can see it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from tests.exports import untied
from tests.model.damage import damaged_safetensors, error_of, flipped, header_of, refused
from whispertune.errors import ModelError
from whispertune.model.bundled import bundled_files
from whispertune.model.export import write_ctranslate2
from whispertune.model.formats.contents import Contents
from whispertune.model.formats.ctranslate2 import model_bin, quantize, read_ctranslate2, read_model_bin
from whispertune.model.formats.shapes import check_state, expected_shapes
from whispertune.model.formats.transformers import Shape
from whispertune.model.formats.weights import read_weights
from whispertune.model.load import ModelFolder

Field = tuple[str, int, int]  # what a part of a header says, where it begins, and its bytes

HUGE = 2**31


def replaced(content: bytes, position: int, part: bytes) -> bytes:
    return content[:position] + part + content[position + len(part) :]


# --- CTranslate2 ------------------------------------------------------------------------------------------------------


def fields_of(content: bytes) -> Iterator[Field]:
    """All that a model.bin says besides the numbers themselves."""
    at = 0

    def number(what: str, size: int) -> tuple[Field, int]:
        nonlocal at
        found = (what, at, size), int.from_bytes(content[at : at + size], "little")
        at += size
        return found

    def text(what: str) -> Iterator[Field]:
        nonlocal at
        length, size = number(f"length of {what}", 2)
        yield length
        yield what, at, size
        at += size

    yield number("version", 4)[0]
    yield from text("kind")
    yield number("revision", 4)[0]
    count_field, count = number("count", 4)
    yield count_field
    for _ in range(count):
        yield from text("name")
        dims_field, dims = number("dims", 1)
        yield dims_field
        for _ in range(dims):
            yield number("dim", 4)[0]
        yield number("type", 1)[0]
        size_field, size = number("size", 4)
        yield size_field
        at += size


def damaged_ctranslate2(good: bytes) -> Iterator[bytes]:
    random = np.random.default_rng(0)
    fields = list(fields_of(good))
    yield from (good[: int(end)] for end in (0, 1, 3, 4, 6, 20, len(good) - 1, *random.integers(0, len(good), 13)))
    for what in ("version", "kind", "revision", "count", "length of name", "name", "dims", "dim", "type", "size"):
        some = [field for field in fields if field[0] == what]
        for _ in range(8):
            _, begin, size = some[random.integers(len(some))]
            yield flipped(good, begin + int(random.integers(size)), int(random.integers(8)))
    for what, lie in (("count", HUGE), ("dim", HUGE), ("size", HUGE), ("dims", 255), ("type", 9), ("dim", 0)):
        _, begin, size = next(field for field in fields if field[0] == what)
        yield replaced(good, begin, lie.to_bytes(size, "little"))
    yield replaced(good, good.index(b"encoder/conv1/bias"), b"encoder/conv2/bias")  # twice there, the other is not


@pytest.mark.parametrize(("quantization", "every"), [("float32", 1), ("float16", 8), ("bfloat16", 8)])
def test_ctranslate2(quantization: str, every: int, tiny: ModelFolder, tmp_path: Path) -> None:
    """The headers of all precisions are alike."""
    write_ctranslate2(tiny, tmp_path, quantization)
    path = tmp_path / "model.bin"
    good = path.read_bytes()
    expected = read_ctranslate2(tmp_path)
    state = {name: np.array(array) for name, array in expected.state.items()}
    files = list(damaged_ctranslate2(good))[::every]
    assert len(files) >= 100 // every
    assert not refused(path, good, lambda: read_ctranslate2(tmp_path))
    passed = [each for each in files if not refused(path, each, lambda: read_ctranslate2(tmp_path))]
    assert len(passed) <= 8
    for each in passed:  # what changed is of no use to us: the name of a setting that Whisper has no use for
        path.write_bytes(each)
        found = read_ctranslate2(tmp_path)
        assert found.shape == expected.shape
        assert all(np.array_equal(array, state[name]) for name, array in found.state.items())


def changed_arrays(tmp_path: Path, tiny: ModelFolder, **changes: Any) -> Path:
    """A CTranslate2 folder in which some arrays are others, by their name with `__` for `/`; None: there is none."""
    write_ctranslate2(tiny, tmp_path, "float32")
    arrays = read_model_bin(tmp_path / "model.bin")
    for name, value in changes.items():
        given = value(arrays[name.replace("__", "/")]) if callable(value) else value
        arrays[name.replace("__", "/")] = given
    arrays = {name: np.array(array) for name, array in arrays.items() if array is not None}
    (tmp_path / "model.bin").unlink()
    (tmp_path / "model.bin").write_bytes(model_bin(arrays))
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder__num_heads": np.int16(0)}, "encoder_heads is 0"),
        ({"decoder__num_heads": np.int16(3)}, "do not divide"),
        ({"encoder__num_heads": np.zeros(3, np.float32)}, "not a Whisper model"),
        ({"encoder__num_heads": None}, "not a Whisper model"),
        ({"encoder__layer_norm__gamma": None}, "has no array encoder/layer_norm/gamma"),
        ({"encoder__conv1__weight": lambda array: array.reshape(-1)}, "not a Whisper model"),
        ({"encoder__conv2__weight": lambda array: array[:, :-1]}, "where .* is expected"),
        ({"encoder__position_encodings__encodings": lambda array: array[:100]}, "where .* is expected"),
        ({"decoder__layer_1__self_attention__linear_0__weight": lambda array: array[:-1]}, "is not 3 arrays in one"),
        ({"decoder__layer_1__self_attention__linear_0__bias": np.float32(1)}, "is not 3 arrays in one"),
        ({"decoder__layer_1__ffn__linear_0__bias": lambda array: array.astype(np.float16)}, "several precisions"),
        ({"decoder__embeddings__weight": lambda array: array[:, :8]}, "where .* is expected"),
    ],
)
def test_arrays_that_make_no_whisper(changes: dict[str, Any], message: str, tiny: ModelFolder, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        read_ctranslate2(changed_arrays(tmp_path, tiny, **changes))


def test_bundled_weights_are_whole() -> None:
    found = read_ctranslate2(bundled_files("whisper-base"))
    assert (found.shape.width, found.shape.encoder_layers, found.shape.vocabulary) == (512, 6, 51865)
    assert {array.dtype.name for array in found.state.values()} == {"float16"}


def test_bfloat16_rounds_as_torch_does(tiny: ModelFolder, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    numbers = random.integers(0, 2**32, 20_000, dtype=np.uint32).view(np.float32)
    numbers[:6] = [0.0, -0.0, np.inf, -np.inf, np.nan, 1 + 2**-9 * 3]
    expected = torch.from_numpy(numbers).bfloat16()
    stored = quantize({"a": numbers}, "bfloat16")["a"]
    finite = ~np.isnan(numbers)
    assert np.array_equal(stored[finite], expected.view(torch.uint16).numpy()[finite])
    (tmp_path / "model.bin").write_bytes(model_bin({"a": numbers}, "bfloat16"))
    back = read_model_bin(tmp_path / "model.bin")["a"]
    np.testing.assert_array_equal(back, expected.float().numpy())  # what is no number is none there too


def test_bfloat16_is_loaded_and_comes_back(tiny: ModelFolder, tmp_path: Path) -> None:
    import ctranslate2

    write_ctranslate2(tiny, tmp_path, "bfloat16")
    whisper = ctranslate2.models.Whisper(str(tmp_path), compute_type="float32")
    assert whisper.n_mels == 80
    found, source = read_ctranslate2(tmp_path).state, untied(tiny.load())
    for name, array in source.items():
        assert np.array_equal(found[name], torch.from_numpy(array).bfloat16().float().numpy()), name


# --- safetensors ------------------------------------------------------------------------------------------------------


def test_safetensors_of_a_whole_model(tiny: ModelFolder, tmp_path: Path) -> None:
    """By their headers, before anything else is read."""
    folder = tmp_path / "model"
    shutil.copytree(tiny.path, folder)
    path = folder / "model.safetensors"
    good = path.read_bytes()
    assert not refused(path, good, lambda: read_weights(folder, tiny.shape))
    files = list(damaged_safetensors(good))
    assert len(files) >= 80
    passed = [each for each in files if not refused(path, each, lambda: read_weights(folder, tiny.shape))]
    for each in passed:  # an array of another type with as many bytes, or what the file says of itself
        assert sorted(header_of(each)[0].keys() - {"__metadata__"}) == sorted(expected_shapes(tiny.shape))
    assert len(passed) <= 4


def test_they_are_one_error_when_a_model_is_loaded(tiny: ModelFolder, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny.path, folder)
    path = folder / "model.safetensors"
    good = path.read_bytes()
    files = list(damaged_safetensors(good))[::9]
    assert not refused(path, good, lambda: ModelFolder("model", folder).load())
    found = [refused(path, each, lambda: ModelFolder("model", folder).load()) for each in files]
    assert sum(found) >= len(files) - 1


@pytest.mark.parametrize(
    "lie",
    [
        {"d_model": 1 << 20},
        {"encoder_layers": 1 << 40},
        {"decoder_layers": 3},
        {"encoder_layers": -1},
        {"vocab_size": 51866},
        {"num_mel_bins": 128},
        {"encoder_attention_heads": 3},
        {"encoder_attention_heads": 0},
        {"decoder_ffn_dim": 1 << 40},
        {"encoder_ffn_dim": "many"},
        {"d_model": 16.0},
        {"d_model": True},
    ],
)
def test_a_config_that_lies(lie: dict[str, Any], tiny: ModelFolder) -> None:
    names = {
        "d_model": "width",
        "vocab_size": "vocabulary",
        "num_mel_bins": "n_mels",
        "encoder_layers": "encoder_layers",
        "decoder_layers": "decoder_layers",
        "encoder_attention_heads": "encoder_heads",
        "encoder_ffn_dim": "encoder_feed_forward",
        "decoder_ffn_dim": "decoder_feed_forward",
    }
    shape = Shape(
        **{each: getattr(tiny.shape, each) for each in Shape.__slots__} | {names[key]: lie[key] for key in lie}
    )
    assert error_of(lambda: read_weights(tiny.path, shape))


def test_the_expected_shapes_are_those_of_transformers(tiny: ModelFolder, base: ModelFolder) -> None:
    for folder in (tiny, base):
        state = {name: array.shape for name, array in untied(folder.load()).items()}
        assert expected_shapes(folder.shape) == state


def test_a_list_of_weights_may_not_lead_elsewhere(tiny: ModelFolder, tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    names = dict.fromkeys(expected_shapes(tiny.shape), "part.safetensors")
    shutil.copyfile(tiny.path / "model.safetensors", tmp_path / "part.safetensors")
    index.write_text(json.dumps({"weight_map": names}))
    assert read_weights(tmp_path, tiny.shape).keys() == names.keys()
    for name, message in (("../part.safetensors", "another folder"), ("part.bin", "another kind")):
        index.write_text(json.dumps({"weight_map": names | {"a": name}}))
        with pytest.raises(ModelError, match=message):
            read_weights(tmp_path, tiny.shape)
    index.write_text('{"weight_map": [')
    with pytest.raises(ModelError, match="list of weights"):
        read_weights(tmp_path, tiny.shape)


def test_integers_are_no_weights(tiny: ModelFolder, tmp_path: Path) -> None:
    state = load_file(tiny.path / "model.safetensors")
    name = "model.decoder.layer_norm.bias"
    save_file(state | {name: state[name].astype(np.int32)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=rf"{name} holds torch.int32"):
        read_weights(tmp_path, tiny.shape)


def test_a_state_in_memory(tiny: ModelFolder, contents: Contents) -> None:
    check_state(contents.state, tiny.shape, "here")
    fewer = {name: array for name, array in contents.state.items() if "fc1" not in name}
    with pytest.raises(ModelError, match=r"here: 8 of its weights are missing, model.decoder.layers.0.fc1.bias"):
        check_state(fewer, tiny.shape, "here")
