"""`whispertune merge`: several models of one kind in one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand

from whispertune.cli.options import Json

WEIGHTS = "--weights"


def merge(
    models: Annotated[list[str], typer.Argument(help="Two or more: runs, folders, hub names, adapters.")],
    out: Annotated[
        Path | None, typer.Option(help="The folder to write; new or empty. By default here, named after the models.")
    ] = None,
    weights: Annotated[
        list[float] | None, typer.Option(WEIGHTS, help="A share for each: 0.7 0.3; else all have the same.")
    ] = None,
    json: Json = False,
) -> None:
    """Mix the weights of models that have one shape and one tokenizer: runs, or a base and what was tuned from it.

    [bold]whispertune merge run-1 run-2 run-3 --out mean/[/bold]
    [bold]whispertune merge openai/whisper-small my-run --weights 0.3 0.7[/bold]
    """
    from whispertune.cli.screen import Screen, print_json
    from whispertune.service.merge import merge as run_merge

    with Screen() as screen:
        found = run_merge(models, out, weights=weights, reporter=screen)
    if json:
        print_json(found.as_json())
        return
    parts = " + ".join(f"{share:.3g} x {name}" for share, name in zip(found.weights, found.models, strict=True))
    typer.echo(f"{found.folder}: {parts}, {found.size_bytes / 1e6:.0f} MB")
    typer.echo(f"next:  whispertune evaluate {found.folder} data/test")


class Merge(TyperCommand):
    """Takes `--weights 0.7 0.3`, where others would want the option again for each number."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        return super().parse_args(ctx, spread(args))


def spread(arguments: Sequence[str]) -> list[str]:
    """`--weights 0.7 0.3` as `--weights 0.7 --weights 0.3`."""
    found: list[str] = []
    rest = list(arguments)
    while rest:
        first = rest.pop(0)
        numbers = list(takewhile(_is_number, rest)) if first == WEIGHTS else []
        found += [part for number in numbers for part in (WEIGHTS, number)] or [first]
        del rest[: len(numbers)]
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
