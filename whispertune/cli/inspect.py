"""`whispertune inspect`: what is in the data, in numbers and as a report to look at and listen to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from whispertune.inspect.numbers import Numbers
    from whispertune.inspect.run import Inspection

SUSPECTS_PRINTED = 10
TEXT_CHARACTERS = 60


def inspect(
    source: Annotated[str, typer.Argument(help="A folder, a manifest, kind:location, or a recipe.toml.")],
    model: Annotated[str | None, typer.Option(help="Count tokens with its tokenizer.")] = None,
    language: Annotated[str | None, typer.Option(help="What is spoken, for rows that name none.")] = None,
    task: Annotated[str | None, typer.Option(help="transcribe or translate, for rows that name none.")] = None,
    column: Annotated[list[str] | None, typer.Option(help="Where names differ: text=sentence")] = None,
    limit_rows: Annotated[int | None, typer.Option(min=1, help="Use only the first rows of each source.")] = None,
    suspects: Annotated[bool, typer.Option("--suspects", help="Rank rows by how badly text and audio agree.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Do not listen to the rows.")] = False,
    out: Annotated[Path, typer.Option(help="Where the report is written.")] = Path("report.html"),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Print what is in the data, and write a report with charts, samples to listen to, and the dropped rows.

    [bold]whispertune inspect hub:google/fleurs:sv_se:train[/bold]
    [bold]whispertune inspect recordings/ --language sv --model openai/whisper-small --suspects[/bold]
    [bold]whispertune inspect my-run/recipe.toml --json[/bold]
    """
    from whispertune.cli.screen import Screen, print_json
    from whispertune.inspect.run import Options, inspect_data
    from whispertune.inspect.sets import parse_columns

    options = Options(
        language=language,
        task=task,
        columns=parse_columns(column or []),
        limit_rows=limit_rows,
        model=model,
        suspects=suspects,
        quick=quick,
    )
    with Screen() as screen:
        found = inspect_data(source, options, out=out, reporter=screen)
    if json:
        print_json(found.as_json())
    else:
        _print(found)


def _print(found: Inspection) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print(_table(found.sets))
    notes = [*found.notes, *(note for numbers in found.sets for note in numbers.notes)]
    for note in notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    if found.suspects is not None:
        console.print(f"rows whose text and audio agree worst, of {found.suspects.ranked:,}:", markup=False)
        for each in found.suspects.worst[:SUSPECTS_PRINTED]:
            told = f"  {each.segment.id}: {each.segment.text[:TEXT_CHARACTERS]!r}; {each.reason}"
            console.print(told, markup=False, soft_wrap=True)
    console.print(f"report: {found.report}", markup=False, soft_wrap=True)


def _table(sets: tuple[Numbers, ...]) -> Table:
    """A column for each set, a line for each figure that any of them has."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from whispertune.inspect.figures import figures

    columns = [{figure.label: figure.value for figure in figures(numbers)} for numbers in sets]
    labels = list(dict.fromkeys(label for column in columns for label in column))
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    drawn.add_column("", no_wrap=True)
    for numbers in sets:
        drawn.add_column(Text(numbers.name), justify="right", overflow="fold")
    for label in labels:
        drawn.add_row(Text(label), *(Text(column.get(label, "")) for column in columns))
    return drawn
