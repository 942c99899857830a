"""Reading and writing timed text: VTT, SRT, our own JSON, and plain text (written only).

    captions = read_captions(Path("talk.vtt"))  # Captions(cues=(Cue(12.4, 15.0, "Yes."), ...), problems=())
    write_captions(Path("talk.srt"), captions.cues, language="sv")

Nothing is guessed: a line that cannot be understood is a `Problem` with its file:line, and a file that is
not UTF-8 (or UTF-16 with a mark) is a `DataError`. What is written here is read back the same: times on the
millisecond, text as `clean_text` leaves it, the speaker in VTT and JSON, words in JSON.
"""

from __future__ import annotations

import codecs
import html
import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whispertune.data.segments import Problem
from whispertune.errors import DataError

_TIME = r"(?:([0-9]{1,4}):)?([0-5]?[0-9]):([0-5]?[0-9])[.,]([0-9]{3})"
_TIMING = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?")
# A line that is meant as a timing line, well or badly written: an arrow, or two times and little between.
_TIMELIKE = re.compile(r"-->|^\s*[0-9]+:[0-9]{1,2}[:.,][0-9]\S*\s*\S{0,3}\s*[0-9]+:[0-9]{1,2}[:.,][0-9]\S*\s*$")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,30});")
_VTT_TAG = re.compile(r"</?(?:[a-zA-Z][^<>]*|[0-9][0-9:.]*)?>")
_VTT_VOICE = re.compile(r"<v(?:\.[^\s<>]*)?[ \t]+([^<>]+)>")
_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # zero bytes and halves of surrogate pairs
_SRT_TAG = re.compile(r"</?(?:[bius]|font(?:\s[^<>]*)?)\s*>|\{\\[^{}]*\}", re.IGNORECASE)

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
    """The cues of a file in its order, what could not be understood, and the language where it is written."""

    cues: tuple[Cue, ...]
    problems: tuple[Problem, ...] = ()
    language: str | None = None


def read_captions(path: Path) -> Captions:
    """The captions in a .vtt, .srt or .json file."""
    reader = _READERS.get(path.suffix.lower().lstrip("."))
    if reader is None:
        known = ", ".join(f".{kind}" for kind in _READERS)
        raise DataError(f"captions are read from {known}, not from {path.suffix or 'a file without suffix'}",
                        where=str(path), fix="convert or rename the file")  # fmt: skip
    return reader(read_text(path), path)


def write_captions(path: Path, cues: Sequence[Cue], language: str | None = None) -> None:
    """Write the cues in the format that the suffix names."""
    writer = WRITERS.get(path.suffix.lower().lstrip("."))
    if writer is None:
        known = ", ".join(f".{kind}" for kind in WRITERS)
        raise DataError(f"no captions can be written as {path.name}", where=str(path), fix=f"use one of {known}")
    path.write_text(writer(cues, language), encoding="utf-8", newline="\n")


def clean_text(text: str) -> str:
    """Unicode NFC, all white space one space, nothing that cannot be encoded: so is every text read here."""
    return unicodedata.normalize("NFC", " ".join(_NO_TEXT.sub("\ufffd", text).split()))


def read_text(path: Path) -> str:
    """A text file in UTF-8 or, with a byte order mark, UTF-16; anything else is an error with its place."""
    try:
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


# ---------------------------------------------------------------------------------------------- reading


def _read_vtt(text: str, path: Path) -> Captions:
    lines = _lines(text)
    if not re.match(r"WEBVTT(?:[ \t]|$)", lines[0][1]):
        fix = "write WEBVTT and an empty line at its top; captions in SRT form belong in a .srt file"
        raise DataError("does not start with WEBVTT", where=f"{path}:1", fix=fix)
    body = 1
    while body < len(lines) and lines[body][1] and "-->" not in lines[body][1]:
        body += 1  # metadata under the header
    cues: list[Cue] = []
    problems: list[Problem] = []
    for block in _blocks(lines[body:], lambda line: not line):
        if re.match(r"NOTE(?:[ \t]|$)|(?:STYLE|REGION)[ \t]*$", block[0][1]):
            continue
        for part in _parts(block, arrows_in_text=False):
            found = _cue(part, path, _vtt_text)
            (cues if isinstance(found, Cue) else problems).append(found)  # type: ignore[arg-type]
    return Captions(tuple(cues), tuple(problems))


