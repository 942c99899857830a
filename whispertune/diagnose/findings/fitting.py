"""Family 3: too long or too short a training, and a learning rate that is too high, too low or there too soon.

    fitting(history, recipe)       # findings: over-fitting, under-trained, rate-too-high, rate-too-low, warm-up-short

Losses are compared as logarithms, by medians, with their scatter as the measure; the bounds are those of
`train/watching/observations.py`, which says the same while a run goes on.
"""

from __future__ import annotations

import math
from itertools import accumulate
from statistics import median
from typing import Final

from whispertune.diagnose.advice import times_as_long
from whispertune.diagnose.finding import Change, Figure, Finding
from whispertune.diagnose.history import Evaluated, History
from whispertune.recipe import Recipe, Train
from whispertune.train.learning.schedule import default_learning_rate
from whispertune.train.watching.observations import (
    DEV_OVER_BEST,
    JUMPY,
    RECENT,
    RISEN,
    RISEN_SCATTERS,
    SCATTER_STEPS,
)

OVER_BEST_SHARE: Final = 0.03  # of the best rate, besides the points
LOSS_RISE: Final = 0.05  # of dev loss
STILL_FALLING: Final = 0.02  # of the rate, from the last evaluation but one to the last
FAR_FALLING: Final = 0.05  # the same, where train loss is level
STILL_POINTS: Final = 0.5
LEVEL_LOSS: Final = 0.98  # of train loss in the part before: higher is level
MEDIAN_ERROR, ERRORS = 1.25, 2.0  # standard error of a median, by that of a mean; so many are no chance
SKIPPED, SKIPPED_SHARE = 5, 0.02  # steps of a run, be they apart
RATE_TOO_LOW: Final = 0.2  # of the default
SHORT_WARMUP: Final = 0.05  # of the run
HUMP_POINTS: Final = 5  # logged, whose median is a height
HUMP_SCATTERS: Final = 3.5  # such medians scatter more than those of twenty
WIDTHS: Final = {"tiny": 384, "base": 512, "small": 768, "medium": 1024, "large": 1280, "turbo": 1280}

RISES, JUMPS = "the loss rises", "the loss jumps about"
LISTEN: Final = Change("", "look at the segments named in skipped.jsonl", "broken audio has no finite loss at any rate")

Judged = list[tuple[Evaluated, float]]


def fitting(history: History, recipe: Recipe | None = None) -> list[Finding]:
    """What the curves show of the length of a run and its learning rate."""
    found = [
        over_fitting(history, recipe),
        under_trained(history, recipe),
        rate_too_high(history, recipe),
        rate_too_low(history, recipe),
        warm_up_short(history),
    ]
    return [each for each in found if each is not None]


def over_fitting(history: History, recipe: Recipe | None = None) -> Finding | None:
    """Dev becomes worse and stays so, while train falls on; where dev loss is known it has to rise as well."""
    rates = history.measured(history.metric)
    if len(rates) < 3:
        return None
    best, least = min(rates, key=lambda each: each[1])
    since = [rate for each, rate in rates if each.step > best.step]
    bound = least + max(DEV_OVER_BEST, OVER_BEST_SHARE * least)
    losses = [loss for _, loss in history.measured("loss")]
    rises = len(losses) >= 3 and losses[-1] > (1 + LOSS_RISE) * min(losses)
    if not since or any(rate < bound for rate in since[-2:]) or (len(since) < 2 and not rises):
        return None
    done = best.step / max(1, history.last_step)
    there, end = history.height(max(0.0, done - 0.2), done), history.height(0.8, 1.0)
    falls = there is not None and end is not None and end < 0.9 * there
    if (losses and not rises) or not (rises or falls):
        return None
    seen = [
        Figure(f"lowest {history.metric.upper()}", least, "%"),
        Figure("at step", best.step),
        Figure(f"last {history.metric.upper()}", since[-1], "%"),
        *([Figure("dev loss, lowest", min(losses)), Figure("dev loss, last", losses[-1])] if rises else []),
        *([Figure("train loss there", there), Figure("train loss at the end", end)] if there and end else []),
    ]
    return Finding(
        key="over-fitting",
        severity="high",
        seen=tuple(seen),
        means="dev becomes worse while train goes on falling: the training rows are learned by heart. What was best is "
        "kept, and the rest of the run was for nothing",
        change=(
            times_as_long(recipe, _shorter(done), "about where dev was best"),
            Change("train.label_smoothing", "0.1", "and augment.*, which makes the rows differ each time", "at least"),
            Change("data.train", "more rows", "helps most"),
        ),
        sure="certain" if rises and falls else "likely",
    )


