"""Manifests of Lhotse: cuts, or supervisions with their recordings, as .jsonl or .jsonl.gz.

    lhotse:data/cuts_train.jsonl.gz      # each supervision of each cut is a row
    lhotse:data                          # the one cut manifest in it, else recordings*.jsonl + supervisions*.jsonl
    lhotse:data/sw_supervisions.jsonl    # with sw_recordings.jsonl beside it

Times in a cut are relative to the cut, and a supervision is taken whole, also where it leaves the cut; one that
several cuts hold is a row once, the others are Problems. Mixes and padding are no recordings, so Problems, as are
recordings with transforms that would have to be applied and supervisions of one channel out of several: channels are
averaged, so a supervision has to be of all the channels in a file. Languages that Whisper lacks give way to the
recipe's.

Only sources of type "file" are read; a command, URL or Shar archive refuses the manifest. Relative paths are relative
to the manifest; with `outside = true` those that lead nowhere are tried from where Whispertune was started.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Problem, SourceData, SourceSpec
from whispertune.data.sources.columns import RawRows, judge
from whispertune.data.sources.reading import check_any_found, check_columns, found_path, json_rows
from whispertune.errors import DataError

_SUFFIXES = (".jsonl", ".jsonl.gz")
_CUT_TYPES = ("MonoCut", "MultiCut", "Cut")  # the last is what MonoCut was called until 0.8
_MIX_TYPES = ("MixedCut", "PaddingCut")
_HARMLESS_TRANSFORMS = ("Resample", "Volume", "LoudnessNormalization")  # they move no word
_LONGEST_S = 1e9  # no NaN either, nor an integer too large for a float
_FIX = "give a cut manifest, or a supervision manifest with its recordings beside it"

Json = dict[str, Any]


class _UnusableError(Exception):
    """Why a row cannot be used."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind, self.detail = kind, detail


@dataclass(frozen=True, slots=True)
class _Recording:
    """What a row needs of a recording: its files, each with the channels in it."""

    files: tuple[tuple[str, frozenset[int]], ...]


@dataclass(slots=True)
class _Rows:
    """Columns in the making."""

    lines: list[int] = field(default_factory=list)
    audio: list[str] = field(default_factory=list)
    texts: list[str | None] = field(default_factory=list)
    start_s: list[float] = field(default_factory=list)
    end_s: list[float] = field(default_factory=list)
    languages: list[str | None] = field(default_factory=list)
    speakers: list[str | None] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add(self, line: int, supervision: Json, audio: str, offset_s: float) -> None:
        """One row; an _UnusableError where the supervision is malformed."""
        name = _text(supervision, "id")
        text, language, speaker = (_text(supervision, key) for key in ("text", "language", "speaker"))
        start_s = round(offset_s + _seconds(supervision, "start"), 6)
        end_s = round(start_s + _seconds(supervision, "duration"), 6)
        if not name:
            raise _UnusableError("malformed row", "a supervision has no id")
        self.lines.append(line)
        self.audio.append(audio)
        self.texts.append(text)
        self.start_s.append(start_s)
        self.end_s.append(end_s)
        self.languages.append(language)
        self.speakers.append(speaker)
        self.ids.append(name)


def read_lhotse(spec: SourceSpec, audio: AudioReader) -> SourceData:
    """All supervisions of a manifest."""
    return judge(parse_lhotse(spec), spec, audio)


def is_lhotse(path: Path) -> bool:
    """Whether a file starts like a manifest of cuts or supervisions, or a folder holds one that is called so."""
    if path.is_dir():
        return any(is_lhotse(file) for word in ("cuts", "supervisions") for file in _named(path, word))
    if not path.name.endswith(_SUFFIXES) or not path.is_file():
        return False
    try:
        first = next((row for _, row in json_rows(path)), None)
    except DataError:
        return False
    return isinstance(first, dict) and (_is_cut(first) or _is_supervision(first))


def parse_lhotse(spec: SourceSpec) -> RawRows:
    """The supervisions as rows; nothing but their form is checked."""
    check_columns(spec)
    file = _manifest(spec.path)
    recordings = _recordings_beside(file)
    rows = _Rows()
    for line, row in json_rows(file):
        if isinstance(row, Problem):
            rows.problems.append(row)
            continue
        try:
            if recordings is None:
                _add_cut(rows, file, line, row)
            else:
                recording = _recording_of(row, recordings)
                rows.add(line, row, _file_of(recording, _channels(row.get("channel", 0))), 0.0)
        except _UnusableError as error:
            rows.problems.append(Problem(f"{file}:{line}", error.kind, error.detail))
    paths = {path: found_path(path, file.parent, spec.outside) for path in dict.fromkeys(rows.audio)}
    check_any_found(file, iter(paths.values()))
    return RawRows(
        file=file,
        root=file.parent,
        lines=rows.lines,
        audio=[paths[path] for path in rows.audio],
        text=rows.texts,
        start_s=rows.start_s,
        end_s=rows.end_s,
        language=rows.languages,
        speaker=rows.speakers,
        ids=rows.ids,
        problems=tuple(rows.problems),
    )


def _manifest(location: Path) -> Path:
    """The manifest that is meant by a folder or by itself."""
    if location.is_file():
        return location
    if not location.is_dir():
        raise DataError("there is no such file or folder", where=str(location), fix=_FIX)
    found = _named(location, "cuts") or _named(location, "supervisions")
    if not found:
        raise DataError("holds no manifest of Lhotse", where=str(location), fix=_FIX)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"holds several manifests: {names}", where=str(location), fix="give the path of one")
    return found[0]


def _named(folder: Path, word: str) -> list[Path]:
    files = (path for path in sorted(folder.iterdir()) if path.name.endswith(_SUFFIXES) and path.is_file())
    return [path for path in files if word in path.name and not path.name.startswith(".")]


