"""The recordings that the rows of a manifest name: where each is, and why it may not be used.

    found = find_recordings(names, root=Path("corpus"), outside=False)
    found.paths[found.codes[17]]      # the path of row 17
    found.outside[found.codes[17]]    # whether that leads out of the root

Containment is a matter of what is written: no `..` and no absolute path. Links are followed wherever they lead,
because people link recordings into a folder on purpose.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from whispertune.data.table import strings

if TYPE_CHECKING:
    import pyarrow as pa

MANY_FILES = 20_000  # from here on folders are listed instead of asking for each file
_LISTED_NAMES = 65_536  # at a time
# What PurePath may write in another way, or read as a drive or as a way out.
_ODD = r"(^|/)\.{1,2}(/|$)|//|/$|[\\:]"


@dataclass(frozen=True, slots=True)
class Recordings:
    """Every different recording of a manifest, in the order of first mention; masks are over these."""

    names: pa.Array  # as written
    paths: pa.Array
    codes: NDArray[np.int64]  # (rows,): which of them a row names
    unnamed: NDArray[np.bool_]
    urls: NDArray[np.bool_]
    outside: NDArray[np.bool_]  # of the root, where that is not allowed


def find_recordings(names: pa.Array, root: Path, *, outside: bool) -> Recordings:
    """What each row names; nothing on the disk is looked at."""
    import pyarrow as pa
    import pyarrow.compute as pc

    coded = pc.fill_null(names, "").dictionary_encode()
    distinct, codes = coded.dictionary, np.asarray(coded.indices).astype(np.int64)
    absolute = pc.starts_with(distinct, "/")
    prefix, nothing = (pa.scalar(text, distinct.type) for text in (str(root / "x")[:-1], ""))
    below = pc.binary_join_element_wise(prefix, distinct, nothing)
    paths = pc.if_else(absolute, distinct, below)
    leads_out = np.asarray(absolute) & (not outside)
    odd = np.flatnonzero(pc.match_substring_regex(distinct, _ODD))
    if len(odd):
        written = [distinct[int(place)].as_py() for place in odd]
        leads_out[odd] = [not outside and _leads_out(name) for name in written]
        paths = pc.replace_with_mask(paths, _mask(odd, len(paths)), strings([str(root / name) for name in written]))
        same = paths.dictionary_encode()  # a.wav and ./a.wav are one recording
        to_first = np.asarray(same.indices)
        first = np.unique(to_first, return_index=True)[1]
        codes = to_first[codes].astype(np.int64)
        distinct, paths, leads_out = distinct.take(pa.array(first)), same.dictionary, leads_out[first]
    unnamed = np.asarray(pc.equal(pc.utf8_trim_whitespace(distinct), ""))
    return Recordings(distinct, paths, codes, unnamed, np.asarray(pc.match_substring(distinct, "://")), leads_out)


def missing_files(paths: pa.Array) -> NDArray[np.bool_]:
    """Where there is no such file."""
    missing = np.ones(len(paths), dtype=np.bool_)
    if len(paths) > MANY_FILES:
        missing &= ~_listed(paths)
    for place in np.flatnonzero(missing):  # a listing may spell a name otherwise than the file system accepts it
        missing[place] = not os.path.isfile(paths[int(place)].as_py())
    return missing


def _leads_out(name: str) -> bool:
    path = PurePath(name)
    return path.is_absolute() or bool(path.drive) or ".." in path.parts


def _mask(places: NDArray[np.int64], length: int) -> pa.Array:
    import pyarrow as pa

    mask = np.zeros(length, dtype=np.bool_)
    mask[places] = True
    return pa.array(mask)


def _listed(paths: pa.Array) -> NDArray[np.bool_]:
    """Which of the paths the listings of their folders hold: one look at a folder for all files in it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    folders = pc.replace_substring_regex(paths, r"[^/]*$", "").unique().to_pylist()
    there = [names for folder in folders for names in _names_in(folder)]
    return np.asarray(pc.is_in(paths, value_set=pa.chunked_array(there, type=paths.type)))


def _names_in(folder: str) -> Iterator[pa.Array]:
    try:
        with os.scandir(folder or ".") as entries:
            while names := [_path_of(folder, entry) for entry in islice(entries, _LISTED_NAMES)]:
                yield strings(names)
    except OSError:
        return  # each file is then looked for by itself


def _path_of(folder: str, entry: os.DirEntry[str]) -> str | None:
    encodable = entry.name.isascii() or entry.name.encode("utf-8", "ignore").decode() == entry.name
    return folder + entry.name if encodable and entry.is_file() else None
