"""What inspect says of a recipe beside what training does with it: rows no window takes, rows nobody listens to."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.inspect_tree import Row, rows, tree
from tests.prepare.conftest import talk
from whispertune.data.audio import AudioReader
from whispertune.data.clean import CleanRules
from whispertune.data.segments import SourceSpec
from whispertune.inspect.figures import figures
from whispertune.inspect.numbers import Numbers, count
from whispertune.inspect.run import Inspection, Options, inspect_data
from whispertune.inspect.sets import packed_step, read_set
from whispertune.inspect.survey import read_cleaned, survey
from whispertune.model.load import ModelFolder
from whispertune.prepare.run import prepare_dataset
from whispertune.recipe import Recipe
from whispertune.recipe_file import parse_recipe, save_recipe
from whispertune.train.feeding.splits import TokenCounter, load_splits

WORDY = " ".join(f"ord{number}" for number in range(150))  # over 220 tokens, under 448


def recipe_of(folder: Path, **more: object) -> Recipe:
    sources = {name: [{"source": str(folder / name)}] for name in ("train", "dev")}
    data = sources | {"max_bad_share": 0.9}
    return parse_recipe({"model": "none", "language": "sv", "data": data} | more)


def numbers_of(recipe: Recipe, base: ModelFolder, folder: Path) -> dict[str, Numbers]:
    """Of each set, as the command has them."""
    save_recipe(recipe, folder / "recipe.toml")
    found = inspect_data(str(folder / "recipe.toml"), Options(model=str(base.path), quick=True))
    return {numbers.name: numbers for numbers in found.sets}


@pytest.fixture
def wordy(tmp_path: Path) -> Path:
    """A row in train and one in dev whose text no window takes."""
    tree(tmp_path / "train", [*rows(6), Row("long", 9.0, WORDY[:300]), Row("wordy", 20.0, WORDY)])
    tree(tmp_path / "dev", [replace(row, text=f"nu {row.text} i dev", seed=900) for row in rows(2)[1:]])
    with (tmp_path / "dev" / "metadata.jsonl").open("a", encoding="utf-8") as lines:
        lines.write(f'{{"file_name": "1.wav", "text": "{WORDY} till", "language": "sv"}}\n')
    return tmp_path


def test_rows_no_window_takes_are_dropped_as_training_drops_them(
    wordy: Path, reader: AudioReader, base: ModelFolder
) -> None:
    recipe = recipe_of(wordy)
    limits, rules = packed_step(recipe).limits, CleanRules(**recipe.clean.model_dump())
    trained = load_splits(recipe, base.vocabulary, reader, TokenCounter(base.vocabulary), limits).train
    found = read_set("train", recipe, rules, reader, vocabulary=base.vocabulary)
    assert [problem.kind for problem in found.problems] == ["too many tokens"]
    assert [replace(problem, source="") for problem in found.problems] == [
        replace(problem, source="") for problem in trained.problems
    ]
    assert [problem.source for problem in found.problems] == ["train"]
    assert [row.id for row in found.segments] == [row.id for row in trained.segments]


def test_the_share_over_the_limit_is_that_of_the_recipe(wordy: Path, base: ModelFolder) -> None:
    told = numbers_of(recipe_of(wordy), base, wordy)
    assert (told["train"].rows, told["dev"].rows) == (7, 2)  # dev's are not learned from, and stay
    assert [(group.name, group.rows) for group in told["train"].dropped] == [("too many tokens", 1)]
    assert told["train"].over_max_tokens_share == 0.125
    assert told["dev"].over_max_tokens_share == 0.5
    shown = {figure.label: figure.value for figure in figures(told["dev"])}
    assert shown["over 220 tokens with times, of all rows"] == "50.0 %"
    narrow = numbers_of(recipe_of(wordy, windows={"max_tokens": 64}), base, wordy)["train"]
    assert (narrow.rows, narrow.over_max_tokens_share, narrow.max_tokens) == (6, 0.25, 64)


def inspected(folder: Path, out: Path | None = None, clean: str = "") -> Inspection:
    sources = "".join(f'[[data.train]]\nsource = "{name}"\n' for name in ("train", "more"))
    path = folder / "recipe.toml"
    path.write_text(f'model = "nobody/has-this-model"\nlanguage = "sv"\n{clean}\n{sources}', encoding="utf-8")
    return inspect_data(str(path), Options(), out=out)


@pytest.fixture
def silent(tmp_path: Path) -> Path:
    """Two sources, one of them with a silent row."""
    tree(tmp_path / "train", rows(4))
    tree(tmp_path / "more", [Row("m", 2.0, "ett till", seed=50), Row("s", 2.0, "tyst", gain=0.0)])
    return tmp_path


def test_rows_dropped_by_ear_name_their_source(silent: Path) -> None:
    out = silent / "report.html"
    inspected(silent, out)
    (row,) = re.findall(r"digital silence.*?</tr>", out.read_text(encoding="utf-8"), re.DOTALL)
    assert ">more<" in row


@pytest.mark.parametrize(("policy", "told"), [("never", True), ("auto", False), ("all", False)])
def test_where_training_would_not_listen_it_is_said(policy: str, told: bool, silent: Path) -> None:
    found = inspected(silent, clean=f'[clean]\naudio = "{policy}"')
    assert [group.name for group in found.sets[0].dropped] == ["no speech"]
    notes = [note for note in found.notes if note.startswith("training would not listen (clean.audio is never)")]
    assert bool(notes) == told
    assert all("dropped here by ear (1 row) would stay" in note for note in notes)


def test_long_data_is_not_listened_to_by_training(silent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whispertune.inspect.sets.LISTEN_HOURS", 1 / 3600)
    assert any(note.startswith("training would not listen (over ") for note in inspected(silent).notes)


TEXTS = {"zh": "我们今天去那里看书", "sv": "vi talade länge om vädret"}


@pytest.mark.parametrize(
    ("language", "task", "text", "unit"),
    [
        ("zh", "transcribe", TEXTS["zh"], "character"),
        ("zh", "translate", "we read there today", "word"),
        ("sv", "transcribe", TEXTS["sv"], "word"),
    ],
)
def test_tokens_are_told_by_what_the_text_is_written_in(
    language: str, task: str, text: str, unit: str, tmp_path: Path, base: ModelFolder
) -> None:
    tree(tmp_path / "train", [Row("a", 3.0, text), Row("b", 3.0, text)], language)
    recipe = parse_recipe(
        {"model": "none", "language": language, "task": task, "data": {"train": [{"source": str(tmp_path / "train")}]}}
    )
    numbers = numbers_of(recipe, base, tmp_path)["train"]
    units = len(text) if unit == "character" else len(text.split())
    tokens = base.vocabulary.count([text], [language if task == "transcribe" else ""])[0]
    assert numbers.tokens_a_word == pytest.approx(tokens / units, abs=1e-3)
    assert f"tokens a {unit}" in {figure.label for figure in figures(numbers)}
    assert {word.text for word in numbers.worst_words} == (set() if unit == "character" else set(text.split()))


def test_recordings_of_a_prepared_dataset_are_those_it_was_made_of(tmp_path: Path, reader: AudioReader) -> None:
    """Long pauses part a recording into chains of rows, which are read as recordings of their own."""
    cues = [(1.0 + 12 * number, 3.0 + 12 * number) for number in range(5)]
    for number, name in enumerate(("a", "b")):
        talk(tmp_path / "talks", name, cues, 60.0, seed=20 + number)
    recipe = parse_recipe({"model": "none", "language": "sv", "data": {"train": [{"source": str(tmp_path / "talks")}]}})
    prepare_dataset(recipe, tmp_path / "dataset", processes=1)
    rules = CleanRules(**recipe.clean.model_dump())
    data = read_cleaned(SourceSpec(str(tmp_path / "dataset")), rules, reader)
    numbers = count(survey("dataset", data, rules, reader, packed_step(recipe), listen=False))
    assert (numbers.rows, numbers.recordings) == (10, 2)
