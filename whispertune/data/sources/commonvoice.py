"""Releases of Common Voice, unpacked, as Mozilla Data Collective ships them.

    commonvoice:cv-corpus-22.0-2025-06-20/sv-SE                    # train.tsv
    commonvoice:cv-corpus-22.0-2025-06-20/sv-SE:train+validated    # no clip twice
    commonvoice:sps-corpus-3.0-2026-03-09-sv-SE:train+dev          # Spontaneous Speech

Scripted Speech: train, dev, test, validated, other, invalidated.tsv and clips/*.mp3, lengths in clip_durations.tsv.
Spontaneous Speech: ss-corpus-LOCALE.tsv with a column `split` (train, dev, test, unassigned) and audios/*.mp3.
A folder above is as good where only one release lies below it.

- Quote characters are part of the text, but for a cell such as "He said ""yes""." that is plainly quoted.
- Speakers are `client_id`. The language is the one in the recipe, else that of the locale.
- `validated` holds the clips of train, dev and test as well, and many of the sentences and speakers of test:
  whoever trains on `train+validated` and evaluates on `test` is told so by the leak check.
- Votes: whatever is in validated has more votes for than against. A row of `other` or `invalidated` with a vote
  against it and no more votes for it is a Problem, "voted down"; one that nobody voted on is used.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Problem, SourceData, SourceSpec
from whispertune.data.sources.columns import RawRows, judge
from whispertune.data.sources.reading import check_columns, text_lines
from whispertune.data.table import SegmentTable, as_table
from whispertune.errors import DataError
from whispertune.languages import code_of

SPLITS = ("train", "dev", "test", "validated", "other", "invalidated")
_DEFAULT_SPLIT = "train"
_UNCHECKED_SPLITS = ("other", "invalidated")
_DURATION_COLUMNS = ("duration[ms]", "duration_ms")
_USED_COLUMNS = ("client_id", "locale", "up_votes", "down_votes", "split", "duration_ms")  # and audio and text
_ARCHIVES = (".tar", ".gz", ".tgz", ".zip")
_SPLIT_NAMES = re.compile(r"[A-Za-z0-9_.-]+(?:\+[A-Za-z0-9_.-]+)*")
_FIX = "give the folder with validated.tsv and clips/, or with ss-corpus-LOCALE.tsv and audios/"


@dataclass(frozen=True, slots=True)
class _Form:
    """How a kind of release calls its columns and the folder of its clips."""

    clips: str
    audio: str
    text: str
    is_spontaneous: bool


_SCRIPTED = _Form("clips", "path", "sentence", is_spontaneous=False)
_SPONTANEOUS = _Form("audios", "audio_file", "transcription", is_spontaneous=True)


@dataclass(frozen=True, slots=True)
class _Release:
    """Where a release of one locale lies."""

    folder: Path
    form: _Form

    @property
    def locale(self) -> str:
        """As the file or the folder is called; rows may say it too."""
        return self._corpus.stem.removeprefix("ss-corpus-") if self.form.is_spontaneous else self.folder.name

    @property
    def _corpus(self) -> Path:
        return min(self.folder.glob("ss-corpus-*.tsv"))

    def file(self, split: str) -> Path:
        """The one that holds the split."""
        return self._corpus if self.form.is_spontaneous else self.folder / f"{split}.tsv"

    def files(self) -> list[Path]:
        """Those that are there, of all splits."""
        return [file for split in SPLITS if (file := self.file(split)).is_file()]


@dataclass(slots=True)
class _Rows:
    """Columns in the making."""

    lines: list[int] = field(default_factory=list)
    clips: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    speakers: list[str] = field(default_factory=list)
    locales: list[str] = field(default_factory=list)
    milliseconds: list[str] = field(default_factory=list)  # "" where the file does not say
    problems: list[Problem] = field(default_factory=list)


def read_commonvoice(spec: SourceSpec, audio: AudioReader) -> SourceData:
    """All clips of the splits asked for, split by split."""
    tables: list[SegmentTable] = []
    problems: list[Problem] = []
    notes: dict[str, None] = {}
    left = spec
    for raw in parse_commonvoice(spec):
        data = judge(raw, left, audio)
        table = as_table(data.segments)
        tables.append(table)
        problems += data.problems
        notes |= dict.fromkeys(data.notes)
        if left.limit_rows is not None:
            left = replace(left, limit_rows=left.limit_rows - len(table))
        if left.limit_hours is not None:
            left = replace(left, limit_hours=left.limit_hours - table.seconds / 3600)
        if left.limit_rows == 0 or (left.limit_hours is not None and left.limit_hours <= 0):
            break
    return SourceData(SegmentTable.join(tables), tuple(problems), tuple(notes))


def is_commonvoice(path: Path) -> bool:
    """Whether a folder is a release of Common Voice, by its files and their columns."""
    form = _form(path)
    return form is not None and any(_has_columns(file, form) for file in _Release(path, form).files())


def holds_commonvoice(path: Path) -> bool:
    """Whether a release lies in a folder, or in one of the folders in it."""
    return path.is_dir() and any(is_commonvoice(release.folder) for release in _releases(path))


def parse_commonvoice(spec: SourceSpec) -> list[RawRows]:
    """The rows of each split; nothing but their form and their votes is checked."""
    check_columns(spec, "text")
    folder, splits = _asked_for(spec)
    release = _release(folder)
    seen: set[str] = set()
    parsed: list[RawRows] = []
    for split in splits:
        rows = _split_rows(release, split, spec, seen)
        if rows.lines or rows.problems or not parsed:  # a split may hold nothing but what another holds
            parsed.append(_raw(rows, release, split, spec))
    return parsed


def _asked_for(spec: SourceSpec) -> tuple[Path, list[str]]:
    """The folder and the splits in `FOLDER:train+dev`."""
    location, splits = spec.location, _DEFAULT_SPLIT
    folder, colon, names = location.rpartition(":")
    if colon and not Path(location).exists() and _SPLIT_NAMES.fullmatch(names):
        location, splits = folder, names
    path = Path(location)
    if path.is_file() or path.suffix.lower() in _ARCHIVES:
        fix = f"unpack it, e.g. with: tar -xzf {path.name}; then give the folder"
        raise DataError("is no folder; a release is read from its unpacked files", where=str(path), fix=fix)
    if not path.is_dir():
        raise DataError("there is no such folder", where=str(path), fix=_FIX)
    return path, list(dict.fromkeys(splits.split("+")))


def _release(folder: Path) -> _Release:
    found = _releases(folder)
    if len(found) == 1:
        return found[0]
    if not found:
        raise DataError("holds no release of Common Voice", where=str(folder), fix=_FIX)
    names = ", ".join(str(one.folder.relative_to(folder)) for one in found)
    raise DataError(f"holds several releases: {names}", where=str(folder), fix="give the folder of one")


def _releases(folder: Path) -> list[_Release]:
    """The folder itself, else those below it, else those below them."""
    for pattern in ("", "*", "*/*"):
        folders = sorted(folder.glob(pattern)) if pattern else [folder]
        found = [_Release(one, form) for one in folders if (form := _form(one))]
        if found:
            return found
    return []


def _form(folder: Path) -> _Form | None:
    if (folder / _SCRIPTED.clips).is_dir() and any((folder / f"{split}.tsv").is_file() for split in SPLITS):
        return _SCRIPTED
    if (folder / _SPONTANEOUS.clips).is_dir() and any(folder.glob("ss-corpus-*.tsv")):
        return _SPONTANEOUS
    return None


def _has_columns(file: Path, form: _Form) -> bool:
    try:
        _, header = next(text_lines(file), (1, ""))
    except DataError:
        return False
    return {form.audio, form.text} <= set(header.split("\t"))


def _split_rows(release: _Release, split: str, spec: SourceSpec, seen: set[str]) -> _Rows:
    """The rows of a split but for the clips in `seen`, which grows by them."""
    file, form = release.file(split), release.form
    if not file.is_file():
        there = ", ".join(path.stem for path in sorted(release.folder.glob("*.tsv")) if path.stem in SPLITS)
        raise DataError(f"there is no split {split!r}", where=str(release.folder), fix=f"the splits are: {there}")
    text_column = spec.column("text") or form.text
    rows = _Rows()
    for line, row in _tsv_rows(file, (form.audio, text_column)):
        if isinstance(row, Problem):
            if row.where not in seen:  # the splits of Spontaneous Speech share a file
                rows.problems.append(row)
            seen.add(row.where)
            continue
        clip = row[form.audio]
        if clip in seen or (form.is_spontaneous and row.get("split") != split):
            continue
        seen.add(clip)
        if split in _UNCHECKED_SPLITS and (against := _votes(row, "down_votes")) and against >= _votes(row, "up_votes"):
            detail = f"{_votes(row, 'up_votes')} for and {against} against"
            rows.problems.append(Problem(f"{file}:{line}", "voted down", detail))
            continue
        rows.lines.append(line)
        rows.clips.append(clip)
        rows.texts.append(_unquoted(row[text_column]))
        rows.speakers.append(sys.intern(row.get("client_id", "")))
        rows.locales.append(sys.intern(row.get("locale", "")))
        rows.milliseconds.append(row.get("duration_ms", ""))
    if form.is_spontaneous and not rows.lines and not rows.problems:
        fix = "the splits are: train, dev, test, unassigned"
        raise DataError(f"no row is of the split {split!r}", where=str(file), fix=fix)
    return rows


def _tsv_rows(file: Path, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str] | Problem]]:
    """Rows by column; a Problem for each that has fewer or more fields than there are columns."""
    columns: list[str] = []
    used: list[tuple[str, int]] = []
    for number, line in text_lines(file):
        fields = line.split("\t")
        if not columns:
            columns = fields
            used = [(name, columns.index(name)) for name in {*needed, *_USED_COLUMNS} if name in columns]
            missing = ", ".join(name for name in needed if name not in columns)
            if missing:
                fix = f"the columns are: {', '.join(columns)}"
                raise DataError(f"has no column {missing}", where=str(file), fix=fix)
        elif len(fields) == len(columns):
            yield number, {name: fields[place] for name, place in used}
        elif line:
            detail = f"has {len(fields)} fields in {len(columns)} columns"
            yield number, Problem(f"{file}:{number}", "malformed row", detail)
    if not columns:
        raise DataError("is empty", where=str(file), fix="unpack the release again")


def _votes(row: dict[str, str], column: str) -> int:
    written = row.get(column, "")
    return int(written) if written.isdecimal() else 0


def _unquoted(text: str) -> str:
    """The text without the quotes that a CSV writer may put around a field with quotes in it, doubling those."""
    inside = text[1:-1]
    quoted = text[:1] == text[-1:] == '"' and '""' in inside and '"' not in inside.replace('""', "")
    return inside.replace('""', '"') if quoted else text


def _raw(rows: _Rows, release: _Release, split: str, spec: SourceSpec) -> RawRows:
    if release.form.is_spontaneous:
        milliseconds = rows.milliseconds
    else:
        lengths = _clip_durations(release.folder / "clip_durations.tsv", set(rows.clips))
        milliseconds = [lengths.get(clip, "") for clip in rows.clips]
    named = spec.language is not None and code_of(spec.language) is not None
    languages = {locale: _language(locale or release.locale, release) for locale in set(rows.locales) if not named}
    return RawRows(
        file=release.file(split),
        root=release.folder / release.form.clips,
        lines=rows.lines,
        audio=rows.clips,
        text=[text or None for text in rows.texts],  # never means that nothing is said
        duration_s=[_seconds(written) for written in milliseconds],
        language=None if named else [languages[locale] for locale in rows.locales],
        speaker=rows.speakers,
        ids=[clip.rpartition(".")[0] or clip for clip in rows.clips],
        problems=tuple(rows.problems),
    )


def _clip_durations(file: Path, wanted: set[str]) -> dict[str, str]:
    """Milliseconds by clip; none where the release is older than the file."""
    if not file.is_file():
        return {}
    rows = text_lines(file)
    columns = next(rows, (1, ""))[1].split("\t")
    length = next((columns.index(name) for name in _DURATION_COLUMNS if name in columns), None)
    if length is None or "clip" not in columns:
        fix = f"the columns should be: clip, {_DURATION_COLUMNS[0]}"
        raise DataError("does not say the lengths of the clips", where=str(file), fix=fix)
    clip = columns.index("clip")
    split = (fields for _, line in rows if len(fields := line.split("\t")) == len(columns))
    return {fields[clip]: fields[length] for fields in split if fields[clip] in wanted}


def _seconds(milliseconds: str) -> float | None:
    """None where no length is stated: the clip itself tells."""
    try:
        stated = float(milliseconds)
    except ValueError:
        return None
    return stated / 1000 if 0 < stated < math.inf else None


def _language(locale: str, release: _Release) -> str:
    code = code_of(locale)
    if code is None:
        fix = 'set language = "it" (or whichever is nearest to it) in this source, or --language'
        raise DataError(f"Whisper has no language for the locale {locale!r}", where=str(release.folder), fix=fix)
    return code
