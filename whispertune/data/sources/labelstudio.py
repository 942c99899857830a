"""Exports of Label Studio: JSON, and JSON-MIN where it says enough; audio with regions, or transcribed as a whole.

    labelstudio:export.json          # or the folder with it; recordings are looked for in its folder

A region with text is a row, one without is a Problem; a text without region is of the whole recording, and regions
without text beside it do not count. A region's first label is its speaker. The text is that of the only text area of
the project; of several, `columns = { text = "transcription" }` names the one (its `name` in the labelling interface).
`columns = { audio = "recording" }` names the task's key with the audio where it is not "audio". Of several annotations
of a task the one changed last counts; cancelled ones do not.

Where the audio is:
- `/data/upload/3/1f0c2d3e-talk.wav` and `/data/local-files/?d=calls/talk.wav` are paths on the server. The longest end
  of the path that is a file in the folder of the export is meant: `calls/talk.wav`, else `talk.wav`. For an upload, the
  name without the eight digits that the server put before it is tried last. Where two tasks would come to one file by
  shorter ends, neither is used.
- Other paths are relative to the folder of the export. URLs are refused, nothing is fetched.

A task with a region of the second channel or a later one is a Problem: channels are averaged here. JSON-MIN names no
text areas ("transcription" is taken) and does not say which text is of which region: they are matched by order where
there are as many.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from whispertune.data.audio import AudioReader
from whispertune.data.captions import read_text
from whispertune.data.segments import Problem, SourceData, SourceSpec
from whispertune.data.sources.columns import RawRows, judge
from whispertune.data.sources.reading import check_columns
from whispertune.errors import DataError

_HEAD_BYTES = 64 * 1024
_MARK = re.compile(rb'"(?:annotations"\s*:\s*\[|annotation_id"\s*:)')
_UPLOAD_MARK = re.compile(r"[0-9a-f]{8}-(?=.)")
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_FIX = "export the project as JSON and give that file"
_FIX_URL = "download the audio, and give tasks with paths; nothing is fetched from a manifest"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Region:
    """A stretch of a task's recording with its text; no times: all of it."""

    name: str
    text: str | None
    start_s: float | None = None
    end_s: float | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True)
class _Task:
    """A task with the annotation that counts."""

    line: int
    name: str
    audio: str
    regions: tuple[_Region, ...]


