"""Learning rates: the default for a model's size, and its course over the run.

peak = recipe.train.learning_rate or default_learning_rate(shape.width)
learning_rate(step, total_steps, peak, warmup_share=0.1, schedule="linear")
"""

from __future__ import annotations

# Width of the model -> the rate it was pre-trained with (Radford et al., 2022, table 17).
PRETRAINING_RATES = {384: 1.5e-3, 512: 1e-3, 768: 5e-4, 1024: 2.5e-4, 1280: 2e-4}
FINE_TUNING_SHARE = 1 / 40


def default_learning_rate(width: int) -> float:
    """Pre-training rate / 40, by the width of the nearest published size."""
    nearest = min(PRETRAINING_RATES, key=lambda known: abs(known - width))
    return PRETRAINING_RATES[nearest] * FINE_TUNING_SHARE


def learning_rate(step: int, total_steps: int, peak: float, warmup_share: float, schedule: str) -> float:
    """The rate of step 0 ... total_steps - 1: linear from 0 in the warm-up, then down to 0 or constant."""
    warmup = round(warmup_share * total_steps)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    if schedule == "constant":
        return peak
    return peak * (total_steps - step) / max(1, total_steps - warmup)