def _shorter(done: float) -> float:
    return min(0.9, max(0.1, round(done, 1)))


def under_trained(history: History, recipe: Recipe | None = None) -> Finding | None:
    """Dev still falls at the end, and train as well."""
    rates = history.measured(history.metric)
    if len(rates) < 2:
        return None
    (before, earlier), (end, last) = rates[-2:]
    if last > min(rate for _, rate in rates) or earlier - last < max(STILL_POINTS, STILL_FALLING * earlier):
        return None
    if len(rates) > 2 and rates[-3][1] <= earlier:
        return None  # up and down
    early, late = history.height(0.6, 0.8), history.height(0.8, 1.0)
    level = _is_level(history)
    if level and earlier - last < FAR_FALLING * earlier:
        return None  # a rate that comes to 0 levels the train loss of any run
    known = early is not None and late is not None
    losses = (Figure("train loss before the end", early), Figure("at the end", late)) if early and late else ()
    return Finding(
        key="under-trained",
        severity="medium",
        seen=(
            Figure(f"{history.metric.upper()} at step {before.step:,}", earlier, "%"),
            Figure(f"at step {end.step:,}, the last", last, "%"),
            *losses,
        ),
        means="dev was still falling when the run ended: more of the same is likely to help",
        change=(times_as_long(recipe, 1.5, "or twice; with the schedule of the longer run"),),
        sure="likely" if known and not level else "possible",
    )


def _is_level(history: History) -> bool:
    """Whether train loss no longer falls at the end, as far as its scatter lets one see; not where it is unknown."""
    early, late = history.losses(0.6, 0.8), history.losses(0.8, 1.0)
    if not early or not late or min(*early, *late) <= 0:
        return False
    fall = math.log(median(early) / median(late))
    error = MEDIAN_ERROR * history.track().scatter() * math.sqrt(1 / len(early) + 1 / len(late))
    return fall < max(-math.log(LEVEL_LOSS), ERRORS * error)


def rate_too_high(history: History, recipe: Recipe | None = None) -> Finding | None:
    """A train loss that goes up for good, or jumps about without going down; or steps that have none."""
    what, course = _unsteady(history)
    skips = _skips_much(history, recipe)
    if not (what or skips):
        return None
    lower = f"{history.peak_rate / 3:.1g}" if history.peak_rate else "a third of it"
    nowhere = "steps had no finite loss or gradient, and changed nothing"
    return Finding(
        key="rate-too-high",
        severity="high",
        seen=(
            *course,
            *_skipped(history),
            *([Figure("learning rate, at its highest", history.peak_rate)] if history.peak_rate else []),
        ),
        means=f"{what or nowhere}: the learning rate is too high for these steps"
        + ("" if what else ", or what they are made of is broken"),
        change=(
            Change("train.learning_rate", lower, "whispertune find-lr looks for one"),
            _larger_steps(recipe),
            *([LISTEN] if skips and history.writer == "whispertune" else []),
        ),
        sure="possible" if what == JUMPS and not skips else "likely",
    )


def _unsteady(history: History) -> tuple[str, tuple[Figure, ...]]:
    """What train loss does that it should not, "" where nothing, and its course; empty where steps are too few."""
    track = history.track()
    if len(track.points) < SCATTER_STEPS + RECENT:
        return "", ()
    height, scatter = track.heights[-1], track.scatter()
    lows = list(accumulate(track.heights, min))
    rise = max(now - low for now, low in zip(track.heights, lows, strict=True))
    risen = height - track.lowest > max(RISEN, RISEN_SCATTERS * scatter)
    jumps = scatter > JUMPY and track.heights[-SCATTER_STEPS:][0] - height <= scatter / 2
    return RISES if risen else JUMPS if jumps else "", (
        Figure("lowest train loss", round(math.exp(track.lowest), 4)),
        Figure("at the end", round(math.exp(height), 4)),
        Figure("rise on the way, at most", round(100 * (math.exp(rise) - 1), 1), "%"),
        Figure("scatter from step to step", round(100 * scatter, 1), "%"),
    )


