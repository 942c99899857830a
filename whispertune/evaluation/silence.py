"""Text on silence: what a model writes where nobody speaks.

    found = evaluate_silence(engine, "sv")
    found.clips, found.clips_with_text, found.rate     # 25, 4, 16.0 per cent of the clips
    found.written[0].text                              # "Tack för att ni tittade"

The clips are made here and always the same: digital silence, white noise of -60 and -40 dB, pink noise and the hum
of the mains of -40 dB, of 30, 10 and 3 s each. Levels are root mean squares; 0 dB is an amplitude of 1.

Whatever is written is made up, so there is no word error rate: there are the share of clips with text, and the words
a minute of audio, the silence that fills a window apart. Text is what has a letter or a digit; three dots or a note
are none. In scripts without spaces a character stands for a word. Nothing guards the decoder: no detection of
speech and no threshold on the probability of silence, with which runtimes suppress some of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np

from whispertune.data.keyed import keyed_rng
from whispertune.decode.context import Context
from whispertune.decode.engines import Engine
from whispertune.evaluation.evaluate import Progress, decode_clips
from whispertune.evaluation.inputs import clips_at_once, context_samples
from whispertune.score.normalize import basic
from whispertune.score.normalizers.scripts import by_character
from whispertune.windows.features import SAMPLE_RATE_HZ
from whispertune.windows.waveform import Samples

SEED: Final = 0
LENGTHS_S: Final = (30.0, 10.0, 3.0)
OF_EACH: Final = 2

HUM_HZ: Final = 50.0
HARMONICS: Final = 8  # each half as strong as the one below it
LOWEST_HZ: Final = 20.0  # of pink noise; nothing below it is heard


@dataclass(frozen=True, slots=True)
class SilentClip:
    """Audio in which nobody speaks."""

    kind: str
    samples: Samples  # float32, (samples,) at 16 kHz

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True)
class Written:
    """What was written on one clip."""

    kind: str  # of the clip
    seconds: float
    text: str


@dataclass(frozen=True, slots=True)
class SilenceScores:
    """What one model wrote on clips without speech."""

    clips: int
    seconds: float  # of all clips
    words: int
    written: tuple[Written, ...]  # the clips with text, in their order
    context: Context = "full"

    @property
    def clips_with_text(self) -> int:
        return len(self.written)

    @property
    def rate(self) -> float:
        """Clips with text, in per cent."""
        return 100.0 * len(self.written) / max(1, self.clips)

    @property
    def words_a_minute(self) -> float:
        return 60.0 * self.words / self.seconds if self.seconds else 0.0

    def texts(self) -> list[tuple[str, int]]:
        """Each text and on how many clips it was written, the most frequent first."""
        return Counter(each.text for each in self.written).most_common()

    def as_json(self) -> dict[str, Any]:
        """The figures under the names that `evaluate --silence --json` promises."""
        return {
            "clips": self.clips,
            "clips_with_text": self.clips_with_text,
            "rate": self.rate,
            "audio_seconds": round(self.seconds, 2),
            "words": self.words,
            "words_a_minute": self.words_a_minute,
            "context": self.context,
            "texts": [{"on": each.kind, "seconds": each.seconds, "text": each.text} for each in self.written],
        }


def evaluate_silence(
    engine: Engine,
    language: str,
    task: str = "transcribe",
    *,
    clips: Sequence[SilentClip] | None = None,
    batch: int = 8,
    beams: int = 1,
    context: Context = "full",
    progress: Progress | None = None,
) -> SilenceScores:
    """Decode clips without speech, the usual ones where none are given, and count what is written on them.

    Raises:
        InputError: the model does not know the language or the task.
    """
    given = silent_clips() if clips is None else tuple(clips)
    texts = [""] * len(given)
    done = 0
    for length, places in _batches(given, batch, context):
        audio = [_padded(given[place].samples, length) for place in places]
        for place, text in zip(places, decode_clips(engine, audio, language, task, beams), strict=True):
            texts[place] = text.strip()
        done += len(places)
        if progress:
            progress(done, len(given))
    return scores_of(given, texts, context)


def _batches(clips: Sequence[SilentClip], windows: int, context: Context) -> list[tuple[int, list[int]]]:
    """The places of clips that are decoded together, and how long they are then."""
    lengths = [context_samples(clip.seconds, context) for clip in clips]
    order = sorted(range(len(clips)), key=lambda place: -lengths[place])
    batches = []
    for length, group in groupby(order, key=lambda place: lengths[place]):
        places, size = list(group), clips_at_once(length, windows)
        batches += [(length, places[first : first + size]) for first in range(0, len(places), size)]
    return batches


def _padded(samples: Samples, length: int) -> Samples:
    return np.pad(samples[:length], (0, max(0, length - len(samples))))


def scores_of(clips: Sequence[SilentClip], texts: Sequence[str], context: Context = "full") -> SilenceScores:
    """Count what was written on the clips, a text for each."""
    written = tuple(
        Written(clip.kind, clip.seconds, text)
        for clip, text in zip(clips, texts, strict=True)
        if any(map(str.isalnum, text))
    )
    words = sum(len(by_character(basic(each.text)).split()) for each in written)
    return SilenceScores(len(clips), sum(clip.seconds for clip in clips), words, written, context)


# --- what nobody speaks in -------------------------------------------------------------------------------------


def silent_clips(seconds: Sequence[float] = LENGTHS_S, count: int = OF_EACH) -> tuple[SilentClip, ...]:
    """So many clips of each kind and length; of digital silence the longest alone, since all of it is the same."""
    found = [SilentClip("digital silence", np.zeros(round(max(seconds) * SAMPLE_RATE_HZ), dtype=np.float32))]
    for kind, make, level_db in _KINDS:
        for length_s in seconds:
            for number in range(count):
                rng = keyed_rng(SEED, kind, round(1000 * length_s), number)
                samples = make(rng, round(length_s * SAMPLE_RATE_HZ))
                found.append(SilentClip(f"{kind}, {level_db:g} dB", _at_level(samples, level_db)))
    return tuple(found)


def _at_level(samples: np.ndarray, level_db: float) -> Samples:
    root_mean_square = np.sqrt(np.square(samples).mean())
    return np.asarray(samples * (10 ** (level_db / 20) / root_mean_square), dtype=np.float32)


def _white(rng: np.random.Generator, samples: int) -> np.ndarray:
    return rng.standard_normal(samples)


def _pink(rng: np.random.Generator, samples: int) -> np.ndarray:
    """As much power in each octave from 20 Hz on."""
    frequencies_hz = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE_HZ)
    heard = frequencies_hz >= LOWEST_HZ
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum[heard] /= np.sqrt(frequencies_hz[heard])
    spectrum[~heard] = 0
    return np.fft.irfft(spectrum, samples)


def _hum(rng: np.random.Generator, samples: int) -> np.ndarray:
    """50 Hz and its harmonics, each from a place of its own on."""
    times_s = np.arange(samples) / SAMPLE_RATE_HZ
    turns = rng.random(HARMONICS)
    tones = [
        0.5**number * np.sin(2 * np.pi * (HUM_HZ * (number + 1) * times_s + turn)) for number, turn in enumerate(turns)
    ]
    return np.asarray(np.sum(tones, axis=0))


# What is heard, what makes it, and how loud it is. Two levels of white noise: a good microphone's, and a bad one's.
_KINDS: Final[tuple[tuple[str, Callable[[np.random.Generator, int], np.ndarray], float], ...]] = (
    ("white noise", _white, -60.0),
    ("white noise", _white, -40.0),
    ("pink noise", _pink, -40.0),
    ("hum of 50 Hz", _hum, -40.0),
)
