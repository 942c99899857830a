"""JSON lines, CSV and TSV as Arrow columns, block by block, so that a million rows need little memory.

    for block in read_jsonl(Path("train.jsonl"), choose):       # read_csv(Path("train.tsv"), choose)
        block.lines, block.column("text"), block.problems

`choose` gets the names of the columns that are there, and says which of them are wanted for what. Well-formed JSON
goes through Arrow; what is around a line that Arrow does not take is read line by line, and bad lines are named.

In a TSV quotes are text, as in Common Voice, but for a cell such as "He said ""yes""." that is plainly quoted; where
the names in its first line stand in quotes, it is read as a CSV is. In a CSV, a space behind a comma is no part of
a cell.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from whispertune.data.captions import read_text
from whispertune.data.segments import Problem
from whispertune.data.sources.cells import text_column
from whispertune.data.sources.rows import Trouble
from whispertune.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

TIME_FIELDS = ("start", "end", "duration")
_NUMBERED_FIELDS = ("speaker", "id")  # are text, but often written as numbers
_BLOCK_BYTES = 2 * 1024 * 1024
_PART_BYTES = 64 * 1024  # are read line by line around a bad line
_BLOCK_ROWS = 50_000
_QUOTED = r'^"([^"]|"")*""([^"]|"")*"$'  # a cell as writers of CSV quote it, with a quote inside


@dataclass(frozen=True, slots=True)
class Wanted:
    """A field of ours and the columns that may hold it: the first that has a value does."""

    field: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows of a file: those that are well-formed, as columns named by our fields, and those that are not."""

    lines: NDArray[np.int64]
    fields: tuple[str, ...]
    columns: tuple[pa.Array, ...]  # strings; those of times may be floats
    problems: tuple[Problem, ...] = ()

    def column(self, field: str) -> pa.Array | None:
        """None where no row says anything of it."""
        return self.columns[self.fields.index(field)] if field in self.fields else None


Choose = Callable[[Sequence[str]], Sequence[Wanted]]
_JsonRow = tuple[int, dict[str, Any]]


# -------------------------------------------------------------------------------------------------- JSON lines


def read_jsonl(path: Path, choose: Choose) -> Iterator[Block]:
    """The rows of a file with a JSON object on each line."""
    wanted: Sequence[Wanted] = ()
    schema: pa.Schema | None = None
    first_line = 1
    blocks = _byte_blocks(path)
    waiting: list[bytes] = []  # parts of a block that Arrow does not take as a whole
    while block := waiting.pop() if waiting else next(blocks, b""):
        found = _through_arrow(block, first_line, wanted, schema) if schema else None
        parts = [] if found or not schema else list(_blocks(io.BytesIO(block), _PART_BYTES))
        if len(parts) > 1:
            waiting += reversed(parts)
            continue
        if not found:
            rows, problems = _json_rows(block, first_line, path)
            if rows and not wanted:
                wanted = choose(list(dict.fromkeys(name for _, row in rows for name in row)))
                schema = _schema(rows, wanted)
            found = _from_json(rows, problems, wanted, path)
        yield found
        first_line += block.count(b"\n")


def _through_arrow(block: bytes, first_line: int, wanted: Sequence[Wanted], schema: pa.Schema) -> Block | None:
    """A block in which each line is an object as expected; None where it is not."""
    import pyarrow as pa
    import pyarrow.json

    rows = block.count(b"\n{") + block.startswith(b"{")
    if rows != block.count(b"\n") + (not block.endswith(b"\n")):
        return None  # empty lines would shift the numbers of those behind
    reading = pyarrow.json.ReadOptions(use_threads=False, block_size=len(block))
    parsing = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    try:
        table = pyarrow.json.read_json(pa.BufferReader(block), reading, parsing)
    except pa.ArrowException:
        return None
    if table.num_rows != rows:
        return None
    columns = {one.field: [table[name] for name in one.names if table[name].null_count < rows] for one in wanted}
    return _block(
        np.arange(first_line, first_line + rows), {name: _coalesced(found) for name, found in columns.items()}
    )


def _coalesced(columns: Sequence[pa.ChunkedArray]) -> pa.Array | None:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not columns:
        return None
    kinds = {column.type for column in columns}
    numbers = kinds == {pa.float64()}
    columns = [column.combine_chunks() if numbers else text_column(column) for column in columns]
    return columns[0] if len(columns) == 1 else pc.coalesce(*columns)


def _schema(rows: Sequence[_JsonRow], wanted: Sequence[Wanted]) -> pa.Schema:
    """What to expect of later rows, after the first."""
    import pyarrow as pa

    def kind(field: str, name: str) -> pa.DataType:
        value = next((row[name] for _, row in rows if row.get(name) is not None), None)
        if field in TIME_FIELDS:
            return pa.large_string() if isinstance(value, str) else pa.float64()
        return pa.int64() if field in _NUMBERED_FIELDS and isinstance(value, int) else pa.large_string()

    kinds = {name: kind(one.field, name) for one in wanted for name in one.names}
    return pa.schema(list(kinds.items()))


