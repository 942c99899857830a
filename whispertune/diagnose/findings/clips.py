"""The two ways a run's texts are decoded: on 30 s, and on clips cut to what is spoken, which has to be learned.

in_each(predictions, rule)              # what a rule finds in either, as one finding that says in which
cut_clips_worse(predictions, recipe)    # the same weights, and far more errors on cut clips
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from whispertune.diagnose.advice import times_as_long
from whispertune.diagnose.finding import Change, Figure, Finding, Severity, sorted_findings
from whispertune.diagnose.predictions import CUT, WHOLE, Decoding, Predictions
from whispertune.recipe import Recipe
from whispertune.score.comparison import compare
from whispertune.score.wer import UtteranceScore

CUT_CLIPS: Final = "cut-clips-worse"
WORSE_FACTOR, WORSE_POINTS = 1.25, 1.0  # from which a run itself no longer trusts cut clips
MUCH_FACTOR, MUCH_POINTS = 2.0, 10.0
ON_WHOLE: Final = Change("", "decode with --context full", "on 30 s, where the same weights do better")


def in_each(predictions: Predictions, rule: Callable[[Decoding], Finding | None]) -> Finding | None:
    """One finding, with the figures of each decoding that shows it."""
    found = [(each, finding) for each in predictions.decodings if (finding := rule(each))]
    if not found:
        return None
    worst = sorted_findings(finding for _, finding in found)[0]
    seen = [figure for each, finding in found for figure in (Figure("decoded on", each.clips), *finding.seen)]
    changes = [change for _, finding in found for change in finding.change]
    means = worst.means
    if len(predictions.decodings) > len(found):
        other = WHOLE if found[0][0].clips == CUT else CUT
        means += f". This is so on {found[0][0].clips}, not on {other}"
        changes = [ON_WHOLE, *changes] if other == WHOLE else changes
    return replace(worst, seen=tuple(seen), means=means, change=tuple(dict.fromkeys(changes)))


def cut_clips_worse(predictions: Predictions, recipe: Recipe | None = None) -> Finding | None:
    """Rows that were decoded both ways, with far more errors where they were cut."""
    ids = {each.id for each in predictions.tuned} & {each.id for each in predictions.cut}
    if not ids:
        return None
    whole, cut = ([each for each in side if each.id in ids] for side in (predictions.tuned, predictions.cut))
    name = predictions.leading
    speakers = [predictions.speakers.get(each.id) for each in whole] if predictions.speakers else None
    found = compare(whole, cut, speakers=speakers, characters=name == "cer")
    if found.second_rate <= WORSE_FACTOR * found.first_rate + WORSE_POINTS:
        return None
    much = found.difference >= MUCH_POINTS and found.second_rate >= MUCH_FACTOR * found.first_rate
    severity: Severity = "high" if much else "medium"
    return Finding(
        key=CUT_CLIPS,
        severity=severity,
        seen=(
            Figure(f"{name.upper()} on {WHOLE}", round(found.first_rate, 2), "%"),
            Figure(f"{name.upper()} on {CUT}", round(found.second_rate, 2), "%"),
            Figure("rows", found.utterances),
            Figure("worst of them", ", ".join(_worst(whole, cut))),
        ),
        means="the same weights fail on clips cut to what is spoken: they have not learned, or not for long enough, "
        "that a clip may end where the speech does. Decoded on 30 s, as --context auto does with a model that failed "
        "so, none of this is seen; whoever cuts clips to be quicker gets these errors",
        change=for_cut_clips(recipe),
        sure="certain" if found.verdict == "worse" else "likely",
    )


def for_cut_clips(recipe: Recipe | None) -> tuple[Change, ...]:
    """What helps a model that fails on them."""
    return (
        ON_WHOLE,
        Change("windows.fit_share", "0.5", "so many of the steps train for cut clips", "at least"),
        times_as_long(recipe, 2, "the cut steps have to be enough as well"),
    )


def _worst(whole: Sequence[UtteranceScore], cut: Sequence[UtteranceScore]) -> list[str]:
    """The rows that lose the most."""
    before = {each.id: each.characters.errors for each in whole}
    lost = {each.id: each.characters.errors - before[each.id] for each in cut}
    return sorted((id_ for id_ in lost if lost[id_] > 0), key=lambda id_: -lost[id_])[:5]
