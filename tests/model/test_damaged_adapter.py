"""Damaged adapters: one clear error each, or an adapter like any other."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from tests.model.damage import damaged_safetensors, flipped, header_of, refused
from whispertune.model.formats.adapter import CONFIG, WEIGHTS, AdapterConfig, read_adapter
from whispertune.model.formats.contents import Contents
from whispertune.model.load import ModelFolder

# peft 0.21 asks transformers 5.23 by a name that is going.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")


@pytest.fixture(scope="module")
def adapter(tiny: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    model = get_peft_model(tiny.load(), LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value)  # it has learned something
    model.save_pretrained(str(folder))
    return folder


def test_safetensors_of_adapters(adapter: Path, contents: Contents, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(adapter, folder)
    files = list(damaged_safetensors((folder / WEIGHTS).read_bytes()))
    assert not refused(folder / WEIGHTS, (adapter / WEIGHTS).read_bytes(), lambda: read_adapter(folder, contents))
    passed = [each for each in files if not refused(folder / WEIGHTS, each, lambda: read_adapter(folder, contents))]
    assert len(passed) <= 8
    for each in passed:
        header = header_of(each)[0]
        assert all("lora_" in name for name in header if name != "__metadata__")


def test_settings_of_adapters(adapter: Path, contents: Contents, tmp_path: Path) -> None:
    """A changed letter may be one that is not read, or another base or scale; whatever else it is, it is refused."""
    folder = tmp_path / "adapter"
    shutil.copytree(adapter, folder)
    path = folder / CONFIG
    good, whole = path.read_bytes(), read_adapter(folder, contents).state
    random = np.random.default_rng(0)
    broken = [good[: int(end)] for end in random.integers(0, len(good), 10)] + [b"[" * 100_000, b"null", b"\xff"]
    flips = [flipped(good, int(random.integers(len(good))), int(random.integers(8))) for _ in range(60)]
    damaged = {each: refused(path, each, lambda: read_adapter(folder, contents)) for each in broken + flips}
    assert all(damaged[each] for each in broken)
    passed = [each for each, was in damaged.items() if not was]
    assert 0 < len(passed) < len(flips)
    settings = asdict(AdapterConfig.from_json(json.loads(good), ""))
    for each in passed:
        other = asdict(AdapterConfig.from_json(json.loads(each), ""))
        changed = {name for name, value in other.items() if value != settings[name]} - {"base_model_name_or_path"}
        assert changed <= {"lora_alpha"}
        path.write_bytes(each)
        found = read_adapter(folder, contents).state
        assert all(np.array_equal(found[name], array) for name, array in whole.items()) == (not changed)
