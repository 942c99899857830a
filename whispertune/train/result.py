"""What a run came to, and how it is told on the way.

result.as_json()                                  # what `train --json` prints
report = step_report(drawn, progress, extent, gradients, rate, seconds)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from whispertune.evaluation.evaluate import Evaluation
from whispertune.evaluation.retention import SetChange
from whispertune.reporting import StepReport
from whispertune.train.feeding.splits import Splits
from whispertune.train.keeping.checkpoint import Progress
from whispertune.train.learning.schedule import Extent
from whispertune.train.run import Run
from whispertune.train.step import Drawn, Gradients
from whispertune.train.watching.emissions import Footprint

COUNTED_SEGMENTS = 20_000  # of an epoch are packed to tell how full windows get


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a run came to; `base` and `tuned` are on the same rows."""

    run: Run
    steps: int
    skipped_steps: int
    seconds: float
    seconds_training: float
    seconds_evaluating: float
    utterances_per_second: float  # trained on, per second of training
    speech_hours: float
    best_step: int | None
    best_weights: str  # "live" or "average": whose were the best
    engine: str
    processes: int
    parameters_trained: int
    parameters: int
    footprint: Footprint
    base: Evaluation
    tuned: Evaluation
    tuned_fit: Evaluation | None = None  # on clips cut to what is spoken, where that was trained
    retention: tuple[SetChange, ...] = ()  # what became of the retention sets

    def as_json(self) -> dict[str, Any]:
        """The figures under the names that `train --json` promises."""
        return {
            "run": str(self.run.folder),
            "steps": self.steps,
            "skipped_steps": self.skipped_steps,
            "seconds": round(self.seconds, 2),
            "seconds_training": round(self.seconds_training, 2),
            "seconds_evaluating": round(self.seconds_evaluating, 2),
            "utterances_per_second": round(self.utterances_per_second, 4),
            "speech_hours": round(self.speech_hours, 4),
            "best_step": self.best_step,
            "best_weights": self.best_weights,
            "engine": self.engine,
            "processes": self.processes,
            "parameters_trained": self.parameters_trained,
            "parameters": self.parameters,
            **self.footprint.as_json(),
            "base": self.base.as_json(),
            "tuned": self.tuned.as_json(),
            **({"tuned_fit": self.tuned_fit.as_json()} if self.tuned_fit else {}),
            **({"retention": [each.as_json() for each in self.retention]} if self.retention else {}),
        }


def told_at_the_start(splits: Splits, windows: int, extent: Extent) -> str:
    """What a run is about to train on, for people."""
    parts = []
    if splits.parts:
        seconds = splits.train.seconds
        about = "" if len(splits.train.segments) <= COUNTED_SEGMENTS else "about "
        parts.append(
            f"{len(splits.train.segments):,} segments, {seconds / 3600:.2f} h of speech in {about}{windows:,} windows "
            f"an epoch ({100 * seconds / (30 * windows):.0f} % full)"
        )
    parts += [f"{each.stream.name} as it comes" for each in splits.streams]
    return (
        f"train: {'; '.join(parts)}, {extent.total:,.6g} {extent.unit}; "
        f"dev: {len(splits.dev.segments)} segments; test: {len(splits.test.segments)}"
    )


def step_report(
    drawn: Drawn, progress: Progress, extent: Extent, gradients: Gradients, rate: float, seconds: float
) -> StepReport:
    """A step that is done and counted."""
    training = max(progress.seconds_training, 1e-9)
    done = extent.done(progress.step, progress.speech_seconds)
    return StepReport(
        step=progress.step,
        total_steps=extent.steps,
        done=done / extent.total,
        epoch=drawn.epoch,
        loss=gradients.loss,
        learning_rate=rate,
        grad_norm=gradients.norm,
        windows=drawn.windows,
        segments=drawn.segments,
        target_tokens=drawn.target_tokens,
        speech_seconds=drawn.speech_seconds,
        seconds=seconds,
        unreadable=len(drawn.problems),
        hours_per_hour=progress.speech_seconds / training,
        seconds_left=max(0.0, extent.total - done) * training / max(done, 1e-9),
        waiting_share=progress.seconds_waiting / training,
        evaluating_share=progress.seconds_evaluating / (progress.seconds_evaluating + training),
        skipped=progress.skipped_steps,
    )
