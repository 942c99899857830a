"""What `evaluate` calls: a model and data by name, the rates, and whatever else is asked for.

wanted = Wanted(noise_db=(20.0, 10.0, 0.0), tokens=True)
check_report(Path("report.html"))                    # before what takes long
found = examine_model("my-run", "data/test", Decoding(language="sv"), wanted)
write_report(found, Path("report.html"))
found.evaluation.scores.wer, found.noise["my-run"][1].evaluation.scores.wer
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from whispertune.data.audio import SAMPLE_RATE_HZ, AudioReader
from whispertune.data.segments import Segment, SourceData
from whispertune.data.sources.rows import time_trouble
from whispertune.decode.context import Context, choose_context, mark_of
from whispertune.decode.engines import Engine, best_device, load_live, open_engine
from whispertune.decode.transcribe import Options, Transcriber, open_transcriber
from whispertune.drawing.page import check_target, write_page
from whispertune.errors import DataError, InputError
from whispertune.evaluation.analysis import Levels, analyse, length_limit
from whispertune.evaluation.evaluate import Evaluation, Progress
from whispertune.evaluation.examination import Base, Examination, peak_memory_mb
from whispertune.evaluation.inputs import Kept, Source
from whispertune.evaluation.noise import (
    CLEAN,
    Conditioned,
    NoiseSource,
    conditions_of,
    evaluate_conditions,
    noise_source,
)
from whispertune.evaluation.recordings import Long, evaluate_recordings
from whispertune.evaluation.report import MAKER, page_of, worst_clips
from whispertune.evaluation.silence import SilenceScores, evaluate_silence
from whispertune.evaluation.tokens import Tally, TokenScores, token_scores
from whispertune.model.generation import Generation
from whispertune.model.load import RUN_MARK, find_model
from whispertune.recipe_file import load_recipe
from whispertune.reporting import Reporter
from whispertune.score.entities import load_tagger, score_entities
from whispertune.score.meaning import load_embedder, score_meaning
from whispertune.score.written import text_language
from whispertune.service.data import read_usable
from whispertune.service.evaluate import Decoding, evaluate_tallied, open_tallied, tokens_of
from whispertune.train.feeding.splits import check_spoken
from whispertune.train.run import Run
from whispertune.windows.tokens import Vocabulary

NOISES: Final = ("white", "babble")  # besides a folder
REPORT_FIX: Final = "choose another --report"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for besides the rates and what stands behind them."""

    terms: tuple[str, ...] = ()
    recordings: bool = False  # transcribe whole recordings instead of their rows
    tokens: bool = False
    silence: bool = False
    noise_db: tuple[float, ...] = ()  # signal-to-noise ratios; with any, a telephone too
    noise_from: str = "white"  # or babble, or a folder
    base: str | None = None  # another model beside; with noise, that of a run if none is given
    meaning: Path | None = None  # a folder of sentence-transformers, for what wrong words cost
    entities: str | None = None  # a tagger: a file with an entity a line, or spacy:PIPELINE


def examine_model(
    model: str,
    data: str,
    how: Decoding | None = None,
    wanted: Wanted | None = None,
    *,
    reporter: Reporter | None = None,
) -> Examination:
    """Decode data with a model, count the errors and look at them.

    Raises:
        InputError: the model, the data or an option cannot be used.
    """
    how, wanted, tell = how or Decoding(), wanted or Wanted(), reporter or Reporter()
    _check(model, wanted)
    embedder = load_embedder(wanted.meaning) if wanted.meaning else None
    tagger = load_tagger(wanted.entities) if wanted.entities else None
    with AudioReader() as reader:
        work = _Work(data, how, wanted, reader, tell)
        found = work.long(model) if wanted.recordings else work.rows(model)
    evaluation = found.evaluation
    if embedder is not None:
        languages = [text_language(each) for each in evaluation.segments]
        found = replace(found, meaning=score_meaning(evaluation.utterances, embedder, languages))
    if tagger is not None:
        found = replace(found, entities=score_entities(evaluation.utterances, tagger, evaluation.normalizers))
    return found


def check_report(path: Path) -> None:
    """Raise InputError where no report can be written, or something else than a report would be replaced."""
    check_target(path, MAKER, REPORT_FIX)


def write_report(found: Examination, path: Path, reporter: Reporter | None = None) -> None:
    """All of it as a page, with the worst utterances to listen to.

    Raises:
        InputError: it cannot be written.
    """
    tell = reporter or Reporter()
    with AudioReader() as reader:
        clips = worst_clips(found, reader, lambda done, total: tell.working("drawing samples", done, total))
    write_page(path, page_of(found, clips), REPORT_FIX)


