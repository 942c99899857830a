"""Runs started by torchrun, `accelerate launch` and Ray: stopped, resumed with another number of processes, cut off."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.runs import StopAfter, last
from whispertune.errors import Interrupted
from whispertune.model.load import ModelFolder
from whispertune.recipe import Recipe
from whispertune.recipe_file import parse_recipe, save_recipe
from whispertune.train.loop import fine_tune
from whispertune.train.run import Run

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NEAR = 1e-4
STEPS = 40
LAUNCH = [sys.executable, "-W", "ignore", "-m"]
TORCHRUN = [*LAUNCH, "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ACCELERATE = [*LAUNCH, "accelerate.commands.launch", "--main_process_port", "0", "--num_processes", "2"]


def recipe_for(tiny: ModelFolder, data: Path) -> Recipe:
    return parse_recipe(
        {
            "model": str(tiny.path),
            "language": "sv",
            "data": {"train": [{"source": str(data / "train")}], "dev": [{"source": str(data / "dev")}]},
            "windows": {"fit_share": 1.0},
            "train": {"steps": STEPS, "step_segments": 3, "learning_rate": 1e-3, "precision": "float32"},
            "evaluation": {"times": 1, "verify_clips": 0},
            "checkpoints": {"every_steps": STEPS},
        }
    )


def environment() -> dict[str, str]:
    """Two processes for two cores, and no GPU that other machines may have."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    return own | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}


def steps_of(run: Run) -> list[dict[str, Any]]:
    lines = run.metrics.read_text().splitlines() if run.metrics.exists() else []
    return [line for line in map(json.loads, lines) if line["kind"] == "step"]


def same_run(run: Run, whole: Run) -> None:
    """Every step was made once, with the same loss, and the weights at the end are the same."""
    ours, theirs = steps_of(run), steps_of(whole)
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    assert [line["segments"] for line in ours] == [line["segments"] for line in theirs]
    assert [line["loss"] for line in ours] == pytest.approx([line["loss"] for line in theirs], abs=NEAR)
    for (name, value), other in zip(last(run).weights().items(), last(whole).weights().values(), strict=True):
        torch.testing.assert_close(value, other, rtol=0, atol=NEAR, msg=name)


@pytest.fixture(scope="module")
def recipe(tiny: ModelFolder, noises: Path) -> Recipe:
    return recipe_for(tiny, noises)


