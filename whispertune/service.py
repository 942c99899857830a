"""What the commands call: models and data by name, one function a command.

evaluation = evaluate_model("my-run", "data/test")
report = export_model("my-run", "ct2", Path("deployed"))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from whispertune.data.audio import AudioReader
from whispertune.data.captions import WRITERS, Cue, write_captions
from whispertune.data.problems import summary
from whispertune.data.segments import SourceData
from whispertune.decode.context import choose_context, mark_of
from whispertune.decode.cues import MAX_LINES, wrap
from whispertune.decode.engines import best_device, load_live, open_engine
from whispertune.decode.transcribe import Options, Transcript, open_transcriber
from whispertune.errors import DataError, InputError, ModelError
from whispertune.evaluation.compare import Compared, comparison
from whispertune.evaluation.evaluate import Evaluation
from whispertune.evaluation.evaluate import evaluate as evaluate_segments
from whispertune.evaluation.tokens import token_scores
from whispertune.exporting import ExportReport, enough_clips
from whispertune.exporting import export as export_folder
from whispertune.model.generation import Generation
from whispertune.model.load import RUN_MARK, find_model
from whispertune.recipe import SourceTable
from whispertune.recipe_file import load_recipe
from whispertune.reporting import Reporter
from whispertune.train.feeding.splits import read_sources
from whispertune.train.run import Run
from whispertune.windows.tokens import Vocabulary

DISPLAYED = (".vtt", ".srt")  # formats whose lines are shown as they stand


def read_data(
    data: str,
    vocabulary: Vocabulary,
    generation: Generation,
    reader: AudioReader,
    *,
    language: str | None = None,
    task: str | None = None,
    limit_rows: int | None = None,
) -> SourceData:
    """Segments of a path given on the command line; language and task fall back to the model's own."""
    table = SourceTable(source=data, limit_rows=limit_rows)
    fallback = language or generation.language or (None if vocabulary.multilingual else "en")
    chosen = task or generation.task or "transcribe"
    return read_sources([table], vocabulary, reader, language=fallback, task=chosen, origin="data")


def read_usable(
    data: str,
    vocabulary: Vocabulary,
    generation: Generation,
    reader: AudioReader,
    tell: Reporter,
    *,
    language: str | None = None,
    task: str | None = None,
    limit_rows: int | None = None,
) -> SourceData:
    """`read_data`, which tells of the rows that cannot be used.

    Raises:
        DataError: none of them can.
    """
    found = read_data(data, vocabulary, generation, reader, language=language, task=task, limit_rows=limit_rows)
    if found.problems:
        tell.say(summary(found, data))
    if not found.segments:
        raise DataError("no usable segments", where=data)
    return found


def evaluate_model(  # noqa: PLR0913  # the options of the command
    model: str,
    data: str,
    *,
    language: str | None = None,
    task: str | None = None,
    engine: str = "ctranslate2",
    beams: int = 1,
    batch: int = 8,
    context: str = "auto",
    limit_rows: int | None = None,
    reporter: Reporter | None = None,
) -> Evaluation:
    """Scores of a model on data, both by name.

    Raises:
        InputError: the model, the data or an option cannot be used.
    """
    tell = reporter or Reporter()
    opened = open_engine(engine, model)
    chosen = choose_context(context, model, tell.say)
    with AudioReader() as reader:
        vocabulary, generation = opened.vocabulary, opened.generation
        found = read_usable(
            data, vocabulary, generation, reader, tell, language=language, task=task, limit_rows=limit_rows
        )
        evaluation = evaluate_segments(
            opened,
            found.segments,
            reader,
            batch=batch,
            beams=beams,
            context=chosen,
            progress=lambda done, total: tell.evaluating(model, done, total),
        )
        return replace(evaluation, problems=(*found.problems, *evaluation.problems))


def compare_models(models: Sequence[str], data: str, **options: Any) -> tuple[Compared, ...]:
    """Several models on the same data, the others against the first; `options` are those of `evaluate_model`.

    Raises:
        InputError: a model stands twice, or one of them, the data or an option cannot be used.
    """
    if len(set(models)) < len(models):
        raise InputError("a model stands twice", where=", ".join(models), fix="name each once")
    for name in models:
        mark_of(name)  # a wrong name is found before anything is decoded
    evaluations = {name: evaluate_model(name, data, **options) for name in models}
    tell, batch = options.get("reporter") or Reporter(), options.get("batch", 8)
    losses = {name: _loss(name, found, batch, tell) for name, found in evaluations.items()}
    return comparison(evaluations, {name: loss for name, loss in losses.items() if loss is not None})


