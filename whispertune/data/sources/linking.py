"""How rows of a manifest hang together: recording by recording, what follows what, and where nobody knows.

table = linked_table(rows, end_s, heard, used, behind_unknown(rows, ~heard, used))      # a SegmentTable
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from whispertune.data.sources.rows import Trouble, link_columns
from whispertune.data.table import Files, SegmentTable

if TYPE_CHECKING:
    import pyarrow as pa

    from whispertune.data.sources.columns import Rows

_TIMED_TROUBLES = ("empty text", "unknown task", "malformed row", "given twice")  # of rows whose times hold


def placed(rows: Rows, troubles: Mapping[int, Trouble]) -> NDArray[np.bool_]:
    """Rows that were malformed and still say when something is spoken."""
    found = np.zeros(len(rows.lines), dtype=np.bool_)
    for row, (kind, _) in troubles.items():
        found[row] = kind in _TIMED_TROUBLES and rows.start_s[row] < rows.end_s[row] < math.inf
    return found


def behind_unknown(rows: Rows, unknown: NDArray[np.bool_], used: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Used rows right behind one of the same recording, or behind a line, that says nothing of when it is spoken."""
    behind = np.zeros(len(rows.lines), dtype=np.bool_)
    kept, lost = np.flatnonzero(used), np.flatnonzero(unknown)
    if len(kept) and len(lost):
        codes, count = rows.recordings.codes.astype(np.int64), len(rows.lines)
        keys = np.sort(codes[kept] * count + kept)  # by recording, then by line
        found = np.searchsorted(keys, codes[lost] * count + lost)
        following = keys[found[found < len(keys)]]
        same = following // count == codes[lost][found < len(keys)]
        behind[following[same] % count] = True
    prefix = f"{rows.raw.file}:"
    told = (problem.where.removeprefix(prefix) for problem in rows.raw.problems if problem.where.startswith(prefix))
    lines = np.array([int(line) for line in told if line.isdecimal()], dtype=np.int64)
    if len(kept) and len(lines):
        found = np.searchsorted(rows.lines[kept], lines)
        behind[kept[found[found < len(kept)]]] = True
    return behind


def linked_table(
    rows: Rows,
    end_s: NDArray[np.float64],
    heard: NDArray[np.bool_],
    used: NDArray[np.bool_],
    behind_unknown: NDArray[np.bool_],
) -> SegmentTable:
    """Recording by recording, by task and language, by time; rows that cannot be used break a chain too."""
    import pyarrow as pa

    order = np.flatnonzero(heard)
    codes = rows.recordings.codes[order]
    by_language = _ranks(rows.languages, order)
    chains = _ranks(rows.tasks, order) * len(rows.languages.dictionary) + by_language
    chains[rows.whole[order]] = -1  # of two rows that are a whole recording each, neither follows the other
    if not (np.diff(codes) > 0).all():
        by_time = np.lexsort((np.where(rows.whole[order], 0.0, rows.start_s[order]), chains, codes))
        order, codes, chains = order[by_time], codes[by_time], chains[by_time]
    start_s, continues, lead_s = rows.start_s[order], np.zeros(len(order), dtype=np.bool_), np.zeros(len(order))
    timed = chains >= 0
    links = link_columns(codes[timed], chains[timed], start_s[timed], end_s[order][timed], used[order][timed])
    start_s[timed], continues[timed], lead_s[timed] = links.start_s, links.continues, links.lead_s
    apart = behind_unknown[order]
    continues[apart], lead_s[apart] = False, 0.0
    kept = used[order]
    order = order[kept]
    unchanged = len(order) == len(rows.lines) and bool((np.diff(order) > 0).all())

    def taken(column: pa.Array) -> pa.Array:
        return column if unchanged else column.take(pa.array(order))

    files = pa.DictionaryArray.from_arrays(pa.array(codes[kept].astype(np.int32)), rows.recordings.paths)
    return SegmentTable(
        ids=taken(rows.ids),
        recordings=Files(files),
        start_s=start_s[kept],
        end_s=end_s[order],
        texts=taken(rows.texts),
        languages=taken(rows.languages),
        tasks=taken(rows.tasks),
        speakers=taken(rows.speakers),
        continues=continues[kept],
        lead_s=lead_s[kept],
    )


def _ranks(column: pa.DictionaryArray, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the value of each of some rows stands among the values of the column, sorted."""
    import pyarrow as pa

    by_name = np.argsort(np.array(column.dictionary.to_pylist(), dtype=object))
    ranks: NDArray[np.int64] = np.argsort(by_name).astype(np.int64)[np.asarray(column.indices.take(pa.array(rows)))]
    return ranks
