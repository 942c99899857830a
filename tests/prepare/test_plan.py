"""Plans: which rows go into which shard, what sources and recordings are called."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whispertune.data.segments import Embedded, Segment
from whispertune.data.table import SegmentTable
from whispertune.prepare.plan import SHARD_S, SHARDS_WANTED, SMALLEST_SHARD_S, _ranges
from whispertune.prepare.rows import NamedTable, linked, read_rows, recording_name, write_rows
from whispertune.recipe import SourceTable
from whispertune.sources_of import kind_and_location, label, source_spec

MAX_GAP_S = 5.0


@st.composite
def tables(draw: st.DrawFn) -> SegmentTable:
    """Rows in chains and loose, up to some 20 hours."""
    lengths = draw(st.lists(st.floats(0.2, 30.0), min_size=1, max_size=60)) * draw(st.integers(1, 40))
    continues = draw(st.lists(st.booleans(), min_size=1, max_size=50))
    segments, at_s = [], 0.0
    for row, length_s in enumerate(lengths):
        follows = row > 0 and continues[row % len(continues)]
        segments.append(Segment(str(row), Path("a.wav"), at_s, at_s + length_s, "x", "sv", continues=follows))
        at_s += length_s + 0.5
    return SegmentTable.of(segments)


@settings(max_examples=60, deadline=None)
@given(table=tables())
def test_every_row_is_in_one_shard_and_chains_stay_whole(table: SegmentTable) -> None:
    named = (NamedTable(table, "a", Path()),)
    ranges = list(_ranges(named, MAX_GAP_S))
    assert [ranges[0][0], *(end for _, end in ranges)] == [0, *(first for first, _ in ranges[1:]), len(table)]
    assert all(first < end for first, end in ranges)
    mean_s = table.seconds / len(ranges)
    longest_s = max((float(table.durations_s[a:b].sum()) for a, b in ranges), default=0.0)
    assert longest_s <= SHARD_S * 1.5 + 30
    assert len(ranges) == 1 or mean_s >= SMALLEST_SHARD_S
    assert len(ranges) <= max(SHARDS_WANTED, table.seconds / SHARD_S + 1)
    follows = linked(table, MAX_GAP_S)
    starts = [*np.flatnonzero(~follows).tolist(), len(table)]
    for first, _ in ranges[1:]:
        if follows[first]:  # only a chain that is long beside a shard is cut
            chain = next((a, b) for a, b in pairwise(starts) if a < first < b)
            assert table.durations_s[chain[0] : chain[1]].sum() > mean_s / 3


@settings(max_examples=25, deadline=None)
@given(table=tables(), data=st.data())
def test_rows_come_back_from_disk(
    table: SegmentTable, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.arrow"
    write_rows(path, [NamedTable(table, "first", Path()), NamedTable(table, "second", Path())], MAX_GAP_S)
    first = data.draw(st.integers(0, 2 * len(table)))
    end = data.draw(st.integers(first, 2 * len(table)))
    found = list(read_rows(path, first, end))
    assert [row.segment.id for row in found] == [str(row % len(table)) for row in range(first, end)]
    assert [row.source for row in found] == ["first" if row < len(table) else "second" for row in range(first, end)]
    for row, number in zip(found, range(first, end), strict=True):
        segment = table[number % len(table)]
        assert (row.segment.start_s, row.segment.end_s) == (segment.start_s, segment.end_s)
        assert row.segment.recording == Path("a.wav").absolute()


@pytest.mark.parametrize(
    ("recording", "name"),
    [
        (Path("/data/talks/day1/a.wav"), "day1/a.wav"),
        (Embedded(Path("/cache/x.parquet"), 3, "audio", "clips/7.mp3"), "clips/7.mp3"),
        (Embedded(Path("/cache/x.parquet"), 3, "audio", "/home/me/7.mp3"), "7.mp3"),
    ],
)
def test_recordings_are_named_without_the_machine(recording: Path | Embedded, name: str) -> None:
    assert recording_name(recording, Path("/data/talks")) == name


def test_recordings_outside_their_source_stay_apart() -> None:
    names = {recording_name(Path(f"/home/me/{day}/a.wav"), Path("/data/talks")) for day in ("monday", "tuesday")}
    assert len(names) == 2
    assert all("me" not in name.split("/") and name.endswith("/a.wav") for name in names)


@pytest.mark.parametrize(
    ("source", "called", "split"),
    [
        ("/home/me/talks", "talks", ("", "/home/me/talks")),
        ("kaldi:/home/me/data/train", "kaldi:train", ("kaldi", "/home/me/data/train")),
        ("hub:google/fleurs:sv_se:train", "hub:google/fleurs:sv_se:train", ("hub", "google/fleurs:sv_se:train")),
    ],
)
def test_sources_are_called_without_the_machine(source: str, called: str, split: tuple[str, str]) -> None:
    assert label(SourceTable(source=source)) == called
    assert kind_and_location(source) == split


def test_a_table_says_more_than_the_recipe() -> None:
    table = SourceTable(source="a", language="da", columns={"text": "said", "audio": "clip"}, limit_rows=3)
    spec = source_spec(table, language="sv", task="translate", origin="data.train.0")
    assert (spec.language, spec.task, spec.limit_rows) == ("da", "translate", 3)
    assert spec.column("text") == "said"
    assert (spec.origin, spec.outside) == ("data.train.0", False)
