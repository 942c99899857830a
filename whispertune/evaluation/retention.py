"""Retention: what the base model could do, and how much of that a tuned one still can.

english = RetentionSet("english", segments)
figures_of(english, found.utterances).value          # the rate that counts, in per cent
change = changed(english, base.utterances, tuned.utterances)
change.relative, change.shown                        # 0.31: 31 % more errors than the base had; a test shows it
write_changes(path, [change]); read_retained(path)   # for whoever diagnoses the run

What counts is the word error rate, or that of characters where most rows are written without spaces; of silence, where
nothing can be right, the share of the clips on which anything is written. Long recordings may be transcribed as
a whole; their figures are summed over the cues of their captions.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from whispertune.data.audio import AudioReader
from whispertune.data.keyed import keyed_rng
from whispertune.data.segments import Held, Segment
from whispertune.decode.transcribe import Options, Transcriber, open_transcriber
from whispertune.errors import DataError
from whispertune.evaluation.evaluate import Evaluation
from whispertune.evaluation.recordings import Progress, evaluate_recordings
from whispertune.evaluation.silence import silent_clips
from whispertune.files import json_text, replace_text
from whispertune.score.comparison import SIGNIFICANT, compare
from whispertune.score.normalize import Normalizer
from whispertune.score.statistics import bootstrap_interval, matched_pairs, speaker_groups
from whispertune.score.wer import Counts, UtteranceScore
from whispertune.score.written import characters_lead, normalizers_of
from whispertune.windows.features import SAMPLE_RATE_HZ

LEAST_POINTS: Final = 0.5  # a base with fewer errors counts as one with so many: a word more is not twice the errors
CLIPS_WITH_TEXT: Final = "clips_with_text"
NAMES: Final = {
    "wer": "WER",
    "cer": "CER",
    "wer_normalized": "WER normalised",
    "cer_normalized": "CER normalised",
    CLIPS_WITH_TEXT: "clips with text",
}
_COUNTS: Final = {
    "wer": "words",
    "cer": "characters",
    "wer_normalized": "words_normalized",
    "cer_normalized": "characters_normalized",
}


@dataclass(frozen=True, slots=True)
class RetentionSet:
    """Rows that the base model can do, by name."""

    name: str
    segments: tuple[Segment, ...]
    silent: bool = False  # nobody speaks in them
    recordings: bool = False  # transcribed as a whole; the segments are their captions
    notes: tuple[str, ...] = ()  # what a person should know of it, a sentence each
    normalizer: Normalizer | None = None  # of all rows, where one was named; else each has that of its language

    def subset(self, size: int, seed: int) -> RetentionSet:
        """So many of its rows, always the same ones, in their order; of recordings as many as have so many."""
        of_each: dict[Any, list[int]] = {}
        for place, segment in enumerate(self.segments):
            of_each.setdefault(segment.recording if self.recordings else place, []).append(place)
        groups = list(of_each.values())
        places: list[int] = []
        for chosen in keyed_rng(seed, "retention subset", self.name).permutation(len(groups)).tolist():
            if len(places) < size:
                places += groups[chosen]
        return replace(self, segments=tuple(self.segments[place] for place in sorted(places)))


def prefix(name: str) -> str:
    """Of the ids of a set's rows, so that they differ from those of dev and of other sets."""
    return f"retention {name}/"


def silence_set(name: str, language: str, task: str = "transcribe") -> RetentionSet:
    """Clips in which nobody speaks, as rows without a text."""
    segments = []
    for number, clip in enumerate(silent_clips()):
        recording = Held(f"{name}: {clip.kind}, {clip.seconds:g} s, {number}", _flac(clip.samples))
        segments.append(Segment(f"{prefix(name)}{number}", recording, 0.0, clip.seconds, "", language, task))
    return RetentionSet(name, tuple(segments), silent=True)


def transcribed(
    model: str, found: RetentionSet, reader: AudioReader, *, engine: str, beams: int, progress: Progress | None = None
) -> Evaluation:
    """What a model, by name, makes of the recordings of a set, cue by cue."""

    def open_(language: str, task: str) -> Transcriber:
        options = Options(language=language, task=task, engine=engine, beams=beams, context="full")
        return open_transcriber(model, options)

    heard = evaluate_recordings(open_, found.segments, reader, engine=engine, context="full", progress=progress)
    return heard.evaluation


def _flac(samples: np.ndarray) -> bytes:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    return file.getvalue()


@dataclass(frozen=True, slots=True)
class SetFigures:
    """One model on one set of rows, in per cent. Of silence there are no rates of words or characters."""

    metric: str  # what counts, a key of `NAMES`
    value: float  # of it
    interval: tuple[float, float]  # 95 %
    rows: int
    wer: float | None = None
    cer: float | None = None
    wer_normalized: float | None = None
    cer_normalized: float | None = None

    def as_json(self) -> dict[str, Any]:
        """The figures under the names that retention.json and `soften --json` promise."""
        return asdict(self) | {"interval": list(self.interval)}


def metric_of(found: RetentionSet, best: str = "auto") -> str:
    """What counts for a set, where `best` is the recipe's `checkpoints.best`."""
    if found.silent:
        return CLIPS_WITH_TEXT
    by_characters = characters_lead(found.segments)
    if best == "auto":
        return "cer" if by_characters else "wer"
    return best.replace("wer", "cer") if by_characters else best


