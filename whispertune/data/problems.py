"""Rows that were dropped: written down, told in a few lines, and too many that cannot be used an error.

write_dropped(run / "dropped.jsonl", data.problems)
reasons_of(read_lines(run / "dropped.jsonl"))           # {"too short": 3}
print(summary(data, "train"))
check_share(data, max_bad_share=0.05, name="train")     # DataError where more than 5 % are bad
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from whispertune.data.segments import Problem, SourceData
from whispertune.errors import DataError

# Dropped because a key of the recipe says so (clean.markup, max_same_text, leakage, duplicates), not for being bad.
ASKED_FOR: Final = frozenset(
    {
        "markup",
        "nothing but markup",
        "one text too often",
        "also in dev",
        "also in test",
        "duplicate",
        "same audio twice",
    }
)

_KINDS_NAMED = 3
_LINE = re.compile(r":(\d+)$")


def write_dropped(path: Path, problems: Iterable[Problem], *, append: bool = False) -> None:
    """One JSON object a line: source, where, line (null where the row has none), reason, detail, seconds."""
    with path.open("a" if append else "w", encoding="utf-8", errors="backslashreplace", newline="\n") as lines:
        for problem in problems:
            lines.write(json.dumps(_row(problem), ensure_ascii=False) + "\n")  # odd file names are escaped


def _row(problem: Problem) -> dict[str, str | int | float | None]:
    line = _LINE.search(problem.where)
    return {
        "source": problem.source,
        "where": problem.where,
        "line": int(line[1]) if line else None,
        "reason": problem.kind,
        "detail": problem.detail,
        "seconds": None if problem.seconds is None else round(problem.seconds, 3),
    }


def reasons_of(dropped: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many rows what `write_dropped` wrote has for each reason, the most frequent first."""
    return dict(Counter(str(row["reason"]) for row in dropped if row.get("reason")).most_common())


def summary(data: SourceData, name: str) -> str:
    """Rows used and hours; dropped rows and hours by reason, each reason with its first example."""
    lines = [f"{name}: {_rows(len(data.segments))} used, {data.seconds / 3600:.2f} h of audio"]
    if data.problems:
        lines.append(f"  {_rows(len(data.problems))} dropped ({data.bad_share:.1%}){_hours(data.problems)}:")
    for kind, count in data.counts().most_common():
        of_kind = [problem for problem in data.problems if problem.kind == kind]
        lines.append(f"  {count:>6,}  {kind}{_hours(of_kind)}, e.g. {_told(of_kind[0])}")
    return "\n".join(lines)


def check_share(data: SourceData, max_bad_share: float, name: str) -> None:
    """Raise where more than `max_bad_share` of the rows cannot be used; what the recipe asked to leave out is none."""
    bad = [problem for problem in data.problems if problem.kind not in ASKED_FOR]
    total = len(data.segments) + len(data.problems)
    if not bad or len(bad) / total <= max_bad_share:
        return
    worst = ", ".join(f"{count:,} {kind}" for kind, count in _kinds(bad).most_common(_KINDS_NAMED))
    examples = "".join(f"\n    {_told(problem)}" for problem in bad[:3])
    raise DataError(
        f"{len(bad):,} of {_rows(total)} cannot be used ({len(bad) / total:.1%}; the limit is "
        f"{max_bad_share:.1%}): {worst}{examples}",
        where=name,
        fix="repair these rows, which `whispertune inspect RECIPE` lists in its report, or raise data.max_bad_share "
        "if they may be left out",
    )


def _kinds(problems: Iterable[Problem]) -> Counter[str]:
    return Counter(problem.kind for problem in problems)


def _hours(problems: Iterable[Problem]) -> str:
    """`, 0.25 h`; nothing where no length is known."""
    seconds = [problem.seconds for problem in problems if problem.seconds is not None]
    return f", {sum(seconds) / 3600:.2f} h" if seconds else ""


def _told(problem: Problem) -> str:
    return f"{problem.where}: {problem.detail}"


def _rows(count: int) -> str:
    return f"{count:,} row" if count == 1 else f"{count:,} rows"