def _skips_much(history: History, recipe: Recipe | None) -> bool:
    """Whether so many steps were skipped, or so many in a row at the end, which is where a run breaks off."""
    most = (recipe.train if recipe else Train()).max_skipped_steps
    return history.skipped_at_end >= most or history.skipped >= max(SKIPPED, SKIPPED_SHARE * len(history.steps))


def _skipped(history: History) -> tuple[Figure, ...]:
    if not history.skipped:
        return ()
    last = (Figure("of them in a row, the last", history.skipped_at_end),) if history.skipped_at_end else ()
    return Figure("steps without a finite loss or gradient", history.skipped), *last


def _larger_steps(recipe: Recipe | None) -> Change:
    why = "larger steps are steadier"
    if recipe is None:
        return Change("train.step_segments", "twice as many", why)
    if recipe.train.step_windows is not None:
        return Change("train.step_windows", f"{2 * recipe.train.step_windows}", why)
    return Change("train.step_segments", f"{2 * (recipe.train.segments_a_step or 1)}", why)


def rate_too_low(history: History, recipe: Recipe | None) -> Finding | None:
    """A rate far below what is usual for the model, and a loss that is still on its way."""
    peak, usual = history.peak_rate, usual_rate(recipe)
    early, late = history.height(0.6, 0.8), history.height(0.8, 1.0)
    if peak is None or usual is None or early is None or late is None or peak >= RATE_TOO_LOW * usual:
        return None
    if _is_level(history):
        return None
    return Finding(
        key="rate-too-low",
        severity="medium",
        seen=(
            Figure("learning rate, at its highest", peak),
            Figure("usual for this model", usual),
            Figure("train loss before the end", early),
            Figure("at the end", late),
        ),
        means="the loss creeps down and has not come to rest: the learning rate is too low",
        change=(Change("train.learning_rate", f"{usual:.2g}", "whispertune find-lr looks for one", "at least"),),
        sure="likely",
        otherwise=(Change("train.warmup_share", "less", "the rate was never full in what was logged"),),
    )


def usual_rate(recipe: Recipe | None) -> float | None:
    """The default of the model that the recipe names; None where its name does not say its size."""
    name = recipe.model.lower() if recipe else ""
    width = next((width for size, width in WIDTHS.items() if size in name.rpartition("/")[2]), None)
    return default_learning_rate(width, recipe.train.method) if recipe and width else None


def warm_up_short(history: History) -> Finding | None:
    """A loss that goes up when the rate is full for the first time, and comes down again later."""
    points = history.track().points
    peak = max((each.rate for each in points), default=0.0)  # of the steps that are judged
    if len(points) < 8 * HUMP_POINTS or not peak:
        return None
    full = next(place for place, each in enumerate(points) if each.rate >= 0.99 * peak)
    warm = points[full].done
    early = [each.log_loss for each in points if each.done <= max(0.2, warm + 0.1)]
    heights = [median(early[at : at + HUMP_POINTS]) for at in range(len(early) - HUMP_POINTS + 1)]
    end = median(each.log_loss for each in points[-HUMP_POINTS:])
    lows = list(accumulate(heights, min))
    humps = [now - low for now, low in zip(heights, lows, strict=True)]
    hump = max(humps, default=0.0)
    scatter = history.track().scatter()
    if warm > SHORT_WARMUP or hump < max(RISEN, HUMP_SCATTERS * scatter):
        return None
    if end > lows[humps.index(hump)]:
        return None  # it never came back, which is a rate that is too high
    return Finding(
        key="warm-up-short",
        severity="low",
        seen=(
            Figure("warm-up", round(100 * warm, 1), "% of the steps"),
            Figure("rise of the train loss soon after", round(100 * (math.exp(hump) - 1), 1), "%"),
            Figure("learning rate, at its highest", peak),
        ),
        means="the loss went up as soon as the rate was full, and came down later: the warm-up is too short",
        change=(Change("train.warmup_share", "0.1", "or a lower train.learning_rate", "at least"),),
        sure="likely",
        otherwise=(Change("train.learning_rate", "half of it", "the hump is where the rate is full"),),
    )
