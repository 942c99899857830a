"""What a run looks like is said where it is so, once, and never of a run that is as it should be."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

import pytest

from whispertune.evaluation.evaluate import Evaluation
from whispertune.reporting import StepReport
from whispertune.score.wer import score
from whispertune.train.watching.observations import Observer

# A healthy run of whisper-base on 800 rows of Mboshi, 16 a step: its losses, and gradient norms of 12 to 38.
MBOSHI = (
    "4.73 4.33 4.21 3.92 3.85 3.57 3.33 3.01 3.39 2.76 3.12 2.70 2.57 2.31 2.40 2.19 2.25 2.03 2.40 2.25 "
    "2.32 2.08 2.08 1.80 2.08 1.87 1.81 1.52 1.87 1.86 1.65 1.62 1.53 1.60 1.52 1.65 1.64 1.67 1.52 1.48 "
    "1.53 1.64 1.82 1.42 1.54 1.35 1.58 1.49 1.56 1.38 1.10 1.12 1.09 1.09 1.24 1.28 1.09 1.06 1.15 0.93 "
    "0.98 1.15 1.10 1.19 0.98 1.02 1.10 0.96 0.96 0.96 1.22 1.10 1.08 0.93 0.77 1.04 1.00 0.88 1.01 1.07 "
    "0.94 0.97 1.00 0.94 0.92 0.88 1.14 0.91 0.94 1.12 0.94 0.82 0.95 0.82 0.85 0.82 0.93 0.98 1.00 0.94 "
)

Curve = Callable[[float, random.Random], float]  # (share of the run, what scatters) -> loss


def report(step: int, steps: int, loss: float, *, norm: float = 20.0, rate: float | None = None) -> StepReport:
    done = step / steps
    linear = min(10 * done, (1 - done) / 0.9)
    return StepReport(
        step=step,
        total_steps=steps,
        done=done,
        epoch=None,
        loss=loss,
        learning_rate=1e-4 * (linear if rate is None else rate),
        grad_norm=norm,
        windows=2,
        segments=16,
        target_tokens=300,
        speech_seconds=50.0,
        seconds=3.0,
        unreadable=0,
        hours_per_hour=15.0,
        seconds_left=0.0,
    )


def judged(errors: int, of: int = 200) -> Evaluation:
    """An evaluation with so many wrong words: `errors` / 2 per cent."""
    hypothesis = " ".join(["x"] * errors + ["a"] * (of - errors))
    scores, utterances = score(["1"], [" ".join(["a"] * of)], [hypothesis], "sv")
    return Evaluation(scores, tuple(utterances), 1.0, 1.0, "ctranslate2")


def observer() -> Observer:
    return Observer(metric="wer", max_grad_norm=1.0)


def told(curve: Curve, steps: int, *, seed: int = 0, **more: Any) -> list[str]:
    watching, rng = observer(), random.Random(seed)
    return [
        line for n in range(1, steps + 1) for line in watching.step(report(n, steps, curve(n / steps, rng), **more))
    ]


def scattered(curve: Callable[[float], float], scatter: float = 0.1) -> Curve:
    return lambda done, rng: curve(done) * math.exp(rng.gauss(0, scatter))


def falling(done: float) -> float:
    return 1.5 + 3 * math.exp(-4 * done)


def test_nothing_is_said_of_a_run_as_it_was_measured() -> None:
    losses = [float(each) for each in MBOSHI.split()]
    watching, rng = observer(), random.Random(0)
    for step, loss in enumerate(losses, start=1):
        assert watching.step(report(step, len(losses), loss, norm=rng.uniform(12, 38))) == []


@pytest.mark.parametrize("scatter", [0.05, 0.1, 0.15])
@pytest.mark.parametrize("steps", [60, 100, 300])
def test_nothing_is_said_of_ordinary_runs(steps: int, scatter: float) -> None:
    for seed in range(25):
        assert told(scattered(falling, scatter), steps, seed=seed) == []


def test_nothing_is_said_of_steps_of_two_kinds() -> None:
    """Single utterances have other losses than packed windows; a step a half."""
    watching, rng = observer(), random.Random(0)
    for step in range(1, 201):
        alone = step % 2 == 0
        loss = scattered(falling)(step / 200, rng) * (0.5 if alone else 1)
        row = asdict(report(step, 200, loss)) | ({"windows": 16} if alone else {})
        assert watching.step(StepReport(**row)) == []


@pytest.mark.parametrize(
    ("curve", "steps", "words"),
    [
        (scattered(lambda done: 2 + 3 * max(0.0, done - 0.3)), 100, "the loss has risen from"),
        (lambda done, rng: rng.choice([2.0, 4.0, 9.0]), 200, "the loss jumps about, between 2.00 and 9.00"),
        (scattered(lambda done: falling(done) * (4 if done == 0.6 else 1)), 100, "times that of the steps before it"),
        (scattered(lambda done: 1.5 + 3 * math.exp(-40 * done)), 300, "a plateau"),
    ],
)
def test_what_a_loss_looks_like_is_said_with_the_key_that_helps(curve: Curve, steps: int, words: str) -> None:
    for seed in range(5):
        lines = told(curve, steps, seed=seed)
        assert any(words in line for line in lines), lines
        assert all("train." in line and line.startswith("step ") for line in lines)


def test_a_loss_that_keeps_on_is_told_again_only_a_quarter_of_the_run_later() -> None:
    lines = [line for line in told(scattered(lambda done: 2 + 3 * max(0.0, done - 0.3)), 400) if "risen" in line]
    steps = [int(line.split()[1].rstrip(":")) for line in lines]
    assert len(steps) >= 2
    assert all(later - earlier >= 100 for earlier, later in pairwise(steps))


def test_a_gradient_norm_far_above_the_clip() -> None:
    lines = told(scattered(falling), 100, norm=250.0)
    assert any("the gradient norm is about 250, 250 times train.max_grad_norm" in line for line in lines)


def test_dev_that_rises_twice_in_a_row_is_told_with_the_best() -> None:
    watching = observer()
    assert [watching.evaluation(step, judged(errors)) for step, errors in ((10, 100), (20, 90), (30, 94))] == [[]] * 3
    (line,) = watching.evaluation(40, judged(100))
    assert "step 40: dev WER rose twice in a row, 45.0 → 47.0 → 50.0; nothing worse than the best, 45.0 at" in line
    assert "train.label_smoothing or augment help" in line
    assert watching.evaluation(50, judged(110)) == []  # said already


def test_dev_on_other_clips_is_not_compared() -> None:
    watching = observer()
    for step, errors, context in ((10, 80, "fit"), (20, 90, "fit"), (30, 100, "full"), (40, 95, "full")):
        assert watching.evaluation(step, replace(judged(errors), context=context)) == []
    assert [each.step for each in watching.judged] == [30, 40]


@pytest.mark.parametrize("errors", [(100, 90, 94, 92, 95), (100, 90, 80, 80, 80), (100, 100, 100), (90, 91)])
def test_dev_that_goes_up_and_down_is_not_told(errors: tuple[int, ...]) -> None:
    watching = observer()
    for step, count in enumerate(errors, start=1):
        assert watching.evaluation(10 * step, judged(count)) == []


def test_learning_by_heart_is_told_apart() -> None:
    """Train falls, dev is worse than it was."""
    watching, said = observer(), []
    for step in range(1, 101):
        said += watching.step(report(step, 100, 3 * math.exp(-step / 50)))
        if step % 25 == 0:
            said += watching.evaluation(step, judged({25: 90, 50: 80, 75: 86, 100: 90}[step]))
    (line,) = said
    assert "learns its training rows by heart" in line
    assert "since step 50, while dev WER rose to 45.0; nothing worse than the best, 40.0 at step 50, is kept" in line
    assert "train.label_smoothing or augment help" in line


def test_after_a_resume_nothing_is_said_twice() -> None:
    """The second half of a run says the same whether the first was watched or read from metrics.jsonl."""
    rng, steps = random.Random(3), 200
    curve = scattered(lambda done: 2 + 4 * max(0.0, done - 0.3))
    reports = [report(n, steps, math.nan if n == 60 else curve(n / steps, rng)) for n in range(1, steps + 1)]
    whole, first = observer(), []
    for each in reports[:150]:
        first += whole.step(each)
    first += whole.evaluation(150, judged(90))
    resumed = observer()
    lines = [{"kind": "step", **asdict(each)} for each in reports[:150]]
    lines[59]["loss"] = None  # as JSON has it
    lives = {"kind": "evaluation", "step": 150, "weights": "live", **judged(90).as_json()}
    average = {"kind": "evaluation", "step": 150, "weights": "average", **judged(40).as_json()}
    resumed.replay([*lines, lives, average])  # an average was not watched either
    assert first
    for each in reports[150:]:
        assert resumed.step(each) == whole.step(each)
    for step, errors in ((190, 95), (200, 99)):
        assert resumed.evaluation(step, judged(errors)) == whole.evaluation(step, judged(errors))
