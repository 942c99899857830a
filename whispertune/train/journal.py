"""What is written down and said of a run while it goes on; the main rank's part of a step.

journal = Journal(run, saver, skipped, observer, trackers, tell)
progress = journal.step(drawn, gradients, ids, extent, progress, rate, seconds)
journal.evaluation(progress.step, evaluation)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from whispertune.evaluation.evaluate import Evaluation
from whispertune.reporting import Reporter
from whispertune.train.keeping.checkpoint import Progress
from whispertune.train.keeping.saving import Saver
from whispertune.train.keeping.skipped import SkippedSteps
from whispertune.train.learning.schedule import Extent
from whispertune.train.result import step_report
from whispertune.train.run import Run
from whispertune.train.step import Drawn, Gradients
from whispertune.train.watching.observations import Observer
from whispertune.train.watching.trackers import Trackers


@dataclass(frozen=True)
class Journal:
    """metrics.jsonl, skipped.jsonl, trackers, and whoever watches."""

    run: Run
    saver: Saver
    skipped: SkippedSteps
    observer: Observer
    trackers: Trackers
    tell: Reporter

    def step(
        self,
        drawn: Drawn,
        gradients: Gradients,
        ids: Sequence[str],
        extent: Extent,
        progress: Progress,
        rate: float,
        seconds: float,
    ) -> Progress:
        """Count a step that is done and tell of it; `ids` are of its segments, where it was skipped.

        Raises:
            TrainingError: too many steps in a row have no finite loss, or the disk is full.
        """
        progress.step += 1
        progress.segments += drawn.segments
        progress.speech_seconds += drawn.speech_seconds
        progress.seconds_training += seconds
        progress.seconds_waiting += drawn.waited_seconds
        try:
            if gradients.overflowed:
                self.tell.say(
                    f"step {progress.step}: the float16 gradients overflowed; their scale is halved, no update"
                )
            elif drawn.target_tokens:
                self.skipped.of_step(progress, gradients.loss, gradients.norm, ids)
            else:
                self.tell.say(f"step {progress.step}: none of its rows can be read; the weights stay as they are")
        finally:
            report = step_report(drawn, progress, extent, gradients, rate, seconds)
            with self.saver.room(self.run.metrics.name):
                self.run.add_step(report)
            self.tell.step(report)
            self.trackers.step(report)
            self._say(self.observer.step(report))
        return progress

    def evaluation(self, step: int, evaluation: Evaluation) -> None:
        """Tell of an evaluation of dev, which metrics.jsonl has already."""
        self.trackers.evaluated(step, evaluation)
        self._say(self.observer.evaluation(step, evaluation))

    def _say(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.tell.say(line)
