"""`whispertune prepare`: the data of a recipe becomes one portable dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def prepare(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a TOML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Keys to override: clean.case=lower")] = None,
    out: Annotated[Path, typer.Option(help="The dataset's folder.")] = Path("dataset"),
    shard: Annotated[str | None, typer.Option(help="Do one part of the work: 3/16 is the third of 16.")] = None,
    engine: Annotated[str, typer.Option(help="local, or ray: an existing cluster (RAY_ADDRESS).")] = "local",
    processes: Annotated[int | None, typer.Option(min=1, help="Of this machine (all its cores).")] = None,
    push: Annotated[str | None, typer.Option(help="Upload it to this hub repository, private.")] = None,
    public: Annotated[bool, typer.Option("--public", help="Let everyone see what is pushed.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Write all data of a recipe as Parquet shards with the audio inside, cleaned, and push it if asked.

    Stopped or killed, the same command goes on. With --shard, each part may run on a machine of its own, and
    whichever finishes last completes the dataset: --out must be on storage that they share.

    [bold]whispertune prepare my-run/recipe.toml --out dataset/[/bold]
    [bold]whispertune prepare my-run/recipe.toml --out dataset/ --push me/my-dataset[/bold]
    """
    from whispertune.cli.screen import Screen, print_json
    from whispertune.errors import InputError
    from whispertune.prepare.run import parse_part, prepare_dataset
    from whispertune.recipe_file import load_recipe

    if public and not push:
        raise InputError("--public says who may see what is pushed", fix="add --push me/my-dataset")
    with Screen() as screen:
        prepared = prepare_dataset(
            load_recipe(recipe, overrides or []),
            out,
            part=parse_part(shard) if shard else (1, 1),
            engine=engine,
            processes=processes,
            push_to=push,
            public=public,
            reporter=screen,
        )
    if json:
        print_json(prepared.as_json())
        return
    for note in prepared.notes:
        typer.echo(note)
    if not prepared.complete:
        typer.echo(f"{len(prepared.written)} of {prepared.shards} shards of {out} are written; others write the rest")
        return
    for split in prepared.splits:
        typer.echo(f"{split.split}: {split.rows:,} rows, {split.hours:.2f} h in {split.shards} shards")
        for kind, count in split.dropped.items():
            typer.echo(f"  {count:>6,}  left out: {kind}")
    typer.echo(f"dataset: {out} ({prepared.seconds:.0f} s); rows left out: {out / 'dropped.jsonl'}")
    if prepared.pushed:
        visibility = "public" if public else "private"
        typer.echo(f"pushed to {push} ({visibility}):")
        typer.echo("\n".join(f"  {name}" for name in prepared.pushed))
        if prepared.removed:
            typer.echo(f"removed there, of an earlier dataset: {', '.join(prepared.removed)}")
    else:
        typer.echo(f'next:  source = "dataset:{out}:train" in a recipe, or --push me/my-dataset')
