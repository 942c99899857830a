"""Family 3: over-fitting, under-training, rate and warm-up, on curves that show them and on ones that do not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.diagnose_curves import evaluated, falling, run_of, steps_of, still_falling
from whispertune.diagnose.finding import Figure
from whispertune.diagnose.findings.fitting import (
    fitting,
    over_fitting,
    rate_too_high,
    rate_too_low,
    under_trained,
    usual_rate,
    warm_up_short,
)
from whispertune.diagnose.history import History, Step, from_metrics
from whispertune.recipe import Data, Recipe, Train

HEALTHY = (60.0, 45.0, 40.0, 39.8)
SMALL = Recipe(model="openai/whisper-small", data=Data())


def by_heart(done: float) -> float:
    return 3.0 * math.exp(-6 * done)


def test_a_healthy_run_has_no_finding() -> None:
    assert fitting(run_of(falling, HEALTHY), SMALL) == []


def test_both_rise_is_over_fitting_for_certain() -> None:
    history = History(steps_of(by_heart), evaluated((50.0, 40.0, 44.0, 48.0), (0.9, 0.7, 0.9, 1.2)))
    found = over_fitting(history)
    assert found is not None
    assert found.sure == "certain"
    assert [each.value for each in found.seen[:3]] == [40.0, 100, 48.0]
    assert found.change[0].key == "train.epochs"
    assert found.change[0].value == "0.5 times as many"


def test_without_dev_loss_the_words_and_train_tell() -> None:
    found = over_fitting(run_of(by_heart, (50.0, 40.0, 44.0, 48.0)))
    assert found is not None
    assert found.sure == "likely"


@pytest.mark.parametrize(
    "rates",
    [
        (50.0, 40.0, 40.5, 40.3),  # within a point
        (50.0, 40.0, 44.0, 40.2),  # one bad evaluation
        (50.0, 45.0, 42.0, 44.0),  # the last one alone
    ],
)
def test_what_scatters_is_no_over_fitting(rates: tuple[float, ...]) -> None:
    assert over_fitting(run_of(by_heart, rates)) is None


def test_a_dev_loss_that_does_not_rise_says_no() -> None:
    history = History(steps_of(by_heart), evaluated((50.0, 40.0, 44.0, 48.0), (0.9, 0.7, 0.68, 0.67)))
    assert over_fitting(history) is None


def test_still_falling_at_the_end_is_under_trained() -> None:
    found = under_trained(run_of(still_falling, (90.0, 75.0, 66.0, 60.0)))
    assert found is not None
    assert found.sure == "likely"
    assert [each.value for each in found.seen[:2]] == [66.0, 60.0]
    level = under_trained(run_of(falling, (90.0, 75.0, 66.0, 60.0)))
    assert level is not None
    assert level.sure == "possible"  # train loss is level, dev is not
    alone = under_trained(History((), evaluated((90.0, 75.0, 66.0, 60.0))))
    assert alone is not None
    assert alone.sure == "possible"


def test_a_run_that_came_to_rest_is_not_under_trained() -> None:
    assert under_trained(run_of(still_falling, (90.0, 62.0, 60.2, 60.0))) is None  # dev is level
    assert under_trained(run_of(falling, (90.0, 75.0, 66.0, 64.0))) is None  # train is, and dev nearly
    assert under_trained(run_of(still_falling, (90.0, 75.0, 78.0, 70.0))) is None  # up and down
    assert under_trained(run_of(still_falling, (90.0, 60.0, 66.0, 62.0))) is None  # the best was before
    assert under_trained(run_of(still_falling, (60.0,))) is None


def test_a_loss_that_rises_for_good_or_jumps_is_a_rate_too_high() -> None:
    def diverging(done: float) -> float:
        return 2.0 - 1.5 * done if done < 0.4 else 1.4 + 4 * (done - 0.4)

    found = rate_too_high(run_of(diverging, HEALTHY, rate=3e-4), SMALL)
    assert found is not None
    assert found.sure == "likely"
    assert [(each.key, each.value) for each in found.change] == [
        ("train.learning_rate", "0.0001"),
        ("train.step_segments", "32"),
    ]
    jumping = rate_too_high(run_of(lambda done: 2.0, HEALTHY, scatter=0.9))
    assert jumping is not None
    assert "jumps about" in jumping.means


def test_losses_that_are_not_finite_are_told() -> None:
    history = run_of(falling, HEALTHY)
    gone = tuple(replace(each, loss=None) if each.step % 10 == 0 else each for each in history.steps)
    found = rate_too_high(replace(history, steps=gone))
    assert found is not None
    assert any(each.value == 20 for each in found.seen)


@pytest.mark.parametrize("good", [0, 30, 100, 1000])
def test_a_run_that_broke_off_on_skipped_steps_is_told(good: int) -> None:
    steps = [Step(n, 2.0 - 0.001 * n, 1e-3, 1.0) for n in range(1, good + 1)]
    broken = [Step(good + n, None, 1e-3) for n in range(1, 6)]
    (found,) = fitting(History((*steps, *broken), ()), SMALL)
    assert (found.key, found.severity, found.sure) == ("rate-too-high", "high", "likely")
    assert "steps had no finite loss or gradient" in found.means
    assert ["skipped.jsonl" in each.value for each in found.change] == [False, False, True]
    last = {each.name: each.value for each in found.seen}
    assert (last["steps without a finite loss or gradient"], last["of them in a row, the last"]) == (5, 5)
    assert fitting(History((*steps, *broken[:4]), ()), SMALL) == []
    patient = SMALL.model_copy(update={"train": Train(max_skipped_steps=2)})
    assert fitting(History((*steps, *broken[:2]), ()), patient) != []
    theirs = rate_too_high(History((*steps, *broken), (), "transformers"))
    assert theirs is not None
    assert not any("skipped.jsonl" in each.value for each in theirs.change)  # which Trainer does not write


def test_steps_that_the_norm_of_the_gradient_skipped_are_told() -> None:
    lines = [{"kind": "step", "step": n, "loss": 1.5, "grad_norm": None, "skipped": n // 3} for n in range(1, 301)]
    found = rate_too_high(from_metrics(lines))
    assert found is not None
    assert Figure("steps without a finite loss or gradient", 100) in found.seen
    few = [{**line, "grad_norm": 1.0, "skipped": min(4, line["skipped"])} for line in lines]
    assert rate_too_high(from_metrics(few)) is None


@pytest.mark.parametrize("scatter", [0.0, 0.1, 0.3])
def test_usual_scatter_is_no_rate_too_high(scatter: float) -> None:
    assert rate_too_high(run_of(falling, HEALTHY, scatter=scatter)) is None
    assert rate_too_high(run_of(falling, HEALTHY, count=30)) is None  # too few to tell


def test_a_rate_far_below_the_usual_one_that_creeps() -> None:
    usual = usual_rate(SMALL)
    assert usual is not None
    found = rate_too_low(run_of(still_falling, HEALTHY, rate=usual / 20), SMALL)
    assert found is not None
    assert found.change[0].key == "train.learning_rate"
    assert float(found.change[0].value) == pytest.approx(usual, rel=0.05)
    assert rate_too_low(run_of(still_falling, HEALTHY, rate=usual), SMALL) is None
    assert rate_too_low(run_of(falling, HEALTHY, rate=usual / 20), SMALL) is None  # it came to rest
    assert rate_too_low(run_of(still_falling, HEALTHY, rate=usual / 20), None) is None


def test_the_usual_rate_is_that_of_the_model_and_the_method() -> None:
    adapters = SMALL.model_copy(update={"train": Train(method="lora")})
    assert (usual_rate(adapters) or 0) > (usual_rate(SMALL) or 0)
    assert usual_rate(Recipe(model="my-own", data=Data())) is None


def hump(done: float) -> float:
    return falling(done) * (2.2 if 0.04 < done < 0.14 else 1.0)


def test_a_hump_at_the_start_is_a_warm_up_too_short() -> None:
    found = warm_up_short(run_of(hump, HEALTHY, warm=0.02))
    assert found is not None
    assert found.change[0].key == "train.warmup_share"
    assert warm_up_short(run_of(falling, HEALTHY, warm=0.02)) is None
    assert warm_up_short(run_of(hump, HEALTHY, warm=0.1)) is None  # that is long enough


def test_the_highest_rate_may_be_that_of_steps_that_are_not_judged() -> None:
    steps = steps_of(hump, warm=0.02)
    peak = max(steps, key=lambda each: each.learning_rate or 0.0).step
    kinds = [replace(each, alone=each.step == peak) for each in steps]  # a segment a window, among packed ones
    found = warm_up_short(History(tuple(kinds), ()))
    assert found is not None
    assert found.key == "warm-up-short"
    broken = [replace(each, loss=None if each.step >= 60 else each.loss) for each in steps_of(falling, warm=0.5)]
    assert "rate-too-high" in {each.key for each in fitting(History(tuple(broken), evaluated(HEALTHY)), SMALL)}


def test_a_log_without_rates_says_nothing_of_the_warm_up() -> None:
    lines = [{"kind": "step", "step": each.step, "loss": each.loss} for each in steps_of(hump, warm=0.02)]
    assert warm_up_short(from_metrics(lines)) is None


def test_what_helps_against_over_fitting_was_measured_to_help() -> None:
    found = over_fitting(run_of(by_heart, (50.0, 40.0, 44.0, 48.0)))
    assert found is not None
    assert [each.key for each in found.change] == ["train.epochs", "train.label_smoothing", "data.train"]
