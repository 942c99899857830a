"""Rows of dev, measured by all ranks together: each takes its share, and all know the figures.

rows = Rows(run, recipe.evaluation, reader, tell, stop, ranks)
rows.evaluate(engine, segments, "base model", "full")                # generated text
rows.evaluate(engine, segments, "dev after step 50", "fit", live=live)  # and how sure the weights are of the right one
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Protocol, TypeVar

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Problem, Segment
from whispertune.decode.context import Context
from whispertune.decode.engines import Engine, LiveModel
from whispertune.evaluation.evaluate import Evaluation, Hypothesis, decode_segments, evaluation_of
from whispertune.evaluation.evaluate import Progress as Watch
from whispertune.evaluation.inputs import Kept, Source
from whispertune.evaluation.tokens import Tally, TokenTally
from whispertune.recipe import Evaluation as Settings
from whispertune.reporting import Reporter
from whispertune.score.normalize import Normalizer
from whispertune.train.run import Run
from whispertune.train.signals import StopRequest

T = TypeVar("T")


class Ranks(Protocol):
    """The processes that train one model together, as far as evaluations need them; see train/across/ranks.py."""

    @property
    def rank(self) -> int: ...

    @property
    def count(self) -> int: ...

    def gather(self, value: T) -> list[T]:
        """What every rank has, on all of them."""
        ...

    def together(self, work: Callable[[], T]) -> T:
        """Each does its own; where it fails on one, it fails on all."""
        ...

    def on_main(self, work: Callable[[], T]) -> T:
        """The main one does it, all get what came of it."""
        ...


class Alone:
    """One process."""

    rank, count = 0, 1

    def gather(self, value: T) -> list[T]:
        return [value]

    def together(self, work: Callable[[], T]) -> T:
        return work()

    def on_main(self, work: Callable[[], T]) -> T:
        return work()


class Rows:
    """Decodes and scores rows; of the same clips, what engines are given is computed once in a run.

    Args:
        states: keep what the encoder gives instead of mels: it is the same in every evaluation.
    """

    def __init__(
        self,
        run: Run,
        settings: Settings,
        reader: AudioReader,
        tell: Reporter,
        stop: StopRequest,
        ranks: Ranks | None = None,
        *,
        precision: str = "float32",
        states: bool = False,
    ) -> None:
        self.run, self.settings, self.tell, self.stop = run, settings, tell, stop
        self.ranks, self.precision = ranks or Alone(), precision
        self.reader, self.kept = reader, Kept(states=states)

    def evaluate(
        self,
        engine: Engine,
        segments: Sequence[Segment],
        what: str,
        context: Context,
        *,
        live: LiveModel | None = None,
        beams: int | None = None,
        normalizer: Normalizer | None = None,
    ) -> Evaluation:
        """Generated text of the rows, scored; of a `live` model that the engine copied, teacher-forced figures too.

        A `normalizer` is for all rows, whatever their language.
        """
        start = time.perf_counter()
        tally = Tally(live, self.precision) if live else None
        found, problems = self._decode(engine, segments, what, context, tally, beams or self.settings.beams)
        sums = reduce(add, self.ranks.gather(tally.found)) if tally else TokenTally()
        seconds = time.perf_counter() - start - (tally.seconds if tally else 0.0)  # counting is no decoding
        evaluation = evaluation_of(found, problems, seconds, engine.name, context, normalizer).of("dev", biased=False)
        return replace(evaluation, teacher_forced=sums.scores().brief() if sums.rows else None)

    def _share(self, segments: Sequence[Segment]) -> list[Segment]:
        """Of this rank: every so many, by length, so that all have as much to do."""
        return sorted(segments, key=lambda segment: segment.duration_s)[self.ranks.rank :: self.ranks.count]

    def _decode(
        self, engine: Engine, segments: Sequence[Segment], what: str, context: Context, tally: Tally | None, beams: int
    ) -> tuple[list[Hypothesis], list[Problem]]:
        """This rank's share of the rows, then all of them together."""
        found, problems = self.ranks.together(
            lambda: decode_segments(
                engine,
                self._share(segments),
                Source(self.reader, context, kept=self.kept),
                batch=self.settings.batch,
                beams=beams,
                listener=tally,
                progress=self._watch(what),
            )
        )
        shares = self.ranks.gather(({each.segment.id: each.text for each in found}, problems))
        texts = {id_: text for share, _ in shares for id_, text in share.items()}
        everything = [Hypothesis(segment, texts[segment.id]) for segment in segments if segment.id in texts]
        return everything, [problem for _, share in shares for problem in share]

    def _watch(self, what: str) -> Watch:
        def progress(done: int, total: int) -> None:
            self.tell.evaluating(what, done, total)
            if self.stop.requested:
                raise self.run.interrupted(what)

        return progress
