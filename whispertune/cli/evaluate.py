"""`whispertune evaluate`: decode data with a model and count the errors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from whispertune.cli.options import Batch, Beams, Context, Engine, Json, Language, Limit, Task


def evaluate(
    model: Annotated[str, typer.Argument(help="A run, folder, hub name, or bundled:whisper-base.")],
    data: Annotated[str, typer.Argument(help="A folder with metadata, a manifest, or captioned recordings.")],
    language: Language = None,
    task: Task = None,
    engine: Engine = "ctranslate2",
    beams: Beams = 1,
    batch: Batch = 8,
    context: Context = "auto",
    limit: Limit = None,
    terms: Annotated[Path | None, typer.Option(help="A line a term: how many of them came out right.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write each utterance and its alignment here, as JSONL.")] = None,
    json: Json = False,
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
