"""The parts of a card that depend on where a run's base and its rows are now."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.finished_run import finished_run
from whispertune.cli.publish import publish
from whispertune.model.load import ModelFolder
from whispertune.publish.card import card
from whispertune.publish.exported import Exported, parse_formats
from whispertune.publish.facts import read_facts
from whispertune.publish.failures import NOT_KNOWN
from whispertune.recipe import SourceTable
from whispertune.recipe_file import load_recipe, save_recipe
from whispertune.train.run import Run

ADAPTER = Exported("adapter", "float32", "adapter", 2_000_000, "peft 0.21.2", None)


def use(run: Run) -> str:
    text = card(read_facts(run), (ADAPTER,), "me/whisper-noise", licence=None, multilingual=True)
    return text.partition("\n## Use\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize(
    ("began_with", "on_hub"),
    [("bundled:whisper-base", "openai/whisper-base"), ("someone/whisper-sv", "someone/whisper-sv")],
)
def test_an_adapter_is_put_on_its_base_on_the_hub(
    began_with: str, on_hub: str, tiny: ModelFolder, noises: Path, tmp_path: Path
) -> None:
    told = use(finished_run(tmp_path / "run", tiny.path, noises, base=began_with))
    assert f'WhisperForConditionalGeneration.from_pretrained("{on_hub}", dtype=torch.float32)' in told
    assert 'PeftModel.from_pretrained(model, "me/whisper-noise", subfolder="adapter")' in told


def test_an_adapter_whose_base_is_not_there_has_no_program(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    """Also where that is a run, which began with a model of the hub: the adapter belongs to the run's weights."""
    first = finished_run(tmp_path / "first", tiny.path, noises)
    for number, base in enumerate((tiny.path, first.folder)):
        told = use(finished_run(tmp_path / f"{number}", tiny.path, noises, base=str(base)))
        assert f"No program: the model that this adapter belongs to, {base.name}, is not on the hub" in told
        assert "```" not in told


def test_failures_are_looked_for_in_the_rows_that_were_decoded(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    """Dev's rows have the same ids as those of a test set that was moved, and are others."""
    shutil.copytree(noises / "dev", tmp_path / "data" / "dev")
    run = finished_run(tmp_path / "run", tiny.path, tmp_path / "data", test=True)
    readme = run.folder / "publish" / "README.md"
    publish(str(run.folder), "me/whisper-noise", formats="transformers", verify=False, dry_run=True)
    assert NOT_KNOWN not in readme.read_text()
    recipe = load_recipe(run.resolved_recipe)
    moved = recipe.data.model_copy(update={"test": (SourceTable(source=str(tmp_path / "moved")),)})
    save_recipe(recipe.model_copy(update={"data": moved}), run.resolved_recipe)
    publish(str(run.folder), "me/whisper-noise", formats="transformers", verify=False, dry_run=True)
    assert NOT_KNOWN in readme.read_text()


def test_whisper_cpps_names_of_quantizations() -> None:
    assert [each.quantization for each in parse_formats("ggml:f16,openai:f32")] == ["float16", "float32"]
