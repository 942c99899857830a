"""Cells of a manifest as Arrow columns: text made clean, times made numbers, a column with few values mapped.

    texts = cleaned(text_column(["  Caf\u0065\u0301 ", None]))      # ["Caf\u00e9", ""]
    start = time_column(["12.4", "", "soon"])                # seconds [12.4, nan, nan], wrong [no, no, yes]

Arrow's functions look for what is not as it should be, and only such cells are touched in Python.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from whispertune.data.captions import clean_text
from whispertune.data.table import strings

if TYPE_CHECKING:
    import pyarrow as pa

# White space other than single spaces between words, and what can be no text: `clean_text` would change it.
_UNCLEAN = r"^ | $|  |[\x00\t-\r\x1c-\x1f\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]"
_COMPOSABLE = r"[\x{300}-\x{10ffff}]"  # everything below stays as it is under NFC
_HALVES = re.compile("[\ud800-\udfff]")  # of surrogate pairs: Arrow's strings have none


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds, one a row."""

    seconds: NDArray[np.float64]  # nan where nothing is stated
    wrong: NDArray[np.bool_]  # stated, but no seconds


def text_column(values: Sequence[str | None] | pa.Array | pa.ChunkedArray) -> pa.Array:
    """Strings as one Arrow array."""
    import pyarrow as pa

    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.Array):
        return values.cast(pa.large_string())
    try:
        return strings(values)
    except UnicodeEncodeError:
        return strings([value and _HALVES.sub("\ufffd", value) for value in values])


def cleaned(texts: pa.Array) -> pa.Array:
    """Every text as `clean_text` leaves it, "" where there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pc.fill_null(texts, "")
    unclean = np.array(pc.match_substring_regex(texts, _UNCLEAN))
    composable = np.flatnonzero(pc.match_substring_regex(texts, _COMPOSABLE))
    some = texts.take(pa.array(composable))
    unclean[composable] |= np.asarray(pc.not_equal(pc.utf8_normalize(some, form="NFC"), some))
    if not unclean.any():
        return texts
    mask = pa.array(unclean)
    return pc.replace_with_mask(texts, mask, strings([clean_text(text) for text in texts.filter(mask).to_pylist()]))


def time_column(values: Sequence[float | str | None] | pa.Array | pa.ChunkedArray | None, rows: int) -> Times:
    """Seconds from numbers, or from text with numbers in it; empty text says nothing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if values is None:
        return Times(np.full(rows, np.nan), np.zeros(rows, dtype=np.bool_))
    column = _times_as_written(values)
    if not pa.types.is_floating(column.type):
        trimmed = pc.utf8_trim_whitespace(column)
        column = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, trimmed.type), trimmed)
        try:
            column = column.cast(pa.float64())
        except pa.ArrowInvalid:
            column = pa.array([None if text is None else _number(text) for text in column.to_pylist()], pa.float64())
    stated = np.asarray(column.is_valid())
    seconds = column.to_numpy(zero_copy_only=False)
    wrong = stated & ~((seconds >= 0) & (seconds < math.inf))
    return Times(np.where(wrong, np.nan, seconds), wrong)


def mapped(
    values: Sequence[str | None] | pa.Array | pa.ChunkedArray | None,
    rows: int,
    change: Callable[[str], str | None],
    otherwise: str | None,
) -> pa.DictionaryArray:
    """A column with few different values, each changed once; `otherwise` where there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if values is None:
        distinct, codes = [], np.zeros(rows, dtype=np.int64)
    else:
        coded = text_column(values).dictionary_encode()
        distinct = coded.dictionary.to_pylist()
        codes = np.asarray(pc.fill_null(coded.indices, len(distinct)))
    changed = strings([change(value) or otherwise for value in distinct] + [otherwise]).dictionary_encode()
    return pa.DictionaryArray.from_arrays(changed.indices.take(pa.array(codes)), changed.dictionary)


def _times_as_written(values: Any) -> pa.Array:
    """Floats, or strings where not all are numbers."""
    import pyarrow as pa

    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.Array):
        number = pa.types.is_floating(values.type) or pa.types.is_integer(values.type) or pa.types.is_null(values.type)
        return values.cast(pa.float64()) if number else values.cast(pa.large_string())
    try:
        return pa.array(values, type=pa.float64())
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return text_column([None if value is None else str(value) for value in values])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
