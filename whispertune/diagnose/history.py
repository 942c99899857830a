"""What a run wrote down while it trained: one shape for ours and for transformers' Trainer.

history = read_history(Path("my-run"))                # a run: its metrics.jsonl
history = read_history(Path("trainer_state.json"))    # transformers' log; a checkpoint folder of it does too
history.steps[-1].loss, history.evaluations[-1].wer, history.best().step
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

from whispertune.diagnose.trainer_log import read_evaluations, told
from whispertune.errors import InputError
from whispertune.score.normalize import NORMALIZERS
from whispertune.train.run import Run, read_lines
from whispertune.train.watching.observations import Point, Track

TRAINER_STATE: Final = "trainer_state.json"
METRICS: Final = "metrics.jsonl"
MOST_SHARE: Final = 2.0  # of the middle rate of a log in shares
MOST_LOOPS: Final = 20.0  # of the highest: so many times the words that were said
LIKE_THE_LAST: Final = "only those like the last are compared"
FIX: Final = f"give a run's folder, or transformers' {TRAINER_STATE}"

Metric = Literal["wer", "cer"]
METRIC_NAMES: Final[tuple[Metric, ...]] = ("wer", "cer")


@dataclass(frozen=True, slots=True)
class Step:
    """One training step, or, of transformers' log, the mean of those since the line before."""

    step: int
    loss: float | None  # None where it was not finite, and the step skipped
    learning_rate: float | None = None
    grad_norm: float | None = None
    alone: bool = False  # a segment a window: losses of a height of their own
    skipped: int | None = None  # steps so far, this one included; None where the log does not count them

    def is_skipped(self, before: Step | None) -> bool:
        """Whether it changed nothing, as its loss or its gradient was not finite; `before` is the step before it."""
        if self.skipped is None or (before is not None and before.skipped is None):
            return self.loss is None
        return self.skipped > ((before.skipped or 0) if before else 0)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One evaluation of dev; rates in per cent, None where it was not measured."""

    step: int
    loss: float | None = None
    wer: float | None = None
    cer: float | None = None
    wer_normalized: float | None = None
    insertions: float | None = None  # per cent of the reference words
    interval: tuple[float, float] | None = None  # of the WER
    calibration_error: float | None = None  # per cent, of the tokens, teacher-forced
    rows: int | None = None
    unreadable: int = 0  # rows besides, whose audio did not decode
    weights: str = "live"  # or "average"
    context: str = "full"  # or "fit": clips cut to what is spoken
    cer_normalized: float | None = None
    cer_interval: tuple[float, float] | None = None

    def rate(self, metric: Metric) -> float | None:
        return self.cer if metric == "cer" else self.wer

    def normalized(self, metric: Metric) -> float | None:
        """The rate of the normalised texts, in the same unit."""
        return self.cer_normalized if metric == "cer" else self.wer_normalized

    def interval_of(self, metric: Metric) -> tuple[float, float] | None:
        return self.cer_interval if metric == "cer" else self.interval

    def is_on_clips_of(self, last: Evaluated) -> bool:
        """Whether it is of the same kind of weights, on the same kind of clips."""
        return (self.weights, self.context) == (last.weights, last.context)

    def is_of_rows_of(self, last: Evaluated) -> bool:
        """Whether it is of as many rows; of another number, they are another part of dev."""
        if self.rows is None or last.rows is None:
            return True
        return self.rows + self.unreadable == last.rows + last.unreadable


@dataclass(frozen=True, slots=True)
class History:
    """A run's steps and evaluations, each by rising step."""

    steps: tuple[Step, ...]
    evaluations: tuple[Evaluated, ...]
    writer: Literal["whispertune", "transformers"] = "whispertune"
    total_steps: int | None = None
    leading: Metric | None = None  # the figure to read, as the run says; None where it does not
    shares: bool = False  # the log had shares of 1, which are per cent here
    sets: tuple[str, ...] = ()  # of the evaluations of transformers' log, by name; "" has none
    judged_set: str = ""  # whose evaluations these are
    besides: tuple[str, ...] = ()  # notes on what else of the run could not be read

    @property
    def skipped(self) -> int:
        """Steps that changed nothing: as the run counts them, else those without a finite loss."""
        counted = self.steps[-1].skipped if self.steps else None
        return sum(each.loss is None for each in self.steps) if counted is None else counted

    @property
    def skipped_at_end(self) -> int:
        """So many of them in a row are the last; steps whose float16 overflowed are between them, and do not count."""
        found = 0
        for each, before in reversed([*zip(self.steps, (None, *self.steps), strict=False)]):
            if each.is_skipped(before):
                found += 1
            elif each.skipped is None or (each.loss is not None and each.grad_norm is not None):
                break
        return found

    @property
    def last_step(self) -> int:
        return max([0, *(each.step for each in self.steps[-1:]), *(each.step for each in self.evaluations[-1:])])

    @property
    def peak_rate(self) -> float | None:
        return max((each.learning_rate for each in self.steps if each.learning_rate is not None), default=None)

    @property
    def metric(self) -> Metric:
        """What is generated and counted: WER, or CER where that is the figure to read, or there is nothing else."""
        known = [name for name in METRIC_NAMES if any(each.rate(name) is not None for each in self.evaluations)]
        return "cer" if known == ["cer"] or (self.leading == "cer" and "cer" in known) else "wer"

    @property
    def last_live(self) -> Evaluated | None:
        """The last evaluation of the live weights, with which those on other clips or rows are not compared."""
        return next((each for each in reversed(self.evaluations) if each.weights == "live"), None)

    def measured(self, name: Literal["loss", "wer", "cer"]) -> list[tuple[Evaluated, float]]:
        """The evaluations of the live weights that have the figure, with it, on clips and rows like the last one's."""
        last = self.last_live
        alike = [each for each in self.evaluations if last and each.is_on_clips_of(last) and each.is_of_rows_of(last)]
        values = [(each, getattr(each, name)) for each in alike]
        return [(each, value) for each, value in values if value is not None]

    @property
    def notes(self) -> tuple[str, ...]:
        """How the figures were read, where there was a choice."""
        found = [told(self.sets, self.judged_set)] if len(self.sets) > 1 or self.judged_set else []
        rates = [rate for each in self.evaluations if (rate := each.rate(self.metric)) is not None]
        if self.writer == "transformers" and rates:
            unit = "shares of 1" if self.shares else "per cent"
            found.append(f"the error rates of the log are taken for {unit}: the last is {rates[-1]:.4g} %")
        return (*found, *self._left_out(), *self.besides)

    def _left_out(self) -> Iterator[str]:
        """The evaluations that are not compared, and why."""
        last = self.last_live
        if last is None:
            return
        live = [each for each in self.evaluations if each.weights == "live"]
        if others := sum(not each.is_on_clips_of(last) for each in live):
            cut, whole = "cut to what is spoken", "of 30 s"
            these, those = (cut, whole) if last.context == "fit" else (whole, cut)
            yield f"{others} of the evaluations were on clips {those}, the last on clips {these}: {LIKE_THE_LAST}"
        if others := sum(each.is_on_clips_of(last) and not each.is_of_rows_of(last) for each in live):
            yield f"{others} of the evaluations were not of {last.rows} rows of dev, as the last is: {LIKE_THE_LAST}"

    def best(self) -> Evaluated | None:
        """The evaluation with the lowest WER (or CER), the first of equal ones."""
        found = self.measured(self.metric)
        return min(found, key=lambda each: each[1])[0] if found else None

    def losses(self, begin: float = 0.0, end: float = 1.0) -> list[float]:
        """Finite training losses from one share of the run to another."""
        first, last = begin * self.last_step, end * self.last_step
        return [each.loss for each in self.steps if each.loss is not None and first < each.step <= last]

    def height(self, begin: float, end: float) -> float | None:
        """The middle of the training loss over a part of the run; None where nothing was logged there."""
        found = self.losses(begin, end)
        return median(found) if found else None

    def track(self) -> Track:
        """The steps of the kind there is more of, as the rules of `observations` take them."""
        kinds = {kind: [each for each in self.steps if each.alone == kind] for kind in (False, True)}
        track = Track()
        for each in max(kinds.values(), key=len):
            if each.loss is not None and each.loss > 0:
                done = each.step / max(1, self.last_step)
                norm = math.nan if each.grad_norm is None else each.grad_norm
                track.add(Point(each.step, done, math.log(each.loss), each.learning_rate or 0.0, norm))
        return track