def figures_of(found: RetentionSet, utterances: Sequence[UtteranceScore], best: str = "auto") -> SetFigures:
    """What a model wrote for rows of a set, counted."""
    metric = metric_of(found, best)
    if found.silent:
        written = np.array([_has_text(each) for each in utterances], dtype=np.int64)
        interval = bootstrap_interval(written, np.ones_like(written))
        return SetFigures(metric, 100.0 * float(written.mean()), interval, len(utterances))
    rates = {name: sum(_counts(utterances, name), Counts()).rate for name in _COUNTS}
    counted = _counts(utterances, metric)
    speakers = {each.id: each.speaker for each in found.segments}
    interval = bootstrap_interval(
        np.array([each.errors for each in counted]),
        np.array([each.reference_length for each in counted]),
        groups=speaker_groups([speakers.get(each.id) for each in utterances]),
    )
    return SetFigures(metric, rates[metric], interval, len(utterances), **rates)


def _counts(utterances: Sequence[UtteranceScore], metric: str) -> list[Counts]:
    return [getattr(each, _COUNTS[metric]) for each in utterances]


def _has_text(utterance: UtteranceScore) -> bool:
    """As `silence.py` has it: a letter or a digit."""
    return any(map(str.isalnum, utterance.hypothesis))


def relative_change(base: float, tuned: float) -> float:
    """How many more errors there are than with the base, relative to its own; negative where there are fewer."""
    return (tuned - base) / max(base, LEAST_POINTS)


@dataclass(frozen=True, slots=True)
class SetChange:
    """Base and tuned model on the same rows of one retention set."""

    name: str
    base: SetFigures
    tuned: SetFigures
    shown: bool  # whether a paired test shows a difference, see score/comparison.py

    @property
    def relative(self) -> float:
        return relative_change(self.base.value, self.tuned.value)

    def told(self) -> str:
        """In a line, for people."""
        doubt = "" if self.shown else ", no difference shown"
        return (
            f"retention, {self.name}: {NAMES[self.tuned.metric]} {self.tuned.value:.1f} %, base {self.base.value:.1f} "
            f"({100 * self.relative:+.0f} % relative{doubt}; {self.tuned.rows} rows)"
        )

    def as_json(self) -> dict[str, Any]:
        """Under the names that retention.json, result.json and metrics.jsonl promise."""
        return {
            "name": self.name,
            "base": self.base.as_json(),
            "tuned": self.tuned.as_json(),
            "relative_change": self.relative,
            "difference_shown": self.shown,
        }


def changed(
    found: RetentionSet, base: Sequence[UtteranceScore], tuned: Sequence[UtteranceScore], best: str = "auto"
) -> SetChange:
    """Compare what two models wrote for a set, on the rows that both have.

    Raises:
        DataError: there are none.
    """
    theirs = {each.id: each for each in tuned}
    pairs = [(each, theirs[each.id]) for each in base if each.id in theirs]
    if not pairs:
        raise DataError("there is no row that both models decoded", where=found.name)
    ours, others = [one for one, _ in pairs], [other for _, other in pairs]
    shown = _is_shown(found, ours, others, metric_of(found, best))
    return SetChange(found.name, figures_of(found, ours, best), figures_of(found, others, best), shown)


def _is_shown(
    found: RetentionSet, base: Sequence[UtteranceScore], tuned: Sequence[UtteranceScore], metric: str
) -> bool:
    if found.silent:
        differences = [_has_text(other) - _has_text(one) for one, other in zip(base, tuned, strict=True)]
        return matched_pairs(np.array(differences, dtype=np.int64)).p_value < SIGNIFICANT
    by_id = {each.id: each for each in found.segments}
    segments = [by_id[each.id] for each in base]
    compared = compare(
        base,
        tuned,
        speakers=[each.speaker for each in segments],
        normalizer=normalizers_of(segments, found.normalizer) if metric.endswith("_normalized") else None,
        characters=metric.startswith("cer"),
    )
    return compared.verdict != "no difference shown"


# --- what a run keeps of it ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Retained:
    """Base and tuned model on one retention set; WER (or CER, or clips with text) in per cent."""

    name: str
    base: float
    tuned: float
    rows: int
    shown: bool | None = None  # whether a test shows the difference; None where none was made


def write_changes(path: Path, changes: Sequence[SetChange]) -> None:
    """Write evaluations/retention.json."""
    content = {"sets": [each.as_json() for each in changes]}
    replace_text(path, json_text(content, indent=2) + "\n")


def read_changes(path: Path) -> tuple[SetChange, ...]:
    """What `write_changes` wrote; nothing where there is no such file.

    Raises:
        DataError: it cannot be read.
    """
    if not path.is_file():
        return ()
    try:
        sets = json.loads(path.read_text(encoding="utf-8"))["sets"]
        return tuple(
            SetChange(each["name"], _figures(each["base"]), _figures(each["tuned"]), bool(each["difference_shown"]))
            for each in sets
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot be read ({error!r})", where=str(path), fix="remove it, or train again") from error


def _figures(content: Mapping[str, Any]) -> SetFigures:
    low, high = content["interval"]
    return SetFigures(**{**content, "value": float(content["value"]), "interval": (float(low), float(high))})


def read_retained(path: Path) -> tuple[Retained, ...]:
    """The same, as far as a diagnosis needs it.

    Raises:
        DataError: it cannot be read.
    """
    return tuple(
        Retained(each.name, each.base.value, each.tuned.value, each.tuned.rows, each.shown)
        for each in read_changes(path)
    )
