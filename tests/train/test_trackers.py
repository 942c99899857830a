"""Trackers are told of a run, as their own readers see it; one that fails does not end it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from whispertune.errors import RecipeError
from whispertune.evaluation.evaluate import Evaluation
from whispertune.reporting import StepReport
from whispertune.score.wer import score
from whispertune.train.watching import trackers as trackers_module
from whispertune.train.watching.trackers import Place, Trackers, flat

RECIPE: dict[str, Any] = {"name": "mine", "train": {"learning_rate": 1e-4, "freeze": ["encoder"]}}


def report(step: int, loss: float) -> StepReport:
    return StepReport(step, 10, step / 10, None, loss, 1e-4, 0.5, 2, 8, 90, 24.0, 1.5, 0, 16.0, 12.0)


def evaluation() -> Evaluation:
    scores, utterances = score(["a"], ["one two"], ["one too"], "en")
    return Evaluation(scores, tuple(utterances), 1.0, 0.5, "ctranslate2")


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder))
    read.Reload()
    return {tag: [(each.step, each.value) for each in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def test_tensorboard_shows_steps_and_evaluations(tmp_path: Path) -> None:
    said: list[str] = []
    with Trackers(["tensorboard"], "speech", "mine", tmp_path, said.append) as trackers:
        trackers.start(RECIPE, step=0)
        trackers.step(report(1, 3.0))
        trackers.step(report(2, 2.0))
        trackers.evaluated(2, evaluation())
    found = scalars(tmp_path / "tensorboard")
    assert found["train/loss"] == [(1, 3.0), (2, 2.0)]
    assert found["dev/wer"] == [(2, 50.0)]
    assert "train/epoch" not in found  # nobody knows how long one is here
    assert not said


def test_a_resumed_run_writes_over_what_it_does_again(tmp_path: Path) -> None:
    for first, loss in ((0, 3.0), (1, 1.0)):
        with Trackers(["tensorboard"], "speech", "mine", tmp_path, print) as trackers:
            trackers.start(RECIPE, step=first)
            for step in (first + 1, first + 2):
                trackers.step(report(step, loss))
    assert scalars(tmp_path / "tensorboard")["train/loss"] == [(1, 3.0), (2, 1.0), (3, 1.0)]


class Broken:
    """Works until it is told of a step."""

    def __init__(self, place: Place, opened: list[Place]) -> None:
        self.tracker = self
        opened.append(place)

    def start(self) -> None:
        print("hello from a library")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        assert values["train.learning_rate"] == 1e-4

    def log(self, values: dict[str, Any], step: int) -> None:
        raise OSError(f"the disk is gone at {step}\nwith much more on it")


def test_one_that_fails_is_left_out_and_that_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    opened: list[Place] = []
    monkeypatch.setitem(trackers_module.TRACKERS, "json", lambda place: Broken(place, opened))  # json is installed
    with Trackers(["json", "tensorboard"], "speech", "mine", tmp_path, said.append) as trackers:
        trackers.start(RECIPE, step=0)
        trackers.step(report(1, 3.0))
        trackers.step(report(2, 2.0))
    (line,) = said
    assert line.startswith("json does not work and is told no more (the disk is gone at 1);")
    assert scalars(tmp_path / "tensorboard")["train/loss"] == [(1, 3.0), (2, 2.0)]
    assert not capsys.readouterr().out  # stdout is for results
    again = Trackers(["json"], "speech", "mine", tmp_path, said.append)
    again.start(RECIPE, step=2)
    assert opened[1].id == opened[0].id  # the same run, to whom it is told


class WithIds(Broken):
    """Gives runs ids of its own, and knows no others."""

    def __init__(self, place: Place, opened: list[Place]) -> None:
        super().__init__(place, opened)
        assert place.id in (None, "theirs")
        self.info = SimpleNamespace(run_id="theirs")


def test_a_tracker_that_gives_ids_is_asked_for_none_that_it_did_not_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    opened: list[Place] = []
    monkeypatch.setitem(trackers_module.TRACKERS, "json", lambda place: WithIds(place, opened))
    monkeypatch.setattr(trackers_module, "WITH_IDS", ("json",))
    for _ in range(2):  # resumed with it, and again
        Trackers(["json"], "speech", "mine", tmp_path, said.append).start(RECIPE, step=2)
    assert [place.id for place in opened] == [None, "theirs"]
    assert not said


def test_ids_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "tracking.json").mkdir()
    with Trackers(["tensorboard"], "speech", "mine", tmp_path, said.append) as trackers:
        trackers.start(RECIPE, step=0)
        trackers.step(report(1, 3.0))
        trackers.step(report(2, math.nan))  # none of its rows could be read
    (line,) = said
    assert line.startswith("tracking.json could not be written")
    assert scalars(tmp_path / "tensorboard")["train/loss"] == [(1, 3.0)]


def test_only_the_main_process_tells(tmp_path: Path) -> None:
    with Trackers(["tensorboard"], "speech", "mine", tmp_path, print, main=False) as trackers:
        trackers.start(RECIPE, step=0)
        trackers.step(report(1, 3.0))
    assert not list(tmp_path.iterdir())


def test_an_absent_package_is_named_with_its_extra(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r'pip install "whispertune\[nowhere_at_all\]"'):
        Trackers(["nowhere_at_all"], "speech", "mine", tmp_path, print)


def test_a_recipe_becomes_flat() -> None:
    assert flat(RECIPE) == {"name": "mine", "train.learning_rate": 1e-4, "train.freeze": json.dumps(["encoder"])}