def read_history(path: Path) -> History:
    """Read a run, its metrics.jsonl, or what transformers' Trainer wrote.

    Raises:
        InputError: it is none of them, or nothing is in it.
    """
    found = _file(path)
    history = from_metrics(read_lines(found)) if found.suffix == ".jsonl" else _of_state(found)
    if not history.steps and not history.evaluations:
        raise InputError("no step and no evaluation in it", where=str(found), fix=FIX)
    return history


def _file(path: Path) -> Path:
    if path.is_dir():
        candidates = [Run(path).metrics, path / TRAINER_STATE, *_checkpoints(path)]
        found = next((each for each in candidates if each.is_file()), None)
        if found is None:
            raise InputError(f"neither {METRICS} nor {TRAINER_STATE} in this folder", where=str(path), fix=FIX)
        return found
    if not path.is_file():
        raise InputError("there is no such file or folder", where=str(path), fix=FIX)
    return path


def _checkpoints(folder: Path) -> list[Path]:
    """Of a Trainer's output folder, the state of the newest checkpoint first."""
    found = [each for each in folder.glob(f"checkpoint-*/{TRAINER_STATE}") if each.parent.name[11:].isdecimal()]
    return sorted(found, key=lambda each: -int(each.parent.name[11:]))


def _of_state(path: Path) -> History:
    """A trainer_state.json: its `log_history`, and what selected the best checkpoint."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        lines = content["log_history"]
        if not isinstance(lines, list) or not all(isinstance(line, dict) for line in lines):
            raise TypeError("log_history is no list of tables")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"no log of transformers' Trainer: {error!r}", where=str(path), fix=FIX) from error
    return from_trainer_state(lines, content)


def from_metrics(lines: Iterable[Mapping[str, Any]]) -> History:
    """The lines of a metrics.jsonl; of a step that is there twice, the later one."""
    steps: dict[int, Step] = {}
    evaluations: dict[tuple[int, str], Evaluated] = {}
    total, leading = None, None
    for line in lines:
        if not isinstance(line.get("step"), int):
            continue
        if line.get("kind") == "step":
            steps[line["step"]] = _our_step(line)
            total = line.get("total_steps") or total
        elif line.get("kind") == "evaluation":
            found = _our_evaluation(line)
            evaluations[found.step, found.weights] = found
            leading = _leading(line)
    ordered = tuple(evaluations[key] for key in sorted(evaluations))
    return History(_by_step(steps.values()), ordered, total_steps=total, leading=leading)


def _our_step(line: Mapping[str, Any]) -> Step:
    alone = line.get("windows") is not None and line.get("windows") == line.get("segments")
    loss, rate, norm = (_number(line, name) for name in ("loss", "learning_rate", "grad_norm"))
    skipped = line.get("skipped")
    return Step(line["step"], loss, rate, norm, alone, skipped if isinstance(skipped, int) else None)


def _leading(line: Mapping[str, Any]) -> Metric | None:
    """As an evaluation says it; an older one has the normaliser's label, that of all rows, alone."""
    if "leading" in line:
        return next((name for name in METRIC_NAMES if name == line["leading"]), None)
    return "cer" if line.get("normalizer") == NORMALIZERS["characters"].label else None


