"""Family 1: dev loss against WER, on a published curve and on ones where they agree."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from whispertune.diagnose.advice import weighed
from whispertune.diagnose.findings.confidence import over_confidence
from whispertune.diagnose.findings.fitting import over_fitting
from whispertune.diagnose.findings.mismatch import decoding_unlike_training
from whispertune.diagnose.history import Evaluated, History, read_history
from whispertune.diagnose.run import diagnose
from whispertune.recipe import Checkpoints, Data, Recipe, Train

# The Hindi run of whisper-small in Hugging Face's article on fine-tuning Whisper. Published here are the five WER and
# the first and last dev loss; the three losses between them are taken as rising.
STEPS = (1000, 2000, 3000, 4000, 5000)
HINDI_WER = (34.63, 33.13, 32.59, 32.01, 32.10)
HINDI_LOSS = (0.3075, 0.3558, 0.4214, 0.4519, 0.4679)


def history_of(losses: tuple[float, ...], rates: tuple[float, ...]) -> History:
    steps = range(1000, 1000 * len(rates) + 1, 1000)
    return History((), tuple(Evaluated(*each) for each in zip(steps, losses, rates, strict=True)))


def hindi_state(path: Path) -> Path:
    """The same as transformers writes it."""
    lines = [
        {"epoch": step / 409, "eval_loss": loss, "eval_runtime": 900.0, "eval_wer": rate, "step": step}
        for step, loss, rate in zip(STEPS, HINDI_LOSS, HINDI_WER, strict=True)
    ]
    path.write_text(json.dumps({"best_metric": None, "log_history": lines}))
    return path


def test_the_hindi_run_is_over_confident_and_step_4000_is_kept(tmp_path: Path) -> None:
    found = over_confidence(read_history(hindi_state(tmp_path / "trainer_state.json")))
    assert found is not None
    assert found.sure == "likely"
    seen = [each.value for each in found.seen]
    assert seen == [1000, 0.3075, 34.63, 4000, 0.4519, 32.01]
    assert "step 4,000" in found.change[0].why
    assert found.change[0].value == 'metric_for_best_model="wer"'


def test_the_hindi_run_shows_no_other_trouble(tmp_path: Path) -> None:
    found = diagnose(hindi_state(tmp_path / "trainer_state.json"))
    assert [each.key for each in found.findings] == ["over-confident"]
    assert found.as_json()["best_step"] == 4000


def test_calibration_that_was_measured_is_shown_before_and_after() -> None:
    history = history_of(HINDI_LOSS, HINDI_WER)
    errors = (4.0, 6.0, 8.0, 9.0, 9.5)
    measured = tuple(
        replace(each, calibration_error=error) for each, error in zip(history.evaluations, errors, strict=True)
    )
    found = over_confidence(replace(history, evaluations=measured))
    assert found is not None
    assert found.sure == "certain"
    assert [each.value for each in found.seen[-2:]] == [4.0, 9.0]


def test_a_run_of_ours_is_not_told_to_keep_by_wer_which_it_cannot_but_do() -> None:
    history = history_of(HINDI_LOSS, HINDI_WER)
    for recipe in (None, Recipe(model="m", data=Data(), checkpoints=Checkpoints(best="wer"))):
        found = over_confidence(history, recipe)
        assert found is not None
        assert [each.key for each in found.change] == ["", "train.label_smoothing"]
        assert "never by loss" in found.change[0].why
        assert "step 4,000" in found.change[0].why


def test_where_smoothing_is_there_already_the_next_thing_is_named() -> None:
    recipe = Recipe(model="m", data=Data(), train=Train(label_smoothing=0.1, epochs=5))
    found = over_confidence(history_of(HINDI_LOSS, HINDI_WER), recipe)
    assert found is not None
    advised = weighed(found, recipe)
    assert advised.seen[-1].value == "train.label_smoothing = 0.1"
    assert [(each.key, each.value) for each in advised.change] == [("", "leave what is kept"), ("train.epochs", "1")]


@pytest.mark.parametrize(
    ("losses", "rates"),
    [
        ((0.9, 0.6, 0.5, 0.45), (60.0, 45.0, 40.0, 38.0)),  # both fall
        ((0.5, 0.4, 0.6, 0.9), (40.0, 35.0, 39.0, 45.0)),  # both rise: over-fitting
        ((0.5, 0.5, 0.51, 0.505), (40.0, 38.0, 37.0, 36.0)),  # the loss is level
        ((0.3, 0.5), (40.0, 30.0)),  # two are no curve
    ],
)
def test_where_they_agree_nothing_is_said(losses: tuple[float, ...], rates: tuple[float, ...]) -> None:
    assert over_confidence(history_of(losses, rates)) is None


def test_what_is_over_fitted_is_told_as_that_instead() -> None:
    both_rise = history_of((0.5, 0.4, 0.6, 0.9), (40.0, 35.0, 39.0, 45.0))
    assert over_fitting(both_rise) is not None
    assert over_fitting(history_of(HINDI_LOSS, HINDI_WER)) is None
    assert decoding_unlike_training(history_of(HINDI_LOSS, HINDI_WER)) is None
