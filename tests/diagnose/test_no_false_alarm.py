"""Hundreds of healthy runs of every length and scatter: hardly a finding on their curves."""

from __future__ import annotations

import math
import random
from collections import Counter

from whispertune.diagnose.findings.confidence import over_confidence
from whispertune.diagnose.findings.fitting import fitting
from whispertune.diagnose.findings.mismatch import decoding_unlike_training
from whispertune.diagnose.history import Evaluated, History, Step
from whispertune.recipe import Data, Recipe

RUNS = 300
MOST = 0.02  # of the runs, for each finding
SMALL = Recipe(model="openai/whisper-small", data=Data())


def healthy(rng: random.Random) -> History:
    """A train loss that comes to rest, and a dev loss and WER that follow it, all of them scattered."""
    count, scatter, warm = rng.choice([60, 100, 200, 400]), rng.uniform(0.02, 0.35), rng.choice([0.02, 0.05, 0.1])
    floor, speed, rate = rng.uniform(0.3, 1.0), rng.uniform(5, 15), rng.uniform(5, 40)
    steps = []
    for step in range(1, count + 1):
        done = step / count
        height = floor + 3 * math.exp(-speed * done)
        learning_rate = 1.25e-5 * (done / warm if done < warm else (1 - done) / (1 - warm))
        steps.append(Step(step, height * math.exp(rng.gauss(0, scatter)), learning_rate, 5.0))
    evaluations = []
    for part in (0.2, 0.4, 0.6, 0.8, 1.0):
        left = math.exp(-speed * part)
        loss, words = 1.1 * floor + 2 * left + rng.gauss(0, 0.005), rate * (1 + left) + rng.gauss(0, 0.2)
        evaluations.append(Evaluated(int(count * part), loss, words))
    return History(tuple(steps), tuple(evaluations))


def test_healthy_runs_are_left_in_peace() -> None:
    rng = random.Random(1)
    found: Counter[str] = Counter()
    for _ in range(RUNS):
        history = healthy(rng)
        others = over_confidence(history), decoding_unlike_training(history)
        found.update(each.key for each in (*fitting(history, SMALL), *others) if each)
    assert all(count <= MOST * RUNS for count in found.values()), found
