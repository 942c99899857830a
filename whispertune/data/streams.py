"""Streams: segments that come one after the other, shard by shard, too many to keep or to fetch first.

    class Rows:                                    # what a source gives for `streaming = true`
        name = "hub:google/fleurs:sv_se:train"
        shard_rows = (1200, 1187)                  # None where only reading tells
        def open(self, shard, skip=0): ...         # Segments and Problems of one shard

    shuffled = ShuffledStream(Rows(), seed=0)      # endless: pass after pass
    shuffled.at(0), shuffled.at(1)                 # a Segment or a Problem; a fresh one asked for 1 gives the same

Shards come in random order, rows in random order within blocks; both are keyed by seed and pass, so that a resumed
run gets the same rows without a buffer that was lost. Several ranks share the shards, or where these are too few
each rank takes every n-th row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from whispertune.data.keyed import keyed_rng
from whispertune.data.segments import Problem, Segment
from whispertune.errors import DataError

BLOCK_ROWS = 512  # shuffled together; so many rows with their audio are in memory


class Stream(Protocol):
    """Rows in shards, each shard readable from any row on, always in the same order."""

    @property
    def name(self) -> str: ...

    @property
    def shard_rows(self) -> tuple[int | None, ...]:
        """Rows of each shard, those that cannot be used among them; None where only reading tells."""

    def open(self, shard: int, skip: int = 0) -> Iterator[Segment | Problem]:
        """The rows of a shard behind its first `skip`: one item a row."""


def stream_rows(stream: Stream) -> int | None:
    """All rows of a stream; None where only reading tells."""
    known = [rows for rows in stream.shard_rows if rows is not None]
    return sum(known) if len(known) == len(stream.shard_rows) else None


@dataclass(frozen=True, slots=True)
class Counted:
    """A stream whose rows were counted."""

    stream: Stream
    shard_rows: tuple[int | None, ...]

    @property
    def name(self) -> str:
        return self.stream.name

    def open(self, shard: int, skip: int = 0) -> Iterator[Segment | Problem]:
        """As the stream itself."""
        return self.stream.open(shard, skip)


def count_rows(stream: Stream, progress: Callable[[int], None]) -> Stream:
    """The stream with its length known: shards whose rows nobody knows are read through once."""
    if stream_rows(stream) is not None:
        return stream
    counted: list[int] = []
    for shard, rows in enumerate(stream.shard_rows):
        counted.append(sum(1 for _ in stream.open(shard)) if rows is None else rows)
        progress(sum(counted))
    return Counted(stream, tuple(counted))


@dataclass(frozen=True, slots=True)
class _Block:
    """Shuffled rows of one pass, and the position of the first."""

    pass_: int
    first: int
    items: list[Segment | Problem]  # fewer than a block's rows only at the end of a pass


class ShuffledStream:
    """The rows of a stream, by position in an endless sequence of passes; one of several ranks sees its own rows.

    Asked for positions that rise, it reads each row once. A position that lies elsewhere is found by what is known
    of the shards' sizes; what is not known is read again. Where all sizes are known and there are shards enough, each
    rank reads shards of its own, else every rank reads all shards and keeps every n-th row.
    """

    def __init__(
        self, stream: Stream, seed: int, *, rank: int = 0, ranks: int = 1, block_rows: int = BLOCK_ROWS
    ) -> None:
        self.stream, self.seed, self.block_rows = stream, seed, block_rows
        self.rank, self.ranks = rank, ranks
        sizes = stream.shard_rows
        known = [rows for rows in sizes if rows is not None]
        self._deal = _Deal.of(known, ranks) if len(known) == len(sizes) else None
        by_shard = self._deal is not None and len(sizes) >= ranks
        self._shards = list(range(len(sizes)))[rank::ranks] if by_shard else list(range(len(sizes)))
        self._every = (0, 1) if by_shard else (rank, ranks)
        self._rows = {
            shard: _rows_of_rank(rows, *self._every) for shard in self._shards if (rows := sizes[shard]) is not None
        }
        self._blocks: Iterator[_Block] = iter(())
        self._block = _Block(-1, 0, [])

    def mine(self, position: int) -> bool:
        """Whether the row at a position, counted over all ranks, is this rank's."""
        return self._local(position)[0] == self.rank

    def at(self, position: int) -> Segment | Problem:
        """The row at a position, from 0, which must be this rank's."""
        local = self._local(position)[1]
        if local < self._block.first or self._block.pass_ < 0:
            self._jump(local)
        while local >= self._block.first + len(self._block.items):
            self._block = self._next()
        return self._block.items[local - self._block.first]

    def _local(self, position: int) -> tuple[int, int]:
        """The rank that a position belongs to, and its place among the rows of that rank."""
        if self._deal is None:
            return position % self.ranks, position // self.ranks
        return self._deal.local(position)

    def _next(self) -> _Block:
        held, behind = bool(self._block.items), self._block.first + len(self._block.items)
        self._block = _Block(self._block.pass_, behind, [])  # not two blocks in memory
        block = next(self._blocks, None)
        if block is None:
            self._blocks = self._pass(self._block.pass_ + 1, behind, skip=0)
            block = next(self._blocks, None)
        if block is None or not (block.items or held):  # two empty ones in a row: a pass without rows
            raise DataError("the stream holds no rows", where=self.stream.name)
        return block

    def _jump(self, local: int) -> None:
        """Go to the pass and block of a position, as far as sizes are known; reading on does the rest."""
        rows = sum(self._rows.values()) if len(self._rows) == len(self._shards) else 0
        pass_ = local // rows if rows else 0
        skip = (local - pass_ * rows) // self.block_rows * self.block_rows if rows else 0
        self._blocks = self._pass(pass_, pass_ * rows, skip)
        self._block = next(self._blocks, _Block(pass_, pass_ * rows, []))

    def _pass(self, pass_: int, first: int, skip: int) -> Iterator[_Block]:
        """The blocks of one pass behind its first `skip` rows (whole blocks); `first` is the pass's first position."""
        rows = self._pass_rows(pass_, skip)
        at = skip
        while True:
            items = list(islice(rows, self.block_rows))
            order = keyed_rng(self.seed, "block", self.stream.name, pass_, at).permutation(len(items))
            read = len(items)
            yield _Block(pass_, first + at, [items[index] for index in order])
            del items
            if read < self.block_rows:
                return
            at += read

    def _pass_rows(self, pass_: int, skip: int) -> Iterator[Segment | Problem]:
        order = keyed_rng(self.seed, "shards", self.stream.name, pass_).permutation(len(self._shards))
        for shard in (self._shards[index] for index in order):
            known = self._rows.get(shard)
            if known is not None and skip >= known:
                skip -= known
                continue
            rank, ranks = self._every
            read = skip
            for item in islice(self.stream.open(shard, skip * ranks + rank), 0, None, ranks):
                read += 1
                yield item
            self._rows[shard] = read
            skip = 0


