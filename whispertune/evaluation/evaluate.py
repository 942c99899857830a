"""Evaluation: decode segments, compare with what was said, count.

    with AudioReader() as reader:
        result = evaluate(engine, segments, reader, batch=8)
    result.scores.wer      # per cent, from generated text

Each text is normalised by the language that it is written in (score/written.py), or all by a normalizer that is named.

Batches are sorted by length of speech, so that clips which end together are decoded together. With context "fit"
a clip ends where its speech does, rounded up to half a second: all clips of a batch are of one length, so that a
text does not depend on what else is decoded.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Problem, Segment
from whispertune.decode.context import Context
from whispertune.decode.engines import Engine
from whispertune.errors import DataError
from whispertune.evaluation.inputs import Change, Clips, Source, batches
from whispertune.score.normalize import Normalizer
from whispertune.score.wer import Scores, UtteranceScore, score
from whispertune.score.written import characters_lead, normalizers_of, text_language
from whispertune.windows.features import log_mel

Progress = Callable[[int, int], None]  # (rows done, rows in all)
Listener = Callable[[Clips], None]  # what was decoded, with the states of the engine's encoder where it tells them


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What an engine wrote for a segment."""

    segment: Segment
    text: str


@dataclass(frozen=True, slots=True)
class TeacherForced:
    """How sure a model is of the right text, token by token; see evaluation/tokens.py for all of it."""

    loss: float  # mean cross-entropy a token, nats
    token_accuracy: float  # tokens that were the likeliest, per cent
    calibration_error: float  # per cent

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> TeacherForced | None:
        """From an evaluation's JSON; None where it has none. What is null there was not finite."""
        if "calibration_error" not in content:
            return None
        values = (content[name] for name in cls.__slots__)
        return cls(*(math.nan if value is None else value for value in values))


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
    teacher_forced: TeacherForced | None = None  # where it was asked for
    normalizer: Normalizer | None = None  # of all rows, where one was named; else each has that of its language
    leads: str | None = None  # as `leading` was where it was saved

    @property
    def normalizers(self) -> tuple[Normalizer, ...]:
        """Of each row that still has its segment."""
        return normalizers_of(self.segments, self.normalizer)

    @property
    def leading(self) -> str:
        """The rate to read and to compare by, raw: "wer", or "cer" where most rows are written without spaces."""
        return self.leads or ("cer" if characters_lead(self.segments) else "wer")

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
            "leading": self.leading,
            **asdict(self.scores),
            **intervals,
            **(asdict(self.teacher_forced) if self.teacher_forced else {}),
        }

    def of(self, split: str, *, biased: bool) -> Evaluation:
        """The same figures, said to be of this split."""
        return replace(self, split=split, biased_by_selection=biased)


def decode_segments(
    engine: Engine,
    segments: Sequence[Segment],
    source: Source,
    *,
    batch: int = 8,
    beams: int = 1,
    listener: Listener | None = None,
    progress: Progress | None = None,
) -> tuple[list[Hypothesis], list[Problem]]:
    """Texts of the segments that decode, in the order given, and the others as problems.

    `batch` windows are decoded at once; with context "fit", as many clips as make up their length. A `listener` is
    handed what was decoded, batch by batch.
    """
    texts: dict[str, str] = {}
    problems: list[Problem] = []
    done = 0
    for chunk in batches(segments, batch, source.context):
        clips, unreadable = source.read(chunk, engine.n_mels, engine)
        problems += unreadable
        if clips is not None:
            clips = clips.encoded(engine) if listener else clips
            first = clips.segments[0]
            decoded = engine.decode(clips.inputs, first.language, first.task, beams)
            texts |= {segment.id: text for segment, text in zip(clips.segments, decoded, strict=True)}
            if listener:
                listener(clips)
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
    change: Change | None = None,
    normalizer: Normalizer | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Decode the segments and score the texts against their references.

    A `normalizer` is for all rows, whatever their language.

    Raises:
        DataError: there are no segments, or none of them decodes.
    """
    source = Source(reader, context, change)
    return evaluate_source(engine, segments, source, batch=batch, beams=beams, normalizer=normalizer, progress=progress)


def evaluate_source(
    engine: Engine,
    segments: Sequence[Segment],
    source: Source,
    *,
    batch: int = 8,
    beams: int = 1,
    normalizer: Normalizer | None = None,
    listener: Listener | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """The same of clips that come from a source.

    What it has kept, of clips that another model was given, counts as if it had been computed again, so that figures of
    speed do not depend on which model was first.
    """
    start, kept = time.perf_counter(), source.kept
    spared = kept.spared_seconds if kept else 0.0
    found, problems = decode_segments(
        engine, segments, source, batch=batch, beams=beams, listener=listener, progress=progress
    )
    seconds = time.perf_counter() - start + (kept.spared_seconds - spared if kept else 0.0)
    return evaluation_of(found, problems, seconds, engine.name, source.context, normalizer)


def evaluation_of(
    found: Sequence[Hypothesis],
    problems: Sequence[Problem],
    seconds: float,
    engine: str,
    context: Context,
    normalizer: Normalizer | None = None,
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
        [text_language(each.segment) for each in found],
        speakers=[each.segment.speaker for each in found],
        normalizer=normalizer,
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
        normalizer=normalizer,
    )


def decode_clips(engine: Engine, clips: Sequence[np.ndarray], language: str, task: str, beams: int = 1) -> list[str]:
    """Texts of clips of one length, silence included."""
    import torch

    mel = log_mel(torch.from_numpy(np.stack(clips)), engine.n_mels)
    return engine.decode(mel, language, task, beams)
