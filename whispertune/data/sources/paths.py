"""The recordings that the rows of a manifest name: where each is, and why it may not be used.

    found = find_recordings(names, root=Path("corpus"), outside=False)
    found.paths[found.codes[17]]      # the path of row 17
    found.outside[found.codes[17]]    # whether that leads out of the root
    files_below(Path("talks"))        # each folder below with the names of its files

Containment is a matter of what is written: relative paths without `..`, and absolute ones that are below the root.
Links are followed wherever they lead, because people link recordings into a folder on purpose.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
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
    top = os.path.join(os.path.abspath(root), "")
    inside = pc.starts_with(distinct, top)
    absolute = pc.and_not(pc.starts_with(distinct, "/"), inside)
    prefix, nothing = (pa.scalar(text, distinct.type) for text in (str(root / "x")[:-1], ""))
    relative = pc.if_else(inside, pc.utf8_slice_codeunits(distinct, len(top)), distinct)
    paths = pc.if_else(absolute, distinct, pc.binary_join_element_wise(prefix, relative, nothing))
    leads_out = np.asarray(absolute) & (not outside)
    odd = np.flatnonzero(pc.match_substring_regex(distinct, _ODD))
    if len(odd):
        meant = [_below(distinct[int(place)].as_py(), root, top) for place in odd]
        leads_out[odd] = [not outside and path is None for path in meant]
        names_of = zip(odd, meant, strict=True)
        full = [str(root / distinct[int(place)].as_py()) if path is None else path for place, path in names_of]
        paths = pc.replace_with_mask(paths, _mask(odd, len(paths)), strings(full))
    if len(odd) or pc.any(inside).as_py():
        same = paths.dictionary_encode()  # a.wav and ./a.wav are one recording, and /corpus/a.wav is too
        to_first = np.asarray(same.indices)
        first = np.unique(to_first, return_index=True)[1]
        codes = to_first[codes].astype(np.int64)
        distinct, paths, leads_out = distinct.take(pa.array(first)), same.dictionary, leads_out[first]
    unnamed = np.asarray(pc.equal(pc.utf8_trim_whitespace(distinct), ""))
    return Recordings(distinct, paths, codes, unnamed, np.asarray(pc.match_substring(distinct, "://")), leads_out)


def files_below(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each folder with the names of its files, by name, this folder first.

    Links to folders are followed, and no folder is entered twice: one that lies below comes under its own path.
    """
    top = os.path.realpath(folder)
    entered = {top}
    for path, subfolders, names in os.walk(folder, followlinks=True):
        subfolders[:] = [name for name in sorted(subfolders) if _is_new(os.path.join(path, name), top, entered)]
        yield Path(path), sorted(names)


def _is_new(folder: str, top: str, entered: set[str]) -> bool:
    """Whether to go into a folder; it then counts as entered."""
    real = os.path.realpath(folder)
    if real in entered or (os.path.islink(folder) and real.startswith(os.path.join(top, ""))):
        return False
    entered.add(real)
    return True


def missing_files(paths: pa.Array) -> NDArray[np.bool_]:
    """Where there is no such file."""
    missing = np.ones(len(paths), dtype=np.bool_)
    if len(paths) > MANY_FILES:
        missing &= ~_listed(paths)
    for place in np.flatnonzero(missing):  # a listing may spell a name otherwise than the file system accepts it
        missing[place] = not os.path.isfile(paths[int(place)].as_py())
    return missing


def _below(name: str, root: Path, top: str) -> str | None:
    """The path that is meant, where that is below the root; no relative path with `..` is."""
    if not name.startswith("/") and ".." in name.split("/"):
        return None
    meant = os.path.normpath(os.path.join(top, name))
    return str(root / meant[len(top) :]) if os.path.join(meant, "").startswith(top) else None


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
