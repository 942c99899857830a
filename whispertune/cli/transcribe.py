"""`whispertune transcribe`: recordings to captions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def transcribe(
    recordings: Annotated[list[Path], typer.Argument(help="Audio or video files.")],
    model: Annotated[str, typer.Option(help="A run, folder, hub name, or bundled:whisper-base.")],
    formats: Annotated[str, typer.Option("--format", help="vtt, srt, txt, json; several with commas.")] = "vtt",
    out: Annotated[Path | None, typer.Option(help="The folder to write into (beside the recording).")] = None,
    language: Annotated[str | None, typer.Option(help="What is spoken (the model's own, else detected).")] = None,
    task: Annotated[str | None, typer.Option(help="transcribe or translate.")] = None,
    engine: Annotated[str, typer.Option(help="ctranslate2 or transformers.")] = "ctranslate2",
    beams: Annotated[int, typer.Option(min=1, help="Beams of the search.")] = 1,
    words: Annotated[bool, typer.Option("--words", help="Keep a time for every word (in json).")] = False,
    cues: Annotated[str, typer.Option(help="decoded: as the model cut them; sentence: regrouped.")] = "decoded",
    line: Annotated[int, typer.Option(min=10, help="Characters a line, for --cues sentence.")] = 42,
    longest: Annotated[float, typer.Option(min=1, help="Seconds a cue, for --cues sentence.")] = 7.0,
    context: Annotated[
        str, typer.Option(help="full: 30 s; fit: cut to the speech where it ends; auto: fit where it was trained.")
    ] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Captions of long recordings, with voice activity detection.

    [bold]whispertune transcribe talk.m4a --model my-run --format vtt,srt,txt,json[/bold]
    [bold]whispertune transcribe *.mp3 --model my-run --cues sentence --out captions/[/bold]
    """
    from whispertune.cli.screen import Screen, print_json
    from whispertune.decode.transcribe import Options
    from whispertune.errors import AudioError
    from whispertune.service.transcribe import transcribe_files

    options = Options(language, task, engine, beams, words, cues, line, longest, context)
    with Screen() as screen:
        done = transcribe_files(
            recordings, model, options, formats.split(","), out=out, overwrite=overwrite, reporter=screen
        )
    if json:
        print_json(done.as_json())
    else:
        for each in done.written:
            typer.echo("\n".join(str(path) for path in each.files))
    if done.failed:
        told = "".join(f"\n    {each.where}: {each.what}" for each in done.failed)
        raise AudioError(
            f"{len(done.failed)} of {len(recordings)} recordings do not decode, the others are done{told}",
            fix="repair these, and give them alone",
        )
