"""From a recipe's table of a source to what the source is asked for, and to what others may call it.

spec = source_spec(table, language=recipe.language, task=recipe.task, origin="data.train.0")
label(table)                                        # "kaldi:train" for kaldi:/home/me/data/train
"""

from __future__ import annotations

from pathlib import Path

from whispertune.data.segments import SourceSpec
from whispertune.errors import RecipeError
from whispertune.languages import code_of, is_tag, nearest
from whispertune.recipe import REMOTE, SourceTable, kind_and_location


def source_spec(
    table: SourceTable, *, language: str | None, task: str, origin: str, scored: bool = False, whole: bool = False
) -> SourceSpec:
    """What to read; `language` and `task` are the recipe's, for a table that names none.

    Of rows that are `scored` an empty text says that nothing is to be heard; to train on, such a row is a problem.
    Where `whole` recordings are transcribed, cues whose times would make no row are part of what is said.
    """
    written, key = (table.language, f"{origin}.language") if table.language else (language, "language")
    return SourceSpec(
        location=table.source,
        language=_code(written, key) if written else None,
        task=table.task or task,
        limit_rows=table.limit_rows,
        limit_hours=table.limit_hours,
        columns=tuple(sorted(table.columns.items())),
        outside=table.outside,
        empty_texts=scored,
        whole=whole,
        origin=origin,
    )


def _code(written: str, key: str) -> str:
    """Whisper's code; a code that it does not have stays, as not every use of data needs a model that has it."""
    code = code_of(written)
    if code is None and not is_tag(written):
        near = nearest(written)
        hint = f"the nearest: {', '.join(near)}; " if near else ""
        fix = f"{hint}for a language that Whisper does not know, borrow the code of a related one"
        raise RecipeError(f"Whisper has no language {written!r}", where=key, fix=fix)
    return code or written.strip()


def label(table: SourceTable) -> str:
    """The source without the folders of this machine."""
    kind, location = kind_and_location(table.source)
    if kind in REMOTE:
        return table.source
    name = Path(location).name or "source"
    return f"{kind}:{name}" if kind else name
