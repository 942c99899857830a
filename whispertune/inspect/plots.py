"""The charts of a set: how long, how fast, how loud and how noisy its rows are, and by speaker.

plots(survey)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whispertune.data.table import SegmentTable
from whispertune.drawing.charts import boxes, distribution
from whispertune.drawing.markup import Markup, element, join
from whispertune.inspect.numbers import rates
from whispertune.inspect.survey import Survey

SPEAKERS = 12  # have a box plot each; those who speak most


@dataclass(frozen=True, eq=False, slots=True)
class Measured:
    """One thing that every row has a value of."""

    title: str
    unit: str
    values: NDArray[Any]
    whole: bool = False


def plots(survey: Survey) -> Markup:
    """Histograms with box plots; box plots by speaker where there are several."""
    measured = _measured(survey)
    drawn = [distribution(each.values, each.title, each.unit, whole=each.whole) for each in measured]
    if not any(drawn):
        return Markup()
    overall = join(element("h3", "How the rows are spread"), element("div", *drawn, class_="charts"))
    rows = _rows_by_speaker(survey.table)
    if len(rows) < 2:
        return overall
    by_speaker = (
        boxes({name: each.values[of] for name, of in rows.items()}, each.title, each.unit) for each in measured
    )
    several = len(survey.table.distinct("speakers"))
    told = f"The {SPEAKERS} of {several:,} speakers who speak most." if several > SPEAKERS else None
    return join(
        overall,
        element("h3", "By speaker"),
        element("p", told, class_="muted") if told else None,
        element("div", *by_speaker, class_="charts"),
    )


def _measured(survey: Survey) -> list[Measured]:
    table, measures = survey.table, survey.measures
    found = [Measured("Duration of a row", "seconds", table.durations_s)]
    if survey.tokens is not None:
        found.append(Measured("Tokens of a row", "tokens", survey.tokens, whole=True))
    found.append(Measured("Speech rate", "characters a second", rates(table)))
    if measures is not None:
        found.append(Measured("Signal level", "dBFS", measures.level_db))
        found.append(Measured("Signal to noise, an estimate", "dB", measures.snr_db))
    return found


def _rows_by_speaker(table: SegmentTable) -> dict[str, NDArray[np.int64]]:
    """The rows of each of the speakers who speak most."""
    coded = table.speakers
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    names = coded.dictionary.to_pylist()
    seconds = np.bincount(codes[codes >= 0], weights=table.durations_s[codes >= 0], minlength=len(names))
    most = [int(code) for code in np.argsort(-seconds, kind="stable")[:SPEAKERS] if seconds[code] > 0]
    return {names[code]: np.flatnonzero(codes == code) for code in most}