def base_of(model: str, tell: Reporter) -> str | None:
    """The model that a run was tuned from; None for what is no run, and where the base is no longer there."""
    run = Run(Path(model).expanduser())
    if not (run.folder / RUN_MARK).is_file():
        return None
    try:
        base = load_recipe(run.resolved_recipe).model
        find_model(base)
    except InputError as error:
        tell.say(f"nothing stands beside {model}, as its base model cannot be had: {error.what}")
        return None
    return base


def _check(model: str, wanted: Wanted) -> None:
    """What is wrong is said before anything is decoded."""
    if wanted.recordings and wanted.noise_db:
        what = "noise is added to rows, not to whole recordings"
        fix = "evaluate twice: with --recordings, and with --noise and without it, on the rows that the captions make"
        raise InputError(what, where="--noise", fix=fix)
    if wanted.noise_from != NOISES[0] and not wanted.noise_db:
        raise InputError("no noise is asked for", where="--noise-from", fix="say how loud: --noise 20,10,5,0")
    if wanted.noise_from not in NOISES and not Path(wanted.noise_from).expanduser().is_dir():
        raise InputError(
            "no such folder", where=f"--noise-from {wanted.noise_from}", fix=f"{', '.join(NOISES)}, or one"
        )
    if wanted.base == model:
        raise InputError("is the model itself", where=f"--base {model}", fix="name another, or none")
    if wanted.base is not None:
        mark_of(wanted.base)
    if wanted.tokens:
        find_model(model)  # weights in integers have no gradual answers


@dataclass(frozen=True, slots=True)
class _Model:
    """A model that is open, with the rows that it decodes."""

    name: str
    engine: Engine
    context: Context
    segments: tuple[Segment, ...]
    kept: Kept | None = None  # of the clips, where another model is given the same
    noise: NoiseSource | None = None  # that is asked for; the same for another model


