"""How long a run is, and the learning rate along it.

peak = recipe.train.learning_rate or default_learning_rate(shape.width, recipe.train.method)
extent = Extent(steps=100)                          # or Extent(hours=20.0): of speech, where steps are not known
learning_rate(extent.done(step, speech_seconds), extent.total, peak, warmup_share=0.1, schedule="linear")
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

# Width of the model -> the rate it was pre-trained with (Radford et al., 2022, table 17).
PRETRAINING_RATES = {384: 1.5e-3, 512: 1e-3, 768: 5e-4, 1024: 2.5e-4, 1280: 2e-4}
FINE_TUNING_SHARE = 1 / 40  # for a language that Whisper knows; for a new one four times as much or more is better
METHOD_FACTORS = {"full": 1.0, "lora": 10.0}  # measured in docs/decisions.md


def default_learning_rate(width: int, method: str = "full") -> float:
    """Pre-training rate / 40, by the width of the nearest published size; ten times as high for adapters."""
    nearest = min(PRETRAINING_RATES, key=lambda known: abs(known - width))
    return PRETRAINING_RATES[nearest] * FINE_TUNING_SHARE * METHOD_FACTORS[method]


@dataclass(frozen=True, slots=True)
class Extent:
    """The length of a run: steps, or hours of speech trained on; one of the two."""

    steps: int | None = None
    hours: float | None = None

    @property
    def total(self) -> float:
        return float(self.steps if self.steps is not None else self.hours or 0.0)

    @property
    def unit(self) -> str:
        return "steps" if self.steps is not None else "hours of speech"

    def done(self, steps: int, speech_seconds: float) -> float:
        """How much of the total is done, in its unit."""
        return float(steps) if self.steps is not None else speech_seconds / 3600

    def ended(self, steps: int, speech_seconds: float) -> bool:
        return self.done(steps, speech_seconds) >= self.total

    def reached(self, steps: int, speech_seconds: float, parts: int) -> int:
        """How many of `parts` equal parts of the run are done; parts of steps end on whole steps."""
        done = self.done(steps, speech_seconds)
        ends = (self.total * number / parts for number in range(1, parts + 1))
        return sum(done >= (round(end) if self.steps is not None else end) for end in ends)

    def told(self, steps: int, speech_seconds: float) -> str:
        """How far a run is, for people."""
        if self.steps is not None:
            return f"step {steps} of {self.steps}"
        return f"step {steps}, {speech_seconds / 3600:.2f} of {self.hours:g} hours of speech"


def learning_rate(
    done: float,
    total: float,
    peak: float,
    warmup_share: float,
    schedule: str,
    *,
    step: float = 1.0,
    decay_share: float = 0.0,
) -> float:
    """The rate of a step that begins where `done` of `total` is done and takes `step` of it.

    Linear from 0 in the warm-up, then as the schedule says. It depends on nothing but its arguments, so that a
    resumed run goes on where it was.

    Args:
        decay_share: of the total, at its end, in which "wsd" goes down to 0; the other schedules have no use for it.
    """
    warmup = warmup_share * total
    if done < warmup and warmup >= step / 2:  # less than half a step is none
        return peak * (done + step) / (warmup + step)
    after = max(step, total - warmup)
    left = min(1.0, max(0.0, total - done) / after)
    return peak * SCHEDULES[schedule](left, min(1.0, decay_share * total / after))


def _linear(left: float, decay: float) -> float:
    return left


def _cosine(left: float, decay: float) -> float:
    """Half a wave down to 0 (Loshchilov and Hutter, 2017)."""
    return (1 - math.cos(math.pi * left)) / 2


def _constant(left: float, decay: float) -> float:
    return 1.0


def _wsd(left: float, decay: float) -> float:
    """Warm-up, stable, decay: constant, and linear down to 0 in the last `decay` of it (Hu et al., 2024)."""
    return left / decay if left < decay else 1.0


# Share of the peak, by how much of what follows the warm-up is left, and the share of it that wsd decays in.
SCHEDULES: dict[str, Callable[[float, float], float]] = {
    "linear": _linear,
    "cosine": _cosine,
    "constant": _constant,
    "wsd": _wsd,
}
