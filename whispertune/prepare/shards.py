"""One shard of a dataset: Parquet with FLAC inside, written aside, synced, hashed and renamed.

    with ShardWriter(temporary) as writer:
        writer.add(StoredRow(row, start_s=12.4, before_s=0.3, samples=samples, before=before))
    record = writer.record("train-00000-of-00012", problems)
    is_whole(path, record)                     # its footer and its hash are what was written

`datasets.load_dataset` reads the column `audio` as audio. It is neither compressed again nor put into dictionaries
or statistics, and row groups are small, so that one row costs few reads.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import socket
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from whispertune.data.segments import Problem
from whispertune.files import sha256, sync, writing
from whispertune.prepare.rows import Row

if TYPE_CHECKING:
    import pyarrow as pa

SAMPLE_RATE_HZ = 16_000
GROUP_ROWS = 64  # a row group: this many rows, or
GROUP_S = 120.0  # this much audio, some 2 MB
HASH_BYTES = 8  # of what is heard and said in a row: equal ones are the same

# What `datasets` calls each column, in their order.
FEATURES: dict[str, dict[str, Any]] = {
    "audio": {"sampling_rate": SAMPLE_RATE_HZ, "_type": "Audio"},
    **{
        name: {"dtype": "string", "_type": "Value"}
        for name in ("text", "language", "task", "speaker", "id", "source", "recording")
    },
    **{name: {"dtype": "float64", "_type": "Value"} for name in ("start_s", "end_s", "duration_s")},
    "continues": {"dtype": "bool", "_type": "Value"},
    "lead_s": {"dtype": "float64", "_type": "Value"},
    "before_s": {"dtype": "float64", "_type": "Value"},
    "before": {"dtype": "binary", "_type": "Value"},
}
_CODED = ["language", "task", "speaker", "source", "recording"]  # few different values
_AUDIO = ("audio.bytes", "before")
_OWN_NAME = re.compile(r"\.(?P<name>.+)\.(?P<host>[^.]+)\.(?P<pid>[0-9]+)\.partial")

Samples = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row as it is written: its own samples, and those between it and what was said before it."""

    row: Row
    continues: bool  # the row before it in the shard is the one before it in the recording
    before_s: float  # seconds between the two, or of quiet in front
    samples: Samples  # (samples,)
    before: Samples  # (samples,)
    audio_hash: str  # of `samples`, in hex


@dataclass(frozen=True, slots=True)
class SourceCount:
    """What a source gave to a shard."""

    source: str
    rows: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """What a finished shard holds; kept beside it as JSON."""

    name: str
    sha256: str
    bytes: int
    rows: int
    seconds: float
    languages: tuple[str, ...]
    sources: tuple[SourceCount, ...]
    audio_hashes: str  # of each row, in hex, one behind the other
    kind_hashes: str  # language and task
    text_hashes: str
    problems: tuple[Problem, ...]

    def save(self, path: Path) -> None:
        """Write it whole or not at all."""
        write_whole(path, json.dumps(asdict(self)).encode("utf-8", "surrogatepass"))

    @classmethod
    def load(cls, path: Path) -> ShardRecord | None:
        """The record of a shard that is finished; None where it is not."""
        try:
            values = json.loads(path.read_bytes().decode("utf-8", "surrogatepass"))
        except (OSError, ValueError):
            return None
        values["languages"] = tuple(values["languages"])
        values["sources"] = tuple(SourceCount(**each) for each in values["sources"])
        values["problems"] = tuple(Problem(**each) for each in values["problems"])
        return cls(**values)


