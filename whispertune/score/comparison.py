"""Two systems on the same utterances: is the second better than the first, or was it luck?

    found = compare(base_utterances, tuned_utterances, speakers=speakers)
    found.verdict     # "better", "worse" or "no difference shown": of the second against the first
    found.difference, found.interval, found.probability_of_improvement, found.test.p_value

    base, a, b = (aligned(each, normalizer=normalizer) for each in (of_base, of_a, of_b))    # of many, each once
    compare_aligned(base, a, speakers=speakers), compare_aligned(a, b, speakers=speakers)

Two tests are made, and the verdict is "better" or "worse" only where both show it at 5 per cent: the exact p of the
matched pairs is below 0.05, and the 95 per cent interval of the difference, by paired bootstrap, leaves out 0. The
matched pairs know no speakers: where one system suits some speakers and the other the others, they alone would be
too sure. The bootstrap draws whole speakers where at least 10 are known, but with few pairs it is too sure itself.

The pairs are sentence segments, as in the matched-pairs test of sclite (`-t mapsswe`): stretches of an utterance
with errors of either system, between which at least two neighbouring words are correct in both, nothing inserted
between these. Errors of one stretch may hang together, those of different ones should not. An utterance begins and
ends its stretches; one without errors has none. Words are aligned by the fewest errors, where sclite weighs a
substitution 4 and the others 3. For characters each utterance is a pair: two characters part no errors of a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from whispertune.errors import DataError
from whispertune.score.normalize import Normalizer, one_each, raw_text
from whispertune.score.statistics import MatchedPairs, matched_pairs, paired_bootstrap, speaker_groups
from whispertune.score.wer import Alignment, Edit, UtteranceScore, align_all

SIGNIFICANT: Final = 0.05
CORRECT_BETWEEN_SEGMENTS: Final = 2  # words, as sclite has it

Verdict = Literal["better", "worse", "no difference shown"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A second system against a first one; rates in per cent, differences in points."""

    utterances: int
    first_rate: float
    second_rate: float
    difference: float  # second less first: negative where the second has fewer errors
    interval: tuple[float, float]  # 95 per cent, of the difference
    probability_of_improvement: float  # that the second has fewer errors on another such set
    test: MatchedPairs
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class System:
    """What a system wrote, utterance by utterance, against what was said; to be compared with any number of others."""

    alignments: tuple[Alignment, ...]
    characters: bool  # else words


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of an utterance in which at least one of two systems has errors."""

    first_errors: int
    second_errors: int


def compare(
    first: Sequence[UtteranceScore],
    second: Sequence[UtteranceScore],
    *,
    speakers: Sequence[str | None] | None = None,
    normalizer: Normalizer | Sequence[Normalizer] | None = None,
    characters: bool = False,
    seed: int = 0,
) -> Comparison:
    """Compare what two systems wrote for the same utterances, in any order; `speakers` are those of `first`.

    Texts are compared raw, or as `normalizer` leaves them, which is one for all or for each of `first` one; by words
    or by characters.

    Raises:
        DataError: the utterances are not the same, or there are none.
    """
    ours, theirs = (
        aligned(each, normalizer=normalizer, characters=characters) for each in (first, in_order(first, second))
    )
    return compare_aligned(ours, theirs, speakers=speakers, seed=seed)


def aligned(
    utterances: Sequence[UtteranceScore],
    *,
    normalizer: Normalizer | Sequence[Normalizer] | None = None,
    characters: bool = False,
) -> System:
    """A system's texts as `compare` would look at them."""
    rows = len(utterances)
    normalizers = [None] * rows if normalizer is None else one_each(normalizer, rows)
    references, hypotheses = (
        _prepared(texts, normalizers, characters)
        for texts in ([each.reference for each in utterances], [each.hypothesis for each in utterances])
    )
    return System(tuple(align_all(references, hypotheses, characters=characters)), characters)


