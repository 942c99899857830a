"""Dev while training: the engine is checked once, a fixed subset is decoded at intervals, the best is kept.

rows = Rows(run, recipe.evaluation, reader, reporter, stop, ranks)
dev = DevSet(recipe, run, splits, folder, rows, reporter, dropped=dropped)
base = dev.base()                 # the figures before, on all rows of the reporting split
found = dev.evaluate(model, extent, progress)     # generated text of the live weights; saves them where they are best
dev.evaluate(model, extent, progress, weights="average")     # the same of averaged ones, which the model has for now
tuned = dev.tuned(model, progress)                # the best weights, on 30 s
tuned_fit = dev.tuned_fit(tuned, progress)        # and on clips cut to what is spoken, where that was trained

What is measured on cut clips selects weights only as long as some clips are decoded about as well so as on 30 s: from
the first time that they are not, dev is decoded on 30 s. The model says that it may be decoded on cut clips only where
that held on all rows.

Where several ranks train, each decodes its share of the rows, all know the figures, and the main one writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from whispertune.data.segments import Segment
from whispertune.decode.context import Context, Mark
from whispertune.decode.engines import Engine, LiveModel, best_device, live_engine, load_live
from whispertune.errors import ModelError, RecipeError
from whispertune.evaluation.evaluate import Evaluation
from whispertune.evaluation.retention import RetentionSet, SetChange
from whispertune.model.formats.adapter import keep_adapter
from whispertune.model.formats.transformers import write_folder
from whispertune.model.generation import tuned_generation
from whispertune.model.load import ModelFolder
from whispertune.recipe import Recipe
from whispertune.reporting import Reporter
from whispertune.score.wer import Scores, score
from whispertune.score.written import characters_lead, text_language
from whispertune.train.feeding.dropped import DroppedRows
from whispertune.train.feeding.splits import Splits, with_sources
from whispertune.train.keeping.checkpoint import Progress
from whispertune.train.keeping.saving import Saver
from whispertune.train.learning.micro import lend_memory
from whispertune.train.learning.schedule import Extent
from whispertune.train.measuring.retention import RetentionSets
from whispertune.train.measuring.rows import Rows
from whispertune.train.measuring.subset import LEAST_ROWS, Subset, affordable, share_taken
from whispertune.train.run import Run

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

ENGINE_TOLERANCE = 0.5  # of WER or CER, in points, between CTranslate2 and transformers on the same clips
PROBE_ROWS = 8  # that are timed, to find out how many the time allows
PROOF_CLIPS = 16  # decoded both ways at each evaluation, where clips cut to what is spoken are to select
FIT_DOUBT = 1.25  # so many times the errors on 30 s, and what is measured on cut clips selects nothing
FIT_TOLERANCE = 1.0  # points by which all rows may be worse cut than on 30 s, where a model may be decoded so


class DevSet:
    """Evaluations of one run; what they cost is counted in its progress."""

    def __init__(
        self,
        recipe: Recipe,
        run: Run,
        splits: Splits,
        folder: ModelFolder,
        rows: Rows,
        tell: Reporter,
        *,
        dropped: DroppedRows,
        retention: Sequence[RetentionSet] = (),
    ) -> None:
        self.rows, self.ranks, self.dropped = rows, rows.ranks, dropped
        self.recipe, self.run, self.folder, self.tell = recipe, run, folder, tell
        self.saver = Saver(run, recipe.checkpoints.keep, recipe.checkpoints.full_disk, tell.say)
        self.split, self.reported = splits.reporting
        self.subset = Subset(splits.dev.segments, recipe.evaluation.subset, recipe.seed)
        self.generation = tuned_generation(folder.generation, folder.vocabulary, splits.sample)
        if splits.streams and not recipe.language:  # other languages may come later
            self.generation = self.generation.speaking(None, self.generation.task)
        self.engine_kind: str = recipe.evaluation.engine
        best = recipe.checkpoints.best
        auto = "cer" if characters_lead(splits.dev.segments) else "wer"
        self.metric = auto if best == "auto" else best
        self.normalizer = recipe.evaluation.named_normalizer
        self.contexts = trained_contexts(recipe)  # the last of them decodes while training, as long as it is trusted
        self.retention = RetentionSets(recipe, retention, rows, self._write)
        self.seconds_before = 0.0  # what measuring the base model took, in this session
        self._best: Evaluation | None = None  # of the weights that are kept, where this session evaluated them
        self._kept: tuple[Engine, LiveModel] | None = None  # them, in memory

    def base(self) -> Evaluation:
        """The untouched model on all rows of the reporting split, 30 s each; decoded once a run."""
        known = self.ranks.on_main(lambda: self.run.read_evaluation("base"))
        self.engine_kind = known.engine if known else self.engine_kind
        if known is not None and self.retention.known(known.engine):
            return known
        start, live = time.perf_counter(), self._placed(load_live(self.folder))
        engine = live_engine(self.engine_kind, live)
        base = known or self._evaluated(engine, self.reported, "base model", "full", live=live)
        if known is None and not self._engine_agrees(engine, live, base):
            self.engine_kind, engine = "transformers", _transformers(live)
            base = self._evaluated(engine, self.reported, "base model, by transformers", "full", live=live)
        base = known or self._finish("base", base)  # before what may take hours more
        self.retention.base(engine)
        self.seconds_before = time.perf_counter() - start
        return base

    def due(self, extent: Extent, progress: Progress) -> bool:
        """Whether an evaluation belongs here: `times` of them, spread evenly, the last at the end.

        It goes by the extent of now: a run that is resumed may be longer or shorter than it was.
        """
        times = self.recipe.evaluation.times
        if not times or progress.step <= progress.evaluated_step:
            return False
        reached = extent.reached(progress.step, progress.speech_seconds, times)
        ended = extent.ended(progress.step, progress.speech_seconds)
        return ended or reached > self._parts_evaluated(extent, progress)

    def _parts_evaluated(self, extent: Extent, progress: Progress) -> int:
        """How many parts of the run the last evaluation has behind it."""
        return extent.reached(progress.evaluated_step, progress.evaluated_seconds, self.recipe.evaluation.times)

    def value(self, evaluation: Evaluation) -> float:
        """The figure that selects, in per cent; the lower, the better."""
        return float(getattr(evaluation.scores, self.metric))

    def evaluate(
        self, model: WhisperForConditionalGeneration, extent: Extent, progress: Progress, weights: str = "live"
    ) -> Evaluation:
        """Decode the subset with the weights that the model has, note the figures, and keep them if they are the best.

        `weights` says what they are: "live", or "average" of several.
        """
        start = time.perf_counter()
        live = self._live(model)
        lend_memory()
        what = ("dev after" if weights == "live" else f"{weights} weights on dev after") + f" step {progress.step}"
        engine = live_engine(self.engine_kind, live)
        context = self._context(engine, what, progress, prove=weights == "live")
        given_up = context == "full" and progress.context == "fit"
        again = given_up and progress.best_of == self.measured_by("fit", progress)
        if given_up:
            progress.dev_rows = 0  # on 30 s the time allows fewer
        progress.context = context
        if weights == "live":
            self.retention.at(engine, progress.step)
        self._settle(engine, live, context, extent, progress, besides_s=time.perf_counter() - start)
        if again:  # values of one context are compared with each other
            kept = live_engine(self.engine_kind, self._live_best())
            anew = self._evaluated(kept, self._chosen(progress), "the kept weights, on 30 s", context)
            self._note_best(anew, self.value(anew), progress)
        evaluation = self._evaluated(engine, self._chosen(progress), what, context, live=live)
        value, known = self.value(evaluation), self._best_value(progress, context)
        best = (known is None or value < known) and self._save_model(model, weights)
        if best:
            progress.best_step = progress.step
            self._note_best(evaluation, value, progress)
        progress.evaluated_step, progress.evaluated_seconds = progress.step, progress.speech_seconds
        progress.seconds_evaluating += time.perf_counter() - start
        line = {"step": progress.step, "weights": weights, "best": best, **evaluation.as_json()}
        self._write("metrics.jsonl", lambda: self.run.add_metrics("evaluation", line))
        self.tell.evaluated(f"step {progress.step}" + ("" if weights == "live" else f", {weights} weights"), evaluation)
        return evaluation

    def _evaluated(
        self,
        engine: Engine,
        segments: Sequence[Segment],
        what: str,
        context: Context,
        *,
        live: LiveModel | None = None,
        beams: int | None = None,
    ) -> Evaluation:
        """Rows of dev or test, by the normalizer that the recipe names, if any."""
        return self.rows.evaluate(engine, segments, what, context, live=live, beams=beams, normalizer=self.normalizer)

    def _chosen(self, progress: Progress) -> tuple[Segment, ...]:
        return self.subset.first(self.subset.asked or progress.dev_rows)

    def _settle(
        self,
        engine: Engine,
        live: LiveModel,
        context: Context,
        extent: Extent,
        progress: Progress,
        *,
        besides_s: float,
    ) -> None:
        """At a run's first evaluation: how many rows each of them has, where the recipe does not say it."""
        if self.subset.asked or progress.dev_rows:
            return
        settings, everything = self.recipe.evaluation, len(self.subset.segments)
        if everything <= LEAST_ROWS:
            progress.dev_rows = everything
            return
        probe = self.subset.first(PROBE_ROWS)
        start = time.perf_counter()
        self._evaluated(engine, probe, "some clips, to see how long they take", context, live=live)
        row_s = (time.perf_counter() - start) / len(probe)
        of_weights = 1 if self.recipe.train.average == "none" else 2  # the average is evaluated too
        times = {"besides_s": of_weights * besides_s, "row_s": of_weights * row_s}
        times["part_s"] = progress.seconds_training / (self._parts_evaluated(extent, progress) + 1)
        count = self.ranks.on_main(lambda: min(affordable(settings.share, **times), everything))
        progress.dev_rows = count
        self.tell.say(
            f"{count} of the {everything} rows of dev are decoded at each evaluation, which takes about "
            f"{100 * share_taken(count, **times):.0f} % of the time (evaluation.share is {100 * settings.share:.0f} %)"
        )

    def _context(self, engine: Engine, what: str, progress: Progress, *, prove: bool) -> Context:
        """Cut to what is spoken, which is quicker, as long as it can be trusted; from where it failed on, 30 s."""
        asked = self.recipe.evaluation.context == "fit"  # whoever asks for it has seen it
        context = "full" if progress.context == "full" and not asked else self.contexts[-1]
        doubted = context == "fit" and prove and not asked and not self._proven(engine, what)
        return "full" if doubted else context

    def _best_value(self, progress: Progress, context: str) -> float | None:
        """What is to be beaten; none where it was measured by another metric, in another context or on other rows."""
        return progress.best_value if progress.best_of in ("", self.measured_by(context, progress)) else None

    def _note_best(self, evaluation: Evaluation, value: float, progress: Progress) -> None:
        progress.best_value, progress.best_of = value, self.measured_by(evaluation.context, progress)
        self._best = evaluation

    def measured_by(self, context: str, progress: Progress) -> str:
        """What a value is of; only values of the same are compared."""
        rows = self.subset.fingerprint(self.subset.asked or progress.dev_rows)
        parts = [self.metric, context, rows, self.engine_kind, str(self.recipe.evaluation.beams)]
        return " ".join([*parts, self.normalizer.label] if self.normalizer else parts)

    def _proven(self, engine: Engine, what: str) -> bool:
        """Whether some clips are decoded about as well cut to what is spoken as on 30 s."""
        clips = self.subset.first(min(PROOF_CLIPS, self.subset.asked or PROOF_CLIPS))
        fit = self._evaluated(engine, clips, f"{what}, some clips cut", "fit")
        full = self._evaluated(engine, clips, f"{what}, some clips on 30 s", "full")
        cut, whole = (float(getattr(each.scores, self.metric)) for each in (fit, full))
        proven = cut <= FIT_DOUBT * whole + FIT_TOLERANCE
        if not proven:
            self.tell.say(
                f"{fit.scores.rows} clips cut to what is spoken: {self.metric} {cut:.1f}; on 30 s: {whole:.1f}; "
                "so dev is decoded on 30 s from here on"
            )
        return proven

    def _scores_on(self, evaluation: Evaluation, ids: Collection[str]) -> Scores:
        """Of some of its rows."""
        found = [each for each in evaluation.utterances if each.id in ids]
        references, hypotheses = [each.reference for each in found], [each.hypothesis for each in found]
        languages = {each.id: text_language(each) for each in self.reported}
        ids = [each.id for each in found]
        return score(ids, references, hypotheses, [languages[id_] for id_ in ids], normalizer=self.normalizer)[0]

    def tuned(self, model: WhisperForConditionalGeneration, progress: Progress) -> Evaluation:
        """The best weights on all rows of the reporting split, 30 s each."""
        start = time.perf_counter()
        if progress.best_step is None:  # nothing was evaluated on the way: the last weights are the model
            self._save_model(model, "live", must=True)
        evaluation = self._of_best("full")
        progress.seconds_evaluating += time.perf_counter() - start
        return self._finish("tuned", evaluation)

    def tuned_fit(self, tuned: Evaluation, progress: Progress) -> Evaluation | None:
        """The same, after it, on clips cut to what is spoken; None where that was not trained.

        Where it is no worse, the run's model says that it may be decoded so.
        """
        if "fit" not in self.contexts:
            return None
        start = time.perf_counter()
        evaluation = self._of_best("fit")
        progress.seconds_evaluating += time.perf_counter() - start
        proven = self.value(evaluation) <= self.value(tuned) + FIT_TOLERANCE
        contexts: tuple[Context, ...] = ("full", "fit") if proven else ("full",)
        self._write("the model", lambda: Mark(contexts, self.best_weights()).write(self.run.model))
        return self._finish("tuned_fit", evaluation)

    def _of_best(self, context: Context) -> Evaluation:
        same_rows = self.split == "dev" and self._best is not None and self._best.scores.rows == len(self.reported)
        if same_rows and self._best is not None and self._best.context == context:
            return self._best  # that is what was decoded when they were found to be the best
        engine, live = self._best_engine()
        return self._evaluated(engine, self.reported, f"tuned model, {context}", context, live=live)

    def _best_engine(self) -> tuple[Engine, LiveModel]:
        if self._kept is None:
            live = self._live_best()
            self._kept = live_engine(self.engine_kind, live), live
        return self._kept

    def retained(self, progress: Progress) -> tuple[SetChange, ...]:
        """What became of the retention sets with the best weights."""
        if not self.retention.sets:
            return ()
        start = time.perf_counter()
        changes = self.retention.tuned(self._best_engine()[0])
        progress.seconds_evaluating += time.perf_counter() - start
        return changes

    def best_weights(self) -> str:
        """What is kept: "live" weights as they were after a step, or an "average"."""
        try:
            return Mark.read(self.run.model).weights
        except ModelError:  # cut off in the writing
            kept = [line["weights"] for line in self.run.read_metrics() if line.get("best")]
            return str(kept[-1]) if kept else "live"

    def _finish(self, name: str, evaluation: Evaluation) -> Evaluation:
        final = evaluation.of(self.split, biased=name != "base" and self.split == "dev")
        self._write("an evaluation", lambda: self.run.save_evaluation(name, final))
        problems = with_sources(final.problems, getattr(self.recipe.data, self.split))
        self.ranks.on_main(lambda: self.dropped.add(problems))
        self.tell.evaluated(f"{name.replace('_', ' ')} model", final)
        return final

    def _write(self, what: str, work: Callable[[], None]) -> None:
        def on_main() -> None:
            with self.saver.room(what):
                work()

        self.ranks.on_main(on_main)

    def _engine_agrees(self, engine: Engine, live: LiveModel, base: Evaluation) -> bool:
        """Decode some clips with transformers too; the engine is used where both score the same.

        Greedily: the libraries weigh the beams of a search differently, and rightly so.
        """
        ids = {each.id for each in base.utterances[: self.recipe.evaluation.verify_clips]}  # of those that decode
        clips = [segment for segment in self.reported if segment.id in ids]
        if self.engine_kind == "transformers" or not clips:
            return True
        if self.recipe.evaluation.beams > 1:
            base = self._evaluated(engine, clips, "some clips without beams", "full", beams=1)
        theirs = self._evaluated(_transformers(live), clips, "the same clips by transformers", "full", beams=1)
        both = {each.id for each in theirs.utterances} & {each.id for each in base.utterances}
        here, there = self._scores_on(base, both), self._scores_on(theirs, both)
        metric = "cer" if characters_lead(self.reported) else "wer"
        apart = float(abs(getattr(here, metric) - getattr(there, metric)))
        self.tell.say(
            f"{self.engine_kind} and transformers are {apart:.2f} {metric.upper()} apart on {len(both)} clips"
            + ("" if apart <= ENGINE_TOLERANCE else ": transformers decodes in this run, which is slower")
        )
        return apart <= ENGINE_TOLERANCE

    def _live(self, model: WhisperForConditionalGeneration) -> LiveModel:
        folder = self.folder
        return LiveModel(model, folder.shape, folder.vocabulary, folder.tokenizer_json, self.generation)

    def _live_best(self) -> LiveModel:
        return self._placed(load_live(ModelFolder(str(self.run.folder), self.run.model)))

    def _placed(self, live: LiveModel) -> LiveModel:
        """The same on the accelerator, where there is one, with room for it."""
        import torch

        lend_memory()
        try:
            live.model.to(best_device())
        except torch.OutOfMemoryError:
            live.model.to("cpu")
            self.tell.say("no room for a second model on the accelerator: what is teacher-forced is counted on the CPU")
        return live

    def _save_model(self, model: WhisperForConditionalGeneration, weights: str, *, must: bool = False) -> bool:
        """Write the weights as the run's model; False where there was no room and the run goes on without."""
        from whispertune.model.parameters import merged_state

        def write(folder: Path) -> None:  # on the main rank alone: where there are shards, it has a model in one piece
            state = merged_state(model)
            write_folder(folder, state, self.folder.shape, self.folder.tokenizer_json, self.generation)
            keep_adapter(model, folder, self.recipe.model)  # what was averaged is the mean of adapters, so it has one
            Mark(("full",), weights).write(folder)  # what else it may be decoded on is found out at the end

        return self.ranks.on_main(lambda: self.saver.model(write, must=must))


def trained_contexts(recipe: Recipe) -> tuple[Context, ...]:
    """What a run trains for and measures: 30 s always, and fit; by the last of them it selects.

    Raises:
        RecipeError: fit is asked for, and nothing is trained so.
    """
    asked = recipe.evaluation.context
    if asked == "fit" and not recipe.windows.fit_share:
        fix = "raise windows.fit_share, or leave it at auto"
        raise RecipeError("no clip is trained cut to what is spoken", where="evaluation.context", fix=fix)
    return ("full", "fit") if recipe.windows.fit_share and asked != "full" else ("full",)


def _transformers(live: LiveModel) -> Engine:
    live.model.to(best_device())
    return live_engine("transformers", live)
