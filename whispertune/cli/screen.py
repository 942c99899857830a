"""What commands draw: progress bars and messages to stderr, results to stdout.

with Screen(json=False) as screen:
    evaluate(..., progress=screen.rows("evaluating"))
print_evaluations({"base": base, "tuned": tuned})
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from whispertune.evaluation.evaluate import Evaluation
from whispertune.files import json_text
from whispertune.reporting import Reporter, StepReport


class Bars(Progress):
    """Bars, and a line of figures under them, which 100 columns have room for."""

    figures = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.figures:
            yield Text(self.figures)


class Screen(Reporter):
    """Draws bars for whatever runs; nothing of it goes to stdout."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.progress = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
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

    def _draw(self, what: str, done: float, total: float) -> None:
        if what not in self._tasks:
            self._tasks[what] = self.progress.add_task(what, total=total)
        self.progress.update(self._tasks[what], completed=done, total=total)
        if done >= total:
            self.progress.remove_task(self._tasks.pop(what))

    def say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, markup=False)

    def step(self, report: StepReport) -> None:
        figures = step_figures(report)
        self._tenths, before = int(10 * report.done), self._tenths
        if not self.console.is_terminal and self._tenths > before:
            of_all = f"/{report.total_steps}" if report.total_steps else ""
            epoch = "" if report.epoch is None else f"epoch {report.epoch:.2f} · "
            self.say(f"step {report.step}{of_all} · {epoch}{figures}")
        self._draw("training", report.step, report.total_steps or round(report.step / max(report.done, 1e-3)))
        self.progress.figures = "" if report.done >= 1 else figures

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


def step_figures(report: StepReport) -> str:
    """What matters of a step, in about 100 columns."""
    parts = [
        f"loss {report.loss:.3f}",
        f"lr {report.learning_rate:.1e}",
        f"grad {report.grad_norm:.2g}",
        f"{report.hours_per_hour:.3g} h speech/h",
        f"waiting {100 * report.waiting_share:.0f} %",
        f"dev {100 * report.evaluating_share:.0f} %",
        *([f"{report.skipped} skipped"] if report.skipped else []),
        f"{_clock(report.seconds_left)} left",
    ]
    return " · ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, of_hour = divmod(minutes, 60)
    return f"{hours}:{of_hour:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def print_json(content: Mapping[str, Any]) -> None:
    """One JSON object, on one line of stdout."""
    print(json_text(content), flush=True)


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
    notes = [f"normaliser: {first.scores.normalizer}", f"decoded by {first.engine}", _contexts(evaluations)]
    if any(each.biased_by_selection for each in evaluations.values()):
        notes.append("these rows also chose the checkpoint: the tuned figures flatter; give data.test for honest ones")
    table.caption = "; ".join(note for note in notes if note)
    return table


def _contexts(evaluations: Mapping[str, Evaluation]) -> str:
    fit = [name for name, each in evaluations.items() if each.context == "fit"]
    if not fit:
        return ""
    return ("all" if len(fit) == len(evaluations) else ", ".join(fit)) + " on clips cut to what is spoken"


def print_evaluations(evaluations: Mapping[str, Evaluation]) -> None:
    """The table, on stdout."""
    Console(highlight=False).print(evaluation_table(evaluations))
