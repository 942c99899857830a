"""The rows of a split on disk, as jobs take them: a memory-mapped Arrow file of Segments and of their names.

write_rows(work / "train.arrow", [(table, source), ...], max_gap_s=5.0)
for row in read_rows(work / "train.arrow", first=4000, end=8000):
    row.segment, row.recording_name, row.source        # of a stretch of rows, nothing else is read
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from whispertune.data.segments import Embedded, Held, Joined, Part, Recording, Segment
from whispertune.data.sources.rows import ROUNDING_S
from whispertune.data.table import SegmentTable

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 10_000
LEAD_S = 1.0  # of quiet kept before a row that follows no other: windows begin at most so early
_TEXTS = ("id", "path", "inside", "recording", "text", "language", "task", "speaker", "source")
_NUMBERS = ("start_s", "end_s", "lead_s")


@dataclass(frozen=True, slots=True)
class NamedTable:
    """The segments of one source: what it is called, and the folder that its recordings are named from."""

    segments: SegmentTable
    source: str
    root: Path


@dataclass(frozen=True, slots=True)
class Row:
    """A segment with what the dataset says of where it comes from."""

    segment: Segment
    recording_name: str
    source: str


def linked(table: SegmentTable, max_gap_s: float) -> NDArray[np.bool_]:
    """Which rows follow the row before them so closely that packing keeps the audio between."""
    follows = table.continues.copy()
    follows[:1] = False
    follows[1:] &= table.start_s[1:] - table.end_s[:-1] <= max_gap_s
    for column in (table.languages, table.tasks):
        codes = column.indices.to_numpy(zero_copy_only=False)
        follows[1:] &= codes[1:] == codes[:-1]
    return follows


def write_rows(path: Path, tables: Sequence[NamedTable], max_gap_s: float) -> None:
    """Write the rows of some sources, one behind the other."""
    import pyarrow as pa

    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, _schema()) as writer:
        for named in tables:
            follows = linked(named.segments, max_gap_s)
            for first in range(0, len(named.segments), BATCH_ROWS):
                rows = slice(first, min(first + BATCH_ROWS, len(named.segments)))
                writer.write_batch(_batch(named, rows, follows[rows], max(max_gap_s, LEAD_S) + ROUNDING_S))


def read_rows(path: Path, first: int, end: int) -> Iterator[Row]:
    """Rows [first, end)."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as file:
        reader = pa.ipc.open_file(file)
        start = 0
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            inside = batch.slice(max(0, first - start), max(0, min(end, start + len(batch)) - max(first, start)))
            yield from (_row(values) for values in inside.to_pylist())
            start += len(batch)
            if start >= end:
                return


def recording_name(recording: Recording, root: Path) -> str:
    """What the dataset calls a recording: its path in the source's folder, nothing of this machine."""
    if not isinstance(recording, Path):
        path = PurePath(recording.name)
        return path.name if path.is_absolute() else recording.name
    inside = os.path.relpath(os.path.abspath(recording), root)
    if not inside.startswith(".."):
        return PurePath(inside).as_posix()
    # Two recordings of one name in different folders stay two.
    return f"{hashlib.sha256(str(recording.parent).encode()).hexdigest()[:8]}/{recording.name}"


def _schema() -> pa.Schema:
    import pyarrow as pa

    texts = [(name, pa.string()) for name in _TEXTS]
    return pa.schema([*texts, *((name, pa.float64()) for name in _NUMBERS), ("continues", pa.bool_())])


def _batch(named: NamedTable, rows: slice, follows: NDArray[np.bool_], reach_s: float) -> pa.RecordBatch:
    import pyarrow as pa

    table = named.segments
    spans = zip(range(rows.start, rows.stop), table.start_s[rows].tolist(), table.end_s[rows].tolist(), strict=True)
    places = [_near(table.recordings[row], start_s - reach_s, end_s) for row, start_s, end_s in spans]
    known: dict[Recording, _Place] = {}  # many rows, few recordings
    written = [known.get(each) or known.setdefault(each, _place(each, named.root)) for each in places]
    columns = {
        "id": table.ids[rows],
        "path": [place.path for place in written],
        "inside": [place.inside for place in written],
        "recording": [place.name for place in written],
        "text": table.texts[rows],
        "language": table.languages[rows].dictionary_decode(),
        "task": table.tasks[rows].dictionary_decode(),
        "speaker": table.speakers[rows].dictionary_decode(),
        "source": [named.source] * len(written),
        "start_s": table.start_s[rows],
        "end_s": table.end_s[rows],
        "lead_s": table.lead_s[rows],
        "continues": follows,
    }
    schema = _schema()
    arrays = [pa.array(columns[field.name]).cast(field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


@dataclass(frozen=True, slots=True)
class _Place:
    """A recording as it is written: a path, or JSON of what is no file of its own; and its name."""

    path: str | None
    inside: str | None
    name: str


def _near(recording: Recording, start_s: float, end_s: float) -> Recording:
    """The recording; of many parts those that a row and what is before it may need."""
    if not isinstance(recording, Joined):
        return recording
    parts = tuple(part for part in recording.parts if part.end_s > start_s and part.start_s < end_s)
    return replace(recording, parts=parts)


def _place(recording: Recording, root: Path) -> _Place:
    name = recording_name(recording, root)
    if isinstance(recording, Path):
        return _Place(os.path.abspath(recording), None, name)
    if isinstance(recording, Held):
        raise TypeError("bytes that came with a row are read from their stream")
    return _Place(None, json.dumps(asdict(recording), default=str), name)


def _row(values: dict[str, Any]) -> Row:
    segment = Segment(
        id=values["id"],
        recording=_recording(values["path"], values["inside"]),
        start_s=values["start_s"],
        end_s=values["end_s"],
        text=values["text"],
        language=values["language"],
        task=values["task"],
        speaker=values["speaker"],
        continues=values["continues"],
        lead_s=values["lead_s"],
    )
    return Row(segment, values["recording"], values["source"])


def _recording(path: str | None, inside: str | None) -> Recording:
    if path is not None:
        return Path(path)
    values = json.loads(inside or "")
    if "parts" not in values:
        return _embedded(values)
    parts = tuple(Part(_embedded(part["audio"]), part["start_s"], part["end_s"]) for part in values["parts"])
    return Joined(values["name"], parts)


def _embedded(values: dict[str, Any]) -> Embedded:
    return replace(Embedded(**values), container=Path(values["container"]))
