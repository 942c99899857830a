"""Runs on several sources at once: streamed from a hub, a prepared table and a folder, stopped and resumed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.hub_client import environment
from tests.hub_datasets import fleurs
from tests.hub_server import Hub
from tests.train.runs import StopAfter, last
from whispertune.cli import main
from whispertune.errors import DataError, Interrupted, RecipeError
from whispertune.model.load import ModelFolder
from whispertune.recipe import Recipe
from whispertune.recipe_file import parse_recipe, save_recipe
from whispertune.train.loop import fine_tune
from whispertune.train.run import Run

STEPS = 6


def mixed(tiny: ModelFolder, noises: Path, stream: dict[str, Any] | None = None, **train: Any) -> Recipe:
    """FLEURS from the hub as it comes (15 rows, two shards) and a folder (12 rows)."""
    fleurs_table = {"source": "hub:google/fleurs:sv_se:train", "streaming": True, "weight": 2.0} | (stream or {})
    return parse_recipe(
        {
            "model": str(tiny.path),
            "language": "sv",
            "data": {
                "train": [fleurs_table, {"source": str(noises / "train")}],
                "dev": [{"source": str(noises / "dev")}],
            },
            "train": {"step_segments": 4, "learning_rate": 1e-3, **(train or {"steps": STEPS})},
            "evaluation": {"times": 1, "verify_clips": 0},
            "checkpoints": {"every_steps": 2},
        }
    )


def losses(run: Run) -> list[float]:
    return [line["loss"] for line in run.read_metrics() if line["kind"] == "step"]


def test_a_mixed_streamed_run_is_the_same_run_when_it_is_resumed(
    hub: Hub, tiny: ModelFolder, noises: Path, tmp_path: Path
) -> None:
    hub.add_repo("google/fleurs", fleurs())
    recipe, whole = mixed(tiny, noises), Run(tmp_path / "whole")
    assert fine_tune(recipe, whole).steps == STEPS
    counted = [{"split": "train", "index": 1, "rows": 12, "seconds": 18.6}, {"split": "dev", "index": 0, "rows": 3}]
    told = json.loads((whole.folder / "run.json").read_text())
    assert told["machine"].endswith(" GB") or "GB; " in told["machine"]
    found = [{key: each[key] for key in wanted} for wanted, each in zip(counted, told["data"], strict=True)]
    assert found == counted  # how much a stream holds is not known
    for step in (2, 5):  # in either shard of the stream
        run = Run(tmp_path / str(step))
        with pytest.raises(Interrupted):
            fine_tune(recipe, run, reporter=StopAfter(step))
        fine_tune(recipe, run, resume=True)
        assert losses(run) == losses(whole)
        weights = last(run).weights()
        assert all(torch.equal(value, weights[name]) for name, value in last(whole).weights().items())


def test_an_epoch_of_a_mix_goes_by_weights(hub: Hub, tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    hub.add_repo("google/fleurs", fleurs())
    result = fine_tune(mixed(tiny, noises, epochs=1), Run(tmp_path / "run"))
    assert result.steps == -(-(2 * 15 + 12) // 4)


def test_a_run_as_long_as_so_many_hours_of_speech(hub: Hub, tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    """The rate falls with what was heard; nobody needs to know how many steps that is."""
    hub.add_repo("google/fleurs", fleurs())
    run, recipe = Run(tmp_path / "run"), mixed(tiny, noises, hours=50 / 3600)
    with pytest.raises(Interrupted, match="hours of speech"):
        fine_tune(recipe, run, reporter=StopAfter(2))
    result = fine_tune(recipe, run, resume=True)
    assert 50 <= 3600 * result.speech_hours < 50 + 4 * 6
    steps = [line for line in run.read_metrics() if line["kind"] == "step"]
    assert [line["total_steps"] for line in steps] == [None] * result.steps
    rates = [line["learning_rate"] for line in steps]
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert steps[-1]["done"] >= 1 > steps[-2]["done"]


def test_a_stream_whose_length_is_not_known(hub: Hub, tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    """A limited stream is one: exit 2 and what to do, unless it is counted."""
    hub.add_repo("google/fleurs", fleurs())
    with pytest.raises(RecipeError, match="only reading it tells") as error:
        fine_tune(mixed(tiny, noises, {"limit_rows": 9}, epochs=1), Run(tmp_path / "run"))
    assert error.value.exit_code == 2
    counted = {"limit_rows": 9, "count": True, "weight": 1.0}
    assert fine_tune(mixed(tiny, noises, counted, epochs=1), Run(tmp_path / "counted")).steps == -(-(9 + 12) // 4)
    assert fine_tune(mixed(tiny, noises, {"limit_rows": 9}, steps=2), Run(tmp_path / "steps")).steps == 2


def test_the_command_trains_from_a_hub(
    hub: Hub, tiny: ModelFolder, noises: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real command in a process of its own, told of the hub by its environment alone."""
    hub.add_repo("google/fleurs", fleurs())
    save_recipe(mixed(tiny, noises, steps=2), tmp_path / "recipe.toml")
    command = ["train", str(tmp_path / "recipe.toml"), "--json", "--out"]
    done = subprocess.run(
        [sys.executable, "-m", "whispertune", *command, str(tmp_path / "run")],
        env=environment(hub, tmp_path / "home") | {"WHISPERTUNE_CACHE": os.environ["WHISPERTUNE_CACHE"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["steps"] == 2
    assert main([*command, str(tmp_path / "other"), "data.train.0.source=hub:google/fleurs:sv"]) == 2
    told = capsys.readouterr().err
    assert "sv_se" in told
    assert "Traceback" not in told


def test_the_same_text_in_train_and_dev_is_an_error_unless_allowed(
    tiny: ModelFolder, noises: Path, tmp_path: Path
) -> None:
    leaky = tmp_path / "leaky"
    leaky.mkdir()
    lines = (noises / "train" / "metadata.jsonl").read_text().splitlines()
    rows = [json.loads(line) | {"file_name": str(noises / "train" / json.loads(line)["file_name"])} for line in lines]
    rows[3]["text"] = "Dev: text 1, of noise!"
    (leaky / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def run(policy: str) -> Run:
        recipe = parse_recipe(
            {
                "model": str(tiny.path),
                "language": "sv",
                "data": {
                    "train": [{"source": str(leaky), "outside": True}],
                    "dev": [{"source": str(noises / "dev")}],
                },
                "clean": {"leakage": policy},
                "train": {"steps": 1},
                "evaluation": {"times": 0, "verify_clips": 0},
            }
        )
        made = Run(tmp_path / policy)
        fine_tune(recipe, made)
        return made

    with pytest.raises(DataError, match=r"clean\.leakage"):
        run("error")
    dropped = [json.loads(line) for line in run("drop").dropped.read_text().splitlines()]
    assert [(each["line"], each["reason"]) for each in dropped] == [(4, "also in dev")]
    assert not run("allow").dropped.read_text()
