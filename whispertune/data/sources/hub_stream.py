"""Rows of hub datasets as they come over the network, shard by shard, and again where a connection broke off.

    stream = open_stream(place, spec, audio)
    stream.shard_rows                      # (1200, 1187), from the footers of Parquet files
    for item in stream.open(1, skip=900): ...

Of Parquet files only the columns that are used are fetched, some MiB at a time, from the row group that is asked
for. Other kinds of files go through the streaming of `datasets`. A stream with a limit is one shard.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Any, Protocol

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Held, Problem, Segment, SourceSpec
from whispertune.data.sources.hub_place import Place, is_transient, told
from whispertune.data.sources.hub_rows import Columns, Origin, Row, choose_columns, judged, limited, suffix_of
from whispertune.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 8  # rows in memory at a time
_BUFFER_BYTES = 2 << 20  # of each column, fetched at a time
_FOOTERS_AT_ONCE = 8
_OTHER_SHARDS = 64  # at most, where each file would be one


@dataclass(frozen=True, slots=True)
class _Batch:
    """Some rows that follow each other."""

    columns: Columns
    origin: Origin
    rows: list[Row]


class _Shards(Protocol):
    """The files of a place, and how rows come from them."""

    @property
    def rows(self) -> tuple[int | None, ...]: ...

    def batches(self, shard: int, skip: int, size: int) -> Iterator[_Batch]: ...


class HubStream:
    """A `Stream` of the rows of a place."""

    def __init__(self, place: Place, shards: _Shards, count: int, spec: SourceSpec, audio: AudioReader) -> None:
        self.name = f"hub:{spec.location}"
        self._place, self._shards, self._count = place, shards, count
        self._spec, self._audio = spec, audio
        self._is_limited = spec.limit_rows is not None or spec.limit_hours is not None

    @cached_property
    def shard_rows(self) -> tuple[int | None, ...]:
        """Rows of each shard; a few kilobytes of each Parquet file are fetched for it."""
        if self._is_limited:
            return (None,)
        with told(self._place.where):
            return self._shards.rows

    def open(self, shard: int, skip: int = 0) -> Iterator[Segment | Problem]:
        """The rows of a shard behind its first `skip`."""
        if not self._is_limited:
            yield from self._items(shard, skip)
            return
        everything = (item for one in range(self._count) for item in self._items(one, 0))
        yield from islice(limited(everything, self._spec), skip, None)  # what was skipped counts for the limit

    def _items(self, shard: int, skip: int) -> Iterator[Segment | Problem]:
        size = min(_BATCH_ROWS, self._spec.limit_rows or _BATCH_ROWS)

        def batches(done: int) -> Iterator[_Batch]:
            return self._shards.batches(shard, done, size)

        for batch in _again_where_dropped(batches, skip, self._place.where):
            yield from judged(batch.rows, batch.columns, batch.origin, self._spec, self._audio)


def open_stream(place: Place, spec: SourceSpec, audio: AudioReader) -> HubStream:
    """The stream of a place, from Parquet files where it holds such."""
    files = [(split, file) for split in place.splits for file in place.files.get(split, ())]
    if files and all(file.endswith(".parquet") for _, file in files):
        return HubStream(place, _ParquetShards(place, files, spec), len(files), spec, audio)
    with told(place.where):
        others = _OtherShards(place, spec)
    return HubStream(place, others, len(others.rows), spec, audio)


def audio_parts(column: pa.ChunkedArray | pa.Array) -> tuple[pa.Array, pa.Array | None]:
    """The bytes and the paths of a column of audio; no bytes are copied."""
    import pyarrow as pa
    import pyarrow.compute as pc

    parts = {"bytes": column}
    if pa.types.is_struct(column.type):
        parts = {field.name: pc.struct_field(column, field.name) for field in column.type}
    elif pa.types.is_string(column.type):
        parts = {"path": column}
    found, paths = parts.get("bytes"), parts.get("path")
    if found is None or not (pa.types.is_binary(found.type) or pa.types.is_large_binary(found.type)):
        found = pa.nulls(len(column), pa.large_binary())  # nulls alone have a type of their own, words are no audio
    return found, paths if paths is not None and pa.types.is_string(paths.type) else None


class _ParquetShards:
    """Each Parquet file is a shard."""

    def __init__(self, place: Place, files: Sequence[tuple[str, str]], spec: SourceSpec) -> None:
        from huggingface_hub import HfFileSystem

        self._place, self._files, self._spec = place, files, spec
        self._hub = HfFileSystem()
        self._known: dict[int, int] = {}  # rows of files whose footer was read

    @property
    def rows(self) -> tuple[int, ...]:
        with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as threads:
            return tuple(threads.map(self._rows_of, range(len(self._files))))

    def batches(self, shard: int, skip: int, size: int) -> Iterator[_Batch]:
        """The rows of a file behind the first `skip`."""
        split, file = self._files[shard]
        origin, behind = self._place.origin(split), self._rows_before(shard)
        with self._hub.open(file, "rb", cache_type="none") as opened:
            parquet = self._parquet(opened)
            columns = choose_columns(self._features(parquet), self._spec, origin)
            starts = accumulate((group.num_rows for group in _groups(parquet)), initial=0)
            for index, (start, group) in enumerate(zip(starts, _groups(parquet), strict=False)):
                if start + group.num_rows <= skip:
                    continue
                wanted = [columns.audio, *columns.besides_audio()]
                number = start
                for part in parquet.iter_batches(size, row_groups=[index], columns=wanted, use_threads=False):
                    rows = _rows(part, behind + number, columns, origin)[max(0, skip - number) :]
                    number += part.num_rows
                    if rows:
                        yield _Batch(columns, origin, rows)

    def _rows_of(self, shard: int) -> int:
        if shard not in self._known:
            with self._hub.open(self._files[shard][1], "rb", cache_type="none") as opened:
                self._known[shard] = self._parquet(opened).metadata.num_rows
        return self._known[shard]

    def _rows_before(self, shard: int) -> int:
        """Rows of the split in earlier files."""
        split = self._files[shard][0]
        earlier = [one for one in range(shard) if self._files[one][0] == split]
        with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as threads:
            return sum(threads.map(self._rows_of, earlier))

    def _parquet(self, opened: Any) -> Any:
        from pyarrow import parquet

        return parquet.ParquetFile(opened, pre_buffer=False, buffer_size=_BUFFER_BYTES)

    def _features(self, parquet: Any) -> Any:
        from datasets import Features

        return self._place.builder.info.features or Features.from_arrow_schema(parquet.schema_arrow)


class _OtherShards:
    """The shards that the streaming of `datasets` makes of other kinds of files."""

    def __init__(self, place: Place, spec: SourceSpec) -> None:
        from datasets import Features, Value

        from whispertune.data.sources.hub_audio import leave_audio_alone

        self._put_there = place.put_there
        self._splits: list[tuple[Origin, Columns, Any, int]] = []
        leave_audio_alone(place.builder)
        for split in place.splits:
            origin = place.origin(split)
            dataset = place.builder.as_streaming_dataset(split=split)
            if dataset.features is None:  # CSV and the like: no audio
                dataset = dataset.cast(Features(dict.fromkeys(next(iter(dataset), {}), Value("string"))))
            columns = choose_columns(dataset.features, spec, origin)
            shards = min(dataset.num_shards, _OTHER_SHARDS)
            self._splits.append((origin, columns, dataset.decode(False), shards))

    @property
    def rows(self) -> tuple[None, ...]:
        return (None,) * sum(shards for _, _, _, shards in self._splits)

    def batches(self, shard: int, skip: int, size: int) -> Iterator[_Batch]:
        place = 0
        while shard >= self._splits[place][3]:
            shard -= self._splits[place][3]
            place += 1
        origin, columns, dataset, shards = self._splits[place]
        one = dataset.shard(num_shards=shards, index=shard)
        numbered = enumerate(one.skip(skip) if skip else one, start=skip)
        while some := list(islice(numbered, size)):
            rows = [self._row(values, n if shards == 1 else f"{shard}.{n}", columns, origin) for n, values in some]
            yield _Batch(columns, origin, rows)

    def _row(self, values: dict[str, Any], number: int | str, columns: Columns, origin: Origin) -> Row:
        from datasets.utils.file_utils import xopen

        found = values.get(columns.audio)
        parts = found if isinstance(found, dict) else {"path" if isinstance(found, str) else "bytes": found}
        data, path = parts.get("bytes"), parts.get("path")
        path = path if isinstance(path, str) else None
        if data is None and path and self._put_there(path):
            with xopen(path, "rb") as file:
                data = file.read()
        data = data if isinstance(data, bytes) else b""
        own = {column: values.get(column) for column in columns.besides_audio()}
        return Row(number, own, Held(f"{origin}:{number}{suffix_of(path)}", data) if data else None, len(data))


def _groups(parquet: Any) -> Iterator[Any]:
    return (parquet.metadata.row_group(index) for index in range(parquet.num_row_groups))


def _rows(part: pa.RecordBatch, first: int, columns: Columns, origin: Origin) -> list[Row]:
    audio_bytes, audio_paths = audio_parts(part.column(columns.audio))
    paths = audio_paths.to_pylist() if audio_paths is not None else [None] * part.num_rows
    values = {name: part.column(name).to_pylist() for name in columns.besides_audio()}
    rows: list[Row] = []
    for number, (data, path) in enumerate(zip(audio_bytes.to_pylist(), paths, strict=True)):
        name = f"{origin}:{first + number}{suffix_of(path)}"
        own = {column: of_all[number] for column, of_all in values.items()}
        rows.append(Row(first + number, own, Held(name, data) if data else None, len(data or b"")))
    return rows


def _again_where_dropped(batches: Callable[[int], Iterator[_Batch]], skip: int, where: str) -> Iterator[_Batch]:
    """All batches; where the connection is lost, it goes on behind the last row that came.

    How often and how long it tries stands in `datasets.config`, for its own streaming and for this.
    """
    from datasets import config

    done, failures, opened = skip, 0, batches(skip)
    while True:
        try:
            with told(where):
                batch = next(opened, None)
        except DataError as error:
            if not is_transient(error.__cause__):
                raise
            failures += 1
            if failures > config.STREAMING_READ_MAX_RETRIES:
                fix = "see whether the network is there; a run goes on from its last checkpoint"
                raise DataError(f"the connection broke off {failures} times in a row", where=where, fix=fix) from error
            time.sleep(config.STREAMING_READ_RETRY_INTERVAL)
            opened = batches(done)
            continue
        if batch is None:
            return
        done, failures = done + len(batch.rows), 0
        yield batch
