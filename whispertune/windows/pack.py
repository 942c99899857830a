"""Packing: Segments into 30 s Windows, with no text lost and none twice.

    stretches = cut(segments, limits, count_tokens, rng)   # neighbouring cues with the audio between them
    windows = join(stretches, limits, rng)                 # loose stretches side by side, up to 30 s

    cutter = Cutter(table, limits, count_tokens)           # the same for millions, a stretch when it is asked for
    cuts = cutter.cut(rng)
    stretch = cutter.piece(cuts, 17)

Cues that follow each other in a recording stay together. Where the next cue would pass the end of the
window, it is announced by its start (`cut`) and written in the window that begins with it. Everything here
is a pure function of its arguments.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from whispertune.data.segments import Recording, Segment
from whispertune.data.table import SegmentTable, as_table
from whispertune.errors import DataError

WINDOW_S = 30.0
GRID_S = 0.02  # timestamps are multiples of this
WINDOW_STEPS = round(WINDOW_S / GRID_S)
SLACK_S = 1e-6  # times are sums of floats
MAX_PREVIOUS_CUES = 40  # more never fit into the 222 tokens of a prompt

UNCOUNTED = -1

CountTokens = Callable[[Sequence[Segment]], NDArray[np.int32]]  # of each text; a table is a sequence too


@dataclass(frozen=True, slots=True)
class Limits:
    """What a window may hold."""

    max_tokens: int = 220  # after the prefix: timestamps, text and the end; decoders stop near there
    max_gap_s: float = 5.0  # a longer pause between two cues ends a stretch
    max_lead_s: float = 1.0  # a window starts at most this long before its first cue


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of one recording with its cues, and where it stands in the window.

    `cut` is the cue that begins inside the stretch and ends after it: heard in part, not written here.
    `previous` holds the texts right before the first cue, oldest first. Times are those of the recording;
    with a `speed` other than 1 all of it lasts that much shorter in the window.
    """

    recording: Recording
    start_s: float  # in the recording
    end_s: float  # in the recording
    segments: tuple[Segment, ...]
    tokens: int  # what its labels take, with timestamps
    cut: Segment | None = None
    previous: tuple[str, ...] = ()
    offset_s: float = 0.0  # in the window, on the 20 ms grid
    speed: float = 1.0

    @property
    def duration_s(self) -> float:
        """In the window."""
        return (self.end_s - self.start_s) / self.speed

    @property
    def written_end_s(self) -> float:
        """Where the last cue that is written ends, in the recording."""
        return self.segments[-1].end_s

    def heard_end_s(self, *, timestamps: bool) -> float:
        """Where its audio ends, in the recording: nothing may be heard that is neither written nor announced."""
        return self.end_s if timestamps else self.written_end_s

    def at_s(self, time_s: float) -> float:
        """Where a moment of the recording stands in the window."""
        return (time_s - self.start_s) / self.speed + self.offset_s

    @property
    def grid_steps(self) -> int:
        """Its length in steps of 20 ms, rounded up."""
        return math.ceil((self.duration_s - SLACK_S) / GRID_S)


