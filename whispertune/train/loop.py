"""The loop: from a recipe to a run with its best weights, and the figures before and after.

    result = fine_tune(load_recipe(path), Run(Path("my-run")))
    result.base.scores.wer, result.tuned.scores.wer

Everything that happens to a model in training stands in `fine_tune`, in the order in which it happens. Every rank
runs it; what is said and written is the main one's.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from whispertune.data.audio import AudioReader
from whispertune.errors import Interrupted, WhispertuneError
from whispertune.recipe import Recipe
from whispertune.recipe_file import recipe_tree
from whispertune.reporting import Reporter
from whispertune.train.across.ranks import RankFailedError, open_ranks
from whispertune.train.feeding.dropped import DroppedRows
from whispertune.train.feeding.feed import Feed
from whispertune.train.feeding.splits import SPLITS, Splits, source_counts
from whispertune.train.journal import Journal
from whispertune.train.keeping.checkpoint import Progress
from whispertune.train.keeping.lock import run_lock
from whispertune.train.keeping.saving import Saver
from whispertune.train.keeping.skipped import SkippedSteps
from whispertune.train.learning.averaging import make_average
from whispertune.train.learning.schedule import Extent, learning_rate
from whispertune.train.measuring.dev import DevSet
from whispertune.train.measuring.rows import Alone, Rows
from whispertune.train.result import TrainingResult
from whispertune.train.run import Run, write_json
from whispertune.train.setup import describe, make_stepper, open_cache, open_model, plan_run, read_data
from whispertune.train.signals import StopRequest
from whispertune.train.state import TrainingState, whisper_of
from whispertune.train.step import draw
from whispertune.train.watching.emissions import Meter
from whispertune.train.watching.observations import Observer
from whispertune.train.watching.trackers import Trackers

MOST_DECODERS = 8


def fine_tune(
    recipe: Recipe,
    run: Run,
    *,
    resume: bool = False,
    allow_changes: bool = False,
    reporter: Reporter | None = None,
    stop: StopRequest | None = None,
) -> TrainingResult:
    """Run a recipe.

    Args:
        allow_changes: resume although recipe or data have changed, which is written down.
        stop: where something else than a signal may ask for a stop.

    Raises:
        InputError: the recipe, its data or its model cannot be used; nothing was trained.
        TrainingError: the run cannot go on; its last checkpoint can be resumed.
        Interrupted: stopped by the user or a signal; `resume=True` continues as if nothing had happened.
    """
    began, settings, stop = time.perf_counter(), recipe.train, stop or StopRequest()
    with ExitStack() as stack:
        ranks = stack.enter_context(open_ranks(settings.precision))
        reader = stack.enter_context(AudioReader(children=_decoders(ranks.local_count)))
        stack.enter_context(stop)
        tell = (reporter or Reporter()) if ranks.main else Reporter()

        # --- data: read and checked before anything expensive -----------------------------------------------
        tracking = recipe.tracking
        trackers = Trackers(tracking.to, tracking.project, recipe.name, run.folder, tell.say, main=ranks.main)
        meter = Meter(tracking, run.folder, tell.say, resumed=resume, main=ranks.main)
        data = read_data(recipe, reader, ranks, tell)
        splits = data.splits
        lock = stack.enter_context(ExitStack())  # of the main rank, as long as it writes
        changes = ranks.on_main(lambda: _begin(run, recipe, splits, lock, resume=resume, allow=allow_changes))
        stack.enter_context(meter)
        saver = Saver(run, recipe.checkpoints.keep, recipe.checkpoints.full_disk, tell.say)
        dropped = DroppedRows(run.dropped, splits, recipe.data.max_bad_share, recipe.data.train, saver.room)
        unusable = [row for name in SPLITS for row in getattr(splits, name).problems]
        ranks.on_main(lambda: dropped.add((*unusable, *data.augment.problems)))
        stop.listen()  # from here on there is something to save

        # --- model, and the plan: the windows of every step, known from the seed alone ------------------------
        model = open_model(recipe, data, ranks)
        plan = plan_run(recipe, data, model, ranks, tell)
        extent = Extent(plan.total_steps, settings.hours)
        for line in describe(recipe, data, model, extent):
            tell.say(line)

        # --- the figures before --------------------------------------------------------------------------------
        decoding = Alone() if ranks.sharded else ranks  # of shards the main rank alone has the whole model
        measured = ranks.on_main if ranks.sharded else ranks.together
        rows = Rows(
            run,
            recipe.evaluation,
            reader,
            tell,
            stop,
            decoding,
            precision=settings.precision,
            states=model.encoder_frozen,
        )
        dev = DevSet(recipe, run, splits, data.folder, rows, tell, dropped=dropped, retention=data.retention)
        base = measured(dev.base)

        # --- all that trains it, on its device and all ranks; where the run goes on, as it was -------------------
        wrapped = ranks.wrap(model.module)
        cache = open_cache(recipe, data, model, plan, ranks, tell.say) if model.keeps_states else None
        if cache is not None:
            stack.enter_context(cache)
        stepper = make_stepper(recipe, data, model, wrapped, cache, tell.say)
        average = make_average(
            settings.average,
            wrapped.inner,
            run.averages,
            of=settings.average_of,
            decay=settings.ema_decay,
        )
        state = TrainingState(wrapped, stepper.optimizer, average, saver)
        observer = Observer(metric=dev.metric, max_grad_norm=settings.max_grad_norm)
        skipped = SkippedSteps(run, settings.max_skipped_steps, tell.say, saver.room)
        journal = Journal(run, saver, skipped, observer, trackers, tell)
        progress = Progress(seconds_evaluating=dev.seconds_before)
        if resume:
            progress = state.restore() or progress
            ranks.on_main(partial(_go_on, run, recipe, splits, changes, progress))
            observer.replay(run.read_metrics())
            tell.say(f"resumed after {extent.told(progress.step, progress.speech_seconds)}")
        ranks.on_main(state.preflight)
        trackers.start(recipe_tree(recipe), progress.step)
        stack.enter_context(trackers)
        augment = data.augment if data.augment.active else None
        feed = stack.enter_context(
            Feed(
                plan,
                reader,
                data.folder.vocabulary,
                language_loss=settings.language_loss,
                augment=augment,
                store=cache,
            )
        )
        while True:
            # --- evaluate: generated text of the live weights, and of their average; the best are kept ------------
            if dev.due(extent, progress):
                ended, before = extent.ended(progress.step, progress.speech_seconds), replace(progress)
                try:
                    evaluation = measured(partial(dev.evaluate, whisper_of(wrapped), extent, progress))
                    if average is not None:
                        measured_by = dev.measured_by(evaluation.context, progress)
                        ranks.on_main(partial(state.evaluated, progress.step, dev.value(evaluation), measured_by))
                        if ranks.on_main(partial(average.due, last=ended)):
                            with average.applied(wrapped.inner):
                                measured(partial(dev.evaluate, whisper_of(wrapped), extent, progress, "average"))
                        elif ended:
                            tell.say("train.average: no other evaluated weights to average with those of the end")
                    ranks.on_main(partial(journal.evaluation, progress.step, evaluation))
                except BaseException:  # stopped in the middle: it is all made again
                    progress = replace(before, seconds_evaluating=progress.seconds_evaluating)
                    raise
                finally:
                    progress = ranks.broadcast(progress)
                    state.save(progress)

            # --- stop or end --------------------------------------------------------------------------------------
            if ranks.any(stop.requested):
                saved = state.save(progress)
                raise run.interrupted(f"after {extent.told(progress.step, progress.speech_seconds)}", saved=saved)
            if extent.ended(progress.step, progress.speech_seconds):
                break

            # --- one step: all its parts, one update --------------------------------------------------------------
            start, at = time.perf_counter(), progress.step
            try:
                drawn = draw(feed, ranks, at)
                ranks.on_main(partial(dropped.of_step, drawn, progress.segments, data.augment.problems))
                rate = learning_rate(
                    extent.done(at, progress.speech_seconds),
                    extent.total,
                    model.peak,
                    settings.warmup_share,
                    settings.schedule,
                    decay_share=settings.decay_share,
                    step=extent.done(1, drawn.speech_seconds),
                )
                gradients = stepper.gradients(drawn, at)
                if gradients.finite:
                    stepper.update(rate)
                    if average is not None:
                        average.update(wrapped.inner)
                else:
                    stepper.skip()

                # --- count, write down, tell ----------------------------------------------------------------------
                seconds = time.perf_counter() - start
                ids = () if gradients.finite else drawn.ids(ranks)
                progress = ranks.on_main(partial(journal.step, drawn, gradients, ids, extent, progress, rate, seconds))
            except (Interrupted, RankFailedError):  # by whoever watches; what the others do not know of: none can save
                raise
            except WhispertuneError as error:  # a stream that broke off, too many bad rows: nothing done is lost
                state.save(progress)
                raise run.broken_off(error, extent.told(progress.step, progress.speech_seconds)) from error
            last = extent.ended(progress.step, progress.speech_seconds)
            regular = last or progress.step % recipe.checkpoints.every_steps == 0
            if regular and not dev.due(extent, progress):  # an evaluation saves when it is done
                state.save(progress)

        # --- the figures after, from the weights that were kept ---------------------------------------------------
        tuned = measured(partial(dev.tuned, whisper_of(wrapped), progress))
        tuned_fit = measured(partial(dev.tuned_fit, tuned, progress))
        retention = measured(partial(dev.retained, progress))
        footprint = meter.stop()
        result = TrainingResult(
            run=run,
            steps=progress.step,
            skipped_steps=progress.skipped_steps,
            seconds=time.perf_counter() - began,
            seconds_training=progress.seconds_training,
            seconds_evaluating=progress.seconds_evaluating,
            utterances_per_second=progress.segments / max(progress.seconds_training, 1e-9),
            speech_hours=progress.speech_seconds / 3600,
            best_step=progress.best_step,
            best_weights=dev.best_weights(),
            engine=dev.engine_kind,
            processes=ranks.count,
            parameters_trained=model.parameters.trained,
            parameters=model.parameters.total,
            footprint=footprint,
            base=base,
            tuned=tuned,
            tuned_fit=tuned_fit,
            retention=retention,
        )
        ranks.on_main(partial(_end, run, result, saver))
    return result


def _begin(run: Run, recipe: Recipe, splits: Splits, lock: ExitStack, *, resume: bool, allow: bool) -> tuple[str, ...]:
    """Make the run's folder, or see whether it can go on; what has changed since, where that is allowed."""
    if not resume:
        run.folder.mkdir(parents=True, exist_ok=True)
    if run.folder.is_dir():
        lock.enter_context(run_lock(run.folder))
    if not resume:
        run.start(recipe, splits.fingerprints(), source_counts(splits, recipe))
        return ()
    run.recover()
    return run.check_same(recipe, splits.fingerprints(), allow=allow)


def _go_on(run: Run, recipe: Recipe, splits: Splits, changes: Sequence[str], progress: Progress) -> None:
    """Drop what will be written again, and write down what changed."""
    run.reopen()
    run.rewind_metrics(progress.step, progress.evaluated_step)
    run.note_changes(recipe, splits.fingerprints(), changes, progress.step, source_counts(splits, recipe))


def _end(run: Run, result: TrainingResult, saver: Saver) -> None:
    """Write what the run came to; what only a run that goes on needs is removed."""
    with saver.room("result.json", must=True):
        write_json(run.result, result.as_json())
    shutil.rmtree(run.averages, ignore_errors=True)


def _decoders(processes: int) -> int:
    """Processes of this one that decode audio: its share of half of the cores, the other half feeds the accelerator."""
    return max(1, min(MOST_DECODERS, (os.cpu_count() or 2) // 2 // processes))
