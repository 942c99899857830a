"""openai-whisper on our checkpoints: English alone, large-v3's kind, and the lists that a model has of its own."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.exports import exported, spoken
from whispertune.errors import InputError
from whispertune.model.formats.known_tokenizers import default_generation, tokenizer_for
from whispertune.model.formats.openai import Dims, rows
from whispertune.model.formats.transformers import write_folder
from whispertune.model.load import ModelFolder
from whispertune.publish.runtimes.heard import Clip
from whispertune.publish.runtimes.openai_whisper import open_openai
from whispertune.publish.runtimes.transformers import Transformers

pytestmark = pytest.mark.filterwarnings("ignore:.*tiktoken:ResourceWarning")  # its vocabulary's file is left open


def test_the_english_only_model_too(tiny_en: ModelFolder, english_read: Path, tmp_path: Path) -> None:
    source, runtime = Transformers(tiny_en), open_openai(exported(tiny_en, "openai", "float16", tmp_path / "out"))
    (*_, clip) = spoken(english_read, "en", 3)
    assert runtime.hear(clip).tokens == source.hear(clip).tokens


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """A random narrow model of large-v3's kind: 128 mels, and Cantonese."""
    return of_large_v3(tmp_path_factory.mktemp("large"))


def of_large_v3(folder: Path, also_suppressed: tuple[int, ...] = ()) -> ModelFolder:
    dims = Dims(128, 1500, 16, 2, 2, 51866, 448, 16, 4, 1)
    rng = np.random.default_rng(0)
    state = {row.theirs: rng.normal(0, 0.2, row.shape).astype(np.float32) for row in rows(dims)}
    tokenizer = tokenizer_for(51866)
    generation = default_generation(tokenizer)
    suppressing = replace(generation, suppress=(*generation.suppress, *also_suppressed))
    write_folder(folder, state, dims.shape, tokenizer, suppressing)
    return ModelFolder("large", folder)


NOISE = Clip(np.random.default_rng(1).normal(0, 0.1, 50_000).astype(np.float32), "yue", "translate")


def test_a_model_of_the_kind_of_large_v3(large: ModelFolder, tmp_path: Path) -> None:
    runtime = open_openai(exported(large, "openai", "float32", tmp_path / "out"))
    assert runtime.hear(NOISE).tokens == Transformers(large).hear(NOISE).tokens
    assert runtime.hear(replace(NOISE, language="su", task="transcribe")).tokens != ()


def test_the_models_own_list_is_taken(large: ModelFolder, tmp_path: Path) -> None:
    said = set(open_openai(exported(large, "openai", "float16", tmp_path / "out")).hear(NOISE).tokens)
    assert said
    banning = of_large_v3(tmp_path / "banning", tuple(sorted(said)))
    runtime = open_openai(exported(banning, "openai", "float16", tmp_path / "banned"))
    assert not said & set(runtime.hear(NOISE).tokens)


def test_without_the_package_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "whisper", None)
    with pytest.raises(InputError, match=r"openai-whisper.*not installed") as raised:
        open_openai(tmp_path)
    assert raised.value.fix is not None
    assert "--no-verify" in raised.value.fix
