"""Output weights: tied as in the source, in every format that can say so; the others refuse what they cannot hold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from tests.exports import exported, logits, stored
from tests.model.openai_checkpoint import random_contents
from whispertune.decode.engines import open_engine
from whispertune.errors import InputError, ModelError
from whispertune.model.export import EXPORTERS, contents_of
from whispertune.model.formats.adapter import CONFIG, PREFIX, WEIGHTS
from whispertune.model.formats.ctranslate2 import read_ctranslate2, read_model_bin
from whispertune.model.formats.ggml import write_ggml
from whispertune.model.formats.onnx import _write_config
from whispertune.model.formats.onnx_modules import Encoder, FirstStep, NextStep, Weights
from whispertune.model.formats.openai import write_openai
from whispertune.model.formats.tied import EMBEDDINGS, PROJECTION, own_projection
from whispertune.model.formats.transformers import write_folder
from whispertune.model.load import ModelFolder, find_model
from whispertune.model.parameters import Choice, merged_state, prepare
from whispertune.service.merge import merge

FILE = "model.safetensors"


def of_its_own(embeddings: np.ndarray) -> np.ndarray:
    """Other output weights, under which other words are written and texts end where they did."""
    moved = embeddings.copy()
    moved[:50_000] = np.roll(embeddings[:50_000], 1000, axis=0)
    return moved


def parted(source: ModelFolder, folder: Path) -> ModelFolder:
    """The same model with output weights of its own."""
    state = stored(source).state
    own = of_its_own(state[EMBEDDINGS])
    write_folder(folder, {**state, PROJECTION: own}, source.shape, source.tokenizer_json, source.generation)
    return ModelFolder(str(folder), folder)


@pytest.fixture(scope="module")
def apart(tiny: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """The tiny model with output weights of its own."""
    return parted(tiny, tmp_path_factory.mktemp("apart") / "apart")


def says_tied(folder: Path) -> bool:
    told: bool = json.loads((folder / "config.json").read_text())["tie_word_embeddings"]
    return told


def is_tied(model: Any) -> bool:
    return model.proj_out.weight is model.model.decoder.embed_tokens.weight


def test_it_loads_as_it_is(apart: ModelFolder, tiny: ModelFolder) -> None:
    model = apart.load()
    assert not is_tied(model)
    state = merged_state(model)
    assert np.array_equal(state[PROJECTION], of_its_own(state[EMBEDDINGS]))
    assert not torch.allclose(logits(model), logits(tiny.load()))


@pytest.mark.parametrize("quantization", ["float32", "float16"])
def test_transformers(quantization: str, apart: ModelFolder, tiny: ModelFolder, tmp_path: Path) -> None:
    for source in (apart, tiny):
        out = exported(source, "transformers", quantization, tmp_path / Path(source.name).name)
        state, expected = load_file(out / FILE), stored(source).state
        assert state.keys() == expected.keys()
        for name, array in expected.items():
            assert np.array_equal(state[name], array.astype(quantization)), name
        assert says_tied(out) == is_tied(find_model(str(out)).load()) == (source is tiny)


@pytest.mark.parametrize("told", [True, False])
def test_the_weights_count_and_not_what_config_says(
    told: bool, apart: ModelFolder, tiny: ModelFolder, tmp_path: Path
) -> None:
    """As transformers has it: both may be stored of tied ones too."""
    for source in (apart, tiny):
        folder = tmp_path / Path(source.name).name
        shutil.copytree(source.path, folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": told}))
        state = load_file(folder / FILE)
        save_file({PROJECTION: state[EMBEDDINGS], **state}, folder / FILE, metadata={"format": "pt"})
        out = exported(ModelFolder("copy", folder), "transformers", "float32", folder / "out")
        assert says_tied(out) == (PROJECTION not in load_file(out / FILE)) == (source is tiny)


def test_pickled_ones(apart: ModelFolder, tmp_path: Path) -> None:
    shutil.copytree(apart.path, tmp_path, dirs_exist_ok=True)
    (tmp_path / FILE).unlink()
    torch.save(apart.load().state_dict(), tmp_path / "pytorch_model.bin")
    found, expected = merged_state(ModelFolder("pickled", tmp_path).load()), merged_state(apart.load())
    assert all(np.array_equal(found[name], array) for name, array in expected.items())


def test_they_have_the_shape_of_the_embeddings(apart: ModelFolder, tmp_path: Path) -> None:
    shutil.copytree(apart.path, tmp_path, dirs_exist_ok=True)
    state = load_file(tmp_path / FILE)
    for wrong, message in ((state[PROJECTION][:-1], "proj_out.weight has the shape"), (None, "proj_out.weight first")):
        kept = {name: array for name, array in (state | {PROJECTION: wrong}).items() if array is not None}
        save_file(kept, tmp_path / FILE, metadata={"format": "pt"})
        with pytest.raises(ModelError, match=message):
            ModelFolder("wrong", tmp_path).load()


@pytest.mark.parametrize("quantization", ["float32", "float16", "bfloat16"])
def test_ctranslate2(quantization: str, apart: ModelFolder, tiny: ModelFolder, tmp_path: Path) -> None:
    out = exported(apart, "ct2", quantization, tmp_path / "apart")
    source, state = stored(apart).state, read_ctranslate2(out).state
    assert state.keys() == source.keys()
    for name in (PROJECTION, EMBEDDINGS):
        expected = torch.from_numpy(source[name]).to(getattr(torch, quantization))
        assert torch.equal(torch.tensor(state[name]).to(expected.dtype), expected)
    assert (out / "model.bin").read_bytes().endswith(bytes(4))  # no other names of arrays
    assert "decoder/projection/weight" not in read_model_bin(
        exported(tiny, "ct2", quantization, tmp_path / "t") / "model.bin"
    )
    if quantization == "float32":
        back = merged_state(find_model(str(out)).load())
        assert all(np.array_equal(back[name], array) for name, array in source.items())


@pytest.mark.parametrize("quantization", ["float32", "int8"])
def test_ctranslate2_computes_with_them(quantization: str, sure: ModelFolder, tmp_path: Path) -> None:
    apart = parted(sure, tmp_path / "apart")
    mel = torch.randn((2, 80, 3000), generator=torch.Generator().manual_seed(0))
    out = exported(apart, "ct2", quantization, tmp_path / "out")
    expected = open_engine("transformers", str(apart.path)).decode(mel, "en", "transcribe")
    assert open_engine("ctranslate2", str(out)).decode(mel, "en", "transcribe") == expected
    assert open_engine("transformers", str(sure.path)).decode(mel, "en", "transcribe") != expected


def test_onnx_computes_with_them(apart: ModelFolder, tmp_path: Path) -> None:
    contents, shape = contents_of(apart), apart.shape
    mel = torch.randn((1, 80, 3000), generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[50258, 50259, 1000]])
    weights = Weights(contents.state, "decoder", torch.float32)
    with torch.no_grad():
        encoder = Encoder(Weights(contents.state, "encoder", torch.float32), shape.encoder_layers, shape.encoder_heads)
        first, *past = FirstStep(weights, shape.decoder_layers, shape.decoder_heads)(ids[:, :2], encoder(mel))
        after, *_ = NextStep(weights, shape.decoder_layers, shape.decoder_heads)(ids[:, 2:], past)
    torch.testing.assert_close(torch.cat([first, after], dim=1), logits(apart.load()), atol=1e-4, rtol=0)
    in_bytes = FirstStep(Weights(contents.state, "decoder", torch.float16, in_bytes=True), 1, 2)
    assert in_bytes.output is not None
    assert not torch.equal(in_bytes.output.levels, in_bytes.tokens.levels)  # type: ignore[arg-type]
    _write_config(contents, tmp_path)
    assert not says_tied(tmp_path)


@pytest.mark.parametrize(("write", "runtime"), [(write_openai, "openai-whisper"), (write_ggml, "whisper.cpp")])
def test_runtimes_that_tie_always_are_not_given_another_model(write: Any, runtime: str, tmp_path: Path) -> None:
    contents = random_contents()
    tied = {**contents.state, PROJECTION: contents.state[EMBEDDINGS]}
    write(type(contents)(tied, contents.shape, contents.tokenizer_json, contents.generation), tmp_path, "float16")
    (written,) = tmp_path.iterdir()
    written.unlink()
    own = {**contents.state, PROJECTION: of_its_own(contents.state[EMBEDDINGS])}
    with pytest.raises(InputError, match=rf"{runtime} has no output weights(.|\n)*--to transformers, ct2 or onnx"):
        write(type(contents)(own, contents.shape, contents.tokenizer_json, contents.generation), tmp_path, "float16")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("to", ["openai", "ggml"])
def test_nor_by_export(to: str, base: ModelFolder, tmp_path: Path) -> None:
    contents = random_contents(dtype="float32")
    own = {**contents.state, PROJECTION: of_its_own(contents.state[EMBEDDINGS])}
    write_folder(tmp_path / "model", own, contents.shape, contents.tokenizer_json, contents.generation)
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="has its own"):
        EXPORTERS[to].write(find_model(str(tmp_path / "model")), tmp_path / "out", "float16")


def test_merged_with_a_tied_one(apart: ModelFolder, tiny: ModelFolder, tmp_path: Path) -> None:
    for number, models in enumerate([(apart, tiny), (tiny, apart)]):
        out = tmp_path / str(number)
        merge([each.name for each in models], out, weights=[0.75, 0.25])
        states = [merged_state(each.load()) for each in models]
        found = merged_state(find_model(str(out)).load())
        for name, array in found.items():
            np.testing.assert_allclose(array, 0.75 * states[0][name] + 0.25 * states[1][name], atol=1e-6)
        assert own_projection(found) is not None
        assert not says_tied(out)
    merge([tiny.name, tiny.name], tmp_path / "tied", weights=[0.3, 0.7])
    assert says_tied(tmp_path / "tied")
    assert PROJECTION not in load_file(tmp_path / "tied" / FILE)


def test_adapters_leave_them_as_they_are(apart: ModelFolder) -> None:
    model = apart.load()
    parameters = prepare(model, Choice("lora"))
    assert not model.proj_out.weight.requires_grad
    assert parameters.trained == sum(each.numel() for name, each in model.named_parameters() if "lora_" in name)
    whole = apart.load()
    prepare(whole, Choice())
    assert whole.proj_out.weight.requires_grad


def test_an_adapter_of_such_a_model(apart: ModelFolder, tiny: ModelFolder, tmp_path: Path) -> None:
    """It may be beside the output too, which of a tied model would part the two."""
    layers = {"model.decoder.layers.0.self_attn.q_proj": (16, 16), "proj_out": (tiny.shape.vocabulary, 16)}
    random = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for layer, (outputs, inputs) in layers.items():
        arrays[f"{PREFIX}{layer}.lora_A.weight"] = random.normal(size=(2, inputs)).astype(np.float32)
        arrays[f"{PREFIX}{layer}.lora_B.weight"] = random.normal(size=(outputs, 2)).astype(np.float32)
    save_file(arrays, tmp_path / WEIGHTS)

    def of(base: ModelFolder) -> ModelFolder:
        settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": str(base.path)}
        (tmp_path / CONFIG).write_text(json.dumps(settings))
        return find_model(str(tmp_path))

    before, after = merged_state(apart.load()), merged_state(of(apart).load())
    for layer in layers:
        parts = [arrays[f"{PREFIX}{layer}.lora_{part}.weight"] for part in ("B", "A")]
        added = 2 * parts[0] @ parts[1]
        np.testing.assert_allclose(after[f"{layer}.weight"], before[f"{layer}.weight"] + added, atol=1e-5)
    assert np.array_equal(after[EMBEDDINGS], before[EMBEDDINGS])
    with pytest.raises(ModelError, match="no linear layer of this model"):
        of(tiny)
