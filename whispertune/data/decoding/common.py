"""What all recordings have in common: mono blocks at their own rate, from any position."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 16_000
BLOCK_FRAMES = 1 << 20  # decoded at a time
PREROLL_S = 1.0  # decoded and dropped after a seek: Opus needs 0.08 s, and more to agree to 1e-4

Mono = NDArray[np.float32]
Block = NDArray[np.float32] | NDArray[np.int16]
Source = str | bytes  # a path, or what such a file holds


class UnreadableError(Exception):
    """One file, or a stretch of it, that gives no audio; the text goes to the user."""


class Recording(Protocol):
    """An open file: mono frames at its own rate, from any position."""

    rate_hz: int
    channels: int

    @property
    def duration_s(self) -> float: ...

    def blocks(self, start: int, end: int | None) -> Iterator[Block]: ...

    def close(self) -> None: ...


def readable(source: Source) -> str | io.BytesIO:
    return source if isinstance(source, str) else io.BytesIO(source)


def as_float(block: Block) -> Mono:
    """What libsndfile makes of 16 bits, in a third of the time."""
    if block.dtype == np.int16:
        return np.multiply(block, np.float32(1 / 32768), dtype=np.float32)
    return block.astype(np.float32, copy=False)


def mean(block: Block) -> Mono:
    """(frames, channels) -> (frames,). Column by column: along the short axis numpy is ten times as slow."""
    total = as_float(block[:, 0])
    for channel in range(1, block.shape[1]):
        total = total + as_float(block[:, channel])
    return total / np.float32(block.shape[1])
