"""ONNX: the graphs compute what transformers computes, under the names that other readers know."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from transformers import WhisperConfig, WhisperForConditionalGeneration

from tests.exports import stored
from whispertune.model.encoder import swap_encoder
from whispertune.model.formats import onnx as writing
from whispertune.model.formats.contents import Contents
from whispertune.model.formats.onnx import write_onnx
from whispertune.model.formats.transformers import config_for
from whispertune.model.load import ModelFolder

FILES = ("encoder_model.onnx", "decoder_model.onnx", "decoder_with_past_model.onnx")


@pytest.fixture(scope="module")
def one_layer(tiny: ModelFolder) -> Contents:
    """The tiny model with the first layer of each part alone, which exports in half the time."""
    contents = stored(tiny)
    state = {name: array for name, array in contents.state.items() if ".layers.1." not in name}
    return replace(contents, state=state, shape=replace(contents.shape, encoder_layers=1, decoder_layers=1))


def model_of(state: Mapping[str, np.ndarray], contents: Contents, tiny: ModelFolder) -> Any:
    """These weights in transformers, in float32."""
    model = WhisperForConditionalGeneration(config_for(contents.shape, tiny.vocabulary))
    found = model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()}, strict=False)
    assert found.missing_keys == ["proj_out.weight"]
    return model.eval()


@pytest.fixture(scope="module")
def written(tiny: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("float32")
    write_onnx(stored(tiny), out, "float32")
    return out


@pytest.fixture(scope="module")
def sessions(written: Path) -> list[Any]:
    return opened(written)


def opened(folder: Path) -> list[Any]:
    """Encoder, first step and next step in ONNX Runtime."""
    return [onnxruntime.InferenceSession(str(folder / name), providers=["CPUExecutionProvider"]) for name in FILES]


def shown(session: Any) -> tuple[dict[str, list[Any]], list[str]]:
    """The inputs with their shapes, and the names of the outputs."""
    return {given.name: given.shape for given in session.get_inputs()}, [out.name for out in session.get_outputs()]


def mels(rows: int, frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (rows, 80, frames)).astype(np.float32)


def ids(rows: int, tokens: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 51865, (rows, tokens))


def logits_of(sessions: list[Any], mel: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    (states,) = sessions[0].run(None, {"input_features": mel})
    found: np.ndarray = sessions[1].run(["logits"], {"input_ids": tokens, "encoder_hidden_states": states})[0]
    return found


def transformers_logits(model: Any, mel: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        found = model(torch.from_numpy(mel), decoder_input_ids=torch.from_numpy(tokens)).logits
    logits: np.ndarray = found.numpy()
    return logits


def test_logits_are_those_of_transformers(tiny: ModelFolder, sessions: list[Any]) -> None:
    mel, tokens = mels(2, 3000), ids(2, 7)
    expected = transformers_logits(tiny.load(), mel, tokens)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(logits_of(sessions, mel, tokens), expected, atol=1e-5)


@pytest.mark.parametrize("frames", [2, 64, 500])
def test_fewer_frames_give_what_the_training_encoder_gives(frames: int, tiny: ModelFolder, sessions: list[Any]) -> None:
    mel = mels(1, frames)
    with torch.no_grad():
        expected = swap_encoder(tiny.load())(torch.from_numpy(mel)).last_hidden_state.numpy()
    (states,) = sessions[0].run(None, {"input_features": mel})
    np.testing.assert_allclose(states, expected, atol=1e-5)


@settings(max_examples=15)
@given(rows=st.integers(1, 3), prompt=st.integers(1, 6), more=st.integers(1, 5), frames=st.integers(1, 40))
def test_with_past_is_as_without(sessions: list[Any], rows: int, prompt: int, more: int, frames: int) -> None:
    _, first, following = sessions
    tokens = ids(rows, prompt + more, seed=more)
    states = np.random.default_rng(frames).normal(0, 1, (rows, frames, 16)).astype(np.float32)
    at_once = first.run(["logits"], {"input_ids": tokens, "encoder_hidden_states": states})[0]
    logits, *present = first.run(None, {"input_ids": tokens[:, :prompt], "encoder_hidden_states": states})
    np.testing.assert_allclose(logits, at_once[:, :prompt], atol=1e-5)
    past = dict(zip(list(shown(following)[0])[1:], present, strict=True))
    for place in range(prompt, prompt + more):
        logits, *present = following.run(None, {"input_ids": tokens[:, place : place + 1], **past})
        np.testing.assert_allclose(logits[:, 0], at_once[:, place], atol=1e-5)
        kept = [name for name in past if ".decoder." in name]
        past |= dict(zip(kept, present, strict=True))


def test_names_and_free_lengths_are_those_that_readers_know(sessions: list[Any]) -> None:
    encoder, first, following = map(shown, sessions)
    assert encoder == ({"input_features": ["batch_size", 80, "feature_size"]}, ["last_hidden_state"])
    own = [f"{layer}.decoder.{what}" for layer in (0, 1) for what in ("key", "value")]
    every = [f"{layer}.{of}.{what}" for layer in (0, 1) for of in ("decoder", "encoder") for what in ("key", "value")]
    assert first[0] == {
        "input_ids": ["batch_size", "decoder_sequence_length"],
        "encoder_hidden_states": ["batch_size", "encoder_sequence_length", 16],
    }
    assert first[1] == ["logits", *(f"present.{name}" for name in every)]
    lengths = {"decoder": "past_decoder_sequence_length", "encoder": "encoder_sequence_length"}
    cached = {f"past_key_values.{name}": ["batch_size", 2, lengths[name.split(".")[1]], 8] for name in every}
    assert following[0] == {"input_ids": ["batch_size", 1], **cached}
    assert following[1] == ["logits", *(f"present.{name}" for name in own)]


def test_config_is_the_models(written: Path, tiny: ModelFolder) -> None:
    config = WhisperConfig.from_pretrained(written)
    assert (config.d_model, config.decoder_layers, config.vocab_size) == (16, 2, 51865)
    assert config.decoder_start_token_id == tiny.vocabulary.start


def test_files_say_nothing_of_this_machine(written: Path) -> None:
    for name in FILES:
        content = (written / name).read_bytes()
        for trace in (os.fsencode(Path(writing.__file__).parent), b"site-packages", b"stack_trace"):
            assert trace not in content


def test_the_embeddings_are_kept_once_and_bit_exact(written: Path, tiny: ModelFolder) -> None:
    embeddings = stored(tiny).state["model.decoder.embed_tokens.weight"]
    for name in FILES[1:]:
        large = [each for each in onnx.load(written / name).graph.initializer if np.prod(each.dims) >= 51865]
        assert len(large) == 1
        np.testing.assert_array_equal(numpy_helper.to_array(large[0]), embeddings)


def test_float16_halves_the_files_and_loses_nothing_of_a_float16_source(
    one_layer: Contents, tiny: ModelFolder, tmp_path: Path
) -> None:
    halves = {name: array.astype(np.float16) for name, array in one_layer.state.items()}
    write_onnx(replace(one_layer, state=halves), tmp_path, "float16")
    mel, tokens = mels(1, 3000), ids(1, 5)
    found = logits_of(opened(tmp_path), mel, tokens)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, transformers_logits(model_of(halves, one_layer, tiny), mel, tokens), atol=1e-5)
    assert (tmp_path / FILES[1]).stat().st_size < 1.05 * 2 * halves["model.decoder.embed_tokens.weight"].size


def test_int8_keeps_a_byte_a_weight(one_layer: Contents, tiny: ModelFolder, tmp_path: Path) -> None:
    write_onnx(one_layer, tmp_path, "int8")
    for name, products in zip(FILES, (6, 11, 9), strict=True):
        graph = onnx.load(tmp_path / name).graph
        assert sum(node.op_type == "MatMulNBits" for node in graph.node) == products
        assert sum(each.data_type == onnx.TensorProto.UINT8 for each in graph.initializer) == products  # tied
    mel, tokens = mels(1, 3000), ids(1, 5)
    exact = transformers_logits(model_of(one_layer.state, one_layer, tiny), mel, tokens)
    found = logits_of(opened(tmp_path), mel, tokens)
    assert 0 < np.abs(found - exact).mean() < 0.02 * exact.std()


def test_weights_of_large_models_lie_beside_the_graph(
    one_layer: Contents, tiny: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "LARGEST_BYTES", 1000)
    write_onnx(one_layer, tmp_path, "float32")
    assert (tmp_path / "decoder_model.onnx").stat().st_size < 200_000
    assert (tmp_path / "decoder_model.onnx_data").stat().st_size > 3_000_000
    mel, tokens = mels(1, 3000), ids(1, 5)
    expected = transformers_logits(model_of(one_layer.state, one_layer, tiny), mel, tokens)
    np.testing.assert_allclose(logits_of(opened(tmp_path), mel, tokens), expected, atol=1e-5)
