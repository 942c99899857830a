"""The recipe that `init` writes: it works as it is, and its comments tell the truth."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from whispertune.cli import main
from whispertune.recipe_file import load_recipe


def written(folder: Path, *more: str) -> str:
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    command = ["init", str(folder / "my-run"), "--data", str(folder / "a"), "--dev", str(folder / "b")]
    assert main([*command, *more]) == 0
    return (folder / "my-run" / "recipe.toml").read_text()


def test_it_loads_and_its_paths_are_relative(tmp_path: Path) -> None:
    text = written(tmp_path, "--language", "sv", "--test", str(tmp_path / "b"))
    assert 'source = "../a"' in text
    recipe = load_recipe(tmp_path / "my-run" / "recipe.toml")
    assert recipe.data.train[0].source == str(tmp_path / "a")
    assert recipe.data.test[0].source == str(tmp_path / "b")
    assert (recipe.name, recipe.language, recipe.model) == ("my-run", "sv", "openai/whisper-small")


def test_every_commented_key_exists_and_shows_its_default(tmp_path: Path) -> None:
    text = written(tmp_path)
    path = tmp_path / "my-run" / "recipe.toml"
    plain = load_recipe(path)
    commented = re.findall(r"^# (?!learning_rate|language|\[\[|source)(\w+ = \S+)", text, flags=re.MULTILINE)
    assert len(commented) >= 8
    path.write_text(re.sub(r"^# (?!learning_rate|language|\[\[|source)(\w+ = )", r"\1", text, flags=re.MULTILINE))
    uncommented = load_recipe(path)
    assert uncommented.model_dump() == {
        **plain.model_dump(),
        "train": {**plain.train.model_dump(), "step_segments": 16},
    }


def test_a_model_that_is_a_file_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small.pt").write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)
    assert 'model = "../small.pt"' in written(tmp_path, "--model", "small.pt")
    monkeypatch.chdir(tmp_path / "a")
    assert load_recipe(tmp_path / "my-run" / "recipe.toml").model == str(tmp_path / "small.pt")


@pytest.mark.parametrize("run", ["afile", "afile/my-run"])
def test_where_a_file_stands_no_run_can_be(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "afile").write_text("mine")
    data = str(tmp_path)
    assert main(["init", str(tmp_path / run), "--data", data, "--dev", data]) == 2
    assert "give another folder" in capsys.readouterr().err
    assert (tmp_path / "afile").read_text() == "mine"


def test_a_recipe_is_not_overwritten(tmp_path: Path) -> None:
    written(tmp_path)
    assert main(["init", str(tmp_path / "my-run"), "--data", str(tmp_path / "a"), "--dev", str(tmp_path / "b")]) == 2