def _read_srt(text: str, path: Path) -> Captions:
    parts: list[list[Line]] = []
    for block in _blocks(_lines(text), lambda line: not line.strip()):
        for part in _parts(block, arrows_in_text=True):
            if parts and _timing_index(part) is None and not part[0][1].strip().isdecimal():
                parts[-1] += part  # an empty line within the text, as players read it
            else:
                parts.append(part)
    found = [_cue(part, path, lambda text: (_srt_text(text), None)) for part in parts]
    cues = tuple(item for item in found if isinstance(item, Cue))
    return Captions(cues, tuple(item for item in found if isinstance(item, Problem)))


def _read_json(text: str, path: Path) -> Captions:
    try:
        data = json.loads(text)
        rows = list(_json_rows(text)) if isinstance(data["cues"], list) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        rows = None
    if rows is None:
        raise DataError("holds no captions", where=str(path), fix='it should be {"language": ..., "cues": [...]}')
    cues: list[Cue] = []
    problems: list[Problem] = []
    for line, row in rows:
        try:
            cues.append(_json_cue(row, line))
        except (KeyError, TypeError, ValueError, AttributeError):  # whatever else stands there than a cue
            detail = "a cue needs start_s and end_s in seconds, and text"
            problems.append(Problem(f"{path}:{line}", "malformed cue", detail))
    language = data.get("language")
    return Captions(tuple(cues), tuple(problems), language if isinstance(language, str) else None)


_READERS: dict[str, Callable[[str, Path], Captions]] = {
    "vtt": _read_vtt,
    "srt": _read_srt,
    "json": _read_json,
}


def _lines(text: str) -> list[Line]:
    return list(enumerate(re.split(r"\r\n|\n|\r", text), start=1))  # splitlines() would split at more


def _blocks(lines: list[Line], is_blank: Callable[[str], bool]) -> Iterator[list[Line]]:
    block: list[Line] = []
    for number, line in [*lines, (0, "")]:
        if not is_blank(line):
            block.append((number, line))
        elif block:
            yield block
            block = []


def _parts(block: list[Line], arrows_in_text: bool) -> Iterator[list[Line]]:
    """Split a block where an empty line between cues is missing; a part holds one timing line at most."""
    timing = _timing_index(block)
    begin, index = 0, 0 if timing is None else timing + 1
    text_from = index
    while index < len(block):
        numbered = block[index][1].strip().isdecimal() and _timing_index(block[index + 1 : index + 2]) == 0
        bare = index >= text_from + arrows_in_text and _TIMING.fullmatch(block[index][1])
        if numbered or bare:
            yield block[begin:index]
            begin, text_from = index, index + 1 + numbered
            index = text_from
        else:
            index += 1
    yield block[begin:]


def _timing_index(part: list[Line]) -> int | None:
    """Where the line with the times is: the first, or the second under a number or name."""
    return next((index for index, (_, line) in enumerate(part[:2]) if _TIMELIKE.search(line)), None)


def _cue(part: list[Line], path: Path, parse: Callable[[str], tuple[str, str | None]]) -> Cue | Problem:
    timing = _timing_index(part)
    if timing is None:
        return Problem(f"{path}:{part[0][0]}", "text without a time", clean_text(part[0][1])[:80])
    number, line = part[timing]
    match = _TIMING.fullmatch(line)
    if match is None:
        return Problem(f"{path}:{number}", "malformed time", clean_text(line)[:80])
    text, speaker = parse("\n".join(line for _, line in part[timing + 1 :]))
    return Cue(_seconds(match.groups()[:4]), _seconds(match.groups()[4:]), text, number, speaker=speaker)


def _seconds(parts: Sequence[str | None]) -> float:
    hours, minutes, seconds, thousandths = (int(part or 0) for part in parts)
    return ((hours * 60 + minutes) * 60_000 + seconds * 1000 + thousandths) / 1000


def _vtt_text(raw: str) -> tuple[str, str | None]:
    voices = {clean_text(_unescape(name)) for name in _VTT_VOICE.findall(raw)}
    speaker = voices.pop() if len(voices) == 1 else None
    return clean_text(_unescape(_VTT_TAG.sub("", raw))), speaker or None


