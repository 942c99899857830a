"""Curves as runs have them: a loss of the share of the run, with scatter that is always the same."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from whispertune.diagnose.history import Evaluated, History, Step

Curve = Callable[[float], float]


def steps_of(
    curve: Curve, *, count: int = 200, scatter: float = 0.08, rate: float = 1e-5, warm: float = 0.1
) -> tuple[Step, ...]:
    """Losses around the curve, a linear warm-up, and a linear fall to 0."""
    rng = random.Random(7)
    found = []
    for step in range(1, count + 1):
        done = step / count
        share = min(done / warm if warm else 1.0, (1 - done) / (1 - warm) if done > warm else 1.0)
        loss = curve(done) * math.exp(rng.gauss(0.0, scatter))
        found.append(Step(step, loss, rate * share, 5.0))
    return tuple(found)


def falling(done: float) -> float:
    """From 3 to 0.6, and level towards the end."""
    return 0.6 + 2.4 * math.exp(-8 * done)


def still_falling(done: float) -> float:
    return 3.0 * math.exp(-1.2 * done)


def evaluated(
    rates: Sequence[float], losses: Sequence[float | None] | None = None, *, last: int = 200
) -> tuple[Evaluated, ...]:
    """Evaluations spread evenly, the last one at the end."""
    known = losses or [None] * len(rates)
    places = [last * place // len(rates) for place in range(1, len(rates) + 1)]
    return tuple(Evaluated(place, loss, rate) for place, loss, rate in zip(places, known, rates, strict=True))


def run_of(
    curve: Curve,
    rates: Sequence[float],
    *,
    count: int = 200,
    scatter: float = 0.08,
    rate: float = 1e-5,
    warm: float = 0.1,
) -> History:
    """A history of both, without dev losses."""
    return History(steps_of(curve, count=count, scatter=scatter, rate=rate, warm=warm), evaluated(rates, last=count))
