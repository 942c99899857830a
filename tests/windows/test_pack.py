"""Packing, on random lists of segments: nothing too long, no text lost, none twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from whispertune.data.segments import Segment
from whispertune.data.table import SegmentTable
from whispertune.errors import DataError
from whispertune.windows.pack import GRID_S, SLACK_S, WINDOW_S, Cutter, Limits, Piece, Window, cut, fits, join


def count_words(segments: Sequence[Segment]) -> NDArray[np.int32]:
    return np.array([len(segment.text.split()) for segment in segments], dtype=np.int32)


def words(segment: Segment) -> int:
    return int(count_words([segment])[0])


@st.composite
def recordings(draw: st.DrawFn) -> list[Segment]:
    """Loose utterances and captioned recordings, as sources give them."""
    segments: list[Segment] = []
    for number in range(draw(st.integers(1, 6))):
        path, time_s, follows = Path(f"{number}.wav"), 0.0, False
        for row in range(draw(st.integers(1, 25))):
            pause_s = draw(st.floats(0, 8))
            start_s = time_s + pause_s
            end_s = start_s + draw(st.floats(0.02, WINDOW_S))
            words = draw(st.integers(1, 100))
            text = " ".join([f"w{number}.{row}"] * words)
            segments.append(
                Segment(
                    id=f"{number}:{row}",
                    recording=path,
                    start_s=start_s,
                    end_s=end_s,
                    text=text,
                    language=draw(st.sampled_from(["sv", "sv", "sv", "de"])),
                    continues=follows and draw(st.booleans()),
                    lead_s=pause_s,
                )
            )
            time_s, follows = end_s, True
    return segments


def packed(segments: list[Segment], limits: Limits, seed: int = 0) -> list[Window]:
    rng = np.random.default_rng(seed)
    return join(cut(segments, limits, count_words, rng), limits, rng)


@given(recordings(), st.integers(100 + 3, 220), st.integers(0, 2**32 - 1))
def test_every_text_stands_in_exactly_one_window(segments: list[Segment], tokens: int, seed: int) -> None:
    windows = packed(segments, Limits(max_tokens=tokens), seed)
    written = Counter(segment.id for window in windows for segment in window.segments)
    assert written == Counter(segment.id for segment in segments)


@given(recordings(), st.integers(100 + 3, 220), st.integers(0, 2**32 - 1))
def test_no_window_is_too_long(segments: list[Segment], tokens: int, seed: int) -> None:
    for window in packed(segments, Limits(max_tokens=tokens), seed):
        assert sum(piece.grid_steps for piece in window.pieces) <= 1500
        content = sum(words(segment) + 2 for segment in window.segments)
        content += sum(piece.cut is not None for piece in window.pieces)
        assert content + 1 <= tokens  # with the end of text
        assert content == sum(piece.tokens for piece in window.pieces)


@given(recordings(), st.integers(0, 2**32 - 1))
def test_what_is_heard_is_written_or_announced(segments: list[Segment], seed: int) -> None:
    """All audio of a piece belongs to its cues, to the pauses between, to a lead without speech, or to `cut`."""
    for window in packed(segments, Limits(), seed):
        for piece in window.pieces:
            others = [s for s in segments if s.recording == piece.recording and s not in piece.segments]
            heard = [s for s in others if s.start_s < piece.end_s - SLACK_S and s.end_s > piece.start_s + SLACK_S]
            assert heard == ([piece.cut] if piece.cut else [])
            assert piece.segments[0].start_s - 1 <= piece.start_s <= piece.segments[0].start_s


@given(recordings(), st.integers(0, 2**32 - 1))
def test_pieces_follow_each_other_on_the_grid(segments: list[Segment], seed: int) -> None:
    for window in packed(segments, Limits(), seed):
        end_s = 0.0
        for piece in window.pieces:
            assert piece.offset_s == pytest.approx(round(piece.offset_s / GRID_S) * GRID_S)
            assert piece.offset_s >= end_s - SLACK_S
            end_s = piece.offset_s + piece.duration_s
        assert end_s <= WINDOW_S + 2 * SLACK_S
        assert len({(s.language, s.task) for s in window.segments}) == 1


@given(recordings(), st.integers(0, 2**32 - 1))
def test_neighbours_stay_together(segments: list[Segment], seed: int) -> None:
    """Two cues in a row are parted only where the second one would not fit, or must not follow."""
    limits = Limits()
    pieces = cut(segments, limits, count_words, np.random.default_rng(seed))
    by_id = {segment.id: piece for piece in pieces for segment in piece.segments}
    for before, after in pairwise(segments):
        first, second = by_id[before.id], by_id[after.id]
        if first is second or not after.continues or before.language != after.language:
            continue
        too_late = after.end_s - first.start_s > WINDOW_S + SLACK_S
        too_many = first.tokens + words(after) + 3 > limits.max_tokens
        assert too_late or too_many or after.start_s - before.end_s > limits.max_gap_s


def chain(*cues: tuple[float, float], count: int = 2) -> list[Segment]:
    return [
        Segment(
            id=str(row),
            recording=Path("talk.mp3"),
            start_s=start_s,
            end_s=end_s,
            text=" ".join(["word"] * count),
            language="sv",
            continues=row > 0,
        )
        for row, (start_s, end_s) in enumerate(cues)
    ]


def pieces_of(segments: list[Segment], limits: Limits | None = None) -> list[Piece]:
    return cut(segments, limits or Limits(), count_words, np.random.default_rng(0))


def test_a_cue_over_the_end_is_announced_and_begins_the_next_window() -> None:
    segments = chain((0, 10), (11, 25), (27, 33), (34, 40))
    first, second = pieces_of(segments)
    assert (first.start_s, first.end_s, first.written_end_s) == (0, 30, 25)
    assert first.cut == segments[2]
    assert [s.id for s in second.segments] == ["2", "3"]
    assert (second.start_s, second.end_s, second.cut) == (27, 40, None)
    assert second.previous == ("word word", "word word")


def test_a_cue_left_for_its_tokens_is_not_heard() -> None:
    segments = chain((0, 5), (6, 10), count=120)
    first, second = pieces_of(segments)
    assert (first.end_s, first.cut) == (5, None)
    assert second.start_s == 6


def test_a_long_pause_ends_a_stretch_and_a_short_one_is_heard() -> None:
    assert len(pieces_of(chain((0, 5), (11, 15)))) == 2
    (piece,) = pieces_of(chain((0, 5), (9, 15)))
    assert (piece.start_s, piece.end_s) == (0, 15)


def test_a_segment_that_fits_no_window_is_an_error() -> None:
    with pytest.raises(DataError, match="too long"):
        pieces_of(chain((0, 31)))
    with pytest.raises(DataError, match="too long"):
        pieces_of(chain((0, 5), count=218))
    assert len(pieces_of(chain((0, 5), count=217))) == 1  # two timestamps and the end make 220


def test_loose_utterances_fill_windows() -> None:
    lengths = np.random.default_rng(1).uniform(1, 6, 400)
    segments = [Segment(str(n), Path(f"{n}.wav"), 0.0, float(length), "a b", "ln") for n, length in enumerate(lengths)]
    windows = packed(segments, Limits())
    assert sum(lengths) / (WINDOW_S * len(windows)) > 0.97


@given(recordings(), st.integers(0, 2**32 - 1))
def test_pieces_of_a_pass_can_be_asked_for_in_any_order(segments: list[Segment], seed: int) -> None:
    cutter = Cutter(SegmentTable.of(segments), Limits(), count_words)
    cuts = cutter.cut(np.random.default_rng(seed))
    backwards = [cutter.piece(cuts, index) for index in reversed(range(len(cuts)))]
    assert backwards[::-1] == cut(segments, Limits(), count_words, np.random.default_rng(seed))
    assert cuts.lengths.tolist() == [len(piece.segments) for piece in backwards[::-1]]


def test_only_texts_that_may_be_too_long_are_counted() -> None:
    counted: list[str] = []

    def count(segments: Sequence[Segment]) -> NDArray[np.int32]:
        counted.extend(segment.id for segment in segments)
        return count_words(segments)

    texts = ["a" * 216, "a" * 217, "b " * 300, "é" * 109]
    table = SegmentTable.of(Segment(str(row), Path("x.wav"), 0, 1, text, "sv") for row, text in enumerate(texts))
    assert fits(table, Limits(), count).tolist() == [True, True, False, True]
    assert counted == ["1", "2", "3"]
