"""Rows that could not be used: written down, told in a few lines, and too many of them an error.

write_problems(run / "problems.jsonl", data.problems)
print(summary(data, "train"))
check_share(data, max_bad_share=0.05, name="train")     # DataError where more than 5 % are bad
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from whispertune.data.segments import Problem, SourceData
from whispertune.errors import DataError

_KINDS_NAMED = 3


def write_problems(path: Path, problems: Iterable[Problem], *, append: bool = False) -> None:
    """One JSON object a line: where, kind, detail."""
    rows = ({"where": problem.where, "kind": problem.kind, "detail": problem.detail} for problem in problems)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    with path.open("a" if append else "w", encoding="utf-8", errors="backslashreplace", newline="\n") as lines:
        lines.write(text)  # odd file names are escaped


def summary(data: SourceData, name: str) -> str:
    """Rows used and hours; unusable rows by kind, each kind with its first example."""
    lines = [f"{name}: {_rows(len(data.segments))} used, {data.seconds / 3600:.2f} h of audio"]
    if data.problems:
        lines.append(f"  {_rows(len(data.problems))} cannot be used ({data.bad_share:.1%}):")
    for kind, count in data.counts().most_common():
        lines.append(f"  {count:>6,}  {kind}, e.g. {_told(_first(data, kind))}")
    return "\n".join(lines)


def check_share(data: SourceData, max_bad_share: float, name: str) -> None:
    """Raise where more than `max_bad_share` of the rows cannot be used."""
    if data.bad_share <= max_bad_share:
        return
    worst = ", ".join(f"{count:,} {kind}" for kind, count in data.counts().most_common(_KINDS_NAMED))
    examples = "".join(f"\n    {_told(problem)}" for problem in data.problems[:3])
    total = _rows(len(data.segments) + len(data.problems))
    raise DataError(
        f"{len(data.problems):,} of {total} cannot be used ({data.bad_share:.1%}; the limit is "
        f"{max_bad_share:.1%}): {worst}{examples}",
        where=name,
        fix="repair these rows, or raise data.max_bad_share in the recipe if they may be left out",
    )


def _first(data: SourceData, kind: str) -> Problem:
    return next(problem for problem in data.problems if problem.kind == kind)


def _told(problem: Problem) -> str:
    return f"{problem.where}: {problem.detail}"


def _rows(count: int) -> str:
    return f"{count:,} row" if count == 1 else f"{count:,} rows"
