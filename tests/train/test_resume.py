"""A run interrupted at any step and resumed ends as one that was not."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from whispertune.errors import InputError, Interrupted
from whispertune.model.load import ModelFolder
from whispertune.recipe import Recipe
from whispertune.recipe_file import parse_recipe
from whispertune.reporting import Reporter, StepReport
from whispertune.train.checkpoint import Checkpoint, newest_checkpoint
from whispertune.train.loop import fine_tune
from whispertune.train.run import Run

STEPS = 6


def recipe_for(tiny: ModelFolder, data: Path, **more: Any) -> Recipe:
    return parse_recipe(
        {
            "model": str(tiny.path),
            "language": "sv",
            "data": {
                "train": [{"source": str(data / "train")}],
                "dev": [{"source": str(data / "dev")}],
                "max_bad_share": more.pop("max_bad_share", 0.05),
            },
            "clean": {"audio": more.pop("audio", "auto")},
            "train": {"epochs": 2, "step_segments": 4, "learning_rate": 1e-3, "dropout": 0.1} | more,
            "evaluation": {"times": 2, "verify_clips": 0},
            "checkpoints": {"every_steps": 2},
        }
    )


class StopAfter(Reporter):
    """Sends the process a real signal when a step is done."""

    def __init__(self, step: int, number: signal.Signals = signal.SIGTERM) -> None:
        self.at, self.number = step, number

    def step(self, report: StepReport) -> None:
        if report.step == self.at:
            os.kill(os.getpid(), self.number)


def lines(run: Run) -> list[dict[str, Any]]:
    """The metrics without what measures time."""
    found = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return [{k: v for k, v in line.items() if "second" not in k and k != "hours_per_hour"} for line in found]


def last(run: Run) -> Checkpoint:
    found = newest_checkpoint(run.checkpoints)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def uninterrupted(tiny: ModelFolder, noises: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("whole") / "run")
    result = fine_tune(recipe_for(tiny, noises), run)
    assert result.steps == STEPS
    assert result.base.scores.rows == result.tuned.scores.rows == 3
    return run


@pytest.mark.parametrize("step", range(1, STEPS))
def test_stopped_and_resumed_is_the_same_run(
    step: int, uninterrupted: Run, tiny: ModelFolder, noises: Path, tmp_path: Path
) -> None:
    run, recipe = Run(tmp_path / "run"), recipe_for(tiny, noises)
    with pytest.raises(Interrupted, match="--resume") as stopped:
        fine_tune(recipe, run, reporter=StopAfter(step, signal.SIGINT if step % 2 else signal.SIGTERM))
    assert stopped.value.exit_code == 3
    assert last(run).progress.step == step
    fine_tune(recipe, run, resume=True)
    assert lines(run) == lines(uninterrupted)
    for (name, ours), theirs in zip(last(run).weights().items(), last(uninterrupted).weights().values(), strict=True):
        assert torch.equal(ours, theirs), name
    assert (run.model / "model.safetensors").read_bytes() == (uninterrupted.model / "model.safetensors").read_bytes()


def test_training_changes_the_weights(uninterrupted: Run, tiny: ModelFolder) -> None:
    before = tiny.load().state_dict()
    after = last(uninterrupted).weights()
    name = "model.model.decoder.layers.0.fc1.weight"
    assert not torch.equal(before[name.removeprefix("model.")], after[name])


def test_a_damaged_checkpoint_is_passed_over(
    tiny: ModelFolder, noises: Path, tmp_path: Path, uninterrupted: Run
) -> None:
    run, recipe = Run(tmp_path / "run"), recipe_for(tiny, noises)
    with pytest.raises(Interrupted):
        fine_tune(recipe, run, reporter=StopAfter(5))
    newest = last(run).folder / "model.safetensors"
    content = bytearray(newest.read_bytes())
    content[-5] ^= 1
    newest.write_bytes(content)
    assert last(run).progress.step == 4
    fine_tune(recipe, run, resume=True)
    assert lines(run) == lines(uninterrupted)


def test_without_any_checkpoint_it_starts_over(
    tiny: ModelFolder, noises: Path, tmp_path: Path, uninterrupted: Run
) -> None:
    """As after a kill before the first save: the base model's figures are kept, the steps are done again."""
    run, recipe = Run(tmp_path / "run"), recipe_for(tiny, noises)
    with pytest.raises(Interrupted):
        fine_tune(recipe, run, reporter=StopAfter(1))
    shutil.rmtree(run.checkpoints)
    base = (run.folder / "evaluations" / "base.json").stat().st_mtime_ns
    fine_tune(recipe, run, resume=True)
    assert lines(run) == lines(uninterrupted)
    assert (run.folder / "evaluations" / "base.json").stat().st_mtime_ns == base


