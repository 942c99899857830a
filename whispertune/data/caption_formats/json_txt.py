"""Our own JSON, with words and speakers, and plain text (written only).

captions = read_json('{"language": "sv", "cues": [{"start_s": 12.4, "end_s": 15, "text": "Ja."}]}', path)
text = write_txt(captions.cues, None)  # "Ja.\\n"
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from whispertune.data.caption_formats.cues import Captions, Cue, Word, clean_text
from whispertune.data.segments import Problem
from whispertune.errors import DataError


def read_json(text: str, path: Path) -> Captions:
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
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError):  # no cue, whatever else it is
            detail = "a cue needs start_s and end_s in seconds, and text"
            problems.append(Problem(f"{path}:{line}", "malformed cue", detail))
    language = data.get("language")
    return Captions(tuple(cues), tuple(problems), language if isinstance(language, str) else None)


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


def write_txt(cues: Sequence[Cue], language: str | None) -> str:
    return "".join(f"{clean_text(cue.text)}\n" for cue in cues)


def write_json(cues: Sequence[Cue], language: str | None) -> str:
    rows = ",\n".join(json.dumps(_json_row(cue), ensure_ascii=False) for cue in cues)  # a cue a line, for file:line
    return f'{{"language": {json.dumps(language)}, "cues": [\n{rows}\n]}}\n'


def _json_row(cue: Cue) -> dict[str, Any]:
    words = [{**_times(word), "text": clean_text(word.text)} for word in cue.words]
    speaker = clean_text(cue.speaker or "") or None
    return {**_times(cue), "text": clean_text(cue.text), "words": words, "speaker": speaker}


def _times(timed: Cue | Word) -> dict[str, float]:
    return {"start_s": timed.start_s, "end_s": timed.end_s}
