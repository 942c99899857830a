"""What commands draw: progress bars and messages to stderr, results to stdout.

with Screen(json=False) as screen:
    evaluate(..., progress=screen.rows("evaluating"))
print_evaluations({"base": base, "tuned": tuned})
"""

from __future__ import annotations

import json as json_module
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from whispertune.evaluation import Evaluation
from whispertune.reporting import Reporter, StepReport


class Screen(Reporter):
    """Draws bars for whatever runs; nothing of it goes to stdout."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._tenths = 0

    def __enter__(self) -> Screen:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.progress.stop()

    def _draw(self, what: str, done: float, total: float, note: str = "") -> None:
        if what not in self._tasks:
            self._tasks[what] = self.progress.add_task(what, total=total, note=note)
        self.progress.update(self._tasks[what], completed=done, total=total, note=note)
        if done >= total:
            self.progress.remove_task(self._tasks.pop(what))

    def say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, markup=False)

    def step(self, report: StepReport) -> None:
        note = (
            f"loss {report.loss:.3f} · lr {report.learning_rate:.1e} · {report.hours_per_hour:.2f} h speech/h · "
            f"{_clock(report.seconds_left)} left"
        )
        self._tenths, before = int(10 * report.done), self._tenths
        if not self.console.is_terminal and self._tenths > before:
            of_all = f"/{report.total_steps}" if report.total_steps else ""
            epoch = "" if report.epoch is None else f"epoch {report.epoch:.2f} · "
            self.say(f"step {report.step}{of_all} · {epoch}{note}")
        self._draw("training", report.step, report.total_steps or round(report.step / max(report.done, 1e-3)), note)

    def working(self, what: str, done: int, total: int) -> None:
        self._draw(what, done, total)

    def evaluating(self, what: str, done: int, total: int) -> None:
        self._draw(f"decoding, {what}", done, total)

    def evaluated(self, what: str, evaluation: Evaluation) -> None:
        scores = evaluation.scores
        self.say(
            f"{what}: WER {scores.wer:.1f} ({scores.wer_interval[0]:.1f} to {scores.wer_interval[1]:.1f}), "
            f"CER {scores.cer:.1f} on {scores.rows} rows of {evaluation.split}, {evaluation.seconds:.0f} s"
        )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def print_json(content: Mapping[str, Any]) -> None:
    """One JSON object, on one line of stdout."""
    print(json_module.dumps(content, ensure_ascii=False), flush=True)


ROWS: tuple[tuple[str, Callable[[Evaluation], str]], ...] = (
    ("WER raw, %", lambda e: f"{e.scores.wer:.1f}"),
    ("  95 % interval", lambda e: f"{e.scores.wer_interval[0]:.1f} to {e.scores.wer_interval[1]:.1f}"),
    ("  substituted, % of words", lambda e: f"{e.scores.substitutions:.1f}"),
    ("  deleted, % of words", lambda e: f"{e.scores.deletions:.1f}"),
    ("  inserted, % of words", lambda e: f"{e.scores.insertions:.1f}"),
    ("CER raw, %", lambda e: f"{e.scores.cer:.1f}"),
    ("WER normalised, %", lambda e: f"{e.scores.wer_normalized:.1f}"),
    ("CER normalised, %", lambda e: f"{e.scores.cer_normalized:.1f}"),
)


def evaluation_table(evaluations: Mapping[str, Evaluation]) -> Table:
    """Evaluations side by side, a column each."""
    first = next(iter(evaluations.values()))
    table = Table(title=f"{first.scores.rows} rows, {first.audio_seconds / 60:.1f} min of speech ({first.split})")
    table.add_column("")
    for name in evaluations:
        table.add_column(name, justify="right")
    for label, value in ROWS:
        table.add_row(label, *(value(each) for each in evaluations.values()))
    notes = [f"normaliser: {first.scores.normalizer}", f"decoded by {first.engine}"]
    if any(each.biased_by_selection for each in evaluations.values()):
        notes.append("these rows also chose the checkpoint: the tuned figures flatter; give data.test for honest ones")
    table.caption = "; ".join(notes)
    return table


def print_evaluations(evaluations: Mapping[str, Evaluation]) -> None:
    """The table, on stdout."""
    Console(highlight=False).print(evaluation_table(evaluations))
