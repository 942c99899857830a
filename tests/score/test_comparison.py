from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whispertune.errors import DataError
from whispertune.score.comparison import Segment, compare, sentence_segments, verdict_of
from whispertune.score.normalize import NORMALIZERS
from whispertune.score.statistics import matched_pairs
from whispertune.score.wer import Edit, UtteranceScore, align_words, score

FATES = st.text("CSDI", max_size=25)


def edits(fates: str) -> tuple[Edit, ...]:
    """An alignment from one letter a step, C correct, words made up: w1, w2... as the reference has them."""
    found, word = [], 0
    for fate in fates:
        word += fate != "I"
        reference = () if fate == "I" else (f"w{word}",)
        hypothesis = {"C": reference, "D": ()}.get(fate, ("other",))
        found.append(Edit("=" if fate == "C" else fate, reference, hypothesis))
    return tuple(found)


def test_the_example_of_sclite() -> None:
    """The fates of words in sclite's own test of mapsswe (SCTK, src/sclite/testdata, file1 and file2.sgml).

    What it must print (base_sc_stats/test1a.stats.mapsswe): 3 segments with 9 and 7 errors, mean 0.667, standard
    deviation 0.577, Z 2.000, different. It takes the first system less the second, so the signs are turned here.
    """
    first = [edits("I"), edits("CDSCSSSCCDCII")]
    second = [edits(""), edits("CDSCSSSCCSS")]
    segments = [segment for pair in zip(first, second, strict=True) for segment in sentence_segments(*pair)]
    assert segments == [Segment(1, 0), Segment(5, 5), Segment(3, 2)]
    test = matched_pairs(np.array([each.first_errors - each.second_errors for each in segments]))
    assert test.pairs == 3
    assert round(test.mean, 3) == 0.667
    assert round(test.deviation, 3) == 0.577
    assert round(test.z, 3) == 2.0
    assert test.p_normal == pytest.approx(0.0455, abs=5e-5)  # of |Z| = 2, two-sided
    assert test.p_value == pytest.approx(0.5)  # two errors in all, which chance turns the same way every other time


# Fates made up at random, and what sc_stats of SCTK (2.4.12 and later, -t mapsswe) prints of them: segments, mean,
# standard deviation, Z, p. It reads p from a table of Z, so its third digit is not sure.
SCLITE_PRINTS = [
    (
        "SISCC CSSSSCCCC SDCCSCCCCICSC CDCCCSCCI CCCCSCCCCCCCCCDICSCICSCCC CCCSIS CCCCCSCCDSC CCCCCD "
        "CISSCCCCCCC CCCCCSCCCCICSICCCCCDICCSCCCC",
        "CSSC CIICSICCSCCC CSCCCDCSCCCC CCSCSSDC CCICICCCSCCSCDCDISCCICCCCCIS CCSICIIDI CDIDCCCIISSSCIC "
        "CCCDCC CCICSSSCCCC CCCCCCCSCICCCCCCCCSCCSCICSCI",
        (16, -0.875, 1.708, -2.049, 0.041),
    ),
    (
        "CCCCCSCCCCCCCCC CCCCCCCCCCCCDCCDCCCCCCC SCCCCCSCSCCCC CCCSCCCCSCCCCCCCSS CCCCC CCCCCCCCCCCCCCCCCCCSC "
        "CCS CCCC CCCSC",
        "CCCCCCCSCCCCSCC CCCCCCCCCCCCCCCCCCCCCCC CCCCCCCCCCCCC CCCCCCCCCCCCCCCCCIC CCCCC "
        "DICCCCCCCCCCCCCCCCCCCC CCC CCCC CCCCC",
        (13, 0.615, 1.044, 2.125, 0.034),
    ),
    (
        "ISSCCCCCCCCCCICCSCCCC SCCCCCCCCCCCCCCCCSCCCCCC CCCCCCCCCCCCCCCCCCCCCCSCC CCCCCCCCCCCCCCICCC "
        "CSCCCCCCCC CI SCCCCCC SCCCCCCSCCC CSCCCCCCCSCCCCSCCCC CCCSCCCCCCCSCCSCDCCCCC",
        "DSCSCCCDCCCCCIDCCCICC ICCICCCCSCCCICCCCCSDCCCCCSC SCICCCCCCCSCISDCCCCCCCCCCCC SCCCCCCCCCCCCCCSS "
        "CCCCCCCCCC C CCDCCSC ICCICICCCCCCCC CCCCCCCCCCSCSCCCCCS CCCCCCCCCSCCCCCCCSSICCS",
        (27, -0.556, 1.155, -2.5, 0.012),
    ),
]


