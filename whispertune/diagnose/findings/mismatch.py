"""Family 2: the losses are low and the WER explodes: what decoding asks is not what was trained.

    finding = decoding_unlike_training(history, predictions, "sv", recipe)    # None where loss and WER fit together
    finding.seen[-1]                                                          # Figure("cause", "task")

A loss of so much a token allows of so many wrong words: with e^-loss as the chance of a token and n tokens a
word (or a character, where the CER is the figure to read), 100 (1 - e^(-n loss)) per cent. A WER well above that was
not made by the model that the loss was measured on, as it was measured: the prompt, the language, the task, the end of
the text or the counting differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from whispertune.data.scripts import scripts_of
from whispertune.diagnose.finding import Change, Figure, Finding
from whispertune.diagnose.findings.causes import Asked, Cause, causes_of_rates, causes_of_texts, unknown
from whispertune.diagnose.findings.clips import for_cut_clips
from whispertune.diagnose.history import History, Metric
from whispertune.diagnose.predictions import Predictions, signs
from whispertune.languages import code_of
from whispertune.recipe import Recipe

TOKENS_A_WORD: Final = 5.0  # of a language that is not known
TOKENS_LATIN, TOKENS_OTHER = 4.0, 8.0  # of languages in Latin letters, and in others, which take more bytes
TOKENS_A_LETTER, TOKENS_A_CHARACTER = 1.0, 3.0  # at most: of Latin letters, and of others, by their bytes
MARGIN: Final = 10.0  # points over what the loss allows
LEAST_RATE: Final = 40.0  # below it nothing explodes
LOW_LOSS: Final = 1.0  # of training, at the end
EXPLODED: Final = 90.0  # per cent
RISEN_FACTOR, RISEN_POINTS = 1.5, 20.0
FEW_ROWS: Final = 8  # say nothing about what most rows are like
CONTEXT: Final = "context"  # the cause that cut clips are
LOOK: Final = Change("", "whispertune evaluate with --report", "shows what is written, and what goes wrong most")


def decoding_unlike_training(
    history: History | None,
    predictions: Predictions | None = None,
    language: str | None = None,
    recipe: Recipe | None = None,
) -> Finding | None:
    """What the losses and the generated text of a run say against each other, with the likeliest cause."""
    written_in = language or (predictions.language if predictions else None)
    seen, certain = _exploded(history, predictions, written_in)
    if not seen or history is None:
        return None
    texts = signs(predictions.texts) if predictions and len(predictions.texts) >= FEW_ROWS else None
    spoken = written_in if recipe is None else code_of(recipe.language or "")
    split = predictions.split if predictions else "dev"
    asked = Asked(spoken, history.metric, history.writer == "transformers", recipe, split)
    causes = causes_of_texts(texts, asked) if texts else ()
    if predictions is not None and _cut_alone(history, predictions):
        causes = (_cut(history.metric, predictions.tuned_rate(history.metric), recipe),)
    causes = causes or causes_of_rates(history, asked)
    if not causes and texts and not certain:
        return None  # wrong words, and nothing that points at decoding: see over-fitting
    causes = causes or (unknown(asked),)
    return _told(causes, seen)


def _told(causes: Sequence[Cause], seen: Sequence[Figure]) -> Finding:
    rest = f"; also seen: {', '.join(each.name for each in causes[1:])}" if causes[1:] else ""
    return Finding(
        key="decoding-unlike-training",
        severity="high",
        seen=(*seen, *(figure for each in causes for figure in each.seen), Figure("cause", causes[0].name)),
        means="the loss is low and the generated text is wrong: decoding asks for what was not trained. "
        + causes[0].told
        + rest,
        change=tuple(dict.fromkeys(change for each in causes for change in each.change)),
        sure=causes[0].sure,
        otherwise=(LOOK,),
    )


def _exploded(
    history: History | None, predictions: Predictions | None, language: str | None
) -> tuple[tuple[Figure, ...], bool]:
    """The figures that do not fit together, none where they do; whether a loss of dev is among them."""
    if history is None:
        return (), False
    name = history.metric
    for each, loss in reversed(history.measured("loss")):
        rate = each.rate(name)
        most = rate_allowed(loss, language, name)
        if rate is not None and rate > max(LEAST_RATE, most + MARGIN):
            allowed = Figure(f"{name.upper()} that such a loss allows", round(most, 1), "%")
            return (Figure("dev loss", loss), Figure(name.upper(), rate, "%"), allowed), True
        if rate is not None:  # the last one is what the run came to
            return (), False
    return _exploded_in_training(history, predictions), False


def _exploded_in_training(history: History, predictions: Predictions | None) -> tuple[Figure, ...]:
    name = history.metric
    begin, end = history.height(0.0, 0.2), history.height(0.8, 1.0)
    rates = [rate for _, rate in history.measured(name)]
    if predictions and predictions.tuned and not _cut_alone(history, predictions):
        rates.append(predictions.tuned_rate(name))
    if not rates or begin is None or end is None or end >= min(LOW_LOSS, begin):
        return ()
    last, least = rates[-1], min(rates)
    if last < EXPLODED and last < max(RISEN_FACTOR * least, least + RISEN_POINTS):
        return ()
    figures = Figure("train loss at the beginning", begin), Figure("train loss at the end", end)
    return (*figures, Figure(f"lowest {name.upper()}", least, "%"), Figure(f"last {name.upper()}", last, "%"))


def _cut_alone(history: History, predictions: Predictions) -> bool:
    """Whether it explodes on clips that are cut to what is spoken, and not on 30 s."""
    last = history.evaluations[-1] if history.evaluations else None
    if last is None or last.context != "fit" or not predictions.tuned:
        return False
    rate = last.rate(history.metric)
    return rate is not None and predictions.tuned_rate(history.metric) < rate / 2


def rate_allowed(loss: float, language: str | None = None, metric: Metric = "wer") -> float:
    """The error rate that a loss a token goes with at most, per cent."""
    scripts = scripts_of(language or "")
    if metric == "cer":
        tokens = TOKENS_A_LETTER if "Latin" in scripts else TOKENS_A_CHARACTER
    else:
        tokens = TOKENS_A_WORD if not scripts else TOKENS_LATIN if "Latin" in scripts else TOKENS_OTHER
    return 100.0 * (1 - math.exp(-tokens * loss))


def _cut(metric: Metric, rate: float, recipe: Recipe | None) -> Cause:
    whole = Change("evaluation.context", '"full"', "decode on 30 s, as it was trained")
    return Cause(
        CONTEXT,
        "Clips cut to what is spoken go wrong, and those on 30 s do not: the model was not trained for cut clips, or "
        "not long enough",
        (whole, *(each for each in for_cut_clips(recipe) if each.key)),
        "certain",
        (Figure(f"{metric.upper()} of the kept weights on 30 s", round(rate, 1), "%"),),
    )
