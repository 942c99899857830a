"""The plan: which windows each step of a run sees, as a pure function of the seed.

    plan = Plan([supply, other], PlanSettings(step_segments=16), seed=0, epochs=3)
    plan.step(0).windows         # the PlannedWindows of the first step
    plan.total_steps

Nothing here reads audio of tables or keeps state that matters, so a resumed run, another rank or a test can ask
for the same plan at any step. Draws are counted in rounds: a round goes over every source as often as its weight says.

What a step of tables shows does not depend on how many ranks there are: each makes the whole step and takes its share
of the windows. Where a stream is in the mix, a rank draws only what it reads, so each packs its own pieces, and which
rows of the stream meet in a step depends on the ranks.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from whispertune.data.keyed import keyed_rng
from whispertune.data.mix import interleave, mixing_rates, occurrences
from whispertune.data.segments import Problem
from whispertune.errors import DataError, RecipeError
from whispertune.train.feeding.supply import Drawn, FixedSupply, Supply, TableSupply, Watch, known_rows
from whispertune.windows.batches import PlannedWindow
from whispertune.windows.pack import Limits, Window, join, play_at, singles

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
    fit_share: float = 0.0  # of the steps show each cue alone, cut to what is spoken
    speeds: tuple[float, ...] = ()  # drawn for each piece
    fixed: bool = False  # the same windows in every round, for what is kept of them; tables only
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

    def __init__(  # noqa: PLR0913  # what a recipe says of it
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
        packing: Watch | None = None,
    ) -> None:
        """So many epochs, or steps; endless where both are None. `packing` is told how much is packed beforehand.

        Several ranks share every step: each gets every n-th window, or where there is a stream every n-th draw of
        every source.

        Raises:
            RecipeError: the length of a source would have to be known and is not, or a stream cannot be taken so.
        """
        tables = [supply for supply in supplies if isinstance(supply, TableSupply)]
        self._whole = len(tables) == len(supplies)  # whether this rank can make steps as all ranks see them
        if not self._whole:
            _check_streams(settings)
        if settings.fixed:
            _check_fixed(settings)
            supplies = [FixedSupply(table, JOIN_BLOCK, packing) for table in tables]
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
        self._packing = packing
        if steps is None and epochs is not None and not self._known:
            raise RecipeError(
                "how long a stream is, only reading it tells",
                where="data.train",
                fix="give train.steps or train.hours, or count = true for the stream: it is read through once before",
            )
        if self._packed_ahead:
            self._start(1)  # the first step would need it anyway
        self.total_steps = self._count(epochs) if steps is None and epochs is not None else steps
        self._packing = None  # later it is done in the background

    def step(self, index: int) -> Step:
        """The windows of a step, counted from 0 over the whole run, as this rank sees them."""
        number = self._round_of(index)
        windows, problems = self._windows(number, index - self._starts[number])
        fit = self.fits(index)
        if fit:
            windows = _alone(windows)
        if not self._whole:
            shown = [self._show(window, (index, self.rank, row), fit) for row, window in enumerate(windows)]
            return Step(tuple(shown), tuple(problems))
        mine = range(self.rank, len(windows), self.ranks)
        shown = [self._show(windows[row], (index, 0, row), fit) for row in mine]
        return Step(tuple(shown), tuple(problems[self.rank :: self.ranks]))

    def fits(self, index: int) -> bool:
        """Whether a step shows each cue alone, cut to what is spoken."""
        share = self.settings.fit_share
        return share > 0 and keyed_rng(self.seed, "fit", index).random() < share

    def composition(self) -> Iterator[PlannedWindow]:
        """All windows that a fixed plan ever shows, each once: what has to be kept of them is known beforehand."""
        share = self.settings.fit_share
        for supply in self.supplies if self.settings.fixed else ():
            for position in range(supply.reach(1)):
                drawn = supply.draw(position)
                if isinstance(drawn, Problem):
                    continue
                packed = self._show(Window(drawn), (0, 0, 0), fit=False)
                alone = [self._show(window, (0, 0, 0), fit=True) for window in _alone([packed.window])]
                if share < 1:
                    yield packed
                    alone = [each for each in alone if each.samples < packed.samples or each.window != packed.window]
                yield from alone if share > 0 else ()

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
            size = self._step_windows if self.settings.fixed else JOIN_BLOCK
            bounds = np.arange(0, len(sources) + size, size).clip(max=len(sources))
            return _Round(sources, positions, np.unique(bounds))
        lengths = np.empty(len(sources), dtype=np.int64)
        for source, supply in enumerate(self.supplies):
            lengths[sources == source] = supply.lengths(firsts[source], ends[source])
        before = np.cumsum(lengths) - lengths  # segments drawn before each draw
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
        if not self._packed_ahead:
            return found.steps
        windows = 0
        for block in range(found.steps):
            windows += self._count_windows(number, block)
            if self._packing is not None:
                self._packing(int(found.bounds[block + 1]), int(found.bounds[-1]))
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

    @property
    def _packed_ahead(self) -> bool:
        """Whether a round is packed in blocks, and steps take windows from these."""
        return self.settings.step_segments is None and not self.settings.fixed

    def _windows(self, number: int, step: int) -> tuple[list[Window], list[Problem]]:
        """The windows of a step: those of all ranks, or where there is a stream this rank's."""
        found = self._round(number)
        if self._packed_ahead:
            return self._window_range(number, step * self._step_windows)
        drawn, problems = self._draw(number, range(int(found.bounds[step]), int(found.bounds[step + 1])))
        if self.settings.fixed:
            return [Window(pieces) for pieces in drawn], problems
        return self._join(drawn, number, step), problems

    def _draw(self, number: int, draws: range) -> tuple[list[Drawn], list[Problem]]:
        found = self._round(number)
        pieces: list[Drawn] = []
        problems: list[Problem] = []
        for draw in draws:
            position, supply = int(found.positions[draw]), self.supplies[found.sources[draw]]
            if not (self._whole or supply.draws(position)):
                continue
            drawn = supply.draw(position)
            if isinstance(drawn, Problem):
                problems.append(drawn)
            else:
                pieces.append(self._played(drawn, supply.name, position))
        return pieces, problems

    def _played(self, drawn: Drawn, source: str, position: int) -> Drawn:
        """Each piece at a speed of its own."""
        speeds = self.settings.speeds
        if not speeds:
            return drawn
        picks = keyed_rng(self.seed, "speed", source, position).integers(len(speeds), size=len(drawn))
        return tuple(play_at(piece, speeds[pick]) for piece, pick in zip(drawn, picks, strict=True))

    def _join(self, drawn: Sequence[Drawn], number: int, part: int) -> list[Window]:
        rng = keyed_rng(self.seed, "join", number, part)
        return join([piece for pieces in drawn for piece in pieces], self.settings.limits, rng)

    def _block(self, number: int, block: int) -> _Block:
        """A block of a round. Steps of windows are for tables alone: a stream is not packed ahead."""
        if (number, block) not in self._blocks:
            bounds = self._round(number).bounds
            drawn, problems = self._draw(number, range(int(bounds[block]), int(bounds[block + 1])))
            windows = self._join(drawn, number, block)
            order = keyed_rng(self.seed, "windows", number, block).permutation(len(windows))
            windows = [windows[index] for index in order]
            self._blocks = dict(list(self._blocks.items())[1 - BLOCKS_KEPT :])
            self._blocks[number, block] = _Block(windows, problems)
            self._block_windows[number, block] = len(windows)
        return self._blocks[number, block]

    def _count_windows(self, number: int, block: int) -> int:
        known = self._block_windows.get((number, block))
        return len(self._block(number, block).windows) if known is None else known

    def _window_range(self, number: int, first: int) -> tuple[list[Window], list[Problem]]:
        """The windows of the step whose first window is `first`; problems come with a block's first window."""
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
        return windows, problems

    def _show(self, window: Window, key: tuple[int, int, int], fit: bool) -> PlannedWindow:
        timestamps, prompted = keyed_rng(self.seed, "show", *key).random(2)
        if self.settings.fixed and any(piece.cut for piece in window.pieces):
            # What is heard at its end depends on this: always the same, or it would have to be kept twice.
            timestamps = keyed_rng(self.seed, "show", window.segments[0].id).random()
        return PlannedWindow(
            window,
            timestamps=bool(timestamps < self.settings.timestamps_share),
            prompted=bool(prompted < self.settings.prompt_share and window.pieces[0].previous),
            fit=fit,
            key=key,
        )


def _alone(windows: Sequence[Window]) -> list[Window]:
    """Each cue as a window of its own, the longest first: dealt out in turn, every rank gets about as much."""
    cues = [cue for window in windows for piece in window.pieces for cue in singles(piece)]
    return [Window((cue,)) for cue in sorted(cues, key=lambda cue: -cue.duration_s)]


def _check_streams(settings: PlanSettings) -> None:
    if settings.fixed:
        raise RecipeError(
            "the windows of a stream are never the same again, so nothing of them can be kept",
            where="data.train",
            fix="give train.cache_gb = 0, or take the source without streaming",
        )
    if settings.step_segments is None:
        raise RecipeError(
            "a stream is not packed ahead, so its steps are not counted in windows",
            where="train.step_windows",
            fix="give train.step_segments instead",
        )


def _check_fixed(settings: PlanSettings) -> None:
    if any(speed != 1 for speed in settings.speeds):
        raise RecipeError(
            "audio at changing speeds is never the same again, so nothing of it can be kept",
            where="augment.speed",
            fix="give train.cache_gb = 0, or no speeds",
        )
