"""Every way to train, as a run that is stopped in the middle and goes on as if it had not been."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.train.runs import Notes, StopAfter, last, lines
from whispertune.errors import Interrupted, TrainingError
from whispertune.model.load import ModelFolder, find_model
from whispertune.recipe import Recipe
from whispertune.recipe_file import parse_recipe
from whispertune.reporting import Reporter
from whispertune.train.across import wrapped
from whispertune.train.across.wrapped import Wrapped
from whispertune.train.loop import fine_tune
from whispertune.train.run import Run, read_lines

STEPS = 6

LORA = {"method": "lora", "lora": {"rank": 4, "alpha": 8, "dropout": 0.1}}
METHODS: dict[str, dict[str, Any]] = {
    "lora, moving average": {"train": LORA | {"average": "ema", "ema_decay": 0.5}},
    "dora beside a frozen encoder": {
        "train": {"method": "lora", "lora": {"rank": 2, "dora": True}, "freeze": ["encoder"], "epochs": 6},
    },
    "frozen first layer, average of the last": {
        "train": {"freeze": ["encoder.conv*", "encoder.layers.0"], "average": "last", "average_of": 2, "epochs": 6},
        "evaluation": {"times": 2, "verify_clips": 0},
    },
    "muon, average of the best": {
        "train": {"optimizer": "muon", "schedule": "wsd", "average": "best", "average_of": 2},
        "evaluation": {"times": 2, "verify_clips": 0},
    },
    "regularised": {
        "train": {"dropout": 0.1, "stochastic_depth": 0.3, "label_smoothing": 0.1, "schedule": "cosine"},
        "augment": {"time_masks": 2, "frequency_masks": 2, "gain_db": 6.0, "telephone_share": 0.5},
    },
    "speeds, little memory": {
        "augment": {"speed": [0.9, 1.0, 1.1]},
        "train": {"activation_checkpointing": True, "micro_windows": 1},
    },
    "half precision": {"train": {"precision": "float16"}},
}


def recipe_for(tiny: ModelFolder, data: Path, changes: dict[str, Any]) -> Recipe:
    train = {"epochs": 2, "step_segments": 4, "learning_rate": 1e-3, "precision": "float32"}
    return parse_recipe(
        {
            "model": str(tiny.path),
            "language": "sv",
            "data": {"train": [{"source": str(data / "train")}], "dev": [{"source": str(data / "dev")}]},
            "windows": {"fit_share": 0.5},
            "evaluation": {"times": 1, "verify_clips": 0},
            "checkpoints": {"every_steps": 2},
            **{key: value for key, value in changes.items() if key != "train"},
            "train": train | changes.get("train", {}),
        }
    )


def weights(run: Run) -> dict[str, torch.Tensor]:
    assert last(run).progress.step == STEPS
    return last(run).weights()


@pytest.mark.parametrize("method", METHODS)
def test_stopped_and_resumed_is_the_same_run(
    method: str, tiny: ModelFolder, noises: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHISPERTUNE_CACHE", str(tmp_path / "cache"))
    recipe = recipe_for(tiny, noises, METHODS[method])
    whole, parts = Run(tmp_path / "whole"), Run(tmp_path / "parts")
    result = fine_tune(recipe, whole)
    with pytest.raises(Interrupted):
        fine_tune(recipe, parts, reporter=StopAfter(3))
    fine_tune(recipe, parts, resume=True)
    assert lines(parts) == lines(whole)
    ours, theirs = weights(parts), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert (parts.model / "model.safetensors").read_bytes() == (whole.model / "model.safetensors").read_bytes()
    assert result.steps == STEPS
    assert result.tuned_fit is not None
    assert all(np.isfinite(line["loss"]) for line in lines(whole) if line["kind"] == "step")


def test_stopped_while_an_average_is_decoded_it_is_decoded_again(
    tiny: ModelFolder, noises: Path, tmp_path: Path
) -> None:
    class StopAt(Reporter):
        def evaluating(self, what: str, done: int, total: int) -> None:
            if what.startswith("average"):
                os.kill(os.getpid(), signal.SIGTERM)

    recipe = recipe_for(tiny, noises, METHODS["muon, average of the best"])
    whole, run = Run(tmp_path / "whole"), Run(tmp_path / "run")
    fine_tune(recipe, whole)
    with pytest.raises(Interrupted, match="average weights"):
        fine_tune(recipe, run, reporter=StopAt())
    fine_tune(recipe, run, resume=True)
    assert [line["weights"] for line in lines(run) if line["kind"] == "evaluation"] == ["live", "live", "average"]
    assert lines(run) == lines(whole)
    assert (run.model / "model.safetensors").read_bytes() == (whole.model / "model.safetensors").read_bytes()
    assert not any(each.averages.exists() for each in (whole, run))  # they have been of use


def test_float16_gradients_that_overflow_by_any_scale_are_skipped_steps(
    tiny: ModelFolder, noises: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backward = Wrapped.backward
    monkeypatch.setattr(Wrapped, "backward", lambda self, loss: backward(self, loss * torch.inf))
    monkeypatch.setattr(wrapped, "FIRST_SCALE", 2.0)
    run, told = Run(tmp_path / "run"), Notes()
    settings = {"train": {"precision": "float16", "max_skipped_steps": 3}, "evaluation": {"times": 0}}
    with pytest.raises(TrainingError, match="3 steps in a row have no finite loss"):
        fine_tune(recipe_for(tiny, noises, settings), run, reporter=told)
    overflowed = [line.partition(":")[0] for line in told.said if "gradients overflowed" in line]
    assert overflowed == ["step 1", "step 2"]  # by 2 and by 1, which is halved
    assert [line["step"] for line in read_lines(run.skipped)] == [3, 4, 5]


def test_only_what_learns_is_kept(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    """Checkpoints hold adapters alone; the model that is kept is an ordinary one, merged, and differs from the base."""
    run = Run(tmp_path / "run")
    result = fine_tune(recipe_for(tiny, noises, {"train": LORA}), run)
    kept = weights(run)
    assert all("lora" in name for name in kept)
    assert sum(value.numel() for value in kept.values()) == result.parameters_trained < result.parameters
    before, after = tiny.load().state_dict(), find_model(str(run.folder)).load().state_dict()
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("proj" in name for name in changed)


def test_frozen_states_are_kept_and_used_again(
    tiny: ModelFolder, noises: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same losses with the cache, without it, and in the run after it; which reads no audio for training."""
    monkeypatch.setenv("WHISPERTUNE_CACHE", str(tmp_path / "cache"))
    changes: dict[str, Any] = {"train": {"freeze": ["encoder"], "epochs": 3, "precision": "bfloat16"}}
    first, second = Run(tmp_path / "first"), Run(tmp_path / "second")
    told = Notes()
    fine_tune(recipe_for(tiny, noises, changes), first, reporter=told)
    assert any("frozen encoder gives takes" in line for line in told.said)
    again = Notes()
    fine_tune(recipe_for(tiny, noises, changes), second, reporter=again)
    assert any("there from earlier runs" in line for line in again.said)
    assert lines(second) == lines(first)
    assert json.loads((second.folder / "result.json").read_text())["parameters_trained"] > 0
