"""A survey: one set of segments listened to, tokenized and packed, for numbers and a report.

    with AudioReader(children=2) as reader:
        data = read_cleaned(spec, rules, reader)
        found = survey("train", data, rules, reader, step, vocabulary)
    found.table, found.measures.snr_db, found.tokens

Columns of a survey have an entry for each segment that is left; what went is in `data.problems`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from whispertune.data.audio import AudioInfo, AudioReader
from whispertune.data.clean import CleanRules, clean
from whispertune.data.listen import MeasureTable, hear
from whispertune.data.segments import Problem, Recording, SourceData, SourceSpec
from whispertune.data.sources import open_source
from whispertune.data.table import SegmentTable, as_table
from whispertune.data.texts import written_languages
from whispertune.languages import UNSPACED_LANGUAGES
from whispertune.train.feeding.plan import JOIN_BLOCK
from whispertune.windows.pack import SLACK_S, WINDOW_S, Cutter, Limits, Piece, join
from whispertune.windows.tokens import Vocabulary

PACKED_PIECES = 20_000  # are packed to tell how full windows get; of more, so many drawn at random
LABEL_TOKENS = 3  # of a segment beside its text: its two times, and the end of text
WORST_WORDS = 10
PROBED_ROWS = 20_000  # whose recordings' sample rates are looked at; of more, so many drawn at random
PROBED_TOGETHER = 1024
TOKENIZED_ROWS = 4096  # between two looks at the clock

Watch = Callable[[str, int, int], None]  # (what, rows done, rows in all)


def unwatched(what: str, done: int, total: int) -> None:
    """Nobody looks."""


@dataclass(frozen=True, slots=True)
class PackedStep:
    """What training packs together."""

    limits: Limits
    segments: int | None  # of a step; None where steps are counted in windows


@dataclass(frozen=True, slots=True)
class Packing:
    """What the segments pack into."""

    windows: int
    full_share: float  # of the windows' 30 s that is speech, or the pauses between cues
    counted_share: float  # of the pieces that were packed to tell


@dataclass(frozen=True, slots=True)
class Word:
    """A word and how many tokens it takes."""

    text: str
    tokens: int
    times: int  # it stands in the texts


@dataclass(frozen=True, eq=False, slots=True)
class Survey:
    """One set and what was found in it."""

    name: str
    data: SourceData  # its segments are a SegmentTable
    by_ear: tuple[Problem, ...]  # of the data's problems, those that only listening told
    rates_hz: Mapping[int, int]  # sample rate -> recordings that have it, of those looked at
    measures: MeasureTable | None  # None where nobody listened
    tokens: NDArray[np.int32] | None  # of each text; None without a tokenizer
    worst_words: tuple[Word, ...]  # that take the most tokens
    max_tokens: int  # that a window takes
    packing: Packing

    @property
    def table(self) -> SegmentTable:
        return as_table(self.data.segments)


def read_cleaned(spec: SourceSpec, rules: CleanRules, reader: AudioReader, *, source: str = "") -> SourceData:
    """The rows of a source that can be used; problems name the source as `source`."""
    found = open_source(spec, reader)
    problems = tuple(replace(problem, source=source) for problem in found.problems)
    return clean(replace(found, problems=problems), rules, source=source, empty_texts=spec.empty_texts)


def survey(
    name: str,
    data: SourceData,
    rules: CleanRules,
    reader: AudioReader,
    step: PackedStep,
    vocabulary: Vocabulary | None = None,
    *,
    listen: bool = True,
    watch: Watch = unwatched,
) -> Survey:
    """Look at everything in a cleaned set."""
    table, measures = as_table(data.segments), None
    by_ear: tuple[Problem, ...] = ()
    if listen and len(table):
        heard = hear(table, rules, reader, progress=_part(watch, f"listening to {name}"))
        table, measures, by_ear = as_table(heard.data.segments), heard.measures, heard.data.problems
    tokens = _count_tokens(table, vocabulary, _part(watch, f"tokenizing {name}")) if vocabulary else None
    return Survey(
        name=name,
        data=replace(data, segments=table, problems=(*data.problems, *by_ear)),
        by_ear=by_ear,
        rates_hz=_sample_rates(table, reader, _part(watch, f"looking into files of {name}")),
        measures=measures,
        tokens=tokens,
        worst_words=_worst_words(table, vocabulary) if vocabulary else (),
        max_tokens=step.limits.max_tokens,
        packing=_pack(table, tokens, step),
    )


def _part(watch: Watch, what: str) -> Callable[[int, int], None]:
    return lambda done, total: watch(what, done, total)


def _count_tokens(
    table: SegmentTable, vocabulary: Vocabulary, progress: Callable[[int, int], None]
) -> NDArray[np.int32]:
    counts, languages = np.zeros(len(table), dtype=np.int32), written_languages(table)
    for first in range(0, len(table), TOKENIZED_ROWS):
        rows = slice(first, first + TOKENIZED_ROWS)
        counts[rows] = vocabulary.count(table.texts[rows].to_pylist(), languages[rows])
        progress(min(rows.stop, len(table)), len(table))
    return counts


def _worst_words(table: SegmentTable, vocabulary: Vocabulary) -> tuple[Word, ...]:
    """Of the different words, those that take the most tokens; nothing where words are not written apart."""
    times: Counter[tuple[str, str]] = Counter()
    for text, language in zip(table.texts.to_pylist(), written_languages(table), strict=True):
        if language not in UNSPACED_LANGUAGES:
            times.update((word, language) for word in text.split())
    words, languages = [word for word, _ in times], [language for _, language in times]
    tokens = vocabulary.count(words, languages) if words else []
    ranked = sorted(zip(tokens, times.items(), strict=True), key=lambda each: (-each[0], -each[1][1], each[1][0]))
    return tuple(Word(word, number, many) for number, ((word, _), many) in ranked[:WORST_WORDS])


def _sample_rates(table: SegmentTable, reader: AudioReader, progress: Callable[[int, int], None]) -> dict[int, int]:
    rows = np.arange(len(table))
    if len(rows) > PROBED_ROWS:
        rows = np.random.default_rng(0).choice(rows, PROBED_ROWS, replace=False)
    recordings: list[Recording] = list(dict.fromkeys(table.recordings[int(row)] for row in rows))
    rates: Counter[int] = Counter()
    for first in range(0, len(recordings), PROBED_TOGETHER):
        infos = reader.probe_many(recordings[first : first + PROBED_TOGETHER])
        rates.update(info.sample_rate_hz for info in infos if isinstance(info, AudioInfo))
        progress(min(first + PROBED_TOGETHER, len(recordings)), len(recordings))
    return dict(rates.most_common())


def _pack(table: SegmentTable, tokens: NDArray[np.int32] | None, step: PackedStep) -> Packing:
    """Pack as training would; by length alone where tokens are not known. Rows that no window holds are left out."""
    limits, rng = step.limits, np.random.default_rng(0)
    counts = np.zeros(len(table), dtype=np.int32) if tokens is None else tokens
    fits = (counts + LABEL_TOKENS <= limits.max_tokens) & (table.durations_s <= WINDOW_S + SLACK_S)
    table, counts = table.where(fits), counts[fits]
    if not len(table):
        return Packing(0, 0.0, 1.0)
    cutter = Cutter(table, limits, lambda rows: np.zeros(len(rows), dtype=np.int32))
    cutter.tokens = counts.copy()
    cuts = cutter.cut(rng)
    drawn = rng.permutation(len(cuts))[:PACKED_PIECES]
    pieces = [cutter.piece(cuts, int(index)) for index in drawn]
    windows = [window for block in _blocks(pieces, step.segments) for window in join(block, limits, rng)]
    full_share = sum(window.duration_s for window in windows) / (WINDOW_S * len(windows))
    share = len(drawn) / len(cuts)
    return Packing(round(len(windows) / share), full_share, share)


def _blocks(pieces: Sequence[Piece], step_segments: int | None) -> Iterator[Sequence[Piece]]:
    """Pieces that are packed together: those of a step, or large blocks where steps are counted in windows."""
    if step_segments is None:
        starts = list(range(0, len(pieces), JOIN_BLOCK))
    else:
        lengths = np.array([len(piece.segments) for piece in pieces])
        before = np.cumsum(lengths) - lengths
        starts = np.flatnonzero(np.diff(before // step_segments, prepend=-1)).tolist()
    for start, end in pairwise([*starts, len(pieces)]):
        yield pieces[start:end]
