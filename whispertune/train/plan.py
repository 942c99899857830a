"""The plan: which windows each step of an epoch sees, as a pure function of seed and epoch.

    steps = plan_epoch(segments, PlanSettings(step_segments=16), count_tokens, seed=0, epoch=1)
    steps[0]   # the PlannedWindows of the first step

Nothing here reads audio or keeps state, so a resumed run, another rank or a test can ask for the same plan.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from whispertune.data.segments import Segment
from whispertune.errors import InputError
from whispertune.windows.batches import PlannedWindow
from whispertune.windows.pack import CountTokens, Limits, Piece, Window, cut, join

JOIN_BLOCK = 256  # pieces packed together when a step is counted in windows: full windows, random company

Step = tuple[PlannedWindow, ...]


@dataclass(frozen=True, slots=True)
class PlanSettings:
    """What a step is and how its windows are shown."""

    step_segments: int | None = 16  # draw at least so many segments, then pack them
    step_windows: int | None = None  # or: pack the whole epoch, so many windows a step
    timestamps_share: float = 0.5
    prompt_share: float = 0.2
    limits: Limits = field(default_factory=Limits)


def keyed_rng(seed: int, *key: int | str) -> np.random.Generator:
    """A generator for one purpose: the same key gives the same numbers, wherever and whenever."""
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key]
    return np.random.default_rng([seed, *words])


def plan_epoch(
    segments: Sequence[Segment], settings: PlanSettings, count_tokens: CountTokens, seed: int, epoch: int
) -> list[Step]:
    """All steps of an epoch, in order; each segment's text stands in exactly one window."""
    limits = settings.limits
    pieces = cut(segments, limits, count_tokens, keyed_rng(seed, "cut", epoch))
    rng = keyed_rng(seed, "order", epoch)
    drawn = [pieces[index] for index in rng.permutation(len(pieces))]
    if settings.step_segments is not None:
        steps = [join(group, limits, rng) for group in _by_segments(drawn, settings.step_segments)]
    else:
        steps = list(_by_windows(_join_all(drawn, limits, rng), settings.step_windows or 1, rng))
    return [
        tuple(_show(window, settings, keyed_rng(seed, "show", epoch, step, row)) for row, window in enumerate(windows))
        for step, windows in enumerate(steps)
    ]


def _by_segments(pieces: Sequence[Piece], step_segments: int) -> Iterator[list[Piece]]:
    group: list[Piece] = []
    for piece in pieces:
        group.append(piece)
        if sum(len(each.segments) for each in group) >= step_segments:
            yield group
            group = []
    if group:
        yield group


def _join_all(pieces: Sequence[Piece], limits: Limits, rng: np.random.Generator) -> list[Window]:
    blocks = (pieces[first : first + JOIN_BLOCK] for first in range(0, len(pieces), JOIN_BLOCK))
    return [window for block in blocks for window in join(block, limits, rng)]


def _by_windows(windows: Sequence[Window], size: int, rng: np.random.Generator) -> Iterator[list[Window]]:
    order = rng.permutation(len(windows))
    for first in range(0, len(order), size):
        yield [windows[index] for index in order[first : first + size]]


def _show(window: Window, settings: PlanSettings, rng: np.random.Generator) -> PlannedWindow:
    timestamps, prompted = rng.random(2)
    return PlannedWindow(
        window,
        timestamps=bool(timestamps < settings.timestamps_share),
        prompted=bool(prompted < settings.prompt_share and window.pieces[0].previous),
    )


class Plan:
    """The steps of a whole run; epochs are planned when they are reached. One thread at a time may ask."""

    def __init__(
        self,
        segments: Sequence[Segment],
        settings: PlanSettings,
        count_tokens: CountTokens,
        seed: int,
        epochs: float,
        steps: int | None = None,
    ) -> None:
        if not segments:
            raise InputError("no segments to train on", where="data.train")
        self.segments, self.settings, self.count_tokens, self.seed = segments, settings, count_tokens, seed
        self._planned: tuple[int, list[Step]] = (-1, [])
        self._starts = [0]  # the index of the first step of each epoch
        self.total_steps = steps if steps is not None else self._count(epochs)

    def _count(self, epochs: float) -> int:
        whole, part = int(epochs), epochs - int(epochs)
        steps = sum(len(self.epoch(epoch)) for epoch in range(whole))
        return max(1, steps + (round(part * len(self.epoch(whole))) if part else 0))

    def epoch(self, epoch: int) -> list[Step]:
        """The steps of one epoch, counted from 0."""
        if self._planned[0] != epoch:
            steps = plan_epoch(self.segments, self.settings, self.count_tokens, self.seed, epoch)
            self._planned = (epoch, steps)
        return self._planned[1]

    def step(self, index: int) -> Step:
        """The windows of a step, counted from 0 over the whole run."""
        epoch = self._epoch_of(index)
        return self.epoch(epoch)[index - self._starts[epoch]]

    def epochs_done(self, steps: int) -> float:
        """How many epochs the first `steps` steps make."""
        epoch = self._epoch_of(steps - 1)
        return epoch + (steps - self._starts[epoch]) / len(self.epoch(epoch))

    def _epoch_of(self, index: int) -> int:
        while self._starts[-1] <= index:
            self._starts.append(self._starts[-1] + len(self.epoch(len(self._starts) - 1)))
        return bisect_right(self._starts, index) - 1
