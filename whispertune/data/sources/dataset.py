"""What `whispertune prepare` wrote: Parquet shards with FLAC inside, read back as the recordings they were.

    read_dataset(SourceSpec("dataset:train"), audio)       # the folder `dataset`, its split `train`
    stream_dataset(SourceSpec("dataset:train"), audio)     # the same segments, shard by shard

Rows that follow each other in a recording come back as one `Joined` recording, in its own time: windows planned
from it hold the samples and the labels that they held before. No audio is read here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from whispertune.data.audio import SAMPLE_RATE_HZ, AudioReader
from whispertune.data.segments import Embedded, Joined, Part, Problem, Recording, Segment, SourceData, SourceSpec
from whispertune.data.sources.cells import mapped
from whispertune.data.sources.hub_rows import TASKS
from whispertune.data.sources.rows import LONGEST_S, ROUNDING_S, Trouble
from whispertune.data.streams import Stream
from whispertune.data.table import SegmentTable
from whispertune.errors import DataError
from whispertune.languages import LANGUAGE_NAMES, code_of

if TYPE_CHECKING:
    import pyarrow as pa

MARK = "prepare.json"  # written last: where it lies, the dataset is whole
SPLITS = {"train": "train", "dev": "validation", "test": "test"}  # the recipe's names, the hub's
SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.parquet")
TIME_TOLERANCE_S = 1e-6  # of times as floats

_COLUMNS = ("id", "text", "language", "task", "speaker", "recording")
_NUMBERS = ("start_s", "end_s", "continues", "lead_s", "before_s")


def at_sample(time_s: float) -> int:
    """The sample at a time, as all that reads audio counts them."""
    return round(time_s * SAMPLE_RATE_HZ)


def is_dataset(path: Path) -> bool:
    """Whether `prepare` wrote this folder; `folder:split` too."""
    folder, _ = _folder_and_split(str(path))
    return (folder / MARK).is_file() and (folder / "data").is_dir()


def read_dataset(spec: SourceSpec, audio: AudioReader) -> SourceData:
    """All rows of a split; those that cannot be used are Problems."""
    rows = _rows(_shards(spec), spec).limited(spec)
    return SourceData(rows.table, tuple(rows.problems.values()))


def stream_dataset(spec: SourceSpec, audio: AudioReader) -> Stream:
    """The rows of a split, each shard's read when it is opened; with a limit all of them are one shard."""
    files = _shards(spec)
    if spec.limit_rows is not None or spec.limit_hours is not None:
        return _ShardStream(spec, (files,), (_rows(files, spec).limited(spec).count,))
    return _ShardStream(spec, tuple((file,) for file in files), tuple(_count(file) for file in files))


