"""Samples to listen to: which rows of a set are worth it.

random_rows, extreme_rows = choose(survey)
clip = make_clip(survey.table[random_rows[0].row], reader, most_bytes=100_000)   # of evaluation/clips.py
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whispertune.inspect.numbers import rates
from whispertune.inspect.survey import Survey

RANDOM_ROWS = EXTREME_ROWS = 10


@dataclass(frozen=True, slots=True)
class Chosen:
    """A row and why it is shown."""

    row: int
    why: str


def choose(survey: Survey) -> tuple[tuple[Chosen, ...], tuple[Chosen, ...]]:
    """Random rows and extreme rows, none of them twice; of a small set as many of each."""
    orders = [(why, iter(rows.tolist())) for why, rows in _orders(survey)]
    most = min(EXTREME_ROWS, len(survey.table) // 2)
    taken: dict[int, str] = {}
    while len(taken) < most:
        for why, rows in orders[: most - len(taken)]:
            row = next((row for row in rows if row not in taken), None)
            if row is not None:
                taken[row] = why
    rest = np.setdiff1d(np.arange(len(survey.table)), list(taken))
    drawn = np.random.default_rng(0).permutation(rest)[:RANDOM_ROWS]
    whys = [why for why, _ in orders]
    extreme = sorted(taken, key=lambda row: whys.index(taken[row]))
    return tuple(Chosen(int(row), "") for row in drawn), tuple(Chosen(row, taken[row]) for row in extreme)


def _orders(survey: Survey) -> list[tuple[str, NDArray[np.int64]]]:
    """Of each thing a row can be extreme in: the rows, the most extreme first."""
    durations_s, spoken = survey.table.durations_s, rates(survey.table)
    orders = [
        ("longest", _first(-durations_s)),
        ("shortest", _first(durations_s)),
        ("fastest", _first(-spoken)),
        ("slowest", _first(spoken)),
    ]
    if survey.measures is not None:
        orders += [("quietest", _first(survey.measures.level_db)), ("noisiest", _first(survey.measures.snr_db))]
    return orders


def _first(values: NDArray[np.float64] | NDArray[np.float32]) -> NDArray[np.int64]:
    order = np.argsort(values, kind="stable")
    return order[np.isfinite(values[order])][: 2 * EXTREME_ROWS]
