"""Options that several commands have: what is decoded, and how.

def evaluate(language: Language = None, beams: Beams = 1) -> None: ...
"""

from __future__ import annotations

from typing import Annotated

import typer

Language = Annotated[str | None, typer.Option(help="What is spoken, for rows that name none.")]
Task = Annotated[str | None, typer.Option(help="transcribe or translate, for rows that name none.")]
Engine = Annotated[str, typer.Option(help="ctranslate2 or transformers.")]
Beams = Annotated[int, typer.Option(min=1, help="Beams of the search.")]
Batch = Annotated[int, typer.Option(min=1, help="Clips decoded at once.")]
Context = Annotated[
    str, typer.Option(help="full: 30 s; fit: clips cut to what is spoken; auto: fit where it was trained.")
]
Normalizer = Annotated[
    str | None,
    typer.Option(
        help="Of all rows, instead of that of each one's language: basic, english, indic, arabic or characters; "
        "options after plus signs, as in arabic+alef+digits."
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Use only the first rows.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
