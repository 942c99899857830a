"""Mixtures of a base model and what was tuned from it, in memory, and how they do on sets of rows.

mixtures = Mixtures(base, tuned, recipe, "ctranslate2", reader, tell)
point = mixtures.point(0.6, dev, retention_sets)     # evaluation/tradeoff.py: Point
mixtures.state(0.6)                                  # the weights by name
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Problem
from whispertune.data.texts import rows_of
from whispertune.decode.context import Context
from whispertune.decode.engines import Engine, LiveModel, best_device, live_engine
from whispertune.evaluation.evaluate import Progress, decode_segments, evaluation_of
from whispertune.evaluation.inputs import Kept, Source
from whispertune.evaluation.retention import RetentionSet, SetFigures, figures_of, transcribed
from whispertune.evaluation.tradeoff import TARGET, Point
from whispertune.model.formats.transformers import write_folder
from whispertune.model.load import ModelFolder
from whispertune.model.merge import interpolated, put
from whispertune.model.parameters import merged_state
from whispertune.recipe import Recipe
from whispertune.reporting import Reporter

if TYPE_CHECKING:
    import numpy as np


class Mixtures:
    """Both ends in memory, and one model that takes the weights of any mixture, one after the other."""

    def __init__(
        self,
        base: ModelFolder,
        tuned: ModelFolder,
        recipe: Recipe,
        engine_kind: str,
        reader: AudioReader,
        tell: Reporter,
    ) -> None:
        self.base, self.tuned, self.kind = base, tuned, engine_kind
        self.settings, self.best = recipe.evaluation, recipe.checkpoints.best
        self.reader, self.tell, self.kept = reader, tell, Kept()
        self._told: set[str] = set()  # the sets whose rows that do not decode were told
        self._base_state = merged_state(base.load())
        self._model = tuned.load()
        self._tuned_state = merged_state(self._model)
        if engine_kind == "transformers":
            self._model.to(best_device())

    def state(self, share: float) -> dict[str, np.ndarray]:
        """The weights of a mixture, by name."""
        return interpolated(self._base_state, self._tuned_state, share)

    def point(self, share: float, target: RetentionSet, sets: Sequence[RetentionSet]) -> Point:
        """How a mixture does on what the model was tuned for, and on each retention set, on 30 s."""
        engine = self._engine(share)
        found = Point(
            share, self._decoded(engine, target, share), {each.name: self._on(engine, each, share) for each in sets}
        )
        figures = [f"{name} {each.value:.1f}" for name, each in ((TARGET, found.target), *found.retention.items())]
        self.tell.say(f"lambda {share:g}: {', '.join(figures)}")
        return found

    def on_cut_clips(self, share: float, target: RetentionSet) -> SetFigures:
        """The same of one set, on clips cut to what is spoken."""
        return self._decoded(self._engine(share), target, share, "fit")

    def _on(self, engine: Engine, found: RetentionSet, share: float) -> SetFigures:
        return self._transcribed(found, share) if found.recordings else self._decoded(engine, found, share)

    def _engine(self, share: float) -> Engine:
        """Decodes with a mixture, until the next one is asked for."""
        put(self._model, self.state(share))
        folder = self._says(share)
        live = LiveModel(self._model, folder.shape, folder.vocabulary, folder.tokenizer_json, folder.generation)
        return live_engine(self.kind, live)

    def _says(self, share: float) -> ModelFolder:
        """Whose settings a mixture is decoded by: the base alone suppresses what it always did."""
        return self.tuned if share else self.base

    def _decoded(self, engine: Engine, found: RetentionSet, share: float, context: Context = "full") -> SetFigures:
        """Row by row; of the same clips all mixtures are given the same mels."""
        decoded, problems = decode_segments(
            engine,
            found.segments,
            Source(self.reader, context, kept=self.kept),
            batch=self.settings.batch,
            beams=self.settings.beams,
            progress=self._watch(found, share),
        )
        self._tell_problems(found, problems)
        evaluation = evaluation_of(decoded, problems, 0.0, engine.name, context, found.normalizer)
        return figures_of(found, evaluation.utterances, self.best)

    def _transcribed(self, found: RetentionSet, share: float) -> SetFigures:
        """Whole recordings, by a mixture that is a model folder for as long."""
        watch = self._watch(found, share)

        def progress(recording: str, done_s: float, total_s: float) -> None:
            watch(round(done_s), round(total_s))

        with self._folder(share) as model:
            evaluation = transcribed(
                model, found, self.reader, engine=self.kind, beams=self.settings.beams, progress=progress
            )
        self._tell_problems(found, evaluation.problems)
        return figures_of(found, evaluation.utterances, self.best)

    def _tell_problems(self, found: RetentionSet, problems: Sequence[Problem]) -> None:
        """Once for a set: they are the same for every mixture."""
        if problems and found.name not in self._told:
            self._told.add(found.name)
            what = "recordings" if found.recordings else rows_of(len(found.segments))
            first = problems[0]
            self.tell.say(
                f"{found.name}: {len(problems):,} of the {what} cannot be read and do not count, "
                f"e.g. {first.where}: {first.detail}"
            )

    @contextmanager
    def _folder(self, share: float) -> Iterator[str]:
        says = self._says(share)
        with TemporaryDirectory() as folder:
            write_folder(Path(folder), self.state(share), says.shape, says.tokenizer_json, says.generation)
            yield folder

    def _watch(self, found: RetentionSet, share: float) -> Progress:
        what = f"lambda {share:g}, {found.name}"
        return lambda done, total: self.tell.evaluating(what, done, total)
