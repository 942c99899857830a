from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whispertune.data.segments import Segment
from whispertune.errors import DataError
from whispertune.score.slices import MIN_ROWS, Attributes, Slice, alike, slices, worst_utterances
from whispertune.score.wer import UtteranceScore, score

WORDS = "boat lake hill road tree house bird cloud stone fire"


def utterances(wrong: list[int], reference: str = WORDS, language: str = "en") -> list[UtteranceScore]:
    """One for each number: so many of the ten words heard as others."""
    heard = [" ".join(["x"] * number + reference.split()[number:]) for number in wrong]
    return score([str(i) for i in range(len(wrong))], [reference] * len(wrong), heard, language)[1]


def named(found: tuple[Slice, ...], attribute: str) -> dict[str, Slice]:
    return {each.name: each for each in found if each.attribute == attribute}


def test_attributes_of_a_segment() -> None:
    segment = Segment("a:1", Path("a.wav"), 1.0, 3.5, "text", "sv", speaker="ann")
    assert Attributes.of(segment, source="data", level_db=-21.0) == Attributes("a:1", 2.5, "ann", "data", "sv", -21.0)
    assert Attributes.of(segment).source is None


def test_a_source_that_is_worse() -> None:
    scored = utterances([1, 2] * 20 + [5, 6, 7] * 10)
    found = slices(scored, [Attributes(str(i), source="radio" if i < 40 else "phone") for i in range(70)])
    phone, radio = found
    assert (phone.attribute, phone.name, phone.rows) == ("source", "phone", 30)
    assert phone.wer == phone.wer_normalized == pytest.approx(60.0)
    assert phone.rest_wer_normalized == radio.wer_normalized == pytest.approx(15.0)
    assert 0 < radio.cer == radio.cer_normalized < phone.cer < 60.0
    assert phone.wer_interval is not None
    assert phone.wer_interval[0] < 60.0 < phone.wer_interval[1]
    assert (phone.worse, radio.worse) == (True, False)


def test_no_claim_without_a_difference() -> None:
    """Sources and levels that have nothing to do with the errors: hardly ever is one of their slices worse."""
    chance = random.Random(0)
    claims = 0
    for _ in range(20):
        scored = utterances([chance.randint(0, 6) for _ in range(120)])
        about = [Attributes(each.id, source=chance.choice("ab"), level_db=chance.uniform(-40, -10)) for each in scored]
        found = slices(scored, about, seed=1)
        assert len(found) == 5
        claims += sum(each.worse is True for each in found)
    assert claims <= 2  # of 100


def test_no_claim_of_few_rows() -> None:
    few = MIN_ROWS - 1
    scored = utterances([9] * few + [0] * 40)
    found = named(slices(scored, [Attributes(str(i), source=str(i < few)) for i in range(few + 40)]), "source")
    assert (found["True"].wer, found["True"].worse) == (90.0, None)
    assert found["True"].wer_interval is found["True"].wer_normalized_interval is None
    assert found["False"].worse is None  # the rest has too few
    assert found["False"].wer_interval == (0.0, 0.0)


def test_durations() -> None:
    durations = [0.4, 2.0, 2.1, 7.0, 20.0, 29.9, 31.0, None]
    scored = utterances([0] * len(durations))
    about = [Attributes(str(i), duration_s=duration_s) for i, duration_s in enumerate(durations)]
    found = [(each.name, each.rows) for each in slices(scored, about) if each.attribute == "duration"]
    assert found == [
        ("0 to 2 s", 2),
        ("2 to 5 s", 1),
        ("5 to 10 s", 1),
        ("10 to 20 s", 1),
        ("20 to 30 s", 1),
        ("over 30 s", 1),
    ]


def test_rates_and_levels_by_thirds() -> None:
    scored = utterances([0] * 9)
    about = [Attributes(str(i), duration_s=10 / (i + 1), level_db=-10.0 * i) for i in range(9)]
    found = slices(scored, about)
    assert [(each.name, each.rows) for each in found if each.attribute == "speech rate"] == [
        ("lowest third, up to 3.7 words/s", 3),
        ("middle third, 3.7 to 6.3 words/s", 3),
        ("highest third, over 6.3 words/s", 3),
    ]
    assert next(each.name for each in found if each.attribute == "level") == "lowest third, up to -53.3 dBFS"


