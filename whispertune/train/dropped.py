"""Rows that were not used, as a run goes on: each stands in dropped.jsonl once, and too many bad ones end the run.

dropped = DroppedRows(run.dropped, splits, max_share=0.05, sources=recipe.data.train)
dropped.add(problems)                    # before the start, of all splits
dropped.of_step(step, segments_so_far)   # TrainingError where the share is passed, or no step has a usable row
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from whispertune.data.problems import ASKED_FOR, write_dropped
from whispertune.data.segments import Problem
from whispertune.errors import TrainingError
from whispertune.recipe import SourceTable
from whispertune.train.feed import LoadedStep
from whispertune.train.splits import Splits

MIN_STREAMED = 1_000  # rows of streams that bad ones are a share of, while fewer were drawn
MOST_EMPTY_STEPS = 20  # in a row without a row that can be used


class DroppedRows:
    """What stands in dropped.jsonl, and how many of the training rows are bad."""

    def __init__(self, path: Path, splits: Splits, max_share: float, sources: Sequence[SourceTable]) -> None:
        self.path, self.splits, self.max_share, self.sources = path, splits, max_share, sources
        self._written = set(_read(path))
        self._bad = sum(_is_bad(problem) for problem in splits.train.problems)
        self._drawn_bad: set[str] = set()
        self._empty_steps = 0

    def add(self, problems: Iterable[Problem]) -> None:
        """Write down the rows that do not stand there yet."""
        new = {(problem.where, problem.kind): problem for problem in problems}
        fresh = [problem for key, problem in new.items() if key not in self._written]
        self._written |= set(new)
        if fresh or not self.path.exists():
            write_dropped(self.path, fresh, append=True)

    def of_step(self, step: LoadedStep, segments: int) -> None:
        """Write down what a step could not use; `segments` were drawn so far.

        Raises:
            TrainingError: more than the share of the rows is bad, or step after step has none that can be used.
        """
        problems = [self._told(problem) for problem in step.problems]
        self.add(problems)
        new = {problem.where for problem in problems if _is_bad(problem)} - self._drawn_bad
        self._drawn_bad |= new
        self._empty_steps = 0 if step.windows else self._empty_steps + 1
        if self._empty_steps >= MOST_EMPTY_STEPS:
            raise self._error(f"{MOST_EMPTY_STEPS} steps in a row have no row that can be used")
        bad = self._bad + len(self._drawn_bad)
        rows = len(self.splits.train.problems) + len(self.splits.train.segments)
        rows += max(MIN_STREAMED, segments) if self.splits.streams else 0
        if new and bad / rows > self.max_share:
            drawn = len(self._drawn_bad)
            raise self._error(
                f"{100 * bad / rows:.1f} % of the training rows cannot be used, {drawn} of them turned out so when "
                "they were drawn"
            )

    def _told(self, problem: Problem) -> Problem:
        """With the source it is of, by the prefix of its id."""
        if problem.source:
            return problem
        index = int(problem.where.partition("/")[0]) if len(self.sources) > 1 else 0
        return replace(problem, source=self.sources[index].source)

    def _error(self, what: str) -> TrainingError:
        fix = "mend or remove the recordings named there, or raise data.max_bad_share"
        return TrainingError(what, where=str(self.path), fix=fix)


def _is_bad(problem: Problem) -> bool:
    return problem.kind not in ASKED_FOR


def _read(path: Path) -> Iterable[tuple[str, str]]:
    """What was written before a run was stopped; a line that was cut off is left out."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = (json.loads(line) for line in lines if line.endswith("}"))
    return [(row["where"], row["reason"]) for row in rows]
