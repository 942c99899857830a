"""Segments as columns: what goes in comes out, in any order, joined or in part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whispertune.data.segments import Embedded, Held, Recording, Segment
from whispertune.data.table import Files, SegmentTable, as_table, prefixed, strings

recordings: st.SearchStrategy[Recording] = st.one_of(
    st.sampled_from([Path("a.wav"), Path("b/c.mp3")]),
    st.builds(Embedded, st.just(Path("x.arrow")), st.integers(0, 9), st.just("audio"), st.just("x")),
    st.builds(Held, st.sampled_from("hij"), st.just(b"1")),
)
times = st.floats(0, 1e5, allow_nan=False)
segments = st.lists(
    st.builds(
        Segment,
        id=st.text(max_size=5),
        recording=recordings,
        start_s=times,
        end_s=times,
        text=st.text(max_size=9),
        language=st.sampled_from(["sv", "ln"]),
        task=st.sampled_from(["transcribe", "translate"]),
        speaker=st.none() | st.sampled_from(["Anna", ""]),
        continues=st.booleans(),
        lead_s=times,
    ),
    max_size=12,
)


@given(segments, segments)
def test_rows_come_back(first: list[Segment], second: list[Segment]) -> None:
    table, other = SegmentTable.of(first), SegmentTable.of(second)
    assert list(table) == first
    assert as_table(table) is table
    joined = SegmentTable.join([table, other, table])
    assert list(joined) == first + second + first
    assert joined.seconds == pytest.approx(sum(each.duration_s for each in joined))
    assert list(joined[1:-1]) == (first + second + first)[1:-1]
    assert joined.recording_names().to_pylist() == [
        str(each.recording) if isinstance(each.recording, Path) else each.recording.name for each in joined
    ]


@given(segments, st.data())
def test_rows_can_be_taken(rows: list[Segment], data: st.DataObject) -> None:
    table = SegmentTable.of(rows)
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=20) if rows else st.just([]))
    taken = table.take(chosen)
    assert list(taken) == [rows[index] for index in chosen]
    assert list(taken.take(range(len(chosen))[::-1])) == [rows[index] for index in chosen][::-1]
    assert taken.recording_names().to_pylist() == [table.recording_names()[index].as_py() for index in chosen]


@given(segments, st.data())
def test_no_chain_goes_on_behind_a_row_that_is_left_out(rows: list[Segment], data: st.DataObject) -> None:
    keep = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    left = list(SegmentTable.of(rows).where(np.array(keep, dtype=np.bool_)))
    expected = [
        replace(row, continues=row.continues and (index == 0 or keep[index - 1]))
        for index, row in enumerate(rows)
        if keep[index]
    ]
    assert left == expected


def test_the_fingerprint_knows_what_is_said_where() -> None:
    rows = [Segment(f"{n}", Path("a.wav"), n, n + 1, f"text {n}", "sv") for n in range(5)]
    known = SegmentTable.of(rows).fingerprint()
    assert SegmentTable.join([SegmentTable.of(rows[:2]), SegmentTable.of(rows[2:])]).fingerprint() == known
    assert SegmentTable.of([rows[0], *rows])[1:].fingerprint() == known
    changes = {"id": "x", "start_s": 0.5, "end_s": 9.0, "text": "texts", "language": "nn", "task": "translate"}
    found = {
        SegmentTable.of([replace(rows[0], **{key: value}), *rows[1:]]).fingerprint() for key, value in changes.items()
    }
    assert len(found | {known}) == len(changes) + 1
    moved = [replace(rows[0], text="text 0t"), replace(rows[1], text="ext 1"), *rows[2:]]
    assert SegmentTable.of(moved).fingerprint() != known
    assert SegmentTable.of(()).fingerprint() == SegmentTable.of([]).fingerprint()


def test_a_row_behind_the_last_is_an_index_error() -> None:
    table = SegmentTable.of([Segment("1", Path("a.wav"), 0, 1, "a", "sv")])
    assert table[-1] == table[0]
    with pytest.raises(IndexError):
        _ = table[1]


def test_ids_of_several_sources_differ_by_their_prefix() -> None:
    table = SegmentTable.of([Segment("1", Path("a.wav"), 0, 1, "a", "sv")])
    assert [row.id for row in prefixed(table, "3/")] == ["3/1"]
    files = replace(table, recordings=Files(strings(["x.wav"])))
    assert files[0].recording == Path("x.wav")


def test_tables_with_columns_of_other_types_are_joined() -> None:
    """Readers make their columns in their own ways."""
    table = SegmentTable.of([Segment("1", Path("a.wav"), 0, 1, "a", "sv", speaker="Anna")])
    small = pa.dictionary(pa.int8(), pa.string())
    other = replace(
        table,
        ids=table.ids.cast(pa.string()),
        texts=table.texts.cast(pa.string()),
        languages=table.languages.cast(pa.string()).dictionary_encode(),
        speakers=pa.array([None], pa.string()).cast(small),
    )
    joined = SegmentTable.join([table, other, table])
    assert [row.speaker for row in joined] == ["Anna", None, "Anna"]
    assert [row.id for row in prefixed(other, "3/")] == ["3/1"]
    assert joined.distinct("languages") == ["sv"]
