"""What is seen of a run is said while it goes on: by the loop itself, not the observer alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.train.runs import Notes, dev_recipe
from whispertune.model.load import ModelFolder
from whispertune.train.loop import fine_tune
from whispertune.train.run import Run

pytestmark = pytest.mark.usefixtures("_short")

WRITTEN = "deviation Indonesian flashckConf cabbage markings viralenda disputeци江"  # by the untouched model, of noise


def test_gradients_far_above_the_clip_are_told_while_it_trains(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    """Of noise they are 1 to 3."""
    settings = {"steps": 30, "step_segments": 1, "learning_rate": 1e-3, "max_grad_norm": 0.005}
    recipe, told = dev_recipe(tiny, noises, train=settings, evaluation={"times": 0, "verify_clips": 0}), Notes()
    fine_tune(recipe, Run(tmp_path / "run"), reporter=told)
    (line,) = [line for line in told.said if line.startswith("step 30: the gradient norm is about")]
    assert "lower train.learning_rate" in line


def test_a_dev_score_that_gets_worse_is_told_while_it_trains(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    """Dev has what the model wrote before, and forgets as it learns."""
    shutil.copytree(noises, tmp_path / "data")
    rows = tmp_path / "data" / "dev" / "metadata.jsonl"
    rows.write_text("\n".join(json.dumps({"file_name": f"{number}.wav", "text": WRITTEN}) for number in range(3)))
    settings = {"steps": 9, "step_segments": 1, "learning_rate": 7e-5, "schedule": "constant", "warmup_share": 0.5}
    evaluation = {"times": 3, "verify_clips": 0}
    recipe, told = dev_recipe(tiny, tmp_path / "data", train=settings, evaluation=evaluation), Notes()
    result = fine_tune(recipe, Run(tmp_path / "run"), reporter=told)
    assert result.base.scores.wer == 0
    (line,) = [line for line in told.said if line.startswith("step 9: dev WER rose twice in a row")]
    assert f"at step {result.best_step}, is kept" in line
