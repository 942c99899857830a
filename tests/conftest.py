"""What tests share: the cache, the speech that is measured on, models, and a tiny random Whisper."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import settings

from tests.hub_client import connected
from tests.hub_server import Hub
from whispertune.data.audio import AudioReader
from whispertune.model.formats.transformers import Shape, config_for, write_folder
from whispertune.model.load import ModelFolder, find_model
from whispertune.windows.tokens import Vocabulary

ROOT = Path(__file__).parents[1]
LAST_POSITION = 15  # at which the tiny model ends its texts; they begin at 4

settings.register_profile("untimed", deadline=None)  # shared machines are slow at times
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An empty cache, so that what a fresh machine does is what is tested."""
    before = os.environ.get("WHISPERTUNE_CACHE")
    os.environ["WHISPERTUNE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["HF_HUB_OFFLINE"] = "1"
    yield
    os.environ.pop("WHISPERTUNE_CACHE")
    if before:
        os.environ["WHISPERTUNE_CACHE"] = before


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real speech beside the checkout; no part of the project."""
    folder = ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        reason = "the shared speech is not beside this checkout"
        if os.environ.get("WHISPERTUNE_REQUIRE_SHARED"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def mboshi(shared: Path) -> Path:
    """A language Whisper has never seen: train and dev folders with metadata.jsonl."""
    return shared / "data" / "mboshi"


@pytest.fixture(scope="session")
def english_read(shared: Path) -> Path:
    """Three read clips in English."""
    return shared / "data" / "english_read"


@pytest.fixture(scope="session")
def base() -> ModelFolder:
    """The real whisper-base."""
    return find_model("bundled:whisper-base")


@pytest.fixture(scope="session")
def tiny_en() -> ModelFolder:
    """The real whisper-tiny.en."""
    return find_model("bundled:whisper-tiny.en")


@pytest.fixture(scope="session")
def reader() -> Iterator[AudioReader]:
    with AudioReader() as opened:
        yield opened


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, base: ModelFolder) -> ModelFolder:
    """A random Whisper of two narrow layers, with the real vocabulary; it trains in no time, and writes short texts."""
    import torch
    from transformers import WhisperForConditionalGeneration

    shape = Shape(base.shape.vocabulary, 80, 16, 2, 2, 2, 2, 32, 32)
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(config_for(shape, base.vocabulary))
    _end_texts(model, base.vocabulary)
    return _kept(tmp_path_factory.mktemp("tiny"), model, shape, base)


def _end_texts(model: Any, vocabulary: Vocabulary) -> None:
    """Random weights write one word until they are cut off: here each position brings its own, and the last the end."""
    import torch

    decoder = model.model.decoder
    towards = torch.tensor([0.25, -0.25]).repeat(decoder.embed_positions.weight.shape[1] // 2)  # of length 1, mean 0
    with torch.no_grad():
        decoder.embed_tokens.weight[vocabulary.end] = 0.2 * towards
        decoder.embed_positions.weight *= 3
        decoder.embed_positions.weight[:LAST_POSITION] -= 0.05 * towards
        decoder.embed_positions.weight[LAST_POSITION:] += towards


@pytest.fixture(scope="session")
def sure(tmp_path_factory: pytest.TempPathFactory, tiny: ModelFolder) -> ModelFolder:
    """The same, but not about as sure of every token as of any other."""
    import torch

    model = tiny.load()
    with torch.no_grad():
        model.model.decoder.embed_tokens.weight *= 30
    return _kept(tmp_path_factory.mktemp("sure"), model, tiny.shape, tiny)


def _kept(folder: Path, model: Any, shape: Shape, like: ModelFolder) -> ModelFolder:
    from whispertune.model.parameters import merged_state

    write_folder(folder, merged_state(model), shape, like.tokenizer_json, like.generation)
    return ModelFolder(str(folder), folder)


@pytest.fixture(scope="session")
def noises(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ and dev/ with metadata.jsonl over clips of noise: for what does not depend on speech."""
    folder = tmp_path_factory.mktemp("noises")
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("dev", 3)):
        (folder / split).mkdir()
        rows = []
        for number in range(count):
            samples = rng.normal(0, 0.1, 16_000 + 1600 * number).astype(np.float32)
            soundfile.write(folder / split / f"{number}.wav", samples, 16_000)
            rows.append(json.dumps({"file_name": f"{number}.wav", "text": f"{split} text {number} of noise"}))
        (folder / split / "metadata.jsonl").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on loopback, which the hub clients of this process speak with; they are not logged in."""
    with Hub() as running, connected(running, tmp_path / "hub home", monkeypatch):
        yield running
