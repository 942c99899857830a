"""What waveforms go through: as much of it as is asked for, and nothing moves, grows, breaks or is left to chance."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable

import numpy as np
import pytest

from whispertune.errors import RecipeError
from whispertune.windows import waveform
from whispertune.windows.waveform import Samples

RATE_HZ = 16_000


def click_room(audio: Samples) -> Samples:
    return waveform.in_room(audio, waveform.room_response(np.random.default_rng(3)))


def noisy(audio: Samples) -> Samples:
    noise = np.random.default_rng(4).normal(0, 0.1, len(audio)).astype(np.float32)
    return waveform.with_noise(audio, noise, 10.0)


CHANGES: dict[str, Callable[[Samples], Samples]] = {
    "pitch": lambda audio: waveform.pitched(audio, 2.0),
    "room": click_room,
    "noise": noisy,
    "telephone": waveform.telephone,
    "codec": lambda audio: waveform.coded(audio, 8_000),
}


@pytest.fixture(scope="module")
def speech() -> Samples:
    """A sentence with a pause in it, and a second of silence before and behind it."""
    spoken = pytest.importorskip("py_nanotts").NanoTTS().speak("The brown fox came late. It jumps over the dog.")
    return np.pad(np.frombuffer(spoken, dtype=np.int16) / np.float32(32_768), RATE_HZ).astype(np.float32)


def sine(frequency_hz: float, seconds: float = 2.0) -> Samples:
    times_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (0.3 * np.sin(2 * np.pi * frequency_hz * times_s)).astype(np.float32)


def level_db(audio: Samples) -> float:
    return float(10 * np.log10(np.mean(np.square(audio, dtype=np.float64))))


def lag_samples(later: Samples, audio: Samples) -> int:
    """How much later `later` is, where the two are most alike."""
    length = 2 * len(audio)
    alike = np.fft.irfft(np.fft.rfft(later, length) * np.conj(np.fft.rfft(audio, length)), length)
    at = int(np.argmax(alike))
    return at if at < len(audio) else at - length


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("samples", [1, 2, 319, 577, 5_000])
def test_any_length_comes_back_as_long_and_whole(change: str, samples: int) -> None:
    if change == "pitch":
        pytest.importorskip("audiomentations")
    loud = np.random.default_rng(samples).normal(0, 0.2, samples).astype(np.float32)
    for audio in (loud, np.zeros_like(loud)):
        before = audio.copy()
        heard = CHANGES[change](audio)
        assert heard.shape == audio.shape
        assert heard.dtype == np.float32
        assert np.isfinite(heard).all()
        assert np.array_equal(audio, before)
        assert heard.any() == audio.any() or samples < 577  # silence stays silent; a click may go under in a codec


@pytest.mark.parametrize("change", CHANGES)
def test_no_global_random_state_is_read_or_moved(change: str, speech: Samples) -> None:
    if change == "pitch":
        pytest.importorskip("audiomentations")
    outcomes = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        states = random.getstate(), np.random.get_state()[1].tobytes()
        outcomes.append(CHANGES[change](speech))
        assert (random.getstate(), np.random.get_state()[1].tobytes()) == states
    assert np.array_equal(outcomes[0], outcomes[1])


@pytest.mark.parametrize("change", CHANGES)
def test_speech_stays_where_the_labels_say(change: str, speech: Samples) -> None:
    if change == "pitch":
        pytest.importorskip("audiomentations")
        shifted = CHANGES["pitch"](speech)  # other frequencies: its loudness is what can be compared
        envelopes = [
            np.abs(each).reshape(-1, 16).mean(axis=1)
            for each in (shifted[: -(len(speech) % 16) or None], speech[: -(len(speech) % 16) or None])
        ]
        assert abs(lag_samples(*envelopes)) <= 5  # of 1 ms
        return
    assert abs(lag_samples(CHANGES[change](speech), speech)) <= RATE_HZ // 1000


@pytest.mark.parametrize("bits_per_s", waveform.MP3_BITS_PER_S)
def test_a_codec_is_heard_and_understood(bits_per_s: int, speech: Samples) -> None:
    heard = waveform.coded(speech, bits_per_s)
    assert abs(lag_samples(heard, speech)) <= RATE_HZ // 1000
    alike = np.corrcoef(heard, speech)[0, 1]
    assert 0.5 < alike < 0.9999
    assert level_db(heard) == pytest.approx(level_db(speech), abs=1.5)


def test_a_codec_takes_audio_that_clips_as_it_is() -> None:
    assert np.abs(waveform.coded(2.5 * sine(440.0), 32_000)).max() == pytest.approx(0.75, abs=0.1)
    assert np.abs(waveform.coded(5 * sine(440.0), 32_000)).max() == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 30.0])
def test_noise_lies_as_far_below_speech_as_asked(snr_db: float, speech: Samples) -> None:
    noise = np.random.default_rng(0).normal(0, 0.02, len(speech)).astype(np.float32)
    added = waveform.with_noise(speech, noise, snr_db) - speech
    loudness = np.square(speech, dtype=np.float64)[: len(speech) // 160 * 160].reshape(-1, 160).mean(axis=1)
    spoken = loudness > loudness.max() / 1000  # 10 ms at a time: not the stretches that the code looks at
    assert 10 * np.log10(loudness[spoken].mean()) - level_db(added) == pytest.approx(snr_db, abs=0.5)


def test_pauses_do_not_count_as_speech(speech: Samples) -> None:
    longer = np.pad(speech, 10 * RATE_HZ)
    assert waveform.active_power(longer) == pytest.approx(waveform.active_power(speech), rel=0.02)


def test_without_speech_or_without_noise_there_is_no_ratio() -> None:
    silence, tone = np.zeros(RATE_HZ, dtype=np.float32), sine(300.0, 1.0)
    assert not waveform.with_noise(silence, tone, 10.0).any()
    assert np.array_equal(waveform.with_noise(tone, silence, 10.0), tone)


@pytest.mark.parametrize(
    ("frequency_hz", "passes"), [(100, False), (500, True), (1_000, True), (3_000, True), (6_000, False)]
)
def test_a_telephone_carries_its_band_alone(frequency_hz: float, passes: bool) -> None:
    middle = slice(RATE_HZ // 2, -RATE_HZ // 2)
    tone = sine(frequency_hz)
    loss_db = level_db(tone[middle]) - level_db(waveform.telephone(tone)[middle])
    assert abs(loss_db) < 0.1 if passes else loss_db >= 30


@pytest.mark.parametrize("semitones", [-4.0, -1.5, 2.0, 5.0])
def test_pitch_moves_by_what_is_asked(semitones: float) -> None:
    pytest.importorskip("audiomentations")
    heard = waveform.pitched(sine(440.0), semitones)
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard)), 1 << 18))
    found_hz = float(np.argmax(spectrum)) * RATE_HZ / (1 << 18)
    assert 12 * np.log2(found_hz / 440.0) == pytest.approx(semitones, abs=0.1)


def test_pitch_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "audiomentations", None)
    with pytest.raises(RecipeError, match=r"whispertune\[augment\]"):
        waveform.need_pitch()


@pytest.mark.parametrize("seed", range(6))
def test_a_room_rings_as_long_as_it_was_drawn(seed: int) -> None:
    response = waveform.room_response(np.random.default_rng(seed)).astype(np.float64)
    decay_s = len(response) / RATE_HZ
    assert waveform.ROOM_DECAY_S[0] <= decay_s <= waveform.ROOM_DECAY_S[1]
    left_db = 10 * np.log10(np.cumsum(np.square(response)[::-1])[::-1])  # Schroeder's integral
    first, last = round(0.05 * RATE_HZ), round(0.6 * len(response))
    slope_db_a_second = (left_db[last] - left_db[first]) / ((last - first) / RATE_HZ)
    assert -60 / slope_db_a_second == pytest.approx(decay_s, rel=0.15)
    seam_db = [10 * np.log10(np.square(part).sum()) for part in (response[640:800], response[800:960])]
    assert abs(seam_db[0] - seam_db[1]) < 6  # images end and noise begins where both are as loud
    assert response[0] > 0.5  # the direct sound


def test_a_room_changes_speech_but_not_how_loud_it_is(speech: Samples) -> None:
    heard = click_room(speech)
    assert level_db(heard) == pytest.approx(level_db(speech), abs=0.01)
    assert np.corrcoef(heard, speech)[0, 1] < 0.95
