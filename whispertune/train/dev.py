"""Dev while training: the engine is checked once, a fixed subset is decoded at intervals, the best is kept.

dev = DevSet(recipe, run, splits, folder, reader, reporter, stop, dropped=dropped)
base = dev.base()                 # the figures before, on all rows of the reporting split
dev.evaluate(model, extent, progress)     # generated text of the live weights; saves them where they are the best
tuned = dev.tuned(model, progress)
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from whispertune.data.audio import AudioReader
from whispertune.data.keyed import keyed_rng
from whispertune.data.segments import Segment
from whispertune.data.table import SegmentTable
from whispertune.decode.engines import Engine, LiveModel, best_device, live_engine, load_live
from whispertune.evaluation import Evaluation, decode_segments, evaluate
from whispertune.evaluation import Progress as Watch
from whispertune.model.formats.transformers import model_state, write_folder
from whispertune.model.generation import Generation
from whispertune.model.load import ModelFolder
from whispertune.recipe import Recipe
from whispertune.reporting import Reporter
from whispertune.score.normalize import leads_with_cer
from whispertune.score.wer import score
from whispertune.train.checkpoint import Progress, publish
from whispertune.train.dropped import DroppedRows
from whispertune.train.run import Run
from whispertune.train.schedule import Extent
from whispertune.train.signals import StopRequest
from whispertune.train.splits import Splits
from whispertune.windows.tokens import Vocabulary

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

FIRST_WORD = 24  # characters that hold it
ENGINE_TOLERANCE = 0.5  # of WER, in points, between CTranslate2 and transformers on the same clips


def tuned_generation(folder: ModelFolder, segments: SegmentTable) -> Generation:
    """The base model's settings, able to write what the training text holds, for its language and task."""
    vocabulary, settings = folder.vocabulary, folder.generation
    tokens, first = _written(vocabulary, settings, segments)
    languages, tasks = segments.distinct("languages"), segments.distinct("tasks")
    return settings.allowing(tokens, first).speaking(
        languages[0] if len(languages) == 1 else None, tasks[0] if len(tasks) == 1 else None
    )


def _written(vocabulary: Vocabulary, settings: Generation, segments: SegmentTable) -> tuple[set[int], set[int]]:
    """Tokens of the texts that decoding would suppress, anywhere and at the beginning.

    Only texts that hold a character of a suppressed token are encoded; of the others, the different first words.
    """
    import pyarrow.compute as pc

    signs = "".join({sign for token in settings.suppress for sign in vocabulary.decode([token]).strip()})
    tokens: set[int] = set()
    first: set[int] = set()
    for language in segments.distinct("languages"):
        texts = segments.texts.filter(pc.equal(segments.languages, language))
        begins = pc.list_element(pc.utf8_split_whitespace(pc.utf8_slice_codeunits(texts, 0, FIRST_WORD)), 0)
        first.update(vocabulary.encode(begin, language)[0] for begin in begins.unique().to_pylist())
        suspects = texts.filter(pc.match_substring_regex(texts, f"[{re.escape(signs)}]")) if signs else texts[:0]
        for text in suspects.unique().to_pylist():
            if tokens.issuperset(settings.suppress):
                break
            tokens.update(vocabulary.encode(text, language))
    return tokens, first


