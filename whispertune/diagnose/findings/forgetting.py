"""Family 6: what the base model could do and the tuned one no longer can.

forgetting([Retained("english", base=11.0, tuned=14.2, rows=120)])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from whispertune.diagnose.finding import Change, Figure, Finding, Sure
from whispertune.evaluation.retention import LEAST_POINTS, Retained, relative_change

KEPT: Final = 0.05  # relative: so much worse is taken for kept
MUCH: Final = 0.25


def forgetting(retained: Sequence[Retained]) -> list[Finding]:
    """One finding for the sets that became worse; none where all are kept or nothing was measured."""
    lost = sorted((each for each in retained if _is_lost(each)), key=_worse, reverse=True)
    if not lost:
        return []
    figures = [
        figure
        for each in lost
        for figure in (
            Figure(f"{each.name}, base", each.base, "%"),
            Figure(f"{each.name}, tuned", each.tuned, f"% ({100 * _worse(each):+.0f} % relative, {each.rows} rows)"),
        )
    ]
    sure: Sure = "certain" if any(each.shown for each in lost) else "likely"
    return [
        Finding(
            key="forgetting",
            severity="high" if _worse(lost[0]) > MUCH else "medium",
            seen=tuple(figures),
            means=f"fine-tuning forgot: {', '.join(each.name for each in lost)} became worse than "
            f"{100 * KEPT:.0f} % relative",
            change=(
                Change("", "whispertune soften", "weights between base and tuned give much of it back"),
                Change("data.train", "some rows of what is to be kept", "a tenth of the rows is often enough"),
                Change("train.learning_rate", "half of it", "weights that move less forget less"),
                Change("train.method", '"lora"', "adapters move less than whole weights"),
            ),
            sure=sure,
        )
    ]


def _worse(each: Retained) -> float:
    """Relative to base."""
    return relative_change(each.base, each.tuned)


def _is_lost(each: Retained) -> bool:
    return each.shown is not False and each.tuned - each.base >= LEAST_POINTS and _worse(each) > KEPT
