"""Adapters: what a run keeps is what peft loads, what peft writes is read, and what is neither is one clear error."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from tests.exports import logits, untied
from whispertune.errors import InputError, ModelError
from whispertune.model.adapters import AdapterSettings
from whispertune.model.formats.adapter import (
    CONFIG,
    KEPT,
    PICKLED,
    WEIGHTS,
    AdapterConfig,
    base_name,
    is_adapter,
    keep_adapter,
    kept_base,
    read_adapter,
    write_adapter,
)
from whispertune.model.formats.contents import Contents
from whispertune.model.load import ModelFolder, find_model
from whispertune.model.merge import put
from whispertune.model.parameters import Choice, merged_state, prepare

# peft 0.21 asks transformers 5.23 by a name that is going.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

KINDS = {
    "lora": AdapterSettings(rank=4, alpha=6.0),
    "rslora": AdapterSettings(rank=4, alpha=6.0, rslora=True),
    "dora": AdapterSettings(rank=3, alpha=7.5, dora=True),
}


def shaken(model: Any, names: tuple[str, ...] = ("lora_",), seed: int = 0) -> Any:
    """The same model with other numbers in these of its parameters, as after some training."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if any(part in name for part in names):
                value.add_(torch.randn(value.shape, generator=random) * 0.2)
    return model


def trained(tiny: ModelFolder, settings: AdapterSettings) -> Any:
    """The tiny model in the middle of a run with adapters."""
    model = tiny.load()
    choice = Choice("lora", targets=("attention", "decoder.layers.*.fc1"), adapters=settings)
    prepare(model, choice)
    return shaken(model).eval()


def assert_same(ours: Contents, theirs: dict[str, np.ndarray]) -> None:
    assert ours.state.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_allclose(ours.state[name], array, atol=2e-6, err_msg=name)
        assert ours.state[name].dtype == np.float32


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_run_keeps_is_what_peft_loads(kind: str, tiny: ModelFolder, contents: Contents, tmp_path: Path) -> None:
    model = trained(tiny, KINDS[kind])
    keep_adapter(model, tmp_path, str(tiny.path))
    out = tmp_path / "out"
    out.mkdir()
    write_adapter(tmp_path, out, "float32")
    assert {path.name for path in out.iterdir()} == {WEIGHTS, CONFIG}
    assert kept_base(tmp_path) == str(tiny.path)

    merged, untouched = tiny.load(), logits(tiny.load())
    put(merged, merged_state(model))
    adapted = PeftModel.from_pretrained(tiny.load(), str(out)).eval()
    torch.testing.assert_close(logits(adapted), logits(merged), atol=1e-5, rtol=0)
    assert (logits(merged) - untouched).abs().max() > 1e-2  # the adapter does something
    assert_same(read_adapter(out, contents), untied(model))
    assert_same(read_adapter(out, contents), untied(adapted.merge_and_unload()))


def test_the_base_is_named_without_the_folders_of_this_machine(tiny: ModelFolder, tmp_path: Path) -> None:
    keep_adapter(trained(tiny, KINDS["lora"]), tmp_path, str(tiny.path))
    out = tmp_path / "out"
    out.mkdir()
    write_adapter(tmp_path, out, "float32")
    assert json.loads((out / CONFIG).read_text())["base_model_name_or_path"] == tiny.path.name
    assert str(tiny.path.parent).encode() not in (out / CONFIG).read_bytes() + (out / WEIGHTS).read_bytes()
    assert base_name(out) == tiny.path.name
    shutil.copytree(tiny.path, tmp_path / tiny.path.name)
    assert base_name(out) == str(tmp_path / tiny.path.name)  # it lies beside the adapter
    keep_adapter(trained(tiny, KINDS["lora"]), tmp_path, "openai/whisper-small")
    write_adapter(tmp_path, out, "float32")
    assert base_name(out) == "openai/whisper-small"


