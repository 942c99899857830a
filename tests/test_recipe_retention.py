"""The recipe's tables of what is to be kept, and how much of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from whispertune.errors import RecipeError
from whispertune.recipe_file import load_recipe, save_recipe

GOOD = """\
model = "openai/whisper-small"
language = "ln"

[[data.train]]
source = "recordings"

[[data.dev]]
source = "dev"

[[retention]]
name = "english"
source = "prompts"
language = "en"
columns = { text = "sentence" }
limit_rows = 120

[[retention]]
name = "silence"
silence = true

[soften]
lambdas = [0.5, 0.9]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(GOOD)
    return path


def test_sets_and_their_defaults(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    english, silence = recipe.retention
    assert (english.source, english.language) == (str(tmp_path / "prompts"), "en")
    rows = english.rows
    assert (rows.source, rows.language, rows.columns, rows.limit_rows) == (
        english.source,
        "en",
        {"text": "sentence"},
        120,
    )
    assert (silence.silence, silence.source) == (True, None)
    assert (recipe.soften.lambdas, recipe.soften.max_retention_loss) == ((0.5, 0.9), 0.05)
    assert recipe.evaluation.retention_subset == 30
    save_recipe(recipe, tmp_path / "resolved.toml")
    assert load_recipe(tmp_path / "resolved.toml") == recipe


def test_a_recipe_without_any(path: Path, tmp_path: Path) -> None:
    path.write_text(GOOD[: GOOD.index("[[retention]]")])
    recipe = load_recipe(path)
    assert recipe.retention == ()
    save_recipe(recipe, tmp_path / "resolved.toml")
    assert load_recipe(tmp_path / "resolved.toml") == recipe


def test_overrides(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(path, ["retention.0.source=here", "soften.max_retention_loss=0.1"])
    assert recipe.retention[0].source == str(tmp_path / "here")
    assert recipe.soften.max_retention_loss == 0.1
    path.write_text(GOOD[: GOOD.index("[[retention]]")])
    recipe = load_recipe(path, ["retention.0.name=quiet", "retention.0.silence=true"])
    assert recipe.retention[0].silence


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('source = "prompts"\n', "", "give a source, or silence = true"),
        ("silence = true", 'silence = true\nsource = "x"', "give a source, or silence = true"),
        ("silence = true", "silence = true\nrecordings = true", "silence is no recordings"),
        ('name = "silence"', 'name = "english"', "two retention sets have the same name"),
        ('name = "silence"', 'name = "a/b"', "should match pattern"),
        ("sentence", 'x", txt = "y', "did you mean 'text'"),
        ("lambdas = [0.5, 0.9]", "lambdas = [1.5]", "less than or equal to 1"),
        ("lambdas = [0.5, 0.9]", "lambdas = []", "at least 1 item"),
        ("limit_rows = 120", "limit_row = 120", "did you mean 'retention.0.limit_rows'"),
        ("[soften]\n", '[soften]\nsource = "x"\n', "did you mean 'data.test.source'"),  # not that of a retention set
    ],
)
def test_what_is_wrong_is_said(path: Path, old: str, new: str, says: str) -> None:
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    assert says in str(error.value)