@pytest.mark.parametrize(("first", "second", "printed"), SCLITE_PRINTS)
def test_p_values_are_those_that_sclite_prints(
    first: str, second: str, printed: tuple[int, float, float, float, float]
) -> None:
    pairs = zip(first.split(), second.split(), strict=True)
    segments = [segment for one, other in pairs for segment in sentence_segments(edits(one), edits(other))]
    test = matched_pairs(np.array([each.first_errors - each.second_errors for each in segments]))
    assert (test.pairs, round(test.mean, 3), round(test.deviation, 3), round(test.z, 3)) == printed[:4]
    assert test.p_normal == pytest.approx(printed[4], abs=1.1e-3)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("CCCC", "CCCC", []),
        ("", "", []),
        ("", "II", [(0, 2)]),
        ("SCCS", "CCCC", [(1, 0), (1, 0)]),  # two correct words part
        ("SCS", "CCC", [(2, 0)]),  # one does not
        ("SCCS", "CSCC", [(2, 1)]),  # and they must be correct in both
        ("SCICS", "CCC" + "C", [(3, 0)]),  # nor may there be anything between them
        ("CCCSCC", "CCCCCCI", [(1, 0), (0, 1)]),
        ("ICC", "CCI", [(1, 0), (0, 1)]),
        ("SDCCCCI", "CCCCCSI", [(2, 0), (1, 2)]),
    ],
)
def test_segments(first: str, second: str, expected: list[tuple[int, int]]) -> None:
    assert sentence_segments(edits(first), edits(second)) == [Segment(*pair) for pair in expected]


def by_description(first: str, second: str) -> list[tuple[int, int]]:
    """The segments as sclite describes them: a state that is good, in error, or counting good words after one."""
    slots: list[list[int]] = [[0, 0, 0]]  # of each system an error, and whether this is a word
    for side, fates in enumerate((first, second)):
        place = 0
        for fate in fates:
            if fate == "I":
                slots[place][side] += 1
            else:
                if side == 0:
                    slots += [[0, 0, 1], [0, 0, 0]]
                slots[place + 1][side] = int(fate != "C")
                place += 2
    found, state, good, sums = [], "b", 0, [0, 0]
    for one, other, is_word in slots:
        sums = [sums[0] + one, sums[1] + other]
        if one or other:
            state, good = "e", 0
        elif is_word and state == "e":
            good += 1
            if good == 2:
                found.append((sums[0], sums[1]))
                state, sums = "b", [0, 0]
    return found + ([(sums[0], sums[1])] if state == "e" else [])


