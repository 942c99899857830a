"""Curves: what they show is drawn, and told."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whispertune.drawing.lines import BOTTOM, LEFT, RIGHT, TOP, Line, lines

TUNED = Line("tuned <b>", (0.0, 10.0, 20.0), (61.4, 19.8, 12.0), (57.3, 17.0, 10.1), (65.0, 22.9, 14.2))


def places(svg: str, element: str = "polyline") -> list[list[tuple[float, float]]]:
    found = re.findall(rf'<{element} points="([^"]*)"', svg)
    return [[(float(x), float(y)) for x, y in (pair.split(",") for pair in each.split())] for each in found]


def test_higher_values_stand_higher_and_lie_inside() -> None:
    svg = lines([TUNED], "WER under noise", "signal to noise, dB", "WER, %")
    ((first, second, third),) = places(svg)
    assert first[0] == LEFT
    assert third[0] == RIGHT
    assert TOP <= first[1] < second[1] < third[1] <= BOTTOM
    (band,) = places(svg, "polygon")
    assert len(band) == 6
    ElementTree.fromstring(svg)  # well formed, whatever the names hold


@pytest.mark.parametrize(("x", "low", "high"), [(100.0, "0", "100"), (-3.0, "\N{MINUS SIGN}3", "0"), (0.0, "0", "1")])
def test_one_point_alone_stands_as_far_from_0_as_it_is(x: float, low: str, high: str) -> None:
    """Of a run with one evaluation: no axis from step 100 to 101 in fifths of a step."""
    drawn = lines([Line("WER", (x,), (50.0,))], "Errors", "step", "%")
    told = re.findall(r'class="tick middle">([^<]*)<', drawn)
    assert (told[0], told[-1]) == (low, high)


def test_it_is_told_in_words_and_escaped() -> None:
    svg = lines([TUNED], "WER under noise", "signal to noise, dB", "WER, %")
    assert "WER, % by signal to noise, dB. tuned &lt;b&gt;: 61.4 at 0, 19.8 at 10, 12 at 20." in svg
    assert "<b>" not in svg


def test_what_is_not_there_is_left_out() -> None:
    gap = Line("gap", (1.0, 2.0, 3.0), (5.0, math.nan, 7.0))
    svg = lines([gap, Line("nothing", (1.0,), (math.nan,))], "t", "x", "y")
    (points,) = places(svg)
    assert len(points) == 2
    assert lines([Line("nothing", (1.0,), (math.nan,))], "t", "x", "y") == ""
    assert lines([], "t", "x", "y") == ""


values = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(st.lists(st.tuples(values, values), min_size=1, max_size=40))
def test_any_values_are_drawn_inside_the_frame(points: list[tuple[float, float]]) -> None:
    line = Line("any", tuple(x for x, _ in points), tuple(y for _, y in points))
    (found,) = places(lines([line], "t", "x", "y"))
    assert len(found) == len(points)
    for x, y in found:
        assert LEFT - 0.1 <= x <= RIGHT + 0.1
        assert TOP - 0.1 <= y <= BOTTOM + 0.1


@pytest.mark.parametrize("count", [1, 3, 4, 6, 9])
def test_every_line_has_a_key(count: int) -> None:
    svg = lines([Line(f"model {n}", (0.0, 1.0), (n, n + 1.0)) for n in range(count)], "t", "x", "y")
    assert svg.count('class="curve"') == 2 * count
