"""A model by name, exported for a runtime and verified there.

report = export_model("my-run", "ct2")        # to my-run/exports/ct2
report = export_model("openai/whisper-small", "ggml", Path("deployed"), quantization="q5_0")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Segment
from whispertune.data.sources.rows import LONGEST_S
from whispertune.errors import InputError, WhispertuneError
from whispertune.model.export import check_export
from whispertune.model.load import RUN_MARK, ModelFolder, find_model
from whispertune.model.naming import last_part
from whispertune.publish.comparison import ENOUGH_WORDS, Reference, words_of
from whispertune.publish.export import ExportReport, check_possible
from whispertune.publish.export import export as export_folder
from whispertune.publish.origin import origin_of
from whispertune.publish.readme import readme
from whispertune.publish.runtimes.heard import suppresses_blank
from whispertune.publish.runtimes.transformers import Transformers
from whispertune.publish.spoken import spoken_clips
from whispertune.publish.usage import Spoken
from whispertune.recipe_file import load_recipe
from whispertune.reporting import Reporter
from whispertune.service.data import read_data
from whispertune.train.feeding.splits import read_sources
from whispertune.train.run import Run


def export_model(
    model: str,
    to: str,
    out: Path | None = None,
    *,
    quantization: str | None = None,
    data: str | None = None,
    language: str | None = None,
    verify: bool = True,
    reporter: Reporter | None = None,
) -> ExportReport:
    """Export a model by name, verified on `data`, on what the run reported its figures on, or on synthetic English.

    Args:
        out: the folder to write; by default in the run's `exports`, or here, named after model and format.

    Raises:
        InputError: the model, the format, the folder or the clips cannot be used, or the runtime is not installed.
        VerificationError: the export does not do what its source does; nothing was written.
    """
    target = out or default_folder(model, to, quantization)
    check_export(to, target, quantization)
    folder = find_model(model)
    check_possible(folder, to, verify=verify)
    base = origin_of(model)
    reference = reference_of(model, folder, data, language) if verify else None
    return export_folder(
        folder,
        to,
        target,
        quantization=quantization,
        reference=reference,
        base=base,
        readme=lambda report: readme(report, model, base, _spoken(folder)),
        reporter=reporter,
    )


def default_folder(model: str, to: str, quantization: str | None) -> Path:
    """Where an export goes if nothing is said: into its run, else beside where one stands."""
    name = f"{to}-{quantization}" if quantization else to
    run = Path(model).expanduser()
    if (run / RUN_MARK).exists():
        return run / "exports" / name
    return Path(f"{last_part(model)}-{name}")


def reference_of(model: str, folder: ModelFolder, data: str | None = None, language: str | None = None) -> Reference:
    """What its exports are held against: the model by transformers, on clips with 500 words where there are so many.

    The clips are those of `data`, else of the run's own test or dev set, followed by rows of train where these have too
    few words, else spoken by a synthesiser.

    Raises:
        InputError: there are none.
    """
    return Reference(lambda: Transformers(folder), *_clips(model, folder, data, language))


def _spoken(folder: ModelFolder) -> Spoken:
    """What a model writes, as far as its folder says it."""
    told = folder.generation
    blank = suppresses_blank(folder.vocabulary, told)
    return Spoken(told.language, told.task or "transcribe", folder.vocabulary.multilingual, blank)


def _clips(
    model: str, folder: ModelFolder, data: str | None, language: str | None
) -> tuple[Sequence[Segment], Sequence[Segment]]:
    """Those that were not trained on, and those that were."""
    run = Path(model).expanduser()
    if data is None and not (run / RUN_MARK).exists():
        return spoken_clips(), ()
    with AudioReader() as reader:
        if data is not None:
            return read_data(data, folder.vocabulary, folder.generation, reader, language=language).segments, ()
        reported = _reported(Run(run), folder, reader)
        enough = sum(map(words_of, reported)) >= ENOUGH_WORDS
        return reported, () if enough else _trained(Run(run), folder, reader)


def _reported(run: Run, folder: ModelFolder, reader: AudioReader) -> Sequence[Segment]:
    """The rows that a run reported its figures on, read again."""
    recipe = load_recipe(run.resolved_recipe)
    name = "test" if recipe.data.test else "dev"
    tables = getattr(recipe.data, name)
    try:
        return read_sources(
            tables, folder.vocabulary, reader, language=recipe.language, task=recipe.task, origin=f"data.{name}"
        ).segments
    except InputError as error:
        raise InputError(
            f"the run's own clips to verify with cannot be read ({error.what})",
            where=error.where,
            fix="put them back, or --no-verify; export takes other clips with --data",
        ) from error


def _trained(run: Run, folder: ModelFolder, reader: AudioReader) -> Sequence[Segment]:
    """The first rows of train, as many as are needed at most; none where they are streamed or cannot be read."""
    recipe = load_recipe(run.resolved_recipe)
    tables = [table.model_copy(update={"limit_rows": ENOUGH_WORDS}) for table in recipe.data.train]
    if any(table.streaming for table in tables):
        return ()
    try:
        found = read_sources(
            tables, folder.vocabulary, reader, language=recipe.language, task=recipe.task, origin="data.train"
        )
    except WhispertuneError:  # it was moved since; dev alone verifies too
        return ()
    return [replace(each, id=f"train/{each.id}") for each in found.segments if each.duration_s <= LONGEST_S]
