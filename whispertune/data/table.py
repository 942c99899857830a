"""Segments as columns, so that a million of them fit; they are made into objects one by one when asked for.

table = SegmentTable.of(segments)
table[17]                      # a Segment
table.take([3, 1])             # a table of two
table.seconds                  # of speech, in all
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from whispertune.data.segments import Recording, Segment, name_of

if TYPE_CHECKING:
    import pyarrow as pa


class Recordings(Protocol):
    """The recording of each row."""

    def __getitem__(self, row: int, /) -> Recording: ...


@dataclass(frozen=True, slots=True)
class Files:
    """Recordings that are files."""

    paths: pa.StringArray

    def __getitem__(self, row: int) -> Recording:
        return Path(self.paths[row].as_py())


@dataclass(frozen=True, slots=True)
class _Taken:
    """Some rows of other recordings."""

    recordings: Recordings
    rows: NDArray[np.int64]

    def __getitem__(self, row: int) -> Recording:
        return self.recordings[int(self.rows[row])]


@dataclass(frozen=True, slots=True)
class _Chained:
    """Recordings of several tables, one behind the other."""

    parts: tuple[Recordings, ...]
    starts: NDArray[np.int64]  # the first row of each part

    def __getitem__(self, row: int) -> Recording:
        part = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.parts[part][row - int(self.starts[part])]


@dataclass(frozen=True, eq=False, slots=True)
class SegmentTable(Sequence[Segment]):
    """Columns of equal length; what they mean stands at `Segment`. Strings are Arrow's, numbers numpy's."""

    ids: pa.Array
    recordings: Recordings
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    texts: pa.Array
    languages: pa.Array  # these three dictionary-encoded: few values, many rows
    tasks: pa.Array
    speakers: pa.Array  # null where not known
    continues: NDArray[np.bool_]
    lead_s: NDArray[np.float64]

    @classmethod
    def of(cls, segments: Iterable[Segment]) -> SegmentTable:
        """The table of some segments."""
        rows = list(segments)
        return cls(
            ids=strings([row.id for row in rows]),
            recordings=[row.recording for row in rows],
            start_s=np.array([row.start_s for row in rows], dtype=np.float64),
            end_s=np.array([row.end_s for row in rows], dtype=np.float64),
            texts=strings([row.text for row in rows]),
            languages=coded([row.language for row in rows]),
            tasks=coded([row.task for row in rows]),
            speakers=coded([row.speaker for row in rows]),
            continues=np.array([row.continues for row in rows], dtype=np.bool_),
            lead_s=np.array([row.lead_s for row in rows], dtype=np.float64),
        )

    @classmethod
    def join(cls, tables: Sequence[SegmentTable]) -> SegmentTable:
        """All rows of some tables, one table behind the other."""
        if len(tables) == 1:
            return tables[0]
        if not tables:
            return cls.of(())
        starts = np.cumsum([0, *(len(table) for table in tables[:-1])])
        joined: dict[str, Any] = {"recordings": _Chained(tuple(table.recordings for table in tables), starts)}
        for name in (each.name for each in fields(cls) if each.name != "recordings"):
            columns = [getattr(table, name) for table in tables]
            joined[name] = np.concatenate(columns) if isinstance(columns[0], np.ndarray) else _joined(columns)
        return cls(**joined)

    def __len__(self) -> int:
        return len(self.start_s)

    @overload
    def __getitem__(self, index: int) -> Segment: ...
    @overload
    def __getitem__(self, index: slice) -> SegmentTable: ...
    def __getitem__(self, index: int | slice) -> Segment | SegmentTable:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        row = range(len(self))[index]  # negative ones, and an IndexError
        return Segment(
            id=self.ids[row].as_py(),
            recording=self.recordings[row],
            start_s=float(self.start_s[row]),
            end_s=float(self.end_s[row]),
            text=self.texts[row].as_py(),
            language=self.languages[row].as_py(),
            task=self.tasks[row].as_py(),
            speaker=self.speakers[row].as_py(),
            continues=bool(self.continues[row]),
            lead_s=float(self.lead_s[row]),
        )

    def __iter__(self) -> Iterator[Segment]:
        return (self[row] for row in range(len(self)))

    def take(self, rows: Sequence[int] | NDArray[Any]) -> SegmentTable:
        """The table of some rows, in the order given."""
        chosen = np.asarray(rows, dtype=np.int64)
        taken: dict[str, Any] = {"recordings": _taken(self.recordings, chosen)}
        for name in (each.name for each in fields(self) if each.name != "recordings"):
            column = getattr(self, name)
            taken[name] = column[chosen] if isinstance(column, np.ndarray) else column.take(_rows(chosen))
        return SegmentTable(**taken)

    def where(self, keep: NDArray[np.bool_]) -> SegmentTable:
        """The rows where `keep` is true; behind a row that goes, no chain goes on."""
        if keep.all():
            return self
        behind_gap = np.concatenate([[False], ~keep[:-1]])
        return replace(self, continues=self.continues & ~behind_gap).take(np.flatnonzero(keep))

    @property
    def durations_s(self) -> NDArray[np.float64]:
        return self.end_s - self.start_s

    @property
    def seconds(self) -> float:
        """Of speech, in all."""
        return float(self.durations_s.sum())

    def distinct(self, name: str) -> list[str]:
        """The values of `languages`, `tasks` or `speakers`, sorted, null apart."""
        return sorted(value for value in getattr(self, name).unique().to_pylist() if value is not None)

    def recording_names(self) -> pa.Array:
        """`name_of` each row's recording, without an object for each where they are files."""
        return _names(self.recordings, np.arange(len(self)))

    def fingerprint(self) -> str:
        """sha256 of what the segments say and where; equal data gives equal runs."""
        digest = hashlib.sha256(f"{len(self)}".encode())
        for numbers in (self.start_s, self.end_s, self.continues):
            digest.update(np.ascontiguousarray(numbers).tobytes())
        for column in (self.ids, self.texts, self.languages, self.tasks):
            for part in _bytes(column):
                digest.update(part)
        return digest.hexdigest()


