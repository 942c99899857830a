"""The learning rate, found by a range test (Smith, 2015): a few dozen steps at rates that rise, and what they do.

    found = find_rate(load_recipe(path), reporter=screen)
    found.suggestion.rate, found.suggestion.sure

The steps are those of the recipe, from its data, with its method and optimizer. Nothing is kept of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from whispertune.data.audio import AudioReader
from whispertune.data.keyed import keyed_rng
from whispertune.errors import InputError, TrainingError
from whispertune.recipe import Recipe
from whispertune.reporting import Reporter
from whispertune.train.across.ranks import open_ranks
from whispertune.train.feeding.feed import Feed
from whispertune.train.setup import make_stepper, open_model, plan_run, read_data
from whispertune.train.step import Drawn, Gradients, draw

BELOW, ABOVE = 30.0, 100.0  # the range, about the default rate
LEAST_STEPS = 10
DIVERGED = 4.0  # times the best smoothed loss
TRAILING = 0.7  # share of the past in the smoothed loss that says so
KERNEL_STEPS = 3.0  # standard deviation of the kernel that smooths the curve
RESAMPLED = 400
LEAST_FALL = 2.0  # standard deviations of the noise; less is no learning
CLEAR = 3.0  # times; where the noise moves the suggestion further, it is a rough one

Array = NDArray[np.float64]
Sureness = Literal["clear", "rough", "none"]


class Steps(Protocol):
    """What a range test needs of a model in training: a Stepper has it."""

    def gradients(self, drawn: Drawn, index: int) -> Gradients:
        """Of a step, ready for one update, and the mean loss of its target tokens."""

    def update(self, rate: float) -> None:
        """One step of the optimizer with this learning rate."""

    def skip(self) -> None:
        """Drop the gradients; weights and the optimizer's state stay as they are."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A peak learning rate, and how sure it is."""

    rate: float
    sure: Sureness
    low: float  # 80 % of the suggestions lie between, where the noise is drawn anew
    high: float
    steepest: float | None  # the rate at which the loss falls fastest; None where it does not fall
    lowest: float | None  # the rate at which it is lowest; None where it still falls at the end
    why: str


