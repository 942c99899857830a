"""Variants of a plan: pieces alone and cut to what is spoken, at other speeds, and windows that stay the same."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.supplies import BY_SEGMENTS, KINDS, Rows, count_words, ids, loose, mix, shown, stream, table, talk, whole
from whispertune.data.audio import AudioReader
from whispertune.data.segments import Problem, Segment, SourceData
from whispertune.data.table import SegmentTable
from whispertune.errors import RecipeError
from whispertune.model.load import ModelFolder
from whispertune.recipe_file import parse_recipe
from whispertune.train.feeding.mixture import count_windows, make_plan
from whispertune.train.feeding.plan import Plan, PlanSettings
from whispertune.train.feeding.splits import Splits, TokenCounter, load_splits
from whispertune.train.feeding.supply import FixedSupply, Supply, TableSupply
from whispertune.windows.batches import PlannedWindow
from whispertune.windows.labels import label
from whispertune.windows.pack import SLACK_S, WINDOW_S, Limits, Piece, Window, play_at, singles

talks_and_utterances = st.tuples(st.lists(st.integers(1, 12), max_size=4), st.integers(1, 30))


def segments_of(drawn: tuple[list[int], int]) -> list[Segment]:
    talks, utterances = drawn
    return [cue for n, cues in enumerate(talks) for cue in talk(f"{n}", cues)] + loose(utterances, "u")


def settings_of(kind: str, size: int, **more: object) -> PlanSettings:
    by = {"segments": {"step_segments": size}, "windows": {"step_segments": None, "step_windows": size}}
    return PlanSettings(**by[kind], **more)  # type: ignore[arg-type]


def windows_of(plan: Plan) -> list[PlannedWindow]:
    return [planned for step in whole(plan) for planned in step.windows]


def contents(windows: list[PlannedWindow]) -> Counter[tuple[Piece, ...]]:
    return Counter(planned.window.pieces for planned in windows)


kinds = st.sampled_from(["segments", "windows"])


# --- alone, and cut to what is spoken ----------------------------------------------------------------------------


@given(talks_and_utterances, kinds, st.integers(1, 9), st.booleans(), st.integers(0, 99))
@settings(max_examples=40)
def test_a_step_that_fits_shows_each_cue_alone(
    drawn: tuple[list[int], int], kind: str, size: int, fixed: bool, seed: int
) -> None:
    segments = segments_of(drawn)
    packed = Plan([table(segments)], settings_of(kind, size, fixed=fixed), seed)
    alone = Plan([table(segments)], settings_of(kind, size, fixed=fixed, fit_share=1.0), seed)
    assert shown(alone) == Counter(segment.id for segment in segments)
    for step, other in zip(whole(alone), whole(packed), strict=True):
        assert sorted(ids(step)) == sorted(ids(other))
        for planned in step.windows:
            (piece,) = planned.window.pieces
            assert planned.fit
            assert piece.offset_s == 0
            (cue,) = piece.segments
            assert (piece.start_s, piece.end_s) == (cue.start_s, cue.end_s)
            heard_s = piece.heard_end_s(timestamps=planned.timestamps) - piece.start_s
            assert heard_s * 16_000 - 1 <= planned.samples <= max(16_000, min(480_000, heard_s * 1.25 * 16_000 + 8_000))
        assert not any(planned.fit for planned in other.windows)


@given(talks_and_utterances, st.booleans(), st.sampled_from([(), (0.9, 1.0, 1.1)]), st.integers(0, 99))
@settings(max_examples=30)
def test_times_are_inside_of_the_cut_audio(
    base: ModelFolder, drawn: tuple[list[int], int], timestamps: bool, speeds: tuple[float, ...], seed: int
) -> None:
    asked = PlanSettings(fit_share=1.0, timestamps_share=float(timestamps), speeds=speeds)
    for planned in windows_of(Plan([table(segments_of(drawn))], asked, seed)):
        labels = label(planned.window, base.vocabulary, timestamps=planned.timestamps, prompted=planned.prompted)
        times = [token - base.vocabulary.no_timestamps - 1 for token in labels.inputs]
        assert max(times) * 320 <= planned.samples
        assert (max(times) >= 0) == timestamps


def test_the_share_of_steps_that_fit() -> None:
    def fits(share: float) -> list[bool]:
        plan = Plan([table(loose(20))], PlanSettings(step_segments=3, fit_share=share), 0, steps=1000)
        assert all(p.fit == plan.fits(at) for at in (0, 1, 2, 3) for p in plan.step(at).windows)
        return [plan.fits(index) for index in range(1000)]

    assert not any(fits(0.0))
    assert 0.27 < np.mean(fits(0.3)) < 0.33
    assert all(fits(1.0))
    assert all(more for some, more in zip(fits(0.3), fits(0.6), strict=True) if some)  # a larger share adds steps


def test_ranks_agree_on_which_steps_fit() -> None:
    asked = PlanSettings(step_segments=6, fit_share=0.5)
    found = []
    for rank in range(3):
        plan = Plan(mix("stream and tables", rank, 3), asked, 1, rank=rank, ranks=3, steps=40)
        found.append([plan.fits(index) for index in range(40)])
        assert all(p.fit == plan.fits(at) for at, step in enumerate(whole(plan)) for p in step.windows)
    assert found[0] == found[1] == found[2]
    assert 5 < sum(found[0]) < 35


@pytest.mark.parametrize("kind", KINDS)
def test_variants_are_the_same_taken_up_at_any_step(kind: str) -> None:
    fixed = kind == "tables"
    asked = PlanSettings(step_segments=4, fit_share=0.5, fixed=fixed, speeds=() if fixed else (0.9, 1.1))
    whole_run = whole(Plan(mix(kind), asked, 7, steps=20))
    for index in range(20):
        resumed = Plan(mix(kind), asked, 7, steps=20)
        assert [resumed.step(at) for at in range(index, 20)] == whole_run[index:]


# --- speed -------------------------------------------------------------------------------------------------------


def lengthy(count: int) -> list[Segment]:
    """Utterances of up to 30 s."""
    return [Segment(f"l{n}", Path(f"l{n}.wav"), 1.0, 1.5 + 29.5 * n / count, "a", "ln") for n in range(1, count + 1)]


@given(st.integers(0, 99), st.booleans(), st.sampled_from([0.0, 1.0]))
@settings(max_examples=30)
def test_no_window_is_too_long_at_any_speed(seed: int, by_windows: bool, fit_share: float) -> None:
    segments = lengthy(12) + talk("t", 9)
    asked = settings_of("windows" if by_windows else "segments", 5, speeds=(0.8, 0.9, 1.0, 1.1), fit_share=fit_share)
    plan = Plan([table(segments)], asked, seed)
    assert shown(plan) == Counter(segment.id for segment in segments)
    for planned in windows_of(plan):
        assert sum(piece.grid_steps for piece in planned.window.pieces) <= 1500
        assert planned.samples <= 480_000
        for piece in planned.window.pieces:
            assert piece.duration_s <= WINDOW_S + SLACK_S
            assert piece.cut is None or piece.speed == 1


def test_speeds_are_drawn_evenly_and_anew() -> None:
    asked = PlanSettings(step_segments=10, speeds=(0.9, 1.0, 1.1))
    plan = Plan([table(loose(300))], asked, 0, epochs=2)
    speeds = {
        epoch: {p.segments[0].id: p.speed for step in steps for w in step.windows for p in w.window.pieces}
        for epoch, steps in enumerate((whole(plan)[:30], whole(plan)[30:]))
    }
    for of_epoch in speeds.values():
        counts = Counter(of_epoch.values())
        assert set(counts) == {0.9, 1.0, 1.1}
        assert min(counts.values()) > 80
    assert sum(speeds[0][name] != speeds[1][name] for name in speeds[0]) > 150


@given(st.floats(0.5, 2.0), st.floats(0.02, 10.0), st.floats(0, 1), st.floats(0, 100))
def test_times_scale_with_the_speed(
    base: ModelFolder, speed: float, length_s: float, lead_s: float, at_s: float
) -> None:
    cue = Segment("a", Path("a.wav"), at_s + lead_s, at_s + lead_s + length_s, "hej", "sv")
    piece = Piece(cue.recording, at_s, cue.end_s, (cue,), 3)
    played = play_at(piece, speed)
    assert played.duration_s == pytest.approx(piece.duration_s / speed)
    planned = PlannedWindow(Window((played,)), True, False, fit=True)
    labels = label(planned.window, base.vocabulary, timestamps=True, prompted=False)
    times = [t - base.vocabulary.no_timestamps - 1 for t in labels.inputs if t > base.vocabulary.no_timestamps]
    begin_s, end_s = (step * 0.02 for step in times)
    assert begin_s == pytest.approx(lead_s / speed, abs=0.0101)
    assert end_s == pytest.approx((lead_s + length_s) / speed, abs=0.0301)


def test_what_is_announced_at_the_end_is_left_out_at_another_speed() -> None:
    long = TableSupply("t", SegmentTable.of(talk("t", 12)), Limits(), count_words, 0)
    (piece,) = next(d for at in range(3) if not isinstance(d := long.draw(at), Problem) and d[0].cut)
    for speed in (0.9, 1.1):
        played = play_at(piece, speed)
        assert played.cut is None
        assert played.end_s == piece.segments[-1].end_s
        assert played.tokens == piece.tokens - 1
    assert play_at(piece, 1.0) == piece


# --- windows that stay the same ----------------------------------------------------------------------------------


@given(talks_and_utterances, kinds, st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=40)
def test_fixed_windows_are_the_same_in_each_round(
    drawn: tuple[list[int], int], kind: str, size: int, seed: int
) -> None:
    segments = segments_of(drawn)
    plan = Plan([table(segments, seed=seed)], settings_of(kind, size, fixed=True), seed, epochs=3)
    steps = whole(plan)
    rounds: list[list[PlannedWindow]] = [[], [], []]
    for index, step in enumerate(steps):
        done = plan.epochs_done(index + 1)
        assert done is not None
        rounds[math.ceil(done - 1e-9) - 1] += step.windows
    assert contents(rounds[0]) == contents(rounds[1]) == contents(rounds[2])
    assert Counter(s.id for p in rounds[0] for s in p.window.segments) == Counter(s.id for s in segments)
    if len(rounds[0]) > 8:
        orders = {tuple(planned.window.pieces[0].segments[0].id for planned in each) for each in rounds}
        assert len(orders) == 3
    for step in steps:
        of_windows = [len(planned.window.segments) for planned in step.windows]
        if kind == "windows":
            assert len(of_windows) <= size
        else:  # taken until there are enough, counted over all that came before
            assert sum(of_windows[:-1]) < size + max(of_windows)


def test_fixed_windows_are_full() -> None:
    plan = Plan([table(loose(400))], settings_of("windows", 4, fixed=True), 0)
    windows = windows_of(plan)
    filled_s = sum(planned.window.duration_s for planned in windows)
    assert filled_s / (30 * len(windows)) > 0.97


def test_fixed_windows_alone_are_their_cues() -> None:
    supplies: list[Supply] = [table(talk("t", 30)), table(loose(40), "u")]
    packed = Plan(supplies, settings_of("windows", 4, fixed=True), 0)
    alone = Plan(supplies, settings_of("windows", 4, fixed=True, fit_share=1.0), 0, epochs=2)

    def pieces(plan: Plan, first: int, end: int) -> list[Piece]:
        windows = [p.window for index in range(first, end) for p in plan.step(index).windows]
        return [piece for window in windows for piece in window.pieces]

    def heard(pieces: Iterable[Piece]) -> Counter[tuple[str, float, float]]:
        return Counter((piece.segments[0].id, piece.start_s, piece.end_s) for piece in pieces)

    a_round = packed.total_steps or 0
    cues = [cue for piece in pieces(packed, 0, a_round) for cue in singles(piece)]
    assert len(cues) == 70
    assert heard(pieces(alone, 0, a_round)) == heard(pieces(alone, a_round, 2 * a_round)) == heard(cues)


def test_a_cue_alone_knows_what_was_said_before_it() -> None:
    plan = Plan([table(talk("t", 30))], settings_of("windows", 4, fixed=True, fit_share=1.0), 0)
    found = {piece.segments[0].id: piece for planned in windows_of(plan) for piece in planned.window.pieces}
    cues = talk("t", 30)
    for number, cue in enumerate(cues):
        assert found[cue.id].previous == tuple(each.text for each in cues[:number])[-40:]


@pytest.mark.parametrize("fit_share", [0.0, 0.5, 1.0])
def test_a_fixed_plan_tells_all_that_it_shows(fit_share: float) -> None:
    supplies: list[Supply] = [table(talk("t", 40), "t"), table([*loose(30), *lengthy(5)], "u")]
    plan = Plan(supplies, PlanSettings(step_segments=8, fixed=True, fit_share=fit_share), 0, epochs=20)

    def heard(planned: PlannedWindow) -> tuple[int, tuple[tuple[str, float, float, float], ...]]:
        pieces = planned.window.pieces
        ends = [piece.heard_end_s(timestamps=planned.timestamps) for piece in pieces]
        return planned.samples, tuple(
            (p.segments[0].id, p.start_s, end_s, p.offset_s) for p, end_s in zip(pieces, ends, strict=True)
        )

    told = [heard(planned) for planned in plan.composition()]
    assert len(set(told)) == len(told)
    assert set(told) == {heard(planned) for planned in windows_of(plan)}
    assert list(Plan(supplies, BY_SEGMENTS, 0).composition()) == []


@pytest.mark.parametrize("kind", ["fixed", "windows"])
def test_what_is_packed_beforehand_is_told_and_nothing_later(kind: str) -> None:
    asked = settings_of("windows", 4, fixed=True) if kind == "fixed" else settings_of("windows", 4)
    told: list[tuple[int, int]] = []
    plan = Plan([table(loose(600))], asked, 0, epochs=1.5, packing=lambda done, total: told.append((done, total)))
    assert told[:3] == [(256, 600), (512, 600), (600, 600)]
    before = len(told)
    whole(plan)
    assert len(told) == before


def test_windows_are_counted_without_packing_a_whole_pass() -> None:
    counted: list[str] = []

    def count(segments: Sequence[Segment]) -> NDArray[np.int32]:
        counted.extend(segment.id for segment in segments)
        return count_words(segments)

    rows = SegmentTable.of(loose(3000))
    data = {"train": [{"source": "/a"}], "dev": [{"source": "/b"}]}
    splits = Splits({0: rows}, (), SourceData(rows), SourceData(()), SourceData(()))
    for train, windows in (({"step_segments": 16}, 375), ({"step_windows": 4}, 300)):  # 48 s take two windows
        counted.clear()
        asked = parse_recipe({"model": "x", "language": "ln", "data": data, "train": train})
        assert count_windows(asked, splits, Limits(), count, 400) == pytest.approx(windows, rel=0.05)
        assert len(counted) < 600


def test_weights_hold_for_fixed_windows_too() -> None:
    often, rarely = loose(60, "o"), loose(120, "r")
    supplies = [table(often, "o"), table(rarely, "r")]
    plan = Plan(supplies, PlanSettings(step_segments=8, fixed=True), 0, weights=[2.0, 0.5], epochs=2)
    counts = shown(plan)
    assert {counts[each.id] for each in often} == {4}
    assert {counts[each.id] for each in rarely} == {1}
    assert len(contents(windows_of(plan))) == sum(FixedSupply(supply, 256).reach(1) for supply in supplies)


def test_what_a_fixed_window_ends_with_never_changes() -> None:
    """A cue that is announced is heard in part, and without times it is not: one of the two for good."""
    plan = Plan([table(talk("t", 100))], PlanSettings(step_segments=8, fixed=True), 0, epochs=6)
    windows = windows_of(plan)
    shown_as: dict[tuple[Piece, ...], set[bool]] = {}
    for planned in windows:
        shown_as.setdefault(planned.window.pieces, set()).add(planned.timestamps)
    ends = [len(ways) for pieces, ways in shown_as.items() if pieces[-1].cut]
    assert set(ends) == {1}
    assert {planned.timestamps for planned in windows if planned.window.pieces[-1].cut} == {True, False}


def test_rows_that_no_window_holds_are_named_in_each_round() -> None:
    segments = [*loose(5), Segment("long", Path("long.wav"), 0.0, 3.0, "a " * 300, "ln")]
    plan = Plan([table(segments)], PlanSettings(step_segments=2, fixed=True), 0, epochs=2)
    problems = [problem for step in whole(plan) for problem in step.problems]
    assert [(each.where, each.kind) for each in problems] == [("long", "too many tokens")] * 2


def test_what_cannot_be_fixed() -> None:
    with pytest.raises(RecipeError, match=r"data\.train: the windows of a stream"):
        Plan([stream(Rows((9,)))], PlanSettings(fixed=True), 0)
    with pytest.raises(RecipeError, match=r"augment\.speed"):
        Plan([table(loose(5))], PlanSettings(fixed=True, speeds=(0.9, 1.1)), 0)
    assert Plan([table(loose(5))], PlanSettings(fixed=True, speeds=(1.0,)), 0).total_steps


def test_the_recipe_says_what_is_fixed_and_what_fits(noises: Path, base: ModelFolder, reader: AudioReader) -> None:
    data = {"train": [{"source": str(noises / "train")}], "dev": [{"source": str(noises / "dev")}]}
    asked: dict[str, Any] = {"model": "x", "language": "sv", "data": data, "windows": {"fit_share": 1.0}}
    count, limits = TokenCounter(base.vocabulary), Limits()
    splits = load_splits(parse_recipe(asked), base.vocabulary, reader, count, limits)
    fixed = make_plan(parse_recipe(asked), splits, limits, base.vocabulary, count, fixed=True)
    assert fixed.settings.fixed
    assert [planned.fit for planned in fixed.composition()] == [True] * 12
    faster = parse_recipe(asked | {"augment": {"speed": [1.1]}})
    plan = make_plan(faster, splits, limits, base.vocabulary, count)
    assert {(p.fit, p.window.pieces[0].speed) for p in plan.step(0).windows} == {(True, 1.1)}
    assert count_windows(faster, splits, limits, count, 1000) == 1  # packed, whatever share is shown alone
    with pytest.raises(RecipeError, match=r"augment\.speed"):
        make_plan(faster, splits, limits, base.vocabulary, count, fixed=True)
