"""The loop: from a recipe to a run with its best weights, and the figures before and after.

    result = fine_tune(load_recipe(path), Run(Path("my-run")))
    result.base.scores.wer, result.tuned.scores.wer

Everything that happens to a model in training stands in `fine_tune`, in the order in which it happens.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from whispertune.data.audio import AudioReader
from whispertune.data.keyed import keyed_rng
from whispertune.data.problems import summary
from whispertune.data.segments import SourceData
from whispertune.errors import TrainingError, WhispertuneError
from whispertune.evaluation import Evaluation
from whispertune.model.load import find_model
from whispertune.model.loss import SummedLoss, resolve_precision
from whispertune.recipe import Recipe
from whispertune.reporting import Reporter, StepReport
from whispertune.train.checkpoint import Progress, newest_checkpoint, save_checkpoint
from whispertune.train.dev import DevSet
from whispertune.train.dropped import DroppedRows
from whispertune.train.feed import Feed, LoadedStep
from whispertune.train.mixture import count_windows, make_plan
from whispertune.train.run import Run, write_json
from whispertune.train.schedule import Extent, default_learning_rate, learning_rate
from whispertune.train.signals import StopRequest
from whispertune.train.splits import SPLITS, Splits, TokenCounter, load_splits
from whispertune.windows.batches import collate
from whispertune.windows.pack import Limits

if TYPE_CHECKING:
    import torch

COUNTED_SEGMENTS = 20_000  # of an epoch are packed to tell how full windows get
MOST_DECODERS = 8
BETAS, EPSILON = (0.9, 0.98), 1e-6  # as Whisper was pre-trained (Radford et al., 2022, table 17)


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a run came to; `base` and `tuned` are on the same rows."""

    run: Run
    steps: int
    seconds: float
    seconds_training: float
    seconds_evaluating: float
    utterances_per_second: float  # trained on, per second of training
    speech_hours: float
    best_step: int | None
    engine: str
    base: Evaluation
    tuned: Evaluation

    def as_json(self) -> dict[str, Any]:
        """The figures under the names that `train --json` promises."""
        return {
            "run": str(self.run.folder),
            "steps": self.steps,
            "seconds": round(self.seconds, 2),
            "seconds_training": round(self.seconds_training, 2),
            "seconds_evaluating": round(self.seconds_evaluating, 2),
            "utterances_per_second": round(self.utterances_per_second, 4),
            "speech_hours": round(self.speech_hours, 4),
            "best_step": self.best_step,
            "engine": self.engine,
            "base": self.base.as_json(),
            "tuned": self.tuned.as_json(),
        }


