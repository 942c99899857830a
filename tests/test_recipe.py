"""Recipes: defaults, overrides, what is to be kept, and errors that say what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from whispertune.errors import RecipeError
from whispertune.recipe_file import load_recipe, save_recipe

GOOD = """\
model = "openai/whisper-small"
language = "sv"

[[data.train]]
source = "recordings"

[[data.train]]
source = "more"
limit_rows = 10

[[data.dev]]
source = "/dev-set"

[train]
epochs = 2
"""

RETENTION = (
    GOOD
    + """
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
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(GOOD)
    return path


def test_defaults_and_paths_relative_to_the_recipe(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.data.train[0].source == str(path.parent / "recordings")
    assert recipe.data.dev[0].source == "/dev-set"
    assert (recipe.train.epochs, recipe.windows.timestamps_share, recipe.seed) == (2, 0.5, 0)
    assert recipe.train.segments_a_step == 16
    assert recipe.retention == ()


def test_adapters_without_lora_are_refused(path: Path) -> None:
    with pytest.raises(RecipeError, match=r'train.lora. is for method = "lora"'):
        load_recipe(path, ["train.lora.rank=8"])
    assert load_recipe(path, ["train.lora.rank=8", "train.method=lora"]).train.lora.rank == 8


def test_overrides(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = ["train.learning_rate=1e-5", "data.train.1.limit_rows=5", "data.train.0.source=here", "language=no"]
    recipe = load_recipe(path, overrides)
    assert recipe.train.learning_rate == 1e-5
    assert recipe.data.train[1].limit_rows == 5
    assert recipe.data.train[0].source == str(tmp_path / "here")  # relative to where it was typed
    assert recipe.language == "no"
    assert load_recipe(path, ["data.test.0.source=t"]).data.test[0].source == str(tmp_path / "t")


def test_paths_that_are_overridden_are_relative_to_where_they_were_typed(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    (here / "weights").mkdir(parents=True)
    monkeypatch.chdir(here)
    overrides = ["model=weights", "augment.noise=hum", 'data.dev=[{source="mine"}, {source="hub:me/set:all:test"}]']
    recipe = load_recipe(path, overrides)
    assert (recipe.model, recipe.augment.noise) == (str(here / "weights"), str(here / "hum"))
    assert [table.source for table in recipe.data.dev] == [str(here / "mine"), "hub:me/set:all:test"]
    assert recipe.data.train[0].source == str(tmp_path / "recordings")  # as the recipe has it
    save_recipe(recipe, tmp_path / "resolved.toml")
    assert load_recipe(tmp_path / "resolved.toml") == recipe


def test_overrides_of_tables_that_the_recipe_does_not_have(path: Path, tmp_path: Path) -> None:
    path.write_text("\ufeff" + GOOD.replace("[train]\nepochs = 2\n", ""))
    recipe = load_recipe(path, ["train.epochs=3", "evaluation.beams=2", 'data.dev.0.source="/with space"'])
    assert (recipe.train.epochs, recipe.evaluation.beams) == (3, 2)
    assert recipe.data.dev[0].source == "/with space"


def test_a_model_folder_is_relative_to_the_recipe_too(path: Path, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    path.write_text(GOOD.replace("openai/whisper-small", "weights"))
    assert load_recipe(path).model == str(tmp_path / "weights")


def test_the_resolved_recipe_is_the_same_recipe(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path, ["train.steps=7"])
    save_recipe(recipe, tmp_path / "resolved.toml")
    assert load_recipe(tmp_path / "resolved.toml") == recipe


@pytest.mark.parametrize(
    ("line", "where", "says"),
    [
        ("lerning_rate = 1e-5", ":16", "did you mean 'train.learning_rate'"),
        ("learning_rate = -1", ":16", "greater than 0"),
        ("learning_rate = inf", ":16", "finite number"),
        ('epochs_ = "three"', ":16", "did you mean 'train.epochs'"),
        ("timestamps_share = 0.3", ":16", "did you mean 'windows.timestamps_share'"),
        ("step_segments = 8\nstep_windows = 2", ":14", "not both"),
        ('[evaluation]\nnormalizer = "arabisch"', ":17", "one of basic, english, indic, arabic, characters"),
        ('[evaluation]\nnormalizer = "basic+alef"', ":17", "choose among digits"),
        ("epochs = 3", "recipe.toml", "not valid TOML"),
    ],
)
def test_a_wrong_key_is_named_with_its_line(path: Path, line: str, where: str, says: str) -> None:
    path.write_text(GOOD + line + "\n")
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    assert f"{path.name}{where}" in str(error.value) or where in str(error.value)
    assert says in str(error.value)
    assert error.value.exit_code == 2


def test_the_second_of_two_tables_is_found(path: Path) -> None:
    path.write_text(GOOD.replace("limit_rows = 10", 'langage = "sv"'))
    with pytest.raises(RecipeError, match=r"recipe.toml:9.*\n.*data.train.1.language"):
        load_recipe(path)


def test_wrong_overrides(path: Path) -> None:
    with pytest.raises(RecipeError, match=r"did you mean .train\.epochs."):
        load_recipe(path, ["train.epoch=3"])
    with pytest.raises(RecipeError, match=r"key\.sub=value"):
        load_recipe(path, ["train.epochs"])
    with pytest.raises(RecipeError, match="nothing at"):
        load_recipe(path, ["data.train.7.source=x"])


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        (["train.average=ema", "evaluation.times=0"], ("train.average", "evaluation.times = 1")),
        (["train.average=last", "evaluation.times=1"], ("train.average", "evaluation.times = 2")),
        (["train.average=best", "train.average_of=1"], ("train.average", "train.average_of = 2")),
    ],
)
def test_an_average_that_would_never_be_made_is_refused(
    overrides: list[str], keys: tuple[str, str], path: Path
) -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe(path, overrides)
    assert all(key in error.value.what for key in keys)
    assert error.value.where == str(path)
    assert load_recipe(path, ["train.average=ema", "evaluation.times=1"]).train.average == "ema"


def test_what_is_missing(path: Path, tmp_path: Path) -> None:
    path.write_text("language = 'sv'\n[data]\n")
    with pytest.raises(RecipeError, match="needs 'model'"):
        load_recipe(path)
    with pytest.raises(RecipeError, match="whispertune init"):
        load_recipe(tmp_path / "none.toml")
    folder = tmp_path / "my-run"
    folder.mkdir()
    with pytest.raises(RecipeError, match="whispertune init"):
        load_recipe(folder)
    (folder / "recipe.toml").write_text(GOOD)
    with pytest.raises(RecipeError, match=r"Is a directory[\s\S]*give .*my-run/recipe\.toml"):
        load_recipe(folder)


def test_a_source_that_is_a_link_keeps_its_name_and_place(path: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "5d41402a").touch()
    (tmp_path / "recordings").symlink_to("store/5d41402a")
    (tmp_path / "more").symlink_to("store")
    sources = [table.source for table in load_recipe(path).data.train]
    assert sources == [str(tmp_path / "recordings"), str(tmp_path / "more")]
    up, linked = "data.train.0.source=..", "data.train.1.source=more/5d41402a"
    sources = [
        table.source
        for table in load_recipe(path, [up, f"{linked.replace('more', str(tmp_path / 'more'))}"]).data.train
    ]
    assert sources == [str(Path.cwd().parent), str(tmp_path / "store" / "5d41402a")]


# --- what is to be kept -----------------------------------------------------------------------------------------------


def test_sets_and_their_defaults(path: Path, tmp_path: Path) -> None:
    path.write_text(RETENTION)
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


def test_overrides_of_sets(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(RETENTION)
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(path, ["retention.0.source=here", "soften.max_retention_loss=0.1"])
    assert recipe.retention[0].source == str(tmp_path / "here")
    assert recipe.soften.max_retention_loss == 0.1
    path.write_text(GOOD)
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
def test_what_is_wrong_with_a_set_is_said(path: Path, old: str, new: str, says: str) -> None:
    assert old in RETENTION
    path.write_text(RETENTION.replace(old, new))
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    assert says in str(error.value)
