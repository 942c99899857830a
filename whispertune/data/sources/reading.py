"""What the corpus sources share: lines of text files and of .gz files, rows of JSON lines, and paths in them.

for number, line in text_lines(Path("cuts.jsonl.gz")): ...     # (1, '{"id": ...}'), stops where it swells too much
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from whispertune.data.segments import Problem, SourceSpec
from whispertune.errors import DataError

LONGEST_LINE_BYTES = 64 * 1024 * 1024
SWELL = 200  # manifests unpack to 5 to 50 times their size, zip bombs to a thousand times
SWELL_FREE_BYTES = 64 * 1024 * 1024  # what any file may unpack to

Line = tuple[int, str]  # its number, from 1, and its text without the end of line


def text_lines(path: Path) -> Iterator[Line]:
    r"""The lines of a UTF-8 file, packed where its name ends in .gz; they end at \n or \r\n and nowhere else."""
    try:
        with _opened(path) as file:
            yield from _lines(file, path)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot be read ({error})", where=str(path), fix="copy or unpack it again") from None


def json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | Problem]]:
    """The object on each line that is not empty; a Problem where a line is no JSON object."""
    for number, line in text_lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, Problem(f"{path}:{number}", "malformed row", f"is not JSON ({error})")
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            yield number, Problem(f"{path}:{number}", "malformed row", "is no JSON object")


def check_columns(spec: SourceSpec, *known: str) -> None:
    """A DataError where the recipe names columns for fields that this kind of source always knows."""
    unknown = sorted(name for name, _ in spec.columns if name not in known)
    if unknown:
        what = f"columns names {', '.join(unknown)}, which this kind of source fixes itself"
        fix = f"leave in columns: {', '.join(known)}" if known else "leave columns out"
        raise DataError(what, where=spec.origin or spec.location, fix=fix)


def found_path(written: str, folder: Path, outside: bool) -> str:
    """A path as it is meant: below `folder`; else, with `outside`, from where this program was started.

    The second is how Kaldi and Lhotse read their own relative paths.
    """
    if outside and not os.path.exists(folder / written) and os.path.exists(written):
        return os.path.abspath(written)
    return written


def check_any_found(file: Path, paths: Iterator[str]) -> None:
    """A DataError where no relative path leads anywhere, which a wrong root explains better than many rows."""
    first = None
    for path in paths:
        if os.path.isabs(path) or os.path.exists(file.parent / path):
            return
        first = first or path
    if first is not None:
        fix = (
            "make the paths relative to that folder; or set outside = true and start in the folder they are meant from"
        )
        raise DataError(f"none of its paths leads anywhere from its folder, e.g. {first!r}", where=str(file), fix=fix)


def _opened(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")


def _lines(file: IO[bytes], path: Path) -> Iterator[Line]:
    packed = path.suffix.lower() == ".gz"
    left = SWELL_FREE_BYTES + SWELL * path.stat().st_size
    number = 0
    while raw := file.readline(LONGEST_LINE_BYTES + 1):
        number += 1
        left -= len(raw)
        if packed and left < 0:
            fix = "unpack it yourself and look at it"
            raise DataError(f"unpacks to more than {SWELL} times its size", where=str(path), fix=fix)
        if len(raw) > LONGEST_LINE_BYTES:
            megabytes = LONGEST_LINE_BYTES // 1024**2
            raise DataError(f"the line is longer than {megabytes} MB", where=f"{path}:{number}")
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            fix = "save it as UTF-8"
            raise DataError(f"is not UTF-8 ({error.reason})", where=f"{path}:{number}", fix=fix) from None
        yield number, line.removesuffix("\n").removesuffix("\r")