def fine_tune(recipe: Recipe, run: Run, *, resume: bool = False, reporter: Reporter | None = None) -> TrainingResult:
    """Run a recipe.

    Raises:
        InputError: the recipe, its data or its model cannot be used; nothing was trained.
        TrainingError: the run cannot go on; its last checkpoint can be resumed.
        Interrupted: stopped by the user or a signal; `resume=True` continues as if nothing had happened.
    """
    import torch
    from accelerate import Accelerator

    began, tell = time.perf_counter(), reporter or Reporter()
    settings = recipe.train
    with AudioReader(children=_decoders()) as reader, StopRequest() as stop:
        # --- data: read and checked before anything expensive -----------------------------------------------
        folder = find_model(recipe.model)
        limits = Limits(recipe.windows.max_tokens, recipe.windows.max_gap_s, recipe.windows.max_lead_s)
        count_tokens = TokenCounter(folder.vocabulary)
        splits = load_splits(recipe, folder.vocabulary, reader, count_tokens, limits, tell.working)
        fingerprints = splits.fingerprints()
        if resume:
            run.check_same(recipe, fingerprints)
        else:
            run.start(recipe, fingerprints)
            _tell_dropped(splits, tell)
        dropped = DroppedRows(run.dropped, splits, recipe.data.max_bad_share, recipe.data.train)
        dropped.add(problem for name in SPLITS for problem in getattr(splits, name).problems)
        for note in splits.notes:
            tell.say(note)

        stop.listen()  # from here on there is something to save

        # --- plan: the windows of every step, known from the seed alone -------------------------------------
        plan = make_plan(recipe, splits, limits, folder.vocabulary, count_tokens)
        extent = Extent(plan.total_steps, settings.hours)
        windows = round(count_windows(recipe, splits, limits, count_tokens, COUNTED_SEGMENTS)) if splits.parts else 0
        tell.say(_describe(splits, windows, extent))

        # --- model, engine and the figures before ------------------------------------------------------------
        accelerator = _accelerator(Accelerator)
        dev = DevSet(recipe, run, splits, folder, reader, tell, stop, dropped=dropped)
        base = dev.base()
        model = folder.load(settings.dropout)
        module = SummedLoss(model, resolve_precision(settings.precision, accelerator.device.type))
        peak = settings.learning_rate or default_learning_rate(folder.shape.width)
        optimizer = torch.optim.AdamW(
            _parameter_groups(module, settings.weight_decay), lr=peak, betas=BETAS, eps=EPSILON, fused=True
        )
        wrapped, optimizer = accelerator.prepare(module, optimizer)

        # --- resume: weights, optimizer and all counts as they were ------------------------------------------
        progress = Progress(seconds_evaluating=dev.seconds_before)
        checkpoint = newest_checkpoint(run.checkpoints) if resume else None
        if checkpoint is not None:
            progress = checkpoint.progress
            module.load_state_dict(checkpoint.weights(), strict=False)  # the tied projection is not stored
            optimizer.load_state_dict(checkpoint.optimizer())
        if resume:
            run.rewind_metrics(progress.step, progress.evaluated_step)
            tell.say(f"resumed after {extent.told(progress.step, progress.speech_seconds)}")

        def save() -> None:
            save_checkpoint(run.checkpoints, _weights(module), optimizer.state_dict(), progress)

        with Feed(plan, reader, folder.vocabulary, language_loss=settings.language_loss) as feed:
            while True:
                # --- evaluate: generated text of the live weights; the best are kept -------------------------
                if dev.due(extent, progress):
                    try:
                        dev.evaluate(model, extent, progress)
                    finally:  # also where it was stopped in the middle
                        save()

                # --- stop or end -----------------------------------------------------------------------------
                if stop.requested:
                    save()
                    raise run.interrupted(f"after {extent.told(progress.step, progress.speech_seconds)}")
                if extent.ended(progress.step, progress.speech_seconds):
                    break

                # --- one step: all its parts, one update -----------------------------------------------------
                start = time.perf_counter()
                try:
                    step = feed.take(progress.step)
                    dropped.of_step(step, progress.segments)
                except WhispertuneError as error:  # a stream that broke off, too many bad rows: nothing done is lost
                    save()
                    raise run.broken_off(error, extent.told(progress.step, progress.speech_seconds)) from error
                torch.manual_seed(int(keyed_rng(recipe.seed, "dropout", progress.step).integers(2**62)))
                rate = learning_rate(
                    extent.done(progress.step, progress.speech_seconds),
                    extent.total,
                    peak,
                    settings.warmup_share,
                    settings.schedule,
                    step=extent.done(1, step.speech_seconds),
                )
                for group in optimizer.param_groups:
                    group["lr"] = rate
                wrapped.train()
                loss = 0.0
                for part in step.parts(settings.micro_windows or 4):
                    batch = collate(part, folder.shape.n_mels, folder.vocabulary.end, str(accelerator.device))
                    part_loss = wrapped(batch.mel, batch.inputs, batch.targets) / step.target_tokens
                    accelerator.backward(part_loss)
                    loss += part_loss.item()
                grad_norm = float(accelerator.clip_grad_norm_(wrapped.parameters(), settings.max_grad_norm) or 0.0)
                if not (math.isfinite(loss) and math.isfinite(grad_norm)):
                    raise TrainingError(
                        f"step {progress.step + 1} has a loss of {loss} and a gradient norm of {grad_norm}; "
                        f"the weights before it are kept",
                        where=str(run.folder),
                        fix="begin anew with --out and a lower train.learning_rate, and look at the data",
                    )
                optimizer.step()
                optimizer.zero_grad()

                # --- count and tell --------------------------------------------------------------------------
                seconds = time.perf_counter() - start
                progress.step += 1
                progress.segments += step.segments
                progress.speech_seconds += step.speech_seconds
                progress.seconds_training += seconds
                report = _report(step, progress, extent, loss, rate, grad_norm, seconds)
                run.add_step(report)
                tell.step(report)
                last = extent.ended(progress.step, progress.speech_seconds)
                regular = last or progress.step % recipe.checkpoints.every_steps == 0
                if regular and not dev.due(extent, progress):  # an evaluation saves when it is done
                    save()

        # --- the figures after, from the weights that were kept ----------------------------------------------
        tuned = dev.tuned(model, progress)
    result = TrainingResult(
        run=run,
        steps=progress.step,
        seconds=time.perf_counter() - began,
        seconds_training=progress.seconds_training,
        seconds_evaluating=progress.seconds_evaluating,
        utterances_per_second=progress.segments / max(progress.seconds_training, 1e-9),
        speech_hours=progress.speech_seconds / 3600,
        best_step=progress.best_step,
        engine=dev.engine_kind,
        base=base,
        tuned=tuned,
    )
    write_json(run.result, result.as_json())
    return result


