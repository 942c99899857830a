"""Family 7: texts that are written otherwise than they are decoded, and rows that look wrong.

labels(predictions, dropped, rows, recipe)   # case, punctuation, numbers, code-switching, suspicious rows, many dropped
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Final

from whispertune.diagnose.advice import by_normalised, times_as_long
from whispertune.diagnose.finding import Change, Figure, Finding, Severity
from whispertune.diagnose.predictions import (
    Predictions,
    Split,
    has_capitals,
    has_digits,
    has_punctuation,
    scripts_in,
    spelling_share,
)
from whispertune.recipe import Recipe
from whispertune.score.wer import UtteranceScore

LEAST_ROWS: Final = 10
APART: Final = 0.5  # between the shares of references and of texts written
DIGITS_APART: Final = 0.2  # of the rows that have digits in either
LEAST_DIGITS: Final = 5  # rows
SPELLING: Final = 0.15  # of the errors
SWITCHED: Final = 0.05  # of the rows, in a script besides the usual one
LOWEST_MIXED: Final = 3  # rows
SWITCHED_FACTOR, SWITCHED_POINTS = 1.5, 5.0  # so much over the WER of the others
WRONG_CER: Final = 80.0  # per cent, of a row ...
RIGHT_CER: Final = 35.0  # ... among rows of which half are better than this
RIGHT_WORDS: Final = 0.2  # at most, of a row that is another text
MANY_DROPPED: Final = 0.05
ALIKE: Final = "writes all texts alike"


def labels(
    predictions: Predictions,
    dropped: Mapping[str, int] | None = None,
    rows: int | None = None,
    recipe: Recipe | None = None,
) -> list[Finding]:
    """What texts and counts show; `dropped` are rows by reason, besides the `rows` that were used."""
    tuned, split = predictions.texts, predictions.split
    lower, strip = Change("clean.case", '"lower"', ALIKE), Change("clean.punctuation", '"strip"', ALIKE)
    found = [
        spelled_otherwise(tuned, "case", has_capitals, lower, recipe, split),
        spelled_otherwise(tuned, "punctuation", has_punctuation, strip, recipe, split),
        numbers(tuned),
        code_switching(tuned),
        suspicious_rows(tuned),
        many_dropped(dropped or {}, rows),
    ]
    return [each for each in found if each is not None]


def spelled_otherwise(
    utterances: Sequence[UtteranceScore],
    what: str,
    has: Callable[[str], bool],
    change: Change,
    recipe: Recipe | None = None,
    split: Split = "dev",
) -> Finding | None:
    """References with (or without) it, texts written without (or with)."""
    if len(utterances) < LEAST_ROWS:
        return None
    said = _share(has(each.reference) for each in utterances)
    written = _share(has(each.hypothesis) for each in utterances)
    share = spelling_share(utterances)
    if abs(said - written) < APART or share < SPELLING:
        return None
    severity: Severity = "high" if share > APART else "medium"
    more = "written" if written > said else "in the references"
    return Finding(
        key=f"{what}-unlike",
        severity=severity,
        seen=(
            Figure(f"references with {_named(what)}", round(100 * said, 1), "%"),
            Figure(f"texts written with {_named(what)}", round(100 * written, 1), "%"),
            Figure("word errors that go with case and punctuation", round(100 * share, 1), "%"),
        ),
        means=f"{what} is {more} alone: the texts of train and of {split} are not written alike, or were trained "
        "too little for it",
        change=(change, by_normalised(recipe, "wer", "where it does not matter")),
        sure="likely",
        otherwise=(times_as_long(recipe, 1.5, "to write as the texts are written takes training"),),
    )


def _named(what: str) -> str:
    return "capitals" if what == "case" else what


def _share(values: Iterable[bool]) -> float:
    found = list(values)
    return sum(found) / max(1, len(found))


def numbers(utterances: Sequence[UtteranceScore]) -> Finding | None:
    """Digits on one side, words on the other."""
    either = [each for each in utterances if has_digits(each.reference) or has_digits(each.hypothesis)]
    said = [each for each in either if not has_digits(each.hypothesis)]
    written = [each for each in either if not has_digits(each.reference)]
    unlike = said if len(said) > len(written) else written
    if len(unlike) < LEAST_DIGITS or len(unlike) < DIGITS_APART * len(either):
        return None
    where = "references" if unlike is said else "texts written"
    return Finding(
        key="numbers-unlike",
        severity="low",
        seen=(
            Figure("rows with digits", len(either)),
            Figure(f"of them in the {where} alone", len(unlike)),
            Figure("such as", ", ".join(each.id for each in unlike[:5])),
        ),
        means="numbers are figures on one side and words on the other, which no normaliser but that of English makes "
        "equal",
        change=(
            Change("clean.replace", "numbers as they are to be written", "or mend the texts: one way in all of train"),
        ),
        sure="likely",
    )


def code_switching(utterances: Sequence[UtteranceScore]) -> Finding | None:
    """Rows with words in a second script, which go wrong more often than the others."""
    usual = Counter(script for each in utterances for script in scripts_in(each.reference)).most_common(1)
    if len(utterances) < LEAST_ROWS or not usual:
        return None
    kin = {"Han", "Hiragana", "Katakana"}  # one text in Japanese
    others = {True: kin, False: {usual[0][0]}}[usual[0][0] in kin]
    mixed = [each for each in utterances if scripts_in(each.reference) - others]
    plain = [each for each in utterances if not scripts_in(each.reference) - others]
    if not plain or len(mixed) < max(LOWEST_MIXED, SWITCHED * len(utterances)):
        return None
    of_mixed, of_plain = (_rate(part) for part in (mixed, plain))
    if of_mixed < max(SWITCHED_FACTOR * of_plain, of_plain + SWITCHED_POINTS):
        return None
    return Finding(
        key="code-switching",
        severity="low",
        seen=(
            Figure("rows in two scripts", len(mixed)),
            Figure("WER of them", round(of_mixed, 1), "%"),
            Figure("WER of the others", round(of_plain, 1), "%"),
        ),
        means="words of another language in its own script go wrong more often than the rest",
        change=(Change("data.train", "more rows with such words", "or one way to write them, with clean.replace"),),
        sure="likely",
    )


def _rate(utterances: Sequence[UtteranceScore]) -> float:
    errors = sum(each.words.errors for each in utterances)
    return 100.0 * errors / max(1, sum(each.words.reference_length for each in utterances))


def suspicious_rows(utterances: Sequence[UtteranceScore]) -> Finding | None:
    """Rows of which nothing is right, in a set of which most is."""
    if len(utterances) < LEAST_ROWS:
        return None
    middle = median(each.characters_normalized.rate for each in utterances)
    wrong = [each for each in utterances if each.characters_normalized.rate >= WRONG_CER and _is_other_text(each)]
    if middle > RIGHT_CER or len(wrong) < 2:
        return None
    return Finding(
        key="suspicious-rows",
        severity="medium" if len(wrong) > MANY_DROPPED * len(utterances) else "low",
        seen=(
            Figure("rows with a CER of 80 % and more", len(wrong)),
            Figure("CER of the row in the middle", round(middle, 1), "%"),
            Figure("such as", ", ".join(each.id for each in wrong[:5])),
        ),
        means="nothing of these rows is right while most of the others is: their text may be of another recording",
        change=(Change("", "listen to them; inspect ranks the suspects of train", "and mend or drop them"),),
        sure="possible",
    )


def _is_other_text(each: UtteranceScore) -> bool:
    """Hardly a word of it is there; what has its words and more is a matter of decoding."""
    words = each.words_normalized
    return bool(each.reference and each.hypothesis) and words.hits <= RIGHT_WORDS * words.reference_length


def many_dropped(dropped: Mapping[str, int], rows: int | None) -> Finding | None:
    """Rows that could not be used."""
    total = sum(dropped.values())
    if not rows or total < MANY_DROPPED * rows:
        return None
    reasons = sorted(dropped.items(), key=lambda each: -each[1])[:4]
    return Finding(
        key="many-dropped",
        severity="medium",
        seen=(
            Figure("rows dropped", total),
            Figure("rows used", rows),
            *(Figure(reason, count, "rows") for reason, count in reasons),
        ),
        means="many rows were not used: dropped.jsonl says which and why",
        change=(Change("clean", "the key of the reason", "or mend the rows"),),
        sure="certain",
    )
