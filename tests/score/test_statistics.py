from __future__ import annotations

import numpy as np
import pytest

from whispertune.errors import DataError
from whispertune.score.statistics import bootstrap_interval


def test_coverage_of_the_true_rate() -> None:
    """Of 200 corpora with a true rate of 20 %, about 95 % have it in their interval."""
    generator = np.random.default_rng(5)
    covered = 0
    for seed in range(200):
        lengths = generator.poisson(8, size=80) + 1
        errors = generator.binomial(lengths, generator.beta(2, 8, size=80))
        low, high = bootstrap_interval(errors, lengths, samples=400, seed=seed)
        covered += low <= 20.0 <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_drawing_speakers_covers_where_drawing_utterances_does_not() -> None:
    generator = np.random.default_rng(6)
    covered = {"speakers": 0, "utterances": 0}
    for seed in range(150):
        speakers = np.repeat([f"s{n}" for n in range(25)], 20)
        lengths = generator.poisson(8, size=500) + 1
        errors = generator.binomial(lengths, np.repeat(generator.beta(2, 8, size=25), 20))
        for kind, groups in (("speakers", speakers), ("utterances", None)):
            low, high = bootstrap_interval(errors, lengths, groups=groups, samples=300, seed=seed)
            covered[kind] += low <= 20.0 <= high
    assert covered["speakers"] / 150 >= 0.85
    assert covered["utterances"] / 150 <= 0.70


def test_fewer_than_ten_speakers_are_not_drawn() -> None:
    errors, lengths = np.arange(30) % 4, np.full(30, 10)
    nine = np.array([f"s{n % 9}" for n in range(30)])
    ten = np.array([f"s{n % 10}" for n in range(30)])
    by_utterance = bootstrap_interval(errors, lengths)
    assert bootstrap_interval(errors, lengths, groups=nine) == by_utterance
    assert bootstrap_interval(errors, lengths, groups=ten) != by_utterance


def test_holds_the_rate_and_narrows_with_the_level() -> None:
    errors, lengths = np.arange(100) % 7, np.full(100, 12)
    low, high = bootstrap_interval(errors, lengths, level=0.95)
    inner_low, inner_high = bootstrap_interval(errors, lengths, level=0.5)
    rate = 100 * errors.sum() / lengths.sum()
    assert low < inner_low < rate < inner_high < high


def test_the_seed_decides() -> None:
    errors, lengths = np.arange(50) % 3, np.arange(50) + 5
    assert bootstrap_interval(errors, lengths, seed=3) == bootstrap_interval(errors, lengths, seed=3)
    assert bootstrap_interval(errors, lengths, seed=3) != bootstrap_interval(errors, lengths, seed=4)


def test_many_utterances_in_parts_agree_with_the_normal_interval() -> None:
    generator = np.random.default_rng(0)
    errors, lengths = generator.binomial(10, 0.3, size=20_000), np.full(20_000, 10)
    low, high = bootstrap_interval(errors, lengths)  # ten parts of 100 draws
    half = 1.96 * 100 * np.sqrt(0.3 * 0.7 / 200_000)
    rate = 100 * errors.sum() / lengths.sum()
    assert low == pytest.approx(rate - half, abs=0.04)
    assert high == pytest.approx(rate + half, abs=0.04)


@pytest.mark.parametrize(
    ("errors", "lengths", "expected"),
    [
        ([3], [4], 75.0),
        ([0, 0, 0], [4, 5, 6], 0.0),
        ([2], [0], 200.0),
        ([0], [0], 0.0),
        ([1, 1], [2, 2], 50.0),
    ],
)
def test_degenerate_cases(errors: list[int], lengths: list[int], expected: float) -> None:
    assert bootstrap_interval(np.array(errors), np.array(lengths)) == (expected, expected)


@pytest.mark.parametrize("groups", [None, np.array(["a"])])
def test_refuses_what_does_not_match(groups: np.ndarray | None) -> None:
    with pytest.raises(DataError, match="as many"):
        bootstrap_interval(np.array([1, 2]), np.array([3] if groups is None else [3, 3]), groups=groups)
    with pytest.raises(DataError, match="at least one"):
        bootstrap_interval(np.array([], dtype=int), np.array([], dtype=int))
