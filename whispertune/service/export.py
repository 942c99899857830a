"""A model by name, exported for a runtime and verified there.

report = export_model("my-run", "ct2")        # to my-run/exports/ct2
report = export_model("openai/whisper-small", "ggml", Path("deployed"), quantization="q5_0")
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Segment
from whispertune.model.load import RUN_MARK, ModelFolder, find_model
from whispertune.publish.comparison import enough_clips
from whispertune.publish.export import ExportReport
from whispertune.publish.export import export as export_folder
from whispertune.publish.spoken import spoken_clips
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
        InputError: the model, the format, the folder or the clips cannot be used.
        VerificationError: the export does not do what its source does; nothing was written.
    """
    folder = find_model(model)
    target = out or default_folder(model, to, quantization)
    clips = verification_clips(model, folder, data, language) if verify else None
    return export_folder(folder, to, target, quantization=quantization, clips=clips, reporter=reporter)


def default_folder(model: str, to: str, quantization: str | None) -> Path:
    """Where an export goes if nothing is said: into its run, else beside where one stands."""
    name = f"{to}-{quantization}" if quantization else to
    run = Path(model).expanduser()
    if (run / RUN_MARK).exists():
        return run / "exports" / name
    return Path(f"{model.rstrip('/').rpartition('/')[2].rpartition(':')[2]}-{name}")


def verification_clips(
    model: str, folder: ModelFolder, data: str | None = None, language: str | None = None
) -> Sequence[Segment]:
    """Clips with 500 words, where there are so many: of `data`, else of the run's own, else spoken by a synthesiser.

    Raises:
        InputError: there are none.
    """
    run = Path(model).expanduser()
    if data is None and not (run / RUN_MARK).exists():
        return enough_clips(spoken_clips())
    with AudioReader() as reader:
        if data is not None:
            found = read_data(data, folder.vocabulary, folder.generation, reader, language=language)
        else:
            recipe = load_recipe(Run(run).resolved_recipe)
            found = read_sources(
                recipe.data.test or recipe.data.dev,
                folder.vocabulary,
                reader,
                language=recipe.language,
                task=recipe.task,
                origin="data",
            )
    return enough_clips(found.segments)
