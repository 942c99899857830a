"""Mixing: in which order several sources are drawn, as a pure function of seed and round.

    rates = mixing_rates(sizes=[1000, 200], weights=[1.0, 2.0], temperature=1.0)    # passes a round: [1.0, 2.0]
    order = interleave([1000, 400], keyed_rng(seed, "mix", round))                  # which source each draw is from

A round is as many draws as the sources have rows, each times its weight. With temperature 1 a source is drawn
from as its size says, times its weight; a higher temperature evens the sizes out (as multilingual models are
trained: Arivazhagan et al., 2019, arXiv:1907.05019). Each source is gone through without replacement, then again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def mixing_rates(sizes: Sequence[float], weights: Sequence[float], temperature: float = 1.0) -> list[float]:
    """How many passes over each source one round makes."""
    total = sum(weight * size for size, weight in zip(sizes, weights, strict=True))
    share = [weight * size ** (1 / temperature) for size, weight in zip(sizes, weights, strict=True)]
    return [(total * part / sum(share)) / size if size else 0.0 for size, part in zip(sizes, share, strict=True)]


def interleave(counts: Sequence[int], rng: np.random.Generator) -> NDArray[np.int16]:
    """So many draws of each source in random order: the source of each draw, (draws,)."""
    order = np.repeat(np.arange(len(counts), dtype=np.int16), counts)
    return order if len(counts) == 1 else rng.permutation(order)


def occurrences(order: NDArray[np.int16], sources: int) -> NDArray[np.int64]:
    """For each draw: how many draws of its source were before it, (draws,)."""
    before = np.empty(len(order), dtype=np.int64)
    for source in range(sources):
        drawn = np.flatnonzero(order == source)
        before[drawn] = np.arange(len(drawn))
    return before
