"""A run interrupted at any step and resumed ends as one that was not."""

from __future__ import annotations

import fnmatch
import json
import shutil
import signal
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import soundfile
import torch
from pydantic import BaseModel

from tests.train.runs import StopAfter, last, lines
from whispertune.data.problems import write_dropped
from whispertune.data.segments import Problem, SourceData
from whispertune.errors import InputError, Interrupted, TrainingError
from whispertune.model.load import ModelFolder
from whispertune.recipe import Recipe
from whispertune.recipe_file import load_recipe, parse_recipe, recipe_tree
from whispertune.train.feeding.dropped import DroppedRows
from whispertune.train.feeding.feed import LoadedStep
from whispertune.train.feeding.splits import Splits
from whispertune.train.keeping.changes import FIXED, FREE, Change, changes_between
from whispertune.train.loop import fine_tune
from whispertune.train.run import Run

STEPS = 6


def recipe_for(tiny: ModelFolder, data: Path, **more: Any) -> Recipe:
    return parse_recipe(
        {
            "model": str(tiny.path),
            "language": "sv",
            "data": {
                "train": [{"source": str(data / "train")}],
                "dev": [{"source": str(data / "dev")}],
                "max_bad_share": more.pop("max_bad_share", 0.05),
            },
            "clean": {"audio": more.pop("audio", "auto")},
            "train": {"epochs": 2, "step_segments": 4, "learning_rate": 1e-3, "dropout": 0.1} | more,
            "evaluation": {"times": 2, "verify_clips": 0},
            "checkpoints": {"every_steps": 2},
        }
    )


@pytest.fixture(scope="module")
def uninterrupted(tiny: ModelFolder, noises: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("whole") / "run")
    result = fine_tune(recipe_for(tiny, noises), run)
    assert result.steps == STEPS
    assert result.base.scores.rows == result.tuned.scores.rows == 3
    return run


@pytest.mark.parametrize("step", [2, 3, 5])  # saved anyway; evaluated; neither
def test_stopped_and_resumed_is_the_same_run(
    step: int, uninterrupted: Run, tiny: ModelFolder, noises: Path, tmp_path: Path
) -> None:
    run, recipe = Run(tmp_path / "run"), recipe_for(tiny, noises)
    with pytest.raises(Interrupted, match="--resume") as stopped:
        fine_tune(recipe, run, reporter=StopAfter(step, signal.SIGINT if step % 2 else signal.SIGTERM))
    assert stopped.value.exit_code == 3
    assert last(run).progress.step == step
    fine_tune(recipe, run, resume=True)
    assert lines(run) == lines(uninterrupted)
    for (name, ours), theirs in zip(last(run).weights().items(), last(uninterrupted).weights().values(), strict=True):
        assert torch.equal(ours, theirs), name
    assert (run.model / "model.safetensors").read_bytes() == (uninterrupted.model / "model.safetensors").read_bytes()


def test_training_changes_the_weights(uninterrupted: Run, tiny: ModelFolder) -> None:
    before = tiny.load().state_dict()
    after = last(uninterrupted).weights()
    name = "model.decoder.layers.0.fc1.weight"
    assert not torch.equal(before[name], after[name])


def test_a_damaged_checkpoint_is_passed_over(
    tiny: ModelFolder, noises: Path, tmp_path: Path, uninterrupted: Run
) -> None:
    run, recipe = Run(tmp_path / "run"), recipe_for(tiny, noises)
    with pytest.raises(Interrupted):
        fine_tune(recipe, run, reporter=StopAfter(5))
    newest = last(run).folder / "model.safetensors"
    content = bytearray(newest.read_bytes())
    content[-5] ^= 1
    newest.write_bytes(content)
    assert last(run).progress.step == 4
    fine_tune(recipe, run, resume=True)
    assert lines(run) == lines(uninterrupted)


def test_without_any_checkpoint_it_starts_over(
    tiny: ModelFolder, noises: Path, tmp_path: Path, uninterrupted: Run
) -> None:
    """As after a kill before the first save: the base model's figures are kept, the steps are done again."""
    run, recipe = Run(tmp_path / "run"), recipe_for(tiny, noises)
    with pytest.raises(Interrupted):
        fine_tune(recipe, run, reporter=StopAfter(1))
    shutil.rmtree(run.checkpoints)
    base = (run.folder / "evaluations" / "base.json").stat().st_mtime_ns
    fine_tune(recipe, run, resume=True)
    assert lines(run) == lines(uninterrupted)
    assert (run.folder / "evaluations" / "base.json").stat().st_mtime_ns == base