class ShardWriter:
    """Writes rows in their order; `record` closes the file.

    Raises:
        InputError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self.path = path
        self.rows = 0
        self.seconds = 0.0
        self._writer: pq.ParquetWriter = open_parquet(path)
        self._group: list[dict[str, Any]] = []
        self._group_s = 0.0
        self._hashes: tuple[list[str], list[str], list[str]] = ([], [], [])
        self._languages: set[str] = set()
        self._sources: dict[str, Counter[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with writing(self.path.parent):
            self._writer.close()

    def add(self, stored: StoredRow) -> None:
        """The next row."""
        segment, seconds = stored.row.segment, len(stored.samples) / SAMPLE_RATE_HZ
        self._group.append(_values(stored, self.rows, seconds))
        self._group_s += seconds + len(stored.before) / SAMPLE_RATE_HZ
        self._hashes[0].append(stored.audio_hash[: 2 * HASH_BYTES])
        self._hashes[1].append(_hash(f"{segment.language} {segment.task}"))
        self._hashes[2].append(_hash(segment.text))
        self._languages.add(segment.language)
        of_source = self._sources.setdefault(stored.row.source, Counter())
        of_source["rows"] += 1
        of_source["samples"] += len(stored.samples)
        self.rows += 1
        self.seconds += seconds
        if len(self._group) >= GROUP_ROWS or self._group_s >= GROUP_S:
            self._write_group()

    def record(self, name: str, problems: tuple[Problem, ...]) -> ShardRecord:
        """Finish the file and say what it holds."""
        self._write_group()
        with writing(self.path.parent):
            self._writer.close()
            sync(self.path)
        return ShardRecord(
            name=name,
            sha256=sha256(self.path),
            bytes=self.path.stat().st_size,
            rows=self.rows,
            seconds=self.seconds,
            languages=tuple(sorted(self._languages)),
            sources=tuple(
                SourceCount(source, count["rows"], count["samples"] / SAMPLE_RATE_HZ)
                for source, count in self._sources.items()
            ),
            audio_hashes="".join(self._hashes[0]),
            kind_hashes="".join(self._hashes[1]),
            text_hashes="".join(self._hashes[2]),
            problems=problems,
        )

    def _write_group(self) -> None:
        import pyarrow as pa

        if self._group:
            group = pa.Table.from_pylist(self._group, schema=schema())
            with writing(self.path.parent):
                self._writer.write_table(group)
        self._group, self._group_s = [], 0.0


def schema() -> pa.Schema:
    """The columns, with what makes `datasets` see audio in one of them."""
    import pyarrow as pa

    kinds = {"string": pa.string(), "float64": pa.float64(), "bool": pa.bool_(), "binary": pa.binary()}
    audio = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    fields = [(name, kinds[kind["dtype"]] if "dtype" in kind else audio) for name, kind in FEATURES.items()]
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": FEATURES}})})


def open_parquet(path: Path) -> Any:
    """A ParquetWriter as shards want it."""
    import pyarrow.parquet as pq

    plain = [name for name in FEATURES if name not in ("audio", "before")]
    leaves = [*plain, "audio.path", *_AUDIO]
    return pq.ParquetWriter(
        path,
        schema(),
        compression={name: "none" if name in _AUDIO else "zstd" for name in leaves},
        use_dictionary=_CODED,
        write_statistics=plain,
    )


def flac(samples: Samples) -> bytes:
    """16-bit FLAC at 16 kHz: what is decoded from it is what went in."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def sixteen_bits(samples: NDArray[Any]) -> Samples:
    """Samples in -1 to 1 on the grid of 16-bit files; those of such a file come out as they were in it."""
    if samples.dtype == np.int16:
        return samples
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)


def is_whole(path: Path, record: ShardRecord) -> bool:
    """Whether a finished shard is still what was written: its size, its footer, its hash."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        whole = path.stat().st_size == record.bytes and pq.read_metadata(path).num_rows == record.rows
    except (OSError, pa.ArrowException):
        return False
    return whole and sha256(path) == record.sha256


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; of several writers one wins."""
    temporary = own_name(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def own_name(path: Path) -> Path:
    """A name beside a file that no other process uses, on whichever machine."""
    return path.with_name(f".{path.name}.{_host()}.{os.getpid()}.partial")


def final_name(path: Path) -> str:
    """What a file that is called by `own_name` is to be called when it is whole; of others, their name."""
    match = _OWN_NAME.fullmatch(path.name)
    return match["name"] if match else path.name


def left_behind(path: Path) -> bool:
    """Whether a process of this machine that is no more left a file of such a name."""
    match = _OWN_NAME.fullmatch(path.name)
    if match is None or match["host"] != _host():
        return False
    try:
        os.kill(int(match["pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # somebody else's
        return False
    return False


def _host() -> str:
    """This machine, without dots: they part a name. No host has an underscore of its own."""
    return socket.gethostname().replace(".", "_")


def _values(stored: StoredRow, number: int, seconds: float) -> dict[str, Any]:
    segment = stored.row.segment
    return {
        "audio": {"bytes": flac(stored.samples), "path": f"{number:06d}.flac"},
        "text": segment.text,
        "language": segment.language,
        "task": segment.task,
        "speaker": segment.speaker,
        "id": segment.id,
        "source": stored.row.source,
        "recording": stored.row.recording_name,
        "start_s": segment.start_s,
        "end_s": segment.end_s,
        "duration_s": seconds,
        "continues": stored.continues,
        "lead_s": segment.lead_s,
        "before_s": stored.before_s,
        "before": flac(stored.before) if len(stored.before) else None,
    }


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=HASH_BYTES).hexdigest()
