"""Data folders in the form of Kaldi: wav.scp and text, and segments, utt2spk, utt2lang where they are there.

    wav.scp    call7 calls/call7.flac            segments   call7-a call7 12.40 15.00       (-1: to the end)
    text       call7-a good morning              utt2spk    call7-a anna

Each line of segments, or of text where there is none, is a row; its id is the utterance's. Speakers come from utt2spk,
else spk2utt; durations of whole recordings from utt2dur, else reco2dur. Commands in wav.scp are never run: a folder
with one is refused, as are standard input and places inside archives (`all.ark:123`).

Relative paths are relative to the data folder. Kaldi means them from where its recipe runs: with `outside = true`,
which absolute paths need as well, those that lead nowhere are tried from the folder Whispertune was started in.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Problem, SourceData, SourceSpec
from whispertune.data.sources.columns import RawRows, judge
from whispertune.data.sources.reading import check_any_found, check_columns, found_path, text_lines
from whispertune.errors import DataError

_IN_ARCHIVE = re.compile(r":[0-9]+(?:\[[0-9:,]*\])?$")
_FIX_PATH = "nothing of it is run: write the path of the audio file itself, e.g. call7 calls/call7.flac"


@dataclass(slots=True)
class _Table:
    """A file of keys with what stands behind them, as columns; a file that is not there is empty."""

    file: Path
    places: dict[str, int] = field(default_factory=dict)  # in the other two
    lines: array[int] = field(default_factory=lambda: array("q"))
    values: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def get(self, key: str) -> str | None:
        place = self.places.get(key)
        return None if place is None else self.values[place]

    def __contains__(self, key: str) -> bool:
        return key in self.places

    def __iter__(self) -> Iterator[tuple[str, int, str]]:
        """Key, line and value."""
        return zip(self.places, self.lines, self.values, strict=True)


@dataclass(slots=True)
class _Rows:
    """Columns in the making."""

    lines: list[int] = field(default_factory=list)
    utterances: list[str] = field(default_factory=list)
    recordings: list[str] = field(default_factory=list)
    start_s: list[str | None] = field(default_factory=list)
    end_s: list[str | None] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add(
        self, line: int, utterance: str, recording: str, start_s: str | None = None, end_s: str | None = None
    ) -> None:
        self.lines.append(line)
        self.utterances.append(utterance)
        self.recordings.append(recording)
        self.start_s.append(start_s)
        self.end_s.append(end_s)


def read_kaldi(spec: SourceSpec, audio: AudioReader) -> SourceData:
    """All utterances of a data folder."""
    return judge(parse_kaldi(spec), spec, audio)


def is_kaldi(path: Path) -> bool:
    """Whether a folder has wav.scp and text."""
    return (path / "wav.scp").is_file() and (path / "text").is_file()


def parse_kaldi(spec: SourceSpec) -> RawRows:
    """The utterances as rows; nothing but the form of the files, and that they fit together, is checked."""
    check_columns(spec)
    folder = spec.path
    for name in ("wav.scp", "text"):
        if not (folder / name).is_file():
            raise DataError(f"holds no {name}", where=str(folder), fix="a Kaldi data folder has wav.scp and text")
    paths, texts, segments = (_table(folder / name) for name in ("wav.scp", "text", "segments"))
    _check_paths(paths)
    whole = not segments.file.is_file()
    rows = _text_rows(texts, paths) if whole else _segment_rows(segments, paths, texts)
    wavs = {key: found_path(path, folder, spec.outside) for key, _, path in paths}
    check_any_found(paths.file, (wavs[recording] for recording in dict.fromkeys(rows.recordings)))
    speakers = _speakers(folder)
    spoken = _table(folder / "utt2lang")
    return RawRows(
        file=texts.file if whole else segments.file,
        root=folder,
        lines=rows.lines,
        audio=[wavs[recording] for recording in rows.recordings],
        text=[texts.get(utterance) for utterance in rows.utterances],
        start_s=None if whole else rows.start_s,
        end_s=None if whole else rows.end_s,
        duration_s=_durations(folder, rows.utterances) if whole else None,
        language=[spoken.get(utterance) for utterance in rows.utterances],
        speaker=[speakers.get(utterance) for utterance in rows.utterances] if speakers else None,
        ids=rows.utterances,
        problems=tuple(rows.problems),
    )


def _table(file: Path) -> _Table:
    table = _Table(file)
    for number, line in text_lines(file) if file.is_file() else ():
        # Blanks and tabs only: what else Unicode holds for a blank is text.
        key, _, value = line.replace("\t", " ").strip(" ").partition(" ")
        if key in table:
            detail = f"{key} stands on line {table.lines[table.places[key]]} already"
            table.problems.append(Problem(f"{file}:{number}", "given twice", detail))
        elif key:
            table.places[sys.intern(key)] = len(table.values)
            table.lines.append(number)
            table.values.append(value.lstrip(" "))
    return table


def _check_paths(paths: _Table) -> None:
    for _, line, path in paths:
        what = None
        if path.endswith("|") or path.startswith("|"):
            what = f"is a command, not a path: {path}"
        elif path in ("", "-"):
            what = "names no audio file"
        elif _IN_ARCHIVE.search(path):
            what = f"is a place inside an archive, not an audio file: {path}"
        if what:
            raise DataError(what, where=f"{paths.file}:{line}", fix=_FIX_PATH)


def _text_rows(texts: _Table, paths: _Table) -> _Rows:
    """Without segments a recording is an utterance."""
    rows = _Rows(problems=[*paths.problems, *texts.problems])
    for utterance, line, _ in texts:
        if utterance in paths:
            rows.add(line, utterance, utterance)
        else:
            detail = f"wav.scp has no {utterance}, and there are no segments"
            rows.problems.append(Problem(f"{texts.file}:{line}", "no such recording", detail))
    for recording, line, _ in paths:
        if recording not in texts:
            detail = f"text has no {recording}"
            rows.problems.append(Problem(f"{paths.file}:{line}", "recording without text", detail))
    return rows


def _segment_rows(segments: _Table, paths: _Table, texts: _Table) -> _Rows:
    rows = _Rows(problems=[*paths.problems, *texts.problems, *segments.problems])
    for utterance, line, written in segments:
        fields = _fields(written)
        trouble = _segment_trouble(fields, paths)
        if trouble:
            rows.problems.append(Problem(f"{segments.file}:{line}", *trouble))
        else:  # also where text has no such utterance: somebody speaks there
            end_s = None if _is_end(fields[2]) else fields[2]
            rows.add(line, utterance, sys.intern(fields[0]), fields[1], end_s)
    for utterance, line, _ in texts:
        if utterance not in segments:
            detail = f"segments has no {utterance}"
            rows.problems.append(Problem(f"{texts.file}:{line}", "utterance without segment", detail))
    return rows


def _fields(written: str) -> list[str]:
    return [one for one in written.split(" ") if one]


def _segment_trouble(fields: list[str], paths: _Table) -> tuple[str, str] | None:
    if len(fields) == 4:
        return "one channel of several", f"names channel {fields[3]}; channels are averaged here"
    if len(fields) != 3:
        return "malformed row", f"has {len(fields) + 1} fields; lines are: utterance recording start end"
    if fields[0] not in paths:
        return "no such recording", f"wav.scp has no {fields[0]}"
    return None


def _is_end(written: str) -> bool:
    """Whether a time means the end of the recording."""
    try:
        return float(written) == -1
    except ValueError:
        return False


def _speakers(folder: Path) -> dict[str, str]:
    """By utterance."""
    own = {utterance: sys.intern(speaker) for utterance, _, speaker in _table(folder / "utt2spk")}
    if own:
        return own
    return {utterance: speaker for speaker, _, said in _table(folder / "spk2utt") for utterance in _fields(said)}


def _durations(folder: Path, utterances: list[str]) -> list[str | None] | None:
    """Of whole recordings, where they are stated."""
    stated: Iterator[_Table] = (_table(folder / name) for name in ("utt2dur", "reco2dur"))
    table = next((table for table in stated if table.values), None)
    return [table.get(utterance) for utterance in utterances] if table else None