def _rows_of_rank(rows: int, rank: int, ranks: int) -> int:
    """How many of so many rows a rank has that takes every `ranks`-th."""
    return len(range(rank, rows, ranks))


@dataclass(frozen=True, eq=False, slots=True)
class _Deal:
    """Whose row each position of a pass is, where all sizes are known: every rank's rows spread over the pass."""

    rank: NDArray[np.int16]  # (rows of a pass,)
    place: NDArray[np.int64]  # among the rank's rows of the pass
    rows: NDArray[np.int64]  # of each rank in a pass

    @classmethod
    def of(cls, shard_rows: Sequence[int], ranks: int) -> _Deal:
        """Each rank has shards of its own, or every n-th row where there are fewer shards than ranks."""
        by_shard = len(shard_rows) >= ranks
        counts = [
            sum(shard_rows[rank::ranks] if by_shard else (_rows_of_rank(rows, rank, ranks) for rows in shard_rows))
            for rank in range(ranks)
        ]
        rows = np.array(counts, dtype=np.int64)
        if ranks == 1:
            return cls(np.empty(0, dtype=np.int16), np.empty(0, dtype=np.int64), rows)
        places = [np.arange(count) for count in rows]
        when = np.concatenate([(place + 0.5) / max(1, len(place)) for place in places])
        order = np.argsort(when, kind="stable")
        whose = np.repeat(np.arange(ranks, dtype=np.int16), rows)
        return cls(whose[order], np.concatenate(places)[order], rows)

    def local(self, position: int) -> tuple[int, int]:
        if len(self.rows) == 1:
            return 0, position
        if not len(self.rank):
            return position % len(self.rows), 0
        pass_, at = divmod(position, len(self.rank))
        rank = int(self.rank[at])
        return rank, pass_ * int(self.rows[rank]) + int(self.place[at])
