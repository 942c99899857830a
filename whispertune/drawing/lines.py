"""Curves as inline SVG: several of them over one axis, with bands for what is uncertain, and told in words.

base = Line("base", (20.0, 10.0, 0.0), (41.0, 55.2, 93.1))
tuned = Line("tuned", (20.0, 10.0, 0.0), (12.0, 19.8, 61.4), low=(10.1, 17.0, 57.3), high=(14.2, 22.9, 65.0))
lines([base, tuned], "WER under white noise", "signal to noise, dB", "WER, %")
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from whispertune.drawing.charts import Scale, nice_step, number
from whispertune.drawing.markup import Markup, element, join

WIDTH, HEIGHT = 560, 300  # in units of the drawing; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 52, 548, 14, 250
KINDS = 6  # of lines that look unlike each other; then they begin again
TICKS = 6  # about
MARKED_POINTS = 24  # more are a line alone
KEY_HEIGHT, KEY_WIDTH, KEY_CHARACTERS = 18, 180, 24
TOLD_POINTS = 12


@dataclass(frozen=True, slots=True)
class Line:
    """One curve; its values may be nan where there is none. `low` and `high` make a band around it."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    def points(self) -> list[tuple[float, float]]:
        return [(x, y) for x, y in zip(self.x, self.y, strict=True) if math.isfinite(y)]


def lines(drawn: Sequence[Line], title: str, across: str, up: str, *, marks: Sequence[float] = ()) -> Markup:
    """The curves in one figure; nothing where none has a point. `marks` are places on the axis that matter."""
    known = [line for line in drawn if line.points()]
    if not known:
        return Markup()
    horizontal = _scale([x for line in known for x, _ in line.points()], LEFT, RIGHT)
    vertical = _scale([y for line in known for y in _heights(line)], BOTTOM, TOP)
    keys = math.ceil(len(known) / (WIDTH // KEY_WIDTH))
    content = join(
        *_grid(vertical, up),
        *_axis(horizontal, across),
        *(element("line", x1=horizontal(x), x2=horizontal(x), y1=TOP, y2=BOTTOM, class_="mark") for x in marks),
        *(_band(line, kind, horizontal, vertical) for kind, line in enumerate(known)),
        *(_curve(line, kind, horizontal, vertical, across, up) for kind, line in enumerate(known)),
        *_keys(known),
    )
    told = _told(known, across, up)
    drawing = element(
        "svg",
        element("title", title),
        element("desc", told),
        content,
        role="img",
        viewBox=f"0 0 {WIDTH} {BOTTOM + 48 + KEY_HEIGHT * keys}",
        aria_label=f"{title}. {told}",
    )
    return element("figure", element("figcaption", title), drawing, class_="chart wide")


def _heights(line: Line) -> list[float]:
    return [y for y in (*line.y, *line.low, *line.high) if math.isfinite(y)]


def _scale(values: Sequence[float], left: float, right: float) -> Scale:
    """From the round value under the least to the one over the most; of one value alone, from 0."""
    least, most = min(values), max(values)
    if least == most:
        least, most = min(least, 0.0), max(most, 0.0)
    step = nice_step(most - least, TICKS)
    low, high = math.floor(least / step) * step, math.ceil(most / step) * step
    return Scale(low, high if high > low else low + step, left, right)


def _band(line: Line, kind: int, across: Scale, up: Scale) -> Markup:
    if not line.low or not line.high:
        return Markup()
    inside = [each for each in zip(line.x, line.low, line.high, strict=True) if all(map(math.isfinite, each))]
    there = [f"{across(x):.1f},{up(low):.1f}" for x, low, _ in inside]
    back = [f"{across(x):.1f},{up(high):.1f}" for x, _, high in reversed(inside)]
    return element("polygon", points=" ".join(there + back), class_=f"band line-{kind % KINDS}")


def _curve(line: Line, kind: int, across: Scale, up: Scale, horizontal: str, vertical: str) -> Markup:
    points = line.points()
    path = element("polyline", points=" ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points), class_="curve")
    dots = points if len(points) <= MARKED_POINTS else []
    return element(
        "g",
        path,
        *(
            element(
                "circle",
                element("title", f"{line.name}: {vertical} {number(y)} at {horizontal} {number(x)}"),
                cx=across(x),
                cy=up(y),
                r=3,
                class_="point",
            )
            for x, y in dots
        ),
        class_=f"line-{kind % KINDS}",
    )


def _grid(up: Scale, title: str) -> Iterator[Markup]:
    for value in _ticks(up):
        yield element("line", x1=LEFT, x2=RIGHT, y1=up(value), y2=up(value), class_="grid")
        yield element("text", number(value), x=LEFT - 8, y=up(value) + 4, class_="tick end")
    middle = (TOP + BOTTOM) / 2
    yield element("text", title, x=12, y=middle, class_="label middle", transform=f"rotate(-90 12 {middle:g})")


def _axis(across: Scale, title: str) -> Iterator[Markup]:
    yield element("line", x1=LEFT, x2=RIGHT, y1=BOTTOM, y2=BOTTOM, class_="axis")
    for value in _ticks(across):
        x = across(value)
        yield element("line", x1=x, x2=x, y1=BOTTOM, y2=BOTTOM + 3, class_="axis")
        yield element("text", number(value), x=x, y=BOTTOM + 16, class_="tick middle")
    yield element("text", title, x=(LEFT + RIGHT) / 2, y=BOTTOM + 34, class_="label middle")


def _ticks(scale: Scale) -> list[float]:
    step = nice_step(scale.high - scale.low, TICKS)
    return [each * step for each in range(round(scale.low / step), math.floor(scale.high / step + 1e-9) + 1)]


def _keys(known: Sequence[Line]) -> Iterator[Markup]:
    """Under the axis, which curve is which."""
    a_row = WIDTH // KEY_WIDTH
    for kind, line in enumerate(known):
        x, y = LEFT + KEY_WIDTH * (kind % a_row), BOTTOM + 52 + KEY_HEIGHT * (kind // a_row)
        name = line.name if len(line.name) <= KEY_CHARACTERS else f"{line.name[: KEY_CHARACTERS - 1]}…"
        stroke = element("line", x1=x, x2=x + 22, y1=y, y2=y, class_="curve")
        yield element("g", stroke, class_=f"line-{kind % KINDS}")
        yield element("text", element("title", line.name), name, x=x + 28, y=y + 4, class_="label")


def _told(known: Sequence[Line], across: str, up: str) -> str:
    """The curves in words: a few points of each, or how they begin and end."""
    found = []
    for line in known:
        points = line.points()
        few = points if len(points) <= TOLD_POINTS else [points[0], points[-1]]
        values = ", ".join(f"{number(y)} at {number(x)}" for x, y in few)
        found.append(f"{line.name}: {values}")
    return f"{up} by {across}. " + "; ".join(found) + "."
