from __future__ import annotations

import math
from itertools import product
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whispertune.errors import DataError
from whispertune.score.statistics import (
    _t_quantile,
    bootstrap_interval,
    interval_of,
    matched_pairs,
    paired_bootstrap,
    resampled_sums,
    speaker_groups,
    units_of,
)

CORPORA = 1000  # of which a share of 94 per cent is off by 0.75 per cent, one standard deviation


def covered(units: int, per_unit: int, groups: np.ndarray | None) -> float:
    """The share of corpora with a true rate of 20 % that have it in their interval; the rate differs by unit."""
    generator = np.random.default_rng(units)
    found = 0
    for seed in range(CORPORA):
        lengths = generator.poisson(8, size=units * per_unit) + 1
        errors = generator.binomial(lengths, np.repeat(generator.beta(2, 8, size=units), per_unit))
        low, high = bootstrap_interval(errors, lengths, groups=groups, samples=500, seed=seed)
        found += low <= 20.0 <= high
    return found / CORPORA


@pytest.mark.parametrize("speakers", [10, 15, 25, 60])
def test_intervals_by_speaker_cover_the_true_rate(speakers: int) -> None:
    assert 0.925 <= covered(speakers, 20, np.repeat(np.arange(speakers), 20)) <= 0.97


@pytest.mark.parametrize("utterances", [10, 15, 25, 80])
def test_intervals_by_utterance_cover_the_true_rate(utterances: int) -> None:
    assert 0.92 <= covered(utterances, 1, None) <= 0.97


def test_drawing_utterances_does_not_cover_where_speakers_differ() -> None:
    assert covered(25, 20, None) <= 0.70


@pytest.mark.parametrize(
    ("freedom", "of_95", "of_99"),  # from a table of Student's distribution, two-sided
    [
        (1, 12.706, 63.657),
        (2, 4.303, 9.925),
        (3, 3.182, 5.841),
        (5, 2.571, 4.032),
        (9, 2.262, 3.250),
        (14, 2.145, 2.977),
        (24, 2.064, 2.797),
        (60, 2.000, 2.660),
        (120, 1.980, 2.617),
        (1_000_000, 1.960, 2.576),
    ],
)
def test_quantiles_of_t_are_those_of_the_tables(freedom: int, of_95: float, of_99: float) -> None:
    found = _t_quantile(0.95, freedom), _t_quantile(0.99, freedom)
    assert found == pytest.approx((of_95, of_99), abs=6e-4)


def test_ends_are_the_expanded_quantiles() -> None:
    """Of ten: Phi(-sqrt(10 / 9) * 2.2622) = 0.86 % on each side, where plain percentiles leave 2.5 %."""
    values = np.linspace(0.0, 100.0, 10_001)
    low, high = interval_of(values, 10)
    assert low == pytest.approx(100 * NormalDist().cdf(-math.sqrt(10 / 9) * 2.262157), abs=1e-3)
    assert low == pytest.approx(0.8553, abs=1e-3)
    assert high == pytest.approx(100 - low)
    assert interval_of(values, 1_000_000) == pytest.approx((2.5, 97.5), abs=2e-3)
    assert interval_of(values, 1) == (0.0, 100.0)
    assert interval_of(values, 2) == pytest.approx((0.0, 100.0))


def test_units_are_what_is_drawn() -> None:
    assert units_of(30) == 30
    assert units_of(30, np.arange(30) % 9) == 30
    assert units_of(30, np.arange(30) % 10) == 10


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


def test_matched_pairs_by_hand() -> None:
    """Gillick and Cox's formula on listed differences: mean 0.5, variance (2.25+2.25+6*0.25+2*2.25)/9 = 7/6."""
    found = matched_pairs(np.array([2, 2, 1, 1, 1, 0, 0, 0, -1, -1]))
    assert (found.pairs, found.mean) == (10, 0.5)
    assert found.deviation == pytest.approx(math.sqrt(10.5 / 9))
    assert found.z == pytest.approx(0.5 / math.sqrt(10.5 / 9 / 10))  # 1.4639
    assert found.p_normal == pytest.approx(0.1432, abs=5e-5)  # from a table of the normal distribution


@given(st.lists(st.integers(-4, 4), max_size=9))
def test_the_exact_p_counts_all_changes_of_sign(differences: list[int]) -> None:
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in _signs(len(differences))]
    share = np.mean([total >= abs(sum(differences)) for total in sums])
    assert matched_pairs(np.array(differences, dtype=int)).p_value == pytest.approx(share)


def _signs(number: int) -> list[tuple[int, ...]]:
    return list(product((-1, 1), repeat=number))


def test_both_ps_agree_with_many_pairs() -> None:
    generator = np.random.default_rng(2)
    for shift in (0.0, 0.02, 0.04):
        found = matched_pairs(np.rint(generator.normal(shift, 1.0, size=3000)).astype(int))
        assert found.p_value == pytest.approx(found.p_normal, rel=0.1, abs=1e-4)