@dataclass(frozen=True, slots=True)
class Window:
    """At most 30 s: one stretch of a recording, or several stretches one after the other."""

    pieces: tuple[Piece, ...]

    @property
    def segments(self) -> tuple[Segment, ...]:
        return tuple(segment for piece in self.pieces for segment in piece.segments)

    @property
    def language(self) -> str:
        return self.pieces[0].segments[0].language

    @property
    def task(self) -> str:
        return self.pieces[0].segments[0].task

    @property
    def written_in(self) -> str:
        return self.pieces[0].segments[0].written_in

    @property
    def duration_s(self) -> float:
        """Seconds of audio in it, padding apart."""
        return sum(piece.duration_s for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Cuts:
    """The stretches of one pass over a table, an entry each: which rows, from when on, and how it ends."""

    first: NDArray[np.int64]
    end: NDArray[np.int64]  # the row after the last one that is written
    start_s: NDArray[np.float64]  # in the recording
    straddled: NDArray[np.bool_]  # row `end` begins inside the stretch and ends after it

    def __len__(self) -> int:
        return len(self.first)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Segments written in each."""
        return self.end - self.first


class Cutter:
    """Cuts a table of segments, in recording order, into stretches of at most 30 s and `max_tokens`.

    Runs of segments that follow each other in one recording, in one language and task, are chains. Tokens are
    counted where cuts depend on them, in chains of several segments; elsewhere when a piece is asked for.
    """

    def __init__(self, table: SegmentTable, limits: Limits, count_tokens: CountTokens) -> None:
        self.table, self.limits, self.count_tokens = table, limits, count_tokens
        self.chains = np.append(np.flatnonzero(_begins(table, limits)), len(table))  # where each begins, and the end
        self.tokens = np.full(len(table), UNCOUNTED, dtype=np.int32)
        sizes = np.diff(self.chains)
        self._long = np.flatnonzero(sizes > 1)
        in_chains = np.repeat(sizes > 1, sizes)
        if in_chains.any():
            self.tokens[in_chains] = count_tokens(table.take(np.flatnonzero(in_chains)))

    def cut(self, rng: np.random.Generator) -> Cuts:
        """One pass: where a window may begin before its first cue, `rng` says by how much."""
        table, limits = self.table, self.limits
        room = np.clip(WINDOW_S - table.durations_s, 0.0, None)
        lead = np.minimum(np.minimum(table.lead_s, limits.max_lead_s), room) * rng.random(len(table))
        start_s = np.maximum(0.0, table.start_s - lead)
        if not len(self._long):
            rows = np.arange(len(table))
            return Cuts(rows, rows + 1, start_s, np.zeros(len(table), dtype=np.bool_))
        loose = self.chains[:-1][np.diff(self.chains) == 1]
        found = [cut for chain in self._long for cut in self._cut_chain(int(chain), start_s)]
        first = np.concatenate([loose, np.array([each[0] for each in found], dtype=np.int64)])
        end = np.concatenate([loose + 1, np.array([each[1] for each in found], dtype=np.int64)])
        straddled = np.concatenate([np.zeros(len(loose), bool), np.array([each[2] for each in found], dtype=bool)])
        order = np.argsort(first)
        return Cuts(first[order], end[order], start_s[first[order]], straddled[order])

    def piece(self, cuts: Cuts, index: int) -> Piece:
        """One stretch of a pass."""
        first, end, start_s = int(cuts.first[index]), int(cuts.end[index]), float(cuts.start_s[index])
        whole = tuple(self.table[row] for row in range(first, end))
        straddler = self.table[end] if cuts.straddled[index] else None
        if self.tokens[first] == UNCOUNTED:
            self.tokens[first:end] = self.count_tokens(whole)
        chain = self.chains[np.searchsorted(self.chains, first, side="right") - 1]
        before = range(max(int(chain), first - MAX_PREVIOUS_CUES), first)
        return Piece(
            recording=whole[0].recording,
            start_s=start_s,
            end_s=start_s + WINDOW_S if straddler else whole[-1].end_s,
            segments=whole,
            tokens=int(self.tokens[first:end].sum()) + 2 * len(whole) + (1 if straddler else 0),
            cut=straddler,
            previous=tuple(self.table.texts[row].as_py() for row in before),
        )

    def _cut_chain(self, chain: int, start_s: NDArray[np.float64]) -> Iterator[tuple[int, int, bool]]:
        first, last = int(self.chains[chain]), int(self.chains[chain + 1])
        origin = first
        begins, ends = self.table.start_s[first:last].tolist(), self.table.end_s[first:last].tolist()
        spent = [0, *np.cumsum(self.tokens[first:last] + 2).tolist()]  # tokens up to each cue, with its times
        while first < last:
            at, until_s = first - origin, float(start_s[first]) + WINDOW_S
            by_time = bisect_right(ends, until_s + SLACK_S, at)
            by_tokens = bisect_right(spent, spent[at] + self.limits.max_tokens - 1, at) - 1  # one for the end of text
            end = max(at + 1, min(by_time, by_tokens))
            room = end < len(begins) and spent[end] - spent[at] + 2 <= self.limits.max_tokens
            straddled = room and begins[end] <= until_s - GRID_S and ends[end] > until_s + SLACK_S
            yield first, origin + end, straddled
            first = origin + end


def _begins(table: SegmentTable, limits: Limits) -> NDArray[np.bool_]:
    """Which rows begin a chain."""
    begins = ~table.continues
    begins[:1] = True
    begins[1:] |= table.start_s[1:] - table.end_s[:-1] > limits.max_gap_s
    for column in (table.languages, table.tasks):
        codes = column.indices.to_numpy()
        begins[1:] |= codes[1:] != codes[:-1]
    return begins


def cut(
    segments: Iterable[Segment], limits: Limits, count_tokens: CountTokens, rng: np.random.Generator
) -> list[Piece]:
    """Cut segments, in recording order, into stretches of at most 30 s and `max_tokens`, all at once.

    Raises:
        DataError: a single segment is longer than 30 s or than `max_tokens` (sources and `fits` sort these out).
    """
    table = as_table(segments)
    for row in np.flatnonzero(~fits(table, limits, count_tokens)):
        raise DataError("too long for one window", where=table[int(row)].id, fix="split it into shorter cues")
    cutter = Cutter(table, limits, count_tokens)
    cuts = cutter.cut(rng)
    return [cutter.piece(cuts, index) for index in range(len(cuts))]


def fits(table: SegmentTable, limits: Limits, count_tokens: CountTokens) -> NDArray[np.bool_]:
    """Which segments can stand in a window alone. Only texts of so many bytes that it is in doubt are counted."""
    import pyarrow.compute as pc

    short = table.durations_s <= WINDOW_S + SLACK_S
    bytes_ = pc.binary_length(table.texts).to_numpy()  # a token is one byte at least, the leading space apart
    doubtful = np.flatnonzero(bytes_ + 1 + 3 > limits.max_tokens)
    if len(doubtful):
        short[doubtful] &= count_tokens(table.take(doubtful)) + 3 <= limits.max_tokens
    return short


def play_at(piece: Piece, speed: float) -> Piece:
    """The piece faster or slower, never longer than a window: slow ones are slowed down as far as that allows.

    What is announced only at the end of the window is left out: at another speed it would not stand there.
    """
    if speed == 1:
        return piece
    if piece.cut is not None:
        piece = replace(piece, cut=None, end_s=piece.written_end_s, tokens=piece.tokens - 1)
    return replace(piece, speed=max(speed, (piece.end_s - piece.start_s) / WINDOW_S))


def singles(piece: Piece) -> list[Piece]:
    """Each of its cues as a piece of its own, from its start to its end, as a clip of it is decoded."""
    texts = (*piece.previous, *(segment.text for segment in piece.segments))
    return [
        Piece(
            recording=piece.recording,
            start_s=segment.start_s,
            end_s=segment.end_s,
            segments=(segment,),
            tokens=piece.tokens,  # at most: nothing more will be packed with it
            previous=texts[: len(piece.previous) + number][-MAX_PREVIOUS_CUES:],
            speed=piece.speed,
        )
        for number, segment in enumerate(piece.segments)
    ]


def join(pieces: Sequence[Piece], limits: Limits, rng: np.random.Generator) -> list[Window]:
    """Put the pieces into windows, in random order within each, as `bins` says."""
    return [place([pieces[index] for index in content]) for content in bins(pieces, limits, rng)]


def bins(pieces: Sequence[Piece], limits: Limits, rng: np.random.Generator) -> list[list[int]]:
    """Which pieces share a window, in which order: as few windows as first-fit decreasing finds.

    Only pieces of one language and task share a window. First-fit decreasing needs at most 11/9 of the
    fewest windows possible, plus one (Johnson 1973).
    """
    sizes = [(piece.grid_steps, piece.tokens, (piece.segments[0].language, piece.segments[0].task)) for piece in pieces]
    order = sorted(rng.permutation(len(pieces)).tolist(), key=lambda index: -sizes[index][0])
    found: list[list[int]] = []
    left: list[tuple[int, int, tuple[str, str]]] = []  # of each bin: steps, tokens, and for whom
    for index in order:
        steps, tokens, kind = sizes[index]
        for number, (free_steps, free_tokens, taken_by) in enumerate(left):
            if steps <= free_steps and tokens <= free_tokens and kind == taken_by:
                found[number].append(index)
                left[number] = (free_steps - steps, free_tokens - tokens, kind)
                break
        else:
            found.append([index])
            left.append((WINDOW_STEPS - steps, limits.max_tokens - 1 - tokens, kind))  # one for the end of text
    return [[content[at] for at in rng.permutation(len(content))] for content in found]


def place(content: Sequence[Piece]) -> Window:
    """A window of these pieces, one after the other."""
    steps, placed = 0, []
    for piece in content:
        placed.append(replace(piece, offset_s=steps * GRID_S))
        steps += piece.grid_steps
    return Window(tuple(placed))
