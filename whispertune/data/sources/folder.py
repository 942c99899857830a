"""A folder of recordings with a metadata.jsonl or metadata.csv that says what is said in them.

    {"file_name": "clips/7.wav", "text": "Good morning.", "language": "en"}
    {"file_name": "talk.mp3", "text": "That is the plan.", "start": 12.4, "end": 15.0, "speaker": "Anna"}

`file_name` and `text` are needed; `language`, `speaker`, `start`, `end` (seconds) and `task` may be there, other
columns are left alone. Each row that cannot be used is a Problem with its line.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from whispertune.data.audio import AudioInfo, AudioReader
from whispertune.data.captions import clean_text, read_text
from whispertune.data.segments import Problem, Segment, SourceData, SourceSpec
from whispertune.data.sources.rows import Spoken, Trouble, language_of, linked, time_trouble
from whispertune.errors import AudioError, DataError

METADATA_NAMES = ("metadata.jsonl", "metadata.csv")
METADATA_SUFFIXES = (".jsonl", ".csv")
TASKS = ("transcribe", "translate")
_NEEDED = ("file_name", "text")
_PROBED_ROWS = 1000  # at a time, so that `limit_rows` does not open all of a large folder


@dataclass(frozen=True, slots=True)
class _Row:
    """A row that is well-formed; whether its recording goes along is not known yet."""

    line: int
    recording: Path
    start_s: float
    end_s: float | None  # None: to the end of the recording
    text: str
    language: str
    task: str
    speaker: str | None


class _UnusableError(Exception):
    """Why a row cannot be used."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.trouble: Trouble = (kind, detail)


def read_folder(spec: SourceSpec, audio: AudioReader) -> SourceData:
    """All rows of the metadata file; those of one recording in the order of their times."""
    path = metadata_path(spec.location)
    rows = _parsed_rows(path, spec)
    if not rows:
        raise DataError("holds no rows", where=str(path))
    segments: dict[int, Segment] = {}  # by line
    problems: list[Problem] = []
    for line, found in _judged(rows, path, audio):
        if len(segments) == spec.limit_rows:
            break
        if isinstance(found, Segment):
            segments[line] = found
        else:
            problems.append(Problem(f"{path}:{line}", *found))
    return SourceData(tuple(_in_order(rows, segments)), tuple(problems))


def metadata_path(location: Path) -> Path:
    """The metadata file that is meant by a folder or by itself."""
    if location.is_file():
        return location
    found = [location / name for name in METADATA_NAMES if (location / name).is_file()]
    if len(found) != 1:
        what = "holds both metadata.jsonl and metadata.csv" if found else "holds no metadata.jsonl or metadata.csv"
        raise DataError(what, where=str(location), fix="give the path of the metadata file itself")
    return found[0]


def _parsed_rows(path: Path, spec: SourceSpec) -> list[tuple[int, _Row | Trouble]]:
    text = read_text(path)
    raw = list(_csv_rows(text, path) if path.suffix.lower() == ".csv" else _jsonl_rows(text))
    columns = {name: None for _, row in raw if isinstance(row, dict) for name in row}
    if columns:
        _check_columns(list(columns), path)
    return [(line, _parsed(row, line, path, spec)) for line, row in raw]


def _check_columns(columns: list[str], path: Path) -> None:
    missing = " and ".join(name for name in _NEEDED if name not in columns)
    if missing:
        fix = f"the columns are: {', '.join(columns)}; rename or add {missing}"
        raise DataError(f"has no column {missing}", where=str(path), fix=fix)


def _jsonl_rows(text: str) -> Iterator[tuple[int, dict[str, Any] | Trouble]]:
    for line, written in enumerate(text.split("\n"), start=1):
        if not written.strip():
            continue
        try:
            row = json.loads(written)
        except (ValueError, RecursionError) as error:
            yield line, ("malformed row", f"is not JSON ({error})")
            continue
        yield line, row if isinstance(row, dict) else ("malformed row", "is no JSON object")


def _csv_rows(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any] | Trouble]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:  # a quote that is never closed takes all lines behind it along
            yield line, ("malformed row", f"{error} (up to line {reader.line_num})")
            continue
        if columns is None:
            columns = [name.strip() for name in values]
            _check_columns(columns, path)
        elif len(values) > len(columns):
            yield (
                line,
                ("malformed row", f"has {len(values)} fields in {len(columns)} columns; text with , needs quotes"),
            )
        elif values:
            yield line, dict.fromkeys(columns, "") | dict(zip(columns, values, strict=False))


