"""Recordings inside Arrow and Parquet files: the audio bytes of one row.

    containers = Containers()
    data = containers.load(Embedded(Path("train-00000.parquet"), 17, "audio", "clip17.mp3"))  # b"ID3..."

Arrow files (as the `datasets` cache writes them, streams too) are mapped into memory: a row costs nothing else.
Of Parquet files the row group is read, of the one column, and the last one is kept: rows in order cost little. One
that unpacks to far more than it takes in the file is an error, before the memory is full of it.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Hashable
from itertools import accumulate
from typing import TYPE_CHECKING

from whispertune.data.segments import Embedded
from whispertune.errors import AudioError

if TYPE_CHECKING:
    import pyarrow as pa

GROUPS_BYTES = 64 << 20  # of row groups that are kept: what a block of a stream, or a small dataset, is drawn from
OPEN_CONTAINERS = 16
GROUP_LIMIT_BYTES = 512 << 20  # what a row group may hold, or so many times what it takes in the file:
GROUP_LIMIT_TIMES = 100
BATCH_ROWS = 8  # of a row group, decoded at a time
ARROW_MAGIC, PARQUET_MAGIC = b"ARROW1", b"PAR1"  # an Arrow stream has none

_FIX_CONTAINER = "download or prepare it again"


class Containers:
    """Open containers; threads may share them. One that changed on disk is opened again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[Hashable, _Column] = OrderedDict()
        self._groups: OrderedDict[tuple[Hashable, int], pa.ChunkedArray] = OrderedDict()  # row groups read last

    def key(self, recording: Embedded) -> Hashable:
        """Equal while row and file are the same.

        Raises:
            AudioError: there is no such file.
        """
        return (*_file_key(recording), recording.row)

    def load(self, recording: Embedded) -> memoryview:
        """The bytes of the row's audio.

        Raises:
            AudioError: they cannot be had; it names the recording.
        """
        import pyarrow as pa

        with self._lock:
            try:
                found = self._scalar(recording)
            except (OSError, pa.ArrowException, LookupError) as error:
                what = f"row {recording.row} of {recording.container} cannot be read ({_first_line(error)})"
                raise AudioError(what, where=recording.name, fix=_FIX_CONTAINER) from None
        if not found.is_valid:
            what = f"row {recording.row} of {recording.container} holds no audio, at most a path"
            raise AudioError(
                what, where=recording.name, fix="use a dataset that holds its audio, or a manifest of files"
            )
        return memoryview(found.as_buffer())

    def close(self) -> None:
        with self._lock:
            self._open.clear()
            self._groups.clear()

    def _scalar(self, recording: Embedded) -> pa.BinaryScalar:
        key = _file_key(recording)
        if key not in self._open:
            self._open[key] = _open(str(recording.container), recording.column)
            if len(self._open) > OPEN_CONTAINERS:
                self._open.popitem(last=False)
        self._open.move_to_end(key)
        column = self._open[key]
        place = bisect_right(column.ends, recording.row)
        if recording.row < 0 or place == len(column.ends):
            raise IndexError(f"it has {column.ends[-1] if column.ends else 0} rows")
        first = column.ends[place - 1] if place else 0
        return self._rows(key, column, place)[recording.row - first]

    def _rows(self, key: Hashable, column: _Column, place: int) -> pa.Array | pa.ChunkedArray:
        if isinstance(column, _ArrowColumn):
            return column.arrays[place]
        group = (key, place)
        if group not in self._groups:
            self._groups[group] = column.read(place)
            while len(self._groups) > 1 and sum(kept.nbytes for kept in self._groups.values()) > GROUPS_BYTES:
                self._groups.popitem(last=False)
        self._groups.move_to_end(group)
        return self._groups[group]


class _ArrowColumn:
    """A column of an Arrow file, mapped into memory."""

    def __init__(self, path: str, column: str) -> None:
        import pyarrow as pa

        mapped = pa.memory_map(path)
        is_file = mapped.read(len(ARROW_MAGIC)) == ARROW_MAGIC
        mapped.seek(0)
        reader = pa.ipc.open_file(mapped) if is_file else pa.ipc.open_stream(mapped)
        _check(reader.schema, column)
        only = pa.ipc.IpcReadOptions(included_fields=[reader.schema.get_field_index(column)])
        mapped.seek(0)
        if is_file:
            reader = pa.ipc.open_file(mapped, options=only)
            batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        else:
            batches = list(pa.ipc.open_stream(mapped, options=only))
        self.arrays = [_audio_bytes(batch.column(0)) for batch in batches]
        self.ends = list(accumulate(len(array) for array in self.arrays))  # the first row behind each


class _ParquetColumn:
    """A column of a Parquet file, read by row group."""

    def __init__(self, path: str, column: str) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(path, memory_map=True)
        _check(self._file.schema_arrow, column)
        kind = self._file.schema_arrow.field(column).type
        self._column = f"{column}.bytes" if pa.types.is_struct(kind) else column
        groups = range(self._file.num_row_groups)
        self.ends = list(accumulate(self._file.metadata.row_group(group).num_rows for group in groups))

    def read(self, group: int) -> pa.ChunkedArray:
        import pyarrow as pa

        metadata = self._file.metadata.row_group(group)
        chunks = (metadata.column(number) for number in range(metadata.num_columns))
        chunk = next(chunk for chunk in chunks if chunk.path_in_schema == self._column)
        limit_bytes = max(GROUP_LIMIT_BYTES, GROUP_LIMIT_TIMES * chunk.total_compressed_size)
        _check_size(chunk.total_uncompressed_size, limit_bytes)
        parts, size_bytes = [], 0
        for batch in self._file.iter_batches(BATCH_ROWS, row_groups=[group], columns=[self._column], use_threads=False):
            parts.append(_audio_bytes(batch.column(0)))
            size_bytes += parts[-1].nbytes
            _check_size(size_bytes, limit_bytes)  # a value said once in the file may stand in every row
        return pa.chunked_array(parts)


_Column = _ArrowColumn | _ParquetColumn


def _open(path: str, column: str) -> _Column:
    with open(path, "rb") as file:
        is_parquet = file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC
    return _ParquetColumn(path, column) if is_parquet else _ArrowColumn(path, column)


def _check_size(size_bytes: int, limit_bytes: int) -> None:
    if size_bytes > limit_bytes:
        raise OSError(f"its row group unpacks to more than {limit_bytes >> 20} MiB, far more than its file holds")


def _check(schema: pa.Schema, column: str) -> None:
    """A struct with a field "bytes", as `datasets` writes audio, or plain binary."""
    import pyarrow.types as is_type

    if column not in schema.names:
        raise KeyError(f"no column {column}, only {', '.join(schema.names)}")
    kind = schema.field(column).type
    if is_type.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (is_type.is_binary(kind) or is_type.is_large_binary(kind) or is_type.is_binary_view(kind)):
        raise KeyError(f"column {column} holds {kind}, not the bytes of audio files")


def _audio_bytes(cells: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.struct_field(cells, "bytes") if pa.types.is_struct(cells.type) else cells


def _file_key(recording: Embedded) -> tuple[Hashable, ...]:
    try:
        status = os.stat(recording.container)
    except (OSError, ValueError):
        what = f"its file {recording.container} is not there"
        raise AudioError(what, where=recording.name, fix=_FIX_CONTAINER) from None
    return recording.container, recording.column, status.st_size, status.st_mtime_ns


def _first_line(error: Exception) -> str:
    text = error.args[0] if error.args else type(error).__name__
    return str(text).split("\n", 1)[0]
