"""Whole recordings: transcribed as `transcribe` does it, and scored against their captions, with their times.

    with AudioReader() as reader:
        found = evaluate_recordings(open_, segments, reader, engine="ctranslate2", context="full")
    found.evaluation.scores.wer            # of each recording's joined text against its joined captions
    found.times.starts.median_s            # seconds between a cue's start in the captions and in the transcript

Rules. All cues of a recording are joined, and so is all that was transcribed: what is written beyond the captions
counts as insertions. For everything by cue (slices, worst cues, intervals) the words of both, without case and
punctuation, are aligned, and a cue is given what stands in the place of its words; insertions go to the cue before.
Intervals are drawn over recordings where there are at least 10, else over cues.

A cue's start is matched where its first word is aligned with the first word of a cue of the transcript, its end
where its last word is aligned with the last word of one: equal words, or one in the place of the other. The error is
the absolute difference in seconds. Cues that the model cuts elsewhere are not matched, and no word times are used.

A recording with cues in several languages is transcribed once, in the one of them that is spoken longest, and all of
it is normalised by that one.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import numpy as np

from whispertune.data.audio import AudioReader
from whispertune.data.captions import Cue
from whispertune.data.segments import Problem, Recording, Segment, name_of
from whispertune.decode.context import Context
from whispertune.decode.transcribe import Transcriber
from whispertune.errors import AudioError, DataError
from whispertune.evaluation.evaluate import Evaluation
from whispertune.languages import UNSPACED_SCRIPTS
from whispertune.score.normalize import Normalizer, basic, leads_with_cer, raw_text
from whispertune.score.wer import Scores, align_all, score
from whispertune.score.written import text_language

NEAR_S: Final = 0.5
RATES: Final = ("wer", "cer", "wer_normalized", "cer_normalized")  # that have an interval
_WORD: Final = re.compile(rf"[{UNSPACED_SCRIPTS}]|[^\s{UNSPACED_SCRIPTS}]+")

Opener = Callable[[str, str], Transcriber]  # of a language and a task
Progress = Callable[[str, float, float], None]  # (recording, seconds of it done, in all)
_Places = Sequence[tuple[int | None, int | None]]  # words of both sides, side by side; None where one has nothing


@dataclass(frozen=True, slots=True)
class Boundaries:
    """How far one kind of boundary, of the cues where it is matched, is off; None where none is."""

    matched: int
    mean_s: float | None = None
    median_s: float | None = None
    p90_s: float | None = None  # 90th percentile
    near: float | None = None  # per cent within `NEAR_S`

    @classmethod
    def of(cls, errors_s: Sequence[float]) -> Boundaries:
        if not errors_s:
            return cls(0)
        errors = np.array(errors_s)
        median, p90 = np.quantile(errors, [0.5, 0.9])
        near = 100.0 * np.mean(errors <= NEAR_S)
        return cls(len(errors), float(errors.mean()), float(median), float(p90), float(near))

    def as_json(self) -> dict[str, Any]:
        """Seconds to the millisecond."""
        seconds = {name: getattr(self, name) for name in ("mean_s", "median_s", "p90_s")}
        rounded = {name: None if value is None else round(value, 3) for name, value in seconds.items()}
        return {"matched": self.matched, **rounded, "within_half_a_second": self.near}


@dataclass(frozen=True, slots=True)
class CueTimes:
    """Cues of captions and how well their times were found."""

    recordings: int
    cues: int  # of the captions
    written: int  # cues of the transcripts
    starts: Boundaries
    ends: Boundaries

    def as_json(self) -> dict[str, Any]:
        """Under the names that `evaluate --recordings --json` promises."""
        counts = {"recordings": self.recordings, "cues": self.cues, "written": self.written}
        return counts | {"starts": self.starts.as_json(), "ends": self.ends.as_json()}


@dataclass(frozen=True, slots=True)
class Long:
    """Recordings, scored: `evaluation` has a row for each cue, and the rates of the joined texts."""

    evaluation: Evaluation
    times: CueTimes


@dataclass(frozen=True, slots=True)
class _Text:
    """The cues of one side, joined, and its words."""

    text: str
    spans: tuple[tuple[int, int], ...]  # of each word in the text
    words: tuple[str, ...]  # as they are compared
    cues: tuple[int, ...]  # of each word, the cue it is of

    def first(self, word: int) -> bool:
        """Whether a word begins its cue."""
        return word == 0 or self.cues[word - 1] != self.cues[word]

    def last(self, word: int) -> bool:
        return word + 1 == len(self.cues) or self.cues[word + 1] != self.cues[word]


@dataclass(frozen=True, slots=True)
class _Heard:
    """One recording: what was said, and what was written."""

    said: tuple[Segment, ...]
    written: tuple[Cue, ...]
    audio_seconds: float
    seconds: float

    @property
    def name(self) -> str:
        return name_of(self.said[0].recording)

    @property
    def language(self) -> str:
        """That the texts are written in."""
        return text_language(self.said[0])

    def texts(self) -> tuple[_Text, _Text]:
        """What was said and what was written, each joined."""
        said, written = (_text([cue.text for cue in cues], self.language) for cues in (self.said, self.written))
        return said, written


def evaluate_recordings(
    open_: Opener,
    segments: Sequence[Segment],
    reader: AudioReader,
    *,
    engine: str,
    context: Context,
    normalizer: Normalizer | None = None,
    progress: Progress | None = None,
) -> Long:
    """Transcribe the recordings of some segments, and score them against these.

    A `normalizer` is for all of them, whatever their language.

    Raises:
        DataError: none of the recordings decodes.
    """
    heard: list[_Heard] = []
    problems: list[Problem] = []
    for (language, task), recordings in _by_speech(segments).items():
        transcribe = open_(language, task)
        for recording, cues in recordings.items():
            name = name_of(recording)
            try:
                samples = reader.read(recording)
            except AudioError as error:
                problems.append(Problem(name, "recording does not decode", error.what))
                continue
            found = transcribe(samples, Path(name), _watch(progress, name))
            in_one = (replace(cue, language=language) for cue in cues)  # what they are read as from here on
            said = tuple(sorted(in_one, key=lambda cue: (cue.start_s, cue.end_s)))
            heard.append(_Heard(said, found.cues, found.audio_seconds, found.seconds))
    if not heard:
        raise DataError("nothing to evaluate", fix="check the data: no recording could be decoded")
    return _scored(heard, problems, engine, context, normalizer)


def _by_speech(segments: Sequence[Segment]) -> dict[tuple[str, str], dict[Recording, list[Segment]]]:
    """(language, task) -> recording -> its segments, in whatever language they are."""
    cues: defaultdict[tuple[Recording, str], list[Segment]] = defaultdict(list)
    for segment in segments:
        cues[segment.recording, segment.task].append(segment)
    found: defaultdict[tuple[str, str], dict[Recording, list[Segment]]] = defaultdict(dict)
    for (recording, task), of_one in cues.items():
        found[_spoken_longest(of_one), task][recording] = of_one
    return found


def _spoken_longest(cues: Sequence[Segment]) -> str:
    """The language that takes most of the time of some cues, in alphabetical order of those that take as much."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for cue in cues:
        seconds[cue.language] += cue.duration_s
    return min(seconds, key=lambda language: (-seconds[language], language))


