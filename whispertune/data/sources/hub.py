"""Datasets on the Hugging Face Hub, downloaded or streamed: `hub:repo[:config][:split[+split]][@revision]`.

    read_hub(SourceSpec("google/fleurs:sv_se:train"), audio)       # SourceData; the audio stays in the library's cache
    stream_hub(SourceSpec("google/fleurs:sv_se:train"), audio)     # a Stream: the same rows, fetched as they are used

Audio is never decoded by the library; rows without text or audio, or too long for a window, are Problems.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Embedded, Problem, Recording, Segment, SourceData, SourceSpec
from whispertune.data.sources.hub_place import Place, find_place, told
from whispertune.data.sources.hub_rows import Columns, Origin, Row, choose_columns, judged, limited, suffix_of
from whispertune.data.sources.hub_stream import HubStream, audio_parts, open_stream
from whispertune.data.table import SegmentTable

if TYPE_CHECKING:
    import pyarrow as pa

_JUDGED_ROWS = 1000  # at a time
_LONG_BYTES = 100 << 20  # downloads are shown from here on


@dataclass(frozen=True, slots=True)
class _InFile:
    """Recordings of some rows of one Arrow file."""

    container: Path
    column: str
    names: str  # of the split, for messages
    behind: int  # rows of the split in earlier files
    suffix: str
    rows: NDArray[np.int64]

    def __getitem__(self, row: int) -> Recording:
        in_file = int(self.rows[row])
        return Embedded(self.container, in_file, self.column, f"{self.names}:{self.behind + in_file}{self.suffix}")


def read_hub(spec: SourceSpec, audio: AudioReader) -> SourceData:
    """All rows of the splits, downloaded to the cache of `datasets` where they are not there yet."""
    place = find_place(spec)
    tables: list[SegmentTable] = []
    problems: list[Problem] = []
    batch: list[Segment] = []
    for item in limited(_items(place, spec, audio), spec):
        if isinstance(item, Problem):
            problems.append(item)
            continue
        batch.append(item)
        if len(batch) == _JUDGED_ROWS:
            tables.append(_compact(batch))
            batch = []
    return SourceData(SegmentTable.join([*tables, _compact(batch)]), tuple(problems))


def stream_hub(spec: SourceSpec, audio: AudioReader) -> HubStream:
    """The same rows, fetched when a shard is opened and no further than it is read."""
    return open_stream(find_place(spec), spec, audio)


def _items(place: Place, spec: SourceSpec, audio: AudioReader) -> Iterator[Segment | Problem]:
    size = min(_JUDGED_ROWS, spec.limit_rows or _JUDGED_ROWS)
    taken: set[str] = set()
    for origin, features, files in _downloaded(place):
        columns, behind = choose_columns(features, spec, origin), 0
        for file in files:
            table = _opened(file)
            for first in range(0, table.num_rows, size):
                rows = _rows(table.slice(first, size), first, file, behind, columns, origin, place.put_there)
                yield from judged(rows, columns, origin, spec, audio, trust=True, taken=taken)
            behind += table.num_rows


def _downloaded(place: Place) -> Iterator[tuple[Origin, Any, list[Path]]]:
    """The features and the Arrow files of each split."""
    with told(place.where):
        sizes = _sizes(place)
        builder = _of_splits(place, sizes)
    with told(place.where, bars=sum(sizes.values()) > _LONG_BYTES):
        builder.download_and_prepare()
    with told(place.where):
        datasets = [builder.as_dataset(split=split) for split in place.splits]
    for split, dataset in zip(place.splits, datasets, strict=True):
        yield place.origin(split), dataset.features, [Path(file["filename"]) for file in dataset.cache_files]


def _sizes(place: Place) -> dict[str, int]:
    """Bytes to download for each split."""
    from huggingface_hub import HfFileSystem

    hub = HfFileSystem()
    return {split: sum(hub.info(file)["size"] for file in files) for split, files in place.files.items()}


def _of_splits(place: Place, sizes: dict[str, int]) -> Any:
    """The builder; where it would download more bytes of other splits than of these, one that leaves them alone.

    All of a configuration is what other programs share in the cache, and what is found there without a network.
    """
    from datasets import load_dataset_builder

    from whispertune.data.sources.hub_audio import leave_audio_alone

    files, builder = place.files, place.builder
    if not all(file.endswith(".parquet") for of_split in files.values() for file in of_split):
        leave_audio_alone(builder)
        return builder
    if 2 * sum(sizes.get(split, 0) for split in place.splits) >= sum(sizes.values()):
        return builder
    wanted = {split: files[split] for split in place.splits}
    return load_dataset_builder(
        place.path, name=place.config, revision=place.revision, data_files=wanted, features=builder.info.features
    )


def _opened(file: Path) -> pa.Table:
    """The table in the file, left on the disk until rows are asked for."""
    import pyarrow as pa

    return pa.ipc.open_stream(pa.memory_map(str(file))).read_all()


def _rows(
    part: pa.Table,
    first: int,
    file: Path,
    behind: int,
    columns: Columns,
    origin: Origin,
    put_there: Callable[[str], bool],
) -> list[Row]:
    import pyarrow.compute as pc

    audio_bytes, audio_paths = audio_parts(part.column(columns.audio))
    sizes = pc.binary_length(audio_bytes).to_pylist()  # reads offsets, no audio
    paths = audio_paths.to_pylist() if audio_paths is not None else [None] * len(sizes)
    values = {name: part.column(name).to_pylist() for name in columns.besides_audio()}
    rows: list[Row] = []
    for number, (size, path) in enumerate(zip(sizes, paths, strict=True)):
        name = f"{origin}:{behind + first + number}{suffix_of(path)}"
        recording: Recording | None = None
        if size:
            recording = Embedded(file, first + number, columns.audio, name)
        elif path and put_there(path) and os.path.isfile(path):  # a folder of audio, downloaded file by file
            recording = Path(path)
        own = {column: of_all[number] for column, of_all in values.items()}
        rows.append(Row(behind + first + number, own, recording, size or 0))
    return rows


def _compact(segments: list[Segment]) -> SegmentTable:
    """The segments as a table that makes their recordings when asked, where all are rows of one file."""
    table = SegmentTable.of(segments)
    embedded = [one.recording for one in segments if isinstance(one.recording, Embedded)]
    if len(embedded) < len(segments) or len({one.container for one in embedded}) != 1:
        return table
    first = embedded[0]
    names, _, number = first.name.rpartition(":")
    suffix = suffix_of(number)
    behind = int(number.removesuffix(suffix)) - first.row
    rows = np.array([one.row for one in embedded], dtype=np.int64)
    return replace(table, recordings=_InFile(first.container, first.column, names, behind, suffix, rows))
