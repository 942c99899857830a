"""`whispertune train`: a recipe becomes a run."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a TOML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Keys to override: train.epochs=3")] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder (init's, else runs/<name>-<date>).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run was stopped.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Fine-tune as the recipe says; the best weights are kept, the figures before and after printed.

    [bold]whispertune train my-run/recipe.toml train.epochs=3[/bold]
    [bold]whispertune train my-run/recipe.toml --resume[/bold]   after an interruption
    """
    from whispertune.cli.screen import Screen, print_evaluations, print_json
    from whispertune.recipe_file import load_recipe
    from whispertune.train.loop import fine_tune
    from whispertune.train.run import Run, default_folder

    loaded = load_recipe(recipe, overrides or [])
    run = Run(out or default_folder(recipe, loaded.name, date.today()))
    with Screen() as screen:
        result = fine_tune(loaded, run, resume=resume, reporter=screen)
    if json:
        print_json(result.as_json())
        return
    print_evaluations({"base": result.base, "tuned": result.tuned})
    evaluating = 100 * result.seconds_evaluating / max(result.seconds, 1e-9)
    typer.echo(
        f"{result.steps} steps, {result.speech_hours:.2f} h of speech in {result.seconds_training:.0f} s of training "
        f"({result.utterances_per_second:.2f} utterances/s); evaluating took {result.seconds_evaluating:.0f} s, "
        f"{evaluating:.0f} % of this session\n"
        f"run: {run.folder}\nnext:  whispertune transcribe talk.m4a --model {run.folder}\n"
        f"       whispertune export {run.folder} --to ct2 --out deployed/"
    )
