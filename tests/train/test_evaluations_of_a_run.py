"""The figures and texts that a run folder keeps: they stand together, and go together."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.finished_run import of_texts
from whispertune.data.segments import Segment
from whispertune.evaluation.evaluate import Evaluation, TeacherForced
from whispertune.recipe import Data, Recipe, SourceTable
from whispertune.score.wer import read_utterances
from whispertune.train.run import Run, write_json

NAMES = ("base", "tuned", "tuned_fit", "retention/english.base", "retention/english.tuned")


def recipe_of(dev: str) -> Recipe:
    train, rows = SourceTable(source="/nowhere"), SourceTable(source=dev)
    return Recipe(model="bundled:whisper-base", language="sv", data=Data(train=(train,), dev=(rows,)))


def evaluation_of(text: str = "den gamla bron") -> Evaluation:
    segments = [Segment(f"a:{number}", Path("a.wav"), 0.0, 1.0, text, "sv") for number in range(3)]
    return of_texts(segments, str.upper, "dev")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """One that has ended, as far as its evaluations show it."""
    found = Run(tmp_path / "run")
    found.start(recipe_of("/dev"), {})
    for name in NAMES:
        found.save_evaluation(name, evaluation_of())
    write_json(found.evaluations / "retention.json", {"sets": []})
    (found.evaluations / "retention" / "english.base.how.json").write_text("{}")
    return found


def left(run: Run) -> set[str]:
    return {str(path.relative_to(run.evaluations)) for path in run.evaluations.rglob("*") if path.is_file()}


def test_of_a_run_that_goes_on_no_text_of_its_model_is_left(run: Run) -> None:
    """Also where it will never write it again, as without clips cut to what is spoken."""
    run.reopen()
    kept = {f"{name}.{kind}" for name in ("base", "retention/english.base") for kind in ("json", "jsonl")}
    assert left(run) == kept | {"retention/english.base.how.json"}


def test_texts_of_a_base_that_is_measured_anew_are_void_too(run: Run) -> None:
    assert run.check_same(recipe_of("/other"), {}, allow=True)
    assert not left(run) & {"base.json", "base.jsonl"}


def test_figures_do_not_stand_beside_half_of_other_texts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, utterances: object) -> None:
        path.write_text("")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("whispertune.train.run.write_utterances", full)
    with pytest.raises(OSError, match="No space left"):
        run.save_evaluation("tuned", evaluation_of("andra ord"))
    assert run.read_evaluation("tuned") is None


def test_a_loss_that_is_not_finite_is_null_and_reads_back(run: Run) -> None:
    run.save_evaluation("tuned", replace(evaluation_of(), teacher_forced=TeacherForced(math.nan, 50.0, math.inf)))
    content = json.loads((run.evaluations / "tuned.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert (content["loss"], content["token_accuracy"], content["calibration_error"]) == (None, 50.0, None)
    read = run.read_evaluation("tuned")
    assert read is not None
    assert read.teacher_forced is not None
    assert math.isnan(read.teacher_forced.loss)
    assert read.as_json() | {"loss": None, "calibration_error": None} == content


def test_a_run_whose_name_is_not_utf_8_ends_with_its_result(tmp_path: Path) -> None:
    try:
        (folder := tmp_path / os.fsdecode(b"run\xe9")).mkdir()
    except OSError:
        pytest.skip("names are UTF-8 here")
    run = Run(folder)
    run.start(recipe_of("/dev"), {})
    write_json(run.result, {"run": str(folder)})
    assert json.loads(run.result.read_text(encoding="utf-8")) == {"run": str(folder)}
    run.save_evaluation("base", evaluation_of())
    assert len(read_utterances(run.evaluations / "base.jsonl")) == 3
