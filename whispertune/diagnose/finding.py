"""A finding: what was seen, what it means, what to change, and how sure that is.

Finding(
    key="over-confident",
    severity="medium",
    seen=(Figure("dev loss, first", 0.3075), Figure("dev loss, last", 0.4679)),
    means="dev loss rises while WER falls ...",
    change=(Change("checkpoints.best", '"wer"', "keep by WER"),),
    sure="likely",
)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

Severity = Literal["high", "medium", "low"]
Bound = Literal["exactly", "at least", "at most"]
Sure = Literal["certain", "likely", "possible"]

SEVERITIES: Final = ("high", "medium", "low")
SURENESS: Final = ("certain", "likely", "possible")


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that was seen, or a few words of text."""

    name: str
    value: float | int | str
    unit: str = ""

    @property
    def told(self) -> str:
        shown = self.value if isinstance(self.value, str) else number(self.value)
        return f"{self.name}: {shown}{' ' + self.unit if self.unit else ''}"


@dataclass(frozen=True, slots=True)
class Change:
    """A key of the recipe, or what else is to be done where none does it."""

    key: str  # empty where it is no key of the recipe
    value: str  # as it stands in the recipe, or in words
    why: str
    bound: Bound = "exactly"  # what of the recipe's own value is as good

    @property
    def told(self) -> str:
        return f"{self.key} = {self.value}: {self.why}" if self.key else f"{self.value}: {self.why}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a run shows."""

    key: str
    severity: Severity
    seen: tuple[Figure, ...]
    means: str
    change: tuple[Change, ...]
    sure: Sure
    otherwise: tuple[Change, ...] = ()  # what comes next where the recipe has some of `change` already

    def as_json(self) -> dict[str, Any]:
        """Under the names that `diagnose --json` promises."""
        return {
            "key": self.key,
            "severity": self.severity,
            "sure": self.sure,
            "seen": [{"name": each.name, "value": _finite(each.value), "unit": each.unit} for each in self.seen],
            "means": self.means,
            "change": [{"key": each.key, "value": each.value, "why": each.why} for each in self.change],
        }


def sorted_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The most important first, and of equally important ones the surest; else in the order given."""
    return tuple(sorted(findings, key=lambda each: (SEVERITIES.index(each.severity), SURENESS.index(each.sure))))


def number(value: float) -> str:
    """Whole numbers whole, rates of learning in powers of ten, others with the digits that say something."""
    if isinstance(value, int) or value == round(value):
        return f"{value:,.0f}"
    if abs(value) < 0.001:
        return f"{value:.3g}"
    return f"{value:.4f}".rstrip("0") if abs(value) < 1 else f"{value:,.2f}".rstrip("0").rstrip(".")


def _finite(value: float | int | str) -> float | int | str | None:
    """JSON has no nan."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
