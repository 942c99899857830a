"""What an engine is given of clips: their mels, or what its encoder made of them; of the same clips computed once.

    source = Source(reader, "fit", kept=Kept())                  # or change=..., for audio in noise
    clips, problems = source.read(segments, engine.n_mels)       # of one length
    texts = engine.decode(clips.inputs, "sv", "transcribe")

Where the encoder is frozen, what it gives of a clip is the same in every evaluation: `Kept(states=True)` keeps that.
Mels are the same for every model that takes so many of them: `Kept()` may be shared by several.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Held, Problem, Recording, Segment
from whispertune.decode.context import Context
from whispertune.decode.engines import Engine
from whispertune.errors import AudioError
from whispertune.windows.batches import read_whole
from whispertune.windows.features import SAMPLE_RATE_HZ, WINDOW_SAMPLES, log_mel

if TYPE_CHECKING:
    import torch

FIT_STEP_SAMPLES = SAMPLE_RATE_HZ // 2
FIT_LEAST_SAMPLES = SAMPLE_RATE_HZ  # shorter speech has silence up to there
FIT_ROWS = 4  # times as many clips as windows are decoded at once, at most
KEPT_BYTES = 1_000_000_000

Change = Callable[[np.ndarray, Segment], np.ndarray]  # of a segment's audio, (samples,), before silence follows it


@dataclass(frozen=True, slots=True)
class Clips:
    """Segments of one length with their mels, float32, (rows, n_mels, frames), or states, (rows, frames / 2, width)."""

    segments: tuple[Segment, ...]
    mel: torch.Tensor | None
    states: torch.Tensor | None = None

    @property
    def inputs(self) -> torch.Tensor:
        """What `Engine.decode` takes."""
        found = self.mel if self.states is None else self.states
        assert found is not None
        return found

    def rows(self, chosen: Sequence[int]) -> Clips:
        """Some of them."""
        if len(chosen) == len(self.segments):
            return self
        places = list(chosen)
        return Clips(
            tuple(self.segments[place] for place in places),
            None if self.mel is None else self.mel[places],
            None if self.states is None else self.states[places],
        )

    def encoded(self, engine: Engine) -> Clips:
        """With what the engine's encoder gives, where it says so."""
        if self.states is not None or self.mel is None:
            return self
        return Clips(self.segments, self.mel, engine.encode(self.mel))


@dataclass(frozen=True, slots=True)
class _Heard:
    """What is kept is known by. Ids would not do: those of dev and test may be equal."""

    recording: Recording | bytes
    start_s: float
    end_s: float
    samples: int  # with the silence behind it
    condition: str  # "" as it was recorded
    n_mels: int
    states: bool


class Kept:
    """Mels by what is heard, or with `states` what the encoder gives, for engines that take it; up to a size."""

    def __init__(self, *, states: bool = False, limit_bytes: int = KEPT_BYTES) -> None:
        self.states, self.left_bytes = states, limit_bytes
        self.spared_seconds = 0.0  # that it would have taken to compute again what was given
        self._rows: dict[_Heard, tuple[torch.Tensor, float]] = {}

    def get(self, heard: _Heard) -> torch.Tensor | None:
        """Of one row: its mel, (n_mels, frames), or its states, (frames / 2, width)."""
        row, seconds = self._rows.get(heard, (None, 0.0))
        self.spared_seconds += seconds
        return row

    def put(self, heard: Sequence[_Heard], rows: torch.Tensor, seconds: float) -> None:
        """Keep rows that took so long together, where there is room for all of them."""
        size = rows.numel() * rows.element_size()
        if size <= self.left_bytes:
            self.left_bytes -= size
            share = seconds / len(heard)
            self._rows |= {each: (row, share) for each, row in zip(heard, rows, strict=True)}

    def __len__(self) -> int:
        return len(self._rows)