def compare_aligned(
    first: System, second: System, *, speakers: Sequence[str | None] | None = None, seed: int = 0
) -> Comparison:
    """The same as `compare` of systems that are aligned already, with the same utterances in the same order."""
    ours, theirs = first.alignments, second.alignments
    lengths = np.array([each.counts.reference_length for each in ours])
    errors, others = (np.array([each.counts.errors for each in side]) for side in (ours, theirs))
    drawn = paired_bootstrap(errors, others, lengths, groups=speaker_groups(speakers), seed=seed)
    test = matched_pairs(others - errors if first.characters else _segment_differences(ours, theirs))
    reference_length = max(1, int(lengths.sum()))
    return Comparison(
        utterances=len(ours),
        first_rate=100.0 * int(errors.sum()) / reference_length,
        second_rate=100.0 * int(others.sum()) / reference_length,
        difference=drawn.difference,
        interval=drawn.interval,
        probability_of_improvement=drawn.probability_of_improvement,
        test=test,
        verdict=verdict_of(test.p_value, drawn.interval),
    )


def _prepared(texts: Sequence[str], normalizers: Sequence[Normalizer | None], characters: bool) -> list[str]:
    """The texts as they are aligned; their words are what the normalizer counts as such."""
    prepared = []
    for text, normalizer in zip(texts, normalizers, strict=True):
        normalized = normalizer(text) if normalizer else raw_text(text)
        prepared.append(normalizer.parted(normalized) if normalizer and not characters else normalized)
    return prepared


def verdict_of(p_value: float, interval: tuple[float, float]) -> Verdict:
    """What a test and the interval of a difference show together, by the rule above."""
    low, high = interval
    if p_value >= SIGNIFICANT or low <= 0.0 <= high:
        return "no difference shown"
    return "better" if high < 0.0 else "worse"


def sentence_segments(first: Sequence[Edit], second: Sequence[Edit]) -> list[Segment]:
    """The segments of one utterance, from the alignments of two systems with one reference."""
    segments: list[list[int]] = []
    correct = CORRECT_BETWEEN_SEGMENTS  # words since the last error; the first error opens a segment
    for inserted, wrong in zip(
        zip(*(_insertions(edits) for edits in (first, second)), strict=True),
        [*zip(*(_wrong_words(edits) for edits in (first, second)), strict=True), (0, 0)],
        strict=True,
    ):
        for errors in (inserted, wrong):  # what is inserted before a word, and the word itself
            if any(errors):
                if correct >= CORRECT_BETWEEN_SEGMENTS:
                    segments.append([0, 0])
                segments[-1][0] += errors[0]
                segments[-1][1] += errors[1]
                correct = 0
        correct += not any(wrong)
    return [Segment(*errors) for errors in segments]


def _segment_differences(first: Sequence[Alignment], second: Sequence[Alignment]) -> np.ndarray:
    pairs = zip(first, second, strict=True)
    segments = [segment for one, other in pairs for segment in sentence_segments(one.edits, other.edits)]
    return np.array([segment.second_errors - segment.first_errors for segment in segments], dtype=np.int64)


def _wrong_words(edits: Sequence[Edit]) -> list[int]:
    """A 1 for every reference word that is not a hit."""
    return [int(edit.kind != "=") for edit in edits for _ in edit.reference]


def _insertions(edits: Sequence[Edit]) -> list[int]:
    """How many words are inserted before each reference word, and after the last."""
    inserted = [0]
    for edit in edits:
        if edit.kind == "I":
            inserted[-1] += len(edit.hypothesis)
        inserted += [0] * len(edit.reference)
    return inserted


def in_order(first: Sequence[UtteranceScore], second: Sequence[UtteranceScore]) -> list[UtteranceScore]:
    """The utterances of `second` in the order of `first`.

    Raises:
        DataError: they are not the same, or there are none.
    """
    if not first:
        raise DataError("nothing to compare", fix="give at least one utterance")
    known = {utterance.id: utterance for utterance in second}
    ids = {utterance.id for utterance in first}
    if not len(first) == len(ids) == len(known) == len(second) or ids != known.keys():
        alone = sorted(ids ^ known.keys())
        raise DataError(
            f"the two systems did not score the same utterances: {len(first)} and {len(second)}, of which "
            f"{len(alone)} stand on one side only" + (f", {alone[0]!r} for one" if alone else ", and some stand twice"),
            fix="compare what both have decoded, an utterance once",
        )
    for utterance in first:
        if utterance.reference != known[utterance.id].reference:
            raise DataError(
                f"the two systems were scored against other references: {utterance.reference!r} and "
                f"{known[utterance.id].reference!r}",
                where=utterance.id,
                fix="evaluate both on the same data",
            )
    return [known[utterance.id] for utterance in first]
