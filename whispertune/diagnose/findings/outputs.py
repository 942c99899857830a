"""Family 5: what is written that nobody said, what is left out of long audio, and timestamps that are lost.

outputs(predictions, recipe)     # hallucinations, deletions-on-long, cut-off, timestamps-lost
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from whispertune.diagnose.finding import Change, Figure, Finding
from whispertune.diagnose.predictions import Predictions, signs
from whispertune.recipe import Recipe
from whispertune.score.wer import Counts, UtteranceScore

LOOPING_SHARE: Final = 0.01  # of the utterances
LOOPING_ROWS: Final = 2
LEAST_ROWS: Final = 20  # of which quarters are compared
LONG_FACTOR, LONG_POINTS = 2.0, 8.0  # deletions of the longest quarter over those of the rest
CUT_WORDS: Final = 5  # missing at the end, and a quarter of the text
CUT_SHARE: Final = 0.03


def outputs(predictions: Predictions, recipe: Recipe | None = None) -> list[Finding]:
    """What the texts of the tuned model show."""
    found = [hallucinations(predictions), deletions_on_long(predictions), cut_off(predictions), timestamps_lost(recipe)]
    return [each for each in found if each is not None]


def hallucinations(predictions: Predictions) -> Finding | None:
    tuned, base = signs(predictions.tuned), signs(predictions.base)
    rows = round(tuned.rows * max(tuned.loops, tuned.bursts, tuned.on_silence))
    if rows < LOOPING_ROWS or rows < LOOPING_SHARE * tuned.rows:
        return None
    worse = tuned.loops + tuned.bursts + tuned.on_silence > base.loops + base.bursts + base.on_silence
    ids = tuple(dict.fromkeys(id_ for kind in ("loops", "bursts", "on_silence") for id_ in tuned.examples[kind]))[:5]
    before = Figure("loops of base", round(100 * base.loops, 1), "% of the utterances")
    return Finding(
        key="hallucinations",
        severity="high" if worse or not base.rows else "medium",
        seen=(
            Figure("loops", round(100 * tuned.loops, 1), "% of the utterances"),
            Figure("bursts of insertions", round(100 * tuned.bursts, 1), "% of the utterances"),
            *([Figure("text on silence", round(100 * tuned.on_silence, 1), "%")] if tuned.on_silence else []),
            *([before] if base.rows else []),
            Figure("insertions", round(_insertions(predictions.tuned), 1), "% of the words"),
            Figure("such as", ", ".join(ids)),
        ),
        means="phrases repeat themselves, or far more is written than was said"
        + ("; base does so less" if base.rows and worse else "; base does so as well" if base.rows else ""),
        change=(
            Change("train.learning_rate", "half of it", "a decoder that was pushed too far repeats itself"),
            Change("windows.timestamps_share", "0.5", "windows that are packed teach where a text ends"),
            Change("", "listen to the rows named", "silence, music, or a text that is longer than its audio"),
        ),
        sure="certain",
    )


def _insertions(utterances: Sequence[UtteranceScore]) -> float:
    words = sum((each.words for each in utterances), Counts())
    return words.per_cent(words.insertions)


def deletions_on_long(predictions: Predictions) -> Finding | None:
    """The longest quarter of the rows loses more of its words; long by the audio, or where unknown by the text."""
    rows = [each for each in predictions.tuned if each.reference]
    if len(rows) < LEAST_ROWS:
        return None
    known = all(each.id in predictions.durations_s for each in rows)

    def length(each: UtteranceScore) -> float:
        return predictions.durations_s[each.id] if known else float(len(each.reference))

    rows = sorted(rows, key=length)
    cut = len(rows) - len(rows) // 4
    rest, longest = (_deleted(part) for part in (rows[:cut], rows[cut:]))
    if longest < max(LONG_FACTOR * rest, rest + LONG_POINTS):
        return None
    unit = "s" if known else "characters of text"
    return Finding(
        key="deletions-on-long",
        severity="medium",
        seen=(
            Figure("deletions in the longest quarter", round(longest, 1), "% of the words"),
            Figure("in the others", round(rest, 1), "%"),
            Figure("the longest quarter begins at", round(length(rows[cut]), 1), unit),
        ),
        means="long utterances lose their words: the model ends before they do, as after training on short ones alone",
        change=(
            Change("windows.fit_share", "lower", "packed windows teach long texts"),
            Change("data.train", "longer rows, or whole recordings with captions", "as long as what is decoded"),
        ),
        sure="likely",
    )


def _deleted(rows: Sequence[UtteranceScore]) -> float:
    words = sum((each.words for each in rows), Counts())
    return words.per_cent(words.deletions)


def cut_off(predictions: Predictions) -> Finding | None:
    """Texts that end early: the last words are missing, one after the other."""
    cut = [each for each in predictions.tuned if _ends_early(each)]
    if len(cut) < LOOPING_ROWS or len(cut) < CUT_SHARE * len(predictions.tuned):
        return None
    share = 100 * len(cut) / len(predictions.tuned)
    return Finding(
        key="cut-off",
        severity="medium",
        seen=(
            Figure("utterances that end early", round(share, 1), "%"),
            Figure("such as", ", ".join(each.id for each in cut[:5])),
        ),
        means="the end of the text is missing: the end token comes early, or the length limit is reached",
        change=(
            Change("windows.max_tokens", "220", "labels that are cut teach to stop"),
            Change("", "look whether the texts of train are whole", "captions that skip speech teach to skip it"),
        ),
        sure="likely",
    )


def _ends_early(each: UtteranceScore) -> bool:
    last = each.alignment[-1] if each.alignment else None
    if last is None or last.kind != "D" or not each.hypothesis:
        return False
    return len(last.reference) >= max(CUT_WORDS, each.words.reference_length // 4)


def timestamps_lost(recipe: Recipe | None) -> Finding | None:
    if recipe is None or recipe.windows.timestamps_share > 0:
        return None
    return Finding(
        key="timestamps-lost",
        severity="medium",
        seen=(Figure("windows trained with timestamps", 0, "%"),),
        means="no window was trained with timestamps: the model forgets them, and long recordings are cut in the wrong "
        "places, for decoders go on from the last timestamp",
        change=(Change("windows.timestamps_share", "0.5", "half of the windows keep them"),),
        sure="likely",
    )
