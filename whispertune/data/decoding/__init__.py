"""Decoding: recordings of any kind as 16 kHz mono, from any position, out of a file or out of bytes.

    recording = open_recording("/data/talk.mp3")        # or open_recording(b"ID3...")
    samples = read(recording, start_s=12.4, end_s=15.0)  # (41600,)

This runs in the worker, apart from the process that trains, and imports nothing of Whispertune. What is 16 bits
wide in the file stays so (int16) and all else is float32 in -1 to 1: half as much to hand over, and no rounding.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from itertools import chain

import numpy as np
import soxr

from .common import SAMPLE_RATE_HZ, Block, Mono, Recording, Source, UnreadableError, as_float
from .libsndfile import PlainWav, SoundfileRecording

__all__ = ["Recording", "UnreadableError", "check", "open_recording", "read"]

RESAMPLER_EDGE_S = 0.1  # decoded around a stretch, so that resampling it gives what resampling all gives
AT_ONCE_S = 40.0  # resampled in one piece, which is a fifth faster than in a stream


def check(path: str) -> os.stat_result:
    """That it is a file with something in it; a pipe or a device would keep the reader for ever."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        raise UnreadableError("there is no such file") from None
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableError("is not a file")
    if not status.st_size:
        raise UnreadableError("the file is empty")
    return status


def open_recording(source: Source) -> Recording:
    """Open a checked file, or bytes."""
    if not source:
        raise UnreadableError("the recording is empty")
    try:
        return PlainWav.open(source) or SoundfileRecording(source)
    except Exception:  # not its kind of file: libsndfile and its binding raise several types for that
        return _open_with_av(source)


def _open_with_av(source: Source) -> Recording:
    from .libav import AvRecording

    try:
        return AvRecording(source)
    except (UnreadableError, MemoryError):
        raise
    except Exception:  # libav's own errors have many types too
        if isinstance(source, str) and not os.access(source, os.R_OK):
            raise UnreadableError("may not be read by this user") from None
        raise UnreadableError("is not audio, or of a kind that cannot be read") from None


def read(recording: Recording, start_s: float, end_s: float | None) -> Block:
    """Samples at 16 kHz [start_s, end_s): the same that a slice of the whole resampled recording gives."""
    start = round(start_s * SAMPLE_RATE_HZ)
    end = None if end_s is None else round(end_s * SAMPLE_RATE_HZ)
    if start < 0 or (end is not None and end <= start):
        raise UnreadableError(f"a stretch from {start_s} s to {end_s} s holds no audio")
    samples = _joined(list(_resampled(recording, start, end)))
    if not len(samples):
        header = f"its header says {recording.duration_s:.2f} s"
        raise UnreadableError(f"there is no audio from {start_s:.2f} s on ({header})")
    if not np.isfinite(samples).all():
        raise UnreadableError("holds values that are not numbers (NaN or infinity)")
    return samples


def _joined(blocks: list[Block]) -> Block:
    if len(blocks) == 1:
        return blocks[0]
    if all(block.dtype == np.int16 for block in blocks):
        return np.concatenate([np.empty(0, np.int16), *blocks])
    return np.concatenate([as_float(block) for block in blocks])


def _resampled(recording: Recording, start: int, end: int | None) -> Iterator[Block]:
    rate_hz = recording.rate_hz
    if rate_hz == SAMPLE_RATE_HZ:
        yield from recording.blocks(start, end)
        return
    # The grids of both rates meet every `unit` frames; a start there keeps the phase of the whole.
    unit_samples = SAMPLE_RATE_HZ // math.gcd(rate_hz, SAMPLE_RATE_HZ)
    unit = rate_hz * unit_samples // SAMPLE_RATE_HZ
    edge_units = math.ceil(RESAMPLER_EDGE_S * rate_hz / unit)
    first_unit = max(0, start // unit_samples - edge_units)
    last_frame = None if end is None else (-(-end // unit_samples) + edge_units) * unit
    at = first_unit * unit_samples
    for block in _resampler(recording.blocks(first_unit * unit, last_frame), rate_hz):
        yield block[max(0, start - at) : None if end is None else max(0, end - at)]
        at += len(block)


def _resampler(blocks: Iterator[Block], rate_hz: int) -> Iterator[Mono]:
    first: list[Mono] = []
    frames = 0
    for block in blocks:
        first.append(as_float(block))
        frames += len(block)
        if frames > AT_ONCE_S * rate_hz:
            break
    else:
        if first:
            yield soxr.resample(np.concatenate(first), rate_hz, SAMPLE_RATE_HZ)
        return
    stream = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32")
    for block in chain(first, map(as_float, blocks)):
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)
