"""Reading recordings of any kind as 16 kHz mono, through processes that may break without harm.

    with AudioReader() as audio:
        info = audio.probe(Path("talk.m4a"))                       # AudioInfo(duration_s=61.2, ...)
        samples = audio.read(Path("talk.m4a"), start_s=12.4, end_s=15.0)  # float32 (41600,)

A recording is a file, a row of an Arrow or Parquet file, bytes, or several of these joined. One that does not
decode, or crashes the decoder, or keeps it too long, is an `AudioError` and no more.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, takewhile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from whispertune.data.child import Child, Children, Lent, TooLateError
from whispertune.data.decoding.common import as_float
from whispertune.data.decoding.libsndfile import PlainWav
from whispertune.data.embedded import Containers
from whispertune.data.segments import Embedded, Held, Joined, Part, Recording, name_of
from whispertune.errors import AudioError

SAMPLE_RATE_HZ = 16_000
TIME_LIMIT_S = 300.0  # a three-hour M4A decodes whole in well under a minute
PROBE_TOGETHER = 128  # recordings that one child is given at a time
PART_SHORT_SAMPLES = 160  # an encoder may drop a few; a part that lacks more is not what was written

_FIX_FILE = "play it to see whether it is whole, or convert it, e.g. with: ffmpeg -i FILE out.flac"

Stored = Path | Embedded | Held  # what is one audio file somewhere


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a recording says of itself."""

    duration_s: float
    sample_rate_hz: int
    channels: int


class AudioReader:
    """Reads recordings; `children` processes decode, start when first needed and again after they have died.

    Threads may share a reader: each read takes any free child, or waits for one. A forked process starts
    children of its own.
    """

    def __init__(self, time_limit_s: float = TIME_LIMIT_S, children: int = 1) -> None:
        self._time_limit_s = time_limit_s
        self._count = children
        self._by_process: dict[int, tuple[Children, Containers]] = {}

    @property
    def children(self) -> int:
        """How many recordings are decoded side by side."""
        return self._count

    @property
    def pids(self) -> list[int]:
        """The processes that decode now."""
        return self._here()[0].pids

    @property
    def pid(self) -> int | None:
        """The first of them; None while there is none."""
        return next(iter(self.pids), None)

    def probe(self, recording: Recording) -> AudioInfo:
        """Length, rate and channels."""
        found = self.probe_many([recording])[0]
        if isinstance(found, AudioError):
            raise found
        return found

    def probe_many(self, recordings: Sequence[Recording]) -> list[AudioInfo | AudioError]:
        """`probe` of all, thousands of headers a second and child; errors stand in the list."""
        starts = range(0, len(recordings), PROBE_TOGETHER)
        groups = [recordings[start : start + PROBE_TOGETHER] for start in starts]
        if self._count == 1 or len(groups) <= 1:
            return list(chain.from_iterable(map(self._probe_group, groups)))
        with ThreadPoolExecutor(self._count) as threads:
            return list(chain.from_iterable(threads.map(self._probe_group, groups)))

    def read(self, recording: Recording, start_s: float = 0.0, end_s: float | None = None) -> NDArray[np.float32]:
        """Samples of [start_s, end_s), (samples,): the mean of the channels at 16 kHz, about in -1 to 1.

        Behind the end of the recording there is nothing: less comes back; where all is behind it, an error.
        What no part of a `Joined` recording covers is silence.
        """
        if isinstance(recording, Joined):
            return self._read_joined(recording, start_s, end_s)
        if isinstance(recording, Path) and (plain := _read_plain(recording, start_s, end_s)) is not None:
            return plain
        request: dict[str, Any] = {"op": "read", "start_s": start_s, "end_s": end_s}
        data: bytes | memoryview = b""
        children, containers = self._here()
        key = _key(recording, containers)
        with children.borrow(key) as lent:
            child = lent.alive()
            if isinstance(recording, Path):
                request["path"] = os.path.abspath(recording)  # a name such as "concat:a|b" must stay a name
            elif child.kept != key:
                data = _data(recording, containers)
                request["bytes"] = len(data)
            with self._exchange(lent, child, recording):
                child.send(request, data)
                answer = child.answer()
                samples = child.samples(answer)
            if not isinstance(recording, Path):
                child.kept = None if "error" in answer else key
        if "error" in answer:
            raise AudioError(answer["error"], where=name_of(recording), fix=_FIX_FILE)
        return samples

    def close(self) -> None:
        """End the child processes; the next call would start new ones."""
        children, containers = self._here()
        children.end()
        containers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _here(self) -> tuple[Children, Containers]:
        """What belongs to this process. After a fork that is nothing yet: locks may be held by threads now gone."""
        pid = os.getpid()
        if pid not in self._by_process:
            inherited = list(self._by_process.values())
            self._by_process.setdefault(pid, (Children(self._count), Containers()))
            for children, _ in inherited:
                children.abandon()
        return self._by_process[pid]

    def _read_joined(self, recording: Joined, start_s: float, end_s: float | None) -> NDArray[np.float32]:
        length = _samples(recording.parts[-1].end_s)
        start, end = _samples(start_s), length if end_s is None else min(length, _samples(end_s))
        if start < 0 or end <= start:
            what = f"there is no audio from {start_s:.2f} s to {end_s} s of {recording.parts[-1].end_s:.2f} s"
            raise AudioError(what, where=recording.name)
        audio = np.zeros(end - start, dtype=np.float32)
        for part in recording.parts:
            begins = _samples(part.start_s)
            first, last = max(start, begins), min(end, _samples(part.end_s))
            if first < last:
                samples = self._read_part(part, first - begins, last - begins)
                audio[first - start :][: len(samples)] = samples
        return audio

    def _read_part(self, part: Part, first: int, last: int) -> NDArray[np.float32]:
        samples = self.read(part.audio, first / SAMPLE_RATE_HZ, last / SAMPLE_RATE_HZ)
        if len(samples) < last - first - PART_SHORT_SAMPLES:
            missing_s = (last - first - len(samples)) / SAMPLE_RATE_HZ
            raise AudioError(f"is {missing_s:.2f} s shorter than its row says", where=part.audio.name)
        return samples

    def _probe_group(self, recordings: Sequence[Recording]) -> list[AudioInfo | AudioError]:
        children, containers = self._here()
        stored = [each.parts[0].audio if isinstance(each, Joined) else each for each in recordings]
        found: list[AudioInfo | AudioError] = []
        with children.borrow() as lent:
            while len(found) < len(stored):  # files together, bytes one by one, and again behind a death
                rest = stored[len(found) :]
                paths = list(takewhile(lambda each: isinstance(each, Path), rest))
                found += self._probe_until_death(lent, paths or rest[:1], containers)
        return [_of_all(info, each) for info, each in zip(found, recordings, strict=True)]

    def _probe_until_death(
        self, lent: Lent, group: Sequence[Stored], containers: Containers
    ) -> Iterator[AudioInfo | AudioError]:
        """Of files in one round trip, or of a single recording that is none."""
        recording, child = group[0], lent.alive()
        try:
            request: dict[str, Any] = {"op": "probe"}
            data: bytes | memoryview = b""
            if isinstance(recording, Path):
                request["paths"] = [os.path.abspath(name_of(path)) for path in group]
            else:
                data = _data(recording, containers)
                request["bytes"] = len(data)
            with self._exchange(lent, child, recording) as at:
                child.send(request, data)
                for recording in group:
                    at[0] = recording
                    child.allow(self._time_limit_s)
                    yield _info(child.answer(), recording)
        except AudioError as error:
            yield error

    @contextmanager
    def _exchange(self, lent: Lent, child: Child, recording: Stored) -> Iterator[list[Stored]]:
        """Time for one exchange. Death of the child inside the block is an error of the recording in the list."""
        whole, at = False, [recording]
        child.allow(self._time_limit_s)
        try:
            yield at
            whole = True
        except TooLateError:
            what = f"kept the decoder busy for more than {self._time_limit_s:g} s"
            raise AudioError(what, where=name_of(at[0]), fix=_FIX_FILE) from None
        except (EOFError, OSError):
            raise AudioError("broke the decoder", where=name_of(at[0]), fix=_FIX_FILE) from None
        finally:
            if not whole:  # also after Ctrl-C: an answer half read would be taken for the next
                lent.end()


