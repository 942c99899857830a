"""Models and data by name: the scores of one model, and of several beside each other.

evaluation = evaluate_model("my-run", "data/test")
compared = compare_models(["bundled:whisper-base", "my-run"], "data/test", Decoding(language="sv"))
evaluate_model("my-run", "data/test", Decoding(language="ar", normalizer="arabic+alef"))    # not that of the language

engine, tally = open_tallied("ctranslate2", "my-run")       # the same weights decode and say how sure they are
evaluation = evaluate_tallied(engine, tally, segments, reader, Decoding(), context="full")
tally.found.scores().loss
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Segment, SourceData
from whispertune.decode.context import Context, choose_context, mark_of
from whispertune.decode.engines import Engine, best_device, live_engine, load_live, open_engine
from whispertune.errors import DataError, InputError, ModelError
from whispertune.evaluation.compare import Compared, comparison
from whispertune.evaluation.evaluate import Evaluation, Progress, evaluate_source
from whispertune.evaluation.inputs import Change, Kept, Source
from whispertune.evaluation.tokens import RowLoss, Tally
from whispertune.model.generation import Generation
from whispertune.model.load import find_model, is_ctranslate2
from whispertune.reporting import Reporter
from whispertune.score.normalize import Normalizer, normalizer_named
from whispertune.service.data import read_usable
from whispertune.train.feeding.splits import check_spoken
from whispertune.windows.tokens import Vocabulary


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
    engine = open_engine((how or Decoding()).engine, model)
    with AudioReader() as audio:
        work = _Work(data, how or Decoding(), audio, reporter or Reporter())
        return work.evaluated(model, work.read(engine.vocabulary, engine.generation), engine)


def compare_models(
    models: Sequence[str], data: str, how: Decoding | None = None, *, reporter: Reporter | None = None
) -> tuple[Compared, ...]:
    """Several models on the same rows, the others against the first.

    Where rows name no language or task and none is asked for, it is what those of the models are for that say it. Mels
    are computed once for all models that take as many, as far as a gigabyte holds them, 1,000 clips of 30 s.

    Raises:
        InputError: a model stands twice, they are for different languages or tasks, or one of them, the data or an
            option cannot be used.
    """
    if len(set(models)) < len(models):
        raise InputError("a model stands twice", where=", ".join(models), fix="name each once")
    for name in models:
        mark_of(name)  # a wrong name is found before anything is decoded
    with AudioReader() as audio:
        work = _Work(data, how or Decoding(), audio, reporter or Reporter(), Kept())
        read = work.read_for(models)
        found = {name: work.with_losses(name, read) for name in models}
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
    kept: Kept | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Decode and score rows, and hand them to a tally on the way, so that they are read and encoded once.

    What counting takes is not among the seconds of decoding.

    Raises:
        DataError: there are no segments, or none of them decodes.
    """
    before = tally.seconds if tally else 0.0
    found = evaluate_source(
        engine,
        segments,
        Source(reader, context, change, kept),
        batch=how.batch,
        beams=how.beams,
        normalizer=how.named(),
        listener=tally,
        progress=progress,
    )
    return replace(found, seconds=found.seconds - (tally.seconds - before)) if tally else found


def tokens_of(name: str) -> tuple[Vocabulary, Generation]:
    """The tokens and the settings of a model, without its weights."""
    path = Path(name).expanduser()
    if path.is_dir() and is_ctranslate2(path):
        return Vocabulary.from_file(path / "tokenizer.json"), Generation.from_ctranslate2(path)
    folder = find_model(name)
    return folder.vocabulary, folder.generation


def _common(what: str, asked: str | None, named: Mapping[str, str | None]) -> str | None:
    """What was asked for, else what those of the models are for that say it.

    Raises:
        InputError: they are for different ones.
    """
    known = {model: value for model, value in named.items() if value}
    if asked or len(set(known.values())) <= 1:
        return asked or next(iter(known.values()), None)
    told = ", ".join(f"{model}: {value}" for model, value in known.items())
    fix = f"--{what} {next(iter(known.values()))}, or another, holds for all models, where rows name none"
    raise InputError(f"the models are for different {what}s ({told})", where=f"--{what}", fix=fix)


@dataclass(frozen=True, slots=True)
class _Work:
    """The same data for one model after the other."""

    data: str
    how: Decoding
    reader: AudioReader
    tell: Reporter
    kept: Kept | None = None  # where several models are given the same clips

    def read(self, vocabulary: Vocabulary, generation: Generation) -> SourceData:
        """The rows, by the language and task of a model where nothing else names them."""
        return read_usable(
            self.data,
            vocabulary,
            generation,
            self.reader,
            self.tell,
            language=self.how.language,
            task=self.how.task,
            limit_rows=self.how.limit,
        )

    def read_for(self, models: Sequence[str]) -> SourceData:
        """The rows that all models decode, in the same language and task."""
        tokens = {name: tokens_of(name) for name in models}
        found = self._read_alike(tokens)
        for name, (vocabulary, _) in tokens.items():
            check_spoken(found.segments, vocabulary, name)
        return found

    def _read_alike(self, tokens: Mapping[str, tuple[Vocabulary, Generation]]) -> SourceData:
        known = [vocabulary for vocabulary, _ in tokens.values()]
        widest = next((each for each in known if each.multilingual), known[0])
        task = _common("task", self.how.task, {name: each.task for name, (_, each) in tokens.items()})
        languages = {
            name: generation.language or (None if vocabulary.multilingual else "en")
            for name, (vocabulary, generation) in tokens.items()
        }
        try:
            language = _common("language", self.how.language, languages)
        except InputError as differ:
            try:
                return self.read(widest, Generation(task=task))  # each row may name its own
            except DataError as error:
                raise differ from error
        return self.read(widest, Generation(language=language, task=task))

    def evaluated(self, name: str, read: SourceData, opened: Engine, tally: Tally | None = None) -> Evaluation:
        """The scores of a model that is open."""
        evaluation = evaluate_tallied(
            opened,
            tally,
            read.segments,
            self.reader,
            self.how,
            context=choose_context(self.how.context, name, self.tell.say),
            kept=self.kept,
            progress=lambda done, total: self.tell.evaluating(name, done, total),
        )
        return replace(evaluation, problems=(*read.problems, *evaluation.problems))

    def with_losses(self, name: str, read: SourceData) -> tuple[Evaluation, dict[str, RowLoss]]:
        """And what each row costs it, teacher-forced; nothing where weights are integers or rows have no texts."""
        try:
            engine, tally = open_tallied(self.how.engine, name)
        except ModelError as error:
            self.tell.say(f"{name}: its loss is not measured: {error.what}")
            return self.evaluated(name, read, open_engine(self.how.engine, name)), {}
        evaluation = self.evaluated(name, read, engine, tally)
        if not tally.rows:
            self.tell.say(f"{name}: its loss is not measured: no row has a text")
        return evaluation, tally.rows