def _is_cut(row: Json) -> bool:
    return row.get("type") in (*_CUT_TYPES, *_MIX_TYPES)


def _is_supervision(row: Json) -> bool:
    return all(key in row for key in ("id", "recording_id", "start", "duration")) and "type" not in row


def _recordings_beside(file: Path) -> dict[str, _Recording | _UnusableError] | None:
    """Recordings by id for a manifest of supervisions; None for one of cuts, which bring their own."""
    first = next((row for _, row in json_rows(file) if isinstance(row, dict)), None)
    if first is None:
        raise DataError("holds no rows", where=str(file), fix=_FIX)
    if _is_cut(first):
        return None
    if not _is_supervision(first):
        raise DataError("is a manifest neither of cuts nor of supervisions", where=str(file), fix=_FIX)
    stem = file.name[: -len(next(suffix for suffix in _SUFFIXES if file.name.endswith(suffix)))]
    names = [stem.replace("supervisions", "recordings") + suffix for suffix in _SUFFIXES]
    beside = next((file.with_name(name) for name in names if (file.parent / name).is_file()), None)
    if beside is None or beside == file:
        raise DataError(f"lacks its recordings: there is no {names[0]} or .gz beside it", where=str(file), fix=_FIX)
    return dict(_recordings(beside))


def _recordings(file: Path) -> Iterator[tuple[str, _Recording | _UnusableError]]:
    for line, row in json_rows(file):
        if isinstance(row, Problem):
            raise DataError(f"the line {row.detail}", where=row.where)
        try:
            yield str(row.get("id")), _recording(row, f"{file}:{line}")
        except _UnusableError as error:
            yield str(row.get("id")), error


def _recording_of(supervision: Json, recordings: dict[str, _Recording | _UnusableError]) -> _Recording:
    name = supervision.get("recording_id")
    found = recordings.get(str(name))
    if found is None:
        raise _UnusableError("no such recording", f"the recordings have no {name}")
    if isinstance(found, _UnusableError):
        raise found
    return found


def _add_cut(rows: _Rows, file: Path, line: int, cut: Json) -> None:
    """The supervisions of a cut; an _UnusableError where it is unusable as a whole."""
    kind = cut.get("type")
    if kind in _MIX_TYPES:
        raise _UnusableError("mixed cut", f"is a {kind}; a mix is no recording")
    if kind not in _CUT_TYPES:
        raise _UnusableError("malformed row", "is no cut")
    if not isinstance(cut.get("recording"), dict):
        raise _UnusableError("cut without recording", "it has features only, or nothing")
    recording = _recording(cut["recording"], f"{file}:{line}")
    offset_s = _seconds(cut, "start")
    supervisions = cut.get("supervisions")
    if not isinstance(supervisions, list) or not supervisions:
        raise _UnusableError("cut without supervisions", "nothing says what is said in it")
    for supervision in supervisions:
        try:
            if not isinstance(supervision, dict):
                raise _UnusableError("malformed row", "a supervision is no JSON object")
            channels = _channels((supervision if kind == "MultiCut" else cut).get("channel", 0))
            rows.add(line, supervision, _file_of(recording, channels), offset_s)
        except _UnusableError as error:
            rows.problems.append(Problem(f"{file}:{line}", error.kind, error.detail))


def _recording(row: Json, where: str) -> _Recording:
    transforms = row.get("transforms") or []
    for transform in transforms if isinstance(transforms, list) else [transforms]:
        name = transform.get("name") if isinstance(transform, dict) else transform
        if name not in _HARMLESS_TRANSFORMS:
            raise _UnusableError("transformed recording", f"{name} would have to be applied; save the audio with it")
    sources = row.get("sources")
    if not isinstance(sources, list) or not sources:
        raise _UnusableError("malformed row", "the recording has no sources")
    return _Recording(tuple(_source(source, where) for source in sources))


def _source(source: Any, where: str) -> tuple[str, frozenset[int]]:
    """The file of a source and the channels in it; a DataError where it is no file."""
    if not isinstance(source, dict):
        raise _UnusableError("malformed row", "a source is no JSON object")
    kind, path = source.get("type"), source.get("source")
    if kind != "file":
        fix = 'nothing of it is run or fetched: save the audio as files, e.g. with CutSet.save_audios, type "file"'
        raise DataError(f"is a source of type {kind!r}, not a file", where=where, fix=fix)
    if not isinstance(path, str):
        raise _UnusableError("malformed row", f"the path of the source is {path!r}")
    return path, _channels(source.get("channels", 0))


def _file_of(recording: _Recording, wanted: frozenset[int]) -> str:
    """The file that holds the channels wanted and no other."""
    for path, channels in recording.files:
        if channels == wanted:
            return path
    names = " and ".join(str(channel) for channel in sorted(wanted))
    held = " and ".join(str(channel) for _, channels in recording.files for channel in sorted(channels))
    detail = f"is of channel {names} of a recording with {held}; the channels of a file are averaged here"
    raise _UnusableError("one channel of several", detail)


def _channels(written: Any) -> frozenset[int]:
    channels = written if isinstance(written, list) else [written]
    if not all(isinstance(channel, int) for channel in channels):
        raise _UnusableError("malformed row", f"channel is {written!r}")
    return frozenset(channels)


def _text(row: Json, key: str) -> str | None:
    value = row.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and key in ("id", "speaker"):
        return str(value)
    if value is not None and not isinstance(value, str):
        raise _UnusableError("malformed row", f"{key} is {value!r}, not text")
    return value


def _seconds(row: Json, key: str) -> float:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LONGEST_S:
        raise _UnusableError("wrong times", f"{key} is {value!r}, not seconds")
    return float(value)
