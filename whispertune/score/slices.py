"""Where a model does worse: error rates by duration, speaker, source, speech rate, signal level and language.

    attributes = [Attributes.of(segment, source="data/test", level_db=level) for segment, level in ...]
    for slice in slices(utterances, attributes):
        slice.attribute, slice.name, slice.rows, slice.wer, slice.worse  # "duration", "20 to 30 s", 41, 38.2, True
    alike(utterances, attributes)                                    # ("source", "language"): nothing to compare
    worst_utterances(utterances)[0].alignment

Speech rate and level are cut into thirds of the set, since what is fast or quiet differs from language to
language and from room to room. Rows of one value stay together: where many share one, the groups have other sizes
and are not called thirds, and where there are no three there are two. Of fewer than 20 rows the figures stand
there, but no interval, and nothing is claimed. A slice is worse than the rest of the rows that have the attribute
where the two intervals of their normalised word error rates do not meet: a strict rule, as many slices are looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from whispertune.data.segments import Segment
from whispertune.errors import DataError
from whispertune.score.statistics import bootstrap_interval, speaker_groups
from whispertune.score.wer import Counts, UtteranceScore

MIN_ROWS: Final = 20
DURATIONS_S: Final = (2, 5, 10, 20, 30)  # the last is what Whisper hears at once
_THIRDS: Final = ("lowest third", "middle third", "highest third")
_PLACES: Final = {2: ("lower rows", "higher rows"), 3: ("lowest rows", "middle rows", "highest rows")}
_MOST_OF_A_THIRD: Final = 0.4  # of the rows, or one row more than a third

_Name = tuple[int, str]  # of a slice, with its place where the slices of an attribute have an order


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is known of an utterance besides its texts; None where it is not."""

    id: str
    duration_s: float | None = None
    speaker: str | None = None
    source: str | None = None
    language: str | None = None
    level_db: float | None = None  # dBFS

    @classmethod
    def of(cls, segment: Segment, *, source: str | None = None, level_db: float | None = None) -> Attributes:
        return cls(segment.id, segment.duration_s, segment.speaker, source, segment.language, level_db)


@dataclass(frozen=True, slots=True)
class Slice:
    """The rows with one value of an attribute, against the other rows that have the attribute; rates in per cent."""

    attribute: str
    name: str
    rows: int
    wer: float
    cer: float
    wer_normalized: float
    cer_normalized: float
    wer_interval: tuple[float, float] | None  # of 95 per cent; None under `MIN_ROWS` rows, as the next two are
    wer_normalized_interval: tuple[float, float] | None
    rest_wer_normalized: float
    worse: bool | None  # than the rest; None where one of the two has too few rows for a claim


@dataclass(frozen=True, slots=True)
class _Row:
    score: UtteranceScore
    speaker: str | None


def slices(
    utterances: Sequence[UtteranceScore], attributes: Sequence[Attributes], *, seed: int = 0
) -> tuple[Slice, ...]:
    """All slices, attribute by attribute; an attribute that is the same for all rows makes none, see `alike`.

    `attributes` stand in any order, one for every utterance.

    Raises:
        DataError: an utterance has no attributes, or an id stands twice.
    """
    pairs = _pairs(utterances, attributes)
    found = []
    for attribute, named in _names(pairs).items():
        groups: defaultdict[_Name, list[_Row]] = defaultdict(list)
        for name, (utterance, about) in zip(named, pairs, strict=True):
            if name is not None:
                groups[name].append(_Row(utterance, about.speaker))
        found += _slices_of(attribute, groups, seed)
    return tuple(found)


def alike(utterances: Sequence[UtteranceScore], attributes: Sequence[Attributes]) -> tuple[str, ...]:
    """Attributes that are known of several rows and the same for all of these, and so make no slices.

    Raises:
        DataError: an utterance has no attributes, or an id stands twice.
    """
    names = _names(_pairs(utterances, attributes))
    known = {attribute: [name for name in named if name is not None] for attribute, named in names.items()}
    return tuple(attribute for attribute, named in known.items() if len(named) > 1 and len(set(named)) == 1)


def _pairs(
    utterances: Sequence[UtteranceScore], attributes: Sequence[Attributes]
) -> list[tuple[UtteranceScore, Attributes]]:
    known = {each.id: each for each in attributes}
    ids = {utterance.id for utterance in utterances}
    if not len(ids) == len(utterances) == len(attributes) or ids != known.keys():
        alone = sorted(ids ^ known.keys())
        raise DataError(
            f"{len(utterances)} utterances and attributes of {len(attributes)} are not the same"
            + (f": {alone[0]!r} stands on one side only" if alone else ": some stand twice"),
            fix="give the attributes of every utterance, once",
        )
    return [(utterance, known[utterance.id]) for utterance in utterances]


def worst_utterances(utterances: Sequence[UtteranceScore], most: int = 20) -> tuple[UtteranceScore, ...]:
    """The utterances with the most normalised word errors, which cost the set most; the higher rate first."""
    wrong = [utterance for utterance in utterances if utterance.words_normalized.errors]
    wrong.sort(key=lambda each: (-each.words_normalized.errors, -each.words_normalized.rate, each.id))
    return tuple(wrong[:most])


