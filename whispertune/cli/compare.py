"""`whispertune compare`: any number of models on the same data, who is better, and is it luck."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whispertune.cli.options import Batch, Beams, Context, Engine, Json, Language, Limit, Normalizer, Task

if TYPE_CHECKING:
    from rich.table import Table

    from whispertune.evaluation.compare import Compared, Figure


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

    Translations are judged by BLEU. The models after the first are compared with each other too.

    [bold]whispertune compare openai/whisper-small run-a run-b --data data/test[/bold]
    [bold]whispertune compare bundled:whisper-base my-run --data data/test --out compared.html[/bold]
    """
    from whispertune.cli.screen import Screen, print_json
    from whispertune.drawing.page import check_target, write_page
    from whispertune.evaluation.compare import MAKER, further, page_of
    from whispertune.service.evaluate import Decoding, compare_models

    if out:
        check_target(out, MAKER)
    how = Decoding(language, task, engine, beams, batch, context, limit, normalizer)
    with Screen() as screen:
        rows = compare_models(models, data, how, reporter=screen)
    if json:
        pairs = [{"first": each.first, "second": each.second, **each.as_json()} for each in further(rows)]
        print_json({"data": data, "models": [row.as_json() for row in rows], "pairs": pairs})
    else:
        _print(rows)
    if out:  # last: it may fail
        write_page(out, page_of(rows, data))
        if not json:
            typer.echo(f"written to {out}")


def _print(rows: Sequence[Compared]) -> None:
    """Two tables, which 80 columns have room for, and a sentence for each verdict."""
    from rich.console import Console

    from whispertune.evaluation.compare import extras, rates, told, verdicts

    errors = [(title, [_figure(each) for each in figures]) for title, figures in rates(rows)]
    console = Console(highlight=False)
    console.print(_table(rows, errors, f"{told(rows)} Below each figure stands its 95 % interval."))
    console.print(_table(rows, extras(rows)))
    for sentence in verdicts(rows):
        typer.echo(sentence)


def _table(rows: Sequence[Compared], columns: Sequence[tuple[str, Sequence[str]]], caption: str = "") -> Table:
    """A line a model, whose name is folded where it is too long; titles a word a line."""
    from rich.table import Table
    from rich.text import Text

    table = Table(caption=Text(caption) if caption else None)
    table.add_column("model", overflow="fold")
    for title, _ in columns:
        head = re.sub(r" (?!%)|(?<=[-/])", "\n", title)
        table.add_column(Text(head), justify="right", no_wrap=True)
    for place, name in enumerate(short_names([row.name for row in rows])):
        table.add_row(Text(name), *(values[place] for _, values in columns))
    return table


def _figure(found: Figure | None) -> str:
    """A figure with its interval below."""
    if found is None:
        return "–"
    value, (low, high) = found
    return f"{value:.1f}\n{low:.1f}–{high:.1f}"


def short_names(names: Sequence[str]) -> list[str]:
    """The names from where they differ on: without the folders, or the "bundled:", that all of them share."""
    parts = [re.findall(r"[^/\\:]*[/\\:]|[^/\\:]+", name) for name in names]
    shared = 0
    while all(len(each) > shared + 1 for each in parts) and len({each[shared] for each in parts}) == 1:
        shared += 1
    return ["".join(each[shared:]) for each in parts]
