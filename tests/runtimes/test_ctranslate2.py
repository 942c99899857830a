"""CTranslate2 and transformers on real weights and speech: what is read, converted and exported says the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.exports import windows
from whispertune.decode.engines import live_engine, load_live, open_engine
from whispertune.model.bundled import bundled_files
from whispertune.model.load import ModelFolder
from whispertune.service.export import export_model
from whispertune.windows.features import log_mel


def test_what_was_read_decodes_as_ctranslate2_does(base: ModelFolder, english_read: Path, mboshi: Path) -> None:
    """The same tokens from the untouched files, from our conversion back, and from transformers, which is slow."""
    untouched = open_engine("ctranslate2", str(bundled_files("whisper-base")))
    live = load_live(base)
    converted, transformers = (live_engine(kind, live) for kind in ("ctranslate2", "transformers"))
    for folder, count, language in ((english_read, 3, "en"), (mboshi / "dev", 5, "ln")):
        mel = log_mel(windows(folder, count), 80)
        texts = untouched.decode(mel, language, "transcribe")
        assert all(texts)
        assert converted.decode(mel, language, "transcribe") == texts
        assert transformers.decode(mel[:1], language, "transcribe") == texts[:1]


def test_the_english_only_model_too(tiny_en: ModelFolder, english_read: Path) -> None:
    untouched = open_engine("ctranslate2", str(bundled_files("whisper-tiny.en")))
    mel = log_mel(windows(english_read, 3), 80)
    texts = untouched.decode(mel, "en", "transcribe")
    assert "ask not what your country can do for you" in texts[2]
    assert live_engine("transformers", load_live(tiny_en)).decode(mel, "en", "transcribe") == texts


@pytest.mark.parametrize(("to", "quantization"), [("ct2", "float16"), ("transformers", "float16")])
def test_real_weights_and_speech(to: str, quantization: str, english_read: Path, tmp_path: Path) -> None:
    report = export_model(
        "bundled:whisper-tiny.en", to, tmp_path / "out", quantization=quantization, data=str(english_read)
    )
    found = report.comparison
    assert found is not None
    assert (found.clips, found.words) == (3, 111)
    # The weights are float16 from the start: not only near, as any export has to be, but the very same.
    assert (found.texts_equal, found.tokens_equal, found.first_difference) == (3, 3, None)
    assert found.wer_export < 30
    assert (report.folder / "preprocessor_config.json").exists()
