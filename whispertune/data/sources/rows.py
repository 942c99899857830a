"""What all sources share: whether a stretch of a recording can be used, and how stretches follow each other.

trouble = time_trouble(start_s=12.4, end_s=50.0, duration_s=61.2)   # ("longer than 30 s", "lasts 37.60 s")
segments = linked([Spoken(0.5, 2.0, first), Spoken(2.0, 3.0), Spoken(3.5, 5.0, third)])
links = link_columns(recordings, chains, start_s, end_s, used)      # the same for a million rows at once
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from whispertune.data.segments import Segment, SourceSpec
from whispertune.errors import DataError
from whispertune.languages import code_of

LONGEST_S = 30.0  # what fits into a window
END_TOLERANCE_S = 0.2  # captions often end a little after the recording
OVERLAP_TOLERANCE_S = 0.02  # one step of Whisper's time grid
ROUNDING_S = 1e-6  # of times as floats

Trouble = tuple[str, str]  # the kind and the detail of a Problem


@dataclass(frozen=True, slots=True)
class Spoken:
    """Something said in a recording: with its segment where it can be used, without where it cannot.

    `placed` is false where nobody knows when it is said.
    """

    start_s: float
    end_s: float
    segment: Segment | None = None
    placed: bool = True


def time_trouble(start_s: float, end_s: float, duration_s: float) -> Trouble | None:
    """Why this stretch cannot be used; None where it can."""
    if start_s >= duration_s:
        return "past the end", f"starts at {start_s:.2f} s in a recording of {duration_s:.2f} s"
    if end_s <= start_s:
        return "no length", f"from {start_s:.3f} s to {end_s:.3f} s"
    if end_s > duration_s + END_TOLERANCE_S:
        return "past the end", f"ends at {end_s:.2f} s in a recording of {duration_s:.2f} s"
    length_s = min(end_s, duration_s) - start_s
    if length_s > LONGEST_S + ROUNDING_S:
        return "longer than 30 s", f"lasts {length_s:.2f} s"
    return None


def linked(spoken: Sequence[Spoken]) -> list[Segment]:
    """The segments of one recording with `continues` and `lead_s` set, in the order given.

    Those of one task and language make a chain, each later than the one before. A row given twice, transcribed
    and translated, is two chains side by side.
    """
    heard = sorted((one.start_s, one.end_s) for one in spoken if one.placed)
    starts = [start_s for start_s, _ in heard]
    silent_from = list(accumulate((end_s for _, end_s in heard), max))
    last: dict[tuple[str, str], Segment] = {}  # of each chain
    segments: list[Segment] = []
    broken: set[tuple[str, str]] = set()
    unplaced = False
    for one in spoken:
        if one.segment is None:
            broken |= set(last)
            unplaced |= not one.placed
            continue
        earlier = bisect_left(starts, one.start_s)
        quiet_s = silent_from[earlier - 1] if earlier else 0.0
        chain = (one.segment.task, one.segment.language)
        segment = _behind(one.segment, last.get(chain))
        follows = chain in last and chain not in broken and quiet_s <= last[chain].end_s <= segment.start_s
        lead_s = 0.0 if unplaced else max(0.0, segment.start_s - quiet_s)
        last[chain] = replace(segment, continues=follows, lead_s=lead_s)
        segments.append(last[chain])
        broken.discard(chain)
        unplaced = False
    return segments


def _behind(segment: Segment, last: Segment | None) -> Segment:
    """The segment, started where the last one ends if it overlaps that by no more than times are rounded."""
    if last is None or not 0 < last.end_s - segment.start_s <= OVERLAP_TOLERANCE_S + ROUNDING_S:
        return segment
    return replace(segment, start_s=last.end_s) if last.end_s < segment.end_s else segment


@dataclass(frozen=True, slots=True)
class Links:
    """How rows follow each other, row by row: what `linked` sets in segments."""

    start_s: NDArray[np.float64]
    continues: NDArray[np.bool_]
    lead_s: NDArray[np.float64]


def link_columns(
    recordings: NDArray[np.int64],
    chains: NDArray[np.int64],
    start_s: NDArray[np.float64],
    end_s: NDArray[np.float64],
    used: NDArray[np.bool_],
) -> Links:
    """`linked` for the rows of many recordings at once, used or not.

    They stand recording by recording, in each by chain (a number for a task and language), in that by start.
    """
    quiet_s = _quiet_before(recordings, start_s, end_s)
    links = Links(start_s.copy(), np.zeros(len(start_s), dtype=np.bool_), np.zeros(len(start_s)))
    rows = np.flatnonzero(used)
    if not len(rows):
        return links
    before = np.concatenate([rows[:1], rows[:-1]])  # the used row before each; the first has none
    same = (recordings[rows] == recordings[before]) & (chains[rows] == chains[before]) & (rows != before)
    last_end_s = end_s[before]
    overlap_s = last_end_s - start_s[rows]
    rounded = same & (overlap_s > 0) & (overlap_s <= OVERLAP_TOLERANCE_S + ROUNDING_S) & (last_end_s < end_s[rows])
    links.start_s[rows] = starts_s = np.where(rounded, last_end_s, start_s[rows])
    unbroken = same & (rows - before == 1)
    links.continues[rows] = unbroken & (quiet_s[rows] <= last_end_s) & (last_end_s <= starts_s)
    links.lead_s[rows] = np.maximum(0.0, starts_s - quiet_s[rows])
    return links


def _quiet_before(
    recordings: NDArray[np.int64], start_s: NDArray[np.float64], end_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """When the last of what starts earlier in the recording is over, for each row; 0 where nothing starts earlier."""
    order = np.lexsort((start_s, recordings))
    by_start, starts_s = recordings[order], start_s[order]
    places = np.arange(len(order))
    new_recording = np.concatenate([[True], by_start[1:] != by_start[:-1]])[: len(order)]
    new_start = new_recording | np.concatenate([[True], starts_s[1:] != starts_s[:-1]])[: len(order)]
    group = np.cumsum(new_recording)
    # The latest end so far in each recording: ends as ranks, and all of a later recording above all before.
    ends_s, ranks = np.unique(end_s[order], return_inverse=True)
    latest_s = ends_s[np.maximum.accumulate(group * len(ends_s) + ranks) - group * len(ends_s)]
    first = np.maximum.accumulate(np.where(new_recording, places, 0))
    earlier = np.maximum.accumulate(np.where(new_start, places, 0))  # rows before this one start before it
    quiet_s = np.zeros(len(order))
    quiet_s[order] = np.where(earlier > first, latest_s[earlier - 1], 0.0)
    return quiet_s


def language_of(own: str | None, spec: SourceSpec, where: str) -> str:
    """The language of a row: its own, else that of the source; as Whisper's code where it has one."""
    language = own or spec.language
    if not language:
        place = spec.origin or "the source"
        fix = f'set language = "sv" (or whichever it is) in {place}, or --language, or give each row its own'
        raise DataError("nothing says which language this is", where=where, fix=fix)
    return code_of(language) or language
