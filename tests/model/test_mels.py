"""Models of 128 mels, as large-v3 is: every format says so, and brings filters and settings for as many."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from transformers import WhisperFeatureExtractor

from tests.exports import exported, stored
from tests.model.openai_checkpoint import random_contents
from whispertune.model.adapters import AdapterSettings
from whispertune.model.export import EXPORTERS
from whispertune.model.formats.adapter import keep_adapter
from whispertune.model.formats.ctranslate2 import read_ctranslate2
from whispertune.model.formats.ggml import FILES, read_ggml
from whispertune.model.formats.openai import FILE, Dims, read_openai
from whispertune.model.formats.transformers import write_folder
from whispertune.model.load import ModelFolder
from whispertune.model.parameters import Choice, prepare

MELS, FREQUENCIES = 128, 201
DIMS = Dims(MELS, 1500, 32, 2, 1, 51866, 448, 32, 2, 1)
HEADER = struct.calcsize("<I11i")  # of ggml, before the filters


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """A narrow random model with the mels and the tokens of large-v3, and an adapter beside it, as in a run."""
    folder = tmp_path_factory.mktemp("large")
    contents = random_contents(DIMS)
    write_folder(folder, contents.state, contents.shape, contents.tokenizer_json, contents.generation)
    found = ModelFolder(str(folder), folder)
    model = found.load()
    prepare(model, Choice("lora", adapters=AdapterSettings(rank=2)))
    keep_adapter(model, folder, "openai/whisper-large-v3")
    return found


@pytest.mark.parametrize("to", EXPORTERS)
def test_every_format_brings_its_preprocessor(to: str, large: ModelFolder, tmp_path: Path) -> None:
    out = exported(large, to, EXPORTERS[to].quantizations[0], tmp_path / to)
    settings = json.loads((out / "preprocessor_config.json").read_text())
    assert (settings["feature_size"], settings["n_fft"], settings["hop_length"]) == (MELS, 400, 160)
    filters = WhisperFeatureExtractor.from_pretrained(out).mel_filters
    assert filters.shape == (FREQUENCIES, MELS)
    assert np.array_equal(filters, WhisperFeatureExtractor(feature_size=MELS).mel_filters)
    if to in ("transformers", "onnx"):
        assert json.loads((out / "config.json").read_text())["num_mel_bins"] == MELS
    if to == "onnx":
        import onnx

        (features,) = onnx.load(out / "encoder_model.onnx").graph.input
        assert features.type.tensor_type.shape.dim[1].dim_value == MELS


@pytest.mark.parametrize("to", ["transformers", "ct2", "openai", "ggml"])
def test_and_comes_back_bit_exact(to: str, large: ModelFolder, tmp_path: Path) -> None:
    out = exported(large, to, "float16", tmp_path / to)
    contents = {
        "transformers": lambda: stored(ModelFolder("out", out)),
        "ct2": lambda: read_ctranslate2(out),
        "openai": lambda: read_openai(out / FILE),
        "ggml": lambda: read_ggml(out / FILES["float16"]),
    }[to]()
    source = random_contents(DIMS)
    assert contents.shape == source.shape
    assert contents.shape.n_mels == MELS
    assert contents.state.keys() == source.state.keys()
    for name, array in source.state.items():
        assert np.array_equal(contents.state[name], array), name


@pytest.mark.parametrize("quantization", EXPORTERS["ggml"].quantizations)
def test_the_filters_of_whisper_cpp(quantization: str, large: ModelFolder, tmp_path: Path) -> None:
    data = (exported(large, "ggml", quantization, tmp_path / "out") / FILES[quantization]).read_bytes()
    assert struct.unpack_from("<2i", data, HEADER) == (MELS, FREQUENCIES)
    filters = np.frombuffer(data, "<f4", MELS * FREQUENCIES, HEADER + 8).reshape(MELS, FREQUENCIES)
    expected = WhisperFeatureExtractor(feature_size=MELS).mel_filters.T
    np.testing.assert_allclose(filters, expected, rtol=1e-6, atol=0)
