"""`whispertune compare`: any number of models on the same data, who is better, and is it luck."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whispertune.cli.options import Batch, Beams, Context, Engine, Json, Language, Limit, Normalizer, Task

if TYPE_CHECKING:
    from whispertune.evaluation.compare import Compared


def compare(
    models: Annotated[list[str], typer.Argument(help="Two or more: runs, folders, hub names. Against the first.")],
    data: Annotated[str, typer.Option(help="A folder with metadata, a manifest, or captioned recordings.")],
    language: Language = None,
    task: Task = None,
    engine: Engine = "ctranslate2",
    beams: Beams = 1,
    batch: Batch = 8,
    context: Context = "auto",
    limit: Limit = None,
    normalizer: Normalizer = None,
    out: Annotated[Path | None, typer.Option(help="Write the table and a plot here, as an HTML page.")] = None,
    json: Json = False,
) -> None:
    """WER and CER of several models on the same rows, with intervals, and whether the others beat the first.

    [bold]whispertune compare openai/whisper-small run-a run-b --data data/test[/bold]
    [bold]whispertune compare bundled:whisper-base my-run --data data/test --out compared.html[/bold]
    """
    from whispertune.cli.screen import Screen, print_json
    from whispertune.drawing.page import check_target, write_page
    from whispertune.evaluation.compare import MAKER, page_of
    from whispertune.service.evaluate import Decoding, compare_models

    if out:
        check_target(out, MAKER)
    how = Decoding(language, task, engine, beams, batch, context, limit, normalizer)
    with Screen() as screen:
        rows = compare_models(models, data, how, reporter=screen)
    if out:
        write_page(out, page_of(rows, data))
    if json:
        print_json({"data": data, "models": [row.as_json() for row in rows]})
        return
    _print(rows)
    if out:
        typer.echo(f"written to {out}")


def _print(rows: Sequence[Compared]) -> None:
    from rich.console import Console
    from rich.table import Table

    from whispertune.evaluation.compare import cells, heads, told, verdicts

    titles = heads(rows)
    table = Table(caption=told(rows))
    for title in titles:
        table.add_column(title, justify="left" if title == "model" else "right")
    for row in rows:
        table.add_row(*cells(row, titles))
    Console(highlight=False).print(table)
    for sentence in verdicts(rows):
        typer.echo(sentence)
