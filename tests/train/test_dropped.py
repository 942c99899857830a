"""Rows that turn out bad in a run: named once with their source, counted, and an end to it where there are too many."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tests.hub_datasets import card, clip, parquet
from tests.hub_server import Hub
from whispertune.cli.screen import Screen
from whispertune.data.audio import AudioReader
from whispertune.data.segments import Held, Problem, Segment, SourceData
from whispertune.errors import Interrupted, RecipeError, TrainingError
from whispertune.model.load import ModelFolder
from whispertune.recipe import Recipe
from whispertune.recipe_file import parse_recipe
from whispertune.reporting import Reporter, StepReport
from whispertune.train.feeding.dropped import DroppedRows
from whispertune.train.feeding.mixture import stream_judge
from whispertune.train.feeding.splits import Splits, TokenCounter, load_splits
from whispertune.train.keeping.checkpoint import Checkpoint, Progress
from whispertune.train.loop import fine_tune
from whispertune.train.run import Run
from whispertune.windows.pack import Limits

ROWS = 24


def add_rows(hub: Hub, *, broken: tuple[int, ...] = (), **columns: Any) -> None:
    """A dataset of short clips in one shard; audio of the broken rows is not there."""
    import datasets

    names = {"audio": datasets.Audio(decode=False), "text": datasets.Value("string")}
    names |= {name: datasets.Value("string") for name in columns}
    rows = [
        {"audio": None if row in broken else clip(row, 1.0), "text": f"A row of the stream, number {row}."}
        | {name: value(row) for name, value in columns.items()}
        for row in range(ROWS)
    ]
    shard = parquet(datasets.Features(names), rows)
    hub.add_repo("me/rows", {"README.md": card({"all": ["train"]}), "all/train-0.parquet": shard})


def recipe(tiny: ModelFolder, noises: Path, split: str = "train", **train: Any) -> Recipe:
    stream = {"source": "hub:me/rows", "streaming": True}
    data = {"train": [{"source": str(noises / "train")}], "dev": [{"source": str(noises / "dev")}]}
    data[split] = [stream, *data[split]] if split == "train" else [stream]  # type: ignore[list-item]
    return parse_recipe(
        {
            "model": str(tiny.path),
            "language": "sv",
            "data": data,
            "train": {"step_segments": 4, "learning_rate": 1e-3} | (train or {"steps": 9}),
            "evaluation": {"times": 0, "verify_clips": 0},
            "checkpoints": {"every_steps": 2},
        }
    )


def dropped(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.dropped.read_text().splitlines()]


def test_a_bad_row_of_a_stream_is_named_once_with_its_source(
    hub: Hub, tiny: ModelFolder, noises: Path, tmp_path: Path
) -> None:
    """Nine steps are a whole pass; the run breaks off after each, without a checkpoint in between."""

    class Fall(Reporter):
        def step(self, report: StepReport) -> None:
            if report.step in at:
                at.remove(report.step)
                raise Interrupted("the power went out")

    add_rows(hub, broken=(5, 17))
    run, at = Run(tmp_path / "run"), [3, 5, 9]
    with pytest.raises(Interrupted):
        fine_tune(recipe(tiny, noises), run, reporter=Fall())
    while at:
        with pytest.raises(Interrupted):
            fine_tune(recipe(tiny, noises), run, resume=True, reporter=Fall())
    fine_tune(recipe(tiny, noises), run, resume=True)
    assert sorted(row["where"] for row in dropped(run)) == ["0/hub:me/rows:all:train:17", "0/hub:me/rows:all:train:5"]
    assert {(row["source"], row["line"]) for row in dropped(run)} == {("hub:me/rows", 5), ("hub:me/rows", 17)}


def test_too_many_bad_rows_end_the_run_and_what_was_done_is_saved(
    hub: Hub, tiny: ModelFolder, noises: Path, tmp_path: Path
) -> None:
    add_rows(hub, broken=tuple(range(ROWS)))
    data = {"train": [{"source": "hub:me/rows", "streaming": True}], "dev": [{"source": str(noises / "dev")}]}
    train = {"hours": 1.0, "step_segments": 1}
    alone = parse_recipe(recipe(tiny, noises).model_dump(exclude_none=True) | {"data": data, "train": train})
    with Screen() as screen, pytest.raises(TrainingError, match="steps in a row have no row that can be used") as error:
        fine_tune(alone, Run(tmp_path / "run"), reporter=screen)
    assert "--resume" in str(error.value)


def test_a_language_that_the_model_lacks_costs_its_row(
    hub: Hub, tiny: ModelFolder, noises: Path, reader: AudioReader
) -> None:
    add_rows(hub)
    asked = recipe(tiny, noises)
    splits = load_splits(asked, tiny.vocabulary, reader, TokenCounter(tiny.vocabulary), Limits())
    assert any("read as it comes" in note for note in splits.notes)
    judge = stream_judge(asked, splits, tiny.vocabulary, 0)

    def judged(**changes: Any) -> tuple[str, str]:
        found = judge(replace(Segment("7", Held("x", b""), 0.0, 2.0, "A good row.", "sv"), **changes))
        return (found.kind, found.source) if isinstance(found, Problem) else (found.id, "")

    assert judged() == ("0/7", "")
    assert judged(language="xx") == ("not in the model", "hub:me/rows")
    assert judged(task="sing") == ("not in the model", "hub:me/rows")
    assert judged(text="Dev: text 1, of noise!") == ("also in dev", "hub:me/rows")
    assert judged(end_s=0.1) == ("too short", "hub:me/rows")


@pytest.mark.parametrize("split", ["dev", "test"])
def test_only_train_is_streamed(split: str, tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="are for train") as error:
        fine_tune(recipe(tiny, noises, split), Run(tmp_path / "run"))
    assert error.value.where == f"data.{split}.0"
    assert not (tmp_path / "run").exists()


def test_steps_of_windows_are_refused_before_anything_is_read(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"train\.step_windows"):
        fine_tune(recipe(tiny, noises, step_windows=2, step_segments=None, steps=1), Run(tmp_path / "run"))


# --- rows of files ---------------------------------------------------------------------------------------------------


def broken_flacs(folder: Path) -> Path:
    """Eight rows for train and two for dev; headers are fine, but the frames of the second of both are not."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("dev", 2)):
        (folder / split).mkdir(parents=True)
        rows = [json.dumps({"file_name": f"{n}.flac", "text": f"{split} text {n}"}) for n in range(count)]
        (folder / split / "metadata.jsonl").write_text("\n".join(rows))
        for number in range(count):
            path = folder / split / f"{number}.flac"
            soundfile.write(path, rng.normal(0, 0.1, 32_000).astype(np.float32), 16_000)
            if number == 1:
                content = path.read_bytes()
                path.write_bytes(content[:200] + bytes(len(content) - 200))
    return folder


