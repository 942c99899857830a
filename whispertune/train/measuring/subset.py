"""Which rows of dev are decoded while training: always the same, and no more than the time allows.

subset = Subset(splits.dev.segments, asked=None, seed=0)
count = affordable(0.15, part_s=60.0, besides_s=2.0, row_s=0.2)      # of rows, in each evaluation
subset.first(count)
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from whispertune.data.keyed import keyed_rng
from whispertune.data.segments import Segment

LEAST_ROWS = 16  # fewer tell nothing; where even they take more than their share, that is said


class Subset:
    """Rows of dev by how early they stand in an order drawn once."""

    def __init__(self, segments: Sequence[Segment], asked: int | None, seed: int) -> None:
        self.segments, self.asked = tuple(segments), asked
        self._order = keyed_rng(seed, "dev subset").permutation(len(self.segments)).tolist()

    def first(self, count: int) -> tuple[Segment, ...]:
        """So many of the order, as they stand in dev; a larger count has all of a smaller one's."""
        return tuple(self.segments[index] for index in sorted(self._order[:count]))

    def fingerprint(self, count: int) -> str:
        """Of these rows and their texts: figures on others cannot be compared with theirs."""
        rows = [(each.id, each.text) for each in self.first(count)]
        return sha256(repr(rows).encode()).hexdigest()[:12]


def affordable(share: float, *, part_s: float, besides_s: float, row_s: float) -> int:
    """How many rows an evaluation may have, so that evaluations take at most a share of the time of a run.

    Args:
        share: of evaluations and training together; below 1.
        part_s: seconds of training before each evaluation.
        besides_s: seconds that one takes however many rows it has.
        row_s: seconds that a row takes in it.
    """
    budget = part_s * share / (1 - share)
    return max(LEAST_ROWS, int(min(max(0.0, budget - besides_s) / max(row_s, 1e-9), 1e9)))


def share_taken(count: int, *, part_s: float, besides_s: float, row_s: float) -> float:
    """Of the time of a run, by evaluations of so many rows."""
    spent = besides_s + count * row_s
    return spent / max(spent + part_s, 1e-9)
