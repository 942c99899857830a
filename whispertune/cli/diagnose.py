"""`whispertune diagnose`: what a run shows, in words, most important first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def diagnose(
    run: Annotated[Path, typer.Argument(help="A run, its metrics.jsonl, or transformers' trainer_state.json.")],
    out: Annotated[
        Path | None, typer.Option(help="Write report.md and report.html here; else into the run, where it is one.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """What was seen in a run, what it means, what to change, and how sure that is.

    [bold]whispertune diagnose my-run[/bold]
    [bold]whispertune diagnose trainer_state.json --out diagnosis[/bold]
    """
    from whispertune.cli.screen import print_json
    from whispertune.diagnose.report import NOTHING, told, write_reports
    from whispertune.diagnose.run import diagnose as find

    found = find(run)
    folder = out or (run if run.is_dir() else run.absolute().parent)
    written = write_reports(found, folder)
    if json:
        print_json({**found.as_json(), "reports": [str(path) for path in written]})
        return
    for finding in found.findings:
        typer.echo(told(finding) + "\n")
    if not found.findings:
        typer.echo(NOTHING)
    for note in found.material.judged.notes:
        typer.echo(f"note: {note}")
    if found.missing:
        typer.echo(f"not known, and so not looked at: {', '.join(found.missing)}")
    typer.echo(f"written to {written[0]} and {written[1]}")
