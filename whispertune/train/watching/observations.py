"""What a run looks like, said in words while it happens: from its steps and evaluations alone, no torch.

observer = Observer(metric="wer", max_grad_norm=1.0)
observer.replay(run.read_metrics())        # after a resume: what was said is not said again
for line in observer.step(report): tell.say(line)
for line in observer.evaluation(step, evaluation): tell.say(line)

Every rule holds against noise: losses are compared as logarithms, by medians, with the scatter from step to step as
the measure. Steps of single utterances and of packed windows have losses of their own height and are judged apart.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

from whispertune.evaluation.evaluate import Evaluation
from whispertune.reporting import StepReport

RECENT = 20  # steps whose median is the height of the loss
SCATTER_STEPS = 30  # from which the scatter is taken
SCATTER_OF_DIFFERENCES = 0.954  # median of |a - b| over the deviation of a, where both scatter normally

SPIKE = math.log(2)  # over the height before
SPIKE_SCATTERS = 6.0
JUMPY = 0.5  # scatter from step to step that no mere difference between batches explains
RISEN = math.log(1.3)  # over the lowest height
RISEN_SCATTERS = 2.5
PLATEAU_SHARE = 0.3  # of the run without a fall ...
PLATEAU_STEPS = 60
PLATEAU_POINTS = 500  # are enough to tell
PLATEAU_FALL = 0.08  # ... of so much, with what scatter leaves uncertain
PLATEAU_ERRORS = 1.5
PLATEAU_RATE = 0.5  # of the peak: below it a run is coming to rest
FAR_ABOVE_CLIP = 100.0  # norms of 10 to 40 are usual with a clip of 1, and harmless
GRAD_STEPS = 30
MOST = 0.8
DEV_RISE = 0.5  # points, in two evaluations
DEV_OVER_BEST = 1.0  # points
TRAIN_FALL = 0.1  # of the loss since the best evaluation
AGAIN = 0.25  # of the run, until the same is said again


class Point(NamedTuple):
    """A step, as far as it says something."""

    step: int
    done: float  # share of the run
    log_loss: float
    rate: float
    grad_norm: float


@dataclass(frozen=True, slots=True)
class Judged:
    """An evaluation, with the height of the training loss when it was made."""

    step: int
    value: float  # of the metric that selects, per cent
    heights: dict[bool, float]


class Track:
    """The steps of one kind."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.heights: list[float] = []  # of the log loss, at each point from the twentieth on
        self.lowest = math.inf

    def add(self, point: Point) -> None:
        self.points.append(point)
        if len(self.points) >= RECENT:
            self.heights.append(median(each.log_loss for each in self.points[-RECENT:]))
            self.lowest = min(self.lowest, self.heights[-1])

    @property
    def last(self) -> Point:
        return self.points[-1]

    def scatter(self, before: int = 0) -> float:
        """Deviation of the log loss from step to step, over the last 30 but for the newest `before`."""
        end = len(self.points) - before
        losses = [each.log_loss for each in self.points[max(0, end - SCATTER_STEPS - 1) : end]]
        differences = [abs(b - a) for a, b in pairwise(losses)]
        return median(differences) / SCATTER_OF_DIFFERENCES if differences else 0.0


