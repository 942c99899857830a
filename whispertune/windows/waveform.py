"""What may happen to speech on its way to a recording: pitch, rooms, noise, telephones, codecs.

    telephone(in_room(samples, room_response(rng)))   # float32 (samples,) at 16 kHz -> the same length, nothing moved

Nothing is drawn in here but a room, from the generator that is given: no call reads or moves a global random
state, so what comes out never depends on which thread came first. PitchShift of audiomentations does the pitch;
the rest is a few lines of numpy, or PyAV.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whispertune.errors import RecipeError
from whispertune.windows.features import SAMPLE_RATE_HZ

Samples = NDArray[np.float32]  # (samples,) at 16 kHz

MAX_SEMITONES = 24  # PitchShift takes no more
MP3_BITS_PER_S = (8_000, 16_000, 24_000, 32_000)  # from hardly understood to a good voice message
TELEPHONE_HZ = (200.0, 300.0, 3_400.0, 4_000.0)  # silent, whole, whole, silent; straight lines between
SOUND_M_PER_S = 343.0
EARLY_S = 0.05  # echoes are placed one by one so long, then they are too dense to be told apart
ROOM_M = ((3.0, 2.5, 2.3), (9.0, 7.0, 3.5))  # from a small office to a classroom
ROOM_DECAY_S = (0.2, 0.8)  # until an echo has lost 60 dB
WALL_M = 0.5  # nobody sits nearer to a wall

_LEVEL_SAMPLES = SAMPLE_RATE_HZ // 50  # 20 ms
_ACTIVE = 1e-3  # of the loudest 20 ms: what is 30 dB below it is a pause
_SILENT = 1e-12  # power, -120 dBFS


def need_pitch() -> None:
    """Raise RecipeError where PitchShift is not installed."""
    try:
        import audiomentations  # noqa: F401
    except ImportError:
        raise RecipeError(
            "moving the pitch needs audiomentations",
            where="augment.pitch_semitones",
            fix="pip install 'whispertune[augment]'",
        ) from None


def need_codec() -> None:
    """Raise RecipeError where PyAV was built without an MP3 encoder (its wheels have one)."""
    import av

    if "libmp3lame" not in av.codecs_available:
        raise RecipeError(
            "this build of PyAV cannot write MP3", where="augment.codec_share", fix="pip install --force-reinstall av"
        )


def pitched(audio: Samples, semitones: float) -> Samples:
    """The voice higher or lower by so many semitones, at the same tempo.

    The parameters are set and frozen before the call: drawn by the library they would come from Python's global
    random state, which threads share.
    """
    from audiomentations import PitchShift

    shift = PitchShift(p=1.0)
    shift.parameters = {"should_apply": True, "num_semitones": semitones}
    shift.freeze_parameters()
    moved: Samples = shift(np.ascontiguousarray(audio), SAMPLE_RATE_HZ)
    return moved


def with_noise(speech: Samples, noise: Samples, snr_db: float) -> Samples:
    """Noise of the same length under speech, so many decibels below it where both are heard.

    Where either is silent there is no such ratio, and the speech comes back as it is.
    """
    speech_power, noise_power = active_power(speech), active_power(noise)
    if min(speech_power, noise_power) < _SILENT:
        return speech
    factor = np.sqrt(speech_power / noise_power) * 10 ** (-snr_db / 20)
    return speech + np.float32(factor) * noise


def active_power(audio: Samples) -> float:
    """Mean square of what is not a pause: of the 20 ms stretches within 30 dB of the loudest."""
    starts = np.arange(0, len(audio), _LEVEL_SAMPLES)
    energies = np.add.reduceat(np.square(audio, dtype=np.float64), starts)
    lengths = np.diff(starts, append=len(audio))
    powers = energies / lengths
    active = powers >= powers.max() * _ACTIVE
    return float(energies[active].sum() / lengths[active].sum())


def room_response(rng: np.random.Generator) -> Samples:
    """What a microphone in a room hears of a click, from the moment the direct sound is there: (samples,).

    A box of random size and damping. The first 50 ms are its mirror images (Allen & Berkley, 1979); the rest is
    noise that decays as the mirror images do on average, because there are too many of them to matter singly.
    """
    size_m, decay_s = rng.uniform(*ROOM_M), rng.uniform(*ROOM_DECAY_S)
    talker_m, microphone_m = rng.uniform(WALL_M, size_m - WALL_M, (2, 3))
    direct_m = max(float(np.linalg.norm(talker_m - microphone_m)), 0.1)
    response = np.zeros(round(decay_s * SAMPLE_RATE_HZ))
    times_s = np.arange(len(response)) / SAMPLE_RATE_HZ + direct_m / SOUND_M_PER_S
    # Images behind time t: 4π(ct)³/3V; each has the energy (direct/ct)² and what the walls have left of it.
    energy = 4 * np.pi * SOUND_M_PER_S * direct_m**2 / np.prod(size_m) / SAMPLE_RATE_HZ
    response[:] = rng.normal(0, np.sqrt(energy), len(response)) * 10 ** (-3 * times_s / decay_s)
    early = round(EARLY_S * SAMPLE_RATE_HZ)
    response[:early] = 0
    distances_m, bounces = _images(size_m, talker_m, microphone_m)
    delays = np.round((distances_m - direct_m) / SOUND_M_PER_S * SAMPLE_RATE_HZ).astype(np.int64)
    near = (delays < early) & (bounces > 0)
    # Walls that turn the sign, or all the echoes would add up in the bass (Lehmann & Johansson, 2008).
    loss = (-_kept_at_walls(size_m, decay_s)) ** bounces[near]
    np.add.at(response, np.maximum(delays[near], 0), direct_m / distances_m[near] * loss)
    response[0] += 1.0
    return response.astype(np.float32)


def _images(
    size_m: NDArray[np.float64], talker_m: NDArray[np.float64], microphone_m: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """How far each mirror image of the talker is from the microphone, and how many walls made it: (images,) each."""
    reach = int(np.ceil((EARLY_S * SOUND_M_PER_S + np.linalg.norm(size_m)) / (2 * size_m.min())))
    rooms = np.arange(-reach, reach + 1)
    squares, bounces = np.zeros(1), np.zeros(1, dtype=np.int64)
    for size, talker, microphone in zip(size_m, talker_m, microphone_m, strict=True):
        away = np.concatenate([2 * rooms * size + talker, 2 * rooms * size - talker]) - microphone
        walls = np.concatenate([2 * np.abs(rooms), np.abs(rooms) + np.abs(rooms - 1)])
        squares = np.add.outer(squares, away**2).ravel()
        bounces = np.add.outer(bounces, walls).ravel()
    return np.sqrt(squares), bounces


def _kept_at_walls(size_m: NDArray[np.float64], decay_s: float) -> float:
    """Amplitude after a reflection over that before it, of a room that decays in this time (Eyring, 1930)."""
    volume = float(np.prod(size_m))
    surface = 2 * volume * float(np.sum(1 / size_m))
    return float(np.exp(-0.161 * volume / (surface * decay_s) / 2))


def in_room(audio: Samples, response: Samples) -> Samples:
    """Speech as heard in a room, as loud as before; what rings on after its end is cut."""
    length = _fft_samples(len(audio) + len(response) - 1)
    spectrum = np.fft.rfft(audio, length) * np.fft.rfft(response, length)
    heard = np.fft.irfft(spectrum, length)[: len(audio)]
    before, after = np.square(audio).sum(dtype=np.float64), np.square(heard).sum(dtype=np.float64)
    return np.asarray(heard * np.sqrt(before / after), dtype=np.float32) if after > 0 else audio


def telephone(audio: Samples) -> Samples:
    """Speech cut to what an old telephone carries; no phase moves."""
    length = _fft_samples(len(audio) + SAMPLE_RATE_HZ // 10)  # what rings must not come round to the start
    frequencies_hz = np.fft.rfftfreq(length, 1 / SAMPLE_RATE_HZ)
    band = np.interp(frequencies_hz, TELEPHONE_HZ, (0.0, 1.0, 1.0, 0.0)).astype(np.float32)
    return np.asarray(np.fft.irfft(np.fft.rfft(audio, length) * band, length)[: len(audio)], dtype=np.float32)


def _fft_samples(samples: int) -> int:
    """The next length that divides into factors of two and one of at most 7: such transforms are fast."""
    unit = 1 << max(0, (samples - 1).bit_length() - 3)
    return -(-samples // unit) * unit


def coded(audio: Samples, bits_per_s: int) -> Samples:
    """Speech after MP3 at so low a rate, in memory. The encoder's delay is marked in its packets and taken off."""
    import av

    decoder = av.CodecContext.create("mp3float", "r")
    packets = _mp3_packets(audio, bits_per_s)
    frames = [frame for packet in packets for frame in decoder.decode(packet)] + decoder.decode(None)
    back = np.concatenate([frame.to_ndarray()[0] for frame in frames] or [audio[:0]])[: len(audio)]
    return np.pad(back, (0, len(audio) - len(back))).astype(np.float32)


def _mp3_packets(audio: Samples, bits_per_s: int) -> Iterator[Any]:
    import av

    encoder = av.CodecContext.create("libmp3lame", "w")
    encoder.sample_rate, encoder.layout, encoder.format = SAMPLE_RATE_HZ, "mono", "fltp"
    encoder.bit_rate, encoder.time_base = bits_per_s, Fraction(1, SAMPLE_RATE_HZ)
    encoder.open()
    size = encoder.frame_size
    for first in range(0, len(audio), size):
        block = np.ascontiguousarray(audio[first : first + size])[np.newaxis]
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE_HZ, first
        yield from encoder.encode(frame)
    yield from encoder.encode(None)
