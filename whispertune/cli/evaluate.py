"""`whispertune evaluate`: decode data with a model and count the errors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    model: Annotated[str, typer.Argument(help="A run, folder, hub name, or bundled:whisper-base.")],
    data: Annotated[str, typer.Argument(help="A folder with metadata, a manifest, or captioned recordings.")],
    language: Annotated[str | None, typer.Option(help="What is spoken, for rows that name none.")] = None,
    task: Annotated[str | None, typer.Option(help="transcribe or translate, for rows that name none.")] = None,
    engine: Annotated[str, typer.Option(help="ctranslate2 or transformers.")] = "ctranslate2",
    beams: Annotated[int, typer.Option(min=1, help="Beams of the search.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Clips decoded at once.")] = 8,
    context: Annotated[
        str, typer.Option(help="full: 30 s; fit: clips cut to what is spoken; auto: fit where it was trained.")
    ] = "auto",
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first rows.")] = None,
    terms: Annotated[Path | None, typer.Option(help="A line a term: how many of them came out right.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write each utterance and its alignment here, as JSONL.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """WER and CER of generated text, raw and normalised, with a 95 % interval.

    [bold]whispertune evaluate my-run data/test --json[/bold]
    [bold]whispertune evaluate bundled:whisper-base recordings/ --language sv --terms terms.txt[/bold]
    """
    from whispertune.cli.screen import Screen, print_evaluations, print_json
    from whispertune.errors import InputError
    from whispertune.score.terms import load_terms, score_terms
    from whispertune.score.wer import write_utterances
    from whispertune.service import evaluate_model

    wanted = load_terms(terms) if terms else ()
    if out and not out.parent.is_dir():
        raise InputError("there is no such folder", where=str(out.parent), fix="make it, or choose another --out")
    with Screen() as screen:
        found = evaluate_model(
            model,
            data,
            language=language,
            task=task,
            engine=engine,
            beams=beams,
            batch=batch,
            context=context,
            limit_rows=limit,
            reporter=screen,
        )
    if out:
        write_utterances(out, found.utterances)
    references, hypotheses = [u.reference for u in found.utterances], [u.hypothesis for u in found.utterances]
    counted = score_terms(references, hypotheses, wanted) if wanted else None
    if json:
        extra = {"terms_recall": counted.recall, "terms_precision": counted.precision} if counted else {}
        print_json(found.as_json() | extra)
        return
    print_evaluations({model: found})
    if counted:
        share = "none of them is said" if counted.recall is None else f"{counted.recall:.1f} %"
        typer.echo(f"terms: {counted.hits} of {counted.occurrences} right ({share})")