def _watch(progress: Progress | None, name: str) -> Callable[[float, float], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(name, done, total)


def _scored(
    heard: Sequence[_Heard], problems: Sequence[Problem], engine: str, context: Context, normalizer: Normalizer | None
) -> Long:
    pairs = [each.texts() for each in heard]
    aligned = [_aligned(*pair) for pair in pairs]
    parts = [_by_cue(len(each.said), *pair, of) for each, pair, of in zip(heard, pairs, aligned, strict=True)]
    segments = tuple(cue for each in heard for cue in each.said)
    by_cue, utterances = score(
        [cue.id for cue in segments],
        [cue.text for cue in segments],
        [part for of_one in parts for part in of_one],
        [each.language for each in heard for _ in each.said],
        speakers=[each.name for each in heard for _ in each.said],
        normalizer=normalizer,
    )
    said, written = [one.text for one, _ in pairs], [other.text for _, other in pairs]
    names, languages = [each.name for each in heard], [each.language for each in heard]
    whole, _ = score(names, said, written, languages, normalizer=normalizer)
    evaluation = Evaluation(
        scores=_with_intervals(whole, by_cue),
        utterances=tuple(utterances),
        audio_seconds=sum(each.audio_seconds for each in heard),
        seconds=sum(each.seconds for each in heard),
        engine=engine,
        problems=tuple(problems),
        context=context,
        segments=segments,
        normalizer=normalizer,
    )
    return Long(evaluation, _times(heard, pairs, aligned))


def _with_intervals(whole: Scores, by_cue: Scores) -> Scores:
    """The rates of the recordings, with the widths that their cues give the intervals."""
    intervals: dict[str, Any] = {}
    for name in RATES:
        moved = getattr(whole, name) - getattr(by_cue, name)  # next to nothing
        low, high = getattr(by_cue, f"{name}_interval")
        intervals[f"{name}_interval"] = (low + moved, high + moved)
    return replace(whole, rows=by_cue.rows, **intervals)


def _text(cues: Sequence[str], language: str) -> _Text:
    texts = [raw_text(cue) for cue in cues]
    # Without spaces between words there is none between cues, of which the other side may have more or fewer.
    gap = "" if leads_with_cer(language) else " "
    spans, words, cue_of = [], [], []
    place = 0
    for cue, text in enumerate(texts):
        for found in _WORD.finditer(text):
            if word := basic(found[0]).replace(" ", ""):
                spans.append((place + found.start(), place + found.end()))
                words.append(word)
                cue_of.append(cue)
        place += len(text) + len(gap)
    return _Text(gap.join(texts), tuple(spans), tuple(words), tuple(cue_of))


def _aligned(said: _Text, written: _Text) -> _Places:
    """Words of both, side by side; None where one has nothing."""
    (alignment,) = align_all([" ".join(said.words)], [" ".join(written.words)])
    found: list[tuple[int | None, int | None]] = []
    i = j = 0
    for edit in alignment.edits:
        for one, other in zip_longest(edit.reference, edit.hypothesis):
            found.append((None if one is None else i, None if other is None else j))
            i, j = i + (one is not None), j + (other is not None)
    return found


def _by_cue(cues: int, said: _Text, written: _Text, aligned: _Places) -> list[str]:
    """What was written of each of the cues; of the whole text every character stands with one of them."""
    cue = 0
    firsts: dict[int, int] = {}  # cue -> where in the text it begins
    for i, j in aligned:
        cue = cue if i is None else said.cues[i]
        if j is not None:
            firsts.setdefault(cue, written.spans[j][0] if firsts else 0)
    firsts = firsts or {0: 0}
    ends = [*list(firsts.values())[1:], len(written.text)]
    parts = {cue: written.text[start:end].strip() for (cue, start), end in zip(firsts.items(), ends, strict=True)}
    return [parts.get(cue, "") for cue in range(cues)]


def _times(
    heard: Sequence[_Heard],
    pairs: Sequence[tuple[_Text, _Text]],
    aligned: Sequence[_Places],
) -> CueTimes:
    starts, ends = [], []
    for each, (said, written), places in zip(heard, pairs, aligned, strict=True):
        for i, j in places:
            if i is None or j is None:
                continue
            cue, other = each.said[said.cues[i]], each.written[written.cues[j]]
            if said.first(i) and written.first(j):
                starts.append(abs(cue.start_s - other.start_s))
            if said.last(i) and written.last(j):
                ends.append(abs(cue.end_s - other.end_s))
    cues, written_cues = sum(len(each.said) for each in heard), sum(len(each.written) for each in heard)
    return CueTimes(len(heard), cues, written_cues, Boundaries.of(starts), Boundaries.of(ends))