def levels(values: list[float]) -> list[tuple[str, int]]:
    scored = utterances([0] * len(values))
    about = [Attributes(str(i), level_db=value) for i, value in enumerate(values)]
    return [(each.name, each.rows) for each in slices(scored, about) if each.attribute == "level"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([-20.0] * 7 + [-10.0] * 3, [("lower rows, up to -20.0 dBFS", 7), ("higher rows, over -20.0 dBFS", 3)]),
        ([-20.0] * 2 + [-10.0] * 8, [("lower rows, up to -20.0 dBFS", 2), ("higher rows, over -20.0 dBFS", 8)]),
        (
            [-40.0] + [-20.0] * 8 + [-10.0],
            [("lower rows, up to -20.0 dBFS", 9), ("higher rows, over -20.0 dBFS", 1)],
        ),
        (
            [-40.0] * 5 + [-30.0] * 3 + [-20.0, -10.0],
            [
                ("lowest rows, up to -40.0 dBFS", 5),
                ("middle rows, -40.0 to -30.0 dBFS", 3),
                ("highest rows, over -30.0 dBFS", 2),
            ],
        ),
        ([-20.0] * 9, []),
    ],
)
def test_where_many_rows_share_a_value_none_is_lost(values: list[float], expected: list[tuple[str, int]]) -> None:
    assert levels(values) == expected


@given(st.lists(st.sampled_from([-40.0, -30.0, -29.0, -10.0, 0.0]) | st.floats(-60, 0), min_size=1, max_size=40))
def test_groups_hold_every_row_and_follow_each_other(values: list[float]) -> None:
    found = levels(values)
    if len(set(values)) == 1:
        assert found == []
        about = [Attributes(str(i), level_db=value) for i, value in enumerate(values)]
        assert alike(utterances([0] * len(values)), about) == (("level",) if len(values) > 1 else ())
    else:
        assert sum(rows for _, rows in found) == len(values)
        assert 2 <= len(found) <= 3
        assert all(rows for _, rows in found)
        assert all(
            "third" not in name or rows <= len(values) / 3 + 1 or rows <= 0.4 * len(values) for name, rows in found
        )


def test_rate_of_scripts_without_spaces_is_of_characters() -> None:
    scored = score(["a", "b"], ["你好吗", "你好吗今天天气"], ["你好", "你好"], "zh")[1]
    found = slices(scored, [Attributes("a", duration_s=3.0), Attributes("b", duration_s=1.0)])
    assert next(each.name for each in found if each.attribute == "speech rate").startswith("lower rows, up to 3.0")


def test_what_is_the_same_or_unknown_makes_no_slice() -> None:
    scored = utterances([1, 2, 3])
    assert slices(scored, [Attributes(each.id, 3.0, "ann", "data", "sv", -20.0) for each in scored]) == ()
    assert slices(scored, [Attributes(each.id) for each in scored]) == ()
    same = ("duration", "speaker", "source", "speech rate", "level", "language")
    assert alike(scored, [Attributes(each.id, 3.0, "ann", "data", "sv", -20.0) for each in scored]) == same
    assert alike(scored, [Attributes(each.id) for each in scored]) == ()
    assert alike(scored[:1], [Attributes("0", 3.0, "ann")]) == ()  # one row is like no other
    assert slices([], []) == alike([], []) == ()
    silent = score(["a", "b"], ["", ""], ["", "x"], "en")[1]
    found = slices(silent, [Attributes("a", 1.0, "ann"), Attributes("b", 0.0, "bo")])
    assert [(each.name, each.wer) for each in found] == [("ann", 0.0), ("bo", 100.0)]


def test_speakers_and_languages() -> None:
    scored = utterances([0, 0, 5, 5])
    about = [Attributes(str(i), speaker="ab"[i // 2], language=["sv", "fi"][i % 2]) for i in range(4)]
    found = slices(scored, list(reversed(about)))
    assert {name: each.wer for name, each in named(found, "speaker").items()} == {"a": 0.0, "b": 50.0}
    assert {name: each.wer for name, each in named(found, "language").items()} == {"fi": 25.0, "sv": 25.0}


def test_refuses_what_does_not_match() -> None:
    scored = utterances([0, 0])
    with pytest.raises(DataError, match="'9' stands on one side only"):
        slices(scored, [Attributes("0"), Attributes("1"), Attributes("9")])
    with pytest.raises(DataError, match="some stand twice"):
        slices(scored, [Attributes("0"), Attributes("1"), Attributes("1")])


def test_worst_utterances() -> None:
    scored = utterances([1, 0, 7, 3])
    assert [each.id for each in worst_utterances(scored)] == ["2", "3", "0"]
    assert [each.id for each in worst_utterances(scored, 1)] == ["2"]
    equal = score(["long", "short"], ["a b c d", "a b"], ["a b c x", "a x"], "en")[1]
    assert [each.id for each in worst_utterances(equal)] == ["short", "long"]