def test_a_start_that_came_to_nothing_leaves_no_figures(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    """The base model was measured, then the run was stopped before its first step and begun again otherwise."""
    run = Run(tmp_path / "run")
    with pytest.raises(Interrupted):
        fine_tune(recipe_for(tiny, noises), run, reporter=StopAfter(1))
    shutil.rmtree(run.checkpoints)
    run.metrics.unlink()
    spoiled = run.folder / "evaluations" / "base.json"
    spoiled.write_text(spoiled.read_text().replace('"rows": 3', '"rows": 99'))
    assert fine_tune(recipe_for(tiny, noises, epochs=1), run).base.scores.rows == 3


def test_a_run_is_never_begun_twice_nor_resumed_as_another(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    with pytest.raises(InputError, match="no run to resume"):
        fine_tune(recipe_for(tiny, noises), run, resume=True)
    with pytest.raises(Interrupted):
        fine_tune(recipe_for(tiny, noises), run, reporter=StopAfter(1))
    with pytest.raises(InputError, match="already begun"):
        fine_tune(recipe_for(tiny, noises), run)
    with pytest.raises(InputError, match=r"train.dropout was 0.1, is 0.2"):
        fine_tune(recipe_for(tiny, noises, dropout=0.2), run, resume=True)


def test_audio_that_fails_when_it_is_drawn_is_skipped_and_counted(tiny: ModelFolder, tmp_path: Path) -> None:
    """Its header is fine, so it comes in; its frames are not."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("dev", 1)):
        (tmp_path / split).mkdir()
        rows = [{"file_name": f"{n}.flac", "text": f"{split} {n}"} for n in range(count)]
        for row in rows:
            path = tmp_path / split / str(row["file_name"])
            soundfile.write(path, rng.normal(0, 0.1, 32_000).astype(np.float32), 16_000)
        (tmp_path / split / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    broken = tmp_path / "train" / "3.flac"
    content = broken.read_bytes()
    broken.write_bytes(content[:200] + bytes(len(content) - 200))
    recipe = recipe_for(tiny, tmp_path, max_bad_share=0.2, epochs=1, audio="never")
    run = Run(tmp_path / "run")
    result = fine_tune(recipe, run)
    problems = [json.loads(line) for line in run.dropped.read_text().splitlines()]
    assert [problem["where"] for problem in problems] == ["metadata.jsonl:4"]
    assert sum(line.get("unreadable", 0) for line in lines(run)) == 1
    assert result.steps == 2
    with pytest.raises(Exception, match="max_bad_share"):
        fine_tune(recipe_for(tiny, tmp_path, max_bad_share=0.1, epochs=1, audio="never"), Run(tmp_path / "strict"))
    listened = Run(tmp_path / "listened")
    fine_tune(recipe_for(tiny, tmp_path, max_bad_share=0.2, epochs=1), listened)  # found before the start
    problems = [json.loads(line) for line in listened.dropped.read_text().splitlines()]
    assert [(each["line"], each["source"]) for each in problems] == [(4, str(tmp_path / "train"))]


def test_with_other_dev_rows_all_figures_are_of_them(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    with pytest.raises(Interrupted):
        fine_tune(recipe_for(tiny, noises), run, reporter=StopAfter(5))
    rows = (noises / "dev" / "metadata.jsonl").read_text().splitlines()[:2]
    shutil.copytree(noises / "dev", tmp_path / "dev")
    (tmp_path / "dev" / "metadata.jsonl").write_text("\n".join(rows))
    tree = recipe_tree(recipe_for(tiny, noises, weight_decay=0.5))
    tree["data"]["dev"][0]["source"] = str(tmp_path / "dev")
    measured_by = last(run).progress.best_of
    result = fine_tune(parse_recipe(tree), run, resume=True, allow_changes=True)
    assert (result.base.scores.rows, result.tuned.scores.rows, result.best_step) == (2, 2, STEPS)
    assert last(run).progress.best_of != measured_by
    groups = {group["name"]: group["weight_decay"] for group in last(run).optimizer()["param_groups"]}
    assert groups == {"matrices": 0.5, "vectors": 0.0}  # the optimizer follows the recipe, too


# --- what may change -------------------------------------------------------------------------------------------------

PRINTS = {"train": "1", "dev": "2", "test": "3"}


def plain(**tables: Any) -> Recipe:
    tree = {"model": "me/model", "language": "sv", "data": {"train": [{"source": "/a"}], "dev": [{"source": "/b"}]}}
    return parse_recipe(tree | tables)


def started(tmp_path: Path) -> Run:
    run = Run(tmp_path / "run")
    run.start(plain(), PRINTS)
    return run


def keys_of(table: type[BaseModel], key: str = "") -> list[str]:
    """The keys of a table of the recipe and of all in it; the rows of a list have number 0."""
    found = []
    for name, field in table.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        where = f"{key}{name}" if inner in (None, field.annotation) else f"{key}{name}.0"
        found += keys_of(inner, f"{where}.") if inner else [where]
    return found


def test_keys_that_may_always_or_never_change_are_keys_of_the_recipe() -> None:
    known = keys_of(Recipe)
    assert {"seed", "train.lora.rank", "data.dev.0.columns", "retention.0.silence"} <= {*known}
    for pattern in (*FREE, *FIXED):
        assert fnmatch.filter(known, pattern), pattern
    assert not [key for key in known if Change(key, 0, 1).free and Change(key, 0, 1).fixed]


@pytest.mark.parametrize(("before", "after", "free"), [(20.0, 5.0, True), (0.0, 0.0, True), (20.0, 0.0, False)])
def test_how_much_is_kept_of_a_frozen_encoder_may_change_and_whether_may_not(
    before: float, after: float, free: bool
) -> None:
    """Only where something is kept are the windows the same in every epoch."""
    for pair in ((before, after), (after, before)):
        assert Change("train.cache_gb", *pair).free == free


def test_what_does_not_change_what_is_trained_may_change(tmp_path: Path) -> None:
    run = started(tmp_path)
    after = plain(
        checkpoints={"keep": 5, "every_steps": 7},
        evaluation={"batch": 2},
        train={"micro_windows": 3},
        tracking={"price_per_hour": 2.5},
    )
    changes = run.check_same(after, PRINTS)
    assert sorted(change.partition(" ")[0] for change in changes) == [
        "checkpoints.every_steps",
        "checkpoints.keep",
        "evaluation.batch",
        "tracking.price_per_hour",
        "train.micro_windows",
    ]
    run.note_changes(after, PRINTS, changes, step=3)
    assert load_recipe(run.resolved_recipe) == after
    assert load_recipe(run.folder / "resolved-3.toml") == plain()
    assert run.check_same(after, PRINTS) == ()


def test_another_recipe_or_other_data_are_refused_with_the_difference_unless_allowed(tmp_path: Path) -> None:
    run = started(tmp_path)
    rows = [{"source": "/a", "weight": 2.0}]
    after = plain(data={"train": rows, "dev": [{"source": "/b"}]}, train={"learning_rate": 1e-4, "micro_windows": 2})
    others = PRINTS | {"train": "changed"}
    said = (
        "data.train.0.weight was 1.0, is 2.0; train.learning_rate was None, is 0.0001; data.train: its segments changed"
    )
    with pytest.raises(InputError, match=said) as refused:
        run.check_same(after, others)
    assert refused.value.fix is not None
    assert "--allow-changes" in refused.value.fix
    changes = run.check_same(after, others, allow=True)
    for _ in range(2):  # as after a kill right behind
        run.note_changes(after, others, changes, step=40, counted=(counted := [{"split": "train", "rows": 3}]))
    mark = json.loads((run.folder / "run.json").read_text())
    (noted,) = mark["changes"]
    assert (noted["step"], noted["recipe_before"]) == (40, "resolved-40.toml")
    assert set(noted["changed"]) == {*said.split("; "), "train.micro_windows was None, is 2"}
    assert (mark["data_sha256"], mark["data"]) == (others, counted)
    assert run.check_same(after, others) == ()


@pytest.mark.parametrize(
    "change",
    [
        {"model": "me/other"},
        *({"train": each} for each in ({"method": "lora"}, {"freeze": ["encoder"]}, {"optimizer": "muon"})),
    ],
)
def test_what_no_checkpoint_fits_is_refused_even_where_changes_are_allowed(change: Any, tmp_path: Path) -> None:
    run = started(tmp_path)
    with pytest.raises(InputError, match="a checkpoint fits no other weights"):
        run.check_same(plain(**change), PRINTS, allow=True)


def test_differences_are_told_key_by_key() -> None:
    before = {"a": 1, "b": {"c": [1, 2], "d": [{"e": 1}, {"e": 2}]}, "f": [{"g": 1}]}
    after = {"a": 1, "b": {"c": [1, 3], "d": [{"e": 1}, {"e": 5}]}, "f": [{"g": 1}, {"g": 2}], "h": "new"}
    assert [str(change) for change in changes_between(before, after)] == [
        "b.c was [1, 2], is [1, 3]",
        "b.d.1.e was 2, is 5",
        "f was [{'g': 1}], is [{'g': 1}, {'g': 2}]",
        "h was None, is 'new'",
    ]


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints", "model", "result.json"])
def test_a_folder_that_holds_anything_of_a_run_is_never_overwritten(name: str, tmp_path: Path) -> None:
    run = started(tmp_path)
    (run.folder / name).mkdir()
    (run.folder / name / "precious").touch()
    with pytest.raises(InputError, match="already begun"):
        run.start(plain(seed=7), PRINTS)
    assert (run.folder / name / "precious").exists()
    assert load_recipe(run.resolved_recipe) == plain()


@pytest.mark.parametrize("name", ["evaluations", "averages", "dropped.jsonl", "skipped.jsonl"])
def test_what_no_run_wrote_is_never_removed(name: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")  # of `init`
    (tmp_path / name).mkdir()
    (tmp_path / name / "precious").touch()
    with pytest.raises(InputError, match=f"holds {name}, and no run that wrote it"):
        Run(tmp_path).start(plain(), PRINTS)
    assert (tmp_path / name / "precious").exists()


def test_a_folder_that_init_made_holds_no_run_to_resume(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "resolved.toml").touch()
    with pytest.raises(InputError, match="no run to resume"):
        Run(tmp_path).check_same(plain(), PRINTS)


def test_the_lines_that_come_again_are_dropped(tmp_path: Path) -> None:
    run = started(tmp_path)
    for step in range(1, 6):
        run.add_metrics("step", {"step": step, "loss": float("nan") if step == 3 else 1.0})
        if step in (2, 4):
            run.add_metrics("evaluation", {"step": step})
    run.skipped.write_text('{"step": 3, "segments": ["a"]}\n{"step": 5, "segm')
    with run.metrics.open("a") as file:
        file.write('{"kind": "step", "step": 6, "lo')  # killed here
    run.rewind_metrics(4, 2)
    assert [(line["kind"], line["step"]) for line in run.read_metrics()] == [
        ("step", 1),
        ("step", 2),
        ("evaluation", 2),
        ("step", 3),
        ("step", 4),
    ]
    assert run.read_metrics()[3]["loss"] is None
    assert run.skipped.read_text() == '{"step": 3, "segments": ["a"]}\n'


# --- rows that turn out bad ------------------------------------------------------------------------------------------


def test_the_share_of_bad_rows_goes_on_counting_after_a_resume(tmp_path: Path) -> None:
    """Two of ten may be bad; one at the start, one drawn before the run was stopped, one after."""
    path = tmp_path / "dropped.jsonl"
    start = Problem("metadata.jsonl:1", "too short", "", source="/a")
    segments: Any = [None] * 9  # counted, no more
    splits = Splits({}, (), SourceData(segments, (start,)), SourceData(()), SourceData(()))

    def opened() -> DroppedRows:
        return DroppedRows(path, splits, 0.2, plain().data.train)

    def step(*lines: int) -> LoadedStep:
        return LoadedStep(
            (), tuple(Problem(f"metadata.jsonl:{line}", "audio does not decode", "") for line in lines), 1
        )

    first = opened()
    first.add([start])
    first.of_step(step(4), 1)
    write_dropped(path, [Problem("metadata.jsonl:7", "audio does not decode", "")], append=True)  # of dev: no source
    resumed = opened()
    resumed.of_step(step(4), 2)  # the same row again
    with pytest.raises(TrainingError, match=r"30\.0 % of the training rows cannot be used"):
        resumed.of_step(step(5), 3)
    with pytest.raises(TrainingError, match=r"30\.0 %"):
        opened().of_step(step(5), 3)
    assert path.read_text().count("\n") == 4