def _json_rows(block: bytes, first_line: int, path: Path) -> tuple[list[_JsonRow], list[Problem]]:
    rows: list[_JsonRow] = []
    problems: list[Problem] = []
    for line, written in enumerate(block.decode("utf-8", "surrogatepass").split("\n"), start=first_line):
        if not written.strip():
            continue
        try:
            row = json.loads(written)
        except (ValueError, RecursionError) as error:
            problems.append(Problem(f"{path}:{line}", "malformed row", f"is not JSON ({error})"))
            continue
        if isinstance(row, dict):
            rows.append((line, row))
        else:
            problems.append(Problem(f"{path}:{line}", "malformed row", "is no JSON object"))
    return rows, problems


def _from_json(rows: Sequence[_JsonRow], problems: Sequence[Problem], wanted: Sequence[Wanted], path: Path) -> Block:
    present = {name for _, row in rows for name in row}
    columns = {one.field: _values(rows, [name for name in one.names if name in present]) for one in wanted}
    malformed: dict[int, Trouble] = {}  # by place
    for field, values in columns.items():
        if not set(map(type, values)) <= {str, type(None)}:
            found = ((place, _malformed(field, value)) for place, value in enumerate(values))
            malformed = {place: trouble for place, trouble in found if trouble} | malformed
    named = [Problem(f"{path}:{rows[place][0]}", *trouble) for place, trouble in sorted(malformed.items())]
    if malformed:
        kept = [place for place in range(len(rows)) if place not in malformed]
        rows = [rows[place] for place in kept]
        columns = {field: [values[place] for place in kept] for field, values in columns.items()}
    lines = np.array([line for line, _ in rows], dtype=np.int64)
    return _block(lines, {field: _json_column(field, values) for field, values in columns.items()}, [*problems, *named])


def _values(rows: Sequence[_JsonRow], names: Sequence[str]) -> list[Any]:
    """What the first of these columns that has a value holds, row by row."""
    if len(names) <= 1:
        return [row.get(names[0]) for _, row in rows] if names else [None] * len(rows)
    return [next((row[name] for name in names if row.get(name) is not None), None) for _, row in rows]


def _malformed(field: str, value: Any) -> Trouble | None:
    if value is None or isinstance(value, str) or field in TIME_FIELDS:
        return None
    if field in _NUMBERED_FIELDS and isinstance(value, int) and not isinstance(value, bool):
        return None
    return "malformed row", f"{field} is {value!r}, not text"


def _json_column(field: str, values: Sequence[Any]) -> pa.Array | None:
    import pyarrow as pa

    if all(value is None for value in values):
        return None
    if field in TIME_FIELDS and all(value is None or type(value) in (int, float) for value in values):
        try:
            return pa.array([None if value is None else float(value) for value in values], pa.float64())
        except OverflowError:
            pass  # a number of hundreds of digits
    return text_column([None if value is None else str(value) for value in values])


# ------------------------------------------------------------------------------------------------- CSV and TSV


def read_csv(path: Path, choose: Choose, delimiter: str = ",") -> Iterator[Block]:
    """The rows of a file with the names of its columns in the first line."""
    text = _text_lines(path)
    header = next(text, "")
    quoted = delimiter == "," or '"' in header
    lines = _CsvLines(chain([header], text), delimiter)
    rows = _csv_rows(lines, delimiter, quoted=quoted)
    _, names = next(rows, (1, None))
    if names is None:
        return
    if isinstance(names, tuple):
        raise DataError(f"its first line does not name the columns: {names[1]}", where=f"{path}:1")
    wanted = choose([name.strip() for name in names])
    places = {name.strip(): place for place, name in enumerate(names)}
    taken = {one.field: places[one.names[0]] for one in wanted if one.names[0] in places}
    lines.width, lines.audio = len(names), taken.get("audio")
    while True:
        block = _csv_block(rows, taken, len(names), path)
        yield block if quoted else replace(block, columns=tuple(_unquoted(column) for column in block.columns))
        if not len(block.lines) and not block.problems:
            return


