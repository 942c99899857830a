"""What a range test of learning rates found, drawn as an SVG file of its own.

Path("find-lr.svg").write_text(draw_range_test(found))
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from whispertune.drawing.charts import Scale, nice_step
from whispertune.drawing.markup import Markup, element
from whispertune.train.learning.find_lr import RangeTest

WIDTH, HEIGHT = 640, 380
LEFT, RIGHT, TOP, BOTTOM = 60, 620, 72, 320
ABOVE_START = 0.5  # of the fall is shown above where the loss began; what diverges leaves the drawing
TICKS = 6  # about, of the loss
WORDS = 120  # that a mark's words take
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

STYLE = Markup("""
svg { --page: #ffffff; --text: #1e1d1b; --muted: #5d5953; --grid: #ebe8e2; --accent: #2b5f8c; --band: #e3edf5;
  --dot: #9db9d1; background: var(--page); }
@media (prefers-color-scheme: dark) { svg { --page: #1d2024; --text: #e9e7e2; --muted: #aaa69e; --grid: #2a2e33;
  --accent: #8fbbe2; --band: #26384a; --dot: #56779a; } }
text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; fill: var(--muted); }
.title { font-size: 15px; font-weight: 600; fill: var(--text); }
.label { fill: var(--text); } .chosen { fill: var(--accent); font-weight: 600; }
.middle { text-anchor: middle; } .end { text-anchor: end; }
.grid { stroke: var(--grid); } .axis { stroke: var(--muted); } .band { fill: var(--band); }
.dot { fill: var(--dot); } .curve { fill: none; stroke: var(--accent); stroke-width: 2.2; stroke-linejoin: round; }
.suggestion { stroke: var(--accent); stroke-width: 1.6; }
.default { stroke: var(--muted); stroke-width: 1.2; stroke-dasharray: 4 4; }
""")


def draw_range_test(found: RangeTest) -> str:
    """Loss against rate, both as they were and smoothed, with the suggestion and the recipe's default marked."""
    across = Scale(math.log10(found.rates[0]), math.log10(found.rates[-1]), LEFT, RIGHT)
    up = _loss_scale(found)
    suggestion = found.suggestion
    told = suggestion.why if suggestion.sure == "none" else f"{suggestion.rate:.1e} is suggested. {suggestion.why}"
    return element(
        "svg",
        element("title", "Learning rate, range test"),
        element("desc", told),
        element("style", STYLE),
        element("text", "Loss by learning rate", x=LEFT, y=24, class_="title"),
        _band(found, across),
        *_loss_axis(up),
        *_rate_axis(across),
        _curve(found, across, up),
        *_marks(found, across),
        xmlns="http://www.w3.org/2000/svg",
        role="img",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        width=WIDTH,
        height=HEIGHT,
        aria_label=told,
    )


def _loss_scale(found: RangeTest) -> Scale:
    least, start = min(found.smoothed), found.smoothed[0]
    most = start + ABOVE_START * max(start - least, 0.1 * abs(start), 1e-3)
    inside = [loss for loss in found.losses if loss <= most]
    step = nice_step(most - min([least, *inside]), TICKS)
    low = math.floor(min([least, *inside]) / step) * step
    return Scale(low, math.ceil(most / step) * step, BOTTOM, TOP)


def _curve(found: RangeTest, across: Scale, up: Scale) -> Markup:
    """Dots for the losses, a line through the smoothed ones; both end at the frame."""
    places = [across(math.log10(rate)) for rate in found.rates]
    dots = (
        element("circle", cx=x, cy=up(loss), r=2.6, class_="dot")
        for x, loss in zip(places, found.losses, strict=True)
        if up.low <= loss <= up.high
    )
    line = " ".join(f"{x:.1f},{up(loss):.1f}" for x, loss in zip(places, found.smoothed, strict=True))
    return element(
        "g",
        element("clipPath", element("rect", x=LEFT, y=TOP, width=RIGHT - LEFT, height=BOTTOM - TOP), id="frame"),
        *dots,
        element("polyline", points=line, class_="curve", clip_path="url(#frame)"),
    )


def _band(found: RangeTest, across: Scale) -> Markup:
    """Where the suggestion would lie with other noise."""
    low, high = across(math.log10(found.suggestion.low)), across(math.log10(found.suggestion.high))
    left, right = max(LEFT, low), min(RIGHT, high)
    return element("rect", x=left, y=TOP, width=max(0.0, right - left), height=BOTTOM - TOP, class_="band")


def _marks(found: RangeTest, across: Scale) -> Iterator[Markup]:
    """The suggestion, where there is one, and the default; their words keep out of each other's way."""
    suggested = found.suggestion.rate
    yield from _mark(f"default {found.default:.1e}", found.default, across, suggested, class_="default")
    if found.suggestion.sure != "none":
        yield from _mark(f"suggested {suggested:.1e}", suggested, across, found.default, class_="suggestion")


def _mark(told: str, rate: float, across: Scale, other: float, class_: str) -> Iterator[Markup]:
    x = across(math.log10(rate))
    if not LEFT <= x <= RIGHT:
        return
    left = rate < other if rate != other else class_ == "default"
    left = left if LEFT + WORDS < x < RIGHT - WORDS else x > (LEFT + RIGHT) / 2
    y = TOP - 8 if class_ == "default" else TOP - 24
    yield element("line", x1=x, x2=x, y1=y - 10, y2=BOTTOM, class_=class_)
    classes = f"{'end' if left else 'start'} {'chosen' if class_ == 'suggestion' else ''}"
    yield element("text", told, x=x + (-5 if left else 5), y=y, class_=classes.strip())


def _loss_axis(up: Scale) -> Iterator[Markup]:
    step = nice_step(up.high - up.low, TICKS)
    for number in range(round((up.high - up.low) / step) + 1):
        value = up.low + number * step
        yield element("line", x1=LEFT, x2=RIGHT, y1=up(value), y2=up(value), class_="grid")
        yield element("text", f"{value:.3g}", x=LEFT - 8, y=up(value) + 4, class_="end")
    middle = (TOP + BOTTOM) / 2
    told = "loss, nats a token"
    yield element("text", told, x=16, y=middle, class_="label middle", transform=f"rotate(-90 16 {middle:g})")


def _rate_axis(across: Scale) -> Iterator[Markup]:
    """Powers of ten, and short marks at what lies between."""
    yield element("line", x1=LEFT, x2=RIGHT, y1=BOTTOM, y2=BOTTOM, class_="axis")
    for power in range(math.floor(across.low), math.ceil(across.high) + 1):
        for digit in range(1, 10):
            at = power + math.log10(digit)
            if across.low - 1e-9 <= at <= across.high + 1e-9:
                x = across(at)
                yield element("line", x1=x, x2=x, y1=BOTTOM, y2=BOTTOM + (7 if digit == 1 else 3), class_="axis")
                if digit == 1:
                    yield element(
                        "text", f"10{str(power).translate(SUPERSCRIPTS)}", x=x, y=BOTTOM + 22, class_="middle"
                    )
    yield element("text", "learning rate", x=(LEFT + RIGHT) / 2, y=BOTTOM + 44, class_="label middle")