@dataclass(frozen=True, slots=True)
class _Work:
    """One examination at work."""

    data: str
    how: Decoding
    wanted: Wanted
    reader: AudioReader
    tell: Reporter

    def watch(self, what: str) -> Progress:
        return lambda done, total: self.tell.working(what, done, total)

    def rows(self, name: str) -> Examination:
        """Row by row."""
        beside = self.wanted.base or (base_of(name, self.tell) if self.wanted.noise_db else None)
        engine, tally = self.open(name)
        read = self.read(engine.vocabulary, engine.generation, self.how.limit)
        segments = tuple(read.segments)
        self.check_base(beside, segments)
        context = choose_context(self.how.context, name, self.tell.say)
        opened = _Model(name, engine, context, segments, Kept() if beside else None, self.noise(segments))
        levels = Levels()
        evaluation = self.evaluated(opened, levels, tally)
        evaluation = replace(evaluation, problems=(*read.problems, *evaluation.problems))
        memory = peak_memory_mb()
        limit = length_limit(engine.vocabulary, text_language(evaluation.segments[0]))
        found = Examination(
            name,
            self.data,
            evaluation,
            analyse(evaluation, levels=levels, limit=limit, terms=self.wanted.terms),
            memory,
            tokens=self.scored(name, tally.found.scores) if tally else None,
            noise={name: self.noisy(opened, evaluation)} if self.wanted.noise_db else {},
            silence=self.silence(opened) if self.wanted.silence else None,
        )
        return self.with_base(found, beside, opened) if beside else found

    def long(self, name: str) -> Examination:
        """Whole recordings."""
        vocabulary, generation = tokens_of(name)
        read = self.read(vocabulary, generation, None)
        segments = _first_recordings(tuple(read.segments), self.how.limit)
        self.check_base(self.wanted.base, segments)
        found = self.transcribed(name, segments)
        memory = peak_memory_mb()
        evaluation = replace(found.evaluation, problems=(*read.problems, *found.evaluation.problems))
        context = choose_context(self.how.context, name, lambda text: None)
        examined = Examination(
            name,
            self.data,
            evaluation,
            analyse(evaluation, terms=self.wanted.terms),
            memory,
            tokens=self.tokens(name, evaluation, context) if self.wanted.tokens else None,
            silence=self.silence(self.opened(name, segments)) if self.wanted.silence else None,
            times=found.times,
        )
        if self.wanted.base is None:
            return examined
        return replace(examined, base=Base(self.wanted.base, self.transcribed(self.wanted.base, segments).evaluation))

    def read(self, vocabulary: Vocabulary, generation: Generation, limit: int | None) -> SourceData:
        how = self.how
        return read_usable(
            self.data,
            vocabulary,
            generation,
            self.reader,
            self.tell,
            language=how.language,
            task=how.task,
            limit_rows=limit,
            whole=self.wanted.recordings,
        )

    def check_base(self, base: str | None, segments: tuple[Segment, ...]) -> None:
        """Raise InputError where the other model has not the language or the task of a row; its turn comes late."""
        if base is not None:
            check_spoken(segments, tokens_of(base)[0], base)

    def noise(self, segments: tuple[Segment, ...]) -> NoiseSource | None:
        """What makes the noise that is asked for, tried once before anything is decoded."""
        if not self.wanted.noise_db:
            return None
        found = noise_source(self.wanted.noise_from, segments, self.reader)
        found(segments[0], SAMPLE_RATE_HZ)
        return found

    def open(self, name: str) -> tuple[Engine, Tally | None]:
        """A model, and what tells how sure it is of texts where that is asked for."""
        return open_tallied(self.how.engine, name) if self.wanted.tokens else (open_engine(self.how.engine, name), None)

    def opened(self, name: str, segments: tuple[Segment, ...]) -> _Model:
        """Another model for the same rows."""
        engine = open_engine(self.how.engine, name)
        check_spoken(segments, engine.vocabulary, name)
        return _Model(name, engine, choose_context(self.how.context, name, self.tell.say), segments)

    def evaluated(self, model: _Model, levels: Levels | None = None, tally: Tally | None = None) -> Evaluation:
        return evaluate_tallied(
            model.engine,
            tally,
            model.segments,
            self.reader,
            self.how,
            context=model.context,
            change=levels,
            kept=model.kept,
            progress=lambda done, total: self.tell.evaluating(model.name, done, total),
        )

    def noisy(self, model: _Model, clean: Evaluation) -> tuple[Conditioned, ...]:
        """All conditions; what is clean was decoded before."""
        others = [each for each in conditions_of(self.wanted.noise_db, self.wanted.noise_from) if each != CLEAN]
        found = evaluate_conditions(
            model.engine,
            model.segments,
            Source(self.reader, model.context, kept=model.kept),
            others,
            batch=self.how.batch,
            beams=self.how.beams,
            normalizer=self.how.named(),
            noise=model.noise,
            progress=lambda done, total: self.tell.evaluating(f"{model.name}, in noise", done, total),
        )
        return Conditioned(CLEAN, clean), *found

    def with_base(self, found: Examination, base: str, beside: _Model) -> Examination:
        opened = replace(self.opened(base, beside.segments), kept=beside.kept, noise=beside.noise)
        evaluation = self.evaluated(opened)
        noise = {base: self.noisy(opened, evaluation), **found.noise} if found.noise else {}
        return replace(found, base=Base(base, evaluation), noise=noise)

    def scored(self, name: str, scores: Callable[[], TokenScores]) -> TokenScores | None:
        """None where there is nothing to score, which is told: what was decoded is worth no less."""
        try:
            return scores()
        except DataError as error:
            self.tell.say(f"{name}: no teacher-forced figures: {error.what}")
            return None

    def tokens(self, name: str, evaluation: Evaluation, context: Context) -> TokenScores | None:
        """Of the captions of whole recordings, which were not decoded cue by cue; those that fit a window."""
        cues = [each for each in evaluation.segments if not time_trouble(each.start_s, each.end_s, math.inf)]
        live = load_live(find_model(name))
        live.model.to(best_device())
        watch = self.watch(f"teacher-forced, {name}")
        batch = self.how.batch
        return self.scored(
            name, lambda: token_scores(live, cues, self.reader, context=context, batch=batch, progress=watch)
        )

    def silence(self, model: _Model) -> SilenceScores:
        return evaluate_silence(
            model.engine,
            model.segments[0].language,
            model.segments[0].task,
            batch=self.how.batch,
            beams=self.how.beams,
            context=model.context,
            progress=lambda done, total: self.tell.evaluating(f"{model.name}, on silence", done, total),
        )

    def transcribed(self, name: str, segments: tuple[Segment, ...]) -> Long:
        how = self.how
        context = choose_context(how.context, name, self.tell.say)

        def open_(language: str, task: str) -> Transcriber:
            return open_transcriber(name, Options(language, task, how.engine, how.beams, context=context))

        return evaluate_recordings(
            open_,
            segments,
            self.reader,
            engine=how.engine,
            context=context,
            normalizer=self.how.named(),
            progress=lambda recording, done, total: self.tell.evaluating(
                f"{name}, seconds of {Path(recording).name}", round(done), round(total)
            ),
        )


def _first_recordings(segments: tuple[Segment, ...], limit: int | None) -> tuple[Segment, ...]:
    """All segments of the first recordings."""
    kept = set(list(dict.fromkeys(segment.recording for segment in segments))[:limit])
    return tuple(segment for segment in segments if segment.recording in kept)
