"""What the programs of a card and the Space are told of the language, and what people are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from tests.finished_run import finished_run
from whispertune.cli.publish import publish
from whispertune.model.generation import write_generation
from whispertune.model.load import ModelFolder, find_model
from whispertune.publish.card import card
from whispertune.publish.exported import Exported, Verified
from whispertune.publish.facts import read_facts
from whispertune.publish.usage import whisper_cli
from whispertune.recipe_file import load_recipe, save_recipe
from whispertune.service.export import _spoken
from whispertune.train.run import Run

VERIFIED = Verified("0.10 WER from the source", 60, 58, 120.0, 30.0)
EXPORTS = (
    Exported("transformers", "float32", "", 1, "transformers 5.23.0", VERIFIED),
    Exported("ct2", "float16", "ct2", 1, "faster-whisper 1.2.1", VERIFIED),
    Exported("ggml", "q5_0", "ggml", 1, "pywhispercpp 1.3.3", VERIFIED),
    Exported("openai", "float32", "openai", 1, "openai-whisper 20250625", VERIFIED),
)
TOLD_OF_EACH = "With the arguments of the verification, but for the language, which it was told of each clip; `pip"


@pytest.fixture
def run(tiny: ModelFolder, noises: Path, tmp_path: Path) -> Run:
    return finished_run(tmp_path / "run", tiny.path, noises)


def spoken(run: Run, *tables: str | None, model: str | None = None, **more: Any) -> str:
    """The card of a run whose tables of train name these languages, and whose model was told `model`."""
    recipe = load_recipe(run.resolved_recipe)
    train = tuple(recipe.data.train[0].model_copy(update={"language": each} | more) for each in tables)
    data = recipe.data.model_copy(update={"train": train})
    save_recipe(recipe.model_copy(update={"data": data, "language": None}), run.resolved_recipe)
    folder = find_model(str(run.folder))
    write_generation(folder.path, folder.generation.speaking(model, "transcribe"), folder.vocabulary)
    return card(read_facts(run), EXPORTS, "me/whisper-noise", licence=None, multilingual=True)


@pytest.mark.parametrize("tables", [("sv", "da"), ("sv", None), (None, "sv"), ("sv",)])
def test_no_language_is_forced_on_a_model_of_several(tables: tuple[str | None, ...], run: Run) -> None:
    """The last is a table whose rows name others than it does."""
    use = spoken(run, *tables).split("\n## Use\n")[1]
    assert 'language="' not in use
    assert use.count("language=None,") == 3  # transformers is not told any
    assert "-l auto" in use
    assert use.count(TOLD_OF_EACH) == len(EXPORTS)


def test_the_card_the_space_and_an_exports_readme_say_the_same(run: Run) -> None:
    for told in ("sv", None):
        written = spoken(run, "sv", None, model=told)
        publish(str(run.folder), "me/whisper-noise", formats="transformers", space=True, verify=False, dry_run=True)
        settings = json.loads((run.folder / "publish" / "space" / "space.json").read_text())
        assert settings["language"] == told
        command = whisper_cli("ggml-model-q5_0.bin", _spoken(find_model(str(run.folder))))
        assert command in written
        assert written.count('language="sv"') == (len(EXPORTS) if told else 0)


def test_who_else_speaks_is_told(run: Run) -> None:
    for tables in (("sv", None), ("sv",)):
        written = spoken(run, *tables)
        assert "fine-tuned for Swedish (`sv`) and the languages that rows alone name: " in written
        assert ModelCard(written).data.language == ["sv"]
    assert "fine-tuned for Swedish (`sv`), Danish (`da`): " in spoken(run, "sv", "da")
    assert "fine-tuned for Swedish (`sv`): " in spoken(run, "sv", None, model="sv")
    assert "fine-tuned: " in spoken(run, None, None)


def test_of_a_stream_the_recipe_is_believed(run: Run) -> None:
    """Its model is told no language: rows in others might have come."""
    written = spoken(run, "sv", streaming=True)
    assert "fine-tuned for Swedish (`sv`): " in written
    assert "language=None," in written


def test_clips_of_another_language_than_trains_were_verified_as_theirs(
    tiny: ModelFolder, noises: Path, tmp_path: Path
) -> None:
    for name, dev, told in (("same", "sv", "With the arguments of the verification; `pip"), ("ja", "ja", TOLD_OF_EACH)):
        run = finished_run(tmp_path / name, tiny.path, noises)
        recipe = load_recipe(run.resolved_recipe)
        table = recipe.data.dev[0].model_copy(update={"language": dev})
        data = recipe.data.model_copy(update={"dev": (table,)})
        save_recipe(recipe.model_copy(update={"data": data}), run.resolved_recipe)
        written = card(read_facts(run), EXPORTS, "me/whisper-noise", licence=None, multilingual=True)
        assert written.count(told) == len(EXPORTS)
        assert 'language="sv"' in written
