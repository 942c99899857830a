"""Histograms and box plots as inline SVG: for screens of any width, in the colours of the page, and told in words.

distribution(durations_s, "Duration", "seconds")                  # a histogram with a box plot above it
boxes({"ann": her_durations_s, "bo": his}, "Duration", "seconds")   # a box plot each
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whispertune.drawing.markup import Markup, element, join

WIDTH = 360  # in units of the drawing; the page scales it
LEFT, RIGHT = 44, 350  # of what is drawn
BOX_Y, BOX_HEIGHT = 16, 18
TOP, BOTTOM = 48, 168  # of the bars
BINS = 24  # about
TICKS = 6  # about
DECIMALS = 6  # of a value; no bins are made of what is finer
ROW_HEIGHT, NAME_WIDTH, NAME_CHARACTERS = 26, 114, 14  # of box plots one below the other

Values = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Quantiles:
    """How the values of the rows are spread."""

    least: float
    p5: float
    p25: float
    median: float
    p75: float
    p95: float
    most: float

    @classmethod
    def of(cls, values: NDArray[Any]) -> Quantiles | None:
        finite = np.asarray(values, dtype=np.float64)
        finite = finite[np.isfinite(finite)]
        if not len(finite):
            return None
        return cls(*(round(float(each), 3) for each in np.percentile(finite, [0, 5, 25, 50, 75, 95, 100])))


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to places between `left` and `right`."""

    low: float
    high: float
    left: float
    right: float

    def __call__(self, value: float) -> float:
        return self.left + (value - self.low) / (self.high - self.low) * (self.right - self.left)


def distribution(values: Values, title: str, unit: str, *, whole: bool = False) -> Markup:
    """A histogram with a box plot above it; nothing where there are no values. `whole`: they are whole numbers."""
    finite = _finite(values)
    quantiles = Quantiles.of(finite)
    if quantiles is None:
        return Markup()
    edges = bin_edges(float(finite.min()), float(finite.max()), whole)
    rows = np.histogram(finite, edges)[0]
    scale = Scale(float(edges[0]), float(edges[-1]), LEFT, RIGHT)
    content = join(
        _box(quantiles, scale, BOX_Y, title),
        _row_axis(int(rows.max())),
        *(_bar(scale, edges, rows, index, unit) for index in range(len(rows)) if rows[index]),
        axis(scale, BOTTOM, unit),
    )
    return _figure(content, BOTTOM + 36, title, unit, _told(quantiles, unit, len(finite)))


def boxes(groups: Mapping[str, Values], title: str, unit: str) -> Markup:
    """A box plot for each group, one below the other; nothing where fewer than two have values."""
    found = {name: Quantiles.of(_finite(values)) for name, values in groups.items()}
    known = {name: quantiles for name, quantiles in found.items() if quantiles is not None}
    if len(known) < 2:
        return Markup()
    step = nice_step(max(q.most for q in known.values()) - min(q.least for q in known.values()), TICKS)
    low = math.floor(min(q.least for q in known.values()) / step) * step
    high = max(low + step, math.ceil(max(q.most for q in known.values()) / step) * step)
    scale = Scale(low, high, NAME_WIDTH, RIGHT)
    bottom = 8 + ROW_HEIGHT * len(known)
    content = join(
        _grid(scale, 4, bottom),
        *(_named_box(name, each, scale, 8 + ROW_HEIGHT * row, unit) for row, (name, each) in enumerate(known.items())),
        axis(scale, bottom, unit),
    )
    told = "; ".join(f"{name}: median {number(each.median)}" for name, each in known.items())
    return _figure(content, bottom + 36, f"{title} by speaker", unit, f"In {unit}. {told}.")


def nice_step(span: float, count: int) -> float:
    """1, 2 or 5 times a power of ten, so that about `count` of them make the span."""
    if span <= 0:
        return 1.0
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    return next((each * power for each in (1.0, 2.0, 5.0) if each * power >= rough * 0.999), 10.0 * power)


def bin_edges(least: float, most: float, whole: bool = False) -> NDArray[np.float64]:
    """Bounds of bins of one round width that hold everything from least to most."""
    width = nice_step(most - least, BINS) if most > least else 1.0
    width = max(1.0, round(width)) if whole else width
    first, last = math.floor(least / width), math.floor(most / width) + 1
    edges = np.arange(first, last + 1, dtype=np.float64) * width
    edges[0], edges[-1] = min(edges[0], least), max(edges[-1], most)  # whatever rounding did
    return edges


def _finite(values: Values) -> NDArray[np.float64]:
    wide = np.asarray(values, dtype=np.float64)
    return np.round(wide[np.isfinite(wide)], DECIMALS)


def _figure(content: Markup, height: float, title: str, unit: str, told: str) -> Markup:
    """The drawing under its title; what it shows is told in words to whoever does not see it."""
    drawing = element(
        "svg",
        element("title", f"{title}, {unit}"),
        element("desc", told),
        content,
        role="img",
        viewBox=f"0 0 {WIDTH} {height:g}",
        aria_label=f"{title}. {told}",
    )
    return element("figure", element("figcaption", title), drawing, class_="chart")


