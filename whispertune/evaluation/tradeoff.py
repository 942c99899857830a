"""Between what was learned and what was forgotten: mixtures of base and tuned model, and which one to keep.

found = TradeOff((Point(0.0, on_dev, {"english": figures}), Point(0.5, ...), Point(1.0, ...)), max_loss=0.05)
found.chosen                     # the Point that the rule picks, or None
page_of(found, "my-run")         # the curves and the table behind them, HTML

Lambda is the share of the way from the base model's weights (0) to the tuned one's (1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from whispertune.drawing.lines import Line, lines
from whispertune.drawing.markup import element, join
from whispertune.drawing.page import page
from whispertune.drawing.tables import table
from whispertune.evaluation.retention import NAMES, SetFigures, relative_change

MAKER = "whispertune soften"
TARGET = "dev"
LAMBDA = "Lambda is the share of the way from the weights of the base model (0) to those of the tuned one (1)"


@dataclass(frozen=True, slots=True)
class Point:
    """One mixture: how it does on what it was tuned for, and on each retention set."""

    share: float  # lambda
    target: SetFigures
    retention: Mapping[str, SetFigures]


@dataclass(frozen=True, slots=True)
class TradeOff:
    """Mixtures by rising lambda, the base model first, and the rule that picks one of them."""

    points: tuple[Point, ...]
    max_loss: float  # errors that a set may have more than with the base, relative

    @property
    def base(self) -> Point:
        return self.points[0]

    @property
    def rule(self) -> str:
        return (
            f"the best on {TARGET} among the mixtures that are better there than the base model and have no retention "
            f"set more than {100 * self.max_loss:g} % relative worse"
        )

    @property
    def chosen(self) -> Point | None:
        """What the rule picks, of equal ones the nearest to the base; None where nothing is as it asks."""
        fit = [each for each in self.points[1:] if self.keeps(each) and self.learned(each)]
        return min(fit, key=lambda each: (each.target.value, each.share)) if fit else None

    def changes(self, point: Point) -> dict[str, float]:
        """By retention set, how many more errors than with the base, relative."""
        base = self.base.retention
        return {name: relative_change(base[name].value, found.value) for name, found in point.retention.items()}

    def keeps(self, point: Point) -> bool:
        """Whether no retention set is too much worse."""
        return all(change <= self.max_loss + 1e-9 for change in self.changes(point).values())

    def learned(self, point: Point) -> bool:
        return point.target.value < self.base.target.value

    def told(self) -> str:
        """What was picked and why, in a sentence."""
        chosen = self.chosen
        if chosen is not None:
            lost = [f"{name} {100 * change:+.1f} %" for name, change in self.changes(chosen).items()]
            return (
                f"chosen: lambda {chosen.share:g}, {_rate(chosen.target)} on {TARGET} (base "
                f"{self.base.target.value:.1f}); retention against the base: {', '.join(lost)}"
            )
        learned = [each for each in self.points[1:] if self.learned(each)]
        if not learned:
            return f"none chosen: no mixture is better on {TARGET} than the base model"
        least = min(learned, key=lambda each: max(self.changes(each).values()))
        worst, change = max(self.changes(least).items(), key=lambda each: each[1])
        return (
            f"none chosen: all that is better on {TARGET} than the base model loses more than "
            f"{100 * self.max_loss:g} % on a retention set; nearest to it: lambda {least.share:g}, with {worst} "
            f"{100 * change:+.1f} %"
        )

    def as_json(self) -> dict[str, Any]:
        """The figures under the names that `soften --json` promises."""
        chosen = self.chosen
        return {
            "lambdas": [each.share for each in self.points],
            "target": [{"lambda": each.share, **each.target.as_json()} for each in self.points],
            "retention": {
                name: [
                    {
                        "lambda": each.share,
                        **each.retention[name].as_json(),
                        "relative_change": self.changes(each)[name],
                    }
                    for each in self.points
                ]
                for name in self.base.retention
            },
            "chosen": chosen.share if chosen else None,
            "rule": self.rule,
        }


def _rate(found: SetFigures) -> str:
    return f"{NAMES[found.metric]} {found.value:.1f} %"


# --- what people see -------------------------------------------------------------------------------------------


def heads(found: TradeOff, *, intervals: bool = True) -> list[str]:
    """The titles of `cells`."""
    first, width = found.base, ["95 %"] if intervals else []
    titles = ["lambda", f"{TARGET}: {NAMES[first.target.metric]}, %", *width]
    for name, figures in first.retention.items():
        titles += [f"{name}: {NAMES[figures.metric]}, %", *width, "against base"]
    return [*titles, ""]


def cells(found: TradeOff, point: Point, *, intervals: bool = True) -> list[str]:
    """A row of the table, without the intervals where there is little room."""
    row = [f"{point.share:g}", *_figures(point.target, intervals)]
    changes = found.changes(point)
    for name, figures in point.retention.items():
        row += [*_figures(figures, intervals), f"{100 * changes[name]:+.1f} %"]
    return [*row, _remark(found, point)]


def _figures(found: SetFigures, intervals: bool) -> list[str]:
    width = [f"{found.interval[0]:.1f} to {found.interval[1]:.1f}"] if intervals else []
    return [f"{found.value:.1f}", *width]


def _remark(found: TradeOff, point: Point) -> str:
    if point is found.base:
        return "base"
    if point == found.chosen:
        return "chosen"
    return "" if found.keeps(point) else "forgets too much"


def page_of(found: TradeOff, run: str, on: date | None = None) -> str:
    """The curves and the table, as a page."""
    chosen, told = found.chosen, found.told()
    marks = [chosen.share] if chosen else []
    titles = heads(found)
    classes = ["", *(["number"] * (len(titles) - 2)), "reason"]
    rows = [cells(found, each) for each in found.points]
    content = join(
        element("header", element("h1", "Between base and tuned: ", element("bdi", run))),
        element(
            "main",
            element("p", f"{told[0].upper()}{told[1:]}.", class_="lead"),
            element("p", f"The rule: {found.rule}. {LAMBDA}."),
            element("h2", "Errors"),
            lines(list(_curves(found)), "Errors of each mixture, with 95 % intervals", "lambda", "%", marks=marks),
            element("h2", "Against the base model"),
            lines(list(_changes(found)), "More or fewer errors than the base", "lambda", "% relative", marks=marks),
            element("h2", "The figures"),
            table("Each mixture", titles, rows, classes=classes, id_="mixtures"),
        ),
        element("footer", f"Written by {MAKER} on {(on or date.today()).isoformat()}."),
    )
    return page(f"Between base and tuned: {run}", content, MAKER)


def _curves(found: TradeOff) -> Iterator[Line]:
    base = found.base
    yield _line(found, f"{TARGET}, {NAMES[base.target.metric]}", [point.target for point in found.points])
    for name, figures in base.retention.items():
        yield _line(found, f"{name}, {NAMES[figures.metric]}", [point.retention[name] for point in found.points])


def _line(found: TradeOff, name: str, figures: Sequence[SetFigures]) -> Line:
    return Line(
        name,
        tuple(point.share for point in found.points),
        tuple(each.value for each in figures),
        low=tuple(each.interval[0] for each in figures),
        high=tuple(each.interval[1] for each in figures),
    )


def _changes(found: TradeOff) -> Iterator[Line]:
    shares = tuple(point.share for point in found.points)
    target = [relative_change(found.base.target.value, point.target.value) for point in found.points]
    yield Line(TARGET, shares, _per_cent(target))
    for name in found.base.retention:
        yield Line(name, shares, _per_cent([found.changes(point)[name] for point in found.points]))


def _per_cent(shares: Sequence[float]) -> tuple[float, ...]:
    return tuple(100 * each for each in shares)
