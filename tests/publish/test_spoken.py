"""Clips for models that have none of their own, and where exports go if nothing is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from whispertune.data.audio import AudioReader
from whispertune.decode.engines import open_engine
from whispertune.errors import InputError
from whispertune.evaluation.evaluate import evaluate
from whispertune.publish import spoken
from whispertune.publish.comparison import ENOUGH_WORDS
from whispertune.publish.spoken import SENTENCES, spoken_clips
from whispertune.service.export import default_folder, export_model


def test_there_are_enough_words() -> None:
    assert sum(len(sentence.split()) for sentence in SENTENCES) >= ENOUGH_WORDS
    assert len(set(SENTENCES)) == len(SENTENCES)


@pytest.fixture
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sentence is spoken by a process of its own."""
    monkeypatch.setattr(spoken, "SENTENCES", SENTENCES[:3])


@pytest.mark.usefixtures("_few")
def test_whisper_hears_what_was_spoken(reader: AudioReader) -> None:
    clips = spoken_clips()
    made = [clip.recording.stat().st_mtime_ns for clip in clips]
    assert [clip.text for clip in clips] == [*SENTENCES[:3]]
    assert all(2 < clip.duration_s < 10 for clip in clips)
    found = evaluate(open_engine("ctranslate2", "bundled:whisper-tiny.en"), clips, reader)
    assert found.scores.wer_normalized < 15
    assert [clip.recording.stat().st_mtime_ns for clip in spoken_clips()] == made  # once


@pytest.mark.usefixtures("_few")
def test_a_model_without_clips_is_verified_on_them(tmp_path: Path) -> None:
    found = export_model("bundled:whisper-tiny.en", "transformers", tmp_path / "out").comparison
    assert found is not None
    assert (found.clips, found.texts_equal, found.tokens_equal, found.apart) == (3, 3, 3, 0.0)


def test_without_a_synthesiser_it_says_what_helps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WHISPERTUNE_CACHE", str(tmp_path))
    monkeypatch.setattr(spoken, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"--data, or pip install 'whispertune\[demo\]'"):
        spoken_clips()


@pytest.mark.parametrize(
    ("model", "to", "quantization", "expected"),
    [
        ("openai/whisper-small", "ggml", "q5_0", "whisper-small-ggml-q5_0"),
        ("bundled:whisper-base", "ct2", None, "whisper-base-ct2"),
        ("models/mine/", "onnx", None, "mine-onnx"),
    ],
)
def test_where_an_export_goes(model: str, to: str, quantization: str | None, expected: str) -> None:
    assert default_folder(model, to, quantization) == Path(expected)


def test_of_a_run_it_goes_into_the_run(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert default_folder(str(tmp_path), "ct2", None) == tmp_path / "exports" / "ct2"
