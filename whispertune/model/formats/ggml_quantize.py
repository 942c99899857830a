"""ggml's small numbers: rows of float32 packed into blocks of 32 that share one scale.

    for piece in packed(weights, "q5_0"):      # (rows, columns) float32, columns a multiple of 32
        file.write(piece)

A block of q8_0 is its scale in float16 and 32 numbers of 8 bits, one of q5_0 its scale, the fifth bits of 32
numbers and then the four lower ones; the value is scale * number, and scale * (number - 16).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

BLOCK = 32  # values that share a scale
BLOCKS_AT_ONCE = 1 << 16  # 8 MB of float32: what packing takes beside the weights


def packed(weights: np.ndarray, quantization: str) -> Iterator[np.ndarray]:
    """The bytes of an array in the order of the file, piece by piece: uint8, (blocks, bytes of a block)."""
    blocks = weights.reshape(-1, BLOCK)
    for start in range(0, len(blocks), BLOCKS_AT_ONCE):
        yield PACKERS[quantization](blocks[start : start + BLOCKS_AT_ONCE].astype(np.float32))


def _q8_0(blocks: np.ndarray) -> np.ndarray:
    scales = np.abs(blocks).max(axis=1) / np.float32(127)
    values = (blocks * _inverse(scales)[:, None]).astype(np.float64)  # in which adding a half is exact
    numbers = np.copysign(np.floor(np.abs(values) + 0.5), values).astype(np.int8)  # halves go away from zero
    return np.concatenate([_halves(scales), numbers.view(np.uint8)], axis=1)


def _q5_0(blocks: np.ndarray) -> np.ndarray:
    largest = np.abs(blocks).argmax(axis=1)
    extremes = blocks[np.arange(len(blocks)), largest] + np.float32(0)  # -0 becomes 0
    scales = extremes / np.float32(-16)  # so that the largest value, with its sign, is the number 0: there are 16 below
    values = blocks * _inverse(scales)[:, None] + np.float32(16.5)
    numbers = np.minimum(values.astype(np.uint8), 31)
    fifth_bits = np.packbits(numbers >> 4, axis=1, bitorder="little")
    first, second = numbers[:, : BLOCK // 2] & 15, numbers[:, BLOCK // 2 :] & 15
    return np.concatenate([_halves(scales), fifth_bits, first | second << 4], axis=1)


def _inverse(scales: np.ndarray) -> np.ndarray:
    """1 / scale; 0 where all values are, or are so small that float16 has no scale for them."""
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.float32(1) / scales
    return np.where(np.isfinite(inverse), inverse, np.float32(0))


def _halves(scales: np.ndarray) -> np.ndarray:
    return scales.astype("<f2")[:, None].view(np.uint8)


PACKERS: Final[dict[str, Callable[[np.ndarray], np.ndarray]]] = {"q8_0": _q8_0, "q5_0": _q5_0}
