"""transformers' logs with several evaluation sets: one is judged, and it is said which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from whispertune.diagnose.findings.confidence import over_confidence
from whispertune.diagnose.history import from_trainer_state, read_history
from whispertune.diagnose.run import diagnose
from whispertune.diagnose.trainer_log import read_evaluations

WERS = {"cv": (28.0, 26.0, 24.0, 22.0, 20.0), "fleurs": (38.0, 36.0, 34.0, 32.0, 31.0)}


def lines_of(**sets: tuple[float, ...]) -> list[dict[str, Any]]:
    """As the Trainer writes them with a dict for eval_dataset: a line a set, under one step."""
    lines: list[dict[str, Any]] = []
    for place in range(5):
        step = 100 * (place + 1)
        lines.append({"step": step, "loss": 1.0 / (place + 1), "learning_rate": 1e-5})
        for name, rates in sets.items():
            named = {"loss": 0.3, "wer": rates[place], "runtime": 9.0, "samples_per_second": 2.0}
            lines.append({"step": step} | {f"eval_{name}_{figure}": value for figure, value in named.items()})
    return lines


def test_the_first_of_two_sets_is_judged_and_both_are_named(tmp_path: Path) -> None:
    state = tmp_path / "trainer_state.json"
    state.write_text(json.dumps({"best_metric": None, "log_history": lines_of(**WERS)}))
    found = diagnose(state)
    history = found.material.history
    assert [(each.step, each.loss, each.wer) for each in history.evaluations][::4] == [
        (100, 0.3, 28.0),
        (500, 0.3, 20.0),
    ]
    assert {"dev loss", "evaluations of generated text"}.isdisjoint(found.missing)
    assert "the log has 2 evaluation sets: cv, fleurs; judged is cv alone" in found.as_json()["notes"]
    assert [each.key for each in found.findings] == ["under-trained"]
    assert found.as_json()["best_step"] == 500


@pytest.mark.parametrize(
    ("hints", "judged"),
    [
        ({}, "cv"),
        ({"metric_for_best_model": "eval_fleurs_wer"}, "fleurs"),
        ({"metric_for_best_model": "fleurs_loss"}, "fleurs"),
        ({"metric_for_best_model": "wer"}, "cv"),  # of no set
        ({"best_metric": 31.0}, "fleurs"),  # a figure that only it had
        ({"best_metric": 0.3}, "cv"),  # a figure that both had
        ({"best_metric": 31.0, "best_model_checkpoint": "out/checkpoint-500"}, "fleurs"),
        ({"best_metric": 31.0, "best_global_step": 400}, "cv"),  # not there
    ],
)
def test_the_set_that_selected_is_judged_where_the_state_says_which(hints: dict[str, Any], judged: str) -> None:
    found = read_evaluations(lines_of(**WERS), hints)
    assert (found.judged, found.sets) == (judged, ("cv", "fleurs"))
    assert found.figures[100]["wer"] == WERS[judged][0]


def test_the_hints_of_a_state_are_read_with_its_log(tmp_path: Path) -> None:
    state = tmp_path / "trainer_state.json"
    state.write_text(json.dumps({"best_metric": 31.0, "log_history": lines_of(**WERS)}))
    history = read_history(state)
    assert (history.judged_set, [each.wer for each in history.evaluations]) == ("fleurs", list(WERS["fleurs"]))


def test_figures_of_one_step_come_together_whatever_lines_they_are_in() -> None:
    lines = [{"step": 5, "eval_loss": 0.5, "eval_runtime": 1.0}, {"step": 5, "eval_wer": 30.0}, {"step": 5, "epoch": 1}]
    (found,) = from_trainer_state(lines).evaluations
    assert (found.loss, found.wer) == (0.5, 30.0)
    together = [{"step": 5, "eval_a_loss": 0.5, "eval_a_wer": 30.0, "eval_b_loss": 0.6, "eval_b_wer": 40.0}]
    assert from_trainer_state(together).sets == ("a", "b")


def test_a_set_without_a_name_is_one_too_and_a_second_metric_is_none() -> None:
    plain = [{"step": 5, "eval_loss": 0.5, "eval_wer": 30.0, "eval_ortho_wer": 40.0, "eval_wer_ortho": 41.0}]
    history = from_trainer_state(plain)
    assert (history.sets, history.evaluations[0].wer) == (("",), 30.0)
    assert not any("sets" in note for note in history.notes)
    beside = [*plain, {"step": 5, "eval_cv_loss": 0.4, "eval_cv_wer": 20.0}]
    assert from_trainer_state(beside).evaluations[0].wer == 30.0
    assert any(
        "one without a name, cv; judged is the one without a name" in n for n in from_trainer_state(beside).notes
    )


def test_a_set_that_has_a_rate_goes_before_one_that_has_none() -> None:
    lines = [{"step": 5, "eval_a_loss": 0.5}, {"step": 5, "eval_b_loss": 0.5, "eval_b_wer": 40.0}]
    assert from_trainer_state(lines).judged_set == "b"


def test_a_single_set_with_a_name_is_read_and_named() -> None:
    history = from_trainer_state([{"step": 5, "eval_cv_loss": 0.5, "eval_cv_wer": 40.0}])
    assert history.evaluations[0].wer == 40.0
    assert "the log has one evaluation set, cv" in history.notes


def test_the_metric_to_keep_by_is_that_of_the_set() -> None:
    losses = (0.3, 0.35, 0.4, 0.45, 0.5)
    lines = lines_of(cv=WERS["cv"])
    for line, loss in zip([each for each in lines if "eval_cv_wer" in each], losses, strict=True):
        line["eval_cv_loss"] = loss
    found = over_confidence(from_trainer_state(lines))
    assert found is not None
    assert found.change[0].value == 'metric_for_best_model="cv_wer"'
