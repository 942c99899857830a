"""Base and licence of a model are told as far as they are known, however often it is exported, merged and tuned on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import metadata_load

from tests.finished_run import finished_run
from tests.publish.small import small_model
from whispertune.decode.context import Mark, mark_of
from whispertune.errors import ModelError
from whispertune.model.formats.ggml import FILES
from whispertune.model.load import MARK, ModelFolder
from whispertune.publish.card import card
from whispertune.publish.exported import Exported
from whispertune.publish.facts import read_facts
from whispertune.publish.origin import Origin, origin_of
from whispertune.service.export import export_model
from whispertune.service.merge import merge

BASE = Origin("openai/whisper-base", "openai/whisper-base", "apache-2.0")
CT2 = Exported("ct2", "float16", "ct2", 1, "faster-whisper 1.2.1", None)
TINY = Origin("openai/whisper-tiny.en", "openai/whisper-tiny.en", "apache-2.0")


@pytest.mark.parametrize(
    ("model", "name", "hub_name", "licence"),
    [
        ("bundled:whisper-tiny.en", "openai/whisper-tiny.en", "openai/whisper-tiny.en", "apache-2.0"),
        ("openai/whisper-large-v3", "openai/whisper-large-v3", "openai/whisper-large-v3", "apache-2.0"),
        ("openai/whisper-large-v3-turbo", "openai/whisper-large-v3-turbo", "openai/whisper-large-v3-turbo", "mit"),
        ("openai/whisper-new", "openai/whisper-new", "openai/whisper-new", "MIT (openai/whisper)"),
        ("openai/gpt", "openai/gpt", "openai/gpt", None),
        ("someone/whisper-sv", "someone/whisper-sv", "someone/whisper-sv", None),
        ("/home/nobody/models/mine", "mine", None, None),
    ],
)
def test_where_a_model_comes_from(model: str, name: str, hub_name: str | None, licence: str | None) -> None:
    assert Origin.of(model) == origin_of(model) == Origin(name, hub_name, licence)


def test_a_run_on_a_run_comes_from_its_base(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "my-run", tiny.path, noises)
    assert Origin.of(str(run.folder)) == Origin("my-run", "openai/whisper-base", "apache-2.0")
    for folder in (run.folder, run.model):
        assert origin_of(str(folder)) == BASE


def test_the_base_of_an_adapter(tmp_path: Path) -> None:
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "openai/whisper-base"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    assert origin_of(str(tmp_path)) == BASE


@pytest.mark.parametrize(("to", "file"), [("ct2", ""), ("openai", "model.pt"), ("ggml", FILES["float16"])])
def test_an_export_of_an_export_knows_it(to: str, file: str, noises: Path, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "my-run", small_model(tmp_path / "small").path, noises)
    Mark(("full", "fit"), "average").write(run.model)
    model = str(run.folder)
    for number, each in enumerate((to, "transformers")):
        out = tmp_path / f"out{number}"
        export_model(model, each, out, verify=False)
        lines = (out / "README.md").read_text().splitlines()
        assert "- Base model: openai/whisper-base (https://huggingface.co/openai/whisper-base)" in lines
        assert "- Licence of the base model: apache-2.0" in lines
        assert mark_of(str(out)) == Mark(("full", "fit"), "average")
        model = str(out / file) if number == 0 else str(out)
    assert origin_of(model) == BASE
    assert Origin.of(model) == Origin("out1", "openai/whisper-base", "apache-2.0")


def test_of_a_merged_folder_it_says_all_it_was_made_of(tiny_en: ModelFolder, tmp_path: Path) -> None:
    shutil.copytree(tiny_en.path, tmp_path / "mine")
    merge(["bundled:whisper-tiny.en", str(tmp_path / "mine")], tmp_path / "mean")
    found = origin_of(str(tmp_path / "mean"))
    assert found.parts == (TINY, Origin("mine", None, None))
    assert found.licence == "openai/whisper-tiny.en: apache-2.0; mine: not known"
    export_model(str(tmp_path / "mean"), "transformers", tmp_path / "out", quantization="float16", verify=False)
    told = "a merge of openai/whisper-tiny.en (https://huggingface.co/openai/whisper-tiny.en) and mine"
    lines = (tmp_path / "out" / "README.md").read_text().splitlines()
    assert f"- Base model: {told} (its origin is not known here)" in lines
    assert f"- Licence of the base model: {found.licence}" in lines
    assert origin_of(str(tmp_path / "out")) == found


def test_a_merged_run_is_of_what_it_began_with(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "my-run", tiny.path, noises)
    again = finished_run(tmp_path / "again", tiny.path, noises)
    merge([str(run.folder), str(again.folder)], tmp_path / "mean")
    shutil.rmtree(run.folder)
    found = origin_of(str(tmp_path / "mean"))
    assert found.parts == tuple(replace(BASE, name=name) for name in ("my-run", "again"))
    assert (found.licence, found.hubs) == ("apache-2.0", ("openai/whisper-base",))


def test_merged_of_one_licence() -> None:
    assert Origin.merged((BASE, TINY)).licence == "apache-2.0"
    assert Origin.merged((Origin("a", None, None), Origin("b", None, None))).licence is None


def marked(tiny: ModelFolder, folder: Path, **origin: object) -> Path:
    shutil.copytree(tiny.path, folder)
    (folder / MARK).write_text(json.dumps({"contexts": ["full"], "weights": "merged", "origin": origin}))
    return folder


def test_the_card_of_a_run_on_a_merged_folder(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    base = marked(tiny, tmp_path / "mean", models=["openai/whisper-base", "someone/whisper-sv"], weights=[0.5, 0.5])
    run = finished_run(tmp_path / "my-run", tiny.path, noises, base=str(base))
    text = card(read_facts(run), [CT2], "me/whisper-noise", licence=None, multilingual=True)
    (tmp_path / "README.md").write_text(text)
    links = [f"[{each}](https://huggingface.co/{each})" for each in ("openai/whisper-base", "someone/whisper-sv")]
    licence = "openai/whisper-base: apache-2.0; someone/whisper-sv: not known"
    assert f"- Its base: mean, a merge of {links[0]} and {links[1]}; licence: {licence}" in text.splitlines()
    head = metadata_load(tmp_path / "README.md")
    assert head is not None
    assert head["base_model"] == ["openai/whisper-base", "someone/whisper-sv"]


def test_softened_weights_are_those_of_their_run(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "my-run", tiny.path, noises)
    softened = marked(tiny, run.folder / "softened", base="whisper-base-of-mine", tuned="my-run")
    assert origin_of(str(softened)) == BASE
    elsewhere = marked(tiny, tmp_path / "elsewhere", base="openai/whisper-base", tuned="my-run")
    assert origin_of(str(elsewhere)) == BASE


@pytest.mark.parametrize(
    "written", ["{", "[1, 2]", '{"base": 3}', '{"base": {"name": 1}}', '{"origin": [1]}', "[" * 9999]
)
def test_a_mark_that_says_nothing_of_it(written: str, tmp_path: Path) -> None:
    (tmp_path / MARK).write_text(written)
    assert origin_of(str(tmp_path)) == Origin(tmp_path.name, None, None)


def test_a_damaged_mark_is_no_export(tiny: ModelFolder, tmp_path: Path) -> None:
    source = marked(tiny, tmp_path / "source")
    (source / MARK).write_text("{")
    with pytest.raises(ModelError, match=rf"{source}/{MARK}: cannot be read"):
        export_model(str(source), "transformers", tmp_path / "out", verify=False)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
