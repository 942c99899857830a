"""Captions, read and written: which format has which reader and writer.

    captions = read_captions(Path("talk.vtt"))  # Captions(cues=(Cue(12.4, 15.0, "Yes."), ...), problems=())
    write_captions(Path("talk.srt"), captions.cues, language="sv")

Nothing is guessed: a line that cannot be understood is a `Problem` with its file:line, and a file that is
not UTF-8 (or UTF-16 with a mark) is a `DataError`. What is written here is read back the same: times on the
millisecond, text as `clean_text` leaves it, the speaker in VTT and JSON, words in JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from whispertune.data.caption_formats.ass import read_ass
from whispertune.data.caption_formats.cues import Captions, Cue, Word, clean_text, read_text
from whispertune.data.caption_formats.json_txt import read_json, write_json, write_txt
from whispertune.data.caption_formats.ttml import read_ttml
from whispertune.data.caption_formats.vtt_srt import read_srt, read_vtt, write_srt, write_vtt
from whispertune.errors import DataError

_MOST_BYTES = 64 * 1024 * 1024  # days of speech are less

__all__ = ["WRITERS", "Captions", "Cue", "Word", "clean_text", "read_captions", "read_text", "write_captions"]

_READERS: dict[str, Callable[[str, Path], Captions]] = {
    "vtt": read_vtt,
    "srt": read_srt,
    "ass": read_ass,
    "ssa": read_ass,
    "ttml": read_ttml,
    "dfxp": read_ttml,
    "json": read_json,
}

WRITERS: dict[str, Callable[[Sequence[Cue], str | None], str]] = {
    "vtt": write_vtt,
    "srt": write_srt,
    "txt": write_txt,
    "json": write_json,
}


def read_captions(path: Path) -> Captions:
    """The captions in a file, read as its suffix says."""
    reader = _READERS.get(path.suffix.lower().lstrip("."))
    if reader is None:
        known = ", ".join(f".{kind}" for kind in _READERS)
        raise DataError(f"captions are read from {known}, not from {path.suffix or 'a file without suffix'}",
                        where=str(path), fix="convert or rename the file")  # fmt: skip
    return reader(read_text(path, _MOST_BYTES), path)


def write_captions(path: Path, cues: Sequence[Cue], language: str | None = None) -> None:
    """Write the cues in the format that the suffix names."""
    writer = WRITERS.get(path.suffix.lower().lstrip("."))
    if writer is None:
        known = ", ".join(f".{kind}" for kind in WRITERS)
        raise DataError(f"no captions can be written as {path.name}", where=str(path), fix=f"use one of {known}")
    path.write_text(writer(cues, language), encoding="utf-8", newline="\n")
