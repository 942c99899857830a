"""What long work tells whoever watches. The base class is silent; the command line draws it.

class Printer(Reporter):
    def say(self, text: str) -> None: print(text)
"""

from __future__ import annotations

from dataclasses import dataclass

from whispertune.evaluation.evaluate import Evaluation


@dataclass(frozen=True, slots=True)
class StepReport:
    """One training step, as it is shown and as metrics.jsonl keeps it."""

    step: int  # steps done, this one included
    total_steps: int | None  # None where the run is as long as so many hours of speech
    done: float  # share of the run, 0 to 1
    epoch: float | None  # None where nobody knows how long one is
    loss: float  # mean over the step's target tokens
    learning_rate: float
    grad_norm: float  # before clipping
    windows: int
    segments: int
    target_tokens: int
    speech_seconds: float
    seconds: float  # wall time of the step
    unreadable: int  # segments of this step whose audio did not decode
    hours_per_hour: float  # speech trained on per hour of training, over the whole run
    seconds_left: float  # of training, evaluations apart
    waiting_share: float = 0.0  # of the seconds of training went into waiting for data, over the whole run
    evaluating_share: float = 0.0  # of training and evaluating together went into evaluating
    skipped: int = 0  # steps so far without a finite loss, which changed nothing


class Reporter:
    """Silent; override what is of interest."""

    def say(self, text: str) -> None:
        """A line worth reading."""

    def step(self, report: StepReport) -> None:
        """A training step is done."""

    def evaluating(self, what: str, done: int, total: int) -> None:
        """`done` of `total` rows are decoded."""

    def working(self, what: str, done: int, total: int) -> None:
        """Of other work that takes long, `done` of `total` rows are done."""

    def evaluated(self, what: str, evaluation: Evaluation) -> None:
        """An evaluation is done."""