def noise_beside(folder: Path) -> Path:
    """One recording of noise, and some that cannot be read."""
    folder.mkdir()
    soundfile.write(folder / "good.wav", np.random.default_rng(1).normal(0, 0.1, 16_000), 16_000)
    for name in ("a.wav", "b.wav"):
        (folder / name).write_bytes(b"no audio")
    return folder


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_step_that_has_no_row_left_changes_nothing_and_has_no_loss(
    precision: str, tiny: ModelFolder, tmp_path: Path
) -> None:
    """Two problems of noise more would pass the share of bad rows, if they counted."""

    class Told(Reporter):
        said: list[str] = []  # noqa: RUF012

        def say(self, text: str) -> None:
            self.said.append(text)

    data = broken_flacs(tmp_path / "data")
    asked = recipe(tiny, data).model_dump(exclude_none=True) | {
        "data": {name: [{"source": str(data / name)}] for name in ("train", "dev")} | {"max_bad_share": 0.2},
        "clean": {"audio": "never"},
        "train": {"epochs": 1, "step_segments": 1, "learning_rate": 1e-3, "precision": precision},
        "augment": {"noise": str(noise_beside(tmp_path / "noise")), "noise_share": 1.0},
        "checkpoints": {"every_steps": 1, "keep": 9},
    }
    run, told = Run(tmp_path / "run"), Told()
    assert fine_tune(parse_recipe(asked), run, reporter=told).skipped_steps == 0
    (line,) = [line for line in run.read_metrics() if line["kind"] == "step" and not line["windows"]]
    assert line["loss"] is None
    assert any(f"step {line['step']}: none of its rows can be read" in text for text in told.said)
    weights = {step: safetensors_of(run, step) for step in range(1, 9)}
    changed = [
        step for step in range(2, 9) if any(not each.equal(weights[step - 1][n]) for n, each in weights[step].items())
    ]
    assert changed == [step for step in range(2, 9) if step != line["step"]]
    found = sorted((Path(row["source"]).name, Path(row["where"]).name) for row in dropped(run))
    noise = [("augment.noise", "a.wav"), ("augment.noise", "b.wav")]
    assert found == [*noise, ("dev", "metadata.jsonl:2"), ("train", "metadata.jsonl:2")]
    assert any("2 of 3 recordings of noise cannot be read" in text for text in told.said)


def safetensors_of(run: Run, step: int) -> dict[str, torch.Tensor]:
    return Checkpoint(run.checkpoints / f"step-{step:07d}", Progress()).weights()


def test_rows_of_the_same_place_in_two_sources_stand_there_both(tmp_path: Path) -> None:
    splits = Splits({}, (), SourceData(()), SourceData(()), SourceData(()))
    for _ in range(2):  # as after a resume
        dropped = DroppedRows(tmp_path / "dropped.jsonl", splits, 0.2, ())
        for source in ("/a", "/b", "/a"):
            dropped.add([Problem("metadata.jsonl:1", "too short", "", source=source)])
    rows = [json.loads(line) for line in dropped.path.read_text().splitlines()]
    assert [row["source"] for row in rows] == ["/a", "/b"]