def _decoders() -> int:
    """Processes that decode audio: half of the cores, the other half feeds the accelerator."""
    return max(1, min(MOST_DECODERS, (os.cpu_count() or 2) // 2))


def _accelerator(accelerator_class: Any) -> Any:
    accelerator = accelerator_class()
    if accelerator.num_processes > 1:
        raise TrainingError("training runs in one process for now", fix="start it without torchrun")
    return accelerator


def _parameter_groups(module: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms and the position tables do not."""
    trained = [(name, value) for name, value in module.named_parameters() if value.requires_grad]
    matrices = [value for name, value in trained if value.ndim > 1 and "embed_positions" not in name]
    others = [value for name, value in trained if value.ndim <= 1 or "embed_positions" in name]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: value.detach().cpu()
        for name, value in module.state_dict().items()
        if not name.endswith("proj_out.weight")  # tied to the token embeddings
    }


def _tell_dropped(splits: Splits, tell: Reporter) -> None:
    """What of each split was left out, by reason."""
    for name in SPLITS:
        data: SourceData = getattr(splits, name)
        if data.problems:
            tell.say(summary(data, name))


def _describe(splits: Splits, windows: int, extent: Extent) -> str:
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


def _report(
    step: LoadedStep,
    progress: Progress,
    extent: Extent,
    loss: float,
    rate: float,
    grad_norm: float,
    seconds: float,
) -> StepReport:
    return StepReport(
        step=progress.step,
        total_steps=extent.steps,
        done=extent.done(progress.step, progress.speech_seconds) / extent.total,
        epoch=step.epoch,
        loss=loss,
        learning_rate=rate,
        grad_norm=grad_norm,
        windows=len(step.windows),
        segments=step.segments,
        target_tokens=step.target_tokens,
        speech_seconds=step.speech_seconds,
        seconds=seconds,
        unreadable=len(step.problems),
        hours_per_hour=progress.speech_seconds / max(progress.seconds_training, 1e-9),
        seconds_left=_left(extent, progress),
    )


def _left(extent: Extent, progress: Progress) -> float:
    done = extent.done(progress.step, progress.speech_seconds)
    return max(0.0, extent.total - done) * progress.seconds_training / max(done, 1e-9)