@given(FATES, st.integers(0, 2**32))
def test_segments_hold_all_errors(first: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    second = "".join(generator.choice(list("CSD")) + "I" * generator.integers(2) for f in first if f != "I")
    segments = sentence_segments(edits(first), edits(second))
    assert sum(each.first_errors for each in segments) == sum(fate != "C" for fate in first)
    assert sum(each.second_errors for each in segments) == sum(fate != "C" for fate in second)
    assert [(each.first_errors, each.second_errors) for each in segments] == by_description(first, second)


def two_systems(
    generator: np.random.Generator, suits: np.ndarray, per_speaker: int
) -> tuple[list[UtteranceScore], list[UtteranceScore], list[str]]:
    """Utterances of ten words, a tenth of them wrong; in the second system, that times what suits a speaker."""
    speakers = np.repeat([f"s{n}" for n in range(len(suits))], per_speaker).tolist()
    ids, references = [str(n) for n in range(len(speakers))], [" ".join(["a"] * 10)] * len(speakers)
    first, second = (
        [" ".join("x" if wrong else "a" for wrong in row) for row in generator.random((len(ids), 10)) < shares]
        for shares in (0.1, 0.1 * np.repeat(suits, per_speaker)[:, None])
    )
    return score(ids, references, first, "sv")[1], score(ids, references, second, "sv")[1], speakers


def test_equal_systems_are_seldom_told_apart() -> None:
    """Two equally good systems get a verdict in about one comparison of twenty, also on few utterances."""
    generator = np.random.default_rng(1)
    found = [compare(*two_systems(generator, np.ones(5), per_speaker=6)[:2]) for _ in range(100)]
    assert 0.01 <= np.mean([each.test.p_value < 0.05 for each in found]) <= 0.09
    assert np.mean([each.verdict != "no difference shown" for each in found]) <= 0.09


def test_speakers_count_for_the_verdict() -> None:
    """Where systems suit different speakers and are equal over all, pairs alone are too sure; the verdict is not."""
    generator = np.random.default_rng(2)
    by_speaker, unknown = [], []
    for _ in range(30):
        first, second, speakers = two_systems(generator, generator.choice([0.0, 2.0], size=20), per_speaker=10)
        by_speaker.append(compare(first, second, speakers=speakers).verdict != "no difference shown")
        unknown.append(compare(first, second).test.p_value < 0.05)
    assert np.mean(by_speaker) <= 0.15
    assert np.mean(unknown) >= 0.25


def test_a_real_difference_is_shown_in_both_directions() -> None:
    first, second, speakers = two_systems(np.random.default_rng(3), np.full(20, 0.5), per_speaker=15)
    found = compare(first, second, speakers=speakers)
    assert (found.verdict, found.utterances) == ("better", 300)
    assert found.difference == pytest.approx(found.second_rate - found.first_rate)
    assert found.interval[0] < found.difference < found.interval[1] < 0
    assert found.probability_of_improvement > 0.99
    worse = compare(second, first, speakers=speakers)
    assert worse.verdict == "worse"
    assert worse.probability_of_improvement < 0.01


def test_three_errors_show_nothing() -> None:
    """However utterances are drawn, the second system is worse: an interval of three rows says nothing."""
    ids, references = ["1", "2", "3"], ["a b c"] * 3
    right, wrong = score(ids, references, references, "sv")[1], score(ids, references, ["a b x"] * 3, "sv")[1]
    found = compare(right, wrong)
    assert found.interval[0] > 0
    assert found.test.p_value == pytest.approx(0.25)
    assert found.verdict == "no difference shown"


@pytest.mark.parametrize(
    ("p_value", "interval", "expected"),
    [
        (0.01, (-2.0, -0.5), "better"),
        (0.01, (0.5, 2.0), "worse"),
        (0.05, (-2.0, -0.5), "no difference shown"),
        (0.01, (-2.0, 0.0), "no difference shown"),
        (0.01, (-2.0, 0.5), "no difference shown"),
    ],
)
def test_the_rule(p_value: float, interval: tuple[float, float], expected: str) -> None:
    assert verdict_of(p_value, interval) == expected


def scored(hypotheses: dict[str, str], references: dict[str, str], language: str = "sv") -> list[UtteranceScore]:
    return score(list(hypotheses), [references[key] for key in hypotheses], list(hypotheses.values()), language)[1]


def test_normalised_and_by_characters() -> None:
    references = {"1": "Hej, du!", "2": "Vi ses."}
    first = scored({"1": "hej du", "2": "vi ses"}, references)
    second = scored({"2": "Vi sees.", "1": "Hej, du!"}, references)  # in another order
    raw = compare(first, second)
    assert (raw.first_rate, raw.second_rate) == (100.0, 25.0)
    normalised = compare(first, second, normalizer=NORMALIZERS["basic"])
    assert (normalised.first_rate, normalised.second_rate) == (0.0, 25.0)
    characters = compare(first, second, characters=True)
    assert characters.first_rate == pytest.approx(100 * 5 / 15)
    assert characters.second_rate == pytest.approx(100 / 15)
    assert (characters.test.pairs, characters.test.mean) == (2, -2.0)  # -3 and -1: of utterances


def test_words_are_those_of_the_normalizer() -> None:
    references = {"1": "今日は良い天気"}
    first, second = scored({"1": "今日は悪い天気"}, references, "ja"), scored(references, references, "ja")
    found = compare(first, second, normalizer=NORMALIZERS["characters"])
    assert (found.first_rate, found.second_rate) == pytest.approx((100 / 7, 0.0))


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.lists(st.sampled_from("abc"), max_size=6).map(" ".join)] * 3), min_size=1, max_size=5))
def test_rates_are_those_of_the_scores(texts: list[tuple[str, str, str]]) -> None:
    ids = [str(n) for n in range(len(texts))]
    references, *sides = zip(*texts, strict=True)
    (first, one), (second, other) = (score(ids, references, side, "sv") for side in sides)
    found = compare(one, other)
    assert (found.first_rate, found.second_rate) == pytest.approx((first.wer, second.wer))
    back = compare(other, one)
    assert back.difference == pytest.approx(-found.difference)
    assert back.test.p_value == pytest.approx(found.test.p_value)
    differences = [align_words(r, b).counts.errors - align_words(r, a).counts.errors for r, a, b in texts]
    assert found.test.mean * found.test.pairs == pytest.approx(sum(differences))


def test_refuses_what_is_not_the_same() -> None:
    references = {"1": "a", "2": "b", "3": "c"}
    with pytest.raises(DataError, match="2 and 2, of which 2 stand on one side only, '2' for one"):
        compare(scored({"1": "a", "2": "b"}, references), scored({"1": "a", "3": "b"}, references))
    twice = scored({"1": "a"}, references) * 2
    with pytest.raises(DataError, match="some stand twice"):
        compare(twice, twice)
    with pytest.raises(DataError, match="1: the two systems were scored against other references: 'a' and 'z'"):
        compare(scored({"1": "a"}, references), scored({"1": "a"}, {"1": "z"}))
    with pytest.raises(DataError, match="nothing to compare"):
        compare([], [])