def _told(quantiles: Quantiles, unit: str, rows: int) -> str:
    return (
        f"{rows:,} rows, in {unit}: from {number(quantiles.least)} to {number(quantiles.most)}, "
        f"median {number(quantiles.median)}, half of them between {number(quantiles.p25)} and "
        f"{number(quantiles.p75)}, 90 % between {number(quantiles.p5)} and {number(quantiles.p95)}."
    )


def _box(quantiles: Quantiles, scale: Scale, y: float, told: str) -> Markup:
    """Box: half of the rows; line in it: median; whiskers: 90 %; dots: the least and the most."""
    middle, height = y + BOX_HEIGHT / 2, BOX_HEIGHT
    places = [scale(value) for value in (quantiles.p5, quantiles.p25, quantiles.median, quantiles.p75, quantiles.p95)]
    p5, p25, median, p75, p95 = places
    return element(
        "g",
        element("title", told),
        element("line", x1=p5, x2=p25, y1=middle, y2=middle, class_="whisker"),
        element("line", x1=p75, x2=p95, y1=middle, y2=middle, class_="whisker"),
        *(element("line", x1=x, x2=x, y1=middle - 4, y2=middle + 4, class_="whisker") for x in (p5, p95)),
        element("rect", x=p25, y=y, width=max(1.0, p75 - p25), height=height, class_="box"),
        element("line", x1=median, x2=median, y1=y, y2=y + height, class_="median"),
        *(element("circle", cx=scale(x), cy=middle, r=1.8, class_="dot") for x in (quantiles.least, quantiles.most)),
    )


def _named_box(name: str, quantiles: Quantiles, scale: Scale, y: float, unit: str) -> Markup:
    short = name if len(name) <= NAME_CHARACTERS else f"{name[: NAME_CHARACTERS - 1]}…"
    told = f"{name}: median {number(quantiles.median)} {unit}"
    label = element("text", short, x=NAME_WIDTH - 10, y=y + BOX_HEIGHT / 2 + 4, class_="label end")
    return join(label, _box(quantiles, scale, y, told))


def _bar(scale: Scale, edges: NDArray[np.float64], rows: NDArray[Any], index: int, unit: str) -> Markup:
    left, right = scale(float(edges[index])), scale(float(edges[index + 1]))
    height = (BOTTOM - TOP) * int(rows[index]) / _row_top(int(rows.max()))
    told = f"{number(edges[index])} to {number(edges[index + 1])} {unit}: {int(rows[index]):,} rows"
    gap = 1.0 if right - left > 4 else 0.0
    size = {"x": left, "y": BOTTOM - height, "width": right - left - gap, "height": height}
    return element("rect", element("title", told), class_="bar", **size)


def _row_top(most: int) -> float:
    step = max(1.0, nice_step(most, 4))
    return step * math.ceil(most / step)


def _row_axis(most: int) -> Markup:
    """How many rows a bar stands for, to the left, with faint lines across."""
    step = max(1.0, nice_step(most, 4))
    marks = []
    for number in range(round(_row_top(most) / step) + 1):
        y = BOTTOM - (BOTTOM - TOP) * number * step / _row_top(most)
        marks.append(element("line", x1=LEFT, x2=RIGHT, y1=y, y2=y, class_="grid"))
        marks.append(element("text", f"{number * step:,.0f}", x=LEFT - 6, y=y + 4, class_="tick end"))
    return join(*marks, element("text", "rows", x=LEFT - 6, y=TOP - 12, class_="tick end"))


def _ticks(scale: Scale) -> list[float]:
    step = nice_step(scale.high - scale.low, TICKS)
    first, last = math.ceil(scale.low / step - 1e-9), math.floor(scale.high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _grid(scale: Scale, top: float, bottom: float) -> Markup:
    lines = (element("line", x1=scale(x), x2=scale(x), y1=top, y2=bottom, class_="grid") for x in _ticks(scale))
    return join(*lines)


def axis(scale: Scale, y: float, unit: str) -> Markup:
    ticks = _ticks(scale)
    return join(
        element("line", x1=scale.left, x2=scale.right, y1=y, y2=y, class_="axis"),
        *(element("line", x1=scale(x), x2=scale(x), y1=y, y2=y + 3, class_="axis") for x in ticks),
        *(element("text", number(x), x=scale(x), y=y + 15, class_="tick middle") for x in ticks),
        element("text", unit, x=(scale.left + scale.right) / 2, y=y + 31, class_="label middle"),
    )


def number(value: float) -> str:
    """At most two decimals, and a real minus sign."""
    rounded = round(float(value), 2)
    text = f"{abs(rounded):,.0f}" if rounded == round(rounded) else f"{abs(rounded):,.2f}".rstrip("0")
    return f"−{text}" if rounded < 0 else text
