"""The plan: every segment in its turn, whatever the mix, wherever a run is taken up again, however many ranks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.supplies import (
    BY_SEGMENTS,
    KINDS,
    Rows,
    count_words,
    ids,
    loose,
    mix,
    shown,
    stream,
    table,
    talk,
    whole,
)
from whispertune.data.segments import Problem, Segment
from whispertune.data.streams import ShuffledStream, count_rows, stream_rows
from whispertune.errors import DataError, RecipeError
from whispertune.train.feeding.plan import Plan, PlanSettings
from whispertune.train.feeding.supply import StreamSupply, Supply
from whispertune.windows.pack import Limits

STEPS = {
    "segments": BY_SEGMENTS,
    "windows": PlanSettings(step_segments=None, step_windows=3),
    "fixed segments": PlanSettings(step_segments=4, fixed=True),
    "fixed windows": PlanSettings(step_segments=None, step_windows=3, fixed=True),
}


def unusable(kind: str, rank: int = 0, ranks: int = 1) -> list[Supply]:
    """The sources of `mix`, and one with rows that no window holds."""
    long = [Segment(f"long{n}", Path(f"{n}.wav"), 0.0, 3.0, "a " * 300, "ln") for n in range(3)]
    return [*mix(kind, rank, ranks), table([*long, *loose(4, "w")], "w", 0, rank, ranks)]


def test_the_plan_is_a_function_of_the_seed() -> None:
    first = whole(Plan([table(loose(50))], BY_SEGMENTS, 0, epochs=2))
    assert whole(Plan([table(loose(50))], BY_SEGMENTS, 0, epochs=2)) == first
    assert whole(Plan([table(loose(50), seed=1)], BY_SEGMENTS, 1, epochs=2)) != first
    half = len(first) // 2
    assert [ids(step) for step in first[:half]] != [ids(step) for step in first[half:]]


@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(0, 30), st.integers(1, 20), st.booleans())
def test_an_epoch_shows_each_segment_once(talks: list[int], utterances: int, size: int, by_windows: bool) -> None:
    segments = [cue for n, cues in enumerate(talks) for cue in talk(f"{n}", cues)] + loose(utterances, "u")
    asked = PlanSettings(step_segments=None, step_windows=size) if by_windows else PlanSettings(step_segments=size)
    plan = Plan([table(segments)], asked, 3)
    assert shown(plan) == Counter(segment.id for segment in segments)
    if by_windows:
        assert all(len(step.windows) == size for step in whole(plan)[:-1])


def test_a_step_draws_the_segments_asked_for() -> None:
    steps = whole(Plan([table(loose(103))], PlanSettings(step_segments=16), 0))
    assert [len(ids(step)) for step in steps] == [16] * 6 + [7]


def test_shares_of_timestamps_and_prompts() -> None:
    supply = table(talk("long", 1600))
    steps = whole(Plan([supply], PlanSettings(timestamps_share=0.5, prompt_share=0.2), 0))
    windows = [planned for step in steps for planned in step.windows]
    assert 0.4 < np.mean([planned.timestamps for planned in windows]) < 0.6
    assert 0.12 < np.mean([planned.prompted for planned in windows]) < 0.28
    assert not any(planned.prompted and not planned.window.pieces[0].previous for planned in windows)


def test_a_plan_counts_its_steps_over_epochs() -> None:
    plan = Plan([table(loose(50))], PlanSettings(step_segments=16), 0, epochs=2.5)
    assert plan.total_steps == 4 + 4 + 2
    assert plan.epochs_done(4) == 1
    assert plan.epochs_done(9) == 2.25
    assert Plan([table(loose(50))], PlanSettings(), 0, epochs=1, steps=7).total_steps == 7
    assert Plan([table(loose(50))], PlanSettings(), 0, epochs=None).total_steps is None


def test_weights_say_how_often_a_source_is_gone_through() -> None:
    """Twice as often means two passes an epoch, each without replacement."""
    often, rarely = loose(20, "o"), loose(40, "r")
    supplies = [table(often, "o"), table(rarely, "r")]
    plan = Plan(supplies, BY_SEGMENTS, 0, weights=[2.0, 0.5], epochs=2)
    counts = shown(plan)
    assert {counts[each.id] for each in often} == {4}
    assert {counts[each.id] for each in rarely} == {1}
    order = [each for step in whole(plan) for each in sorted(ids(step)) if each.startswith("o")]
    assert len(set(order[:18])) == 18  # 20 to a pass; a step may reach over its end


def test_temperature_evens_sizes_out() -> None:
    small, large = loose(10, "s"), loose(1000, "l")

    def share(temperature: float) -> float:
        plan = Plan([table(small, "s"), table(large, "l")], BY_SEGMENTS, 0, temperature=temperature)
        counts = shown(plan)
        assert counts.total() == pytest.approx(1010, abs=2)
        return sum(counts[each.id] for each in small) / counts.total()

    assert share(1.0) == pytest.approx(10 / 1010)
    assert share(2.0) == pytest.approx(10**0.5 / (10**0.5 + 1000**0.5), abs=0.002)
    assert share(float("inf")) == pytest.approx(0.5, abs=0.002)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ranks", [1, 3])
def test_taken_up_at_any_step_the_sequence_is_the_same(kind: str, ranks: int) -> None:
    weights = [1.5] + [1.0] * (len(mix(kind)) - 1)
    counts: Counter[int] = Counter()
    for rank in range(ranks):

        def plan(rank: int = rank) -> Plan:
            return Plan(mix(kind, rank, ranks), BY_SEGMENTS, 7, weights=weights, steps=30, rank=rank, ranks=ranks)

        whole_run = whole(plan())
        counts[rank] = sum(len(ids(step)) for step in whole_run)
        for index in range(30):
            resumed = plan()
            assert [resumed.step(at) for at in range(index, 30)] == whole_run[index:]
    assert counts.total() > 60


@pytest.mark.parametrize("kind", ["tables", "stream", "stream and tables", "two streams"])
@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_each_row_is_seen_by_exactly_one_rank(kind: str, ranks: int) -> None:
    counts: Counter[str] = Counter()
    for rank in range(ranks):
        counts += shown(Plan(mix(kind, rank, ranks), BY_SEGMENTS, 7, rank=rank, ranks=ranks))
    assert counts == shown(Plan(mix(kind), BY_SEGMENTS, 7))
    assert set(counts.values()) == {1}


@given(st.lists(st.integers(0, 20), min_size=1, max_size=6), st.integers(1, 5), st.booleans(), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_a_pass_over_a_stream_gives_every_row_to_one_rank(sizes: list[int], ranks: int, known: bool, seed: int) -> None:
    """Known sizes: the passes of all ranks begin together. Unknown ones: each rank has passes of its own rows."""
    rows, total = Rows(tuple(sizes), known), sum(sizes)
    everything = sorted(f"s{shard}.{row}" for shard, size in enumerate(sizes) for row in range(size))
    passes: list[list[str]] = [[], []]
    for rank in range(ranks):
        shuffled = ShuffledStream(rows, seed, rank=rank, ranks=ranks, block_rows=4)
        if known:
            mine = [at for at in range(2 * total) if shuffled.mine(at)]
            turns = [[at for at in mine if at // total == turn] for turn in (0, 1)]
        else:
            count = sum(len(range(rank, size, ranks)) for size in sizes)
            mine = [at for at in range(2 * ranks * count) if shuffled.mine(at)]
            turns = [mine[:count], mine[count:]]
        if not mine:
            continue
        found = {at: _name(shuffled.at(at)) for at in mine}
        assert sorted(found[at] for at in turns[0]) == sorted(found[at] for at in turns[1])
        for turn, positions in enumerate(turns):
            passes[turn] += [found[at] for at in positions]
        again = ShuffledStream(rows, seed, rank=rank, ranks=ranks, block_rows=4)
        assert _name(again.at(mine[-1])) == found[mine[-1]]
        assert _name(again.at(mine[0])) == found[mine[0]]  # and back
    assert sorted(passes[0]) == sorted(passes[1]) == everything


@given(st.integers(1, 4), st.integers(0, 99), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from(list(STEPS)))
@settings(max_examples=40)
def test_what_a_step_of_tables_shows_does_not_depend_on_the_ranks(
    ranks: int, seed: int, fit_share: float, kind: str
) -> None:
    """Windows, how they are shown and what seeds their augmentation: a run may go on with any number of ranks."""
    asked = replace(STEPS[kind], fit_share=fit_share, speeds=() if STEPS[kind].fixed else (0.9, 1.0, 1.1))
    alone = whole(Plan(unusable("tables"), asked, seed, epochs=2))
    dealt = [
        whole(Plan(unusable("tables", rank, ranks), asked, seed, epochs=2, rank=rank, ranks=ranks))
        for rank in range(ranks)
    ]
    for step, *shares in zip(alone, *dealt, strict=True):
        windows = [window for share in shares for window in share.windows]
        assert sorted(windows, key=lambda window: window.key) == list(step.windows)
        assert len({window.key for window in windows}) == len(windows)
        assert Counter(p for share in shares for p in share.problems) == Counter(step.problems)
        sizes = [len(share.windows) for share in shares]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("ranks", [2, 3])
def test_beside_a_stream_the_rows_of_tables_stay_in_their_steps(ranks: int) -> None:
    """Which rows of a stream a step holds depends on who reads which shard; how many, and when a pass ends, not."""
    alone = whole(Plan(mix("stream and tables"), BY_SEGMENTS, 7))
    dealt = [
        whole(Plan(mix("stream and tables", rank, ranks), BY_SEGMENTS, 7, rank=rank, ranks=ranks))
        for rank in range(ranks)
    ]
    keys = []
    for step, *shares in zip(alone, *dealt, strict=True):
        rows = [row for share in shares for row in ids(share)]
        assert Counter(row for row in rows if not row.startswith("s")) == Counter(
            row for row in ids(step) if not row.startswith("s")
        )
        assert len(rows) == len(ids(step))
        keys += [window.key for share in shares for window in share.windows]
    assert len(set(keys)) == len(keys)


def test_a_stream_without_rows_is_an_error() -> None:
    with pytest.raises(DataError, match="no rows"):
        ShuffledStream(Rows((0, 0), known=False), 0).at(0)
    with pytest.raises(DataError, match="no rows"):
        Plan([stream(Rows((0, 0)))], BY_SEGMENTS, 0)


def _name(row: Segment | Problem) -> str:
    return row.id if isinstance(row, Segment) else row.where


def test_a_stream_is_shuffled_anew_each_pass() -> None:
    shuffled = ShuffledStream(Rows((40, 40)), 0, block_rows=16)
    first, second = ([_name(shuffled.at(at + turn * 80)) for at in range(80)] for turn in (0, 1))
    assert first != second
    in_order = [f"s{shard}.{row}" for shard in (0, 1) for row in range(40)]
    assert first != in_order
    assert sum(a < b for a, b in pairwise(first)) < 60


def test_a_jump_into_a_stream_opens_only_the_shard_it_needs() -> None:
    opened: list[tuple[int, int]] = []

    class Watched(Rows):
        def open(self, shard: int, skip: int = 0) -> Iterator[Segment | Problem]:
            opened.append((shard, skip))
            return super().open(shard, skip)

    ShuffledStream(Watched((100, 100, 100)), 0, block_rows=10).at(257)
    assert len(opened) == 1
    assert opened[0][1] == 50


def test_the_length_of_a_stream_is_never_guessed() -> None:
    unknown = stream(Rows((9, 14), known=False))
    with pytest.raises(RecipeError, match="only reading it tells") as error:
        Plan([unknown], BY_SEGMENTS, 0, epochs=3)
    assert error.value.exit_code == 2
    assert Plan([unknown], BY_SEGMENTS, 0, steps=5).total_steps == 5
    assert Plan([unknown], BY_SEGMENTS, 0, epochs=None).epochs_done(3) is None
    mixed = Plan([unknown, table(loose(5))], BY_SEGMENTS, 0, steps=50)
    counts = shown(mixed)  # by weights alone
    assert sum(count for name, count in counts.items() if name.startswith("s")) == pytest.approx(100, abs=20)


def test_a_counting_pass_makes_a_length_known() -> None:
    told: list[int] = []
    counted = count_rows(Rows((9, 14), known=False), told.append)
    assert (stream_rows(counted), told) == (23, [9, 23])
    shuffled = ShuffledStream(counted, 0)
    assert Plan([StreamSupply("s", shuffled, Limits(), count_words)], BY_SEGMENTS, 0, epochs=2).total_steps == 12


def test_steps_of_windows_are_for_tables() -> None:
    with pytest.raises(RecipeError, match=r"train\.step_windows"):
        Plan([stream(Rows((9,)))], PlanSettings(step_segments=None, step_windows=2), 0)


def test_rows_that_no_window_holds_are_named_when_they_are_drawn() -> None:
    segments = [*loose(5), Segment("long", Path("long.wav"), 0.0, 3.0, "a " * 300, "ln")]
    for asked in (BY_SEGMENTS, PlanSettings(step_segments=None, step_windows=1)):
        problems = [problem for step in whole(Plan([table(segments)], asked, 0)) for problem in step.problems]
        assert [(problem.where, problem.kind) for problem in problems] == [("long", "too many tokens")]
