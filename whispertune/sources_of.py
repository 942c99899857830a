"""From a recipe's table of a source to what the source is asked for, and to what others may call it.

spec = source_spec(table, language=recipe.language, task=recipe.task, origin="data.train.0")
label(table)                                        # "kaldi:train" for kaldi:/home/me/data/train
"""

from __future__ import annotations

from pathlib import Path

from whispertune.data.segments import SourceSpec
from whispertune.recipe import REMOTE, SourceTable, kind_and_location


def source_spec(table: SourceTable, *, language: str | None, task: str, origin: str) -> SourceSpec:
    """What to read; `language` and `task` are the recipe's, for a table that names none."""
    return SourceSpec(
        location=table.source,
        language=table.language or language,
        task=table.task or task,
        limit_rows=table.limit_rows,
        limit_hours=table.limit_hours,
        columns=tuple(sorted(table.columns.items())),
        outside=table.outside,
        origin=origin,
    )


def label(table: SourceTable) -> str:
    """The source without the folders of this machine."""
    kind, location = kind_and_location(table.source)
    if kind in REMOTE:
        return table.source
    name = Path(location).name or "source"
    return f"{kind}:{name}" if kind else name
