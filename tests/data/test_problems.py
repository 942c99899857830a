"""Dropped rows: written down, told, and too many bad ones refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from whispertune.data.problems import check_share, summary, write_dropped
from whispertune.data.segments import Problem, Segment, SourceData
from whispertune.errors import DataError


def data(used: int, *problems: Problem) -> SourceData:
    segments = tuple(Segment(f"a:{n}", Path("a.wav"), 0.0, 3.6, "x", "en") for n in range(used))
    return SourceData(segments, problems)


BAD = (
    Problem("a.vtt:3", "empty cue", "the cue has no text"),
    Problem("a.vtt:9", "overlapping cue", "starts 0.50 s before the cue before it ends", 36.0, "talks/"),
    Problem("b.vtt:4", "overlapping cue", "starts 0.10 s before the cue before it ends", 7.20049),
    Problem("caf\u00e9\udcff.vtt", "past the end", "ends at 9.00 s"),
)


def test_dropped_rows_are_written_as_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "dropped.jsonl"
    write_dropped(path, BAD[:3])
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [row["line"] for row in rows] == [3, 9, 4]
    assert [row["seconds"] for row in rows] == [None, 36.0, 7.2]
    assert rows[1] == {
        "source": "talks/",
        "where": "a.vtt:9",
        "line": 9,
        "reason": "overlapping cue",
        "detail": "starts 0.50 s before the cue before it ends",
        "seconds": 36.0,
    }
    write_dropped(path, BAD[3:], append=True)
    last = json.loads(path.read_text("utf-8").splitlines()[3])
    assert (last["where"], last["line"]) == ("caf\u00e9\udcff.vtt", None)
    write_dropped(path, ())
    assert path.read_text() == ""


def test_the_summary_counts_rows_and_hours_by_reason_with_an_example_each() -> None:
    assert summary(data(1000), "dev") == "dev: 1,000 rows used, 1.00 h of audio"
    assert summary(data(1, *BAD[:3]), "train").splitlines() == [
        "train: 1 row used, 0.00 h of audio",
        "  3 rows dropped (75.0%), 0.01 h:",
        "       2  overlapping cue, 0.01 h, e.g. a.vtt:9: starts 0.50 s before the cue before it ends",
        "       1  empty cue, e.g. a.vtt:3: the cue has no text",
    ]


def test_too_many_are_refused() -> None:
    check_share(data(57, *BAD[:3]), 0.05, "train")
    check_share(data(0), 0.0, "train")
    with pytest.raises(DataError) as caught:
        check_share(data(56, *BAD), 0.05, "train")
    said = str(caught.value)
    assert said.startswith("train: 4 of 60 rows cannot be used (6.7%; the limit is 5.0%): 2 overlapping cue, ")
    assert "a.vtt:3: the cue has no text" in said
    assert "b.vtt:4" in said
    assert "caf" not in said
    assert "`whispertune inspect RECIPE` lists" in said
    assert "data.max_bad_share" in said


def test_what_the_recipe_leaves_out_is_not_bad() -> None:
    asked = [Problem(f"a.tsv:{n}", "one text too often", "clean.max_same_text is 1") for n in range(50)]
    check_share(data(50, *asked), 0.05, "train")
    with pytest.raises(DataError, match=r"4 of 54 rows cannot be used \(7\.4%.*2 overlapping cue"):
        check_share(data(0, *asked, *BAD), 0.05, "train")