def _taken(recordings: Recordings, rows: NDArray[np.int64]) -> _Taken:
    if isinstance(recordings, _Taken):
        return _Taken(recordings.recordings, recordings.rows[rows])
    return _Taken(recordings, rows)


def _bytes(column: pa.Array) -> tuple[bytes, memoryview]:
    """How long each string is, and all strings behind each other."""
    import pyarrow as pa

    plain = column.cast(pa.large_string())
    if not len(plain):
        return b"", memoryview(b"")
    _, offsets, data = plain.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64)[plain.offset : plain.offset + len(plain) + 1]
    return np.diff(ends).tobytes(), memoryview(data or b"")[ends[0] : ends[-1]]


def _names(recordings: Recordings, rows: NDArray[np.int64]) -> pa.Array:
    import pyarrow as pa

    if isinstance(recordings, Files):
        return recordings.paths.take(pa.array(rows)).cast(pa.large_string())
    if isinstance(recordings, _Taken):
        return _names(recordings.recordings, recordings.rows[rows])
    if isinstance(recordings, _Chained) and (np.diff(rows) >= 0).all():
        bounds = np.searchsorted(rows, [*recordings.starts, np.iinfo(np.int64).max])
        parts = zip(recordings.parts, recordings.starts, bounds[:-1], bounds[1:], strict=True)
        return pa.concat_arrays([_names(part, rows[first:end] - start) for part, start, first, end in parts])
    return strings([name_of(recordings[int(row)]) for row in rows])


def as_table(segments: Iterable[Segment]) -> SegmentTable:
    """The segments as a table; a table stays itself."""
    return segments if isinstance(segments, SegmentTable) else SegmentTable.of(segments)


def prefixed(table: SegmentTable, prefix: str) -> SegmentTable:
    """The same with a prefix before all ids, so that those of several sources differ."""
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pa.large_string()
    ids = pc.binary_join_element_wise(pa.scalar(prefix, text), table.ids.cast(text), pa.scalar("", text))
    return replace(table, ids=ids)


def strings(values: Iterable[str | None]) -> pa.Array:
    """A column of strings."""
    import pyarrow as pa

    return pa.array(values, type=pa.large_string())


def coded(values: Iterable[str | None]) -> pa.Array:
    """A column of strings of which there are few different ones."""
    return strings(values).dictionary_encode()


def _rows(chosen: NDArray[np.int64]) -> pa.Array:
    import pyarrow as pa

    return pa.array(chosen)


def _joined(columns: Sequence[pa.Array]) -> pa.Array:
    import pyarrow as pa

    text = pa.large_string()
    if pa.types.is_dictionary(columns[0].type):
        kind = pa.dictionary(pa.int32(), text)
        return pa.chunked_array([column.cast(kind) for column in columns], kind).unify_dictionaries().combine_chunks()
    return pa.chunked_array([column.cast(text) for column in columns], text).combine_chunks()