class Observer:
    """Says each thing once, and again where it still holds a quarter of the run later."""

    def __init__(self, *, metric: str, max_grad_norm: float) -> None:
        self.metric, self.max_grad_norm = metric, max_grad_norm
        self.tracks = {False: Track(), True: Track()}  # packed; a segment a window
        self.judged: list[Judged] = []  # on the same rows, in the same context
        self._judged_on: tuple[str, int] | None = None
        self.peak_rate = 0.0
        self._said: dict[str, float] = {}  # what -> share of the run that was done
        self._done = 0.0

    def step(self, report: StepReport) -> list[str]:
        """What is new to say after a step."""
        return self._step(
            report.step,
            report.done,
            report.loss,
            report.learning_rate,
            report.grad_norm,
            alone=report.windows == report.segments,
        )

    def evaluation(self, step: int, evaluation: Evaluation) -> list[str]:
        """What is new to say after an evaluation of dev."""
        value = float(getattr(evaluation.scores, self.metric))
        return self._evaluation(step, value, (evaluation.context, evaluation.scores.rows))

    def replay(self, lines: Iterable[dict[str, Any]]) -> None:
        """Take in what metrics.jsonl holds of a run that goes on."""
        for line in lines:
            if line["kind"] == "step":
                alone = line["windows"] == line["segments"]
                loss, norm = (math.nan if line[key] is None else line[key] for key in ("loss", "grad_norm"))
                self._step(line["step"], line["done"], loss, line["learning_rate"], norm, alone=alone)
            elif line["kind"] == "evaluation" and line.get("weights", "live") == "live":  # averages were not watched
                self._evaluation(line["step"], float(line[self.metric]), (line["context"], line["rows"]))

    def _step(self, step: int, done: float, loss: float, rate: float, norm: float, *, alone: bool) -> list[str]:
        self._done = done
        self.peak_rate = max(self.peak_rate, rate)
        if not (math.isfinite(loss) and math.isfinite(norm) and loss > 0):
            return []  # a skipped step is told by who skips it
        track = self.tracks[alone]
        track.add(Point(step, done, math.log(loss), rate, norm))
        rules: dict[str, Callable[[Track], str | None]] = {
            "unstable": self._unstable,
            "spike": _spike,
            "plateau": self._plateau,
            "gradient": self._gradient,
        }
        return [line for what, rule in rules.items() if (line := self._once(what, partial(rule, track)))]

    def _evaluation(self, step: int, value: float, judged_on: tuple[str, int]) -> list[str]:
        if judged_on != self._judged_on:  # what is of other clips is not compared
            self.judged, self._judged_on = [], judged_on
        heights = {kind: track.heights[-1] for kind, track in self.tracks.items() if track.heights}
        self.judged.append(Judged(step, value, heights))
        line = self._once("dev rises", lambda: self._overfits() or self._rises())
        return [line] if line else []

    def _once(self, what: str, rule: Callable[[], str | None]) -> str | None:
        if what in self._said and self._done - self._said[what] < AGAIN:
            return None
        line = rule()
        if line:
            self._said[what] = self._done
        return line

    def _unstable(self, track: Track) -> str | None:
        """A loss that goes up for good, or jumps about without going down."""
        if len(track.points) < SCATTER_STEPS + RECENT:
            return None
        height, lowest, scatter = track.heights[-1], track.lowest, track.scatter()
        if height - lowest > max(RISEN, RISEN_SCATTERS * scatter):
            return self._too_fast(track, f"the loss has risen from {math.exp(lowest):.2f} to {math.exp(height):.2f}")
        falling = track.heights[-SCATTER_STEPS] - height > scatter / 2
        if scatter > JUMPY and not falling:
            part = [math.exp(each.log_loss) for each in track.points[-SCATTER_STEPS:]]
            return self._too_fast(track, f"the loss jumps about, between {min(part):.2f} and {max(part):.2f}")
        return None

    def _too_fast(self, track: Track, what: str) -> str:
        return (
            f"step {track.last.step}: {what}: a sign of too high a learning rate (up to {self.peak_rate:.2g} here); "
            "a lower train.learning_rate or larger train.step_segments help, and find-lr looks for a rate"
        )

    def _plateau(self, track: Track) -> str | None:
        """No fall over a good part of the run, although the rate is still high."""
        if len(track.points) % RECENT or track.last.rate < PLATEAU_RATE * self.peak_rate:
            return None
        first = bisect_right(track.points, track.last.done - PLATEAU_SHARE, key=lambda point: point.done)
        count = len(track.points) - first
        if not first or count < PLATEAU_STEPS or track.points[first].rate < PLATEAU_RATE * self.peak_rate:
            return None  # too few steps to tell, or the warm-up is among them
        part = track.points[first :: max(1, count // PLATEAU_POINTS)]
        fall, error = _fall([each.log_loss for each in part])
        if fall + PLATEAU_ERRORS * error > PLATEAU_FALL or fall < -2 * PLATEAU_ERRORS * error:
            return None  # it falls, or rises, which is told otherwise
        return (
            f"step {track.last.step}: the loss has not fallen since step {part[0].step} (about "
            f"{math.exp(median(each.log_loss for each in part)):.2f}), at {track.last.rate:.2g} of learning rate: a "
            'plateau. A rate that falls gets further (train.schedule = "linear"), fewer train.epochs cost less; '
            "where dev is still poor, the rate may be too low or high: find-lr"
        )

    def _gradient(self, track: Track) -> str | None:
        """Clipped so hard, step after step, that the rate alone says how far each goes."""
        part = [each.grad_norm for each in track.points[-GRAD_STEPS:]]
        limit = FAR_ABOVE_CLIP * self.max_grad_norm
        if len(part) < GRAD_STEPS or sum(norm > limit for norm in part) < MOST * len(part):
            return None
        norm = median(part)
        return (
            f"step {track.last.step}: the gradient norm is about {norm:.0f}, {norm / self.max_grad_norm:.0f} times "
            "train.max_grad_norm, in most steps: look for texts that do not fit their audio (inspect finds suspects), "
            "or lower train.learning_rate"
        )

    def _rises(self) -> str | None:
        """Dev that became worse twice in a row."""
        last = [each.value for each in self.judged[-3:]]
        if len(last) < 3 or not last[0] < last[1] < last[2] or last[2] - last[0] < DEV_RISE:
            return None
        values = " → ".join(f"{value:.1f}" for value in last)
        return (
            f"step {self.judged[-1].step}: {self._metric_told()} rose twice in a row, {values}; {self._best_told()}. "
            "Fewer train.epochs, a lower train.learning_rate, train.label_smoothing or augment help against it"
        )

    def _overfits(self) -> str | None:
        """Train goes on falling while dev is worse than it was, twice in a row."""
        best = self._best()
        since = [each for each in self.judged if each.step > best.step]
        if len(since) < 2 or any(each.value < best.value + DEV_OVER_BEST for each in since[-2:]):
            return None
        last = since[-1]
        falls = [best.heights[kind] - last.heights[kind] for kind in best.heights.keys() & last.heights.keys()]
        if not falls or median(falls) < -math.log(1 - TRAIN_FALL):
            return None
        return (
            f"step {last.step}: it learns its training rows by heart: their loss fell by "
            f"{100 * (1 - math.exp(-median(falls))):.0f} % since step {best.step}, while {self._metric_told()} rose to "
            f"{last.value:.1f}; {self._best_told()}. Fewer train.epochs, more data, train.label_smoothing or augment "
            "help"
        )

    def _metric_told(self) -> str:
        name, _, how = self.metric.partition("_")
        return f"dev {name.upper()}{f' ({how})' if how else ''}"

    def _best(self) -> Judged:
        return min(self.judged, key=lambda each: (each.value, each.step))

    def _best_told(self) -> str:
        """Of the live weights; averages of them may be better, and are kept then."""
        return f"nothing worse than the best, {self._best().value:.1f} at step {self._best().step}, is kept"


def _spike(track: Track) -> str | None:
    """One step far above those before it."""
    if len(track.points) <= SCATTER_STEPS:
        return None
    before = track.heights[-2]
    above = track.last.log_loss - before
    if above < max(SPIKE, SPIKE_SCATTERS * track.scatter(before=1)):
        return None
    loss, usual = math.exp(track.last.log_loss), math.exp(before)
    return (
        f"step {track.last.step}: a loss of {loss:.2f}, {loss / usual:.1f} times that of the steps before it "
        f"({usual:.2f}); if such steps come again, lower train.learning_rate and look for texts that do not fit their "
        "audio (inspect finds suspects)"
    )


def _fall(values: list[float]) -> tuple[float, float]:
    """How far a line through the values falls from first to last, and the standard error of that."""
    count = len(values)
    middle, mean = (count - 1) / 2, sum(values) / count
    spread = sum((index - middle) ** 2 for index in range(count))
    slope = sum((index - middle) * (value - mean) for index, value in enumerate(values)) / spread
    rest = sum((value - mean - slope * (index - middle)) ** 2 for index, value in enumerate(values)) / (count - 2)
    return -slope * (count - 1), math.sqrt(rest / spread) * (count - 1)
