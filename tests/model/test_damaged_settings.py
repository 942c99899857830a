"""Damaged JSON beside the weights of every format: one clear error, with the file and what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.exports import exported
from tests.model.openai_checkpoint import random_contents
from whispertune.errors import ModelError
from whispertune.model.export import write_generation, write_tokenizer
from whispertune.model.formats.adapter import CONFIG, PREFIX, WEIGHTS
from whispertune.model.formats.ggml import write_ggml
from whispertune.model.formats.openai import write_openai
from whispertune.model.load import ModelFolder, find_model

LAYER = "model.decoder.layers.0.self_attn.q_proj"
SETTINGS = {  # what is wrong in them, by the names that the file has for it
    "generation_config.json": ("suppress_tokens", "begin_suppress_tokens", "alignment_heads", "language", "task"),
    "config.json": ("suppress_ids", "suppress_ids_begin", "alignment_heads"),
}
WRONG = (3, True, {"a": 1}, ["x"], [[1]], [1.5], [None])
EVERY = {"openai": 3, "ggml": 5, "adapter": 5}  # one function reads all settings; where loading is slow, some


def adapter(tiny: ModelFolder, out: Path) -> None:
    parts = {"lora_A": np.ones((2, 16), np.float32), "lora_B": np.ones((16, 2), np.float32)}
    save_file({f"{PREFIX}{LAYER}.{part}.weight": array for part, array in parts.items()}, out / WEIGHTS)
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": str(tiny.path)}
    (out / CONFIG).write_text(json.dumps(settings))


WRITERS: dict[str, Callable[[ModelFolder, Path], None]] = {
    "transformers": lambda tiny, out: None,
    "ct2": lambda tiny, out: None,
    "openai": lambda tiny, out: write_openai(random_contents(), out, "float16"),
    "ggml": lambda tiny, out: write_ggml(random_contents(), out, "float16"),
    "adapter": adapter,
}


@pytest.fixture(scope="module", params=WRITERS)
def model(request: pytest.FixtureRequest, tiny: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / request.param
    if request.param in ("transformers", "ct2"):
        return exported(tiny, request.param, "float32", folder)
    folder.mkdir()
    WRITERS[request.param](tiny, folder)
    write_tokenizer(folder, tiny.tokenizer_json, 80)
    write_generation(folder, tiny.generation, tiny.vocabulary)
    return folder


def damaged_json(good: str) -> Iterator[str]:
    yield from ("", good[: len(good) // 2], "null", "[]", "3", '"text"', "[" * 100_000, "\x00")


def damaged_settings(name: str, good: str) -> Iterator[str]:
    yield from damaged_json(good)
    content = json.loads(good)
    for key in SETTINGS[name]:
        yield from (json.dumps(content | {key: value}) for value in WRONG)


def damaged_tokenizers(good: str) -> Iterator[str]:
    yield from damaged_json(good)
    yield "{}"
    content = json.loads(good)
    inner = content["model"]
    yield json.dumps(content | {"model": inner | {"merges": [*inner["merges"], ["zzz", "yyy"]]}})  # of unknown tokens
    yield json.dumps(content | {"model": inner | {"merges": None}})
    yield json.dumps(content | {"model": inner | {"vocab": None}})
    yield json.dumps(content | {"model": None})
    yield json.dumps(content | {"added_tokens": None})
    yield json.dumps(content | {"added_tokens": [3]})
    yield json.dumps(content | {"added_tokens": [{"content": "<|endoftext|>", "id": "x"}]})
    yield json.dumps(content | {"pre_tokenizer": "none such"})


def load(folder: Path) -> None:
    find_model(str(folder)).load()


def assert_refused(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(ModelError) as raised:
        load(folder)
    assert raised.value.fix, text[:200]
    assert str(raised.value.where).startswith(str(folder)), text[:200]


@pytest.fixture
def copied(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WHISPERTUNE_CACHE", str(tmp_path / "cache"))
    shutil.copytree(model, tmp_path / model.name)
    load(tmp_path / model.name)
    return tmp_path / model.name


def test_tokenizers(copied: Path) -> None:
    for text in damaged_tokenizers((copied / "tokenizer.json").read_text()):
        assert_refused(copied, "tokenizer.json", text)


def test_generation_settings(copied: Path) -> None:
    name = "generation_config.json"
    for text in islice(damaged_settings(name, (copied / name).read_text()), 0, None, EVERY.get(copied.name, 1)):
        assert_refused(copied, name, text)


def test_ctranslate2_settings(tiny: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read where there are no others."""
    monkeypatch.setenv("WHISPERTUNE_CACHE", str(tmp_path / "cache"))
    folder = exported(tiny, "ct2", "float32", tmp_path / "model")
    (folder / "generation_config.json").unlink()
    for text in damaged_settings("config.json", (folder / "config.json").read_text()):
        assert_refused(folder, "config.json", text)


def test_the_shape(tiny: ModelFolder, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny.path, folder)
    good = (folder / "config.json").read_text()
    content = json.loads(good)
    for text in damaged_json(good):
        assert_refused(folder, "config.json", text)
    for key in ("d_model", "encoder_layers", "vocab_size", "decoder_attention_heads", "activation_function"):
        for value in (None, [], "x", -1, {"a": 1}):
            assert_refused(folder, "config.json", json.dumps(content | {key: value}))


def test_a_tokenizer_that_is_not_there(tiny: ModelFolder, tmp_path: Path) -> None:
    folder = exported(tiny, "ct2", "float32", tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"no tokenizer\.json in the folder"):
        load(folder)
