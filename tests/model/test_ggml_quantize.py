"""Blocks of small numbers: as the format defines them, bit by bit, and as near as they can be."""

from __future__ import annotations

import ctypes
import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from whispertune.model.formats.ggml_quantize import packed

GGML_TYPES = {"q8_0": 8, "q5_0": 6}
BLOCK_BYTES = {"q8_0": 34, "q5_0": 22}
f32 = np.float32


def pack(weights: np.ndarray, quantization: str) -> bytes:
    return b"".join(piece.tobytes() for piece in packed(weights, quantization))


def slow_q8_0(block: np.ndarray) -> bytes:
    """The format's definition: scale = largest / 127, numbers rounded with halves away from zero."""
    scale = f32(max(abs(value) for value in block) / f32(127))
    inverse = f32(1) / scale if scale else f32(0)
    numbers = []
    for value in block:
        exact = float(value * inverse)
        numbers.append(int(abs(exact) + 0.5) * (-1 if exact < 0 else 1) % 256)
    return np.float16(scale).tobytes() + bytes(numbers)


def slow_q5_0(block: np.ndarray) -> bytes:
    """The format's definition: the value furthest from zero becomes 0 of 0 to 31, and zero 16."""
    extreme = f32(0)
    for value in block:
        extreme = value if abs(value) > abs(extreme) else extreme
    scale = f32(extreme / f32(-16))
    inverse = f32(1) / scale if scale else f32(0)
    numbers = [min(31, int(f32(value * inverse) + f32(16.5))) for value in block]
    fifth = sum((number >> 4) << place for place, number in enumerate(numbers))
    fours = [numbers[place] & 15 | (numbers[place + 16] & 15) << 4 for place in range(16)]
    return np.float16(scale).tobytes() + fifth.to_bytes(4, "little") + bytes(fours)


def values_of(block: bytes, quantization: str) -> np.ndarray:
    """What a block stands for."""
    scale = float(np.frombuffer(block[:2], np.float16)[0])
    if quantization == "q8_0":
        return scale * np.frombuffer(block[2:], np.int8)
    fifth = int.from_bytes(block[2:6], "little")
    low = [byte & 15 for byte in block[6:]] + [byte >> 4 for byte in block[6:]]
    return scale * (np.array([number | (fifth >> place & 1) << 4 for place, number in enumerate(low)]) - 16.0)


SLOW: dict[str, Callable[[np.ndarray], bytes]] = {"q8_0": slow_q8_0, "q5_0": slow_q5_0}
floats = st.floats(-4, 4, width=32).filter(lambda value: value == 0 or abs(value) > 1e-30)


@pytest.mark.parametrize("quantization", SLOW)
@given(weights=arrays(np.float32, (2, 64), elements=floats))
def test_bits_are_those_of_the_definition(quantization: str, weights: np.ndarray) -> None:
    assert pack(weights, quantization) == b"".join(map(SLOW[quantization], weights.reshape(-1, 32)))


@pytest.mark.parametrize("quantization", SLOW)
@pytest.mark.parametrize("number", [0.0, -0.0, 1.0, -0.25, 3e-8, 1e-42])
def test_constants(quantization: str, number: float) -> None:
    """Blocks of one value, of zeros of either sign, and of what is too small for a scale: all come back."""
    (block,) = [pack(np.full((1, 32), number, np.float32), quantization)]
    assert values_of(block, quantization) == pytest.approx(np.full(32, number), rel=1e-3, abs=6e-8)


@pytest.mark.parametrize("quantization", SLOW)
@given(weights=arrays(np.float32, (1, 32), elements=floats))
def test_no_value_is_further_than_its_step_allows(quantization: str, weights: np.ndarray) -> None:
    largest = float(np.abs(weights).max())
    # Half a step, and in q5_0 a whole one for what is as large as the largest with the other sign.
    levels, step = (127, largest / 127 / 2) if quantization == "q8_0" else (16, largest / 16)
    back = values_of(pack(weights, quantization), quantization)
    rounding = max(largest * 2**-11, levels * 2**-25)  # of the scale, in float16
    assert np.abs(back - weights).max() <= step * 1.001 + rounding * 1.001


@pytest.mark.parametrize("quantization", SLOW)
def test_pieces_make_up_the_whole(quantization: str) -> None:
    weights = np.random.default_rng(0).normal(0, 1, (70_000, 32)).astype(np.float16)
    pieces = [len(piece) for piece in packed(weights, quantization)]
    assert pieces == [65_536, 4_464]
    assert len(pack(weights, quantization)) == 70_000 * BLOCK_BYTES[quantization]
    last = weights[-1].astype(np.float32)
    assert pack(weights, quantization)[-BLOCK_BYTES[quantization] :] == SLOW[quantization](last)


def library() -> Path:
    files = importlib.metadata.files("pywhispercpp") or []
    return next(Path(str(file.locate())) for file in files if "libggml-base" in file.name)


@pytest.mark.parametrize("quantization", SLOW)
def test_ggml_itself_packs_so(quantization: str) -> None:
    """Its own function, from the library of the wheel; compilers may fuse a multiplication and an addition."""
    ggml = ctypes.CDLL(str(library()))
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    weights = np.random.default_rng(1).normal(0, 0.1, (200, 64)).astype(np.float32)
    out = np.zeros(400 * BLOCK_BYTES[quantization], np.uint8)
    pointers = [ctypes.c_void_p(each.ctypes.data) for each in (weights, out)]
    rows, columns = (ctypes.c_int64(side) for side in weights.shape)
    size = ggml.ggml_quantize_chunk(GGML_TYPES[quantization], *pointers, ctypes.c_int64(0), rows, columns, None)
    assert size == len(out)
    assert np.mean(out == np.frombuffer(pack(weights, quantization), np.uint8)) > 0.999
