"""What tests of runs share: who listens to one and stops it, what it left, and its dev set.

notes = StopAfter(3)
with pytest.raises(Interrupted):
    fine_tune(recipe, run, reporter=notes)
notes.said, lines(run), last(run).weights()
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from whispertune.data.audio import AudioReader
from whispertune.evaluation.evaluate import Evaluation
from whispertune.model.load import ModelFolder, find_model
from whispertune.recipe import Recipe
from whispertune.recipe_file import parse_recipe
from whispertune.reporting import Reporter, StepReport
from whispertune.train.feeding.dropped import DroppedRows
from whispertune.train.feeding.splits import TokenCounter, load_splits
from whispertune.train.keeping.checkpoint import Checkpoint, newest_checkpoint
from whispertune.train.measuring.dev import DevSet
from whispertune.train.measuring.rows import Ranks, Rows
from whispertune.train.run import Run
from whispertune.train.signals import StopRequest
from whispertune.windows.pack import Limits

TIMED = ("second", "hours_per_hour", "_share")  # in the names of what measures time


class Notes(Reporter):
    """Keeps what is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.steps: list[StepReport] = []
        self.decoded: list[str] = []  # what was, to its last row
        self.evaluations: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def step(self, report: StepReport) -> None:
        self.steps.append(report)

    def evaluating(self, what: str, done: int, total: int) -> None:
        if done >= total:
            self.decoded.append(what)

    def evaluated(self, what: str, evaluation: Evaluation) -> None:
        self.evaluations.append(f"{what}, {evaluation.context}")


class StopAfter(Notes):
    """Sends the process a real signal when a step is done."""

    def __init__(self, step: int, number: signal.Signals = signal.SIGTERM) -> None:
        super().__init__()
        self.at, self.number = step, number

    def step(self, report: StepReport) -> None:
        super().step(report)
        if report.step == self.at:
            os.kill(os.getpid(), self.number)


def lines(run: Run) -> list[dict[str, Any]]:
    """The metrics without what measures time."""
    return [{k: v for k, v in line.items() if not any(word in k for word in TIMED)} for line in run.read_metrics()]


def last(run: Run) -> Checkpoint:
    """The newest checkpoint, which must be there."""
    found = newest_checkpoint(run.checkpoints)
    assert found is not None
    return found


def dev_recipe(model: ModelFolder, data: Path, /, **tables: Any) -> Recipe:
    """Trains on `data`/train on 30 s, and measures on `data`/dev three times."""
    content: dict[str, Any] = {
        "model": str(model.path),
        "language": "sv",
        "data": {"train": [{"source": str(data / "train")}], "dev": [{"source": str(data / "dev")}]},
        "windows": {"fit_share": 0.0},
        "evaluation": {"times": 3, "verify_clips": 2},
    }
    return parse_recipe(content | tables)


def open_dev(recipe: Recipe, run: Run, reader: AudioReader, notes: Reporter, ranks: Ranks | None = None) -> DevSet:
    """The dev set of a run that has just begun."""
    folder = find_model(recipe.model)
    counter = TokenCounter(folder.vocabulary)
    splits = load_splits(recipe, folder.vocabulary, reader, counter, Limits(), lambda what, done, total: None)
    if ranks is None or ranks.rank == 0:
        run.start(recipe, splits.fingerprints())
    dropped = DroppedRows(run.dropped, splits, 0.05, recipe.data.train)
    rows = Rows(run, recipe.evaluation, reader, notes, StopRequest(), ranks)
    return DevSet(recipe, run, splits, folder, rows, notes, dropped=dropped)


Started = Callable[..., tuple[DevSet, Notes]]  # (**tables of the recipe), of the fixture `started`
