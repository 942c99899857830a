"""A model by name, exported for a runtime and verified there.

report = export_model("my-run", "ct2", Path("deployed"))
"""

from __future__ import annotations

from pathlib import Path

from whispertune.data.audio import AudioReader
from whispertune.data.segments import SourceData
from whispertune.model.load import RUN_MARK, find_model
from whispertune.publish.export import ExportReport, enough_clips
from whispertune.publish.export import export as export_folder
from whispertune.recipe_file import load_recipe
from whispertune.reporting import Reporter
from whispertune.service.data import read_data
from whispertune.train.feeding.splits import read_sources
from whispertune.train.run import Run
from whispertune.windows.tokens import Vocabulary


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
