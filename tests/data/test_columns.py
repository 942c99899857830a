"""Rows as columns: that they are judged, cleaned and linked as rows one by one are, and how many are read."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from whispertune.data.audio import AudioReader
from whispertune.data.captions import clean_text
from whispertune.data.segments import Problem, Segment, SourceData, SourceSpec
from whispertune.data.sources.cells import cleaned, mapped, text_column, time_column
from whispertune.data.sources.columns import RawRows, judge
from whispertune.data.sources.manifest import read_manifest
from whispertune.data.sources.rows import Spoken, link_columns, linked
from whispertune.errors import DataError

Row = tuple[int, str, str, float, float, bool]  # recording, task, language, start, end, used

tenths = st.integers(0, 60).map(lambda tenth: tenth / 10) | st.sampled_from([1.005, 1.01, 2.015, 2.02])
any_row = st.tuples(
    st.integers(0, 2), st.sampled_from(["transcribe", "translate"]), st.sampled_from(["en", "sv"]), tenths,
    tenths | st.just(math.inf), st.booleans(),
)  # fmt: skip


def one_by_one(rows: Sequence[Row]) -> list[tuple[float, bool, float]]:
    found: list[tuple[float, bool, float]] = []
    for recording in sorted({row[0] for row in rows}):
        spoken = [
            Spoken(start, end, Segment("", Path(), start, end, "", language, task) if used else None)
            for of, task, language, start, end, used in rows
            if of == recording
        ]
        found += [(segment.start_s, segment.continues, segment.lead_s) for segment in linked(spoken)]
    return found


@given(rows=st.lists(any_row, max_size=14))
def test_rows_are_linked_as_one_by_one(rows: list[Row]) -> None:
    used_to_the_end = [(*row[:4], min(row[4], 7.0), True) if row[5] else row for row in rows]
    ordered = sorted(used_to_the_end, key=lambda row: row[:4])
    recordings, tasks, languages, starts, ends, used = (
        zip(*ordered, strict=True) if ordered else ((),) * 6
    )  # fmt: skip
    names = sorted(set(zip(tasks, languages, strict=True)))
    chains = [names.index(pair) for pair in zip(tasks, languages, strict=True)]
    kept = np.array(used, dtype=np.bool_)
    links = link_columns(
        np.array(recordings, dtype=np.int64),
        np.array(chains, dtype=np.int64),
        np.array(starts, dtype=np.float64),
        np.array(ends, dtype=np.float64),
        kept,
    )
    columns = (links.start_s[kept].tolist(), links.continues[kept].tolist(), links.lead_s[kept].tolist())
    assert list(zip(*columns, strict=True)) == one_by_one(ordered)


spaces = st.text(alphabet=" \t\n\x00\x1c\x85\xa0\u2003\u3000a\u00e9e\u0301\u1100\u1161\U0001f600", max_size=8)


@given(texts=st.lists(st.none() | st.text(max_size=8) | spaces, max_size=5))
def test_text_is_cleaned_as_one_by_one(texts: list[str | None]) -> None:
    assert cleaned(text_column(texts)).to_pylist() == [clean_text(text or "") for text in texts]


numbers = st.floats().map(repr) | st.sampled_from(["", " ", "5 ", "+5", "soon", "1e3", "1_0", "0x1", "-0.0", "\u0665"])


@given(texts=st.lists(st.none() | numbers, max_size=5))
def test_times_are_read_as_one_by_one(texts: list[str | None]) -> None:
    def one(text: str | None) -> tuple[float | None, bool]:
        if text is None or not text.strip():
            return None, False
        try:
            seconds = float(text)
        except ValueError:
            return None, True
        return (seconds, False) if 0 <= seconds < math.inf else (None, True)

    column = time_column(texts, len(texts))
    found = [None if math.isnan(seconds) else seconds for seconds in column.seconds.tolist()]
    assert list(zip(found, column.wrong.tolist(), strict=True)) == [one(text) for text in texts]


def test_times_may_be_of_several_kinds() -> None:
    column = time_column([1, 2.5, None, "3", "x", ""], 6)
    assert column.wrong.tolist() == [False, False, False, False, True, False]
    assert np.nan_to_num(column.seconds, nan=-1).tolist() == [1, 2.5, -1, 3, -1, -1]


def test_values_are_mapped_once() -> None:
    asked: list[str] = []

    def change(value: str) -> str | None:
        asked.append(value)
        return value.upper() or None

    column = mapped(["a", None, "b", "a", ""], 5, change, "Z")
    assert column.to_pylist() == ["A", "Z", "B", "A", "Z"]
    assert sorted(asked) == ["", "a", "b"]
    assert mapped(None, 2, change, None).to_pylist() == [None, None]


def clip(path: Path, duration_s: float) -> Path:
    soundfile.write(path, 0.1 * np.sin(np.arange(round(duration_s * 8000)) / 5), 8000)
    return path


def judged(
    folder: Path, reader: AudioReader, audio: list[str], spec: SourceSpec | None = None, **more: Any
) -> SourceData:
    count = len(audio)
    raw = RawRows(folder / "m.csv", folder, list(range(1, count + 1)), audio, [f"t{number}" for number in range(count)])
    return judge(replace(raw, **more), spec or SourceSpec(str(folder), language="en"), reader)


def test_stated_times_of_many_recordings_are_trusted(
    tmp_path: Path, reader: AudioReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        clip(tmp_path / f"{number}.wav", 2.0)
    (tmp_path / "broken.wav").write_text("no audio")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "linked.wav").symlink_to(tmp_path / "1.wav")
    names = ["0.wav", "1.wav", "2.wav", "broken.wav", "none/x.wav", "none.wav", "folder.wav", "linked.wav"]
    ends = [1.0, None, 5.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    checked = judged(tmp_path, reader, names, end_s=ends)
    kinds = [problem.kind for problem in checked.problems]
    assert kinds == ["past the end", "recording does not decode", *["missing file"] * 3]
    assert checked.notes == ()
    monkeypatch.setattr("whispertune.data.sources.columns.PROBED_RECORDINGS", 2)
    monkeypatch.setattr("whispertune.data.sources.paths.MANY_FILES", 2)
    trusted = judged(tmp_path, reader, names, end_s=ends)
    assert [(problem.where[-2:], problem.kind) for problem in trusted.problems] == [
        (f":{line}", "missing file") for line in (5, 6, 7)
    ]
    assert [segment.end_s for segment in trusted.segments] == [1.0, 2.0, 5.0, 1.0, 1.0]
    assert "8 recordings" in trusted.notes[0]


def test_limits(tmp_path: Path, reader: AudioReader) -> None:
    clip(tmp_path / "a.wav", 3.0)
    names = ["a.wav", "none.wav", "a.wav", "none.wav", "a.wav", "none.wav"]
    malformed = tuple(Problem(f"{tmp_path / 'm.csv'}:{line}", "malformed row", "x") for line in (2, 5))

    def used(**limit: Any) -> tuple[list[str], list[int]]:
        spec = SourceSpec(str(tmp_path), language="en", **limit)
        data = judged(tmp_path, reader, names, spec, problems=malformed)
        return [one.text for one in data.segments], [int(one.where.rpartition(":")[2]) for one in data.problems]

    assert used() == (["t0", "t2", "t4"], [2, 2, 4, 5, 6])
    assert used(limit_rows=2) == (["t0", "t2"], [2, 2])
    assert used(limit_hours=6.0 / 3600) == (["t0", "t2"], [2, 2])
    assert used(limit_hours=8.9 / 3600) == (["t0", "t2"], [2, 2])
    assert used(limit_hours=9.0 / 3600) == used(limit_rows=5) == used()
    assert used(limit_rows=1, limit_hours=1.0) == (["t0"], [])


def test_limits_over_many_blocks(tmp_path: Path, reader: AudioReader, monkeypatch: pytest.MonkeyPatch) -> None:
    clip(tmp_path / "a.wav", 3.0)
    monkeypatch.setattr("whispertune.data.sources.columns._BLOCK_ROWS", 2)
    for limit in (1, 2, 3, 6, 7, 9):
        spec = SourceSpec(str(tmp_path), language="en", limit_rows=limit)
        assert len(judged(tmp_path, reader, ["a.wav"] * 7, spec).segments) == min(limit, 7)
        spec = SourceSpec(str(tmp_path), language="en", limit_hours=3 * limit / 3600)
        assert len(judged(tmp_path, reader, ["a.wav"] * 7, spec).segments) == min(limit, 7)


def test_ids(tmp_path: Path, reader: AudioReader) -> None:
    clip(tmp_path / "a.wav", 3.0)
    data = judged(tmp_path, reader, ["a.wav"] * 4, ids=["x", None, "y", "x"])
    assert [segment.id for segment in data.segments] == ["x", "m.csv:2", "y"]
    assert [(problem.kind, problem.detail) for problem in data.problems] == [
        ("given twice", "another row has the id 'x'")
    ]


def test_a_bad_row_takes_no_id(tmp_path: Path, reader: AudioReader) -> None:
    clip(tmp_path / "a.wav", 3.0)
    data = judged(tmp_path, reader, ["none.wav", "a.wav", "a.wav", "none.wav"], ids=["x", "x", "x", "x"])
    assert [segment.text for segment in data.segments] == ["t1"]
    assert [problem.kind for problem in data.problems] == ["missing file", "given twice", "missing file"]


def test_a_row_that_is_too_long_by_what_it_states(tmp_path: Path, reader: AudioReader) -> None:
    clip(tmp_path / "a.wav", 30.1)
    data = judged(tmp_path, reader, ["a.wav"] * 3, duration_s=[29.95, 30.05, None])
    assert [(segment.start_s, segment.end_s) for segment in data.segments] == [(0.0, 29.95)]
    assert [problem.kind for problem in data.problems] == ["longer than 30 s"] * 2
    assert [problem.seconds for problem in data.problems] == [pytest.approx(30.05), pytest.approx(30.1)]


def test_nothing_at_all_is_an_error(tmp_path: Path, reader: AudioReader) -> None:
    with pytest.raises(DataError, match=r"m\.csv: holds no rows"):
        judged(tmp_path, reader, [])
    only_bad = judged(tmp_path, reader, [], problems=(Problem(f"{tmp_path / 'm.csv'}:1", "malformed row", "x"),))
    assert (len(only_bad.segments), len(only_bad.problems)) == (0, 1)


wild_name = st.sampled_from(["a.wav", "./a.wav", "b.wav", "none.wav", "../a.wav", "", "b\0.wav", "b.wav/"])
wild_row = st.tuples(
    wild_name | st.none(), st.text(max_size=3) | st.none(),
    tenths | st.sampled_from(["x", "", -1, math.nan]) | st.none(), tenths | st.none(), tenths | st.none(),
    st.sampled_from(["sv", "en-US", "tlh", "", None]),
    st.sampled_from(["translate", "", "sing", None]),
)  # fmt: skip


@settings(deadline=None)
@given(rows=st.lists(wild_row, min_size=1, max_size=8))
def test_any_rows_are_used_or_named(
    tmp_path_factory: pytest.TempPathFactory, reader: AudioReader, rows: list[Any]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "wild"
    if not folder.exists():
        folder.mkdir()
        clip(folder / "a.wav", 3.0)
        clip(folder / "b.wav", 5.0)
    names, texts, starts, ends, durations, languages, tasks = (list(column) for column in zip(*rows, strict=True))
    columns: dict[str, Any] = {
        "start_s": starts,
        "end_s": ends,
        "duration_s": durations,
        "language": languages,
        "task": tasks,
    }
    if all(name == "../a.wav" for name in names):
        with pytest.raises(DataError, match="every row leads out"):
            judged(folder, reader, names, text=texts, **columns)
        return
    data = judged(folder, reader, names, text=texts, **columns)
    assert len(data.segments) + len(data.problems) == len(rows)
    used = {int(segment.id.rpartition(":")[2]) for segment in data.segments}
    bad = {int(problem.where.rpartition(":")[2]) for problem in data.problems}
    assert used | bad == set(range(1, len(rows) + 1))
    for segment in data.segments:
        assert 0 <= segment.start_s < segment.end_s <= (3.0 if segment.recording.name == "a.wav" else 5.0)
        assert 0 <= segment.lead_s <= segment.start_s
        assert segment.text


@pytest.mark.parametrize(
    ("change", "lead_s"),
    [
        ({"text": ""}, 0.2),  # it is heard until 8.8 s, and nothing follows the first
        ({"task": "sing"}, 0.2),
        ({"start": "abc"}, 0.0),  # nobody knows when it is heard
        ({"end": -5}, 0.0),
        ("no JSON", 0.0),
    ],
)
def test_what_is_said_in_a_row_that_goes_is_not_taken_for_silence(
    tmp_path: Path, reader: AudioReader, change: dict[str, Any] | str, lead_s: float
) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000 * 20), 16_000)
    rows = [
        {"file_name": "a.wav", "start": 1, "end": 5, "text": "first"},
        {"file_name": "a.wav", "start": 5.2, "end": 8.8, "text": "second"},
        {"file_name": "a.wav", "start": 9, "end": 12, "text": "third"},
        {"file_name": "a.wav", "start": 12.5, "end": 14, "text": "fourth"},
    ]
    lines = [json.dumps(row) for row in rows]
    lines[1] = change if isinstance(change, str) else json.dumps(rows[1] | change)
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    data = read_manifest(SourceSpec(str(tmp_path), language="en"), reader)
    assert [(s.text, s.continues, round(s.lead_s, 3)) for s in data.segments] == [
        ("first", False, 1.0),
        ("third", False, lead_s),
        ("fourth", True, 0.5),
    ]
    assert len(data.problems) == 1
