"""Family 5: what is written that nobody said, what is left out of long audio, and timestamps that are lost.

outputs(predictions, recipe)     # hallucinations, deletions-on-long, cut-off, cut-clips-worse, timestamps-lost
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Final, Literal

from whispertune.diagnose.advice import halved
from whispertune.diagnose.finding import Change, Figure, Finding
from whispertune.diagnose.findings.clips import cut_clips_worse, in_each
from whispertune.diagnose.predictions import CUT, Decoding, Predictions, Signs, signs
from whispertune.recipe import Recipe
from whispertune.score.wer import Counts, UtteranceScore

LOOPING_SHARE: Final = 0.01  # of the utterances
LOOPING_ROWS: Final = 2
LOOPING_ERRORS: Final = 0.25  # of all errors: so many in rows that loop are worth a word, be it a single row ...
LOOPING_POINTS: Final = 1.0  # ... where they are so much of the rate
LEAST_ROWS: Final = 20  # of which quarters are compared
LONG_FACTOR, LONG_POINTS = 2.0, 8.0  # deletions of the longest quarter over those of the rest
CUT_ROWS: Final = 2
CUT_WORDS: Final = 5  # missing at the end, and a quarter of the text
CUT_SHARE: Final = 0.03
MADE_UP: Final = ("loops", "bursts", "on_silence")


def outputs(predictions: Predictions, recipe: Recipe | None = None) -> list[Finding]:
    """What the texts of the tuned model show, on 30 s and on cut clips."""
    found = [
        hallucinations(predictions),
        deletions_on_long(predictions, recipe),
        cut_off(predictions),
        cut_clips_worse(predictions, recipe),
        timestamps_lost(recipe),
    ]
    return [each for each in found if each is not None]


def hallucinations(predictions: Predictions) -> Finding | None:
    """Texts that repeat themselves or go on: several rows, or one that makes many of the errors."""
    return in_each(predictions, partial(_hallucinations, metric=predictions.leading))


def _hallucinations(decoding: Decoding, *, metric: Literal["wer", "cer"]) -> Finding | None:
    tuned, base = signs(decoding.utterances), signs(decoding.base)
    rows = round(tuned.rows * max(tuned.loops, tuned.bursts, tuned.on_silence))
    share, points = _weight(decoding.utterances, tuned.ids["loops"], metric)
    are_many = rows >= LOOPING_ROWS and rows >= LOOPING_SHARE * tuned.rows
    if not are_many and not (share >= LOOPING_ERRORS and points >= LOOPING_POINTS):
        return None
    worse = _made_up(tuned) > _made_up(base)
    ids = tuple(dict.fromkeys(id_ for kind in MADE_UP for id_ in tuned.ids[kind][:5]))[:5]
    before = Figure("loops of base", round(100 * base.loops, 1), "% of the utterances")
    return Finding(
        key="hallucinations",
        severity="high" if worse or not base.rows else "medium",
        seen=(
            Figure("loops", round(100 * tuned.loops, 1), "% of the utterances"),
            Figure("errors in them", round(100 * share, 1), f"% of all, {points:.1f} points of the {metric.upper()}"),
            Figure("bursts of insertions", round(100 * tuned.bursts, 1), "% of the utterances"),
            *([Figure("text on silence", round(100 * tuned.on_silence, 1), "%")] if tuned.on_silence else []),
            *([before] if base.rows else []),
            Figure("insertions", round(_insertions(decoding.utterances), 1), "% of the words"),
            Figure("such as", ", ".join(ids)),
        ),
        means="phrases repeat themselves, or far more is written than was said"
        + ("; base does so less" if base.rows and worse else "; base does so as well" if base.rows else ""),
        change=_against_loops(decoding.clips),
        sure="certain",
    )


def _against_loops(clips: str) -> tuple[Change, ...]:
    cut = Change("windows.fit_share", "0.5", "a model that was trained on 30 s alone loops on less", "at least")
    return (
        Change("train.learning_rate", "half of it", "a decoder that was pushed too far repeats itself"),
        *([cut] if clips == CUT else []),
        Change("windows.timestamps_share", "0.5", "windows that are packed teach where a text ends", "at least"),
        Change("", "listen to the rows named", "silence, music, or a text that is longer than its audio"),
    )


def _made_up(found: Signs) -> float:
    return found.loops + found.bursts + found.on_silence


def _weight(
    utterances: Sequence[UtteranceScore], ids: Collection[str], metric: Literal["wer", "cer"]
) -> tuple[float, float]:
    """What rows make of all errors, 0 to 1, and in points of the rate."""
    counts = {each.id: each.characters if metric == "cer" else each.words for each in utterances}
    total = sum(counts.values(), Counts())
    errors = sum(counts[id_].errors for id_ in ids)
    return errors / max(1, total.errors), total.per_cent(errors)


def _insertions(utterances: Sequence[UtteranceScore]) -> float:
    words = sum((each.words for each in utterances), Counts())
    return words.per_cent(words.insertions)


def deletions_on_long(predictions: Predictions, recipe: Recipe | None = None) -> Finding | None:
    """The longest quarter of the rows loses more of its words; long by the audio, or where unknown by the text."""
    return in_each(predictions, lambda decoding: _deletions_on_long(decoding, predictions, recipe))


def _deletions_on_long(decoding: Decoding, predictions: Predictions, recipe: Recipe | None) -> Finding | None:
    rows = [each for each in decoding.utterances if each.reference]
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
    packed = () if decoding.clips == CUT else (halved(recipe, "windows.fit_share", "packed windows teach long texts"),)
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
            *packed,
            Change("data.train", "longer rows, or whole recordings with captions", "as long as what is decoded"),
        ),
        sure="likely",
        otherwise=(Change("", "look whether the texts of long rows in train are whole", "what they skip is skipped"),),
    )


def _deleted(rows: Sequence[UtteranceScore]) -> float:
    words = sum((each.words for each in rows), Counts())
    return words.per_cent(words.deletions)


def cut_off(predictions: Predictions) -> Finding | None:
    """Texts that end early: the last words are missing, one after the other."""
    return in_each(predictions, _cut_off)


def _cut_off(decoding: Decoding) -> Finding | None:
    cut = [each for each in decoding.utterances if _ends_early(each)]
    if len(cut) < CUT_ROWS or len(cut) < CUT_SHARE * len(decoding.utterances):
        return None
    share = 100 * len(cut) / len(decoding.utterances)
    return Finding(
        key="cut-off",
        severity="medium",
        seen=(
            Figure("utterances that end early", round(share, 1), "%"),
            Figure("such as", ", ".join(each.id for each in cut[:5])),
        ),
        means="the end of the text is missing: the end token comes early, or the length limit is reached",
        change=(
            Change("windows.max_tokens", "220", "rows of train with longer texts are left out", "at least"),
            Change("", "look whether the texts of train are whole", "captions that skip speech teach to skip it"),
        ),
        sure="likely",
        otherwise=(
            Change("", "listen to how the rows named end", "audio that stops before its text leaves it unheard"),
        ),
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
