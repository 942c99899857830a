"""Rows that a dataset leaves out: written down, and too many that cannot be used an error.

write_dropped(out, {"train": problems})                                # out/dropped.jsonl
check_bad_shares({"train": problems}, {"train": 4000}, 0.05, out)      # DataError; dropped.jsonl says which rows

What the recipe asks to leave out (clean.markup, max_same_text, duplicates, leakage) is written down and not counted.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from whispertune.data.problems import ASKED_FOR
from whispertune.data.segments import Problem
from whispertune.data.sources.dataset import SPLITS
from whispertune.errors import DataError
from whispertune.files import writing
from whispertune.prepare.shards import write_whole

DROPPED = "dropped.jsonl"
NAMES = {hub: name for name, hub in SPLITS.items()}  # the recipe's, by the hub's

_FOLDERS = re.compile(r"(?<![\w.:/])/(?:[^/\s:]+/)+")  # of an absolute path
_LINE = re.compile(r":(\d+)$")

Problems = Mapping[str, Sequence[Problem]]  # of each split


def write_dropped(out: Path, problems: Problems) -> None:
    """One JSON object a row: those of a run's dropped.jsonl, and its split; without the folders of this machine."""
    lines = [
        json.dumps(_row(split, each), ensure_ascii=False) + "\n"
        for split, of_split in problems.items()
        for each in of_split
    ]
    with writing(out / DROPPED):
        write_whole(out / DROPPED, "".join(lines).encode("utf-8", "backslashreplace"))


def check_bad_shares(problems: Problems, rows: Mapping[str, int], max_bad_share: float, out: Path) -> None:
    """See that of no split more than `max_bad_share` of its rows, bad ones among them, cannot be used.

    Raises:
        DataError: so many of a split cannot; all that were found are written down.
    """
    for split, of_split in problems.items():
        bad = [each for each in of_split if each.kind not in ASKED_FOR]
        if len(bad) > max_bad_share * rows[split]:
            write_dropped(out, problems)
            raise _too_many(bad, rows[split], max_bad_share, split, out)


def _too_many(bad: Sequence[Problem], rows: int, max_bad_share: float, split: str, out: Path) -> DataError:
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in Counter(each.kind for each in bad).most_common(3))
    examples = "".join(f"\n    {each.where}: {each.detail}" for each in bad[:3])
    limit = f"{len(bad) / rows:.1%}; the limit is {max_bad_share:.1%}"
    return DataError(
        f"{len(bad):,} of {rows:,} rows cannot be used ({limit}): {kinds}{examples}",
        where=f"data.{NAMES.get(split, split)}",
        fix=f"repair them ({out / DROPPED} names all that were found), or raise data.max_bad_share in the recipe if "
        "they may be left out",
    )


def _row(split: str, problem: Problem) -> dict[str, str | int | float | None]:
    line = _LINE.search(problem.where)
    return {
        "split": split,
        "source": problem.source,
        "where": _FOLDERS.sub("", problem.where),
        "line": int(line[1]) if line else None,
        "kind": problem.kind,
        "reason": problem.kind,
        "detail": _FOLDERS.sub("", problem.detail),
        "seconds": None if problem.seconds is None else round(problem.seconds, 3),
    }
