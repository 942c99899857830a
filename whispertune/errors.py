"""Every way Whispertune says no, and the exit code that goes with it.

    WhispertuneError                     1  the work failed
    ├── InputError                       2  what was given is wrong
    │   ├── RecipeError                  2  the recipe (file:line or key)
    │   ├── DataError                    2  recordings, captions, manifests
    │   │   └── AudioError               2  one recording that does not decode
    │   └── ModelError                   2  a model that cannot be read or used so
    ├── VerificationError                1  an export that does not do what its source does
    ├── TrainingError                    1  a run that cannot go on
    └── Interrupted                      3  stopped by the user or a signal, resumable

A message says what is wrong, where (`file:line`, a recipe key, a path), and what to do next:

    raise DataError("no captions beside the recording", where="talk.mp3", fix="add talk.vtt or talk.srt")
"""

from __future__ import annotations


class WhispertuneError(Exception):
    """Base of all errors that are answered with a message instead of a traceback."""

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(str(self))

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  → {self.fix}" if self.fix else text


class InputError(WhispertuneError):
    """What the user gave is wrong."""

    exit_code = 2


class RecipeError(InputError):
    """A recipe that cannot be read, or asks for what cannot be."""


class DataError(InputError):
    """Recordings, captions or manifests that cannot be used."""


class AudioError(DataError):
    """One recording, or a stretch of it, that does not decode."""


class ModelError(InputError):
    """A model that cannot be found, read, or used in this way."""


class VerificationError(WhispertuneError):
    """An export whose runtime does not give what its source gives."""


class TrainingError(WhispertuneError):
    """A run that cannot go on."""


class Interrupted(WhispertuneError):
    """Stopped by the user or a signal; what was finished is kept."""

    exit_code = 3
