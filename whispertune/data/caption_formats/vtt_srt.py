"""VTT and SRT: blocks of a timing line and text.

captions = read_vtt("WEBVTT\\n\\n00:12.400 --> 00:15.000\\n<v Anna>Yes.", Path("talk.vtt"))
text = write_srt(captions.cues, None)  # "1\\n00:00:12,400 --> 00:00:15,000\\nYes.\\n"
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from whispertune.data.caption_formats.cues import Captions, Cue, Line, clean_text, numbered_lines
from whispertune.data.caption_formats.rolling import said_once
from whispertune.data.segments import Problem
from whispertune.errors import DataError

_TIME = r"(?:([0-9]{1,4}):)?([0-5]?[0-9]):([0-5]?[0-9])[.,]([0-9]{3})"
_TIMING = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?")
# No two repeats beside each other match the same characters: that takes hours on long lines.
_TIME_START = re.compile(r"[0-9]+:[0-9]{1,2}[:.,][0-9]")
_LATER_TIME = re.compile(r"[0-9]:[0-9]{1,2}[:.,][0-9]")
_MARKED_TIME = re.compile(rf"\S{{0,3}}{_TIME_START.pattern}")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,30});")
_VTT_TAG = re.compile(r"</?(?:[a-zA-Z][^<>]*|[0-9][0-9:.]*)?>")
_VTT_VOICE = re.compile(r"<v(?:\.[^\s<>]*)?[ \t]([^<>]+)>")
_VTT_VOICE_START = re.compile(r"<v(?:[.\s][^<>]*)?>")
# How a word over them is read, not said: up to its end, or where that is not written, the next one or the ruby's end.
_VTT_READING = re.compile(
    r"<(rt|rp)(?:[.\s][^<>]*)?>[^<]*(?:<(?!/?(?:rt|rp|ruby)\b)[^<]*)*(?:</\1[ \t]*>|(?=<r[tp]\b|</r(?:uby|[tp])\b))"
)
_SRT_TAG = re.compile(r"</?(?:[bius]\s*|font(?:\s[^<>]*)?)>|\{\\[^{}]*\}", re.IGNORECASE)


def read_vtt(text: str, path: Path) -> Captions:
    lines = numbered_lines(text)
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
            found = _cue(part, path)
            (cues if isinstance(found, Cue) else problems).append(found)  # type: ignore[arg-type]
    cues = said_once(cues, lambda raw: _vtt_text(raw)[0])
    return Captions(tuple(_with_plain_text(cue) for cue in cues), tuple(problems))


def _with_plain_text(cue: Cue) -> Cue:
    text, speaker = _vtt_text(cue.text)
    return replace(cue, text=text, speaker=speaker)


def read_srt(text: str, path: Path) -> Captions:
    parts: list[list[Line]] = []
    for block in _blocks(numbered_lines(text), lambda line: not line.strip()):
        for part in _parts(block, arrows_in_text=True):
            if parts and _timing_index(part) is None and not part[0][1].strip().isdecimal():
                parts[-1] += part  # an empty line within the text, as players read it
            else:
                parts.append(part)
    found = [_cue(part, path) for part in parts]
    cues = tuple(replace(item, text=_srt_text(item.text)) for item in found if isinstance(item, Cue))
    return Captions(cues, tuple(item for item in found if isinstance(item, Problem)))


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
    return next((index for index, (_, line) in enumerate(part[:2]) if _is_timelike(line)), None)


def _is_timelike(line: str) -> bool:
    """Whether it is meant as a timing line, well or badly written: an arrow, or two times and little between."""
    if "-->" in line:
        return True
    words = line.split(maxsplit=3)
    first = _TIME_START.match(words[0]) if words else None
    if first is None or len(words) > 3:
        return False
    if len(words) == 1:
        return _LATER_TIME.search(words[0], first.end()) is not None
    if len(words) == 2:
        return _MARKED_TIME.match(words[1]) is not None
    return len(words[1]) <= 3 and _TIME_START.match(words[2]) is not None


def _cue(part: list[Line], path: Path) -> Cue | Problem:
    """The cue with its text as it is written, markup and lines and all."""
    timing = _timing_index(part)
    if timing is None:
        return Problem(f"{path}:{part[0][0]}", "text without a time", clean_text(part[0][1])[:80])
    number, line = part[timing]
    match = _TIMING.fullmatch(line)
    if match is None:
        return Problem(f"{path}:{number}", "malformed time", clean_text(line)[:80])
    text = "\n".join(line for _, line in part[timing + 1 :])
    return Cue(_seconds(match.groups()[:4]), _seconds(match.groups()[4:]), text, number)


def _seconds(parts: Sequence[str | None]) -> float:
    hours, minutes, seconds, thousandths = (int(part or 0) for part in parts)
    return ((hours * 60 + minutes) * 60_000 + seconds * 1000 + thousandths) / 1000


def _vtt_text(raw: str) -> tuple[str, str | None]:
    voices = {clean_text(_unescape(name)) for name in _VTT_VOICE.findall(raw)}
    speaker = voices.pop() if len(voices) == 1 else None
    spoken = _VTT_VOICE_START.sub(" ", _VTT_READING.sub("", raw))  # two voices are two words
    return clean_text(_unescape(_VTT_TAG.sub("", spoken))), speaker or None


def _srt_text(raw: str) -> str:
    return clean_text(_unescape(_SRT_TAG.sub("", raw)))


def _unescape(text: str) -> str:
    return _ENTITY.sub(lambda match: html.unescape(match.group()), text)


# ---------------------------------------------------------------------------------------------- writing


def write_vtt(cues: Sequence[Cue], language: str | None) -> str:
    blocks = ["WEBVTT\n"]
    for cue in cues:
        voice = f"<v {_escape(clean_text(cue.speaker))}>" if cue.speaker else ""
        blocks.append(f"{_timing(cue, '.')}\n{voice}{_escape(_display(cue.text))}\n")
    return "\n".join(blocks)


def write_srt(cues: Sequence[Cue], language: str | None) -> str:
    blocks = []
    for number, cue in enumerate(cues, start=1):
        text = _display(cue.text)
        # Players show entities as they stand, so they are written only where the text would read otherwise.
        text = text if _srt_text(text) == clean_text(text) else _escape(text).replace("{", "&#123;")
        blocks.append(f"{number}\n{_timing(cue, ',')}\n{text}\n")
    return "\n".join(blocks)


def _display(text: str) -> str:
    """The text as it is to be shown, its lines kept; read back, they are joined.

    Where a line could be taken for the times of another cue, which the first one never is, they are joined here.
    """
    lines = [line for line in map(clean_text, text.split("\n")) if line]
    return (" " if any(map(_is_timelike, lines[1:])) else "\n").join(lines)


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
