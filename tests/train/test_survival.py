"""Real runs of a tiny random Whisper that are killed, stopped, starved of disk, fed with what has no finite loss."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import whispertune
from tests.train.runs import Notes, StopAfter, last, lines
from whispertune.errors import InputError, Interrupted, TrainingError
from whispertune.model.load import ModelFolder
from whispertune.recipe import Recipe
from whispertune.recipe_file import parse_recipe, recipe_tree, save_recipe
from whispertune.reporting import StepReport
from whispertune.train.keeping.checkpoint import newest_checkpoint
from whispertune.train.loop import fine_tune
from whispertune.train.run import Run, read_lines

STEPS = 12


def recipe_for(tiny: ModelFolder, data: Path, **more: Any) -> Recipe:
    """Twelve steps of four clips, each saved; two evaluations. `more` are tables."""
    tree: dict[str, Any] = {
        "model": str(tiny.path),
        "language": "sv",
        "data": {"train": [{"source": str(data / "train")}], "dev": [{"source": str(data / "dev")}]},
        "train": {"epochs": 4, "step_segments": 4, "learning_rate": 1e-3, "dropout": 0.1},
        "evaluation": {"times": 2, "verify_clips": 0},
        "checkpoints": {"every_steps": 1, "keep": 2},
    }
    return parse_recipe(
        {key: value | more.pop(key, {}) for key, value in tree.items() if isinstance(value, dict)}
        | {key: value for key, value in tree.items() if not isinstance(value, dict)}
        | more
    )


def assert_same(run: Run, whole: Run) -> None:
    """Weights, optimizer, figures: all as in the run that nothing happened to."""
    assert lines(run) == lines(whole)
    ours, theirs = last(run), last(whole)
    assert ours.progress.step == theirs.progress.step
    expected = theirs.weights()
    for name, value in ours.weights().items():
        assert torch.equal(value, expected[name]), name
    moments = theirs.optimizer()["state"]
    for number, state in ours.optimizer()["state"].items():
        assert torch.equal(state["exp_avg_sq"], moments[number]["exp_avg_sq"])
    assert (run.model / "model.safetensors").read_bytes() == (whole.model / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(tiny: ModelFolder, noises: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that nothing happened to."""
    run = Run(tmp_path_factory.mktemp("whole") / "run")
    assert fine_tune(recipe_for(tiny, noises), run).steps == STEPS
    return run


# --- processes that are killed or stopped ----------------------------------------------------------------------------

