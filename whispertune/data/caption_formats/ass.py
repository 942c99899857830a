r"""ASS and SSA: the Dialogue lines of [Events], in the columns that its Format line names.

    [Events]
    Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
    Dialogue: 0,0:00:12.40,0:00:15.00,Default,Anna,0,0,0,,{\i1}Yes,{\i0}\Nwe do.

    captions = read_ass(text, Path("talk.ass"))  # Cue(12.4, 15.0, "Yes, we do.", speaker="Anna")

The order of the lines means nothing in ASS, so cues come by time. What is no line of speech is left out:
comments, drawings, and the same text at the same time once more on another layer (that is how borders and
shadows are made). Signs are kept, as nothing tells them from speech.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from whispertune.data.caption_formats.cues import Captions, Cue, clean_text, in_order, numbered_lines
from whispertune.data.segments import Problem
from whispertune.errors import DataError

_SECTION = re.compile(r"\[([^\[\]]*)\]")
_ENTRY = re.compile(r"([A-Za-z]+):[ \t]*(.*)")
_UNSPOKEN = ("comment", "picture", "sound", "movie", "command")
_TIME = re.compile(r"([0-9]{1,4}):([0-5]?[0-9]):([0-5]?[0-9])[.:,]([0-9]{2})")
_ESCAPE = re.compile(r"\\[Nnh{}]")
_TAGS_OR_ESCAPE = re.compile(rf"\{{[^}}]*\}}|{_ESCAPE.pattern}")
_DRAWING = re.compile(r"\\p(?!os|bo)[\s(]*([0-9]*)")  # \p1 begins a drawing and \p0 ends it; \pos and \pbo do not


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where a Dialogue line has what; its text is all that follows the last comma that counts."""

    count: int
    start: int
    end: int
    name: int | None


def read_ass(text: str, path: Path) -> Captions:
    cues: dict[tuple[float, float, str], Cue] = {}
    problems: list[Problem] = []
    columns: _Columns | None = None
    for number, kind, value in _events(text, path):
        where = f"{path}:{number}"
        if kind == "format":
            columns = _columns(value, where)
        elif kind == "dialogue":
            if columns is None:
                raise DataError("a Dialogue line without a Format line before it", where=where, fix=_FORMAT_FIX)
            found = _cue(value, columns, number, where)
            if isinstance(found, Problem):
                problems.append(found)
            elif found:
                cues.setdefault((found.start_s, found.end_s, found.text), found)
        elif kind not in _UNSPOKEN:
            problems.append(Problem(where, "malformed cue", f"neither Dialogue nor Comment: {clean_text(value)[:80]}"))
    return Captions(in_order(cues.values()), tuple(problems))


_FORMAT_FIX = (
    "[Events] should begin with: Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text"
)


def _events(text: str, path: Path) -> Iterable[tuple[int, str, str]]:
    """The lines of [Events] with their number, as keyword and value; the keyword is empty where there is none."""
    section, events = "", []
    seen = False
    for number, line in numbered_lines(text):
        stripped = line.strip()
        if header := _SECTION.fullmatch(stripped):
            section = header[1].strip().lower()
            seen |= section == "events"
        elif section == "events" and stripped and not stripped.startswith((";", "!:")):
            entry = _ENTRY.fullmatch(stripped)
            events.append((number, entry[1].lower(), entry[2]) if entry else (number, "", stripped))
    if not seen:
        fix = "captions in SRT or VTT form belong in a .srt or .vtt file"
        raise DataError("holds no [Events]: it is no ASS or SSA file", where=str(path), fix=fix)
    return events


def _columns(value: str, where: str) -> _Columns:
    names = [name.strip().lower() for name in value.split(",")]
    if not {"start", "end", "text"} <= set(names) or names[-1] != "text":
        raise DataError("the Format line needs Start and End, and Text as its last column", where=where,
                        fix=_FORMAT_FIX)  # fmt: skip
    name = next((index for index, name in enumerate(names) if name in ("name", "actor")), None)
    return _Columns(len(names), names.index("start"), names.index("end"), name)


def _cue(value: str, columns: _Columns, number: int, where: str) -> Cue | Problem | None:
    """The cue of a Dialogue line; None where it is only a drawing."""
    fields = value.split(",", columns.count - 1)
    if len(fields) < columns.count:
        detail = f"has {len(fields)} of {columns.count} columns: {clean_text(value)[:80]}"
        return Problem(where, "malformed cue", detail)
    start, end = (_TIME.fullmatch(fields[index].strip()) for index in (columns.start, columns.end))
    if start is None or end is None:
        times = f"{fields[columns.start]} to {fields[columns.end]}"
        return Problem(where, "malformed time", f"should be like 0:01:02.50: {clean_text(times)[:80]}")
    text, drawn = _spoken(fields[-1])
    if drawn and not text:
        return None
    speaker = None if columns.name is None else clean_text(fields[columns.name]) or None
    return Cue(_seconds(start), _seconds(end), text, number, speaker=speaker)


def _seconds(time: re.Match[str]) -> float:
    hours, minutes, seconds, hundredths = map(int, time.groups())
    return ((hours * 60 + minutes) * 6000 + seconds * 100 + hundredths) / 100


def _spoken(raw: str) -> tuple[str, bool]:
    """The text without its override tags, and whether something is drawn in it."""
    parts: list[str] = []
    at, drawing, drawn = 0, False, False
    closed = raw.rfind("}") + 1  # a brace opened behind it is text
    for match in [*_TAGS_OR_ESCAPE.finditer(raw, 0, closed), *_ESCAPE.finditer(raw, closed), None]:
        between = raw[at : match.start() if match else len(raw)]
        drawn |= drawing and bool(between.strip())
        parts.append("" if drawing else between)
        if match is None:
            break
        at = match.end()
        if match[0].startswith("{"):
            scales = _DRAWING.findall(match[0])
            drawing = bool(scales[-1].strip("0")) if scales else drawing
        elif not drawing:
            parts.append(match[0][1] if match[0][1] in "{}" else "\n")  # \N, \n and \h are white space
    return clean_text("".join(parts)), drawn