def test_half_precision_is_near(tiny: ModelFolder, contents: Contents, tmp_path: Path) -> None:
    model = trained(tiny, KINDS["lora"])
    keep_adapter(model, tmp_path, "me/base")
    sizes = []
    for quantization in ("float32", "float16"):
        out = tmp_path / quantization
        out.mkdir()
        write_adapter(tmp_path, out, quantization)
        sizes.append((out / WEIGHTS).stat().st_size)
    assert sizes[1] < 0.7 * sizes[0]
    expected = untied(model)
    found = read_adapter(tmp_path / "float16", contents).state
    assert max(np.abs(found[name] - expected[name]).max() for name in expected) < 2e-3


def test_a_model_that_was_trained_whole_keeps_none(tiny: ModelFolder, tmp_path: Path) -> None:
    keep_adapter(tiny.load(), tmp_path, str(tiny.path))
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"all of them were trained(.|\n)*--to transformers"):
        write_adapter(tmp_path, tmp_path, "float32")


def made_by_peft(tiny: ModelFolder, folder: Path, shake: tuple[str, ...] = ("lora_",), **settings: Any) -> Any:
    """An adapter folder of peft's own; the model that it comes to."""
    model = get_peft_model(tiny.load(), LoraConfig(**{"r": 4, "target_modules": ["q_proj", "v_proj"]} | settings))
    shaken(model, shake).save_pretrained(str(folder))
    return untied(model.merge_and_unload())


OTHERS: dict[str, dict[str, Any]] = {
    "query and value": {},
    "ranks and scales by layer": {
        "rank_pattern": {"decoder.layers.1.self_attn.q_proj": 2, "layers.0.*v_proj": 3},
        "alpha_pattern": {"encoder.*q_proj": 5},
    },
    "all that there is": {
        "target_modules": "all-linear",
        "use_dora": True,
        "use_rslora": True,
        "lora_alpha": 3,
        "rank_pattern": {"fc2": 1},
    },
    "biases": {"bias": "lora_only", "shake": ("lora_", "q_proj.base_layer.bias")},
    "all biases": {"bias": "all", "shake": ("lora_", "bias")},
    "a part as a whole": {"modules_to_save": ["conv2"], "shake": ("lora_", "conv2.modules_to_save")},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_others_adapters_are_read(kind: str, tiny: ModelFolder, contents: Contents, tmp_path: Path) -> None:
    expected = made_by_peft(tiny, tmp_path, **OTHERS[kind])
    changed = [name for name in expected if not np.array_equal(expected[name], contents.state[name])]
    assert len(changed) >= 4
    assert_same(read_adapter(tmp_path, contents), expected)
    assert is_adapter(tmp_path)
    assert base_name(tmp_path) == str(tiny.path)


def test_pickled_ones_too(tiny: ModelFolder, contents: Contents, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    expected = made_by_peft(tiny, tmp_path)
    torch.save(load_file(tmp_path / WEIGHTS), tmp_path / PICKLED)
    (tmp_path / WEIGHTS).unlink()
    assert_same(read_adapter(tmp_path, contents), expected)


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("harmed"),))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("what", ["code", "much of little", "list"])
def test_pickles_that_are_more_than_weights(
    what: str,
    legacy: bool,
    tiny: ModelFolder,
    contents: Contents,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    made_by_peft(tiny, tmp_path)
    (tmp_path / WEIGHTS).unlink()
    content: Any = {
        "code": {"a.lora_A.weight": Harmful()},
        "much of little": {"a.lora_A.weight": torch.zeros(1).expand(1 << 20, 1 << 20)},
        "list": [torch.zeros(1)],
    }[what]
    torch.save(content, tmp_path / PICKLED, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ModelError, match="a bare pickle" if legacy else "not a readable file of PyTorch"):
        read_adapter(tmp_path, contents)
    assert not (tmp_path / "harmed").exists()


def test_tokenizer_and_settings_of_the_folder_are_taken(
    tiny: ModelFolder, tiny_en: ModelFolder, contents: Contents, tmp_path: Path
) -> None:
    made_by_peft(tiny, tmp_path)
    assert read_adapter(tmp_path, contents).tokenizer_json == contents.tokenizer_json
    assert read_adapter(tmp_path, contents).generation == contents.generation
    content = json.loads(tiny.tokenizer_json)
    content["truncation"] = None
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    settings = json.loads((tiny.path / "generation_config.json").read_text()) | {"suppress_tokens": [1]}
    (tmp_path / "generation_config.json").write_text(json.dumps(settings))
    found = read_adapter(tmp_path, contents)
    assert json.loads(found.tokenizer_json) == content
    assert found.generation == replace(contents.generation, suppress=(1,))
    for other, message in ((tiny_en.tokenizer_json, "51864 tokens for a model with 51865"), (b"{}", "no readable")):
        (tmp_path / "tokenizer.json").write_bytes(other)
        with pytest.raises(ModelError, match=message):
            read_adapter(tmp_path, contents)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "adapters of the kind 'IA3'"),
        ({"init_lora_weights": "pissa"}, "began as 'pissa'"),
        ({"use_qalora": True}, "use_qalora"),
        ({"r": 5}, "where .* is expected"),
        ({"r": 0, "rank_pattern": {}}, "no rank of"),
        ({"rank_pattern": {"(": 2}}, "no rank of"),
        ({"rank_pattern": [2]}, "no settings of a LoRA adapter"),
        ({"r": "many"}, "no settings of a LoRA adapter"),
        ({"use_dora": True}, "is expected"),
        ({"lora_alpha": 1e308}, "not finite"),
    ],
)
def test_settings_that_do_not_fit(
    changes: dict[str, Any], message: str, tiny: ModelFolder, contents: Contents, tmp_path: Path
) -> None:
    made_by_peft(tiny, tmp_path)
    content = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(content | changes))
    with pytest.raises(ModelError, match=message):
        read_adapter(tmp_path, contents)


