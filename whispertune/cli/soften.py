"""`whispertune soften`: weights between base and tuned that keep what the base could do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whispertune.cli.options import Json

if TYPE_CHECKING:
    from whispertune.service.soften import Softened


def soften(
    run: Annotated[Path, typer.Argument(help="A run that was trained.")],
    lambdas: Annotated[
        str | None, typer.Option(help="Shares of the way from base to tuned: 0.2,0.5,0.8 (else the recipe's).")
    ] = None,
    retention: Annotated[
        list[str] | None,
        typer.Option(help="What is to be kept, besides the recipe's: name=path, name=path:language, name=silence."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write softened/, soften.json and soften.html here.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Decode only so many rows of each set.")] = None,
    json: Json = False,
) -> None:
    """Mix base and tuned weights, score each mixture on dev and on what is to be kept, and write the best one.

    [bold]whispertune soften my-run --retention english=data/english:en[/bold]
    [bold]whispertune evaluate my-run/softened data/test[/bold]   what was chosen is a model like any other
    """
    from whispertune.cli.screen import Screen, print_json
    from whispertune.service.soften import parse_retention
    from whispertune.service.soften import soften as run_soften

    tables = [parse_retention(each) for each in retention or []]
    with Screen() as screen:
        found = run_soften(
            run,
            lambdas=_numbers(lambdas) if lambdas is not None else None,
            retention=tables,
            out=out,
            limit_rows=limit,
            reporter=screen,
        )
    if json:
        print_json(found.as_json())
    else:
        _print(found)


def _numbers(text: str) -> list[float]:
    from whispertune.errors import InputError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"not a list of numbers: {text!r}", where="--lambdas", fix="--lambdas 0.2,0.5,0.8") from error


def _print(found: Softened) -> None:
    from rich.console import Console
    from rich.table import Table

    from whispertune.evaluation.tradeoff import cells, heads

    trade_off = found.trade_off
    table = Table(caption=f"rule: {trade_off.rule}")
    for title in heads(trade_off, intervals=False):
        table.add_column(title, justify="right" if title else "left")
    for point in trade_off.points:
        table.add_row(*cells(trade_off, point, intervals=False))
    Console(highlight=False).print(table)
    typer.echo(trade_off.told())
    if found.model:
        typer.echo(f"written to {found.model}\nnext:  whispertune evaluate {found.model} data/test")
    typer.echo(f"the curves: {found.page}")
