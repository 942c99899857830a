"""openai-whisper decodes our checkpoints as transformers decodes what they were made from."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file

from whispertune.errors import InputError
from whispertune.model.formats.contents import Contents
from whispertune.model.formats.known_tokenizers import default_generation, tokenizer_for
from whispertune.model.formats.openai import Dims, rows, write_openai
from whispertune.model.formats.transformers import write_folder, write_tokenizer
from whispertune.model.generation import write_generation
from whispertune.model.load import ModelFolder
from whispertune.publish.runtimes.heard import Clip
from whispertune.publish.runtimes.openai_whisper import open_openai
from whispertune.publish.runtimes.transformers import Transformers, open_transformers

pytestmark = pytest.mark.filterwarnings("ignore:.*tiktoken:ResourceWarning")  # its vocabulary's file is left open


def exported(contents: Contents, folder: Path, quantization: str = "float16") -> Path:
    """An export as users get it."""
    folder.mkdir()
    write_openai(contents, folder, quantization)
    write_tokenizer(folder, contents.tokenizer_json, contents.shape.n_mels)
    vocabulary = ModelFolder("", folder).vocabulary
    write_generation(folder, contents.generation, vocabulary)
    return folder


def contents_of(folder: ModelFolder) -> Contents:
    state = load_file(folder.path / "model.safetensors")
    return Contents(state, folder.shape, folder.tokenizer_json, folder.generation)


def read_clips(folder: Path, count: int, language: str) -> list[Clip]:
    rows_ = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()[:count]]
    return [
        Clip(soundfile.read(folder / row["file_name"], dtype="float32")[0], language, "transcribe") for row in rows_
    ]


def test_real_speech_gives_the_same_tokens(base: ModelFolder, english_read: Path, mboshi: Path, tmp_path: Path) -> None:
    source, runtime = Transformers(base), open_openai(exported(contents_of(base), tmp_path / "out"))
    assert runtime.name.startswith("openai-whisper 20")
    for clip in [*read_clips(english_read, 3, "en"), *read_clips(mboshi / "dev", 3, "ln")]:
        heard, theirs = runtime.hear(clip), source.hear(clip)
        assert heard.text == theirs.text.strip()
        assert heard.tokens == theirs.tokens
    assert "country" in runtime.hear(read_clips(english_read, 3, "en")[2]).text


def test_the_english_only_model_too(tiny_en: ModelFolder, english_read: Path, tmp_path: Path) -> None:
    source, runtime = Transformers(tiny_en), open_openai(exported(contents_of(tiny_en), tmp_path / "out"))
    (*_, clip) = read_clips(english_read, 3, "en")
    assert runtime.hear(clip).tokens == source.hear(clip).tokens


@pytest.fixture(scope="module")
def large() -> Contents:
    """A random narrow model of large-v3's kind: 128 mels, and Cantonese."""
    dims = Dims(128, 1500, 16, 2, 2, 51866, 448, 16, 4, 1)
    rng = np.random.default_rng(0)
    state = {row.theirs: rng.normal(0, 0.2, row.shape).astype(np.float32) for row in rows(dims)}
    tokenizer = tokenizer_for(51866)
    return Contents(state, dims.shape, tokenizer, default_generation(tokenizer))


NOISE = Clip(np.random.default_rng(1).normal(0, 0.1, 50_000).astype(np.float32), "yue", "translate")


def test_a_model_of_the_kind_of_large_v3(large: Contents, tmp_path: Path) -> None:
    runtime = open_openai(exported(large, tmp_path / "out", "float32"))
    write_folder(tmp_path / "source", large.state, large.shape, large.tokenizer_json, large.generation)
    source = open_transformers(tmp_path / "source")
    assert runtime.hear(NOISE).tokens == source.hear(NOISE).tokens
    assert runtime.hear(replace(NOISE, language="su", task="transcribe")).tokens != ()


def test_the_models_own_list_is_taken(large: Contents, tmp_path: Path) -> None:
    said = set(open_openai(exported(large, tmp_path / "out")).hear(NOISE).tokens)
    assert said
    banning = replace(large.generation, suppress=(*large.generation.suppress, *said))
    assert not said & set(
        open_openai(exported(replace(large, generation=banning), tmp_path / "banned")).hear(NOISE).tokens
    )


def test_without_the_package_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "whisper", None)
    with pytest.raises(InputError, match=r"openai-whisper.*not installed") as raised:
        open_openai(tmp_path)
    assert raised.value.fix is not None
    assert "--no-verify" in raised.value.fix
