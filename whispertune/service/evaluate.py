"""Models and data by name: the scores of one model, and of several beside each other.

evaluation = evaluate_model("my-run", "data/test")
compared = compare_models(["bundled:whisper-base", "my-run"], "data/test", Decoding(language="sv"))
evaluate_model("my-run", "data/test", Decoding(language="ar", normalizer="arabic+alef"))    # not that of the language

engine, tally = open_tallied("ctranslate2", "my-run")       # the same weights decode and say how sure they are
evaluation = evaluate_tallied(engine, tally, segments, reader, Decoding(), context="full")
tally.found.scores().loss
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Segment
from whispertune.decode.context import Context, choose_context, mark_of
from whispertune.decode.engines import Engine, best_device, live_engine, load_live, open_engine
from whispertune.errors import InputError, ModelError
from whispertune.evaluation.compare import Compared, comparison
from whispertune.evaluation.evaluate import Evaluation, Progress, decode_segments, evaluation_of
from whispertune.evaluation.inputs import Change, Source
from whispertune.evaluation.tokens import RowLoss, Tally
from whispertune.model.load import find_model, is_ctranslate2
from whispertune.reporting import Reporter
from whispertune.score.normalize import Normalizer, normalizer_named
from whispertune.service.data import read_usable


@dataclass(frozen=True, slots=True)
class Decoding:
    """What is decoded, how, and by what it is normalised."""

    language: str | None = None  # for rows that name none
    task: str | None = None
    engine: str = "ctranslate2"
    beams: int = 1
    batch: int = 8
    context: str = "auto"
    limit: int | None = None  # rows, or whole recordings
    normalizer: str | None = None  # by name, for all rows; else each has that of its language

    def __post_init__(self) -> None:
        self.named()  # a wrong name is found before anything is decoded

    def named(self) -> Normalizer | None:
        """The normalizer that was named.

        Raises:
            InputError: none is called so.
        """
        return normalizer_named(self.normalizer) if self.normalizer is not None else None


def evaluate_model(
    model: str, data: str, how: Decoding | None = None, *, reporter: Reporter | None = None
) -> Evaluation:
    """Scores of a model on data, both by name.

    Raises:
        InputError: the model, the data or an option cannot be used.
    """
    work = _Work(data, how or Decoding(), reporter or Reporter())
    return work.evaluated(model, open_engine(work.how.engine, model))


def compare_models(
    models: Sequence[str], data: str, how: Decoding | None = None, *, reporter: Reporter | None = None
) -> tuple[Compared, ...]:
    """Several models on the same data, the others against the first.

    Raises:
        InputError: a model stands twice, or one of them, the data or an option cannot be used.
    """
    if len(set(models)) < len(models):
        raise InputError("a model stands twice", where=", ".join(models), fix="name each once")
    for name in models:
        mark_of(name)  # a wrong name is found before anything is decoded
    work = _Work(data, how or Decoding(), reporter or Reporter())
    found = {name: work.with_losses(name) for name in models}
    return comparison(
        {name: evaluation for name, (evaluation, _) in found.items()},
        {name: losses for name, (_, losses) in found.items() if losses},
    )


def open_tallied(kind: str, name: str) -> tuple[Engine, Tally]:
    """An engine on a model by name, and what tells how sure the same weights are of texts.

    A CTranslate2 folder is decoded as it is. Any other model is read once.

    Raises:
        InputError: no such engine. ModelError: no such model, or its weights are integers.
    """
    path = Path(name).expanduser()
    live = load_live(find_model(name))
    as_it_is = kind == "ctranslate2" and path.is_dir() and is_ctranslate2(path)
    engine = open_engine(kind, name) if as_it_is else live_engine(kind, live)
    live.model.to(best_device())
    return engine, Tally(live)


def evaluate_tallied(
    engine: Engine,
    tally: Tally | None,
    segments: Sequence[Segment],
    reader: AudioReader,
    how: Decoding,
    *,
    context: Context,
    change: Change | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Decode and score rows, and hand them to a tally on the way, so that they are read and encoded once.

    What counting takes is not among the seconds of decoding.

    Raises:
        DataError: there are no segments, or none of them decodes.
    """
    start, before = time.perf_counter(), tally.seconds if tally else 0.0
    found, problems = decode_segments(
        engine,
        segments,
        Source(reader, context, change),
        batch=how.batch,
        beams=how.beams,
        listener=tally,
        progress=progress,
    )
    counting = tally.seconds - before if tally else 0.0
    seconds = time.perf_counter() - start - counting
    return evaluation_of(found, problems, seconds, engine.name, context, how.named())


@dataclass(frozen=True, slots=True)
class _Work:
    """The same data for one model after the other."""

    data: str
    how: Decoding
    tell: Reporter

    def evaluated(self, name: str, opened: Engine, tally: Tally | None = None) -> Evaluation:
        """The scores of a model that is open."""
        chosen = choose_context(self.how.context, name, self.tell.say)
        with AudioReader() as reader:
            found = read_usable(
                self.data,
                opened.vocabulary,
                opened.generation,
                reader,
                self.tell,
                language=self.how.language,
                task=self.how.task,
                limit_rows=self.how.limit,
            )
            evaluation = evaluate_tallied(
                opened,
                tally,
                found.segments,
                reader,
                self.how,
                context=chosen,
                progress=lambda done, total: self.tell.evaluating(name, done, total),
            )
        return replace(evaluation, problems=(*found.problems, *evaluation.problems))

    def with_losses(self, name: str) -> tuple[Evaluation, dict[str, RowLoss]]:
        """And what each row costs it, teacher-forced; nothing where weights are integers or rows have no texts."""
        try:
            engine, tally = open_tallied(self.how.engine, name)
        except ModelError as error:
            self.tell.say(f"{name}: its loss is not measured: {error.what}")
            return self.evaluated(name, open_engine(self.how.engine, name)), {}
        evaluation = self.evaluated(name, engine, tally)
        if not tally.rows:
            self.tell.say(f"{name}: its loss is not measured: no row has a text")
        return evaluation, tally.rows