def _our_evaluation(line: Mapping[str, Any]) -> Evaluated:
    return Evaluated(
        step=line["step"],
        loss=_number(line, "loss"),
        wer=_number(line, "wer"),
        cer=_number(line, "cer"),
        wer_normalized=_number(line, "wer_normalized"),
        insertions=_number(line, "insertions"),
        interval=_interval(line, "wer_interval"),
        calibration_error=_number(line, "calibration_error"),
        rows=line.get("rows"),
        unreadable=line.get("rows_unreadable", 0),
        weights=line.get("weights", "live"),
        context=line.get("context", "full"),
        cer_normalized=_number(line, "cer_normalized"),
        cer_interval=_interval(line, "cer_interval"),
    )


def from_trainer_state(lines: Sequence[Mapping[str, Any]], state: Mapping[str, Any] | None = None) -> History:
    """transformers' log_history: training lines have `loss`, those of dev `eval_loss`, `eval_wer`.

    `state` is what stands beside it: of several evaluation sets it tells which one selected.
    """
    steps: dict[int, Step] = {}
    for line in lines:
        step = line.get("step")
        if isinstance(step, int) and "loss" in line:
            rate, norm = _number(line, "learning_rate"), _number(line, "grad_norm")
            steps[step] = Step(step, _number(line, "loss"), rate, norm)
    logged = read_evaluations(lines, state or {})
    evaluations = [
        Evaluated(step, _number(figures, "loss"), _number(figures, "wer"), _number(figures, "cer"))
        for step, figures in logged.figures.items()
    ]
    shares = _are_shares(evaluations)
    return History(
        _by_step(steps.values()),
        _per_cent(evaluations, 100.0 if shares else 1.0),
        "transformers",
        max(steps, default=None),
        shares=shares,
        sets=logged.sets,
        judged_set=logged.judged,
    )


def _are_shares(evaluations: Sequence[Evaluated]) -> bool:
    """Some metric functions return shares and some per cent.

    The middle rate tells them apart: a log in per cent may begin at 98 and end at 0.8, and one in shares at 2.6.
    Where a rate is over 2, one below 1 has to be there too, as a log in per cent may stay between 1.5 and 3.
    """
    for name in METRIC_NAMES:
        rates = [rate for each in evaluations if (rate := each.rate(name)) is not None]
        if rates:
            highest = max(rates)
            least_is_low = highest <= MOST_SHARE or min(rates) < 1
            return median(rates) <= MOST_SHARE and highest <= MOST_LOOPS and least_is_low
    return False


def _per_cent(evaluations: Iterable[Evaluated], factor: float) -> tuple[Evaluated, ...]:
    scaled = [
        replace(
            each,
            wer=None if each.wer is None else factor * each.wer,
            cer=None if each.cer is None else factor * each.cer,
        )
        for each in evaluations
    ]
    return tuple(sorted(scaled, key=lambda each: each.step))


def _by_step(steps: Iterable[Step]) -> tuple[Step, ...]:
    return tuple(sorted(steps, key=lambda each: each.step))


def _number(line: Mapping[str, Any], name: str) -> float | None:
    """A finite number; Trainer writes NaN, and numbers as strings in some versions of its log."""
    return _finite(line.get(name))


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _interval(line: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    found = line.get(name)
    low, high = map(_finite, found) if isinstance(found, list) and len(found) == 2 else (None, None)
    return None if low is None or high is None else (low, high)
