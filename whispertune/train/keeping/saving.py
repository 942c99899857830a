"""Saving while a run goes on, and what happens where the disk is full.

saver = Saver(run, keep=2, on_full="stop", tell=reporter.say)
saver.preflight(trained_bytes, model_bytes)           # a line where there is too little room, before anything is lost
saver.save(weights, optimizer.state_dict(), progress)         # False where it could not be saved
saver.model(lambda folder: write_folder(folder, ...))         # the best weights, likewise
with saver.room("metrics.jsonl"):                             # whatever else is written
    run.add_step(report)
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from whispertune.errors import TrainingError
from whispertune.files import FULL, disk_trouble, sync
from whispertune.train.keeping.checkpoint import Progress, save_checkpoint
from whispertune.train.keeping.placing import publish
from whispertune.train.run import Run

if TYPE_CHECKING:
    import torch

GIGABYTE: Final = 1e9


class Saver:
    """Writes what a run keeps. Where the disk is full the run is told so, and stops or goes on as `on_full` says."""

    def __init__(self, run: Run, keep: int, on_full: Literal["stop", "continue"], tell: Callable[[str], None]) -> None:
        self.run, self.keep, self.on_full, self.tell = run, keep, on_full, tell

    def preflight(self, trained_bytes: int, model_bytes: int, *, copies: int = 3, kept: int = 0) -> bool:
        """Tell in a line where a run will not have room: `keep` checkpoints and the one being written, and the model.

        A checkpoint is `copies` times what is trained: weights and two moments, one more with a moving average.
        Besides them so many times what is trained is `kept` to be averaged. What the run has saved already is room
        that it may use.
        """
        run = self.run
        needed = ((self.keep + 1) * copies + kept) * trained_bytes + 2 * model_bytes  # the old model goes after the new
        room = shutil.disk_usage(run.folder).free + sum(map(_size, (run.checkpoints, run.model, run.averages)))
        if room >= needed:
            return True
        averaged = f", {kept} weights to average" if kept else ""
        self.tell(
            f"little room in {run.folder}: {self.keep + 1} checkpoints{averaged} and the best weights need up to "
            f"{_gigabytes(needed)}, {_gigabytes(room)} can be had; fewer checkpoints.keep need less"
        )
        return False

    def save(
        self,
        weights: Mapping[str, torch.Tensor],
        optimizer: dict[str, Any],
        progress: Progress,
        average: Mapping[str, torch.Tensor] | None = None,
        extras: dict[str, Any] | None = None,
    ) -> bool:
        """Write a checkpoint; False where it could not be, and those before it are kept.

        Raises:
            TrainingError: it could not be written, and the recipe does not say to go on.
        """
        broken = next((name for name, value in weights.items() if not value.isfinite().all()), None)
        if broken is not None:
            self.tell(f"{broken} is not finite after step {progress.step}: {self._kept()}")
            return False
        with self.room(f"the checkpoint of step {progress.step}"):
            if self.run.metrics.exists():
                sync(self.run.metrics)  # no checkpoint is ahead of it, even where the power fails
            save_checkpoint(
                self.run.checkpoints,
                weights,
                optimizer,
                progress,
                keep=self.keep,
                average=average,
                extras=extras,
            )
            return True
        return False

    def model(self, write: Callable[[Path], object], *, must: bool = False) -> bool:
        """Have `write` fill a folder that becomes the run's model; False where the one before had to stay.

        Raises:
            TrainingError: it could not be written, and it `must` be or the recipe does not say to go on.
        """
        temporary = self.run.model.with_name(f".{self.run.model.name}.partial")
        with self.room("the best weights", must=must):
            try:
                shutil.rmtree(temporary, ignore_errors=True)
                write(temporary)
                publish(temporary, self.run.model)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            return True
        return False

    @contextmanager
    def room(self, what: str, *, must: bool = False) -> Iterator[None]:
        """Answer errors of the disk inside: where it is full, say so and stop or go on; else, or with `must`, stop.

        Raises:
            TrainingError: with the command that continues.
        """
        try:
            yield
        except Exception as error:
            trouble = disk_trouble(error)
            if trouble is None:
                raise
            full = trouble in FULL
            why = "the disk is full" if full else str(error)
            told = f"{why}: {what} could not be written ({self._free()}); {self._kept()}"
            if must or not full or self.on_full == "stop":
                fix = f"{'make room' if full else 'mend that'}, then go on: {self.run.resume_command}"
                raise TrainingError(told, where=str(self.run.folder), fix=fix) from error
            self.tell(f"{told}; the run goes on")

    def _free(self) -> str:
        return f"{_gigabytes(shutil.disk_usage(self.run.folder).free)} free in {self.run.folder}"

    def _kept(self) -> str:
        steps = sorted(self.run.checkpoints.glob("step-*"))
        if not steps:
            return "there is no checkpoint yet"
        return f"the checkpoint of step {int(steps[-1].name.removeprefix('step-'))} is kept"


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _gigabytes(size: float) -> str:
    return f"{size / GIGABYTE:.2f} GB"
