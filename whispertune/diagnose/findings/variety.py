"""Family 4: too little variety, and figures that say less than they seem to.

variety(history, predictions, facts, recipe)    # few-speakers, known-speakers, leakage, dev-too-small

Final figures are of test where the recipe has one, else of dev; findings name the split that was read. The key
dev-too-small stands for both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from whispertune.diagnose.finding import SEVERITIES, Change, Figure, Finding, Severity
from whispertune.diagnose.history import History
from whispertune.diagnose.predictions import Predictions, Split
from whispertune.recipe import Recipe
from whispertune.score.comparison import compare

FEW_SPEAKERS: Final = 5
LEAKED_SHARE: Final = 0.02  # of the rows that were decoded


@dataclass(frozen=True, slots=True)
class DevOverlap:
    """Texts that dev shares where test was decoded; None where the rows are not known."""

    rows: int  # of dev
    in_train: int | None = None  # rows of dev whose text is in train too
    of_test: int | None = None  # rows of test whose text is in dev too


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the rows of train and of the split that was decoded; None where it is not."""

    train_rows: int | None = None
    decoded_rows: int | None = None
    train_speakers: frozenset[str] | None = None  # None unless every row names one
    decoded_speakers: frozenset[str] | None = None
    shared_texts: int | None = None  # rows that were decoded whose text, of some length, is in train too
    split: Split = "dev"  # that was decoded
    dev: DevOverlap | None = None


def variety(
    history: History | None, predictions: Predictions, facts: Facts, recipe: Recipe | None = None
) -> list[Finding]:
    """What is said of the data's breadth, and of claims that it does not carry."""
    found = [few_speakers(facts), known_speakers(facts), leakage(facts, recipe)]
    found.append(dev_too_small(predictions, facts.split) or best_by_luck(history, recipe))
    return [each for each in found if each is not None]


def few_speakers(facts: Facts) -> Finding | None:
    speakers = facts.train_speakers
    if not speakers or len(speakers) >= FEW_SPEAKERS:
        return None
    return Finding(
        key="few-speakers",
        severity="medium",
        seen=(Figure("speakers in train", len(speakers)), Figure("rows in train", facts.train_rows or 0)),
        means="train has so few voices that the model may learn them instead of the language",
        change=(
            Change("data.train", "rows of other speakers", "even a few minutes of each help"),
            Change("augment.pitch_semitones", "2.0", "and augment.speed, which make voices differ", "at least"),
        ),
        sure="likely",
    )


def known_speakers(facts: Facts) -> Finding | None:
    if not facts.train_speakers or not facts.decoded_speakers:
        return None
    shared = facts.train_speakers & facts.decoded_speakers
    if shared != facts.decoded_speakers:
        return None
    split = facts.split
    others = "speakers who are in no other split"
    rows = f"rows of {others}" if split == "dev" else f"other rows, of {others}"
    return Finding(
        key="known-speakers",
        severity="low",
        seen=(Figure(f"speakers in {split}", len(facts.decoded_speakers)), Figure("of them in train too", len(shared))),
        means=f"every speaker of {split} is in train: the figures are those of known voices, and say little of others",
        change=(Change("data.test", rows, "they say what others can expect"),),
        sure="certain",
    )


@dataclass(frozen=True, slots=True)
class _Pair:
    """Rows of a split whose text is in another one too."""

    split: Split
    other: Literal["train", "dev"]  # where clean.leakage = "drop" takes them out
    shared: int | None
    rows: int | None  # of the split
    severity: Severity
    means: str

    @property
    def leaks(self) -> bool:
        return bool(self.shared and self.rows and self.shared >= LEAKED_SHARE * self.rows)

    @property
    def figures(self) -> tuple[Figure, ...]:
        shared = Figure(f"rows of {self.split} whose text is in {self.other}", self.shared or 0)
        return shared, Figure(f"rows of {self.split}", self.rows or 0)


