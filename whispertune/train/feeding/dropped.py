"""Rows that were not used, as a run goes on: each stands in dropped.jsonl once, and too many bad ones end the run.

dropped = DroppedRows(run.dropped, splits, max_share=0.05, sources=recipe.data.train)
dropped.add(problems)                    # before the start, of all splits
dropped.of_step(step, segments_so_far, noise)   # TrainingError where the share is passed, or no step has a usable row
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from whispertune.data.problems import ASKED_FOR, write_dropped
from whispertune.data.segments import Problem
from whispertune.errors import TrainingError
from whispertune.recipe import SourceTable
from whispertune.train.feeding.feed import LoadedStep
from whispertune.train.feeding.splits import Splits, with_sources
from whispertune.train.run import read_lines
from whispertune.train.step import Drawn

MIN_STREAMED = 1_000  # rows of streams that bad ones are a share of, while fewer were drawn
MOST_EMPTY_STEPS = 20  # in a row without a row that can be used


class DroppedRows:
    """What stands in dropped.jsonl, and how many of the training rows are bad."""

    def __init__(
        self,
        path: Path,
        splits: Splits,
        max_share: float,
        sources: Sequence[SourceTable],
        room: Callable[[str], AbstractContextManager[None]] = lambda what: nullcontext(),
    ) -> None:
        self.path, self.splits, self.max_share, self.sources, self.room = path, splits, max_share, sources, room
        rows = read_lines(path)  # of a run that is resumed; else there is none
        self._written = {(row["source"], row["where"], row["reason"]) for row in rows}
        self._unwritten: list[Problem] = []  # for which there was no room yet
        self._bad = sum(_is_bad(problem) for problem in splits.train.problems)
        self._drawn_bad = self._drawn_before(rows)
        self._empty_steps = 0

    def add(self, problems: Iterable[Problem]) -> None:
        """Write down the rows that do not stand there yet."""
        new = {_key(problem): problem for problem in problems}
        self._unwritten += [problem for key, problem in new.items() if key not in self._written]
        self._written |= set(new)
        if self._unwritten or not self.path.exists():
            with self.room(self.path.name):
                self._write()

    def _write(self) -> None:
        before = self.path.stat().st_size if self.path.exists() else 0
        try:
            write_dropped(self.path, self._unwritten, append=True)
        except OSError:
            os.truncate(self.path, before)  # no half of a line
            raise
        self._unwritten = []

    def of_step(self, step: LoadedStep | Drawn, segments: int, noise: Sequence[Problem] = ()) -> None:
        """Write down what a step could not use; `segments` were drawn so far.

        What `noise` could not be laid under them is written down too, and counts nothing.

        Raises:
            TrainingError: more than the share of the rows is bad, or step after step has none that can be used.
        """
        problems = with_sources(step.problems, self.sources)
        self.add((*problems, *noise))
        bad_here = {problem.where for problem in problems if _is_bad(problem)}
        self._drawn_bad |= bad_here
        self._empty_steps = 0 if step.windows else self._empty_steps + 1
        if self._empty_steps >= MOST_EMPTY_STEPS:
            raise self._error(f"{MOST_EMPTY_STEPS} steps in a row have no row that can be used")
        bad = self._bad + len(self._drawn_bad)
        rows = len(self.splits.train.problems) + len(self.splits.train.segments)
        rows += max(MIN_STREAMED, segments) if self.splits.streams else 0
        if bad_here and bad / rows > self.max_share:
            drawn = len(self._drawn_bad)
            raise self._error(
                f"{100 * bad / rows:.1f} % of the training rows cannot be used, {drawn} of them turned out so when "
                "they were drawn"
            )

    def _drawn_before(self, rows: Iterable[dict[str, Any]]) -> set[str]:
        """Training rows that turned out bad when they were drawn, before the run was resumed.

        What evaluations found is of other sources; what reading the data finds, it finds again.
        """
        sources = {table.source for table in self.sources}
        at_start = {_key(problem) for problem in self.splits.train.problems}
        return {
            row["where"]
            for row in rows
            if row["source"] in sources
            and row["reason"] not in ASKED_FOR
            and (row["source"], row["where"], row["reason"]) not in at_start
        }

    def _error(self, what: str) -> TrainingError:
        fix = "mend or remove the recordings named there, or raise data.max_bad_share"
        return TrainingError(what, where=str(self.path), fix=fix)


def _key(problem: Problem) -> tuple[str, str, str]:
    """What makes it another one: a recording may be of train and of dev."""
    return problem.source, problem.where, problem.kind


def _is_bad(problem: Problem) -> bool:
    return problem.kind not in ASKED_FOR