@dataclass(frozen=True, slots=True)
class _ShardStream:
    spec: SourceSpec
    shards: tuple[tuple[Path, ...], ...]
    shard_rows: tuple[int | None, ...]

    @property
    def name(self) -> str:
        return f"dataset:{self.spec.location}"

    def open(self, shard: int, skip: int = 0) -> Iterator[Segment | Problem]:
        """The rows of one shard; their audio stays in its file until it is read."""
        return _rows(self.shards[shard], self.spec).limited(self.spec).items(skip)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows in their order: those that can be used, with the number of each, and the others as Problems by number."""

    table: SegmentTable
    numbers: NDArray[np.int64]
    problems: dict[int, Problem]

    @property
    def count(self) -> int:
        return len(self.numbers) + len(self.problems)

    def items(self, skip: int) -> Iterator[Segment | Problem]:
        """One a row, behind the first `skip`."""
        used = int(np.searchsorted(self.numbers, skip))
        for number in range(skip, self.count):
            if problem := self.problems.get(number):
                yield problem
            else:
                yield self.table[used]
                used += 1

    def limited(self, spec: SourceSpec) -> _Rows:
        """The first rows, as many that can be used as the spec allows."""
        used = len(self.table) if spec.limit_rows is None else min(len(self.table), spec.limit_rows)
        if spec.limit_hours is not None:
            until_s = np.cumsum(self.table.durations_s)
            hours = np.searchsorted(until_s, spec.limit_hours * 3600 + TIME_TOLERANCE_S, side="right")
            used = min(used, int(hours))
        if used == len(self.table):
            return self
        end = self.numbers[used]
        problems = {number: problem for number, problem in self.problems.items() if number < end}
        return _Rows(self.table[:used], self.numbers[:used], problems)


@dataclass(frozen=True, eq=False, slots=True)
class _Chains:
    """The recording of each row: that of its chain. A clip that stands alone is the recording itself."""

    files: tuple[Path, ...]
    file_starts: NDArray[np.int64]  # the first row of each file
    starts: NDArray[np.int64]  # the first row of each chain, and the count of rows
    ids: pa.Array
    names: pa.Array
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    before_s: NDArray[np.float64]
    # The chain asked for last: neighbours share one object, which compares at once.
    _last: dict[int, Recording] = field(default_factory=dict, repr=False)

    def __getitem__(self, row: int) -> Recording:
        chain = int(np.searchsorted(self.starts, row, side="right")) - 1
        found = self._last.get(chain)
        if found is None:
            found = self._recording(int(self.starts[chain]), int(self.starts[chain + 1]))
            self._last.clear()
            self._last[chain] = found
        return found

    def _recording(self, first: int, end: int) -> Recording:
        if end == first + 1 and self.start_s[first] == 0.0 and not self.before_s[first]:
            return self._embedded(first, "audio")
        return Joined(self.names[first].as_py(), tuple(self._parts(first, end)))

    def _parts(self, first: int, end: int) -> Iterator[Part]:
        for row in range(first, end):
            start_s, end_s = float(self.start_s[row]), float(self.end_s[row])
            # Of neighbours the very number, so that both round to the same sample.
            since_s = float(self.end_s[row - 1]) if row > first else start_s - float(self.before_s[row])
            if at_sample(since_s) < at_sample(start_s):
                yield Part(self._embedded(row, "before"), since_s, start_s)
            yield Part(self._embedded(row, "audio"), start_s, end_s)

    def _embedded(self, row: int, column: str) -> Embedded:
        file = int(np.searchsorted(self.file_starts, row, side="right")) - 1
        name = f"{self.ids[row].as_py()}.flac"
        return Embedded(self.files[file], row - int(self.file_starts[file]), column, name)


def _rows(files: Sequence[Path], spec: SourceSpec) -> _Rows:
    import pyarrow as pa

    tables = [_with_languages(_read(file), spec) for file in files]
    if not tables:
        return _Rows(SegmentTable.of(()), np.array([], dtype=np.int64), {})
    starts = np.cumsum([0, *(table.num_rows for table in tables)], dtype=np.int64)
    rows = pa.concat_tables(tables)
    problems: dict[int, Problem] = {}
    for number, trouble in sorted(_troubles(rows, spec).items()):
        shard = int(np.searchsorted(starts, number, side="right")) - 1
        problems[number] = Problem(f"{files[shard]} row {number - starts[shard]}", *trouble)
    used = np.ones(rows.num_rows, dtype=np.bool_)
    used[list(problems)] = False
    return _Rows(_table(rows, files, starts[:-1], used).where(used), np.flatnonzero(used), problems)


def _table(rows: pa.Table, files: Sequence[Path], starts: NDArray[np.int64], used: NDArray[np.bool_]) -> SegmentTable:
    """All rows; times of those that cannot be used are 0, and they are linked with no other."""
    text = {name: rows[name].combine_chunks() for name in _COLUMNS}
    number = {name: np.where(used, _numbers(rows, name), 0.0) for name in _NUMBERS}
    coded = {name: text[name].dictionary_encode() for name in ("language", "task", "speaker")}
    continues = _linked(number, text["recording"], coded)
    continues[1:] &= used[1:] & used[:-1]
    chains = _Chains(
        files=tuple(files),
        file_starts=starts,
        starts=np.append(np.flatnonzero(~continues), len(continues)),
        ids=text["id"],
        names=text["recording"],
        start_s=number["start_s"],
        end_s=number["end_s"],
        before_s=number["before_s"],
    )
    # Where rows were taken out, less audio is left in front than was free of speech.
    short = ~continues & (number["before_s"] < np.minimum(number["lead_s"], 1.0) - TIME_TOLERANCE_S)
    return SegmentTable(
        ids=text["id"],
        recordings=chains,
        start_s=number["start_s"],
        end_s=number["end_s"],
        texts=text["text"],
        languages=coded["language"],
        tasks=coded["task"],
        speakers=coded["speaker"],
        continues=continues,
        lead_s=np.where(short, number["before_s"], number["lead_s"]),
    )


@contextmanager
def _told(file: Path) -> Iterator[None]:
    """What Arrow says of a file that it cannot read, as one line."""
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException) as error:
        said = str(error).partition("\n")[0]
        raise DataError(f"is no shard that can be read ({said})", where=str(file), fix=_FIX) from error


def _count(file: Path) -> int:
    """The rows of a shard, which has all columns."""
    import pyarrow.parquet as pq

    with _told(file):
        metadata, names = pq.read_metadata(file), pq.read_schema(file).names
    if missing := [name for name in ("audio", "before", *_COLUMNS, *_NUMBERS) if name not in names]:
        raise DataError(f"is no shard of a prepared dataset: it has no {', '.join(missing)}", where=str(file), fix=_FIX)
    return int(metadata.num_rows)


def _read(file: Path) -> pa.Table:
    """All columns but the audio, of the types that they should have."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    _count(file)
    kinds = [(name, pa.large_string()) for name in _COLUMNS] + [(name, pa.float64()) for name in _NUMBERS]
    with _told(file):
        table = pq.read_table(file, columns=[name for name, _ in kinds])
        table.validate(full=True)  # strings that are not UTF-8
        arrays = [table[name].cast(kind) for name, kind in kinds]
    return pa.table(arrays, names=[name for name, _ in kinds])


