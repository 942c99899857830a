"""whisper.cpp on what we write: the same tokens as the source, its lists kept, and clear errors."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
from safetensors.numpy import load_file

from whispertune.errors import InputError, ModelError
from whispertune.model.formats.contents import Contents
from whispertune.model.formats.ggml import FILES, write_ggml
from whispertune.model.formats.ggml_vocabulary import token_bytes
from whispertune.model.formats.transformers import write_tokenizer
from whispertune.model.generation import Generation, write_generation
from whispertune.model.load import ModelFolder
from whispertune.publish.runtimes.heard import Clip
from whispertune.publish.runtimes.transformers import open_transformers
from whispertune.publish.runtimes.whisper_cpp import only, open_whisper_cpp

Export = Callable[..., Path]


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """Writes a folder as exports are."""

    def write(folder: ModelFolder, quantization: str, generation: Generation | None = None) -> Path:
        out = tmp_path / quantization
        out.mkdir()
        settings = generation or folder.generation
        state = load_file(folder.path / "model.safetensors")
        write_ggml(Contents(state, folder.shape, folder.tokenizer_json, settings), out, quantization)
        write_tokenizer(out, folder.tokenizer_json, folder.shape.n_mels)
        write_generation(out, settings, folder.vocabulary)
        return out

    return write


def clips(folder: Path, language: str, count: int) -> list[Clip]:
    """The first clips of a metadata folder."""
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()][:count]
    samples = [soundfile.read(folder / row["file_name"], dtype="float32")[0] for row in rows]
    return [Clip(each, language, "transcribe") for each in samples]


def test_the_same_tokens_as_the_source(base: ModelFolder, english_read: Path, mboshi: Path, export: Export) -> None:
    runtime = open_whisper_cpp(export(base, "float16"))
    assert re.fullmatch(r"pywhispercpp \d+\.\d+\.\d+", runtime.name)
    source = open_transformers(base.path)
    for clip in clips(english_read, "en", 3)[1:] + clips(mboshi / "dev", "ln", 4):
        ours, theirs = runtime.hear(clip), source.hear(clip)
        assert ours.tokens == theirs.tokens
        assert ours.text.strip() == theirs.text.strip()


@pytest.mark.parametrize("quantization", ["q8_0", "q5_0"])
def test_small_numbers_are_near(quantization: str, base: ModelFolder, english_read: Path, export: Export) -> None:
    clip = clips(english_read, "en", 3)[2]
    heard = open_whisper_cpp(export(base, quantization)).hear(clip)
    assert "ask not what your country can do for you" in heard.text


def test_the_list_of_the_model_is_kept(tiny_en: ModelFolder, english_read: Path, export: Export) -> None:
    """English-only, and with a word that the default lists do not have."""
    clip = clips(english_read, "en", 3)[2]
    country = tiny_en.vocabulary.encode("country", "en")
    assert len(country) == 1
    source = open_transformers(tiny_en.path).hear(clip)
    assert country[0] in source.tokens
    suppress = (*tiny_en.generation.suppress, *country)
    runtime = open_whisper_cpp(export(tiny_en, "float16", replace(tiny_en.generation, suppress=suppress)))
    heard = runtime.hear(clip)
    assert not {*heard.tokens} & {*suppress}
    assert "ask not what your" in heard.text
    with pytest.raises(InputError, match="English-only"):
        runtime.hear(replace(clip, language="sv"))


def test_the_expression_matches_the_list_and_nothing_else(base: ModelFolder) -> None:
    tokens = token_bytes(base.tokenizer_json)
    listed = [tokens[token] for token in base.generation.suppress if token < base.vocabulary.end]
    pattern = re.compile(only(listed).encode())
    assert {token for token in tokens if token and pattern.fullmatch(token)} == {*listed}
    assert len(listed) > 80


def test_errors_say_what_to_do(
    tiny_en: ModelFolder,
    export: Export,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = export(tiny_en, "q5_0")
    path = folder / FILES["q5_0"]
    path.write_bytes(path.read_bytes()[:-100_000])
    with pytest.raises(ModelError, match=r"whisper\.cpp cannot load it"):
        open_whisper_cpp(folder)
    assert capfd.readouterr() == ("", "")
    path.unlink()
    with pytest.raises(ModelError, match="0 ggml files"):
        open_whisper_cpp(folder)
    monkeypatch.setitem(sys.modules, "_pywhispercpp", None)
    with pytest.raises(InputError, match="--no-verify"):
        open_whisper_cpp(folder)
