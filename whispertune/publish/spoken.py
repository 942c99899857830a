"""Clips to verify an export with where a model has none of its own: sentences, read out by a synthesiser.

segments = spoken_clips()     # 500 words of English, made once and kept in the cache

The synthesiser is an extra, so that no recording of a person is part of the project.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from whispertune.data.segments import Segment
from whispertune.errors import InputError, WhispertuneError
from whispertune.model.cache import cache_folder, filled

LANGUAGE: Final = "en"
VOICES: Final = ("en-US", "en-GB")
SENTENCES: Final = (
    "The ferry leaves the harbour at a quarter past seven, and it does not wait for anyone.",
    "My grandmother kept bees behind the old stone wall until she was ninety.",
    "Please bring the blue folder and two sharpened pencils to the meeting on Thursday.",
    "Nobody could remember who had planted the pear tree, but everyone ate from it.",
    "If the weather holds, we will finish painting the roof before the end of the month.",
    "The train was late again, so she read the whole newspaper on a cold bench.",
    "He counted the coins twice and still came to a different sum each time.",
    "A small river runs under the market, and you can hear it when the stalls are closed.",
    "They moved the piano up four flights of stairs without a single scratch.",
    "The doctor asked him to breathe slowly and to look straight at the window.",
    "On Sundays the bakery opens early, and the queue reaches the corner by eight.",
    "Her brother repairs bicycles in a garage that smells of rubber and fresh coffee.",
    "We walked along the beach until the lights of the village were far behind us.",
    "The museum has a room full of clocks, and no two of them agree.",
    "Could you tell me where the library is, and whether it is open in the evening?",
    "The children built a bridge of sticks and watched the water carry it away.",
    "Three hundred people signed the letter, although only ten of them had read it.",
    "After the storm the streets were full of leaves, branches and broken umbrellas.",
    "He learned to swim when he was forty, in a lake that is always cold.",
    "The soup needs more salt, a little lemon and another hour on a low flame.",
    "She wrote the address on the back of her hand because there was no paper.",
    "A gentle wind came from the south and dried the washing before noon.",
    "The new teacher speaks softly, yet every child in the class listens to her.",
    "They sold the boat in spring and bought a van with a bed in the back.",
    "Our neighbours keep a parrot that answers the telephone better than they do.",
    "The key was under the flowerpot, exactly where nobody would have looked for it.",
    "It took the carpenter eleven days to build the table and one to carry it inside.",
    "When the power failed, we lit candles and told stories until midnight.",
    "The shortest way to the station leads across the bridge and past the hospital.",
    "He promised to return the ladder on Monday, and he kept his word for once.",
    "Most of the visitors come in autumn, when the hills are red and yellow.",
    "The orchestra played the last piece twice, because the audience would not leave.",
    "There is a crack in the ceiling that looks like the coast of Norway.",
    "She bought a map of the city, although she had lived there for twenty years.",
    "The farmer closed the gate, called the dog and looked up at the dark clouds.",
    "You can leave the parcel with the woman on the second floor, she is always at home.",
    "Winter came early that year, and the lake was frozen before the boats were out.",
    "The recipe asks for six eggs, but four large ones will do just as well.",
)


def spoken_clips() -> list[Segment]:
    """The sentences as segments of recordings in the cache, each in a voice.

    Raises:
        InputError: the synthesiser is not installed. WhispertuneError: it fails.
    """
    spoken = hashlib.sha256(repr((SENTENCES, VOICES)).encode()).hexdigest()
    folder = cache_folder() / f"spoken-{spoken[:16]}"
    if not folder.exists() and find_spec("py_nanotts") is None:
        raise InputError(
            "no clips to verify the export with",
            fix="give some with --data, or pip install 'whispertune[demo]' for synthetic speech, or --no-verify",
        )
    filled(folder, _fill)
    return [_segment(folder, number) for number in range(len(SENTENCES))]


def _segment(folder: Path, number: int) -> Segment:
    import soundfile

    path = folder / f"{number}.wav"
    return Segment(f"spoken-{number}", path, 0.0, float(soundfile.info(path).duration), SENTENCES[number], LANGUAGE)


def _fill(folder: Path) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda number: _speak(folder, number), range(len(SENTENCES))))


def _speak(folder: Path, number: int) -> None:
    """In a process of its own: the synthesiser works in memory that it does not clear."""
    voice, path = VOICES[number % len(VOICES)], folder / f"{number}.wav"
    command = [sys.executable, "-m", "py_nanotts", SENTENCES[number], "-o", str(path), "-v", voice]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise WhispertuneError(f"the synthesiser failed ({reason})", where=SENTENCES[number], fix="give --data")
