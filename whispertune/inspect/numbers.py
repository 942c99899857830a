"""What is in a set, as numbers that say what they count.

numbers = count(survey)
numbers.rows, numbers.hours, numbers.duration_s.median
numbers.as_json()               # what `inspect --json` prints of a set
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whispertune.data.segments import Joined, Problem, Recording
from whispertune.data.table import SegmentTable
from whispertune.data.texts import written_languages
from whispertune.drawing.charts import Quantiles
from whispertune.inspect.survey import LABEL_TOKENS, Survey, Word
from whispertune.languages import UNSPACED_LANGUAGES

OVERLONG = "longer than 30 s"  # the reason that sources and cleaning give
WORDY = "too many tokens"  # the reason that training gives
SHORTEST_S = 0.001  # no row is divided by less


@dataclass(frozen=True, slots=True)
class Group:
    """Rows and hours of one speaker, language, task or reason."""

    name: str
    rows: int
    hours: float


@dataclass(frozen=True, slots=True)
class Numbers:
    """Of the rows that can be used, unless it says dropped."""

    name: str
    rows: int
    hours: float  # of speech
    recordings: int
    speakers: tuple[Group, ...]  # the largest first; rows that name none are not in it
    rows_without_speaker: int
    languages: tuple[Group, ...]
    tasks: tuple[Group, ...]
    duration_s: Quantiles | None
    characters_a_second: Quantiles | None
    tokens: Quantiles | None
    tokens_a_word: float | None  # over all rows; characters where words are not written apart
    worst_words: tuple[Word, ...]  # that take the most tokens
    sample_rates_hz: Mapping[int, float]  # share of recordings
    over_30_s_share: float  # of all rows, dropped ones among them
    over_max_tokens_share: float | None  # of all rows; None, as all about tokens, where no tokenizer was given
    max_tokens: int  # that a window takes: of a text, its times and its end
    windows: int  # of 30 s that the rows pack into, an epoch
    windows_full_share: float  # of their time
    windows_counted_share: float  # of the pieces, that were packed to tell
    level_db: Quantiles | None  # dBFS; this and the next two are None where nobody listened
    snr_db: Quantiles | None  # signal to noise, an estimate
    clipped_rows: int | None  # with any clipped samples
    dropped: tuple[Group, ...]  # by reason
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """All of it, under these names."""
        return asdict(self)


def count(survey: Survey) -> Numbers:
    """The numbers of a survey."""
    table, data, measures, tokens = survey.table, survey.data, survey.measures, survey.tokens
    durations_s, all_rows = table.durations_s, len(table) + len(data.problems)
    looked_at = sum(survey.rates_hz.values())
    return Numbers(
        name=survey.name,
        rows=len(table),
        hours=round(table.seconds / 3600, 4),
        recordings=len({_whole(table.recordings[row]) for row in range(len(table))}),
        speakers=_groups(table.speakers.to_pylist(), durations_s),
        rows_without_speaker=table.speakers.null_count,
        languages=_groups(table.languages.to_pylist(), durations_s),
        tasks=_groups(table.tasks.to_pylist(), durations_s),
        duration_s=Quantiles.of(durations_s),
        characters_a_second=Quantiles.of(rates(table)),
        tokens=None if tokens is None else Quantiles.of(tokens),
        tokens_a_word=_tokens_a_word(table, tokens),
        worst_words=survey.worst_words,
        sample_rates_hz={rate: round(rows / looked_at, 4) for rate, rows in survey.rates_hz.items()},
        over_30_s_share=_share(data.counts()[OVERLONG], all_rows),
        over_max_tokens_share=None if tokens is None else _share(_wordy(survey, tokens), all_rows),
        max_tokens=survey.max_tokens,
        windows=survey.packing.windows,
        windows_full_share=round(survey.packing.full_share, 4),
        windows_counted_share=round(survey.packing.counted_share, 4),
        level_db=None if measures is None else Quantiles.of(measures.level_db),
        snr_db=None if measures is None else Quantiles.of(measures.snr_db),
        clipped_rows=None if measures is None else int((measures.clipped_share > 0).sum()),
        dropped=reasons(data.problems),
        notes=data.notes,
    )


def reasons(problems: Iterable[Problem]) -> tuple[Group, ...]:
    """Dropped rows and hours by reason, the most frequent first."""
    rows: Counter[str] = Counter()
    seconds: dict[str, float] = {}
    for problem in problems:
        rows[problem.kind] += 1
        seconds[problem.kind] = seconds.get(problem.kind, 0.0) + (problem.seconds or 0.0)
    return tuple(Group(kind, number, round(seconds[kind] / 3600, 4)) for kind, number in rows.most_common())


def _whole(recording: Recording) -> Hashable:
    """What rows of one recording share: those of a prepared dataset have it in several pieces of one name."""
    if not isinstance(recording, Joined):
        return recording
    return recording.parts[0].audio.container.parent, recording.name


def _wordy(survey: Survey, tokens: NDArray[np.int32]) -> int:
    """Rows whose text no window takes, dropped or, where nothing is learned from them, not."""
    return survey.data.counts()[WORDY] + int((tokens + LABEL_TOKENS > survey.max_tokens).sum())


def _share(part: int, whole: int) -> float:
    return round(part / whole, 5) if whole else 0.0


def rates(table: SegmentTable) -> NDArray[np.float64]:
    """Characters a second of each row, (rows,)."""
    import pyarrow.compute as pc

    characters = pc.utf8_length(table.texts).to_numpy(zero_copy_only=False)
    return np.asarray(characters / np.maximum(table.durations_s, SHORTEST_S), dtype=np.float64)


def _groups(names: Sequence[str | None], durations_s: NDArray[np.float64]) -> tuple[Group, ...]:
    rows: Counter[str] = Counter()
    seconds: dict[str, float] = {}
    for name, duration_s in zip(names, durations_s.tolist(), strict=True):
        if name is not None:
            rows[name] += 1
            seconds[name] = seconds.get(name, 0.0) + duration_s
    ordered = sorted(rows, key=lambda name: -seconds[name])
    return tuple(Group(name, rows[name], round(seconds[name] / 3600, 4)) for name in ordered)


def _tokens_a_word(table: SegmentTable, tokens: NDArray[np.int32] | None) -> float | None:
    """Tokens a word, or a character where words are not written apart."""
    if tokens is None or not len(table):
        return None
    units = 0
    for text, language in zip(table.texts.to_pylist(), written_languages(table), strict=True):
        units += len("".join(text.split())) if language in UNSPACED_LANGUAGES else len(text.split())
    return round(float(tokens.sum()) / max(1, units), 3)
