"""A run that goes on longer, shorter or measured otherwise than it began: what was trained since is evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.train.runs import Notes, Started, StopAfter, dev_recipe, last
from whispertune.errors import InputError, Interrupted
from whispertune.model.load import ModelFolder
from whispertune.publish.facts import read_facts
from whispertune.recipe import Recipe
from whispertune.train.keeping.checkpoint import Progress
from whispertune.train.learning.schedule import Extent
from whispertune.train.loop import fine_tune
from whispertune.train.run import Run

pytestmark = pytest.mark.usefixtures("_short")


@pytest.fixture
def recipe_of(tiny: ModelFolder, noises: Path) -> Any:
    """Steps of one clip, two evaluations."""

    def make(steps: int, best: str = "wer", **train: Any) -> Recipe:
        return dev_recipe(
            tiny,
            noises,
            train={"steps": steps, "step_segments": 1, "learning_rate": 1e-3} | train,
            evaluation={"times": 2, "verify_clips": 0},
            checkpoints={"best": best},
        )

    return make


def evaluated(run: Run) -> list[int]:
    return [line["step"] for line in run.read_metrics() if line["kind"] == "evaluation"]


def test_a_finished_run_that_is_extended_is_evaluated_to_its_new_end(recipe_of: Any, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    fine_tune(recipe_of(2), run)
    assert evaluated(run) == [1, 2]
    assert fine_tune(recipe_of(4), run, resume=True, allow_changes=True).steps == 4
    assert evaluated(run) == [1, 2, 4]


@pytest.mark.parametrize(
    ("steps", "times", "expected"),
    [
        (16, 4, [8, 12, 16]),  # stopped at 3 of 4 parts and doubled
        (8, 1, [8]),  # evaluated less often
        (8, 8, [7, 8]),  # more often
        (4, 4, [6]),  # shorter than it is already
        (8, 0, []),  # no more
    ],
)
def test_evaluations_of_a_stopped_run_go_by_its_new_length(
    steps: int, times: int, expected: list[int], started: Started
) -> None:
    """It was to have 8 steps and 4 evaluations, and has 6 and 3 of them; 2 where it is cut short."""
    devset, _ = started(evaluation={"times": times, "verify_clips": 0})
    extent, due, evaluated_step = Extent(steps), list[int](), 6 if steps > 4 else 4
    for step in range(6, max(6, steps) + 1):
        if devset.due(extent, Progress(step=step, evaluated_step=evaluated_step)):
            due.append(step)
            evaluated_step = step
    assert due == expected


def test_a_run_of_hours_that_is_extended_goes_by_the_speech_of_its_last_evaluation(
    started: Started, tiny: ModelFolder
) -> None:
    devset, _ = started(evaluation={"times": 2, "verify_clips": 0})
    before, after = Extent(hours=2.0), Extent(hours=4.0)
    progress = Progress(step=10, speech_seconds=2 * 3600.0)
    assert devset.due(before, progress)
    devset.evaluate(tiny.load(), before, progress)
    assert not devset.due(before, progress)
    for hours, due in ((3.0, False), (3.9, False), (4.0, True)):
        progress.step, progress.speech_seconds = progress.step + 1, 3600 * hours
        assert devset.due(after, progress) == due


@pytest.mark.parametrize(("best", "averages"), [("wer", 1), ("cer", 0)])
def test_values_of_another_metric_have_no_part_in_the_average_of_the_best(
    best: str, averages: int, recipe_of: Any, tmp_path: Path
) -> None:
    """The weights of the last evaluation alone are no average."""
    run, how = Run(tmp_path / "run"), {"average": "best"}
    with pytest.raises(Interrupted):
        fine_tune(recipe_of(4, **how), run, reporter=StopAfter(3))
    assert last(run).progress.evaluated_step == 2
    told = Notes()
    fine_tune(recipe_of(4, best=best, **how), run, resume=True, allow_changes=True, reporter=told)
    assert sum("average weights" in each for each in told.evaluations) == averages
    assert any("no other evaluated weights" in line for line in told.said) == (not averages)


def test_a_run_that_goes_on_has_not_ended(recipe_of: Any, tmp_path: Path) -> None:
    """Its model is another than that of its figures, until it ends again."""
    run = Run(tmp_path / "run")
    fine_tune(recipe_of(2), run)
    with pytest.raises(Interrupted):
        fine_tune(recipe_of(6), run, resume=True, allow_changes=True, reporter=StopAfter(4))
    assert not run.result.exists()
    assert run.read_evaluation("base") is not None
    assert run.read_evaluation("tuned") is None
    with pytest.raises(InputError, match="not finished"):
        read_facts(run)
