"""Unusable rows: written down, told, and too many of them refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from whispertune.data.problems import check_share, summary, write_problems
from whispertune.data.segments import Problem, Segment, SourceData
from whispertune.errors import DataError


def data(used: int, *problems: Problem) -> SourceData:
    segments = tuple(Segment(f"a:{n}", Path("a.wav"), 0.0, 3.6, "x", "en") for n in range(used))
    return SourceData(segments, problems)


BAD = (
    Problem("a.vtt:3", "empty cue", "the cue has no text"),
    Problem("a.vtt:9", "overlapping cue", "starts 0.50 s before the cue before it ends"),
    Problem("b.vtt:4", "overlapping cue", "starts 0.10 s before the cue before it ends"),
    Problem("caf\u00e9\udcff.vtt:4", "past the end", "ends at 9.00 s"),
)


def test_problems_are_written_as_jsonl(tmp_path: Path) -> None:
    write_problems(tmp_path / "problems.jsonl", BAD)
    rows = [json.loads(line) for line in (tmp_path / "problems.jsonl").read_text("utf-8").splitlines()]
    assert [Problem(**row) for row in rows] == list(BAD)
    write_problems(tmp_path / "problems.jsonl", ())
    assert (tmp_path / "problems.jsonl").read_text() == ""


def test_the_summary_counts_kinds_with_an_example_each() -> None:
    assert summary(data(1000), "dev") == "dev: 1,000 rows used, 1.00 h of audio"
    assert summary(data(1, *BAD[:3]), "train").splitlines() == [
        "train: 1 row used, 0.00 h of audio",
        "  3 rows cannot be used (75.0%):",
        "       2  overlapping cue, e.g. a.vtt:9: starts 0.50 s before the cue before it ends",
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
    assert "data.max_bad_share" in said
