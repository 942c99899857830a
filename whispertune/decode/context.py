"""How much of Whisper's 30 s a clip is decoded on: all of it (`full`), or as much as is spoken (`fit`).

    Mark(("full", "fit")).write(run.model)          # a run that trained both says so in its model folder
    choose_context("auto", "my-run", say)           # "fit", where the model says that it may

Whisper learned on 30 s with silence after the speech and fails on less, until it is trained on clips that
end where the speech does. `fit` then costs what the speech is long: several times less on short clips.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from whispertune.errors import InputError, ModelError
from whispertune.files import replace_text
from whispertune.model.load import MARK, RUN_MARK, find_model, run_model

Context = Literal["full", "fit"]

CONTEXTS: Final = ("auto", "full", "fit")
LEAST_FRAMES: Final = 100  # 1 s


@dataclass(frozen=True, slots=True)
class Mark:
    """What a model folder says of itself, besides what its format has room for."""

    contexts: tuple[str, ...] = ("full",)  # what it was trained on, and so may be decoded on
    weights: str = "live"  # as they were after a step, or "average": of several

    @classmethod
    def read(cls, folder: Path) -> Mark:
        """A folder that says nothing is for 30 s.

        Raises:
            ModelError: what it says cannot be read.
        """
        path = folder / MARK
        if not path.exists():
            return cls()
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            return cls(tuple(map(str, told["contexts"])), str(told["weights"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError("cannot be read", where=str(path), fix="remove it, or export the model again") from error

    def write(self, folder: Path) -> None:
        """Say it in a model folder."""
        replace_text(folder / MARK, json.dumps(asdict(self)) + "\n")


def mark_of(name: str) -> Mark:
    """What a model, by name, says of itself.

    Raises:
        ModelError: no such model, or its mark cannot be read.
    """
    path = Path(name).expanduser()
    if not path.is_dir():
        path = find_model(name).path
    elif (path / RUN_MARK).exists():
        path = run_model(path)
    return Mark.read(path)


def choose_context(asked: str, name: str, say: Callable[[str], None]) -> Context:
    """What `--context` comes to for a model; `auto` is fit where the model was trained for it.

    Raises:
        InputError: no such context.
    """
    if asked not in CONTEXTS:
        raise InputError(f"unknown context {asked!r}", where="--context", fix=f"one of {', '.join(CONTEXTS)}")
    if asked == "full":
        return "full"
    trained = "fit" in mark_of(name).contexts
    if asked == "fit" and not trained:
        say(
            f"{name} was not trained on clips cut to what is spoken, or did worse on them: on fit it may make many "
            "more errors than on full"
        )
    return "fit" if asked == "fit" or trained else "full"


def spoken_frames(filled: np.ndarray) -> int:
    """How many frames of a mel to keep, by which of them are anything but zeros; an even number.

    Runtimes fill short mels up to 3,000 frames with zeros; in real ones, silence included, no frame is all zeros.
    Less than a second is what is left over at the end of a recording: on that alone models invent, so all is kept.
    """
    frames = int(filled.nonzero()[0][-1]) + 1 if filled.any() else 0
    return min(frames + frames % 2, len(filled)) if frames >= LEAST_FRAMES else len(filled)
