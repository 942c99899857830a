"""Whisper in files of other projects: OpenAI's .pt, whisper.cpp's ggml.

file = foreign_file(Path("ggml-base.bin"))          # or a folder that holds one such file
contents = read_foreign(file)                       # whole, whatever the file leaves to its runtime
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from whispertune.errors import ModelError
from whispertune.model.formats.contents import Contents
from whispertune.model.formats.ggml import read_ggml
from whispertune.model.formats.openai import read_openai

READERS: Final[dict[str, Callable[[Path], Contents]]] = {".pt": read_openai, ".bin": read_ggml}
PATTERNS: Final = ("*.pt", "ggml*.bin")
BESIDE: Final = ("tokenizer.json", "generation_config.json")  # what is believed before the file itself


def foreign_file(path: Path) -> Path | None:
    """The file that a path means: itself, or the only one of its kind in a folder; None where there is none.

    Raises:
        ModelError: the folder has several.
    """
    if path.is_file():
        return path if path.suffix in READERS else None
    found = sorted(file for pattern in PATTERNS for file in path.glob(pattern))
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise ModelError(f"several models in this folder: {names}", where=str(path), fix="name one of the files")
    return found[0] if found else None


def read_foreign(file: Path) -> Contents:
    """Read such a file.

    Raises:
        ModelError: it is damaged, is no Whisper, or holds weights that have lost what training needs.
    """
    return READERS[file.suffix](file)
