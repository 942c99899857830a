"""The folder of a run: one process writes there at a time, and --resume finds it on another day."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from tests.train.runs import Notes, dev_recipe
from whispertune.errors import InputError
from whispertune.model.load import RUN_MARK, ModelFolder
from whispertune.recipe import Recipe
from whispertune.recipe_file import parse_recipe
from whispertune.reporting import StepReport
from whispertune.train.keeping.lock import run_lock
from whispertune.train.loop import fine_tune
from whispertune.train.run import Run, default_folder, folder_to_resume

HOLDER = """
import sys
from pathlib import Path
from whispertune.train.keeping.lock import run_lock

with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""

YESTERDAY, TODAY = date(2026, 2, 28), date(2026, 3, 1)


class SecondStart(Notes):
    """Starts the same run once more while the base model is measured, and resumes it while it trains."""

    def __init__(self, recipe: Recipe, run: Run) -> None:
        super().__init__()
        self.recipe, self.run, self.refused = recipe, run, list[str]()

    def evaluating(self, what: str, done: int, total: int) -> None:
        if what == "base model" and done >= total:
            self._again(resume=False)

    def step(self, report: StepReport) -> None:
        self._again(resume=True)

    def _again(self, *, resume: bool) -> None:
        before = {path: path.read_bytes() for path in self.run.folder.rglob("*") if path.is_file()}
        with pytest.raises(InputError, match="is training in this folder") as refused:
            fine_tune(self.recipe, self.run, resume=resume)
        assert {path: path.read_bytes() for path in self.run.folder.rglob("*") if path.is_file()} == before
        self.refused.append(str(refused.value))


@pytest.mark.usefixtures("_short")
def test_a_run_is_neither_begun_nor_resumed_beside_the_one_that_is_there(
    tiny: ModelFolder, noises: Path, tmp_path: Path
) -> None:
    recipe = dev_recipe(
        tiny, noises, train={"steps": 1, "step_segments": 4}, evaluation={"times": 0, "verify_clips": 0}
    )
    told = SecondStart(recipe, Run(tmp_path / "run"))
    assert fine_tune(recipe, told.run, reporter=told).steps == 1
    assert len(told.refused) == 2
    assert all(f"process {os.getpid()} on" in line and "--out" in line for line in told.refused)
    with run_lock(told.run.folder):  # it has ended
        pass


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(InputError, match=f"process {holder.pid} on"), run_lock(tmp_path):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with run_lock(tmp_path):
        pass


# --- --resume without --out ------------------------------------------------------------------------------------------


def recipe_with(name: str = "run", rate: float = 1e-4, **tables: object) -> Recipe:
    tree = {"model": "me/model", "language": "sv", "data": {"train": [{"source": "/a"}], "dev": [{"source": "/b"}]}}
    return parse_recipe(tree | {"name": name, "train": {"learning_rate": rate}} | tables)


@pytest.fixture
def recipe_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In a folder of its own, beside which runs/ comes."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "recipes" / "recipe.toml"


def begun(recipe_path: Path, recipe: Recipe, day: date) -> Path:
    folder = default_folder(recipe_path, recipe, day)
    Run(folder).start(recipe, {"train": "1"})
    return folder


def test_a_run_is_found_after_midnight_and_goes_on_with_its_own_recipe_alone(recipe_path: Path) -> None:
    ours = begun(recipe_path, recipe_with(), YESTERDAY)
    begun(recipe_path, recipe_with(), date(2026, 1, 31))
    begun(recipe_path, recipe_with(rate=5e-5), TODAY)  # of another recipe without a name
    begun(recipe_path, recipe_with("run-2"), TODAY)
    assert folder_to_resume(recipe_path, recipe_with(), TODAY) == ours
    assert folder_to_resume(recipe_path, recipe_with(evaluation={"batch": 2}), TODAY) == ours


def test_where_no_run_is_of_the_recipe_the_newest_is_named(recipe_path: Path) -> None:
    begun(recipe_path, recipe_with(), date(2026, 1, 31))
    newest = begun(recipe_path, recipe_with(), YESTERDAY)
    with pytest.raises(InputError, match=f"--out {newest}"):
        folder_to_resume(recipe_path, recipe_with(rate=5e-5), TODAY)
    today = begun(recipe_path, recipe_with(), TODAY)
    assert folder_to_resume(recipe_path, recipe_with(rate=5e-5), TODAY) == today  # which says what differs


def test_where_there_is_none_at_all_the_folder_of_today_says_so(recipe_path: Path) -> None:
    Path("runs/run-2026-02-28").mkdir(parents=True)
    folder = folder_to_resume(recipe_path, recipe_with(), TODAY)
    with pytest.raises(InputError, match="no run to resume here"):
        Run(folder).check_same(recipe_with(), {})


def test_a_recipe_in_the_folder_of_its_run_goes_on_there(recipe_path: Path) -> None:
    begun(recipe_path, recipe_with(), YESTERDAY)
    recipe_path.parent.mkdir()
    (recipe_path.parent / RUN_MARK).write_text("{}")
    assert folder_to_resume(recipe_path, recipe_with(), TODAY) == recipe_path.parent
