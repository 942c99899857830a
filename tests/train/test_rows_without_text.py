"""Rows whose text is empty: scored in dev, in retention sets and by `evaluate`, from the recipe to the figures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.train.runs import Notes
from whispertune.model.load import ModelFolder
from whispertune.recipe_file import parse_recipe
from whispertune.service.evaluate import Decoding
from whispertune.service.examine import examine_model
from whispertune.train.loop import fine_tune
from whispertune.train.run import Run


@pytest.mark.usefixtures("_short")
def test_a_row_of_which_nothing_is_to_be_heard_is_a_row_of_every_figure(
    tiny: ModelFolder, noises: Path, tmp_path: Path
) -> None:
    dev = Path(shutil.copytree(noises / "dev", tmp_path / "dev"))
    rows = [json.loads(line) for line in (dev / "metadata.jsonl").read_text().splitlines()]
    rows[1]["text"] = ""
    (dev / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = parse_recipe(
        {
            "model": str(tiny.path),
            "language": "sv",
            "data": {"train": [{"source": str(noises / "train")}], "dev": [{"source": str(dev)}]},
            "retention": [{"name": "noise", "source": str(dev), "limit_rows": 2}],
            "train": {"steps": 1, "step_segments": 4},
            "evaluation": {"times": 1, "verify_clips": 0},
        }
    )
    run = Run(tmp_path / "run")
    result = fine_tune(recipe, run, reporter=Notes())
    assert [each.reference for each in result.base.utterances] == [rows[0]["text"], "", rows[2]["text"]]
    kept = run.read_evaluation("retention/noise.tuned")
    assert kept is not None
    assert [each.reference for each in kept.utterances] == [rows[0]["text"], ""]
    figures = examine_model(str(run.folder), str(dev), Decoding(language="sv")).as_json()
    assert (figures["rows"], figures["rows_unreadable"]) == (3, 0)
