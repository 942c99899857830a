"""The plan: which windows each step of a run sees, as a pure function of the seed.

    plan = Plan([supply, other], PlanSettings(step_segments=16), seed=0, epochs=3)
    plan.step(0).windows         # the PlannedWindows of the first step
    plan.total_steps

Nothing here reads audio of tables or keeps state that matters, so a resumed run, another rank or a test can ask
for the same plan at any step. Draws are counted in rounds: a round goes over every source as often as its weight says.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from whispertune.data.keyed import keyed_rng
from whispertune.data.mix import interleave, mixing_rates, occurrences
from whispertune.data.segments import Problem
from whispertune.errors import DataError, RecipeError
from whispertune.train.supply import Supply, TableSupply, known_rows
from whispertune.windows.batches import PlannedWindow
from whispertune.windows.pack import Limits, Piece, Window, join

JOIN_BLOCK = 256  # pieces packed together when a step is counted in windows: full windows, random company
BLOCKS_KEPT = 3
ROUND_STEPS = 256  # of a mix whose length is not known


@dataclass(frozen=True, slots=True)
class Step:
    """The windows of a step, and rows that turned out not to be usable when they were drawn."""

    windows: tuple[PlannedWindow, ...]
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanSettings:
    """What a step is and how its windows are shown."""

    step_segments: int | None = 16  # draw so many segments, then pack them
    step_windows: int | None = None  # or: pack the whole round, so many windows a step
    timestamps_share: float = 0.5
    prompt_share: float = 0.2
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class _Block:
    """What a block of pieces packs into, in random order, and what could not be packed."""

    windows: list[Window]
    problems: list[Problem]


@dataclass(frozen=True, slots=True)
class _Round:
    """One round: of each draw its source and the position there; of each step its first draw."""

    sources: NDArray[np.int16]
    positions: NDArray[np.int64]
    bounds: NDArray[np.int64]  # (steps + 1,) or, for steps of windows, of blocks of pieces

    @property
    def steps(self) -> int:
        return len(self.bounds) - 1


class Plan:
    """The steps of a whole run; one thread at a time may ask."""

    def __init__(
        self,
        supplies: Sequence[Supply],
        settings: PlanSettings,
        seed: int,
        *,
        weights: Sequence[float] | None = None,
        temperature: float = 1.0,
        epochs: float | None = 1.0,
        steps: int | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        """So many epochs, or steps; endless where both are None.

        Several ranks share every step: each gets every n-th draw of every source, or every n-th window where steps
        are counted in windows.

        Raises:
            RecipeError: the length of a source would have to be known and is not.
        """
        self.supplies, self.settings, self.seed = supplies, settings, seed
        self.rank, self.ranks = rank, ranks
        self._known = known_rows(supplies)
        self._rates = self._mix(weights or [1.0] * len(supplies), temperature)
        sizes = [supply.rows or 1 for supply in supplies]
        self._drawn_a_round = sum(rate * size for rate, size in zip(self._rates, sizes, strict=True))
        if not self._drawn_a_round or all(supply.rows == 0 for supply in supplies):
            raise DataError("no rows to train on", where="data.train")
        self._rounds: dict[int, _Round] = {}
        self._blocks: dict[tuple[int, int], _Block] = {}  # the last ones asked for
        self._block_windows: dict[tuple[int, int], int] = {}
        self._starts = [0]  # the index of the first step of each round
        if settings.step_segments is None and not all(isinstance(supply, TableSupply) for supply in supplies):
            raise RecipeError(
                "a stream is not packed ahead, so its steps are not counted in windows",
                where="train.step_windows",
                fix="give train.step_segments instead",
            )
        if steps is None and epochs is not None and not self._known:
            raise RecipeError(
                "how long a stream is, only reading it tells",
                where="data.train",
                fix="give train.steps or train.hours, or count = true for the stream: it is read through once before",
            )
        self.total_steps = self._count(epochs) if steps is None and epochs is not None else steps

    def step(self, index: int) -> Step:
        """The windows of a step, counted from 0 over the whole run, as this rank sees them."""
        number = self._round_of(index)
        windows, problems = self._windows(number, index - self._starts[number])
        return Step(
            tuple(_show(window, self.settings, self._show_rng(index, row)) for row, window in enumerate(windows)),
            tuple(problems),
        )

    def epochs_done(self, steps: int) -> float | None:
        """How many rounds the first `steps` steps make; None where nobody knows how long one is."""
        if not self._known:
            return None
        number = self._round_of(steps - 1)
        return number + (steps - self._starts[number]) / self._length(number)

    def _mix(self, weights: Sequence[float], temperature: float) -> list[float]:
        """Passes a round over each source; where the size of one is not known, weights alone say how often each."""
        sizes = [supply.rows for supply in self.supplies]
        temperature = temperature if self._known else float("inf")  # by weights alone
        return mixing_rates([size or 1 for size in sizes], weights, temperature)

    def _count(self, epochs: float) -> int:
        whole, part = int(epochs), epochs - int(epochs)
        return max(1, self._start(whole) + (round(part * self._length(whole)) if part else 0))

    # --- rounds -----------------------------------------------------------------------------------------------

    def _round(self, number: int) -> _Round:
        if number not in self._rounds:
            self._rounds = {number: self._drawn(number)}
        return self._rounds[number]

    def _drawn(self, number: int) -> _Round:
        firsts, ends = zip(*(self._range(source, number) for source in range(len(self.supplies))), strict=True)
        counts = [end - first for first, end in zip(firsts, ends, strict=True)]
        sources = interleave(counts, keyed_rng(self.seed, "mix", number))
        positions = occurrences(sources, len(counts)) + np.asarray(firsts, dtype=np.int64)[sources]
        if self.settings.step_segments is None:
            bounds = np.arange(0, len(sources) + JOIN_BLOCK, JOIN_BLOCK).clip(max=len(sources))
            return _Round(sources, positions, np.unique(bounds))
        lengths = np.empty(len(sources), dtype=np.int64)
        for source, supply in enumerate(self.supplies):
            lengths[sources == source] = supply.lengths(firsts[source], ends[source])
        before = np.cumsum(lengths) - lengths  # segments drawn before each piece
        bounds = np.flatnonzero(np.diff(before // self.settings.step_segments, prepend=-1))
        return _Round(sources, positions, np.append(bounds, len(sources)))

    def _range(self, source: int, number: int) -> tuple[int, int]:
        """The positions of one source that a round takes."""
        rate, supply = self._rates[source], self.supplies[source]
        if self._known:
            return supply.reach(number * rate), supply.reach((number + 1) * rate)
        share = rate * (supply.rows or 1) / self._drawn_a_round
        draws = ROUND_STEPS * (self.settings.step_segments or JOIN_BLOCK) * share
        return round(number * draws), round((number + 1) * draws)

    def _length(self, number: int) -> int:
        """Steps in a round."""
        found = self._round(number)
        if self.settings.step_segments is not None:
            return found.steps
        windows = sum(self._count_windows(number, block) for block in range(found.steps))
        return -(-windows // self._step_windows)

    def _start(self, number: int) -> int:
        while len(self._starts) <= number:
            self._starts.append(self._starts[-1] + self._length(len(self._starts) - 1))
        return self._starts[number]

    def _round_of(self, index: int) -> int:
        while self._starts[-1] <= index:
            self._start(len(self._starts))
        return bisect_right(self._starts, index) - 1

    # --- steps ------------------------------------------------------------------------------------------------

    @property
    def _step_windows(self) -> int:
        return self.settings.step_windows or 1

    def _windows(self, number: int, step: int) -> tuple[list[Window], list[Problem]]:
        found = self._round(number)
        if self.settings.step_segments is None:
            return self._window_range(number, step * self._step_windows)
        drawn = range(int(found.bounds[step]), int(found.bounds[step + 1]))
        pieces, problems = self._pieces(number, drawn)
        return join(pieces, self.settings.limits, keyed_rng(self.seed, "join", number, step)), problems

    def _pieces(self, number: int, draws: range, *, everything: bool = False) -> tuple[list[Piece], list[Problem]]:
        found = self._round(number)
        pieces: list[Piece] = []
        problems: list[Problem] = []
        for draw in draws:
            position, supply = int(found.positions[draw]), self.supplies[found.sources[draw]]
            if not (everything or supply.draws(position)):
                continue
            drawn = supply.draw(position)
            if isinstance(drawn, Problem):
                problems.append(drawn)
            else:
                pieces.append(drawn)
        return pieces, problems

    def _block(self, number: int, block: int) -> _Block:
        """A block of a round. Steps of windows are for tables alone: a stream is not packed ahead."""
        if (number, block) not in self._blocks:
            bounds = self._round(number).bounds
            pieces, problems = self._pieces(number, range(int(bounds[block]), int(bounds[block + 1])), everything=True)
            rng = keyed_rng(self.seed, "join", number, block)
            windows = join(pieces, self.settings.limits, rng)
            windows = [windows[index] for index in rng.permutation(len(windows))]
            self._blocks = dict(list(self._blocks.items())[1 - BLOCKS_KEPT :])
            self._blocks[number, block] = _Block(windows, problems)
            self._block_windows[number, block] = len(windows)
        return self._blocks[number, block]

    def _count_windows(self, number: int, block: int) -> int:
        known = self._block_windows.get((number, block))
        return len(self._block(number, block).windows) if known is None else known

    def _window_range(self, number: int, first: int) -> tuple[list[Window], list[Problem]]:
        """This rank's windows of the step whose first window is `first`; problems come with a block's first window."""
        windows: list[Window] = []
        problems: list[Problem] = []
        at, end = 0, first + self._step_windows
        for block in range(self._round(number).steps):
            size = self._count_windows(number, block)
            if at + size > first:
                found = self._block(number, block)
                windows += found.windows[max(0, first - at) : end - at]
                problems += found.problems if at >= first else []
            at += size
            if at >= end:
                break
        return windows[self.rank :: self.ranks], problems

    def _show_rng(self, index: int, row: int) -> np.random.Generator:
        return keyed_rng(self.seed, "show", index, self.rank, row)


def _show(window: Window, settings: PlanSettings, rng: np.random.Generator) -> PlannedWindow:
    timestamps, prompted = rng.random(2)
    return PlannedWindow(
        window,
        timestamps=bool(timestamps < settings.timestamps_share),
        prompted=bool(prompted < settings.prompt_share and window.pieces[0].previous),
    )