def test_pairs_that_say_nothing_and_pairs_that_all_say_the_same() -> None:
    for nothing in ([], [0], [0, 0, 0], [1, -1]):
        found = matched_pairs(np.array(nothing, dtype=int))
        assert (found.z, found.p_normal, found.p_value) == (0.0, 1.0, 1.0)
    same = matched_pairs(np.array([1, 1, 1]))
    assert (same.deviation, same.z, same.p_normal) == (0.0, 0.0, 1.0)  # as in sclite
    assert same.p_value == pytest.approx(0.25)  # two of eight
    assert matched_pairs(np.array([-2] * 60)).p_value == pytest.approx(2.0**-59)


def test_matched_pairs_reject_as_often_as_they_say() -> None:
    """Of 2,000 comparisons of two equally good systems, about 5 % have a p below 0.05."""
    generator = np.random.default_rng(3)
    rejected = {"normal": 0, "exact": 0}
    for _ in range(2000):
        difficulty = generator.beta(2, 8, size=150)
        found = matched_pairs(generator.binomial(5, difficulty) - generator.binomial(5, difficulty))
        rejected["normal"] += found.p_normal < 0.05
        rejected["exact"] += found.p_value < 0.05
    assert 0.035 <= rejected["normal"] / 2000 <= 0.065
    assert 0.035 <= rejected["exact"] / 2000 <= 0.065


def test_few_pairs_need_the_exact_p() -> None:
    """With eight pairs the normal p rejects too often, the exact one does not."""
    generator = np.random.default_rng(4)
    found = [
        matched_pairs(generator.binomial(5, 0.3, size=8) - generator.binomial(5, 0.3, size=8)) for _ in range(2000)
    ]
    assert np.mean([each.p_normal < 0.05 for each in found]) > 0.07
    assert np.mean([each.p_value < 0.05 for each in found]) <= 0.055


@pytest.mark.parametrize("by_speaker", [False, True])
def test_the_interval_of_a_difference_covers_it(by_speaker: bool) -> None:
    """The second system makes a tenth of errors more, 2 points; speakers differ in which suits them."""
    generator = np.random.default_rng(7)
    covered = 0
    for seed in range(200):
        lengths = generator.poisson(8, size=400) + 1
        speakers = np.repeat(np.arange(40), 10)
        difficulty = generator.beta(2, 8, size=400)
        suits = np.repeat(generator.uniform(-0.1, 0.1, size=40), 10) if by_speaker else 0.0
        first = generator.binomial(lengths, difficulty)
        second = generator.binomial(lengths, difficulty * (1.1 + suits))
        found = paired_bootstrap(
            first, second, lengths, groups=speakers if by_speaker else None, samples=400, seed=seed
        )
        covered += found.interval[0] <= 2.0 <= found.interval[1]
    assert 0.90 <= covered / 200 <= 0.99


def test_paired_is_narrower_than_the_two_apart() -> None:
    generator = np.random.default_rng(8)
    lengths = generator.poisson(8, size=300) + 1
    first = generator.binomial(lengths, generator.beta(0.5, 2, size=300))
    second = np.maximum(0, first - generator.binomial(1, 0.1, size=300))
    found = paired_bootstrap(first, second, lengths)
    (low, high), (other_low, other_high) = bootstrap_interval(first, lengths), bootstrap_interval(second, lengths)
    assert found.interval[1] - found.interval[0] < min(high - low, other_high - other_low) / 3
    assert found.interval[1] < 0
    assert other_high > low  # the two intervals overlap, and yet there is no doubt
    assert found.probability_of_improvement == 1.0
    assert found.difference == pytest.approx(100 * (second.sum() - first.sum()) / lengths.sum())


def test_probability_of_improvement() -> None:
    generator = np.random.default_rng(9)
    lengths = np.full(100, 8)
    first, second = generator.binomial(8, 0.3, size=100), generator.binomial(8, 0.28, size=100)
    there, back = paired_bootstrap(first, second, lengths), paired_bootstrap(second, first, lengths)
    assert there.probability_of_improvement + back.probability_of_improvement == pytest.approx(1.0)
    assert there.difference == pytest.approx(-back.difference)
    drawn = np.random.default_rng(0).integers(100, size=(5000, 100))
    differences = (second - first)[drawn].sum(axis=1)
    expected = np.mean(differences < 0) + np.mean(differences == 0) / 2
    assert there.probability_of_improvement == pytest.approx(expected)
    assert paired_bootstrap(first, first, lengths).probability_of_improvement == 0.5


def test_resampled_sums_draw_rows_whole() -> None:
    figures = np.array([[1, 10], [2, 20], [5, 50]])
    sums = resampled_sums(figures, samples=50)
    assert sums.shape == (50, 2)
    assert (sums[:, 1] == 10 * sums[:, 0]).all()
    groups = np.array([f"s{n // 2}" for n in range(20)])
    by_group = resampled_sums(np.arange(20)[:, None] % 2, groups=groups, samples=30)
    assert (by_group == 10).all()  # each of ten speakers has a 0 and a 1


def test_speakers_are_groups_where_all_are_known() -> None:
    assert speaker_groups(None) is None
    assert speaker_groups(["a", None]) is None
    assert speaker_groups(["a", ""]) is None
    groups = speaker_groups(["a", "b"])
    assert groups is not None
    assert groups.tolist() == ["a", "b"]


def test_a_comparison_refuses_what_does_not_match() -> None:
    with pytest.raises(DataError, match="2, 1, 2"):
        paired_bootstrap(np.array([1, 2]), np.array([1]), np.array([3, 3]))
