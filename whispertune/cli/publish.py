"""`whispertune publish`: a run's model with its card to the model hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whispertune.publish.place import Upload
    from whispertune.service.publish import Publication


def publish(
    run: Annotated[str, typer.Argument(help="The folder of a finished run.")],
    to: Annotated[str, typer.Option(help="The hub repository: me/whisper-small-sv.")],
    formats: Annotated[
        str, typer.Option(help="What goes up, by commas, with a quantization: transformers,ct2:int8_float16,ggml:q5_0")
    ] = "transformers,ct2",
    public: Annotated[bool, typer.Option("--public/--private", help="Who may see it.")] = False,
    space: Annotated[bool, typer.Option("--space", help="A demo page too, base and tuned model side by side.")] = False,
    licence: Annotated[str | None, typer.Option(help="Of the model: apache-2.0 (else the recipe's licence).")] = None,
    verify: Annotated[bool, typer.Option(help="Compare each export with its source; the card says so.")] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Make everything and list it; ask the hub nothing.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Export a run, verify it, write its card from the run's own files, and push it all, private unless asked.

    Stopped or cut off, the same command goes on: what was exported and uploaded is not done twice.

    [bold]whispertune publish my-run --to me/whisper-small-sv --dry-run[/bold]
    [bold]whispertune publish my-run --to me/whisper-small-sv --formats transformers,ct2,ggml:q5_0 --space[/bold]
    """
    from whispertune.cli.screen import Screen, print_json
    from whispertune.service.publish import publish_run

    with Screen() as screen:
        done = publish_run(
            run,
            to,
            formats=formats,
            public=public,
            space=space,
            licence=licence,
            verify=verify,
            dry_run=dry_run,
            reporter=screen,
        )
    if json:
        print_json(done.as_json())
        return
    _tell(done)


def _tell(done: Publication) -> None:
    who = "public" if done.public else "private"
    _list(f"{done.repository} ({who})", done.files)
    if done.space:
        _list(f"{done.space}, a Space ({who})", done.space_files)
    for each in done.exports:
        told = "not verified" if each.verified is None else f"verified in {each.runtime}: {each.verified.told}"
        typer.echo(f"{each.format}, {each.quantization}: {told}")
    typer.echo(f"card: {done.card}")
    if done.licence is None:
        typer.echo("no licence is stated: give --licence, or licence in the recipe")
    if done.space and not done.public:
        typer.echo("a private Space reads a private model with a token: add HF_TOKEN to its secrets")
    typer.echo(f"pushed: {done.url}" if done.url else "nothing was pushed (--dry-run)")
    if done.removed:
        typer.echo(f"removed there, of an earlier publication: {', '.join(done.removed)}")
    if done.space_url:
        typer.echo(f"pushed: {done.space_url}")


def _list(title: str, files: Sequence[Upload]) -> None:
    total = sum(each.size_bytes for each in files)
    typer.echo(f"{title}: {len(files)} files, {total / 1e6:,.1f} MB")
    for each in files:
        typer.echo(f"  {each.size_bytes:>14,}  {each.name}")
