"""Steps whose loss is not finite: skipped, counted, told with the ids of their segments; too many in a row end a run.

skipped = SkippedSteps(run, most_in_a_row=5, tell=reporter.say)
if finite(loss, grad_norm):
    optimizer.step()
...                                                   # the step is counted: progress.step += 1
skipped.of_step(progress, loss, grad_norm, ids)       # TrainingError after the fifth in a row
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from whispertune.errors import TrainingError
from whispertune.train.keeping.checkpoint import Progress
from whispertune.train.run import Run, append_line


def finite(loss: float, grad_norm: float) -> bool:
    """Whether a step may change the weights."""
    return math.isfinite(loss) and math.isfinite(grad_norm)


class SkippedSteps:
    """What stands in skipped.jsonl, and how many steps were skipped."""

    def __init__(
        self,
        run: Run,
        most_in_a_row: int,
        tell: Callable[[str], None],
        room: Callable[[str], AbstractContextManager[None]] = lambda what: nullcontext(),
    ) -> None:
        self.run, self.most_in_a_row, self.tell, self.room = run, most_in_a_row, tell, room

    def of_step(self, progress: Progress, loss: float, grad_norm: float, ids: Sequence[str]) -> None:
        """Count a step that is done, `progress.step`; `ids` are of the segments it was made of.

        Raises:
            TrainingError: it is one too many in a row without a finite loss. Whoever goes on has as many again.
        """
        if finite(loss, grad_norm):
            progress.skipped_in_a_row = 0
            return
        progress.skipped_steps += 1
        progress.skipped_in_a_row += 1
        row = {"step": progress.step, "loss": str(loss), "grad_norm": str(grad_norm), "segments": list(ids)}
        with self.room(self.run.skipped.name):
            append_line(self.run.skipped, json.dumps(row))
        self.tell(
            f"step {progress.step} was skipped: its loss is {loss:.4g}, its gradient norm {grad_norm:.4g}; the weights "
            f"stay as they are ({progress.skipped_in_a_row} in a row, {progress.skipped_steps} in all; "
            f"its {len(ids)} segments are named in {self.run.skipped.name})"
        )
        if progress.skipped_in_a_row >= self.most_in_a_row:
            progress.skipped_in_a_row = 0
            raise TrainingError(
                f"{self.most_in_a_row} steps in a row have no finite loss; the weights before them are kept",
                where=str(self.run.skipped),
                fix="look at the segments named there, or give a lower train.learning_rate with --allow-changes",
            )