class _CsvLines:
    """The lines of a CSV, as its reader takes them; those behind the first of a bad record are taken again.

    Else a quote that is not closed takes along all lines up to the next quote, or to the end of the file.
    """

    def __init__(self, lines: Iterator[str], delimiter: str) -> None:
        self._lines, self._delimiter = lines, delimiter
        self._again: deque[str] = deque()
        self._record: list[str] = []  # that is being read
        self.number = 1  # of its first line
        self.width = 0  # 0 until the columns are known
        self.audio: int | None = None  # the place of that column
        self.good: list[str] | None = None  # the last row that was well-formed

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self._record.append(line)
        if len(self._record) > 1 and self.width and self._is_row(line):
            raise csv.Error("the next row begins within it")
        return line

    def leave(self, lines: int | None = None) -> None:
        """Go on behind this record, or behind so many lines of it."""
        lines = len(self._record) if lines is None else lines
        self._again.extendleft(reversed(self._record[lines:]))
        self._record.clear()
        self.number += lines

    def _is_row(self, line: str) -> bool:
        """Whether a line within quotes looks like a row: as many cells, and a file of the same kind in its place."""
        cells = _cells_of(line, self._delimiter)
        if len(cells) != self.width or self.audio is None:
            return len(cells) == self.width
        usual = self.good or self._first_cells()
        return len(usual) > self.audio and _suffix(cells[self.audio]) == _suffix(usual[self.audio])

    def _first_cells(self) -> list[str]:
        """The cells in the first line of this record, where the quote that is open at its end is a character."""
        *closed, last = _cells_of(self._record[0], self._delimiter) or [""]
        return [*closed, *last.split(self._delimiter)]


def _cells_of(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter, skipinitialspace=delimiter == ","), [])


def _suffix(name: str) -> str:
    return os.path.splitext(name.strip())[1].lower()


def _csv_rows(lines: _CsvLines, delimiter: str, *, quoted: bool) -> Iterator[tuple[int, list[str] | Trouble]]:
    reader = csv.reader(
        lines,
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        skipinitialspace=delimiter == ",",
        strict=True,
    )
    while True:
        line = lines.number
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            lines.leave(1)
            yield line, ("malformed row", f"a quote in it is not closed or not doubled ({error})")
            continue
        if lines.width and len(values) > lines.width:
            lines.leave(1)
            needed = "needs quotes" if delimiter == "," else "cannot be"
            told = "," if delimiter == "," else "a tab in it"
            what = f"has {len(values)} fields in {lines.width} columns; text with {told} {needed}"
            yield line, ("malformed row", what)
            continue
        lines.leave()
        if len(values) == lines.width:
            lines.good = values
        if values:
            yield line, values


def _csv_block(rows: Iterator[tuple[int, list[str] | Trouble]], taken: dict[str, int], width: int, path: Path) -> Block:
    lines: list[int] = []
    cells: list[Sequence[str | None]] = []
    problems: list[Problem] = []
    for line, values in rows:
        if isinstance(values, tuple):
            problems.append(Problem(f"{path}:{line}", *values))
            continue
        lines.append(line)
        cells.append(values if len(values) == width else [*values, *[None] * (width - len(values))])
        if len(lines) == _BLOCK_ROWS:
            break
    columns = {field: text_column(_cells(cells, field, place)) for field, place in taken.items()}
    return _block(np.array(lines, dtype=np.int64), dict(columns), problems)


def _cells(rows: Sequence[Sequence[str | None]], field: str, place: int) -> list[str | None]:
    """A column; nothing stands in a cell without characters, but for that of the text: that is empty."""
    return [row[place] if field == "text" else row[place] or None for row in rows]


def _unquoted(column: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    quoted = pc.fill_null(pc.match_substring_regex(column, _QUOTED), False)
    written = column.filter(quoted).to_pylist()
    if not written:
        return column
    return pc.replace_with_mask(column, quoted, text_column([text[1:-1].replace('""', '"') for text in written]))


# ------------------------------------------------------------------------------------------------------- files


def _text_lines(path: Path) -> Iterator[str]:
    for block in _byte_blocks(path):
        yield from io.StringIO(block.decode("utf-8", "surrogatepass"), newline="")


def _byte_blocks(path: Path) -> Iterator[bytes]:
    """Whole lines, in UTF-8."""
    try:
        with path.open("rb") as file:
            mark = file.read(len(codecs.BOM_UTF8))
            if mark.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                yield from _blocks(io.BytesIO(read_text(path).encode("utf-8", "surrogatepass")), _BLOCK_BYTES)
                return
            file.seek(len(mark) if mark == codecs.BOM_UTF8 else 0)
            for block in _blocks(file, _BLOCK_BYTES):
                if not _is_text(block):
                    read_text(path)  # says where it is no text
                    raise DataError("was changed while it was read", where=str(path))
                yield block
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({error})", where=str(path)) from None


def _blocks(file: BinaryIO, size_bytes: int) -> Iterable[bytes]:
    return iter(lambda: file.read(size_bytes) + file.readline(), b"")


def _is_text(block: bytes) -> bool:
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in block


def _block(lines: NDArray[np.int64], columns: dict[str, pa.Array | None], problems: Sequence[Problem] = ()) -> Block:
    found = {field: column for field, column in columns.items() if column is not None}
    return Block(lines, tuple(found), tuple(found.values()), tuple(problems))