def _srt_text(raw: str) -> str:
    return clean_text(_unescape(_SRT_TAG.sub("", raw)))


def _unescape(text: str) -> str:
    return _ENTITY.sub(lambda match: html.unescape(match.group()), text)


def _json_rows(text: str) -> Iterator[tuple[int, Any]]:
    """Each cue with its line. The text is known to be JSON with a list of cues, so this finds its way."""
    decoder = json.JSONDecoder()
    skip = re.compile(r"[\s,]*")
    start = re.search(r'"cues"\s*:\s*\[', text)
    at = start.end() if start else len(text)
    line, counted = 1, 0
    while (at := skip.match(text, at).end()) < len(text) and text[at] != "]":  # type: ignore[union-attr]
        line, counted = line + text.count("\n", counted, at), at
        row, at = decoder.raw_decode(text, at)
        yield line, row


def _json_cue(row: dict[str, Any], line: int) -> Cue:
    words = tuple(Word(*_json_times(word), clean_text(word["text"])) for word in row.get("words") or ())
    speaker = clean_text(row.get("speaker") or "") or None
    return Cue(*_json_times(row), clean_text(row["text"]), line, words, speaker)


def _json_times(row: dict[str, Any]) -> tuple[float, float]:
    start_s, end_s = float(row["start_s"]), float(row["end_s"])
    if not (math.isfinite(start_s) and math.isfinite(end_s)):
        raise ValueError
    return start_s, end_s


# ---------------------------------------------------------------------------------------------- writing


def _write_vtt(cues: Sequence[Cue], language: str | None) -> str:
    blocks = ["WEBVTT\n"]
    for cue in cues:
        voice = f"<v {_escape(clean_text(cue.speaker))}>" if cue.speaker else ""
        blocks.append(f"{_timing(cue, '.')}\n{voice}{_escape(_display(cue.text))}\n")
    return "\n".join(blocks)


def _write_srt(cues: Sequence[Cue], language: str | None) -> str:
    blocks = []
    for number, cue in enumerate(cues, start=1):
        text = _display(cue.text)
        # Players show entities as they stand, so they are written only where the text would read otherwise.
        text = text if _srt_text(text) == clean_text(text) else _escape(text).replace("{", "&#123;")
        blocks.append(f"{number}\n{_timing(cue, ',')}\n{text}\n")
    return "\n".join(blocks)


def _display(text: str) -> str:
    """The text as it is to be shown, its lines kept; read back, they are joined."""
    return "\n".join(line for line in map(clean_text, text.split("\n")) if line)


def _write_txt(cues: Sequence[Cue], language: str | None) -> str:
    return "".join(f"{clean_text(cue.text)}\n" for cue in cues)


def _write_json(cues: Sequence[Cue], language: str | None) -> str:
    rows = ",\n".join(json.dumps(_json_row(cue), ensure_ascii=False) for cue in cues)  # a cue a line, for file:line
    return f'{{"language": {json.dumps(language)}, "cues": [\n{rows}\n]}}\n'


WRITERS: dict[str, Callable[[Sequence[Cue], str | None], str]] = {
    "vtt": _write_vtt,
    "srt": _write_srt,
    "txt": _write_txt,
    "json": _write_json,
}


def _json_row(cue: Cue) -> dict[str, Any]:
    words = [{**_times(word), "text": clean_text(word.text)} for word in cue.words]
    speaker = clean_text(cue.speaker or "") or None
    return {**_times(cue), "text": clean_text(cue.text), "words": words, "speaker": speaker}


def _times(timed: Cue | Word) -> dict[str, float]:
    return {"start_s": timed.start_s, "end_s": timed.end_s}


def _timing(cue: Cue, mark: str) -> str:
    return f"{_timestamp(cue.start_s, mark)} --> {_timestamp(cue.end_s, mark)}"


def _timestamp(time_s: float, mark: str) -> str:
    if time_s < 0:
        raise ValueError(f"captions cannot start before the recording ({time_s} s)")
    minutes, milliseconds = divmod(round(time_s * 1000), 60_000)
    seconds, thousandths = divmod(milliseconds, 1000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}{mark}{thousandths:03}"


def _escape(text: str) -> str:
    return html.escape(text, quote=False)
