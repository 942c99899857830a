"""What all manifest-like sources share: rows as columns, judged, ordered and linked as columns, a million in seconds.

    raw = RawRows(file=path, root=path.parent, lines=[1, 2], audio=["a.wav", "b.wav"], text=["Yes.", "No."])
    data = judge(raw, spec, audio)          # SourceData(a SegmentTable, a Problem for each row that cannot be used)

Times that rows state are compared with the recordings where these are few, and trusted where they are many. A
recording is opened in any case where nothing says when a row ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from whispertune.data.audio import AudioReader
from whispertune.data.captions import clean_text
from whispertune.data.segments import Problem, SourceData, SourceSpec
from whispertune.data.sources.cells import cleaned, mapped, text_column, time_column
from whispertune.data.sources.linking import behind_unknown, linked_table, placed
from whispertune.data.sources.paths import Recordings, find_recordings, missing_files
from whispertune.data.sources.rows import (
    END_TOLERANCE_S,
    LONGEST_S,
    ROUNDING_S,
    Trouble,
    language_of,
    time_trouble,
)
from whispertune.errors import AudioError, DataError
from whispertune.languages import code_of

if TYPE_CHECKING:
    import pyarrow as pa

    Texts: TypeAlias = Sequence[str | None] | pa.Array | pa.ChunkedArray
    Seconds: TypeAlias = Sequence[float | str | None] | pa.Array | pa.ChunkedArray

PROBED_RECORDINGS = 20_000  # of more, those whose rows state times are not opened
TASKS = ("transcribe", "translate")
_TASK_WORDS = {"asr": "transcribe", "ast": "translate", "s2t_translation": "translate"}  # as NeMo writes them
_BLOCK_ROWS = 1000  # probed at a time, so that a limit does not open all of a large manifest


@dataclass(frozen=True, slots=True)
class RawRows:
    """What a manifest says, column by column, nothing checked yet: all of one length; lists or Arrow arrays.

    Times are numbers, or text that may hold a number.
    """

    file: Path  # the one that lines are of, for messages
    root: Path  # relative paths are relative to it, and must stay in it unless the recipe allows otherwise
    lines: Sequence[int] | NDArray[np.int64]
    audio: Texts
    text: Texts
    start_s: Seconds | None = None  # of the stretch in the recording
    end_s: Seconds | None = None
    duration_s: Seconds | None = None  # of the stretch, from the start of the recording where there is no start
    language: Texts | None = None
    speaker: Texts | None = None
    task: Texts | None = None
    ids: Texts | None = None  # else f"{file.name}:{line}"
    problems: tuple[Problem, ...] = ()  # rows that were malformed already


@dataclass(frozen=True, slots=True)
class Rows:
    """The columns of a manifest, cleaned."""

    raw: RawRows
    lines: NDArray[np.int64]
    recordings: Recordings
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]  # inf where only the recording tells
    whole: NDArray[np.bool_]  # all of the recording, however long that is
    rounded: NDArray[np.bool_]  # only a duration is stated: all of the recording where that is as long
    texts: pa.Array
    languages: pa.DictionaryArray
    tasks: pa.DictionaryArray
    speakers: pa.DictionaryArray
    ids: pa.Array


class _Troubles:
    """The first trouble of each row that has one."""

    def __init__(self, rows: int) -> None:
        self.bad = np.zeros(rows, dtype=np.bool_)
        self.found: dict[int, Trouble] = {}

    def add(self, mask: NDArray[np.bool_], tell: Callable[[int], Trouble]) -> None:
        for row in np.flatnonzero(mask & ~self.bad).tolist():
            self.found[row] = tell(row)
        self.bad |= mask


def judge(raw: RawRows, spec: SourceSpec, audio: AudioReader) -> SourceData:
    """The rows that can be used, those of one recording by time, and a Problem for each that cannot, by line."""
    if not len(raw.lines) and not raw.problems:
        raise DataError("holds no rows", where=str(raw.file))
    troubles = _Troubles(len(raw.lines))
    rows = _cleaned_rows(raw, spec, troubles)
    formed = ~troubles.bad  # whether their recordings go along is not known yet
    few = len(np.unique(rows.recordings.codes[formed])) <= PROBED_RECORDINGS
    measured = _Measured(rows, audio, troubles, check_all=few)
    until = _up_to_limits(measured, spec)
    used = ~troubles.bad
    used[until:] = False
    heard = formed | placed(rows, troubles.found)
    table = linked_table(rows, measured.end_s, heard, used, behind_unknown(rows, ~heard, used))
    return SourceData(table, _problems(rows, measured.end_s, troubles, until), () if few else (_note(rows),))


# ------------------------------------------------------------------------------------------------ what rows say


def _cleaned_rows(raw: RawRows, spec: SourceSpec, troubles: _Troubles) -> Rows:
    lines = np.asarray(raw.lines, dtype=np.int64)
    count = len(lines)
    recordings = find_recordings(text_column(raw.audio), raw.root, outside=spec.outside)
    _check_recordings(recordings, raw, lines, troubles)
    start_s, end_s, duration_s = _check_times(raw, count, troubles)
    stated_end_s = np.where(np.isnan(end_s), np.nan_to_num(start_s, nan=0.0) + duration_s, end_s)
    rows = Rows(
        raw=raw,
        lines=lines,
        recordings=recordings,
        start_s=np.nan_to_num(start_s, nan=0.0),
        end_s=np.nan_to_num(stated_end_s, nan=math.inf),
        whole=np.isnan(stated_end_s) & ~(start_s > 0),
        rounded=np.isnan(start_s) & np.isnan(end_s),
        texts=cleaned(text_column(raw.text)),
        languages=mapped(raw.language, count, lambda own: _language(own, spec), spec.language or None),
        tasks=mapped(raw.task, count, _task, spec.task),
        speakers=mapped(raw.speaker, count, clean_text, None),
        ids=_ids(raw, lines),
    )
    _check_words(rows, spec, troubles)
    return rows


def _check_recordings(found: Recordings, raw: RawRows, lines: NDArray[np.int64], troubles: _Troubles) -> None:
    """Troubles with what rows name; an error where one names an address, or all lead out of the root."""
    codes = found.codes

    def name(row: int) -> str:
        return repr(found.names[int(codes[row])].as_py())

    if found.urls.any():
        row = int(np.flatnonzero(found.urls[codes])[0])
        fix = "fetch the recordings first, and write where they are on this machine"
        raise DataError(f"{name(row)} is an address, not a file", where=f"{raw.file}:{lines[row]}", fix=fix)
    if len(codes) and found.outside[codes].all():
        what = f"every row leads out of {raw.root}, the first to {name(0)}"
        fix = "set outside = true in its [[data.train]] or [[data.dev]] if that is meant, or move the manifest"
        raise DataError(what, where=str(raw.file), fix=fix)

    def way_out(row: int) -> str:
        absolute = found.names[int(codes[row])].as_py().startswith("/")
        how = f"is absolute, and not below {raw.root.absolute()}" if absolute else "goes up with '..'"
        return f"{name(row)} {how}; outside = true in its [[data.train]] or [[data.dev]] allows that"

    troubles.add(found.unnamed[codes], lambda row: ("missing file", "the row names no recording"))
    troubles.add(found.outside[codes], lambda row: ("path outside of the folder", way_out(row)))
    missing = np.zeros(len(found.paths), dtype=np.bool_)
    wanted = np.flatnonzero(~found.unnamed & ~found.outside)
    missing[wanted] = missing_files(found.paths.take(_indices(wanted)))
    troubles.add(missing[codes], lambda row: ("missing file", f"there is no file {name(row)} in {raw.root}"))


def _check_times(raw: RawRows, count: int, troubles: _Troubles) -> tuple[NDArray[np.float64], ...]:
    """Start, end and duration, nan where nothing is stated."""
    stated = {"start": raw.start_s, "end": raw.end_s, "duration": raw.duration_s}
    times = {name: time_column(values, count) for name, values in stated.items()}
    for name, column in times.items():
        troubles.add(column.wrong, partial(_wrong, name, stated[name]))
    return tuple(column.seconds for column in times.values())


def _wrong(name: str, values: Any, row: int) -> Trouble:
    value = values[row].as_py() if hasattr(values[row], "as_py") else values[row]
    return "wrong times", f"{name} is {value!r}, not seconds"


def _check_words(rows: Rows, spec: SourceSpec, troubles: _Troubles) -> None:
    import pyarrow.compute as pc

    unknown = np.asarray(rows.languages.indices.is_null())
    nameless = np.flatnonzero(unknown & ~troubles.bad)
    if len(nameless):
        language_of(None, spec, f"{rows.raw.file}:{rows.lines[nameless[0]]}")  # raises
    troubles.add(np.asarray(text_column(rows.raw.text).is_null()), lambda row: ("empty text", "the row has no text"))
    if not spec.empty_texts:
        troubles.add(np.asarray(pc.equal(rows.texts, "")), lambda row: ("empty text", "the text is empty"))
    strange = np.array([task not in TASKS for task in rows.tasks.dictionary.to_pylist()], dtype=np.bool_)
    troubles.add(
        strange[np.asarray(rows.tasks.indices)],
        lambda row: ("unknown task", f"the task is {rows.tasks[row].as_py()!r}, not one of {', '.join(TASKS)}"),
    )
    if rows.raw.ids is not None:
        good = np.flatnonzero(~troubles.bad)  # a bad row takes no id
        first = np.unique(np.asarray(rows.ids.dictionary_encode().indices)[good], return_index=True)[1]
        again = ~troubles.bad
        again[good[first]] = False
        troubles.add(again, lambda row: ("given twice", f"another row has the id {rows.ids[row].as_py()!r}"))


def _task(own: str) -> str:
    written = own.strip()
    return _TASK_WORDS.get(written.lower(), written.lower() if written.lower() in TASKS else written)


def _language(own: str, spec: SourceSpec) -> str | None:
    """A language Whisper does not know stays as it is written, unless the recipe gives one to take for it."""
    return code_of(own) or spec.language or own.strip()


def _ids(raw: RawRows, lines: NDArray[np.int64]) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    name, colon = (pa.scalar(text, pa.large_string()) for text in (raw.file.name, ":"))
    by_line = pc.binary_join_element_wise(name, pa.array(lines).cast(pa.large_string()), colon)
    return by_line if raw.ids is None else pc.coalesce(text_column(raw.ids), by_line)


# ------------------------------------------------------------------------------------ what the recordings say


class _Measured:
    """The ends of rows, once their recordings are looked at; rows that do not fit them get into trouble."""

    def __init__(self, rows: Rows, audio: AudioReader, troubles: _Troubles, *, check_all: bool) -> None:
        self.rows, self.end_s, self.troubles = rows, rows.end_s.copy(), troubles
        self._audio, self._check_all = audio, check_all
        self._length_s = np.full(len(rows.recordings.paths), math.inf)  # of recordings not opened
        self._errors: dict[int, AudioError] = {}
        self._opened = np.zeros(len(rows.recordings.paths), dtype=np.bool_)

    def measure(self, block: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of some rows that can be used."""
        rows, block = self.rows, block[~self.troubles.bad[block]]
        codes = rows.recordings.codes[block]
        self._open(codes if self._check_all else codes[np.isinf(rows.end_s[block])])
        self._blame(block[np.isin(codes, list(self._errors))], self._undecodable)
        block = block[~self.troubles.bad[block]]
        start_s, end_s, length_s = rows.start_s[block], rows.end_s[block], self._length_s[rows.recordings.codes[block]]
        with np.errstate(invalid="ignore"):  # both are inf where only the recording tells
            as_long = rows.rounded[block] & (np.abs(end_s - length_s) <= END_TOLERANCE_S) & (length_s <= LONGEST_S)
        end_s = np.where(np.isinf(end_s) | as_long, length_s, end_s)
        kept_end_s = np.minimum(end_s, length_s)
        bad = (start_s >= length_s) | (end_s <= start_s) | (end_s > length_s + END_TOLERANCE_S)
        bad |= kept_end_s - start_s > LONGEST_S + ROUNDING_S
        self._blame(block[bad], self._misfit)
        self.end_s[block] = np.where(bad, end_s, kept_end_s)
        return block[~bad]

    def _open(self, codes: NDArray[np.int64]) -> None:
        new = np.unique(codes[~self._opened[codes]])
        self._opened[new] = True
        paths = [Path(path) for path in self.rows.recordings.paths.take(_indices(new)).to_pylist()]
        for code, info in zip(new.tolist(), self._audio.probe_many(paths), strict=True):
            if isinstance(info, AudioError):
                self._errors[code] = info
            else:
                self._length_s[code] = info.duration_s

    def _blame(self, blamed: NDArray[np.int64], tell: Callable[[int], Trouble]) -> None:
        mask = np.zeros(len(self.end_s), dtype=np.bool_)
        mask[blamed] = True
        self.troubles.add(mask, tell)

    def _undecodable(self, row: int) -> Trouble:
        code = int(self.rows.recordings.codes[row])
        name = PurePath(self.rows.recordings.paths[code].as_py()).name
        return "recording does not decode", f"{name} {self._errors[code].what}"

    def _misfit(self, row: int) -> Trouble:
        length_s, end_s = float(self._length_s[self.rows.recordings.codes[row]]), float(self.rows.end_s[row])
        trouble = time_trouble(float(self.rows.start_s[row]), length_s if math.isinf(end_s) else end_s, length_s)
        assert trouble
        return trouble


