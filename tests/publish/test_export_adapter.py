"""The adapter of a run, in peft: what the run's merged weights compute, it computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel

from tests.exports import exported, logits, stored, untied
from whispertune.errors import InputError
from whispertune.model.formats.adapter import KEPT, is_adapter, kept_base, read_adapter, write_adapter
from whispertune.model.load import ModelFolder, find_model
from whispertune.recipe import Recipe
from whispertune.recipe_file import parse_recipe
from whispertune.train.loop import fine_tune
from whispertune.train.run import Run

# peft 0.21 asks transformers 5.23 by a name that is going.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

METHODS: dict[str, dict[str, Any]] = {
    "the average of the last, of two layers": {
        "lora": {"rank": 4, "alpha": 8, "rslora": True, "targets": ["decoder.layers.*.fc1", "*.q_proj"]},
        "average": "last",
        "average_of": 2,
    },
    "a moving average of dora": {"lora": {"rank": 2, "dora": True}, "average": "ema", "ema_decay": 0.5},
}


def recipe_for(tiny: ModelFolder, noises: Path, train: dict[str, Any]) -> Recipe:
    return parse_recipe(
        {
            "model": str(tiny.path),
            "language": "sv",
            "data": {"train": [{"source": str(noises / "train")}], "dev": [{"source": str(noises / "dev")}]},
            "windows": {"fit_share": 0.0},
            "evaluation": {"times": 2, "verify_clips": 0},
            "train": {"epochs": 2, "step_segments": 4, "learning_rate": 3e-2, "precision": "float32"} | train,
        }
    )


@pytest.mark.parametrize("method", METHODS)
def test_what_a_run_kept_is_in_its_adapter(
    method: str, tiny: ModelFolder, noises: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHISPERTUNE_CACHE", str(tmp_path / "cache"))
    run = Run(tmp_path / "run")
    result = fine_tune(recipe_for(tiny, noises, {"method": "lora"} | METHODS[method]), run)
    source = find_model(str(run.folder))
    out = exported(source, "adapter", "float32", tmp_path / "out")
    assert kept_base(source.path) == str(tiny.path)
    assert is_adapter(out)
    assert not is_adapter(source.path)
    adapted, merged = PeftModel.from_pretrained(tiny.load(), str(out)).eval(), source.load()
    torch.testing.assert_close(logits(adapted), logits(merged), atol=1e-5, rtol=0)
    assert (logits(merged) - logits(tiny.load())).abs().max() > 1e-3, result.best_weights
    found, expected = read_adapter(out, stored(tiny)), untied(merged)
    assert found.generation == source.generation
    for name, array in expected.items():
        np.testing.assert_allclose(found.state[name], array, atol=2e-6, err_msg=name)


def test_a_run_that_trained_all_weights_has_none(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    fine_tune(recipe_for(tiny, noises, {"method": "full", "steps": 1}), run)
    assert not (run.model / KEPT).exists()
    with pytest.raises(InputError, match="--to transformers"):
        write_adapter(run.model, tmp_path, "float32")
