"""`whispertune train`: a recipe becomes a run."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from whispertune.train.result import TrainingResult


def train(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a TOML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Keys to override: train.epochs=3")] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder (init's, else runs/<name>-<date>).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run was stopped.")] = False,
    allow_changes: Annotated[
        bool, typer.Option("--allow-changes", help="Resume although recipe or data changed; it is written down.")
    ] = False,
    engine: Annotated[str, typer.Option(help="local, or ray: a Ray cluster (RAY_ADDRESS).")] = "local",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes on the Ray cluster.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Fine-tune as the recipe says; the best weights are kept, the figures before and after printed.

    [bold]whispertune train my-run/recipe.toml train.epochs=3[/bold]
    [bold]whispertune train my-run/recipe.toml --resume[/bold]   after an interruption
    [bold]torchrun --nproc-per-node 8 -m whispertune train my-run/recipe.toml[/bold]   on 8 GPUs
    """
    from whispertune.cli.screen import Screen, print_json
    from whispertune.errors import InputError
    from whispertune.recipe_file import load_recipe
    from whispertune.reporting import Reporter
    from whispertune.train.across.ranks import in_main_process
    from whispertune.train.across.ray_engine import fine_tune_on_ray
    from whispertune.train.loop import fine_tune
    from whispertune.train.run import Run, default_folder, folder_to_resume

    if engine not in ("local", "ray"):
        raise InputError(f"unknown engine {engine!r}", where="--engine", fix="local or ray")
    if (workers is not None) != (engine == "ray"):
        raise InputError("--workers says how many processes Ray starts", fix="--engine ray --workers 2")
    loaded = load_recipe(recipe, overrides or [])
    today = date.today()
    default = folder_to_resume if resume else default_folder
    run = Run(out or default(recipe, loaded, today))
    if not in_main_process():  # the main one of torchrun's processes shows what all of them do
        fine_tune(loaded, run, resume=resume, allow_changes=allow_changes, reporter=Reporter())
        return
    with Screen() as screen:
        if workers is not None:
            result = fine_tune_on_ray(
                loaded, run, workers=workers, resume=resume, allow_changes=allow_changes, reporter=screen
            )
        else:
            result = fine_tune(loaded, run, resume=resume, allow_changes=allow_changes, reporter=screen)
    if json:
        print_json(result.as_json())
    else:
        _print(result)


def _print(result: TrainingResult) -> None:
    from whispertune.cli.screen import print_evaluations

    tuned = {"tuned": result.tuned} | ({"tuned, fit": result.tuned_fit} if result.tuned_fit else {})
    print_evaluations({"base": result.base} | tuned)
    evaluating = 100 * result.seconds_evaluating / max(result.seconds_training + result.seconds_evaluating, 1e-9)
    kept = (
        "the last weights" if result.best_step is None else f"{result.best_weights} weights of step {result.best_step}"
    )
    typer.echo(
        f"{result.steps} steps ({result.skipped_steps} skipped), {result.speech_hours:.2f} h of speech in "
        f"{result.seconds_training:.0f} s of training ({result.utterances_per_second:.2f} utterances/s); evaluating "
        f"took {result.seconds_evaluating:.0f} s, {evaluating:.0f} % of both; kept: {kept}"
    )
    if told := result.footprint.told():
        typer.echo(told)
    typer.echo(
        f"run: {result.run.folder}\nnext:  whispertune transcribe talk.m4a --model {result.run.folder}\n"
        f"       whispertune export {result.run.folder} --to ct2 --out deployed/"
    )