def _up_to_limits(measured: _Measured, spec: SourceSpec) -> int:
    """How many rows, used or not, there are up to the limits; all of these are measured."""
    rows, first = len(measured.rows.lines), 0
    block_rows = rows if spec.limit_rows is None and spec.limit_hours is None else _BLOCK_ROWS
    rows_left = rows if spec.limit_rows is None else spec.limit_rows
    seconds_left = math.inf if spec.limit_hours is None else spec.limit_hours * 3600 + ROUNDING_S
    while first < rows:
        block = measured.measure(np.arange(first, min(first + block_rows, rows)))
        spent_s = np.cumsum(measured.end_s[block] - measured.rows.start_s[block])
        fitting = min(rows_left, int(np.searchsorted(spent_s, seconds_left, side="right")))
        if fitting < len(block) or fitting == rows_left:
            return int(block[fitting - 1]) + 1 if fitting else first
        rows_left -= fitting
        seconds_left -= float(spent_s[-1]) if fitting else 0.0
        first += block_rows
    return rows


# ---------------------------------------------------------------------------------------------- what comes of it


def _problems(rows: Rows, end_s: NDArray[np.float64], troubles: _Troubles, until: int) -> tuple[Problem, ...]:
    """By line; of the malformed rows of this file those before the limit too."""
    prefix = f"{rows.raw.file}:"
    lines = rows.lines.tolist() if troubles.found else []
    seconds = end_s - rows.start_s
    found: list[tuple[int, Problem]] = []
    for row, (kind, detail) in troubles.found.items():
        if row < until:
            lost_s = float(seconds[row]) if 0 < seconds[row] < math.inf else None
            found.append((lines[row], Problem(f"{prefix}{lines[row]}", kind, detail, lost_s)))
    last_line = int(rows.lines[until - 1]) if 0 < until < len(rows.lines) else math.inf
    for problem in rows.raw.problems:
        line = problem.where.removeprefix(prefix)
        number = int(line) if problem.where.startswith(prefix) and line.isdecimal() else 0
        if number <= last_line:
            found.append((number, problem))
    return tuple(problem for _, problem in sorted(found, key=lambda one: one[0]))


def _note(rows: Rows) -> str:
    return (
        f"{rows.raw.file.name} names {len(rows.recordings.paths):,} recordings: the times it states are trusted; "
        "a recording that does not decode shows when it is read"
    )


def _indices(numbers: NDArray[np.int64] | NDArray[np.int32]) -> pa.Array:
    import pyarrow as pa

    return pa.array(numbers)
