"""Noise from a folder of recordings: what is laid under speech.

noise = NoiseFolder(Path("noises"), reader)
noise.draw(rng, samples=48_000)   # float32 (48000,), or None where that recording does not decode
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from threading import Lock

import numpy as np

from whispertune.data.audio import SAMPLE_RATE_HZ, AudioInfo, AudioReader
from whispertune.data.segments import Problem
from whispertune.data.sources.captioned import AUDIO_SUFFIXES
from whispertune.errors import AudioError, DataError
from whispertune.windows.waveform import Samples

WHOLE_S = 30.0  # shorter recordings are kept once read; of longer ones only the stretch is read that is wanted
KEPT_BYTES = 128 << 20  # half an hour of noise

_KEY = "augment.noise"


class NoiseFolder:
    """The recordings in a folder and below it. Threads may share it."""

    def __init__(self, folder: Path, reader: AudioReader, kept_bytes: int = KEPT_BYTES) -> None:
        """Reads every header, a few thousand a second.

        Raises:
            DataError: there is no such folder, or no recording in it that can be read.
        """
        if not folder.is_dir():
            raise DataError(f"there is no folder {folder}", where=_KEY, fix="name a folder of recordings of noise")
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file())
        found = reader.probe_many(files)
        pairs = list(zip(files, found, strict=True))
        self._files = [(path, info.duration_s) for path, info in pairs if isinstance(info, AudioInfo)]
        self._problems = {path: _problem(path, info) for path, info in pairs if isinstance(info, AudioError)}
        if not self._files:
            why = f"none of the {len(files)} recordings in {folder} can be read" if files else f"{folder} holds none"
            raise DataError(f"noise needs recordings: {why}", where=_KEY, fix=f"put some there: {_SUFFIXES}")
        self._folder, self._reader, self._kept_bytes = folder, reader, kept_bytes
        self._kept: OrderedDict[Path, Samples] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        """How many recordings there are to draw from."""
        return len(self._files)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The recordings that do not decode, as far as that is known by now."""
        with self._lock:
            return tuple(self._problems[path] for path in sorted(self._problems))

    def draw(self, rng: np.random.Generator, samples: int) -> Samples | None:
        """A stretch of one of the recordings, repeated where that is too short: (samples,).

        None where it does not decode: it is among the `problems` then, and the speech stays without noise.

        Raises:
            DataError: not one of them decodes any more.
        """
        path, duration_s = self._files[int(rng.integers(len(self._files)))]
        place = float(rng.random())
        try:
            if duration_s <= WHOLE_S:
                return _stretch(self._whole(path), place, samples)
            wanted_s = samples / SAMPLE_RATE_HZ
            start_s = place * max(0.0, duration_s - wanted_s)
            return np.resize(self._reader.read(path, start_s, start_s + wanted_s), samples)
        except AudioError as error:
            with self._lock:
                self._problems[path] = _problem(path, error)
                left = any(each not in self._problems for each, _ in self._files)
            if not left:
                what = f"none of the {len(self)} recordings in {self._folder} can be read"
                raise DataError(f"noise needs recordings: {what}", where=_KEY, fix=error.fix) from error
            return None

    def _whole(self, path: Path) -> Samples:
        with self._lock:
            if path in self._kept:
                self._kept.move_to_end(path)
                return self._kept[path]
        noise = self._reader.read(path, 0.0, WHOLE_S)
        with self._lock:
            self._kept[path] = noise
            while len(self._kept) > 1 and sum(each.nbytes for each in self._kept.values()) > self._kept_bytes:
                self._kept.popitem(last=False)
        return noise


_SUFFIXES = ", ".join(AUDIO_SUFFIXES)


def _stretch(noise: Samples, place: float, samples: int) -> Samples:
    """From a place on: without a seam where the noise is long enough, else round and round."""
    if len(noise) >= samples:
        first = int(place * (len(noise) - samples + 1))
        return noise[first : first + samples]
    return np.resize(np.roll(noise, -int(place * len(noise))), samples)


def _problem(path: Path, error: AudioError) -> Problem:
    return Problem(str(path), "noise does not decode", error.what, source=_KEY)
