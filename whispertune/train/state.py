"""All that a run would lose if it were stopped: weights, optimizer, average, loss scale and counts, as one checkpoint.

state = TrainingState(wrapped, optimizer, average, saver)
state.save(progress)                        # False where the disk was full and the run goes on
progress = state.restore() or progress      # of the newest valid checkpoint
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from whispertune.model.parameters import load_trained, trained_state
from whispertune.train.across.wrapped import Wrapped
from whispertune.train.keeping.checkpoint import Progress, newest_checkpoint
from whispertune.train.keeping.saving import Saver
from whispertune.train.learning.averaging import Averager, KeptAverage, MovingAverage

if TYPE_CHECKING:
    import torch
    from transformers import WhisperForConditionalGeneration


def whisper_of(wrapped: Wrapped) -> WhisperForConditionalGeneration:
    """The model with its weights of now, to decode with or to write; of a sharded one only on the main rank.

    Every rank has to call.
    """
    plain = wrapped.plain()
    return plain.model if plain is not None else None


@dataclass(frozen=True)
class TrainingState:
    """Every rank makes the same calls; the main one reads and writes."""

    wrapped: Wrapped
    optimizer: torch.optim.Optimizer
    average: Averager | None
    saver: Saver

    def save(self, progress: Progress) -> bool:
        """Write a checkpoint.

        Raises:
            TrainingError: the disk is full and the recipe says to stop then.
        """
        wrapped = self.wrapped
        weights = trained_state(wrapped.inner) if wrapped.ranks.main or wrapped.ranks.sharded else {}
        moments = wrapped.full(self.optimizer.state_dict())
        average = None if self.average is None else wrapped.full(self.average.state_dict())
        extras: dict[str, Any] = {"scaler": wrapped.scaler.state_dict()} if wrapped.scaler.is_enabled() else {}
        return wrapped.ranks.on_main(lambda: self.saver.save(weights, moments, progress, average or None, extras))

    def preflight(self) -> None:
        """Say so where the disk has too little room for what will be saved."""
        values = list(self.wrapped.inner.parameters())
        trained = sum(4 * value.numel() for value in values if value.requires_grad)
        whole = sum(4 * value.numel() for value in values)
        kept = self.average.of + 1 if isinstance(self.average, KeptAverage) else 0  # and one that is being written
        copies = 4 if isinstance(self.average, MovingAverage) else 3
        self.saver.preflight(trained, whole, copies=copies, kept=kept)

    def evaluated(self, step: int, value: float, measured_by: str) -> None:
        """Hand evaluated weights to what averages them; for the main rank alone.

        Raises:
            TrainingError: the disk is full and the recipe says to stop then.
        """
        if self.average is not None:
            with self.saver.room("weights to average"):
                self.average.evaluated(step, value, measured_by, self.wrapped.inner)

    def restore(self) -> Progress | None:
        """Go on as the newest valid checkpoint was; None where there is none, and nothing has changed then.

        Raises:
            TrainingError: it does not fit this model.
        """
        ranks, wrapped = self.wrapped.ranks, self.wrapped
        found = newest_checkpoint(self.saver.run.checkpoints, self.saver.tell) if ranks.main else None
        progress = ranks.broadcast(found.progress if found else None)
        if progress is None:
            ranks.on_main(lambda: shutil.rmtree(self.saver.run.averages, ignore_errors=True))
            return None
        load_trained(wrapped.inner, wrapped.own(found.weights() if found else None))
        decays = [group["weight_decay"] for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(wrapped.own(found.optimizer() if found else None))
        for group, decay in zip(self.optimizer.param_groups, decays, strict=True):
            group["weight_decay"] = decay  # the recipe's, which may have changed
        if self.average is not None:
            self.average.load_state_dict(wrapped.own((found.average() or {}) if found else None), progress.step)
        extras = ranks.broadcast(found.extras() if found else None)
        if extras and "scaler" in extras:
            wrapped.scaler.load_state_dict(extras["scaler"])
        return progress
