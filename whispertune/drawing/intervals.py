"""Figures with their intervals, one below the other, as inline SVG and in words.

intervals([Interval("base", 126.9, 102.9, 166.7), Interval("tuned", 45.1, 42.0, 48.3)], "WER", "%, 95 % interval")
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from whispertune.drawing.charts import Scale, axis, nice_step, number
from whispertune.drawing.markup import Markup, element, join

WIDTH = 560
LEFT, RIGHT, TOP = 190, 540, 12
ROW_HEIGHT = 28
NAME_CHARACTERS = 26
TICKS = 6


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure, and the interval that holds it."""

    name: str
    value: float
    low: float
    high: float


def intervals(rows: Sequence[Interval], title: str, unit: str) -> Markup:
    """A dot and a line for each, from 0 on; nothing where there are none."""
    if not rows:
        return Markup()
    most = max(max(row.value, row.high) for row in rows)
    step = nice_step(most, TICKS)
    scale = Scale(0.0, max(step, math.ceil(most / step) * step), LEFT, RIGHT)
    bottom = TOP + ROW_HEIGHT * len(rows)
    told = "; ".join(f"{row.name}: {number(row.value)} ({number(row.low)} to {number(row.high)})" for row in rows)
    drawing = element(
        "svg",
        element("title", f"{title}, {unit}"),
        element("desc", told),
        *(_row(row, scale, TOP + ROW_HEIGHT * place + ROW_HEIGHT / 2) for place, row in enumerate(rows)),
        axis(scale, bottom, unit),
        role="img",
        viewBox=f"0 0 {WIDTH} {bottom + 40}",
        aria_label=f"{title}. {told}.",
    )
    return element("figure", element("figcaption", title), drawing, class_="chart wide")


def _row(row: Interval, scale: Scale, y: float) -> Markup:
    short = row.name if len(row.name) <= NAME_CHARACTERS else f"…{row.name[1 - NAME_CHARACTERS :]}"
    low, high = scale(row.low), scale(row.high)
    return join(
        element("line", x1=LEFT, x2=RIGHT, y1=y, y2=y, class_="grid"),
        element("text", element("title", row.name), short, x=LEFT - 10, y=y + 4, class_="label end"),
        element(
            "g",
            element("title", f"{row.name}: {number(row.value)}, {number(row.low)} to {number(row.high)}"),
            element("line", x1=low, x2=high, y1=y, y2=y, class_="curve"),
            *(element("line", x1=x, x2=x, y1=y - 5, y2=y + 5, class_="curve") for x in (low, high)),
            element("circle", cx=scale(row.value), cy=y, r=4.5, class_="point"),
            class_="line-0",
        ),
    )
