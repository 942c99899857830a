"""What the runtimes of all formats have in common: a clip goes in, text and tokens come out.

heard = open_faster_whisper(Path("deployed")).hear(Clip(samples, "sv", "transcribe"))
heard.text, heard.tokens
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

import numpy as np

from whispertune.errors import InputError
from whispertune.windows.features import WINDOW_SAMPLES

if TYPE_CHECKING:
    from whispertune.model.generation import Generation
    from whispertune.windows.tokens import Vocabulary


@dataclass(frozen=True, slots=True)
class Clip:
    """The speech of one segment."""

    samples: np.ndarray  # (samples,) float32, 16 kHz, not padded
    language: str
    task: str


@dataclass(frozen=True, slots=True)
class Heard:
    """What a runtime wrote."""

    text: str
    tokens: tuple[int, ...]  # of the text: no special tokens, no timestamps, no end


class Runtime(Protocol):
    """Decodes greedily and without timestamps, previous text, fallbacks or gates for silence.

    `name` is the distribution with its version: "faster-whisper 1.2.1".
    """

    name: str

    def hear(self, clip: Clip) -> Heard:
        """Decode one clip of at most 30 s."""
        ...


@dataclass(frozen=True, slots=True)
class Package:
    """What has to be installed for a runtime."""

    distribution: str
    module: str
    extra: str | None = None  # of Whispertune's that it comes with; None: it always does

    @property
    def name(self) -> str:
        """With its version: "transformers 5.23.0"."""
        return f"{self.distribution} {version(self.distribution)}"

    def check(self) -> None:
        """Raise InputError where it is not installed."""
        if find_spec(self.module) is None:
            install = f"whispertune[{self.extra}]" if self.extra else self.distribution
            raise InputError(
                f"{self.distribution}, which verifies such exports, is not installed",
                fix=f"pip install '{install}', or --no-verify",
            )


def suppresses_blank(vocabulary: Vocabulary, generation: Generation) -> bool:
    """Whether neither a space nor the end comes first: some runtimes know both or none, by one switch.

    A space that stands alone begins texts of scripts whose letters are several tokens, such as Bengali and Telugu.
    """
    space = vocabulary.tokenizer.encode(" ", add_special_tokens=False).ids
    return {vocabulary.end, *space} <= {*generation.begin_suppress}


def on_a_window(samples: np.ndarray) -> np.ndarray:
    """A clip with silence after it, as the source of an export is given it too: (480_000,)."""
    return np.pad(samples[:WINDOW_SAMPLES], (0, max(0, WINDOW_SAMPLES - len(samples))))