def _names(pairs: Sequence[tuple[UtteranceScore, Attributes]]) -> dict[str, list[_Name | None]]:
    """Attribute -> for every row the name of its slice, None where that is not known."""
    abouts = [about for _, about in pairs]
    return {
        "duration": [_duration_name(about.duration_s) for about in abouts],
        "speaker": [_value_name(about.speaker) for about in abouts],
        "source": [_value_name(about.source) for about in abouts],
        "speech rate": _third_names([_words_per_s(*pair) for pair in pairs], "words/s"),
        "level": _third_names([about.level_db for about in abouts], "dBFS"),
        "language": [_value_name(about.language) for about in abouts],
    }


def _value_name(value: str | None) -> _Name | None:
    return (0, value) if value else None


def _duration_name(duration_s: float | None) -> _Name | None:
    if duration_s is None:
        return None
    for place, (shorter_s, longer_s) in enumerate(pairwise((0, *DURATIONS_S))):
        if duration_s <= longer_s:
            return place, f"{shorter_s} to {longer_s} s"
    return len(DURATIONS_S), f"over {DURATIONS_S[-1]} s"


def _words_per_s(utterance: UtteranceScore, about: Attributes) -> float | None:
    """Words of the reference a second, characters in scripts without spaces; None where nothing is said."""
    words = utterance.words_normalized.reference_length
    return words / about.duration_s if about.duration_s and words else None


def _third_names(values: Sequence[float | None], unit: str) -> list[_Name | None]:
    known = np.sort([value for value in values if value is not None])
    if not len(known):
        return [None] * len(values)
    bounds = _bounds(known)
    counts = np.bincount(np.searchsorted(bounds, known))
    thirds = len(counts) == 3 and counts.max() <= max(_MOST_OF_A_THIRD * len(known), len(known) / 3 + 1)
    names = _group_names(bounds, thirds=thirds, unit=unit)
    found = (None if value is None else int(np.searchsorted(bounds, value)) for value in values)
    return [None if place is None else (place, names[place]) for place in found]


def _bounds(known: np.ndarray) -> list[float]:
    """Up to where all groups but the last go, of sorted values: two thirds, or where that parts nothing one or none."""
    others = known[known < known[-1]]
    if not len(others):
        return []
    wanted = (float(np.quantile(known, share)) for share in (1 / 3, 2 / 3))
    low, high = (bound if bound < known[-1] else float(others[-1]) for bound in wanted)
    return [low, high] if np.any((known > low) & (known <= high)) else [low]


def _group_names(bounds: Sequence[float], *, thirds: bool, unit: str) -> list[str]:
    if not bounds:
        return ["all rows alike"]
    between = [f"{low:.1f} to {high:.1f}" for low, high in pairwise(bounds)]
    spans = [f"up to {bounds[0]:.1f}", *between, f"over {bounds[-1]:.1f}"]
    names = _THIRDS if thirds else _PLACES[len(spans)]
    return [f"{name}, {span} {unit}" for name, span in zip(names, spans, strict=True)]


def _slices_of(attribute: str, groups: Mapping[_Name, Sequence[_Row]], seed: int) -> list[Slice]:
    if len(groups) < 2:
        return []
    found = []
    for name in sorted(groups):
        rest = [row for other, rows in groups.items() if other != name for row in rows]
        found.append(_slice(attribute, name[1], groups[name], rest, seed))
    return found


def _slice(attribute: str, name: str, rows: Sequence[_Row], rest: Sequence[_Row], seed: int) -> Slice:
    scores = [row.score for row in rows]
    raw, normalized = [each.words for each in scores], [each.words_normalized for each in scores]
    others = [row.score.words_normalized for row in rest]
    speakers, enough = [row.speaker for row in rows], len(rows) >= MIN_ROWS
    interval = _interval(normalized, speakers, seed) if enough else None
    worse = None
    if interval and len(rest) >= MIN_ROWS:
        worse = interval[0] > _interval(others, [row.speaker for row in rest], seed)[1]
    return Slice(
        attribute=attribute,
        name=name,
        rows=len(rows),
        wer=_rate(raw),
        cer=_rate([each.characters for each in scores]),
        wer_normalized=_rate(normalized),
        cer_normalized=_rate([each.characters_normalized for each in scores]),
        wer_interval=_interval(raw, speakers, seed) if enough else None,
        wer_normalized_interval=interval,
        rest_wer_normalized=_rate(others),
        worse=worse,
    )


def _rate(counts: Sequence[Counts]) -> float:
    return sum(counts, Counts()).rate


def _interval(counts: Sequence[Counts], speakers: Sequence[str | None], seed: int) -> tuple[float, float]:
    return bootstrap_interval(
        np.array([each.errors for each in counts]),
        np.array([each.reference_length for each in counts]),
        groups=speaker_groups(speakers),
        seed=seed,
    )
