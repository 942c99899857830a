"""Whispertune teaches OpenAI's Whisper a language, an accent or a vocabulary, and proves that it learned.

    import whispertune as wt
    result = wt.fine_tune(wt.load_recipe(Path("my-run/recipe.toml")), wt.Run(Path("my-run")))

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whispertune.data.audio import AudioReader
    from whispertune.data.captions import Cue, read_captions, write_captions
    from whispertune.data.segments import Segment
    from whispertune.decode.engines import open_engine
    from whispertune.decode.transcribe import Options, Transcript, open_transcriber
    from whispertune.errors import WhispertuneError
    from whispertune.evaluation.evaluate import Evaluation, evaluate
    from whispertune.model.load import ModelFolder, find_model
    from whispertune.prepare.prepared import Prepared
    from whispertune.prepare.run import prepare_dataset
    from whispertune.recipe import Recipe
    from whispertune.recipe_file import load_recipe
    from whispertune.reporting import Reporter
    from whispertune.score.terms import score_terms
    from whispertune.score.wer import Scores
    from whispertune.service.evaluate import Decoding, compare_models, evaluate_model
    from whispertune.service.examine import Wanted, examine_model, write_report
    from whispertune.service.export import export_model
    from whispertune.service.soften import soften
    from whispertune.service.transcribe import transcribe_files
    from whispertune.train.loop import fine_tune
    from whispertune.train.result import TrainingResult
    from whispertune.train.run import Run

_HOMES = {
    "AudioReader": "data.audio",
    "Cue": "data.captions",
    "Decoding": "service.evaluate",
    "Evaluation": "evaluation.evaluate",
    "ModelFolder": "model.load",
    "Options": "decode.transcribe",
    "Prepared": "prepare.prepared",
    "Recipe": "recipe",
    "Reporter": "reporting",
    "Run": "train.run",
    "Scores": "score.wer",
    "Segment": "data.segments",
    "TrainingResult": "train.result",
    "Transcript": "decode.transcribe",
    "Wanted": "service.examine",
    "WhispertuneError": "errors",
    "compare_models": "service.evaluate",
    "evaluate": "evaluation.evaluate",
    "evaluate_model": "service.evaluate",
    "examine_model": "service.examine",
    "export_model": "service.export",
    "find_model": "model.load",
    "fine_tune": "train.loop",
    "load_recipe": "recipe_file",
    "open_engine": "decode.engines",
    "open_transcriber": "decode.transcribe",
    "prepare_dataset": "prepare.run",
    "read_captions": "data.captions",
    "score_terms": "score.terms",
    "soften": "service.soften",
    "transcribe_files": "service.transcribe",
    "write_captions": "data.captions",
    "write_report": "service.examine",
}

__version__ = "0.1.0"

__all__ = [
    "AudioReader",
    "Cue",
    "Decoding",
    "Evaluation",
    "ModelFolder",
    "Options",
    "Prepared",
    "Recipe",
    "Reporter",
    "Run",
    "Scores",
    "Segment",
    "TrainingResult",
    "Transcript",
    "Wanted",
    "WhispertuneError",
    "compare_models",
    "evaluate",
    "evaluate_model",
    "examine_model",
    "export_model",
    "find_model",
    "fine_tune",
    "load_recipe",
    "open_engine",
    "open_transcriber",
    "prepare_dataset",
    "read_captions",
    "score_terms",
    "soften",
    "transcribe_files",
    "write_captions",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'whispertune' has no attribute {name!r}")
    return getattr(import_module(f"whispertune.{_HOMES[name]}"), name)
