"""Supplies: an endless sequence of pieces from each source of a mix, by position.

supply = TableSupply("talks", table, limits, count_tokens, seed=0)
supply.size(0)               # pieces in the first pass over it
supply.draw(17)              # (Piece,); the same whenever it is asked for
StreamSupply("hub:...", shuffled, limits, count_tokens).draw(0)      # (Piece,) or a Problem
FixedSupply(supply, 256).draw(17) # the Pieces of a window that stays the same in every pass
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from whispertune.data.keyed import keyed_rng
from whispertune.data.segments import Problem, Segment
from whispertune.data.streams import ShuffledStream, stream_rows
from whispertune.data.table import SegmentTable
from whispertune.windows.pack import WINDOW_S, CountTokens, Cuts, Cutter, Limits, Piece, bins, place

Row = Segment | Problem
Drawn = tuple[Piece, ...]
Watch = Callable[[int, int], None]  # pieces done, of so many


class Supply(Protocol):
    """Pieces of one source, pass after pass: one a draw, or those of a window that stay together."""

    @property
    def name(self) -> str: ...

    @property
    def rows(self) -> int | None:
        """Segments in one pass; None where only reading tells."""

    def reach(self, passes: float) -> int:
        """The position at which so many passes are done."""

    def lengths(self, first: int, end: int) -> NDArray[np.int64]:
        """Segments in each of the draws at positions [first, end)."""

    def draws(self, position: int) -> bool:
        """Whether this rank draws what is at a position, or another one does."""

    def draw(self, position: int) -> Drawn | Problem:
        """What is at a position, from 0."""


@dataclass(frozen=True, slots=True)
class _Pass:
    """One pass over a table: its cuts, and the order in which they are drawn."""

    cuts: Cuts
    order: NDArray[np.int64]


class TableSupply:
    """Pieces of a table: each pass cuts it anew and draws all pieces in an order of its own."""

    def __init__(
        self,
        name: str,
        table: SegmentTable,
        limits: Limits,
        count_tokens: CountTokens,
        seed: int,
        *,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.name, self.table, self.limits, self.seed = name, table, limits, seed
        self.rank, self.ranks = rank, ranks
        self.cutter = Cutter(table, limits, count_tokens)
        self._starts = [0]  # the first position of each pass
        self._passes: dict[int, _Pass] = {}  # the last ones asked for

    @property
    def rows(self) -> int:
        return len(self.table)

    def size(self, pass_: int) -> int:
        """Pieces in a pass."""
        return len(self._pass(pass_).cuts)

    def reach(self, passes: float) -> int:
        whole, part = int(passes), passes - int(passes)
        return self._start(whole) + (round(part * self.size(whole)) if part else 0)

    def lengths(self, first: int, end: int) -> NDArray[np.int64]:
        found = [np.empty(0, dtype=np.int64)]
        while first < end:
            pass_ = self._pass_of(first)
            start = self._start(pass_)
            one = self._pass(pass_)
            drawn = one.order[first - start : end - start]
            found.append(one.cuts.lengths[drawn])
            first += len(drawn)
        return np.concatenate(found)

    def draws(self, position: int) -> bool:
        return position % self.ranks == self.rank

    def draw(self, position: int) -> Drawn | Problem:
        pass_ = self._pass_of(position)
        one = self._pass(pass_)
        piece = self.cutter.piece(one.cuts, int(one.order[position - self._start(pass_)]))
        return _checked(piece, self.limits)

    def _pass(self, pass_: int) -> _Pass:
        if pass_ not in self._passes:
            cuts = self.cutter.cut(keyed_rng(self.seed, "cut", self.name, pass_))
            order = keyed_rng(self.seed, "order", self.name, pass_).permutation(len(cuts))
            kept = sorted(self._passes)[-1:]  # a step may reach over the end of a pass
            self._passes = {each: self._passes[each] for each in kept} | {pass_: _Pass(cuts, order)}
        return self._passes[pass_]

    def _start(self, pass_: int) -> int:
        while len(self._starts) <= pass_:
            self._starts.append(self._starts[-1] + self.size(len(self._starts) - 1))
        return self._starts[pass_]

    def _pass_of(self, position: int) -> int:
        while self._starts[-1] <= position:
            self._start(len(self._starts))
        return bisect_right(self._starts, position) - 1


class FixedSupply:
    """Windows of a table, the same in every pass in another order: cut once, packed `block` pieces at a time."""

    def __init__(self, supply: TableSupply, block: int, packing: Watch | None = None) -> None:
        self.name, self.supply = supply.name, supply
        self._contents = list(_packed(supply, block, packing))
        segments = supply.lengths(0, supply.size(0))
        self._lengths = np.array([segments[content].sum() for content in self._contents], dtype=np.int64)
        self._orders: dict[int, NDArray[np.int64]] = {}  # of the passes asked for last

    @property
    def rows(self) -> int:
        return self.supply.rows

    def reach(self, passes: float) -> int:
        return round(passes * len(self._contents))

    def lengths(self, first: int, end: int) -> NDArray[np.int64]:
        size = len(self._contents)
        passes = range(first // size, -(-end // size)) if size else range(0)
        found = [np.empty(0, dtype=np.int64), *(self._lengths[self._order(pass_)] for pass_ in passes)]
        return np.concatenate(found)[first - passes.start * size :][: end - first]

    def draws(self, position: int) -> bool:
        return self.supply.draws(position)

    def draw(self, position: int) -> Drawn | Problem:
        pass_, at = divmod(position, len(self._contents))
        pieces: list[Piece] = []
        for each in self._contents[self._order(pass_)[at]]:
            drawn = self.supply.draw(each)
            if isinstance(drawn, Problem):
                return drawn
            pieces += drawn
        return place(pieces).pieces

    def _order(self, pass_: int) -> NDArray[np.int64]:
        if pass_ not in self._orders:
            order = keyed_rng(self.supply.seed, "windows", self.name, pass_).permutation(len(self._contents))
            kept = list(self._orders)[-1:]  # a step may reach over the end of a pass
            self._orders = {each: self._orders[each] for each in kept} | {pass_: order}
        return self._orders[pass_]


def _packed(supply: TableSupply, block: int, packing: Watch | None) -> Iterator[list[int]]:
    """Positions in the first pass that share a window; one that no window can hold stands alone."""
    for first in range(0, supply.size(0), block):
        positions: list[int] = []
        pieces: list[Piece] = []
        for position in range(first, min(first + block, supply.size(0))):
            drawn = supply.draw(position)
            if isinstance(drawn, Problem):
                yield [position]
                continue
            positions.append(position)
            pieces += drawn
        rng = keyed_rng(supply.seed, "join", supply.name, first)
        yield from ([positions[index] for index in content] for content in bins(pieces, supply.limits, rng))
        if packing is not None:
            packing(min(first + block, supply.size(0)), supply.size(0))


class StreamSupply:
    """Pieces of a stream: a row each. `judge` says of each row whether it can be used, and how its text is written."""

    def __init__(
        self,
        name: str,
        shuffled: ShuffledStream,
        limits: Limits,
        count_tokens: CountTokens,
        judge: Callable[[Row], Row] = lambda row: row,
    ) -> None:
        self.name, self.shuffled, self.limits = name, shuffled, limits
        self.count_tokens, self.judge = count_tokens, judge

    @property
    def rows(self) -> int | None:
        return stream_rows(self.shuffled.stream)

    def reach(self, passes: float) -> int:
        return round(passes * (self.rows or 0))

    def lengths(self, first: int, end: int) -> NDArray[np.int64]:
        return np.ones(end - first, dtype=np.int64)

    def draws(self, position: int) -> bool:
        return self.shuffled.mine(position)

    def draw(self, position: int) -> Drawn | Problem:
        judged = self.judge(self.shuffled.at(position))
        if isinstance(judged, Problem):
            return judged
        tokens = int(self.count_tokens([judged])[0]) + 2
        piece = Piece(judged.recording, judged.start_s, judged.end_s, (judged,), tokens)
        return _checked(piece, self.limits)


def _checked(piece: Piece, limits: Limits) -> Drawn | Problem:
    """The piece, or what is wrong with a single segment that no window can hold."""
    if piece.duration_s > WINDOW_S + 1e-3:
        detail = f"lasts {piece.duration_s:.2f} s"
        return Problem(piece.segments[0].id, "longer than 30 s", detail, piece.duration_s)
    if piece.tokens + 1 > limits.max_tokens:
        return too_many_tokens(piece.segments[0], piece.tokens - 2, limits)
    return (piece,)


def too_many_tokens(segment: Segment, tokens: int, limits: Limits) -> Problem:
    """Why a text does not go into a window."""
    detail = f"{tokens} tokens, a window takes {limits.max_tokens} with its timestamps and end"
    return Problem(segment.id, "too many tokens", detail, segment.duration_s)


def known_rows(supplies: Sequence[Supply]) -> bool:
    """Whether the length of every source is known."""
    return all(supply.rows is not None for supply in supplies)
