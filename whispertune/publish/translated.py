"""Of a run that translates: BLEU and chrF, base beside tuned, and which is better, judged as `compare` does.

found = translated(facts, rows)                   # None unless all rows that report are translated
found.tuned.bleu, found.compared.verdict          # 31.2, "better"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from whispertune.data.segments import Segment
from whispertune.evaluation.evaluate import Evaluation
from whispertune.publish.facts import RunFacts
from whispertune.score.translation import (
    TranslationComparison,
    TranslationScores,
    bleu_figures,
    compare_translations,
    score_translations,
)
from whispertune.score.wer import UtteranceScore

Speakers = Mapping[str, str | None]  # of rows by id, where they are at hand


@dataclass(frozen=True, slots=True)
class Translated:
    """The same rows, translated by both models."""

    base: TranslationScores
    tuned: TranslationScores
    tuned_fit: TranslationScores | None  # of clips cut to what is spoken, where the run decoded them so too
    compared: TranslationComparison | None  # on the rows that both decoded; None where there is none


def translated(facts: RunFacts, rows: Sequence[Segment] = ()) -> Translated | None:
    """None unless all rows that report are translated; `rows` say so, and who speaks, where they are at hand."""
    if {task for _, task in facts.reported(rows)} != {"translate"}:
        return None
    speakers = {each.id: each.speaker for each in rows}
    fit = facts.tuned_fit
    return Translated(
        base=_scores(facts.base, speakers),
        tuned=_scores(facts.tuned, speakers),
        tuned_fit=_scores(fit, speakers) if fit else None,
        compared=_compared(facts, speakers),
    )


def shared(facts: RunFacts) -> tuple[list[UtteranceScore], list[UtteranceScore]]:
    """What base and tuned wrote, of the rows that both decoded, in the same order."""
    theirs = {each.id: each for each in facts.tuned.utterances}
    base = [each for each in facts.base.utterances if each.id in theirs]
    return base, [theirs[each.id] for each in base]


def _scores(found: Evaluation, speakers: Speakers) -> TranslationScores:
    return score_translations(*_texts(found.utterances), [speakers.get(each.id) for each in found.utterances])


def _compared(facts: RunFacts, speakers: Speakers) -> TranslationComparison | None:
    base, tuned = shared(facts)
    if not base:
        return None
    first, second = (bleu_figures(*_texts(each)) for each in (base, tuned))
    return compare_translations(first, second, [speakers.get(each.id) for each in base])


def _texts(utterances: Sequence[UtteranceScore]) -> tuple[list[str], list[str]]:
    return [each.reference for each in utterances], [each.hypothesis for each in utterances]