def test_adapters_of_other_models(tiny: ModelFolder, base: ModelFolder, contents: Contents, tmp_path: Path) -> None:
    made_by_peft(tiny, tmp_path)
    wide = {name: np.zeros((*array.shape[:-1], 24), np.float32) for name, array in contents.state.items()}
    with pytest.raises(ModelError, match="is expected"):
        read_adapter(tmp_path, replace(contents, state=wide))
    fewer = {name: array for name, array in contents.state.items() if "layers.1." not in name}
    with pytest.raises(ModelError, match="no linear layer of this model"):
        read_adapter(tmp_path, replace(contents, state=fewer))


def test_an_adapter_that_names_no_base(tiny: ModelFolder, tmp_path: Path) -> None:
    made_by_peft(tiny, tmp_path)
    content = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(content | {"base_model_name_or_path": None}))
    with pytest.raises(ModelError, match="which model it is for"):
        base_name(tmp_path)


def test_of_a_folder_with_a_whole_model_and_an_adapter_neither_is_taken(tiny: ModelFolder, tmp_path: Path) -> None:
    """transformers would put the adapter on the model, also where it is merged into it."""
    made_by_peft(tiny, tmp_path)
    assert is_adapter(tmp_path)
    for file in ("config.json", "model.safetensors"):
        shutil.copyfile(tiny.path / file, tmp_path / file)
    with pytest.raises(
        ModelError, match=r"whole model \(model.safetensors\) and an adapter(.|\n)*folders of their own"
    ):
        find_model(str(tmp_path))
    assert not is_adapter(tiny.path)


def test_scales_are_pefts() -> None:
    config = AdapterConfig("", 8, 16.0, rank_pattern={"fc1": 2}, alpha_pattern={"layers.0.fc1": 3.0})
    assert (config.scale("decoder.layers.0.fc1"), config.scale("decoder.layers.1.fc1")) == (1.5, 8.0)
    assert config.scale("decoder.layers.0.fc2") == 2.0
    assert replace(config, use_rslora=True).scale("decoder.layers.0.fc2") == pytest.approx(16 / 8**0.5)


def test_a_kept_file_that_is_not_ours(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(1)}, tmp_path / KEPT)
    with pytest.raises(ModelError, match="not the adapter that a run keeps"):
        write_adapter(tmp_path, tmp_path, "float32")
