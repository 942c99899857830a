"""Names that leave this machine tell none of its folders; models of a recipe are found from anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from whispertune.model.bundled import BUNDLES
from whispertune.model.naming import hub_name, offline_name, public_name
from whispertune.recipe_file import load_recipe

RECIPE = """\
model = "{model}"
language = "sv"

[[data.train]]
source = "recordings"

[[data.dev]]
source = "dev-set"
"""


@pytest.mark.parametrize(
    ("model", "public", "hub"),
    [
        ("openai/whisper-small", "openai/whisper-small", "openai/whisper-small"),
        ("me/whisper.v2_small-sv", "me/whisper.v2_small-sv", "me/whisper.v2_small-sv"),
        ("bundled:whisper-base", "bundled:whisper-base", "openai/whisper-base"),
        ("bundled:whisper-tiny.en", "bundled:whisper-tiny.en", "openai/whisper-tiny.en"),
        ("bundled:whisper-huge", "bundled:whisper-huge", None),
        ("/home/ann/gone/run-3", "run-3", None),
        ("/home/ann/gone/ggml-base.bin", "ggml-base.bin", None),
        ("../ann/run-3", "run-3", None),
        ("./run-3/", "run-3", None),
        ("ann/gone/run-3", "run-3", None),
        ("~/gone/run-3", "run-3", None),
        ("run-3", "run-3", None),
    ],
)
def test_names_outside_of_this_machine(model: str, public: str, hub: str | None) -> None:
    assert (public_name(model), hub_name(model)) == (public, hub)


def test_of_what_lies_here_the_last_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ann" / "run").mkdir(parents=True)
    (tmp_path / "ann" / "mine.pt").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    for model in (str(tmp_path / "ann" / "run"), "ann/run", "ann/run/", "ann/run/../run"):
        assert (public_name(model), hub_name(model)) == ("run", None)
    for model in (str(tmp_path / "ann" / "mine.pt"), "ann/mine.pt"):
        assert (public_name(model), hub_name(model)) == ("mine.pt", None)
    monkeypatch.chdir(tmp_path / "ann" / "run")
    assert public_name(".") == "run"


def test_a_folder_named_as_a_hub_model_is_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "openai" / "whisper-base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert (public_name("openai/whisper-base"), hub_name("openai/whisper-base")) == ("whisper-base", None)


@pytest.mark.parametrize("name", BUNDLES)
def test_what_is_bundled_needs_no_hub(name: str) -> None:
    assert offline_name(f"openai/{name}") == f"bundled:{name}"
    assert offline_name(f"me/{name}") == f"me/{name}"
    assert offline_name("openai/whisper-large-v3") == "openai/whisper-large-v3"


@pytest.mark.parametrize("file", ["ggml-base.bin", "mine.pt"])
def test_a_model_file_is_relative_to_the_recipe(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "recipes" / "sv"
    folder.mkdir(parents=True)
    (tmp_path / "recipes" / file).write_bytes(b"x")
    (folder / "recipe.toml").write_text(RECIPE.format(model=f"../{file}"))
    monkeypatch.chdir(tmp_path)
    assert load_recipe(Path("recipes/sv/recipe.toml")).model == str(tmp_path / "recipes" / file)
    assert load_recipe(folder / "recipe.toml", [f"model=recipes/{file}"]).model == str(tmp_path / "recipes" / file)
    assert load_recipe(folder / "recipe.toml", ["model=me/gone.pt"]).model == "me/gone.pt"


def test_a_linked_file_keeps_the_name_that_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "3f2a").write_bytes(b"x")
    (tmp_path / "ggml-base.bin").symlink_to(tmp_path / "3f2a")
    (tmp_path / "recipe.toml").write_text(RECIPE.format(model="ggml-base.bin"))
    assert load_recipe(tmp_path / "recipe.toml").model == str(tmp_path / "ggml-base.bin")