@pytest.fixture(scope="module")
def whole(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """By one process, without a stop."""
    run = Run(tmp_path_factory.mktemp("whole") / "run")
    fine_tune(recipe, run)
    return run


def test_a_signal_stops_all_ranks_at_one_step_and_one_process_goes_on(
    recipe: Recipe, whole: Run, tmp_path: Path
) -> None:
    run = Run(tmp_path / "run")
    save_recipe(recipe, tmp_path / "recipe.toml")
    config = str(ROOT / "recipes" / "accelerate" / "ddp-2cpu.yaml")
    command = [*ACCELERATE, "--config_file", config, str(HERE / "exit_code.py"), str(tmp_path)]
    with (tmp_path / "log").open("w") as log:
        launched = subprocess.Popen(
            [*command, "train", str(tmp_path / "recipe.toml"), "--out", str(run.folder)],
            stdout=log,
            stderr=log,
            env=environment(),
            start_new_session=True,
        )
        while launched.poll() is None and len(steps_of(run)) < 3:
            time.sleep(0.02)
        os.killpg(launched.pid, signal.SIGTERM)
        launched.wait(timeout=120)
    told = (tmp_path / "log").read_text()
    assert [(tmp_path / f"code-{rank}").read_text() for rank in range(2)] == ["3", "3"], told
    assert told.count("--resume") == 1, told
    step = last(run).progress.step
    assert 3 <= step < STEPS
    assert [path.name for path in run.checkpoints.glob("step-*")] == [f"step-{step:07d}"]
    fine_tune(recipe, run, resume=True)
    same_run(run, whole)


def test_two_sharded_processes_go_on_where_one_stopped(recipe: Recipe, whole: Run, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    with pytest.raises(Interrupted):
        fine_tune(recipe, run, reporter=StopAfter(3))
    config = str(ROOT / "recipes" / "accelerate" / "fsdp2-8gpu.yaml")
    command = [*ACCELERATE, "--config_file", config, "-m", "whispertune", "train", str(run.resolved_recipe)]
    done = subprocess.run(
        [*command, "--out", str(run.folder), "--resume", "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["processes"] == 2
    same_run(run, whole)


def test_a_rank_that_is_killed_leaves_no_other_waiting(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal\n"
        "from whispertune.train.across.ranks import RankLostError, open_ranks\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun's may come before the word is out\n"
        "try:\n"
        "    with open_ranks('float32') as ranks:\n"
        "        ranks.barrier()\n"
        "        if ranks.rank == 1: os.kill(os.getpid(), 9)\n"
        "        ranks.any(False)\n"
        "except RankLostError as error:\n"
        f"    open({str(tmp_path / 'told')!r}, 'w').write(str(error))\n"
    )
    subprocess.run([*TORCHRUN, str(script)], capture_output=True, timeout=120, check=False, env=environment())
    assert "another of the 2 processes ended" in (tmp_path / "told").read_text()


OUT_OF_MEMORY = """
import sys
import torch
from tests.train.exit_code import run
from whispertune.train.step import Stepper

summed = Stepper._summed

def starved(stepper, drawn, index, seconds):
    if stepper.wrapped.ranks.rank == 1 and index == 2:
        raise torch.OutOfMemoryError("CUDA out of memory.")
    return summed(stepper, drawn, index, seconds)

Stepper._summed = starved
sys.exit(run(sys.argv[1:]))
"""


def test_a_rank_out_of_memory_leaves_no_other_waiting(recipe: Recipe, tmp_path: Path) -> None:
    """The others are in the middle of the step, and cannot be told."""
    save_recipe(recipe, tmp_path / "recipe.toml")
    (tmp_path / "script.py").write_text(OUT_OF_MEMORY)
    command = [*TORCHRUN, str(tmp_path / "script.py"), str(tmp_path), "train", str(tmp_path / "recipe.toml")]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment(),
    )
    assert (tmp_path / "code-1").read_text() == "1", done.stderr
    assert "one of 2 processes is out of memory" in done.stderr
    assert "resume with train.micro_windows=" in done.stderr
    assert "another of the 2 processes ended" in done.stderr


RAY = """
import os
import signal
import sys
import threading
import time
from pathlib import Path
from ray.cluster_utils import Cluster
from whispertune.cli import main

def stop_after(steps, metrics):
    while not metrics.exists() or metrics.read_text().count('"step"') < steps:
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGINT)

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
os.environ["RAY_ADDRESS"] = cluster.address
train = ["train", sys.argv[1], "--out", sys.argv[2], "--engine", "ray", "--workers"]
try:
    codes = [main([*train, "3"])]
    threading.Thread(target=stop_after, args=(3, Path(sys.argv[2]) / "metrics.jsonl"), daemon=True).start()
    codes += [main([*train, "2"]), main([*train, "1", "--resume"])]
    print("codes", *codes)
finally:
    cluster.shutdown()
"""


def test_workers_of_a_ray_cluster_train_what_one_process_trains(recipe: Recipe, whole: Run, tmp_path: Path) -> None:
    """First too many workers, then two that Ctrl-C stops here, then one that goes on: what comes back is ours."""
    if importlib.util.find_spec("ray") is None:  # importing it here would change this process
        pytest.skip("Ray is not installed")
    save_recipe(recipe, tmp_path / "recipe.toml")
    run = Run(tmp_path / "run")
    with tempfile.TemporaryDirectory(prefix="wt-ray-") as folder:  # whose path must be short
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", RAY, str(tmp_path / "recipe.toml"), str(run.folder)],
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
            env=environment() | {"RAY_TMPDIR": folder},
        )
    assert "codes 2 3 0" in done.stdout, done.stderr
    assert "the cluster has 2 CPUs for 3 workers" in done.stderr
    assert "--resume" in done.stderr
    assert f"step {STEPS}" in done.stderr  # what the main worker tells comes to the screen here
    same_run(run, whole)
