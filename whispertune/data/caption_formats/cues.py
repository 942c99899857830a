"""What captions are, whatever their format, and what the readers share: text files, their lines, clean text.

Captions(cues=(Cue(12.4, 15.0, "Yes.", line=7),), problems=(), language="sv")
clean_text("  two\\nlines ")  # "two lines"
"""

from __future__ import annotations

import codecs
import re
import stat
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from whispertune.data.segments import Problem
from whispertune.errors import DataError

_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # zero bytes and halves of surrogate pairs

Line = tuple[int, str]  # its number, from 1, and its text


@dataclass(frozen=True, slots=True)
class Word:
    """A word and when it is said."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Cue:
    """One timed line; `line` is where it stood in the file it came from (no part of what it is)."""

    start_s: float
    end_s: float
    text: str
    line: int = field(default=0, compare=False)
    words: tuple[Word, ...] = ()
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class Captions:
    """The cues of a file, what could not be understood, and the language where it is written.

    Cues stand in the order of the file, or by time where the format says that its order means nothing (ASS, TTML).
    """

    cues: tuple[Cue, ...]
    problems: tuple[Problem, ...] = ()
    language: str | None = None


def clean_text(text: str) -> str:
    """Unicode NFC, all white space one space, nothing that cannot be encoded: so is every text read here."""
    return unicodedata.normalize("NFC", " ".join(_NO_TEXT.sub("\ufffd", text).split()))


def read_text(path: Path, most_bytes: int | None = None) -> str:
    """A text file in UTF-8 or, with a byte order mark, UTF-16; anything else is an error with its place."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for, a device may never end
            raise DataError("is no file but a folder, a pipe or a device", where=str(path))
        if most_bytes is not None and status.st_size > most_bytes:
            what = f"holds {status.st_size:,} bytes, and captions at most {most_bytes:,}"
            raise DataError(what, where=str(path), fix="is it what its suffix says? If so, split it")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({error})", where=str(path)) from None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _decoded(data, "utf-16", path)
    return _decoded(data.removeprefix(codecs.BOM_UTF8), "utf-8", path)


def _decoded(data: bytes, encoding: str, path: Path) -> str:
    fix = f"convert it, e.g. with: iconv -f WINDOWS-1252 -t UTF-8 '{path.name}' > new{path.suffix}"
    if encoding == "utf-8" and b"\0" in data:
        what = "is not UTF-8: it holds zero bytes, as UTF-16 without its mark does"
        raise DataError(what, where=str(path), fix=fix.replace("WINDOWS-1252", "UTF-16LE"))
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        where = "{}:{}".format(path, data.count(b"\n", 0, error.start) + 1)
        what = f"is not {encoding.upper()}: byte 0x{data[error.start]:02x} at position {error.start}"
        raise DataError(what, where=where, fix=fix) from None


def numbered_lines(text: str) -> list[Line]:
    return list(enumerate(re.split(r"\r\n|\n|\r", text), start=1))  # splitlines() would split at more


def in_order(cues: Iterable[Cue]) -> tuple[Cue, ...]:
    """By time, for formats in which the order of the lines means nothing."""
    return tuple(sorted(cues, key=lambda cue: cue.start_s))
