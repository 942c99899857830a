"""Evaluation: decode segments, compare with what was said, count.

    with AudioReader() as reader:
        result = evaluate(engine, segments, reader, batch=8)
    result.scores.wer      # per cent, from generated text

Batches are sorted by length of speech, so that clips which end together are decoded together. With context "fit"
a clip ends where its speech does, rounded up to half a second: all clips of a batch are of one length, so that a
text does not depend on what else is decoded.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Problem, Segment
from whispertune.decode.context import Context
from whispertune.decode.engines import Engine
from whispertune.errors import AudioError, DataError
from whispertune.score.wer import Scores, UtteranceScore, score
from whispertune.windows.batches import read_whole
from whispertune.windows.features import SAMPLE_RATE_HZ, WINDOW_SAMPLES, log_mel

FIT_STEP_SAMPLES = SAMPLE_RATE_HZ // 2
FIT_LEAST_SAMPLES = SAMPLE_RATE_HZ  # shorter speech has silence up to there
FIT_ROWS = 4  # times as many clips as windows are decoded at once, at most

Progress = Callable[[int, int], None]  # (rows done, rows in all)


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What an engine wrote for a segment."""

    segment: Segment
    text: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of one model on one set of segments, with what it took to get them."""

    scores: Scores
    utterances: tuple[UtteranceScore, ...]
    audio_seconds: float
    seconds: float  # of decoding, features and audio included, loading the model apart
    engine: str
    problems: tuple[Problem, ...] = ()
    split: str = "given"  # dev, test, or given on the command line
    biased_by_selection: bool = False  # these rows also chose the checkpoint
    context: str = "full"  # 30 s, or "fit": cut to what is spoken
    segments: tuple[Segment, ...] = ()  # of the utterances; none where it was read from a file

    def as_json(self) -> dict[str, Any]:
        """The figures under the names that `--json` promises; rates in per cent."""
        intervals = {name: list(value) for name, value in asdict(self.scores).items() if isinstance(value, tuple)}
        return {
            "rows": self.scores.rows,
            "rows_unreadable": len(self.problems),
            "audio_seconds": round(self.audio_seconds, 2),
            "seconds": round(self.seconds, 2),
            "engine": self.engine,
            "context": self.context,
            "split": self.split,
            "biased_by_selection": self.biased_by_selection,
            **asdict(self.scores),
            **intervals,
        }

    def of(self, split: str, *, biased: bool) -> Evaluation:
        """The same figures, said to be of this split."""
        return replace(self, split=split, biased_by_selection=biased)


def decode_segments(
    engine: Engine,
    segments: Sequence[Segment],
    reader: AudioReader,
    *,
    batch: int = 8,
    beams: int = 1,
    context: Context = "full",
    progress: Progress | None = None,
) -> tuple[list[Hypothesis], list[Problem]]:
    """Texts of the segments that decode, in the order given, and the others as problems.

    `batch` windows are decoded at once; with context "fit", as many clips as make up their length.
    """
    texts: dict[str, str] = {}
    problems: list[Problem] = []
    done = 0
    for chunk in _batches(segments, batch, context):
        clips, readable = [], []
        for segment in chunk:
            try:
                clips.append(clip(segment, reader, context))
                readable.append(segment)
            except AudioError as error:
                problems.append(Problem(segment.id, "audio does not decode", error.what))
        if readable:
            decoded = _decode(engine, clips, readable[0], beams)
            texts |= {segment.id: text for segment, text in zip(readable, decoded, strict=True)}
        done += len(chunk)
        if progress:
            progress(done, len(segments))
    return [Hypothesis(segment, texts[segment.id]) for segment in segments if segment.id in texts], problems


def evaluate(
    engine: Engine,
    segments: Sequence[Segment],
    reader: AudioReader,
    *,
    batch: int = 8,
    beams: int = 1,
    context: Context = "full",
    progress: Progress | None = None,
) -> Evaluation:
    """Decode the segments and score the texts against their references.

    Raises:
        DataError: there are no segments, or none of them decodes.
    """
    start = time.perf_counter()
    found, problems = decode_segments(
        engine, segments, reader, batch=batch, beams=beams, context=context, progress=progress
    )
    return evaluation_of(found, problems, time.perf_counter() - start, engine.name, context)


def evaluation_of(
    found: Sequence[Hypothesis], problems: Sequence[Problem], seconds: float, engine: str, context: Context
) -> Evaluation:
    """Score what was decoded.

    Raises:
        DataError: nothing was.
    """
    if not found:
        raise DataError("nothing to evaluate", fix="check the data: no segment could be decoded")
    scores, utterances = score(
        [each.segment.id for each in found],
        [each.segment.text for each in found],
        [each.text for each in found],
        found[0].segment.language,
        speakers=[each.segment.speaker for each in found],
    )
    return Evaluation(
        scores=scores,
        utterances=tuple(utterances),
        audio_seconds=sum(each.segment.duration_s for each in found),
        seconds=seconds,
        engine=engine,
        problems=tuple(problems),
        context=context,
        segments=tuple(each.segment for each in found),
    )


def _batches(segments: Sequence[Segment], windows: int, context: Context) -> list[list[Segment]]:
    """Batches of one language, task and length of clip, the longest segments first."""
    ordered = sorted(segments, key=lambda s: (s.language, s.task, -s.duration_s, s.id))
    batches = []
    for (*_, samples), group in groupby(ordered, key=lambda s: (s.language, s.task, clip_samples(s, context))):
        rows = list(group)
        size = min(FIT_ROWS * windows, windows * WINDOW_SAMPLES // samples)
        batches += [rows[first : first + size] for first in range(0, len(rows), size)]
    return batches


def clip_samples(segment: Segment, context: Context) -> int:
    """How long a segment's clip is."""
    if context == "full":
        return WINDOW_SAMPLES
    steps = math.ceil(round(segment.duration_s * SAMPLE_RATE_HZ) / FIT_STEP_SAMPLES)
    return min(max(steps * FIT_STEP_SAMPLES, FIT_LEAST_SAMPLES), WINDOW_SAMPLES)


def clip(segment: Segment, reader: AudioReader, context: Context = "full") -> np.ndarray:
    """The segment's audio with silence after it: float32, (480_000,), or with context "fit" as far as it needs."""
    length = clip_samples(segment, context)
    samples = read_whole(reader, segment.recording, segment.start_s, segment.end_s)[:length]
    return np.pad(samples, (0, length - len(samples)))


def _decode(engine: Engine, clips: Sequence[np.ndarray], first: Segment, beams: int) -> list[str]:
    import torch

    mel = log_mel(torch.from_numpy(np.stack(clips)), engine.n_mels)
    return engine.decode(mel, first.language, first.task, beams)