def _parsed(row: dict[str, Any] | Trouble, line: int, path: Path, spec: SourceSpec) -> _Row | Trouble:
    if isinstance(row, tuple):
        return row
    try:
        end_s = _seconds(row, "end")
        parsed = _Row(
            line=line,
            recording=_recording(_string(row, "file_name"), path.parent),
            start_s=_seconds(row, "start") or 0.0,
            end_s=end_s,
            text=clean_text(_string(row, "text")),
            language=language_of(_string(row, "language").strip(), spec, f"{path}:{line}"),
            task=_string(row, "task").strip() or spec.task,
            speaker=clean_text(_string(row, "speaker")) or None,
        )
        if not parsed.text:
            raise _UnusableError("empty text", "the text is empty")
        if parsed.task not in TASKS:
            raise _UnusableError("unknown task", f"the task is {parsed.task!r}, not one of {', '.join(TASKS)}")
    except _UnusableError as error:
        return error.trouble
    return parsed


def _string(row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool) and column == "speaker":
        return str(value)  # speakers are often numbers
    if not isinstance(value, str):
        raise _UnusableError("malformed row", f"{column} is {value!r}, not text")
    return value


def _seconds(row: dict[str, Any], column: str) -> float | None:
    value = row.get(column)
    if value is None or value == "":
        return None
    try:
        if isinstance(value, bool):
            raise TypeError
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise _UnusableError("wrong times", f"{column} is {value!r}, not seconds")
    return seconds


def _recording(file_name: str, folder: Path) -> Path:
    name = PurePath(file_name)
    if not file_name.strip():
        raise _UnusableError("missing file", "file_name is empty")
    if name.is_absolute() or name.drive or ".." in name.parts:
        raise _UnusableError("path outside of the folder", f"{file_name!r} is not below {folder}")
    if not os.path.isfile(folder / name):
        raise _UnusableError("missing file", f"there is no file {file_name!r} in {folder}")
    return folder / name


def _judged(
    rows: list[tuple[int, _Row | Trouble]], path: Path, audio: AudioReader
) -> Iterator[tuple[int, Segment | Trouble]]:
    infos: dict[Path, AudioInfo | AudioError] = {}
    for first in range(0, len(rows), _PROBED_ROWS):
        part = rows[first : first + _PROBED_ROWS]
        recordings = dict.fromkeys(row.recording for _, row in part if isinstance(row, _Row))
        new = [recording for recording in recordings if recording not in infos]
        infos.update(zip(new, audio.probe_many(new), strict=True))
        for line, row in part:
            yield line, _segment(row, infos[row.recording], path) if isinstance(row, _Row) else row


def _segment(row: _Row, info: AudioInfo | AudioError, path: Path) -> Segment | Trouble:
    if isinstance(info, AudioError):
        return "recording does not decode", f"{row.recording.name} {info.what}"
    end_s = info.duration_s if row.end_s is None else row.end_s
    if trouble := time_trouble(row.start_s, end_s, info.duration_s):
        return trouble
    return Segment(
        id=f"{path.name}:{row.line}",
        recording=row.recording,
        start_s=row.start_s,
        end_s=min(end_s, info.duration_s),
        text=row.text,
        language=row.language,
        task=row.task,
        speaker=row.speaker,
    )


def _in_order(rows: list[tuple[int, _Row | Trouble]], segments: dict[int, Segment]) -> Iterator[Segment]:
    """Recording by recording, by task and language, by time; rows that cannot be used break a chain too."""
    by_recording: dict[Path, list[_Row]] = {}
    for _, row in rows:
        if isinstance(row, _Row):
            by_recording.setdefault(row.recording, []).append(row)
    for of_one in by_recording.values():
        yield from (segments[row.line] for row in of_one if _is_whole(row) and row.line in segments)
        timed = [row for row in of_one if not _is_whole(row)]
        timed.sort(key=lambda row: (row.task, row.language, row.start_s))
        yield from linked([_spoken(row, segments.get(row.line)) for row in timed])


def _is_whole(row: _Row) -> bool:
    return row.start_s == 0 and row.end_s is None


def _spoken(row: _Row, segment: Segment | None) -> Spoken:
    end_s = math.inf if row.end_s is None else row.end_s
    return Spoken(row.start_s, segment.end_s if segment else end_s, segment)
