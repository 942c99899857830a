"""whisper.cpp on what we write: small numbers, the lists of a model, and clear errors."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.exports import exported, spoken, stored
from whispertune.errors import InputError, ModelError
from whispertune.model.formats.ggml import FILES
from whispertune.model.formats.transformers import write_folder
from whispertune.model.load import ModelFolder
from whispertune.publish.runtimes.transformers import open_transformers
from whispertune.publish.runtimes.whisper_cpp import open_whisper_cpp


@pytest.mark.parametrize("quantization", ["q8_0", "q5_0"])
def test_small_numbers_are_near(quantization: str, tiny_en: ModelFolder, english_read: Path, tmp_path: Path) -> None:
    clip = spoken(english_read, "en", 3)[2]
    heard = open_whisper_cpp(exported(tiny_en, "ggml", quantization, tmp_path / "out")).hear(clip)
    assert "ask not what your country can do for you" in heard.text


def test_the_list_of_the_model_is_kept(tiny_en: ModelFolder, english_read: Path, tmp_path: Path) -> None:
    """English-only, and with a word that the default lists do not have."""
    clip = spoken(english_read, "en", 3)[2]
    country = tiny_en.vocabulary.encode("country", "en")
    assert len(country) == 1
    source = open_transformers(tiny_en.path).hear(clip)
    assert country[0] in source.tokens
    suppress = (*tiny_en.generation.suppress, *country)
    generation = replace(tiny_en.generation, suppress=suppress)
    write_folder(tmp_path / "listed", stored(tiny_en).state, tiny_en.shape, tiny_en.tokenizer_json, generation)
    listed = ModelFolder("listed", tmp_path / "listed")
    runtime = open_whisper_cpp(exported(listed, "ggml", "float16", tmp_path / "out"))
    heard = runtime.hear(clip)
    assert not {*heard.tokens} & {*suppress}
    assert "ask not what your" in heard.text
    with pytest.raises(InputError, match="English-only"):
        runtime.hear(replace(clip, language="sv"))


def test_errors_say_what_to_do(
    tiny_en: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = exported(tiny_en, "ggml", "q5_0", tmp_path / "out")
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