def leakage(facts: Facts, recipe: Recipe | None) -> Finding | None:
    """The same texts in two splits, where the recipe allows that: else the run dropped them, or would have ended."""
    leaks = [each for each in _pairs(facts) if each.leaks]
    if not leaks or (recipe is not None and recipe.clean.leakage != "allow"):
        return None
    others = " and ".join(dict.fromkeys(each.other for each in leaks))
    return Finding(
        key="leakage",
        severity=min((each.severity for each in leaks), key=SEVERITIES.index),
        seen=tuple(dict.fromkeys(figure for each in leaks for figure in each.figures)),
        means="; ".join(each.means for each in leaks),
        change=(Change("clean.leakage", '"drop"', f"takes such rows out of {others}"),),
        sure="certain",
    )


def _pairs(facts: Facts) -> tuple[_Pair, ...]:
    """Each two splits that may share texts, those of the final figures first."""
    split, dev = facts.split, facts.dev
    told = f"{split} asks for texts that were trained on: the figures are too good"
    final = _Pair(split, "train", facts.shared_texts, facts.decoded_rows, "high", told)
    if dev is None:
        return (final,)
    chosen = "rows of test chose the checkpoint too: its figures flatter"
    by_heart = "dev chose the checkpoint by texts that were trained on: what was learned by heart looks best there"
    return (
        final,
        _Pair("test", "dev", dev.of_test, facts.decoded_rows, "high", chosen),
        _Pair("dev", "train", dev.in_train, dev.rows, "medium", by_heart),
    )


def dev_too_small(predictions: Predictions, split: Split = "dev") -> Finding | None:
    """Tuned better than base by a difference that the rows do not show."""
    ids = {each.id for each in predictions.base} & {each.id for each in predictions.tuned}
    if len(ids) < 2:
        return None
    base = [each for each in predictions.base if each.id in ids]
    tuned = [each for each in predictions.tuned if each.id in ids]
    speakers = [predictions.speakers.get(each.id) for each in base] if predictions.speakers else None
    found = compare(base, tuned, speakers=speakers, characters=predictions.leading == "cer")
    if found.verdict != "no difference shown" or found.difference >= 0:
        return None
    low, high = found.interval
    return Finding(
        key="dev-too-small",
        severity="medium",
        seen=(
            Figure(f"rows of {split}", found.utterances),
            Figure("difference to base", round(found.difference, 2), "points"),
            Figure("95 % interval", f"{low:+.1f} to {high:+.1f}", "points"),
            Figure("p", round(found.test.p_value, 3)),
        ),
        means="the tuned model has fewer errors than base, and it may be luck: these rows show no difference",
        change=(Change(f"data.{split}", "more rows", "an interval half as wide takes four times as many"),),
        sure="certain",
    )


def _more_rows(rows: int | None, recipe: Recipe | None) -> Change:
    """Of dev, where all of it was decoded already, or of what is decoded while training."""
    asked = (recipe.evaluation.subset if recipe else None) or rows
    if rows and asked and rows < asked:
        return Change("data.dev", "four times as many rows", "halves the interval; all of dev was decoded")
    why = "halves the interval; evaluations then take longer, which evaluation.share bounds where no subset is given"
    return Change("evaluation.subset", f"{4 * asked}" if asked else "four times as many", why)


def best_by_luck(history: History | None, recipe: Recipe | None) -> Finding | None:
    """Evaluations that differ by less than their interval: the best of them is not known to be so."""
    if history is None:
        return None
    name = history.metric
    found = [(rate, each.interval_of(name), each.rows) for each, rate in history.measured(name)]
    found = [each for each in found if each[1]]
    if len(found) < 2:
        return None
    (least, interval, rows), most = min(found, key=lambda each: each[0]), max(rate for rate, *_ in found)
    assert interval is not None
    half = (interval[1] - interval[0]) / 2
    if most - least >= half or most == least:
        return None
    return Finding(
        key="dev-too-small",
        severity="low",
        seen=(
            Figure(f"{name.upper()} from", round(least, 2), "%"),
            Figure("to", round(most, 2), "% over the run"),
            Figure("half of the 95 % interval", round(half, 2), "points"),
            *([Figure("rows of dev", rows)] if rows else []),
        ),
        means="all evaluations lie within the interval of the best: which weights are best is not known",
        change=(_more_rows(rows, recipe),),
        sure="possible",
    )
