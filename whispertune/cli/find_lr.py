"""`whispertune find-lr`: a range test of learning rates, a plot and a suggestion."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from whispertune.train.learning.find_lr import RangeTest

MIN_STEPS = 10


def find_lr(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a TOML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Keys to override: train.method=lora")] = None,
    out: Annotated[Path | None, typer.Option(help="The plot (<name>-find-lr.svg).")] = None,
    steps: Annotated[int, typer.Option(min=MIN_STEPS, help="Training steps, one at each rate.")] = 60,
    lowest: Annotated[float | None, typer.Option(min=1e-12, help="Rate of the first (a 30th of the default).")] = None,
    highest: Annotated[float | None, typer.Option(min=1e-12, help="Rate of the last (100 times the default).")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Train a few dozen steps at rising learning rates, and suggest one; nothing is kept but a plot.

    [bold]whispertune find-lr my-run/recipe.toml[/bold]
    [bold]whispertune find-lr my-run/recipe.toml train.method=lora --out lora.svg[/bold]
    """
    from whispertune.cli.screen import Screen, print_json
    from whispertune.files import writing
    from whispertune.inspect.rates import draw_range_test
    from whispertune.recipe_file import load_recipe
    from whispertune.train.learning.find_lr import find_rate

    loaded = load_recipe(recipe, overrides or [])
    plot = out or Path(f"{loaded.name}-find-lr.svg")
    _check_place(plot)  # before anything is trained
    with Screen() as screen:
        found = find_rate(loaded, steps=steps, lowest=lowest, highest=highest, reporter=screen)
    with writing(plot):
        plot.write_text(draw_range_test(found), encoding="utf-8")
    if json:
        print_json({**found.as_json(), "plot": str(plot)})
        return
    _print(found, plot, recipe, overrides or [])


def _check_place(plot: Path) -> None:
    from whispertune.errors import InputError

    try:
        plot.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"no folder for the plot ({error.strerror})", where=str(plot.parent), fix="--out") from error
    if plot.is_dir():
        raise InputError("is a folder", where=str(plot), fix=f"name a file: --out {plot / 'find-lr.svg'}")


def _print(found: RangeTest, plot: Path, recipe: Path, overrides: Sequence[str]) -> None:
    suggestion = found.suggestion
    rate = f"{suggestion.rate:.1e}"
    told = {
        "clear": f"learning rate {rate}: with other noise it would be {suggestion.low:.1e} to {suggestion.high:.1e}",
        "rough": f"learning rate {rate}, roughly: {suggestion.low:.1e} to {suggestion.high:.1e} would do as well",
        "none": f"no suggestion; the default is {rate}",
    }[suggestion.sure]
    ended = f"\nit ended early: {found.stopped}" if found.stopped else ""
    train = shlex.join(["whispertune", "train", str(recipe), *overrides, f"train.learning_rate={rate}"])
    typer.echo(f"{told}\n{suggestion.why} The default is {found.default:.1e}.{ended}\nplot: {plot}\nnext:  {train}")
