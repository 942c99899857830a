"""The loss of a step is transformers' own loss, however the step is split."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from whispertune.data.audio import AudioReader
from whispertune.data.table import as_table
from whispertune.model.load import ModelFolder
from whispertune.model.loss import SummedLoss
from whispertune.recipe_file import parse_recipe
from whispertune.service import read_data
from whispertune.train.loop import fine_tune
from whispertune.train.plan import Plan, PlanSettings
from whispertune.train.run import Run
from whispertune.train.splits import TokenCounter
from whispertune.train.supply import TableSupply
from whispertune.windows.batches import Batch, LoadedWindow, collate, load_window
from whispertune.windows.pack import Limits


def first_step(data: Path, model: ModelFolder, reader: AudioReader, size: int) -> Batch:
    """The windows of the first step, as one batch."""
    found = read_data(str(data), model.vocabulary, model.generation, reader, language="ln", limit_rows=40)
    supply = TableSupply("train.0", as_table(found.segments), Limits(), TokenCounter(model.vocabulary), seed=0)
    step = Plan([supply], PlanSettings(step_segments=None, step_windows=size), seed=0).step(0)
    windows = [load_window(planned, reader, model.vocabulary) for planned in step.windows]
    assert all(isinstance(window, LoadedWindow) for window in windows)
    return collate(windows, model.shape.n_mels, model.vocabulary.end)  # type: ignore[arg-type]


def test_real_weights_and_speech_against_transformers(base: ModelFolder, mboshi: Path, reader: AudioReader) -> None:
    batch = first_step(mboshi / "dev", base, reader, size=2)
    model = base.load()
    with torch.no_grad():
        theirs = model(batch.mel, decoder_input_ids=batch.inputs, labels=batch.targets).loss
        ours = SummedLoss(model)(batch.mel, batch.inputs, batch.targets) / (batch.targets != -100).sum()
    assert float(ours) == pytest.approx(float(theirs), abs=1e-4)
    assert 1 < float(theirs) < 10  # an unseen language, but text all the same


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_step_1_of_a_run_against_transformers(
    parts: int, tiny: ModelFolder, mboshi: Path, reader: AudioReader, tmp_path: Path
) -> None:
    batch = first_step(mboshi / "train", tiny, reader, size=4)
    with torch.no_grad():
        theirs = tiny.load()(batch.mel, decoder_input_ids=batch.inputs, labels=batch.targets).loss
    recipe = parse_recipe(
        {
            "model": str(tiny.path),
            "language": "ln",
            "data": {
                "train": [{"source": str(mboshi / "train"), "limit_rows": 40}],
                "dev": [{"source": str(mboshi / "dev"), "limit_rows": 2}],
            },
            "train": {"steps": 1, "step_windows": 4, "micro_windows": 4 // parts, "precision": "float32"},
            "evaluation": {"times": 0, "verify_clips": 0},
        }
    )
    run = Run(tmp_path / "run")
    fine_tune(recipe, run)
    step = next(json.loads(line) for line in run.metrics.read_text().splitlines())
    assert step["windows"] == 4
    assert step["loss"] == pytest.approx(float(theirs), abs=1e-4)