def test_a_start_that_came_to_nothing_leaves_no_figures(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    """The base model was measured, then the run was stopped before its first step and begun again otherwise."""
    run = Run(tmp_path / "run")
    with pytest.raises(Interrupted):
        fine_tune(recipe_for(tiny, noises), run, reporter=StopAfter(1))
    shutil.rmtree(run.checkpoints)
    run.metrics.unlink()
    spoiled = run.folder / "evaluations" / "base.json"
    spoiled.write_text(spoiled.read_text().replace('"rows": 3', '"rows": 99'))
    assert fine_tune(recipe_for(tiny, noises, epochs=1), run).base.scores.rows == 3


def test_a_run_is_never_begun_twice_nor_resumed_as_another(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    with pytest.raises(InputError, match="no run to resume"):
        fine_tune(recipe_for(tiny, noises), run, resume=True)
    with pytest.raises(Interrupted):
        fine_tune(recipe_for(tiny, noises), run, reporter=StopAfter(1))
    with pytest.raises(InputError, match="already begun"):
        fine_tune(recipe_for(tiny, noises), run)
    with pytest.raises(InputError, match=r"train.dropout was 0.1, is 0.2"):
        fine_tune(recipe_for(tiny, noises, dropout=0.2), run, resume=True)


def test_audio_that_fails_when_it_is_drawn_is_skipped_and_counted(tiny: ModelFolder, tmp_path: Path) -> None:
    """Its header is fine, so it comes in; its frames are not."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("dev", 1)):
        (tmp_path / split).mkdir()
        rows = [{"file_name": f"{n}.flac", "text": f"{split} {n}"} for n in range(count)]
        for row in rows:
            path = tmp_path / split / str(row["file_name"])
            soundfile.write(path, rng.normal(0, 0.1, 32_000).astype(np.float32), 16_000)
        (tmp_path / split / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    broken = tmp_path / "train" / "3.flac"
    content = broken.read_bytes()
    broken.write_bytes(content[:200] + bytes(len(content) - 200))
    recipe = recipe_for(tiny, tmp_path, max_bad_share=0.2, epochs=1, audio="never")
    run = Run(tmp_path / "run")
    result = fine_tune(recipe, run)
    problems = [json.loads(line) for line in run.dropped.read_text().splitlines()]
    assert [problem["where"] for problem in problems] == ["metadata.jsonl:4"]
    assert sum(line.get("unreadable", 0) for line in lines(run)) == 1
    assert result.steps == 2
    with pytest.raises(Exception, match="max_bad_share"):
        fine_tune(recipe_for(tiny, tmp_path, max_bad_share=0.1, epochs=1, audio="never"), Run(tmp_path / "strict"))
    listened = Run(tmp_path / "listened")
    fine_tune(recipe_for(tiny, tmp_path, max_bad_share=0.2, epochs=1), listened)  # found before the start
    problems = [json.loads(line) for line in listened.dropped.read_text().splitlines()]
    assert [(each["line"], each["source"]) for each in problems] == [(4, str(tmp_path / "train"))]
