"""Learning rates: defaults by size and method, warm-up and every way down."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whispertune.train.learning.schedule import SCHEDULES, Extent, default_learning_rate, learning_rate

DECAYING = ("linear", "cosine", "wsd")
shares = st.floats(0, 1)


@pytest.mark.parametrize(
    ("width", "rate"), [(384, 3.75e-5), (512, 2.5e-5), (768, 1.25e-5), (1024, 6.25e-6), (1280, 5e-6), (16, 3.75e-5)]
)
def test_the_default_is_a_fortieth_of_pre_training(width: int, rate: float) -> None:
    assert default_learning_rate(width) == pytest.approx(rate)


def test_adapters_take_a_higher_rate() -> None:
    assert default_learning_rate(512, "lora") == pytest.approx(10 * default_learning_rate(512, "full"))


def test_linear_warm_up_and_decay() -> None:
    rates = [learning_rate(step, 100, 1.0, 0.1, "linear") for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert 0 < rates[0] < 0.1
    assert max(rates) == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.02


def test_constant_after_the_warm_up() -> None:
    assert {learning_rate(step, 100, 2.0, 0.1, "constant") for step in range(10, 100)} == {2.0}


def test_cosine_is_half_a_wave() -> None:
    rates = [learning_rate(step, 100, 1.0, 0.1, "cosine") for step in range(100)]
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[10 + 30] == pytest.approx((1 + math.cos(math.pi / 3)) / 2)
    assert 0 < rates[-1] < 0.001


def test_wsd_is_stable_and_then_goes_down() -> None:
    rates = [learning_rate(step, 100, 1.0, 0.1, "wsd", decay_share=0.2) for step in range(100)]
    assert set(rates[10:81]) == {1.0}
    assert rates[81:] == pytest.approx([left / 20 for left in range(19, 0, -1)])


def test_wsd_without_room_for_a_stable_part_goes_down_after_the_warm_up() -> None:
    rates = [learning_rate(step, 100, 1.0, 0.5, "wsd", decay_share=0.9) for step in range(100)]
    assert rates == [learning_rate(step, 100, 1.0, 0.5, "linear") for step in range(100)]


def test_without_warm_up_and_a_single_step() -> None:
    assert learning_rate(0, 10, 1.0, 0.0, "linear") == 1.0
    for schedule in SCHEDULES:
        assert learning_rate(0, 1, 1.0, 0.1, schedule, decay_share=0.2) > 0


@given(st.sampled_from(sorted(SCHEDULES)), st.integers(1, 400), st.floats(1e-8, 1e-2), shares, shares)
def test_rates_of_steps(schedule: str, total: int, peak: float, warmup: float, decay: float) -> None:
    rates = [learning_rate(step, total, peak, warmup, schedule, decay_share=decay) for step in range(total)]
    assert all(0 < rate <= peak * (1 + 1e-9) for rate in rates)
    first = math.ceil(warmup * total) if warmup * total >= 0.5 else 0
    assert rates[:first] == sorted(rates[:first])
    assert rates[first:] == sorted(rates[first:], reverse=True)


@given(st.sampled_from(DECAYING), st.integers(50, 400), st.floats(0, 0.5), st.floats(0.2, 0.5))
def test_the_last_step_is_small_where_the_rate_goes_down(
    schedule: str, total: int, warmup: float, decay: float
) -> None:
    last = learning_rate(total - 1, total, 1.0, warmup, schedule, decay_share=decay)
    assert 0 < last <= 1 / (0.2 * total) + 1e-9


@given(
    st.sampled_from(sorted(SCHEDULES)),
    st.floats(0.1, 100),
    st.lists(st.floats(5, 480), min_size=1, max_size=300),
    shares,
    shares,
)
def test_rates_of_hours(schedule: str, hours: float, spoken_s: list[float], warmup: float, decay: float) -> None:
    """Steps of any length, until the hours are reached: the rate is never above the peak and never negative."""
    extent, speech_s, rates = Extent(hours=hours), 0.0, []
    for number, seconds in enumerate(spoken_s):
        if extent.ended(number, speech_s):
            break
        rates.append(
            learning_rate(
                extent.done(number, speech_s),
                extent.total,
                1.0,
                warmup,
                schedule,
                step=extent.done(1, seconds),
                decay_share=decay,
            )
        )
        speech_s += seconds
    assert all(0 <= rate <= 1 + 1e-9 for rate in rates)
    assert rates[0] > 0


@given(st.sampled_from(DECAYING), st.floats(0, 0.4), st.floats(0.1, 0.6))
def test_nothing_jumps_on_the_way(schedule: str, warmup: float, decay: float) -> None:
    """Neither from the warm-up to what follows nor into the decay; a cosine is steepest, at half a wave."""
    total = 1_000
    rates = [learning_rate(step, total, 1.0, warmup, schedule, decay_share=decay) for step in range(total)]
    rising = 1 / max(1.0, warmup * total)
    steepest = max(rising, 1 / (decay * total), math.pi / 2 / ((1 - warmup) * total))
    first = 1 if warmup * total >= 0.5 else 0
    assert all(abs(after - before) <= 1.01 * steepest for before, after in pairwise(rates[first:]))
