"""What a card says of where a tuned model fails: groups of rows with more errors than the rest, and made-up text.

lines = known_failures(facts.tuned.utterances, rows)      # rows: segments, those that are at hand

No text of the data is told, and no speaker is named: whoever may use a model need not know who spoke.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from whispertune.data.segments import Segment
from whispertune.score.hallucination import HallucinationCounts, count_hallucinations
from whispertune.score.slices import MIN_ROWS, Attributes, Slice, slices
from whispertune.score.wer import UtteranceScore

MOST: Final = 6  # groups are told
NOT_KNOWN: Final = (
    "Lengths and speakers of these rows were not at hand when this card was written, so rows are not grouped."
)


def known_failures(
    utterances: Sequence[UtteranceScore], rows: Sequence[Segment], labels: Mapping[str, str] | None = None
) -> list[str]:
    """Lines of Markdown; `labels` are of the sources by the beginning of their rows' ids, where there are several."""
    known = {each.id: each for each in rows}
    found = [each for each in utterances if each.id in known]
    lines = [NOT_KNOWN]
    if found:
        attributes = [_attributes(known[each.id], labels or {}) for each in found]
        lines = _groups(slices(found, attributes))
    durations_s = [known[each.id].duration_s if each.id in known else None for each in utterances]
    return [*lines, "", *_made_up(count_hallucinations(utterances, durations_s=durations_s))]


def _attributes(segment: Segment, labels: Mapping[str, str]) -> Attributes:
    return Attributes.of(segment, source=labels.get(segment.id.partition("/")[0]))


def _groups(found: Sequence[Slice]) -> list[str]:
    """The groups that are shown to be worse; where none is, those with the highest rates, said to be that."""
    worse = sorted((each for each in found if each.worse), key=lambda each: -each.wer_normalized)
    looked_at = ", ".join(dict.fromkeys(each.attribute for each in found)) or "nothing that differs"
    if worse:
        head = f"Groups of rows with more errors than the rest (looked at: {looked_at}):"
    else:
        head = (
            f"No group of {MIN_ROWS} rows or more is shown to have more errors than the rest "
            f"(looked at: {looked_at}); those with the highest rates:"
        )
    highest = sorted((each for each in found if each.worse is not None), key=lambda each: -each.wer_normalized)
    shown = (worse or highest)[:MOST]
    if not shown:
        return [f"There are too few rows to tell groups apart (at least {MIN_ROWS} in each; looked at: {looked_at})."]
    return [head, "", *_table(shown, found)]


def _table(shown: Sequence[Slice], found: Sequence[Slice]) -> list[str]:
    lines = ["| group | rows | WER normalised, % | 95 % interval | the rest |", "| --- | ---: | ---: | --- | ---: |"]
    for each in shown:
        low, high = each.wer_normalized_interval or (float("nan"), float("nan"))
        lines.append(
            f"| {_name(each, found)} | {each.rows} | {each.wer_normalized:.1f} | {low:.1f} to {high:.1f} "
            f"| {each.rest_wer_normalized:.1f} |"
        )
    return lines


def _name(one: Slice, found: Sequence[Slice]) -> str:
    if one.attribute == "speaker":
        return f"one of {sum(each.attribute == 'speaker' for each in found)} speakers"
    return f"{one.attribute}: {one.name}"


def _made_up(found: HallucinationCounts) -> list[str]:
    kinds = {
        "that repeat themselves": found.loops,
        "with a burst of words that nobody said": found.bursts,
        "in another script": found.other_script,
    }
    told = [f"{number} {kind}" for kind, number in kinds.items() if number]
    if found.on_silence:
        told.append(f"{found.on_silence} where nothing was said (of {found.empty_references})")
    if not told:
        return [f"None of the {found.rows} texts shows signs of being made up (loops, bursts, another script)."]
    return [f"Of {found.rows} texts, {found.rate:.1f} % show signs of being made up: {', '.join(told)}."]
