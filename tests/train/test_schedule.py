"""Learning rates: defaults by size, warm-up and decay."""

from __future__ import annotations

import pytest

from whispertune.train.schedule import default_learning_rate, learning_rate


@pytest.mark.parametrize(
    ("width", "rate"), [(384, 3.75e-5), (512, 2.5e-5), (768, 1.25e-5), (1024, 6.25e-6), (1280, 5e-6), (16, 3.75e-5)]
)
def test_the_default_is_a_fortieth_of_pre_training(width: int, rate: float) -> None:
    assert default_learning_rate(width) == pytest.approx(rate)


def test_linear_warm_up_and_decay() -> None:
    rates = [learning_rate(step, 100, 1.0, 0.1, "linear") for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert 0 < rates[0] < 0.1
    assert max(rates) == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.02


def test_constant_after_the_warm_up() -> None:
    assert {learning_rate(step, 100, 2.0, 0.1, "constant") for step in range(10, 100)} == {2.0}


def test_without_warm_up_and_a_single_step() -> None:
    assert learning_rate(0, 10, 1.0, 0.0, "linear") == 1.0
    assert learning_rate(0, 1, 1.0, 0.1, "linear") == 1.0