def _with_languages(rows: pa.Table, spec: SourceSpec) -> pa.Table:
    """Languages as Whisper's codes; the recipe's stands in for one that Whisper does not know."""
    own = rows["language"].combine_chunks()
    codes = mapped(own, len(own), lambda written: code_of(written) or spec.language or written, None)
    return rows.set_column(rows.schema.get_field_index("language"), "language", codes.dictionary_decode())


def _numbers(rows: pa.Table, name: str) -> NDArray[np.float64]:
    """A column, nan where it is null."""
    return np.asarray(rows[name].to_numpy(), dtype=np.float64)


def _troubles(rows: pa.Table, spec: SourceSpec) -> dict[int, Trouble]:
    """The first thing that is wrong with each row that cannot be used: anybody may have written it."""
    found: dict[int, Trouble] = {}
    for kind, name, wrong in _checks(rows, spec):
        for number in np.flatnonzero(wrong):
            found.setdefault(int(number), (kind, f"{name} is {rows[name][int(number)].as_py()!r:.60}"))
    return found


def _checks(rows: pa.Table, spec: SourceSpec) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """A kind of trouble, the column that it stands in, and the rows that have it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for name in (*_COLUMNS, *_NUMBERS):
        if name != "speaker":
            yield "malformed row", name, rows[name].is_null().to_numpy()
    if not spec.empty_texts:
        yield "empty text", "text", pc.equal(pc.utf8_trim_whitespace(rows["text"]), "").fill_null(True).to_numpy()
    languages = (*LANGUAGE_NAMES, *([spec.language] if spec.language else ()))
    for name, known in (("language", languages), ("task", TASKS)):
        kinds = pa.array(list(known), pa.large_string())
        yield f"unknown {name}", name, ~pc.is_in(rows[name], kinds).to_numpy()
    start_s, end_s, before_s = (_numbers(rows, name) for name in ("start_s", "end_s", "before_s"))
    for name in _NUMBERS:
        number = _numbers(rows, name)
        yield "wrong times", name, ~((number >= 0) & (number < np.inf))
    yield "wrong times", "end_s", ~(start_s < end_s)
    yield "wrong times", "before_s", ~(before_s <= start_s + TIME_TOLERANCE_S)
    with np.errstate(invalid="ignore"):
        yield "longer than 30 s", "end_s", end_s - start_s > LONGEST_S + ROUNDING_S


def _linked(number: dict[str, NDArray[np.float64]], names: pa.Array, coded: dict[str, pa.Array]) -> NDArray[np.bool_]:
    """Which rows do follow the one before them: somebody may have filtered or shuffled since."""
    count = len(names)
    linked = number["continues"].astype(np.bool_)
    if not count:
        return linked
    linked[0] = False
    gap_s = number["start_s"][1:] - number["before_s"][1:] - number["end_s"][:-1]
    linked[1:] &= np.abs(gap_s) < TIME_TOLERANCE_S
    for column in (names.dictionary_encode(), coded["language"], coded["task"]):
        codes = column.indices.to_numpy(zero_copy_only=False)
        linked[1:] &= codes[1:] == codes[:-1]
    return linked


_FIX = "fetch it again, or write it again with: whispertune prepare"


def _shards(spec: SourceSpec) -> tuple[Path, ...]:
    """The files of the split that the spec means, all of them."""
    folder, split = _folder_and_split(spec.location)
    where = f"{spec.origin}: {folder}" if spec.origin else str(folder)
    if spec.columns:
        raise DataError("a prepared dataset has columns of its own", where=where, fix="take `columns` out of its table")
    found: dict[str, list[tuple[Path, int]]] = {}
    for path in sorted((folder / "data").glob("*.parquet")):
        if match := SHARD.fullmatch(path.name):
            found.setdefault(match[1], []).append((path, int(match[3])))
    if not found:
        raise DataError("is no prepared dataset: no shards in its data/", where=where, fix=_FIX)
    names = {hub: name for name, hub in SPLITS.items()}
    wanted = SPLITS.get(split or "", split) or (next(iter(found)) if len(found) == 1 else None)
    if wanted not in found:
        what = f"has no split {split!r}" if split else "has several splits"
        choice = ", ".join(f"dataset:{folder}:{names.get(name, name)}" for name in found)
        raise DataError(what, where=where, fix=f"say which is meant: {choice}")
    files = found[wanted]
    if len(files) != files[0][1]:
        raise DataError(f"holds {len(files)} of the {files[0][1]} shards of {wanted}", where=where, fix=_FIX)
    return tuple(path for path, _ in files)


def _folder_and_split(location: str) -> tuple[Path, str | None]:
    folder, separator, split = location.rpartition(":")
    if not separator or "/" in split or "\\" in split or Path(location).is_dir():
        return Path(location), None
    return Path(folder), split