@dataclass(frozen=True, slots=True)
class Source:
    """Where clips come from: their audio on as much as the context says, changed where that is asked, or kept.

    What is kept is asked for by its condition, and is not changed again: a `change` belongs to a `condition` of its
    own, but for one that only listens to clips of which nothing is kept yet.
    """

    reader: AudioReader
    context: Context = "full"
    change: Change | None = None
    kept: Kept | None = None
    condition: str = ""

    def read(
        self, segments: Sequence[Segment], n_mels: int, engine: Engine | None = None
    ) -> tuple[Clips | None, list[Problem]]:
        """Those of the segments that decode, of one length; None where none does, and the others as problems.

        Where states are kept, it is the engine whose encoder gives them, if it takes them.
        """
        import torch

        kept, start = self.kept, time.perf_counter()
        states = kept is not None and kept.states and engine is not None and engine.takes_states
        rows = [kept.get(self._heard(each, n_mels, states)) if kept is not None else None for each in segments]
        audio, problems = self._audio({n: segments[n] for n, row in enumerate(rows) if row is None})
        if audio:
            new = tuple(segments[n] for n in audio)
            fresh = Clips(new, log_mel(torch.from_numpy(np.stack(list(audio.values()))), n_mels))
            if states and engine is not None:
                fresh = fresh.encoded(engine)
                states = fresh.states is not None
            if kept is not None:
                heard = [self._heard(each, n_mels, states) for each in new]
                kept.put(heard, fresh.inputs, time.perf_counter() - start)
            if len(new) == len(segments) - len(problems):
                return fresh, problems
            for n, row in zip(audio, fresh.inputs, strict=True):
                rows[n] = row
        found = [(each, row) for each, row in zip(segments, rows, strict=True) if row is not None]
        if not found:
            return None, problems
        joined = torch.stack([row for _, row in found])
        told = tuple(each for each, _ in found)
        return Clips(told, None if states else joined, joined if states else None), problems

    def _heard(self, segment: Segment, n_mels: int, states: bool) -> _Heard:
        recording = segment.recording.data if isinstance(segment.recording, Held) else segment.recording
        samples = clip_samples(segment, self.context)
        return _Heard(recording, segment.start_s, segment.end_s, samples, self.condition, n_mels, states)

    def _audio(self, segments: Mapping[int, Segment]) -> tuple[dict[int, np.ndarray], list[Problem]]:
        audio, problems = {}, []
        for place, segment in segments.items():
            try:
                audio[place] = clip(segment, self.reader, self.context, self.change)
            except AudioError as error:
                problems.append(Problem(segment.id, "audio does not decode", error.what))
        return audio, problems


def batches(segments: Sequence[Segment], windows: int, context: Context) -> list[list[Segment]]:
    """Batches of one language, task and length of clip, the longest segments first."""
    ordered = sorted(segments, key=lambda s: (s.language, s.task, -s.duration_s, s.id))
    found = []
    for (*_, samples), group in groupby(ordered, key=lambda s: (s.language, s.task, clip_samples(s, context))):
        rows = list(group)
        size = clips_at_once(samples, windows)
        found += [rows[first : first + size] for first in range(0, len(rows), size)]
    return found


def clips_at_once(samples: int, windows: int) -> int:
    """How many clips of a length are decoded together where so many windows are."""
    return min(FIT_ROWS * windows, windows * WINDOW_SAMPLES // samples)


def clip_samples(segment: Segment, context: Context) -> int:
    """How long a segment's clip is."""
    return context_samples(segment.duration_s, context)


def context_samples(duration_s: float, context: Context) -> int:
    """How long the clip is that holds so many seconds of audio."""
    if context == "full":
        return WINDOW_SAMPLES
    steps = math.ceil(round(duration_s * SAMPLE_RATE_HZ) / FIT_STEP_SAMPLES)
    return min(max(steps * FIT_STEP_SAMPLES, FIT_LEAST_SAMPLES), WINDOW_SAMPLES)


def clip(segment: Segment, reader: AudioReader, context: Context = "full", change: Change | None = None) -> np.ndarray:
    """The segment's audio with silence after it: float32, (480_000,), or with context "fit" as far as it needs."""
    length = clip_samples(segment, context)
    samples = read_whole(reader, segment.recording, segment.start_s, segment.end_s)[:length]
    heard = samples if change is None else change(samples, segment)
    return np.pad(heard, (0, length - len(heard)))
