"""Clips cut to what is spoken: what is cut, who may be decoded so, and that both engines do the same."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Segment
from whispertune.decode.context import MARK, Mark, choose_context, mark_of, spoken_frames
from whispertune.decode.engines import live_engine, load_live
from whispertune.decode.transcribe import Options, open_transcriber
from whispertune.errors import InputError, ModelError
from whispertune.evaluation.evaluate import decode_segments
from whispertune.evaluation.inputs import FIT_LEAST_SAMPLES, FIT_STEP_SAMPLES, Source, clip, clip_samples
from whispertune.model.export import write_ctranslate2
from whispertune.model.load import RUN_MARK, ModelFolder
from whispertune.service.data import read_data

CLIP = "jfk.flac"


def english(folder: Path, model: ModelFolder, reader: AudioReader) -> tuple[Segment, ...]:
    return tuple(read_data(str(folder), model.vocabulary, model.generation, reader, language="en").segments)


@given(st.integers(0, 1500), st.integers(0, 1500))
def test_padding_is_told_from_silence(spoken: int, padding: int) -> None:
    filled = np.array([True] * spoken + [False] * padding)
    kept = spoken_frames(filled)
    assert spoken <= kept <= len(filled)
    if spoken < 100:
        assert kept == len(filled)  # what is left over at the end of a recording: on that alone models invent
    else:
        assert kept == min(spoken + spoken % 2, len(filled))


@given(st.floats(0.2, 30.0))
def test_a_fit_clip_ends_with_its_speech(duration_s: float) -> None:
    segment = Segment("a", Path("a.wav"), 0.0, duration_s, "text", "en")
    samples = clip_samples(segment, "fit")
    assert samples % 320 == 0
    assert samples >= FIT_LEAST_SAMPLES
    assert samples == FIT_LEAST_SAMPLES or math.floor(duration_s * 16_000) - 1 <= samples
    assert samples == FIT_LEAST_SAMPLES or samples < round(duration_s * 16_000) + FIT_STEP_SAMPLES
    assert clip_samples(segment, "full") == 480_000


def test_a_clip_holds_its_samples_and_then_silence(noises: Path, reader: AudioReader, tiny: ModelFolder) -> None:
    found = read_data(str(noises / "train"), tiny.vocabulary, tiny.generation, reader, language="sv")
    segment = found.segments[5]  # 1.5 s
    full, fit = clip(segment, reader), clip(segment, reader, "fit")
    assert (len(full), len(fit)) == (480_000, 24_000)
    np.testing.assert_array_equal(full[:24_000], fit)
    assert not full[24_000:].any()


def test_a_mark_takes_the_place_of_another(tmp_path: Path) -> None:
    """Whoever reads the old one meanwhile has all of it."""
    Mark().write(tmp_path)
    with (tmp_path / MARK).open() as old:
        Mark(("full", "fit"), "average").write(tmp_path)
        assert json.load(old) == {"contexts": ["full"], "weights": "live"}
    assert Mark.read(tmp_path) == Mark(("full", "fit"), "average")
    assert [path.name for path in tmp_path.iterdir()] == [MARK]


def test_real_weights_and_speech_in_both_engines(tiny_en: ModelFolder, english_read: Path, reader: AudioReader) -> None:
    """On the very same short mels both write the same, and each clip what it gets alone."""
    live = load_live(tiny_en)
    segments = english(english_read, tiny_en, reader)
    by_both = []
    for kind in ("ctranslate2", "transformers"):
        engine = live_engine(kind, live)
        found, problems = decode_segments(engine, segments, Source(reader, "fit"))
        assert not problems
        by_both.append([each.text for each in found])
    assert by_both[0] == by_both[1]
    engine = live_engine("ctranslate2", live)
    alone = [decode_segments(engine, [each], Source(reader, "fit"))[0][0].text for each in segments]
    assert alone == by_both[0]
    assert all("ask not what your country" in text for text in alone if "Americans" in text)


def test_a_text_does_not_depend_on_the_others(tiny: ModelFolder, noises: Path, reader: AudioReader) -> None:
    """Random weights tell the smallest difference of length: a clip is padded by its own length alone."""
    engine = live_engine("ctranslate2", load_live(tiny))
    segments = read_data(str(noises / "train"), tiny.vocabulary, tiny.generation, reader, language="sv").segments[:8]
    together, _ = decode_segments(engine, segments, Source(reader, "fit"))
    for each in together[::3]:
        assert decode_segments(engine, [each.segment], Source(reader, "fit"))[0][0].text == each.text


@pytest.mark.parametrize("engine", ["ctranslate2", "transformers"])
def test_a_short_recording_is_transcribed_on_what_it_needs(
    engine: str, tiny_en: ModelFolder, english_read: Path, reader: AudioReader
) -> None:
    said: list[str] = []
    options = Options(language="en", engine=engine, context="fit", words=engine == "ctranslate2")
    samples = reader.read(english_read / CLIP)
    transcript = open_transcriber(str(tiny_en.path), options, said.append)(samples, Path(CLIP), None)
    assert "what you can do for your country" in " ".join(cue.text for cue in transcript.cues)
    assert all(0 <= cue.start_s < cue.end_s <= transcript.audio_seconds + 0.02 for cue in transcript.cues)
    assert transcript.cues[0].words or engine == "transformers"
    assert "many more errors" in said[0]


def test_the_language_is_detected_on_an_odd_number_of_frames(
    base: ModelFolder, english_read: Path, reader: AudioReader
) -> None:
    samples = reader.read(english_read / CLIP)[:80_160]  # 501 frames
    options = Options(engine="transformers", context="fit")
    transcript = open_transcriber(str(base.path), options)(samples, Path(CLIP), None)
    assert transcript.language == "en"
    assert "my fellow Americans" in transcript.cues[0].text


def test_a_model_says_what_it_was_trained_on(tiny: ModelFolder, tmp_path: Path) -> None:
    said: list[str] = []
    assert choose_context("auto", str(tiny.path), said.append) == "full"
    assert not said
    assert choose_context("fit", str(tiny.path), said.append) == "fit"
    assert len(said) == 1
    exported = tmp_path / "run" / "model"
    exported.mkdir(parents=True)
    write_ctranslate2(tiny, exported, "float32")
    Mark(("full", "fit"), "average").write(exported)
    (tmp_path / "run" / RUN_MARK).write_text("{}")
    for name in (str(exported), str(tmp_path / "run")):
        assert mark_of(name) == Mark(("full", "fit"), "average")
        assert choose_context("auto", name, said.append) == choose_context("fit", name, said.append) == "fit"
        assert choose_context("full", name, said.append) == "full"
    assert len(said) == 1


def test_what_cannot_be_is_refused(tiny: ModelFolder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="auto, full, fit"):
        choose_context("short", str(tiny.path), print)
    (tmp_path / MARK).write_text(json.dumps({"contexts": None}))
    with pytest.raises(ModelError, match="cannot be read"):
        Mark.read(tmp_path)