class DevSet:
    """Evaluations of one run; what they cost is counted in its progress."""

    def __init__(
        self,
        recipe: Recipe,
        run: Run,
        splits: Splits,
        folder: ModelFolder,
        reader: AudioReader,
        tell: Reporter,
        stop: StopRequest,
        *,
        dropped: DroppedRows,
    ) -> None:
        self.dropped = dropped
        self.recipe, self.run, self.folder = recipe, run, folder
        self.reader, self.tell, self.stop = reader, tell, stop
        self.split, self.reported = splits.reporting
        self.subset = _subset(splits.dev.segments, recipe.evaluation.subset, recipe.seed)
        self.generation = tuned_generation(folder, splits.sample)
        if splits.streams and not recipe.language:  # other languages may come later
            self.generation = self.generation.speaking(None, self.generation.task)
        self.engine_kind: str = recipe.evaluation.engine
        best = recipe.checkpoints.best
        auto = "cer" if leads_with_cer(splits.dev.segments[0].language) else "wer"
        self.metric = auto if best == "auto" else best
        self.seconds_before = 0.0  # what measuring the base model took, in this session
        self._last: tuple[int, Evaluation] | None = None  # the step and figures of the last evaluation

    def base(self) -> Evaluation:
        """The untouched model on all rows of the reporting split; decoded once a run."""
        known = self.run.read_evaluation("base")
        if known is not None:
            self.engine_kind = known.engine
            return known
        start = time.perf_counter()
        live = load_live(self.folder)
        base = self._evaluate(live_engine(self.engine_kind, live), self.reported, "base model")
        if not self._engine_agrees(live, base):
            self.engine_kind = "transformers"
            base = self._evaluate(_transformers(live), self.reported, "base model, by transformers")
        self.seconds_before = time.perf_counter() - start
        return self._finish("base", base)

    def due(self, extent: Extent, progress: Progress) -> bool:
        """Whether an evaluation belongs here: `times` of them, spread evenly, the last at the end."""
        reached = extent.reached(progress.step, progress.speech_seconds, self.recipe.evaluation.times)
        return reached > progress.parts_evaluated and progress.step > 0

    def evaluate(self, model: WhisperForConditionalGeneration, extent: Extent, progress: Progress) -> None:
        """Decode the subset with the live weights, note the figures, and keep the weights if they are the best."""
        start = time.perf_counter()
        evaluation = self._evaluate(
            live_engine(self.engine_kind, self._live(model)), self.subset, f"dev after step {progress.step}"
        )
        value = float(getattr(evaluation.scores, self.metric))
        best = progress.best_value is None or value < progress.best_value
        if best:
            self._save_model(model)
            progress.best_step, progress.best_value = progress.step, value
        progress.evaluated_step = progress.step
        progress.parts_evaluated = extent.reached(progress.step, progress.speech_seconds, self.recipe.evaluation.times)
        progress.seconds_evaluating += time.perf_counter() - start
        self._last = (progress.step, evaluation)
        self.run.add_metrics("evaluation", {"step": progress.step, "best": best, **evaluation.as_json()})
        self.tell.evaluated(f"step {progress.step}", evaluation)

    def tuned(self, model: WhisperForConditionalGeneration, progress: Progress) -> Evaluation:
        """The best weights on all rows of the reporting split."""
        start = time.perf_counter()
        if progress.best_step is None:  # nothing was evaluated on the way: the last weights are the model
            self._save_model(model)
        tuned = self._known_tuned(progress)
        if tuned is None:
            live = self._live(model) if progress.best_step in (None, progress.step) else self._live_best()
            tuned = self._evaluate(live_engine(self.engine_kind, live), self.reported, "tuned model")
        progress.seconds_evaluating += time.perf_counter() - start
        return self._finish("tuned", tuned)

    def _known_tuned(self, progress: Progress) -> Evaluation | None:
        """The last evaluation, where it was of the best weights on the very rows that are reported."""
        if self._last is None or self.split != "dev" or len(self.subset) != len(self.reported):
            return None
        step, evaluation = self._last
        return evaluation if step == progress.best_step else None

    def _finish(self, name: str, evaluation: Evaluation) -> Evaluation:
        final = evaluation.of(self.split, biased=name == "tuned" and self.split == "dev")
        self.run.save_evaluation(name, final)
        self.dropped.add(final.problems)
        self.tell.evaluated(f"{name} model", final)
        return final

    def _evaluate(self, engine: Engine, segments: Sequence[Segment], what: str) -> Evaluation:
        settings = self.recipe.evaluation
        return evaluate(
            engine, segments, self.reader, batch=settings.batch, beams=settings.beams, progress=self._watch(what)
        ).of("dev", biased=False)

    def _watch(self, what: str) -> Watch:
        def progress(done: int, total: int) -> None:
            self.tell.evaluating(what, done, total)
            if self.stop.requested:
                raise self.run.interrupted(what)

        return progress

    def _engine_agrees(self, live: LiveModel, base: Evaluation) -> bool:
        """Decode some clips with transformers too; the engine is used where both score the same."""
        clips = self.reported[: self.recipe.evaluation.verify_clips]
        if self.engine_kind == "transformers" or not clips:
            return True
        hypotheses, _ = decode_segments(
            _transformers(live),
            clips,
            self.reader,
            batch=self.recipe.evaluation.batch,
            beams=self.recipe.evaluation.beams,
            progress=self._watch("the same clips by transformers"),
        )
        theirs = {each.segment.id: each.text for each in hypotheses}
        ours = [each for each in base.utterances if each.id in theirs]
        ids, references = [each.id for each in ours], [each.reference for each in ours]
        language = clips[0].language
        here, _ = score(ids, references, [each.hypothesis for each in ours], language)
        there, _ = score(ids, references, [theirs[each.id] for each in ours], language)
        apart = abs(here.wer - there.wer)
        self.tell.say(
            f"{self.engine_kind} and transformers are {apart:.2f} WER apart on {len(ours)} clips"
            + ("" if apart <= ENGINE_TOLERANCE else ": transformers decodes in this run, which is slower")
        )
        return apart <= ENGINE_TOLERANCE

    def _live(self, model: WhisperForConditionalGeneration) -> LiveModel:
        folder = self.folder
        return LiveModel(model, folder.shape, folder.vocabulary, folder.tokenizer_json, self.generation)

    def _live_best(self) -> LiveModel:
        live = load_live(ModelFolder(str(self.run.folder), self.run.model))
        if self.engine_kind == "transformers":
            live.model.to(best_device())
        return live

    def _save_model(self, model: WhisperForConditionalGeneration) -> None:
        target = self.run.model
        temporary = target.with_name(".model.partial")
        write_folder(temporary, model_state(model), self.folder.shape, self.folder.tokenizer_json, self.generation)
        publish(temporary, target)


def _transformers(live: LiveModel) -> Engine:
    live.model.to(best_device())
    return live_engine("transformers", live)


def _subset(segments: Sequence[Segment], size: int, seed: int) -> tuple[Segment, ...]:
    """Always the same rows of dev, in their order."""
    chosen = sorted(keyed_rng(seed, "dev subset").permutation(len(segments))[:size].tolist())
    return tuple(segments[index] for index in chosen)
