"""Text on silence: the clips are what they are said to be, and what is written on them is counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whispertune.decode.context import Context
from whispertune.decode.engines import live_engine, load_live
from whispertune.errors import InputError
from whispertune.evaluation.silence import SilentClip, evaluate_silence, scores_of, silent_clips
from whispertune.model.generation import Generation
from whispertune.model.load import ModelFolder
from whispertune.windows.features import log_mel
from whispertune.windows.tokens import Vocabulary

RATE_HZ = 16_000


def of_kind(kind: str) -> SilentClip:
    """The first, of 30 s."""
    return next(each for each in silent_clips() if each.kind == kind)


def powers(clip: SilentClip) -> np.ndarray:
    """By frequency, 30 bins a hertz."""
    assert clip.seconds == 30
    return np.square(np.abs(np.fft.rfft(clip.samples.astype(np.float64))))


# --- the clips -------------------------------------------------------------------------------------------------


def test_there_are_some_of_every_kind_and_length() -> None:
    clips = silent_clips()
    kinds = ["white noise, -60 dB", "white noise, -40 dB", "pink noise, -40 dB", "hum of 50 Hz, -40 dB"]
    assert [each.kind for each in clips] == ["digital silence"] + [kind for kind in kinds for _ in range(6)]
    assert [each.seconds for each in clips[1:7]] == [30, 30, 10, 10, 3, 3]
    assert not clips[0].samples.any()
    assert len({each.samples.tobytes() for each in clips}) == len(clips)
    assert all(each.samples.dtype == np.float32 for each in clips)
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(clips, silent_clips(), strict=True))


@settings(max_examples=20)
@given(st.floats(0.1, 5.0))
def test_any_length_has_its_level(seconds: float) -> None:
    for each in silent_clips([seconds], count=1)[1:]:
        level_db = 10 * np.log10(np.mean(np.square(each.samples, dtype=np.float64)))
        assert level_db == pytest.approx(-60 if "-60" in each.kind else -40, abs=0.01)
        assert len(each.samples) == round(seconds * RATE_HZ)


def test_pink_noise_has_as_much_power_in_every_octave() -> None:
    power = powers(of_kind("pink noise, -40 dB"))
    octaves_hz = [(62.5 * 2**number, 125 * 2**number) for number in range(7)]  # up to 8,000 Hz
    levels_db = [10 * np.log10(power[round(30 * low) : round(30 * high)].sum()) for low, high in octaves_hz]
    assert max(levels_db) - min(levels_db) < 1
    assert power[: 30 * 19].sum() < 1e-6 * power.sum()


def test_white_noise_has_as_much_power_in_every_hertz() -> None:
    power = powers(of_kind("white noise, -40 dB"))
    parts = [part.mean() for part in np.array_split(power, 8)]
    assert max(parts) < 1.1 * min(parts)


def test_hum_is_of_the_mains_and_nothing_else() -> None:
    power = powers(of_kind("hum of 50 Hz, -40 dB"))
    harmonics = power[[30 * 50 * number for number in range(1, 9)]]
    assert harmonics.sum() > 0.9999 * power.sum()
    assert all(harmonics[:-1] > 3 * harmonics[1:])


# --- what is counted -------------------------------------------------------------------------------------------


def clips_of(*seconds: float) -> list[SilentClip]:
    return [SilentClip(f"{number}", np.zeros(round(RATE_HZ * each), np.float32)) for number, each in enumerate(seconds)]


def test_text_is_what_has_a_letter_or_a_digit() -> None:
    found = scores_of(clips_of(30, 10, 10, 5, 5), ["", "...", "♪♪", "Tack!", "Tack för att ni tittade."])
    assert (found.clips, found.clips_with_text, found.rate) == (5, 2, 40.0)
    assert found.words == 6
    assert found.words_a_minute == pytest.approx(6.0)
    assert [each.kind for each in found.written] == ["3", "4"]
    assert found.as_json()["texts"][0] == {"on": "3", "seconds": 5.0, "text": "Tack!"}
    assert scores_of(clips_of(3), [""]).rate == 0.0


def test_the_most_frequent_text_comes_first() -> None:
    found = scores_of(clips_of(3, 3, 3, 3), ["Hej.", "Tack!", "", "Tack!"])
    assert found.texts() == [("Tack!", 2), ("Hej.", 1)]


def test_in_scripts_without_spaces_a_character_is_a_word() -> None:
    assert scores_of(clips_of(30), ["ご視聴ありがとう"]).words == 8


class Hearing:
    """An engine that writes how long a clip was to it and how loud, but nothing on digital silence."""

    name, n_mels, takes_states = "hearing", 80, False

    def __init__(self, vocabulary: Vocabulary, generation: Generation) -> None:
        self.vocabulary, self.generation = vocabulary, generation
        self.rows: list[int] = []

    def encode(self, mel: torch.Tensor) -> None:
        return None

    def decode(self, mel: torch.Tensor, language: str, task: str, beams: int = 1) -> list[str]:
        self.rows.append(len(mel))
        return [f" {language} {task} {mel.shape[2]} {float(row.sum()):.2f}" if row.std() else "" for row in mel]


@pytest.mark.parametrize("context", ["full", "fit"])
def test_each_text_is_that_of_its_clip(context: Context, base: ModelFolder) -> None:
    engine = Hearing(base.vocabulary, base.generation)
    clips = silent_clips()
    done: list[tuple[int, int]] = []
    found = evaluate_silence(
        engine, "sv", clips=clips, batch=4, context=context, progress=lambda *each: done.append(each)
    )
    assert (found.clips, found.clips_with_text, found.context) == (25, 24, context)
    assert done[-1] == (25, 25)
    assert done == sorted(done)
    assert max(engine.rows) == (4 if context == "full" else 8)
    for clip, written in zip(clips[1:], found.written, strict=True):
        samples = 480_000 if context == "full" else len(clip.samples)
        heard = np.pad(clip.samples, (0, samples - len(clip.samples)))
        mel = log_mel(torch.from_numpy(heard[np.newaxis]), 80)
        assert written.text == f"sv transcribe {samples // 160} {float(mel.sum()):.2f}"
        assert (written.kind, written.seconds) == (clip.kind, clip.seconds)


def test_a_real_model(tiny_en: ModelFolder) -> None:
    """whisper-tiny.en is known to write "you" where nobody speaks."""
    engine = live_engine("ctranslate2", load_live(tiny_en))
    clips = silent_clips([3.0], count=1)[:2]  # digital silence, and the softest noise
    found = evaluate_silence(engine, "en", clips=clips)
    assert found.texts() == [("you", 2)]
    assert (found.rate, found.words_a_minute) == (100.0, 20.0)
    with pytest.raises(InputError, match="English-only"):
        evaluate_silence(engine, "sv", clips=clips)