class _UnusableError(Exception):
    """Why a task cannot be used."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind, self.detail = kind, detail


def read_labelstudio(spec: SourceSpec, audio: AudioReader) -> SourceData:
    """All regions of an export. An export is often one line, so problems name the task and the region too."""
    raw = parse_labelstudio(spec)
    if not raw.lines:  # the reasons are in the problems
        return SourceData((), raw.problems)
    names: list[Any] = list(raw.ids or ())
    data = judge(replace(raw, lines=range(len(raw.lines)), problems=()), spec, audio)

    def named(problem: Problem) -> Problem:
        row = int(problem.where.rpartition(":")[2])
        return replace(problem, where=f"{raw.file}:{raw.lines[row]}", detail=f"task {names[row]}: {problem.detail}")

    return SourceData(data.segments, raw.problems + tuple(named(problem) for problem in data.problems), data.notes)


def is_labelstudio(path: Path) -> bool:
    """Whether a file, or the only one of its kind in a folder, starts like an export."""
    return len(_exports(path)) == 1


def parse_labelstudio(spec: SourceSpec) -> RawRows:
    """The regions as rows; nothing but their form is checked."""
    check_columns(spec, "audio", "text")
    file = _export(spec.path)
    tasks: list[_Task] = []
    problems: list[Problem] = []
    rows = list(_rows(file))
    control = _text_area([row for _, row in rows], spec, file)
    for line, row in rows:
        try:
            tasks.append(_task(line, row, control, spec.column("audio") or "audio", file))
        except _UnusableError as error:
            problems.append(Problem(f"{file}:{line}", error.kind, f"task {row.get('id')}: {error.detail}"))
    places = _places(file, tasks)
    used: list[tuple[_Task, _Region]] = []
    for task in tasks:
        if task.audio in places:
            used += ((task, region) for region in task.regions)
        else:
            detail = f"task {task.name}: another task comes to the same file as {task.audio}"
            problems.append(Problem(f"{file}:{task.line}", "ambiguous path", detail))
    return RawRows(
        file=file,
        root=file.parent,
        lines=[task.line for task, _ in used],
        audio=[places[task.audio] for task, _ in used],
        text=[region.text for _, region in used],
        start_s=[region.start_s for _, region in used],
        end_s=[region.end_s for _, region in used],
        speaker=[region.label for _, region in used],
        ids=[f"{task.name}/{region.name}" if region.name else task.name for task, region in used],
        problems=tuple(problems),
    )


def _exports(path: Path) -> list[Path]:
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    return [file for file in files if file.suffix.lower() == ".json" and file.is_file() and _is_export(file)]


def _is_export(file: Path) -> bool:
    with file.open("rb") as opened:
        head = opened.read(_HEAD_BYTES)
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[") and _MARK.search(head) is not None


def _export(location: Path) -> Path:
    if location.is_file():
        return location
    found = _exports(location)
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.name for path in found)
    what = f"holds several exports: {names}" if found else "holds no export of Label Studio"
    raise DataError(what, where=str(location), fix="give the path of one" if found else _FIX)


def _rows(file: Path) -> list[tuple[int, Json]]:
    """Tasks with their lines; of JSON-MIN, with a record an annotation, the one changed last of each task."""
    tasks: list[tuple[int, Json]] = []
    newest: dict[str, tuple[int, Json]] = {}
    for line, row in _elements(file):
        if not isinstance(row, dict) or not ("annotations" in row or "annotation_id" in row):
            raise DataError("is no task with annotations", where=f"{file}:{line}", fix=_FIX)
        name = str(row.get("id", row.get("annotation_id")))
        if "annotations" in row:
            tasks.append((line, row))
        elif name not in newest or _changed(row) >= _changed(newest[name][1]):
            newest[name] = (line, row)
    rows = [*tasks, *newest.values()]
    if not rows:
        raise DataError("holds no tasks", where=str(file), fix=_FIX)
    return rows


def _elements(file: Path) -> Iterator[tuple[int, Any]]:
    """The elements of a JSON list, each with the line it starts on."""
    text = read_text(file)
    decoder = json.JSONDecoder()
    space = re.compile(r"\s*")
    place = _skip(space, text, 0)
    line, counted = 1, 0
    try:
        if text[place : place + 1] != "[":
            raise ValueError("it is no list")
        place = _skip(space, text, place + 1)
        while text[place : place + 1] != "]":
            line, counted = line + text.count("\n", counted, place), place
            element, place = decoder.raw_decode(text, place)
            yield line, element
            place = _skip(space, text, place)
            if text[place : place + 1] == ",":
                place = _skip(space, text, place + 1)
            elif text[place : place + 1] != "]":
                raise ValueError("the list goes on without a comma")
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not the JSON of an export ({error})", where=f"{file}:{line}", fix=_FIX) from None


def _skip(space: re.Pattern[str], text: str, place: int) -> int:
    found = space.match(text, place)
    return found.end() if found else place


def _text_area(rows: list[Json], spec: SourceSpec, file: Path) -> str:
    """The name of the text area whose texts count."""
    asked = spec.column("text")
    if not any("annotations" in row for row in rows):
        return asked or "transcription"
    results = (
        result for row in rows for annotation in _list(row, "annotations") for result in _list(annotation, "result")
    )
    names = sorted({str(result.get("from_name")) for result in results if result.get("type") == "textarea"})
    if asked in names or (asked is None and len(names) == 1):
        return asked or names[0]
    there = f"the text areas are: {', '.join(names)}" if names else "there is no text area in it"
    what = f"has no text area {asked!r}" if asked or not names else "has several text areas"
    raise DataError(what, where=str(file), fix=f'{there}; name one with columns = {{ text = "..." }}')


def _list(row: Json, key: str) -> list[Json]:
    """The objects in a list of a row."""
    value = row.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _task(line: int, row: Json, control: str, key: str, file: Path) -> _Task:
    data = row.get("data") if "annotations" in row else row
    if not isinstance(data, dict):
        raise _UnusableError("malformed row", f"data is {data!r}")
    if key not in data:
        fix = f'name the key of the audio with columns = {{ audio = "..." }}; there are: {", ".join(data)}'
        raise DataError(f"the task has no {key!r}", where=f"{file}:{line}", fix=fix)
    audio = data[key]
    if not isinstance(audio, str):
        raise _UnusableError("malformed row", f"{key} is {audio!r}, not a path")
    if "://" in audio:
        raise DataError(f"is a URL, not a file: {audio}", where=f"{file}:{line}", fix=_FIX_URL)
    regions = _regions(_newest(row), control) if "annotations" in row else _min_regions(row, control)
    if not regions:
        raise _UnusableError("no text", "the annotation holds no text")
    return _Task(line, str(row.get("id")), audio, tuple(regions))


def _newest(row: Json) -> Json:
    annotations = _list(row, "annotations")
    if not annotations:
        raise _UnusableError("not annotated", "nobody has annotated it")
    valid = [one for one in annotations if not (one.get("was_cancelled") or one.get("skipped"))]
    if not valid:
        raise _UnusableError("cancelled annotation", "all its annotations were cancelled")
    return max(valid, key=_changed)


def _changed(row: Json) -> datetime:
    try:
        time = datetime.fromisoformat(str(row.get("updated_at") or row.get("created_at")))
    except ValueError:
        return _LONG_AGO
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _regions(annotation: Json, control: str) -> list[_Region]:
    """The stretches of an annotation; results of one region share its id."""
    found: dict[str, _Region] = {}
    for result in _list(annotation, "result"):
        value = result.get("value")
        if not isinstance(value, dict) or "id" not in result:
            continue  # a relation between regions
        name = str(result["id"])
        region = _widened(found.get(name, _Region(name, None)), value)
        if result.get("type") == "textarea" and result.get("from_name") == control:
            region = replace(region, text=_joined([region.text, *_texts(value)]))
        found[name] = region
    return _with_text_or_time(list(found.values()))


def _widened(region: _Region, value: Json) -> _Region:
    """The region with what one of its results says of it."""
    if value.get("channel") not in (None, 0, "0"):
        raise _UnusableError("one channel of several", f"region {region.name} is of channel {value['channel']}")
    if region.start_s is None and "start" in value and "end" in value:
        region = replace(region, start_s=value["start"], end_s=value["end"])
    labels = value.get("labels")
    if region.label is None and isinstance(labels, list) and labels:
        region = replace(region, label=str(labels[0]))
    return region


def _texts(value: Json) -> list[str]:
    texts = value.get("text")
    return [text for text in texts if isinstance(text, str)] if isinstance(texts, list) else [str(texts or "")]


def _joined(texts: list[str | None]) -> str:
    return " ".join(text for text in texts if text)


def _with_text_or_time(regions: list[_Region]) -> list[_Region]:
    """Regions without what neither says nor shows anything; where all is in one text, without the empty ones."""
    whole = [replace(region, name="") for region in regions if region.start_s is None and region.text]
    timed = [region for region in regions if region.start_s is not None]
    if whole and not any(region.text for region in timed):
        return whole
    return [*whole, *timed]


def _min_regions(row: Json, control: str) -> list[_Region]:
    """The stretches of a record of JSON-MIN."""
    written = row.get(control)
    texts = written if isinstance(written, list) else [written] if written else []
    keys = [key for key in row if key != control and any("start" in item for item in _list(row, key))]
    timed = [_widened(_Region(str(place), None), item) for key in keys for place, item in enumerate(_list(row, key))]
    if not timed:
        whole = _joined([text for text in texts if isinstance(text, str)])
        return [_Region("", whole)] if whole else []
    if len(texts) != len(timed):
        detail = f"{len(texts)} texts for {len(timed)} regions; JSON says which is of which, JSON-MIN does not"
        raise _UnusableError("texts and regions differ", detail)
    own = [_joined([*_texts(text)]) if isinstance(text, dict) else str(text) for text in texts]
    return [replace(region, text=text) for region, text in zip(timed, own, strict=True)]


def _places(file: Path, tasks: list[_Task]) -> dict[str, str]:
    """Where the audio of the tasks is, from the folder of the export on; without those that come to one file."""
    places = {task.audio: _place(task.audio, file.parent) for task in tasks}
    comers: dict[str, list[str]] = {}
    for audio, place in places.items():
        comers.setdefault(place, []).append(audio)
    return {audio: place for audio, place in places.items() if len(comers[place]) == 1}


def _place(audio: str, folder: Path) -> str:
    """A path on the server as the longest end of it that is a file in the folder."""
    if audio.startswith("/data/") and "?d=" in audio:
        written = unquote(audio.split("?d=", 1)[1])
    elif re.match(r"/?(data/)?upload/", audio):
        written = unquote(audio).lstrip("/").removeprefix("data/")
    else:
        return audio
    parts = [part for part in written.replace("\\", "/").split("/") if part]
    if ".." in parts:
        return "/".join(parts)
    ends = ["/".join(parts[first:]) for first in range(len(parts))]
    if parts and "?d=" not in audio:
        ends.append(_UPLOAD_MARK.sub("", parts[-1], count=1))
    return next((end for end in ends if os.path.isfile(folder / end)), "/".join(parts))
