"""Models and data by name: the scores of one model, and of several beside each other.

evaluation = evaluate_model("my-run", "data/test")
compared = compare_models(["bundled:whisper-base", "my-run"], "data/test", language="sv")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from whispertune.data.audio import AudioReader
from whispertune.decode.context import choose_context, mark_of
from whispertune.decode.engines import best_device, load_live, open_engine
from whispertune.errors import DataError, InputError, ModelError
from whispertune.evaluation.compare import Compared, comparison
from whispertune.evaluation.evaluate import Evaluation
from whispertune.evaluation.evaluate import evaluate as evaluate_segments
from whispertune.evaluation.tokens import token_scores
from whispertune.model.load import find_model
from whispertune.reporting import Reporter
from whispertune.service.data import read_usable


def evaluate_model(  # noqa: PLR0913  # the options of the command
    model: str,
    data: str,
    *,
    language: str | None = None,
    task: str | None = None,
    engine: str = "ctranslate2",
    beams: int = 1,
    batch: int = 8,
    context: str = "auto",
    limit_rows: int | None = None,
    reporter: Reporter | None = None,
) -> Evaluation:
    """Scores of a model on data, both by name.

    Raises:
        InputError: the model, the data or an option cannot be used.
    """
    tell = reporter or Reporter()
    opened = open_engine(engine, model)
    chosen = choose_context(context, model, tell.say)
    with AudioReader() as reader:
        vocabulary, generation = opened.vocabulary, opened.generation
        found = read_usable(
            data, vocabulary, generation, reader, tell, language=language, task=task, limit_rows=limit_rows
        )
        evaluation = evaluate_segments(
            opened,
            found.segments,
            reader,
            batch=batch,
            beams=beams,
            context=chosen,
            progress=lambda done, total: tell.evaluating(model, done, total),
        )
        return replace(evaluation, problems=(*found.problems, *evaluation.problems))


def compare_models(models: Sequence[str], data: str, **options: Any) -> tuple[Compared, ...]:
    """Several models on the same data, the others against the first; `options` are those of `evaluate_model`.

    Raises:
        InputError: a model stands twice, or one of them, the data or an option cannot be used.
    """
    if len(set(models)) < len(models):
        raise InputError("a model stands twice", where=", ".join(models), fix="name each once")
    for name in models:
        mark_of(name)  # a wrong name is found before anything is decoded
    evaluations = {name: evaluate_model(name, data, **options) for name in models}
    tell, batch = options.get("reporter") or Reporter(), options.get("batch", 8)
    losses = {name: _loss(name, found, batch, tell) for name, found in evaluations.items()}
    return comparison(evaluations, {name: loss for name, loss in losses.items() if loss is not None})


def _loss(name: str, evaluation: Evaluation, batch: int, tell: Reporter) -> float | None:
    """Teacher-forced, of the rows that were decoded; None for weights in integers and rows without texts."""
    try:
        live = load_live(find_model(name))
        live.model.to(best_device())
        with AudioReader() as reader:
            found = token_scores(
                live,
                evaluation.segments,
                reader,
                context="fit" if evaluation.context == "fit" else "full",
                batch=batch,
                progress=lambda done, total: tell.working(f"loss of {name}", done, total),
            )
    except (ModelError, DataError) as error:
        tell.say(f"{name}: its loss is not measured: {error.what}")
        return None
    return found.loss