_LAUNCHER = """
import os, sys
import accelerate, ctranslate2, torch, transformers
import whispertune.train.loop
from whispertune.cli import main
for line in sys.stdin:
    arguments, told = line.rstrip("\\n").split("\\t")[:-1], line.rstrip("\\n").split("\\t")[-1]
    process = os.fork()
    if not process:
        stream = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        code = main(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(process, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""


class Launcher:
    """Runs `whispertune ...` in processes of their own; torch is imported once for all of them."""

    def __init__(self, told: Path) -> None:
        self.told = told
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCHER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(whispertune.__file__).parents[1],
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # shells ignore it
        )

    def __enter__(self) -> Launcher:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate()

    def start(self, *arguments: object) -> int:
        """The process's id."""
        assert self._process.stdin is not None
        self._process.stdin.write("\t".join([*map(str, arguments), str(self.told)]) + "\n")
        self._process.stdin.flush()
        return self._read()

    def wait(self) -> int:
        """The exit code of the process that was started."""
        return self._read()

    def _read(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


def alive(process: int) -> bool:
    """Whether it runs still; one that has ended is a zombie until its parent looks."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def watched(process: int, happened: Callable[[], bool]) -> bool:
    """Wait until it has; False where the process ends before."""
    while alive(process):
        if happened():
            return True
        time.sleep(0.0005)
    return False


def saving(folder: Path, pattern: str, times: int) -> Callable[[], bool]:
    """Whether something of this name is being written, for the n-th time."""
    seen: set[int] = set()

    def happened() -> bool:
        seen.update(path.stat(follow_symlinks=False).st_ino for path in folder.glob(pattern))
        return len(seen) >= times

    def safely() -> bool:
        try:
            return happened()
        except FileNotFoundError:  # gone again
            return False

    return safely


def some_time_after(run: Run, steps: int, seconds: float) -> Callable[[], bool]:
    """Whether so many lines more stand in the metrics; then a moment longer."""
    before = len(run.read_metrics())

    def happened() -> bool:
        if len(run.read_metrics()) < before + steps:
            return False
        time.sleep(seconds)
        return True

    return happened


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="watches processes as Linux shows them")
def test_killed_again_and_again_also_while_saving_it_ends_as_if_nothing_had_happened(
    tiny: ModelFolder, noises: Path, tmp_path: Path, whole: Run
) -> None:
    run = Run(tmp_path / "run")
    save_recipe(recipe_for(tiny, noises), tmp_path / "recipe.toml")
    command = ["train", tmp_path / "recipe.toml", "--out", run.folder]
    moments: list[Callable[[], Callable[[], bool]]] = [
        lambda: saving(run.checkpoints, ".*.partial", 2),
        lambda: some_time_after(run, 1, 0.1),
        lambda: saving(run.folder, ".model.partial", 1),
    ]
    with Launcher(tmp_path / "told") as launcher:
        for number, moment in enumerate(moments):
            happened = moment()
            process = launcher.start(*command, *(["--resume"] if number else []))
            assert watched(process, happened), launcher.told.read_text()
            os.kill(process, signal.SIGKILL)
            assert launcher.wait() == -signal.SIGKILL
        launcher.start(*command, "--resume")
        assert launcher.wait() == 0, launcher.told.read_text()
    assert_same(run, whole)
    assert not [path.name for folder in (run.folder, run.checkpoints) for path in folder.glob(".*")]


def test_asked_to_stop_it_exits_with_3_and_the_command_it_prints_goes_on(
    tiny: ModelFolder, noises: Path, tmp_path: Path, whole: Run
) -> None:
    run = Run(tmp_path / "my run")  # a shell has to read it
    save_recipe(recipe_for(tiny, noises), tmp_path / "recipe.toml")
    with Launcher(tmp_path / "told") as launcher:
        process = launcher.start("train", tmp_path / "recipe.toml", "--out", run.folder)
        assert watched(process, some_time_after(run, 3, 0.0))
        os.kill(process, signal.SIGTERM)
        assert launcher.wait() == 3, launcher.told.read_text()
        told = launcher.told.read_text()
        assert "Traceback" not in told
        assert 3 <= last(run).progress.step < STEPS
        (command,) = [line for line in told.splitlines() if "to go on: " in line]
        launcher.start(*shlex.split(command.partition("to go on: whispertune ")[2]))
        assert launcher.wait() == 0, launcher.told.read_text()
    assert_same(run, whole)


# --- a full disk -----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path, whole: Run) -> Iterator[Path]:
    """A disk for one checkpoint and a half."""
    disk = tmp_path / "disk"
    disk.mkdir()
    size = sum(path.stat().st_size for path in last(whole).folder.iterdir())
    mount = ["mount", "-t", "tmpfs", "-o", f"size={round(1.5 * size)}", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("nothing can be mounted here: test_checkpoint.py injects the fault")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_on_a_full_disk_it_stops_keeps_the_checkpoint_before_and_goes_on_where_there_is_room(
    tiny: ModelFolder, noises: Path, small_disk: Path, whole: Run
) -> None:
    """Two evaluations would need room before the second checkpoint does; here there is none until the end."""
    run, told = Run(small_disk / "run"), Notes()
    recipe = recipe_for(tiny, noises, checkpoints={"every_steps": 5})
    with pytest.raises(TrainingError, match="the disk is full") as full:
        fine_tune(recipe, run, reporter=told)
    assert f"then go on: {run.resume_command}" in str(full.value)
    assert any("little room" in line for line in told.said)  # said before the first step
    assert last(run).progress.step == 5
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-0000005"]
    subprocess.run(["mount", "-o", "remount,size=1g", str(small_disk)], check=True)
    fine_tune(recipe, run, resume=True)
    assert_same(run, whole)


def test_on_a_full_disk_it_goes_on_where_the_recipe_says_so_and_says_it_each_time(
    tiny: ModelFolder, noises: Path, small_disk: Path
) -> None:
    """The steps are done; without room for the model there is no result."""
    run, told = Run(small_disk / "run"), Notes()
    recipe = recipe_for(tiny, noises, checkpoints={"every_steps": 3, "full_disk": "continue"}, evaluation={"times": 0})
    with pytest.raises(TrainingError, match="the best weights could not be written"):
        fine_tune(recipe, run, reporter=told)
    full = [line for line in told.said if "the disk is full" in line]
    for step, line in zip((6, 9, 12), full, strict=True):
        assert f"the checkpoint of step {step} could not be written" in line
        assert line.endswith("the checkpoint of step 3 is kept; the run goes on")
    assert told.steps[-1].step == STEPS
    assert last(run).progress.step == 3


# --- no finite loss --------------------------------------------------------------------------------------------------


def broken_sound(folder: Path, broken: set[int], rows: int = 12) -> Path:
    """Clips of noise; in the broken ones a sample is so large that its power is infinite."""
    rng = np.random.default_rng(0)
    for split, count in (("train", rows), ("dev", 1)):
        (folder / split).mkdir(parents=True)
        found = []
        for number in range(count):
            samples = rng.normal(0, 0.1, 16_000).astype(np.float32)
            if split == "train" and number in broken:
                samples[8_000] = 1e30
            soundfile.write(folder / split / f"{number}.wav", samples, 16_000, subtype="FLOAT")
            found.append(json.dumps({"file_name": f"{number}.wav", "text": f"{split} text {number}"}))
        (folder / split / "metadata.jsonl").write_text("\n".join(found))
    return folder


def of_broken(tiny: ModelFolder, data: Path, **train: Any) -> Recipe:
    """One segment a step, so that a step is broken or not."""
    settings = {"epochs": 1, "step_segments": 1, "max_skipped_steps": 3} | train
    return recipe_for(tiny, data, train=settings, clean={"audio": "never"}, evaluation={"times": 0})


class Saved(Notes):
    """Keeps the weights and the optimizer's state after every step."""

    def __init__(self, run: Run, stop_after: int | None = None) -> None:
        super().__init__()
        self.run, self.stop_after = run, stop_after
        self.states: list[tuple[int, dict[str, torch.Tensor], dict[str, Any]]] = []

    def step(self, report: StepReport) -> None:
        super().step(report)
        found = newest_checkpoint(self.run.checkpoints)
        if found is not None:  # of the step before
            self.states.append((found.progress.step, found.weights(), found.optimizer()))
        if report.step == self.stop_after:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_step_without_a_finite_loss_changes_nothing_and_is_counted_and_named(
    tiny: ModelFolder, tmp_path: Path
) -> None:
    data = broken_sound(tmp_path / "data", {2, 7})
    run, told = Run(tmp_path / "run"), Saved(Run(tmp_path / "run"))
    result = fine_tune(of_broken(tiny, data), run, reporter=told)
    assert (result.steps, last(run).progress.skipped_steps) == (12, 2)
    skipped = read_lines(run.skipped)
    assert sorted(each for row in skipped for each in row["segments"]) == ["metadata.jsonl:3", "metadata.jsonl:8"]
    assert {row["loss"] for row in skipped} == {"nan"}
    at = [row["step"] for row in skipped]
    for step in at:
        assert any(f"step {step} was skipped: its loss is nan" in line for line in told.said)
        assert next(line for line in run.read_metrics() if line["step"] == step)["loss"] is None
    for (_, weights, state), (step, later, later_state) in zip(told.states, told.states[1:], strict=False):
        same = all(torch.equal(value, later[name]) for name, value in weights.items())
        assert same == (step in at), step
        moments, later_moments = state["state"], later_state["state"]
        assert all(torch.equal(each["exp_avg"], later_moments[n]["exp_avg"]) for n, each in moments.items()) == same
    stopped = Run(tmp_path / "stopped")
    with pytest.raises(Interrupted):
        fine_tune(of_broken(tiny, data), stopped, reporter=Saved(stopped, stop_after=at[0]))
    assert last(stopped).progress.skipped_in_a_row == 1
    fine_tune(of_broken(tiny, data), stopped, resume=True)
    assert_same(stopped, run)
    assert read_lines(stopped.skipped) == skipped


def test_too_many_in_a_row_stop_it_with_the_last_good_weights_and_it_can_go_on(
    tiny: ModelFolder, tmp_path: Path
) -> None:
    data = broken_sound(tmp_path / "data", set(range(8)), rows=8)
    run = Run(tmp_path / "run")
    with pytest.raises(TrainingError, match="3 steps in a row have no finite loss") as stopped:
        fine_tune(of_broken(tiny, data), run)
    assert run.resume_command in str(stopped.value)
    assert (last(run).progress.step, last(run).progress.skipped_steps) == (3, 3)
    assert all(value.isfinite().all() for value in last(run).weights().values())
    with pytest.raises(TrainingError, match="3 steps in a row"):  # as many again
        fine_tune(of_broken(tiny, data), run, resume=True)
    assert [row["step"] for row in read_lines(run.skipped)] == [1, 2, 3, 4, 5, 6]


# --- another recipe --------------------------------------------------------------------------------------------------


def test_another_recipe_is_refused_with_the_difference_unless_allowed(
    tiny: ModelFolder, noises: Path, tmp_path: Path
) -> None:
    run = Run(tmp_path / "run")
    before = recipe_for(tiny, noises)
    with pytest.raises(Interrupted):
        fine_tune(before, run, reporter=StopAfter(4))
    after = recipe_for(tiny, noises, train={"learning_rate": 5e-4, "micro_windows": 2}, checkpoints={"keep": 1})
    with pytest.raises(InputError, match=r"began otherwise: train.learning_rate was 0.001, is 0.0005\n") as refused:
        fine_tune(after, run, resume=True)
    assert "--allow-changes" in str(refused.value)
    assert fine_tune(after, run, resume=True, allow_changes=True).steps == STEPS
    (change,) = json.loads((run.folder / "run.json").read_text())["changes"]
    assert change["step"] == 4
    assert "train.learning_rate was 0.001, is 0.0005" in change["changed"]
    assert parse_recipe(recipe_tree(after)) == after
    rates = [line["learning_rate"] for line in run.read_metrics() if line["kind"] == "step"]
    assert rates[4] < rates[3] / 1.9
    assert len(list(run.checkpoints.iterdir())) == 1
