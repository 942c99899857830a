"""`whispertune export`: a model for the runtime it is to work in, verified there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    model: Annotated[str, typer.Argument(help="A run, folder, hub name, or bundled:whisper-base.")],
    to: Annotated[
        str,
        typer.Option(
            help="ct2 (CTranslate2, faster-whisper), ggml (whisper.cpp), openai, onnx, transformers, adapter."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The folder to write; new or empty. By default in the run's exports.")
    ] = None,
    quantization: Annotated[
        str | None, typer.Option(help="What the weights are stored in, such as int8_float16 for ct2, q5_0 for ggml.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Clips to verify with (a run has its own; else a synthesiser speaks).")
    ] = None,
    language: Annotated[str | None, typer.Option(help="What is spoken in --data, for rows that name none.")] = None,
    verify: Annotated[bool, typer.Option(help="Compare the export with its source on the same clips.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Write a model for a runtime, then decode the same clips in both; too far apart, and there is no export.

    [bold]whispertune export my-run --to ct2 --out deployed/[/bold]
    [bold]whispertune export my-run --to ggml --quantization q5_0[/bold]
    [bold]whispertune export bundled:whisper-base --to ct2 --quantization int8 --data data/dev --out small/[/bold]
    """
    from whispertune.cli.screen import Screen, print_json
    from whispertune.service.export import export_model

    with Screen() as screen:
        report = export_model(
            model,
            to,
            out,
            quantization=quantization,
            data=data,
            language=language,
            verify=verify,
            reporter=screen,
        )
    if json:
        print_json(report.as_json())
        return
    size = f"{report.size_bytes / 1e6:.0f} MB"
    typer.echo(f"{report.folder}: {report.format}, {report.quantization}, {size}")
    found = report.comparison
    if found is None:
        typer.echo("not verified: it was not compared with its source")
        return
    typer.echo(
        f"verified in {report.runtime}: {found.told(report.tolerance)}; {found.texts_equal} texts are equal, "
        f"{found.tokens_equal} in every token, {found.texts_apart:.1f} % of the characters differ; "
        f"{found.audio_seconds:.0f} s of speech in {found.export_seconds:.1f} s, "
        f"by transformers in {found.source_seconds:.1f} s"
        + (f"; the first difference: {found.first_difference}" if found.first_difference else "")
    )
