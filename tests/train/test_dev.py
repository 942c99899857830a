"""Evaluation while training: the engine is checked, and the best weights are those that are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from whispertune.evaluation import Evaluation
from whispertune.model.load import ModelFolder, find_model
from whispertune.recipe import Recipe
from whispertune.recipe_file import parse_recipe
from whispertune.reporting import Reporter
from whispertune.service import evaluate_model
from whispertune.train import dev
from whispertune.train.loop import fine_tune
from whispertune.train.run import Run


class Notes(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []
        self.evaluations: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def evaluated(self, what: str, evaluation: Evaluation) -> None:
        self.evaluations.append(what)


def recipe(tiny: ModelFolder, noises: Path, times: int, verify_clips: int) -> Recipe:
    return parse_recipe(
        {
            "model": str(tiny.path),
            "language": "sv",
            "data": {"train": [{"source": str(noises / "train")}], "dev": [{"source": str(noises / "dev")}]},
            "train": {"epochs": 2, "step_segments": 4, "learning_rate": 1e-2},
            "evaluation": {"times": times, "verify_clips": verify_clips},
        }
    )


def test_engines_that_differ_make_transformers_decode(
    tiny: ModelFolder, noises: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev, "ENGINE_TOLERANCE", -1.0)  # as if they had differed
    notes = Notes()
    result = fine_tune(recipe(tiny, noises, 1, 2), Run(tmp_path / "run"), reporter=notes)
    assert any("transformers decodes in this run" in text for text in notes.said)
    assert (result.engine, result.base.engine, result.tuned.engine) == ("transformers",) * 3


def test_the_best_weights_are_kept_and_reported(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    result = fine_tune(recipe(tiny, noises, 3, 2), run)
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    evaluations = [line for line in lines if line["kind"] == "evaluation"]
    assert [line["step"] for line in evaluations] == [2, 4, 6]
    best = min(evaluations, key=lambda line: line["wer"])  # the first of the lowest
    assert result.best_step == best["step"]
    assert result.tuned.scores.wer == pytest.approx(best["wer"])  # the subset is all of dev here
    assert evaluate_model(str(run.folder), str(noises / "dev")).scores.wer == pytest.approx(best["wer"])
    assert result.engine == "ctranslate2"
    assert json.loads(run.result.read_text()) == result.as_json()


def test_without_evaluations_the_last_weights_are_the_model(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    result = fine_tune(recipe(tiny, noises, 0, 0), run)
    assert result.best_step is None
    folder = find_model(str(run.folder))
    assert folder.generation.language == "sv"
    assert folder.generation.task == "transcribe"
