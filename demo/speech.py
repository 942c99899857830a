"""The demo's recordings, made on the spot: the sentences, read out by a synthesiser, with captions.

    synthesise(Path("data"))   # train.mp3 + train.vtt, dev.mp3 + dev.vtt, terms.txt

Train and dev are read in different voices. Speed, pitch and pauses vary with each sentence, and two calls
write the same recordings.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from demo.sentences import DEV, SPOKEN, TRAIN, spoken
from whispertune.data.captions import Cue, write_captions
from whispertune.errors import WhispertuneError

if TYPE_CHECKING:
    import numpy as np

TERMS: Final = "terms.txt"
SAMPLE_RATE_HZ: Final = 16_000  # what the synthesiser gives
SAMPLES_PER_MS: Final = SAMPLE_RATE_HZ // 1000  # captions count in milliseconds
MARGIN_SAMPLES: Final = 30 * SAMPLES_PER_MS  # kept around what is loud, for soft beginnings and ends
QUIET: Final = 0.01  # of the peak of a sentence
VOLUME: Final = 0.7  # at 1.0 the loudest vowels are clipped


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a sentence is read: factors for speed and pitch, and the silence before it."""

    speed: float
    pitch: float
    pause_ms: int


def synthesise(folder: Path) -> None:
    """Write the terms, a line a term, and the train and dev recordings with their captions.

    Raises:
        WhispertuneError: the synthesiser is not installed, or fails on a sentence.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # First: by it a demo that was stopped is known for one.
    (folder / TERMS).write_text("".join(f"{term}\n" for term in SPOKEN), encoding="utf-8")
    _record(folder / "train.mp3", TRAIN, "en-US")
    _record(folder / "dev.mp3", DEV, "en-GB")


def delivery(sentence: str) -> Delivery:
    """Drawn from the sentence itself, so that a new sentence changes no other."""
    random = Random(sentence)
    return Delivery(random.uniform(0.92, 1.08), random.uniform(0.94, 1.06), random.randint(300, 800))


def _record(recording: Path, sentences: Sequence[str], voice: str) -> None:
    """One recording of all sentences, with its captions beside it."""
    import numpy as np
    import soundfile

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        clips = list(pool.map(partial(_speak, voice=voice), sentences))
    parts: list[np.ndarray] = []
    cues = []
    at_ms = 0
    for sentence, clip in zip(sentences, clips, strict=True):
        pause_ms = delivery(sentence).pause_ms
        parts += [np.zeros(pause_ms * SAMPLES_PER_MS, np.int16), clip]
        start_ms = at_ms + pause_ms
        at_ms = start_ms + len(clip) // SAMPLES_PER_MS
        cues.append(Cue(start_ms / 1000, at_ms / 1000, sentence))
    parts.append(np.zeros(SAMPLE_RATE_HZ // 2, np.int16))
    soundfile.write(recording, np.concatenate(parts), SAMPLE_RATE_HZ, format="MP3")
    write_captions(recording.with_suffix(".vtt"), cues, language="en")


def _speak(sentence: str, voice: str) -> np.ndarray:
    """A sentence as int16 samples, (samples,), cut to the speech and to whole milliseconds.

    Each sentence gets a process of its own: the synthesiser works in memory that it does not clear, and after
    other sentences it loses the speed it was given.
    """
    import soundfile

    how = delivery(sentence)
    settings = {"-v": voice, "--speed": how.speed, "--pitch": how.pitch, "--volume": VOLUME}
    options = [str(part) for setting in settings.items() for part in setting]
    with TemporaryDirectory() as scratch:
        clip = Path(scratch) / "clip.wav"
        command = [sys.executable, "-m", "py_nanotts", spoken(sentence), "-o", str(clip), *options]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            reason = (result.stderr.strip().splitlines() or ["no message"])[-1]
            raise WhispertuneError(
                f"the synthesiser failed ({reason})", where=sentence, fix='pip install "whispertune[demo]"'
            )
        samples, _ = soundfile.read(clip, dtype="int16")
    return _speech(samples)


def _speech(samples: np.ndarray) -> np.ndarray:
    """What lies between the silences at both ends."""
    import numpy as np

    level = np.abs(samples.astype(np.int32))
    loud = np.flatnonzero(level > QUIET * level.max())
    first, last = max(0, loud[0] - MARGIN_SAMPLES), min(len(samples), loud[-1] + MARGIN_SAMPLES)
    return samples[first : last - (last - first) % SAMPLES_PER_MS]