def _loss(name: str, evaluation: Evaluation, batch: int, tell: Reporter) -> float | None:
    """Teacher-forced, of the rows that were decoded; None for weights in integers and rows without texts."""
    try:
        live = load_live(find_model(name))
        live.model.to(best_device())
        with AudioReader() as reader:
            found = token_scores(
                live,
                evaluation.segments,
                reader,
                context="fit" if evaluation.context == "fit" else "full",
                batch=batch,
                progress=lambda done, total: tell.working(f"loss of {name}", done, total),
            )
    except (ModelError, DataError) as error:
        tell.say(f"{name}: its loss is not measured: {error.what}")
        return None
    return found.loss


@dataclass(frozen=True, slots=True)
class Transcribed:
    """A transcript and the files it was written to."""

    transcript: Transcript
    files: tuple[Path, ...]

    def as_json(self) -> dict[str, Any]:
        """What `transcribe --json` prints of one recording."""
        return {
            "recording": str(self.transcript.recording),
            "language": self.transcript.language,
            "cues": len(self.transcript.cues),
            "audio_seconds": round(self.transcript.audio_seconds, 2),
            "seconds": round(self.transcript.seconds, 2),
            "files": [str(path) for path in self.files],
        }


def transcribe_files(
    recordings: Sequence[Path],
    model: str,
    options: Options,
    formats: Sequence[str] = ("vtt",),
    *,
    out: Path | None = None,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> list[Transcribed]:
    """Transcribe recordings and write them in every format asked for.

    Raises:
        InputError: unknown format, or a file that would be overwritten; checked before anything is decoded.
    """
    formats = [name.strip() for name in formats]
    for name in formats:
        if name not in WRITERS:
            raise InputError(f"unknown format {name!r}", where="--format", fix=f"one of {', '.join(WRITERS)}")
    targets = [[(out or path.parent) / f"{path.stem}.{name}" for name in formats] for path in recordings]
    everything = [target for row in targets for target in row]
    for target in everything:
        if everything.count(target) > 1:
            raise InputError("two recordings would be written to the same file", where=str(target), fix="rename one")
        if target.exists() and not overwrite:
            raise InputError("the file is there already", where=str(target), fix="--overwrite, or --out elsewhere")
    tell = reporter or Reporter()
    results = []
    transcribe = open_transcriber(model, options, tell.say)
    with AudioReader() as reader:
        for path, files in zip(recordings, targets, strict=True):
            samples = reader.read(path)
            transcript = transcribe(samples, path, _watch(tell, path.name))
            for file in files:
                file.parent.mkdir(parents=True, exist_ok=True)
                cues = _on_lines(transcript.cues, options) if file.suffix in DISPLAYED else transcript.cues
                write_captions(file, cues, language=transcript.language)
            results.append(Transcribed(transcript, tuple(files)))
    return results


def _on_lines(cues: Sequence[Cue], options: Options) -> list[Cue]:
    """Sentences on balanced lines of at most the characters asked for; other cues stay as the model cut them."""
    if options.cues != "sentence":
        return list(cues)
    return [replace(cue, text=wrap(cue.text, options.max_line_characters, MAX_LINES)) for cue in cues]


def _watch(tell: Reporter, name: str) -> Callable[[float, float], None]:
    return lambda done, total: tell.evaluating(f"{name}, seconds", round(done), round(total))


def export_model(
    model: str,
    to: str,
    out: Path,
    *,
    quantization: str | None = None,
    data: str | None = None,
    language: str | None = None,
    verify: bool = True,
    reporter: Reporter | None = None,
) -> ExportReport:
    """Export a model by name, verified on `data`, or on what the run reported its figures on."""
    folder = find_model(model)
    clips = None
    if verify:
        with AudioReader() as reader:
            if data is not None:
                found = read_data(data, folder.vocabulary, folder.generation, reader, language=language)
            else:
                found = _run_data(Path(model), folder.vocabulary, reader)
        clips = enough_clips(found.segments)
    return export_folder(folder, to, out, quantization=quantization, clips=clips, reporter=reporter)


def _run_data(run: Path, vocabulary: Vocabulary, reader: AudioReader) -> SourceData:
    """The split that a run's final figures are of; nothing for a model that is no run."""
    if not (run / RUN_MARK).exists():
        return SourceData(())
    recipe = load_recipe(Run(run).resolved_recipe)
    tables = recipe.data.test or recipe.data.dev
    return read_sources(tables, vocabulary, reader, language=recipe.language, task=recipe.task, origin="data")
