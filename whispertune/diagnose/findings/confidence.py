"""Family 1: dev loss rises while WER falls. The model grows too sure of itself, and hears better all the same.

finding = over_confidence(history, recipe)       # None where loss and WER agree
finding.change[1].key                            # "train.label_smoothing"

A run of ours keeps by generated text, whatever `checkpoints.best` says: there is no loss to keep by.
"""

from __future__ import annotations

from typing import Final

from whispertune.diagnose.advice import times_as_long
from whispertune.diagnose.finding import Change, Figure, Finding, Sure, number
from whispertune.diagnose.history import Evaluated, History, Metric
from whispertune.recipe import Recipe

LEAST_RISE: Final = 0.05  # of the loss, over its lowest
LEAST_FALL: Final = 0.01  # of the WER, under what it was where the loss was lowest
SOFTER: Final = "where the probabilities themselves are used"


def over_confidence(history: History, recipe: Recipe | None = None) -> Finding | None:
    """The loss of dev is lowest well before its WER is, and rises from there."""
    name = history.metric
    both = [(each, loss, rate) for each, loss in history.measured("loss") if (rate := each.rate(name)) is not None]
    if len(both) < 3:
        return None
    lowest, least_loss, rate_there = min(both, key=lambda each: each[1])
    best, loss_at_best, best_rate = min(both, key=lambda each: each[2])
    if best.step <= lowest.step or loss_at_best < (1 + LEAST_RISE) * least_loss:
        return None
    if best_rate > (1 - LEAST_FALL) * rate_there:
        return None
    sure, calibration = _calibration(lowest, best)
    return Finding(
        key="over-confident",
        severity="medium",
        seen=(
            Figure("step of the lowest dev loss", lowest.step),
            Figure("dev loss there", least_loss),
            Figure(f"{name.upper()} there", rate_there, "%"),
            Figure(f"step of the lowest {name.upper()}", best.step),
            Figure("dev loss there", loss_at_best),
            Figure(f"{name.upper()} there", best_rate, "%"),
            *calibration,
        ),
        means=(
            f"dev loss rises from {number(least_loss)} to {number(loss_at_best)} while {name.upper()} falls from "
            f"{number(rate_there)} to {number(best_rate)}: over-confidence, not harm. The few wrong tokens are "
            "wrong with more conviction, which the loss punishes and the text does not show. By loss, step "
            f"{lowest.step:,} would be kept; by {name.upper()}, step {best.step:,} is better"
        ),
        change=_changes(history, best.step, name),
        sure=sure,
        otherwise=(
            times_as_long(recipe, _part(history, lowest), f"{SOFTER}: there dev loss was lowest, at more errors"),
        ),
    )


def _changes(history: History, step: int, name: Metric) -> tuple[Change, ...]:
    if history.writer == "transformers":
        metric = f"{history.judged_set}_{name}" if history.judged_set else name
        why = f"it keeps step {step:,}; with load_best_model_at_end=True and greater_is_better=False"
        return Change("", f'metric_for_best_model="{metric}"', why), Change("", "label_smoothing_factor=0.1", SOFTER)
    why = f"it goes by generated text already, never by loss; {name.upper()} is lowest at step {step:,}"
    return Change("", "leave what is kept", why), Change("train.label_smoothing", "0.1", SOFTER, "at least")


def _part(history: History, until: Evaluated) -> float:
    """Of the run, that was done then."""
    return round(until.step / max(1, history.last_step), 2)


def _calibration(before: Evaluated, after: Evaluated) -> tuple[Sure, tuple[Figure, ...]]:
    """What was measured of it, at both steps; where it grew worse, nothing is left to doubt."""
    first, last = before.calibration_error, after.calibration_error
    if first is None or last is None:
        return "likely", ()
    figures = Figure("calibration error before", first, "%"), Figure("calibration error after", last, "%")
    return ("certain" if last > first else "possible"), figures