@dataclass(frozen=True, slots=True)
class RangeTest:
    """Steps at rising rates, and what they say."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]  # of each step, before its update
    smoothed: tuple[float, ...]
    suggestion: Suggestion
    default: float  # what the recipe takes as it is
    stopped: str | None = None  # why it ended early

    def as_json(self) -> dict[str, Any]:
        """The figures under the names that `find-lr --json` promises."""
        return asdict(self)


def find_rate(
    recipe: Recipe,
    *,
    steps: int = 60,
    lowest: float | None = None,
    highest: float | None = None,
    reporter: Reporter | None = None,
) -> RangeTest:
    """The range test of a recipe, about the rate that it would take, or from `lowest` to `highest`.

    Raises:
        InputError: the recipe, its data or its model cannot be used.
        TrainingError: too few steps could be taken to tell anything.
    """
    tell = reporter or Reporter()
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"steps": steps, "hours": None})})
    with AudioReader() as reader, open_ranks(recipe.train.precision) as ranks:
        if ranks.count > 1:
            raise InputError("a range test runs in one process", fix="start it without torchrun")
        data = read_data(recipe, reader, ranks, tell)
        model = open_model(recipe, data, ranks)
        rates = _rising(lowest or model.peak / BELOW, highest or model.peak * ABOVE, steps)
        plan, augment = plan_run(recipe, data, model, ranks, tell), data.augment if data.augment.active else None
        stepper = make_stepper(recipe, data, model, ranks.wrap(model.module), None, tell.say)
        watch, language_loss = partial(tell.working, "range test"), recipe.train.language_loss
        with Feed(plan, reader, data.folder.vocabulary, language_loss=language_loss, augment=augment) as feed:
            return range_test(lambda index: draw(feed, ranks, index), stepper, rates, model.peak, watch)


def _rising(lowest: float, highest: float, steps: int) -> list[float]:
    """Rates from the lowest to the highest, by one factor."""
    if highest <= lowest:
        raise InputError(f"the highest rate, {highest:.1e}, is not above the lowest, {lowest:.1e}")
    return [float(rate) for rate in np.geomspace(lowest, highest, steps)]


def range_test(
    draw: Callable[[int], Drawn],
    stepper: Steps,
    rates: Sequence[float],
    default: float,
    progress: Callable[[int, int], None],
) -> RangeTest:
    """A step at each rate; ends early where the loss is no number, or four times the best there was.

    Steps that say nothing are left out: those without a row that can be read, and those whose float16 gradients
    overflowed, which halves their scale.

    Raises:
        TrainingError: it ended before anything could be told.
    """
    taken: list[float] = []  # rates, a loss for each
    losses: list[float] = []
    trailing, best, stopped = 0.0, math.inf, None
    for index, rate in enumerate(rates):
        drawn = draw(index)
        gradients = stepper.gradients(drawn, index)
        progress(index + 1, len(rates))
        if gradients.overflowed or not drawn.target_tokens:
            stepper.skip()
            continue
        if not gradients.finite:
            stopped = f"at {rate:.1e} the loss was no number any more"
            break
        taken.append(rate)
        losses.append(gradients.loss)
        trailing = TRAILING * trailing + (1 - TRAILING) * gradients.loss
        now = trailing / (1 - TRAILING ** len(losses))
        best = min(best, now)
        if now > DIVERGED * best:
            stopped = f"at {rate:.1e} the loss was {now / best:.1f} times the best"
            break
        stepper.update(rate)
    if len(losses) < LEAST_STEPS:
        fix = "begin lower: --lowest" if stopped else f"--steps {LEAST_STEPS} or more"
        raise TrainingError(f"{len(losses)} steps say nothing ({stopped or 'there were no more'})", fix=fix)
    smoothed, _ = _smooth(np.array(losses))
    suggestion = suggest(np.array(taken), np.array(losses), default)
    return RangeTest(tuple(taken), tuple(losses), tuple(smoothed.tolist()), suggestion, default, stopped)


def suggest(rates: Array, losses: Array, default: float) -> Suggestion:
    """Between the rate where the loss falls fastest and the one where it falls no more, in the middle of their ratio.

    Below the first, steps are wasted; from the second on each does harm. A peak that is warmed up to and left again
    at once can lie above the first. How much of that is noise is told by drawing the noise anew: each step's distance
    from the smooth curve, with a random sign.
    """
    smoothed, slopes = _smooth(losses)
    noise = losses - smoothed
    steepest, lowest = _corners(smoothed, slopes)
    usual = 1.4826 * float(np.median(np.abs(noise)))  # its standard deviation, whatever it does where it diverges
    if smoothed[0] - smoothed[lowest] <= LEAST_FALL * usual:
        why = "The loss did not fall by more than it varies from step to step: nothing speaks against the default."
        return Suggestion(default, "none", default, default, None, None, why)
    signs = keyed_rng(0, "find-lr").choice([-1.0, 1.0], (RESAMPLED, len(losses)))
    others = [_between(rates, *_corners(*_smooth(smoothed + noise * row))) for row in signs]
    rate, ended = _between(rates, steepest, lowest), lowest == len(rates) - 1
    low, high = min(rate, float(np.quantile(others, 0.1))), max(rate, float(np.quantile(others, 0.9)))
    sure: Sureness = "clear" if high / low <= CLEAR and not ended else "rough"
    why = f"The loss falls fastest at {rates[steepest]:.1e}, " + (
        "and still falls at the highest rate: go on with --highest."
        if ended
        else f"and is lowest at {rates[lowest]:.1e}; the peak lies between."
    )
    at_lowest = None if ended else float(rates[lowest])
    return Suggestion(rate, sure, low, high, float(rates[steepest]), at_lowest, why)


def _between(rates: Array, steepest: int, lowest: int) -> float:
    return math.sqrt(float(rates[steepest]) * float(rates[lowest]))


def _corners(smoothed: Array, slopes: Array) -> tuple[int, int]:
    """Where the loss falls fastest on the way to where it is lowest, and that place."""
    lowest = int(smoothed.argmin())
    return int(slopes[: lowest + 1].argmin()), lowest


def _smooth(losses: Array) -> tuple[Array, Array]:
    """At each step the value and slope of the line through its neighbours, the near ones counting most."""
    at = np.arange(len(losses))
    off = at[None] - at[:, None]
    weights = np.exp(-0.5 * (off / KERNEL_STEPS) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)  # (steps, steps)
    mean, square = (weights * off).sum(axis=1), (weights * off**2).sum(axis=1)
    value, product = weights @ losses, (weights * off) @ losses
    slope = (product - mean * value) / (square - mean**2)
    return value - slope * mean, slope
