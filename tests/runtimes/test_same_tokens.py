"""Other projects' runtimes write of the real whisper-base what transformers writes, token by token."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.exports import exported, spoken
from whispertune.model.load import ModelFolder
from whispertune.publish.runtimes import RUNTIMES
from whispertune.publish.runtimes.heard import Clip, Heard
from whispertune.publish.runtimes.transformers import Transformers

pytestmark = pytest.mark.filterwarnings("ignore:.*tiktoken:ResourceWarning")  # openai-whisper leaves it open


@pytest.fixture(scope="module")
def heard(base: ModelFolder, english_read: Path, mboshi: Path) -> list[tuple[Clip, Heard]]:
    """English, a language that Whisper has never seen, and speech to translate, with what transformers writes."""
    source = Transformers(base)
    english, unknown = spoken(english_read, "en", 3), spoken(mboshi / "dev", "ln", 20)
    return [(clip, source.hear(clip)) for clip in (*english, *unknown, *spoken(mboshi / "dev", "fr", 1, "translate"))]


def test_of_english_it_is_what_was_said(heard: list[tuple[Clip, Heard]]) -> None:
    assert "ask not what your country can do for you" in heard[2][1].text
    assert all(theirs.tokens for _, theirs in heard)


@pytest.mark.parametrize(
    ("to", "quantization", "name"),
    [
        ("ct2", "float32", r"faster-whisper \d+\.\d+\.\d+"),
        ("openai", "float16", r"openai-whisper 20\d+"),
        ("onnx", "float32", r"onnxruntime \d+\.\d+\.\d+"),
        ("ggml", "float16", r"pywhispercpp \d+\.\d+\.\d+"),
    ],
)
def test_the_same_tokens_as_the_source(
    to: str, quantization: str, name: str, base: ModelFolder, heard: list[tuple[Clip, Heard]], tmp_path: Path
) -> None:
    runtime = RUNTIMES[to](exported(base, to, quantization, tmp_path / "out"), base)
    assert re.fullmatch(name, runtime.name)
    for clip, theirs in heard:
        ours = runtime.hear(clip)
        assert ours.tokens == theirs.tokens
        assert ours.text.strip() == theirs.text.strip()