def _key(recording: Stored, containers: Containers) -> Hashable:
    """What says that bytes are the same; files are kept open by the child itself."""
    if isinstance(recording, Path):
        return None
    return containers.key(recording) if isinstance(recording, Embedded) else _Same(recording.data)


@dataclass(frozen=True, slots=True, eq=False)
class _Same:
    """Equal for the same object only, which lives while this does: names of streamed rows may repeat."""

    data: bytes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.data is other.data

    def __hash__(self) -> int:
        return id(self.data)


def _data(recording: Embedded | Held, containers: Containers) -> bytes | memoryview:
    return containers.load(recording) if isinstance(recording, Embedded) else recording.data


def _read_plain(path: Path, start_s: float, end_s: float | None) -> NDArray[np.float32] | None:
    """The samples of a WAV that needs no decoder, 16 bits and 16 kHz mono: no process has to be asked for those.

    None where it is anything else, or anything about it is odd: then the child says what.
    """
    start, end = _samples(start_s), None if end_s is None else _samples(end_s)
    try:
        if path.suffix.lower() != ".wav" or not stat.S_ISREG(os.stat(path).st_mode):
            return None
        wav = PlainWav.open(os.path.abspath(path))
    except (OSError, ValueError):
        return None
    if wav is None:
        return None
    try:
        if (wav.rate_hz, wav.channels) != (SAMPLE_RATE_HZ, 1) or start < 0 or (end is not None and end <= start):
            return None
        blocks = list(wav.blocks(start, end))
    finally:
        wav.close()
    if not blocks or not len(blocks[0]):
        return None
    samples: NDArray[np.int16] = np.concatenate(blocks)
    return as_float(samples)


def _samples(time_s: float) -> int:
    return round(time_s * SAMPLE_RATE_HZ)


def _info(answer: dict[str, Any], recording: Stored) -> AudioInfo | AudioError:
    if "error" in answer:
        return AudioError(answer["error"], where=name_of(recording), fix=_FIX_FILE)
    return AudioInfo(answer["duration_s"], answer["rate_hz"], answer["channels"])


def _of_all(info: AudioInfo | AudioError, recording: Recording) -> AudioInfo | AudioError:
    """Of the first part's header, that of all parts."""
    if isinstance(recording, Joined) and isinstance(info, AudioInfo):
        return AudioInfo(recording.parts[-1].end_s, info.sample_rate_hz, info.channels)
    return info
