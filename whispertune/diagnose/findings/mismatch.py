"""Family 2: the losses are low and the WER explodes: what decoding asks is not what was trained.

    finding = decoding_unlike_training(history, predictions)      # None where loss and WER fit together
    finding.seen[-1]                                              # Figure("cause", "task")

A loss of so much a token allows of so many wrong words: with e^-loss as the chance of a token and n tokens a
word (or a character, where the CER is the figure to read), 100 (1 - e^(-n loss)) per cent. A WER well above that was
not made by the model that the loss was measured on, as it was measured: the prompt, the language, the task, the end of
the text or the counting differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from whispertune.data.scripts import scripts_of
from whispertune.diagnose.finding import Change, Figure, Finding, Sure
from whispertune.diagnose.history import History, Metric
from whispertune.diagnose.predictions import Predictions, Signs, signs

TOKENS_A_WORD: Final = 5.0  # of a language that is not known
TOKENS_LATIN, TOKENS_OTHER = 4.0, 8.0  # of languages in Latin letters, and in others, which take more bytes
TOKENS_A_LETTER, TOKENS_A_CHARACTER = 1.0, 3.0  # at most: of Latin letters, and of others, by their bytes
MARGIN: Final = 10.0  # points over what the loss allows
LEAST_RATE: Final = 40.0  # below it nothing explodes
LOW_LOSS: Final = 1.0  # of training, at the end
EXPLODED: Final = 90.0  # per cent
RISEN_FACTOR, RISEN_POINTS = 1.5, 20.0
MANY_INSERTIONS: Final = 25.0  # per cent of the reference words
FEW_ROWS: Final = 8  # say nothing about what most rows are like


@dataclass(frozen=True, slots=True)
class Cause:
    """Why decoding is unlike training."""

    name: str
    told: str
    change: tuple[Change, ...]
    sure: Sure
    seen: tuple[Figure, ...] = ()


def decoding_unlike_training(
    history: History | None, predictions: Predictions | None = None, language: str | None = None
) -> Finding | None:
    """What the losses and the generated text of a run say against each other, with the likeliest cause."""
    spoken = language or (predictions.language if predictions else None)
    seen, certain = _exploded(history, predictions, spoken)
    if not seen:
        return None
    written = signs(predictions.tuned) if predictions and predictions.tuned else None
    theirs = history is not None and history.writer == "transformers"
    name: Metric = history.metric if history else "wer"
    causes = list(_causes(written, spoken, theirs, name)) if written and written.rows >= FEW_ROWS else []
    if history is not None and predictions is not None and _cut_alone(history, predictions):
        causes = [_cut(history.metric, predictions.tuned_rate(history.metric))]
    causes = causes or list(_causes_of_rates(history, theirs))
    if not causes and written and written.rows >= FEW_ROWS and not certain:
        return None  # wrong words, and nothing that points at decoding: see over-fitting
    causes = causes or [_unknown(spoken, theirs)]
    rest = [f"; also seen: {', '.join(each.name for each in causes[1:])}"] if causes[1:] else []
    return Finding(
        key="decoding-unlike-training",
        severity="high",
        seen=(*seen, *(figure for each in causes for figure in each.seen), Figure("cause", causes[0].name)),
        means="the loss is low and the generated text is wrong: decoding asks for what was not trained. "
        + causes[0].told
        + "".join(rest),
        change=tuple(change for each in causes for change in each.change),
        sure=causes[0].sure,
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


def _causes(found: Signs, language: str | None, theirs: bool, metric: Metric) -> Iterator[Cause]:
    """What the outputs show, the most telling first."""
    code = f'"{language}"' if language else "the language that is spoken"
    if found.tokens_as_text >= 0.1:
        told = "Special tokens are written out as text: labels were encoded with them as letters"
        seen = (Figure("utterances with <|...|> in them", _share(found.tokens_as_text), "%"),)
        yield Cause("tokens", told, (_labels_anew(theirs),), "certain", seen)
    if found.other_script >= 0.2:
        told = "It is written in another script than the references: decoding was asked for another language"
        seen = (Figure("utterances in another script", _share(found.other_script), "%"),)
        yield Cause("language", told, _language(code, theirs), "certain", seen)
    if language != "en" and found.english >= 0.08:
        told = "It is written in English and the references are not: the task was translate, or the language English"
        seen = (Figure("English function words beyond those of the references", _share(found.english), "%"),)
        yield Cause("task", told, (*_task(theirs), *_language(code, theirs)), "likely", seen)
    yield from _causes_of_starts(found, theirs)
    if found.loops >= 0.1 or found.bursts >= 0.2:
        told = "Phrases repeat until the length limit: the end of a text is not decoded as it was trained"
        seen_both = (
            Figure("utterances with loops", _share(found.loops), "%"),
            Figure("bursts", _share(found.bursts), "%"),
        )
        yield Cause("loops", told, _against_loops(theirs), "likely", seen_both)
    if found.case_or_punctuation_alone >= 0.5:
        told = "Most errors are case or punctuation: what is counted is not what was trained, so normalise or retrain"
        seen = (Figure("word errors that go with case and punctuation", _share(found.case_or_punctuation_alone), "%"),)
        yield Cause("normalisation", told, (_normalised(metric, theirs),), "certain", seen)
    if found.empty >= 0.3:
        told = "Nothing is written for many utterances: the end comes first, as after labels that begin with it"
        yield Cause("empty", told, (_labels_anew(theirs),), "likely", (Figure("empty", _share(found.empty), "%"),))


def _causes_of_starts(found: Signs, theirs: bool) -> Iterator[Cause]:
    if found.same_text >= 0.3:
        told = "One text is written for many utterances: the audio is not heard, or a prompt overrides it"
        yield Cause("same text", told, _no_prompts(theirs), "likely", (Figure("the text", found.text[:60]),))
    elif found.same_beginning >= 0.5:
        told = (
            "Most utterances begin with the same wrong words: the start differs, such as a doubled "
            "<|startoftranscript|> or a prompt that was not there in training"
        )
        alike = Figure("begin alike", _share(found.same_beginning), "%"), Figure("with", found.beginning[:60])
        yield Cause("start tokens", told, (_labels_anew(theirs), *_no_prompts(theirs)), "likely", alike)
    if found.prompt_repeated >= 0.1:
        told = "Text of the row before is written again: the prompt is learned as part of the text"
        seen = (Figure("utterances with text of the row before", _share(found.prompt_repeated), "%"),)
        yield Cause("prompt", told, _no_prompts(theirs), "likely", seen)


def _causes_of_rates(history: History | None, theirs: bool) -> Iterator[Cause]:
    """Where no text is known: what the counts say."""
    last = history.evaluations[-1] if history and history.evaluations else None
    if history is None or last is None:
        return
    name = history.metric
    rate, normalized = last.rate(name), last.normalized(name)
    if rate is None:
        return
    if name == "wer" and last.insertions is not None and last.insertions >= MANY_INSERTIONS:
        told = "Far more is written than said: loops, or text that goes on after its end"
        seen = (Figure("insertions", last.insertions, "% of the words"),)
        yield Cause("loops", told, _against_loops(theirs), "likely", seen)
    if normalized is not None and normalized < rate / 2:
        told = "Most errors are case or punctuation: what is counted is not what was trained"
        seen = (Figure(f"{name.upper()} normalised", normalized, "%"),)
        yield Cause("normalisation", told, (_normalised(name, theirs),), "certain", seen)


def _unknown(language: str | None, theirs: bool) -> Cause:
    code = f'"{language}"' if language else "the language that is spoken"
    told = (
        "The usual cause is that language or task at decoding are not those of training (a base model that detects "
        "another language, or translates); then a doubled start token, and case or punctuation. The generated texts "
        "would tell which"
    )
    return Cause("language or task", told, (*_language(code, theirs), *_task(theirs)), "possible")


def _cut(metric: Metric, rate: float) -> Cause:
    return Cause(
        "context",
        "Clips cut to what is spoken go wrong, and those on 30 s do not: the model was not trained for cut clips, or "
        "not long enough",
        (
            Change("evaluation.context", '"full"', "decode on 30 s, as it was trained"),
            Change("windows.fit_share", "0.5", "or train for it, for longer"),
        ),
        "certain",
        (Figure(f"{metric.upper()} of the kept weights on 30 s", round(rate, 1), "%"),),
    )


def _language(code: str, theirs: bool) -> tuple[Change, ...]:
    why = "force it in decoding as in training"
    return (Change("", f"generation_config.language = {code}", why) if theirs else Change("language", code, why),)


def _task(theirs: bool) -> tuple[Change, ...]:
    why = "the base model would translate else"
    return (
        Change("", 'generation_config.task = "transcribe", forced_decoder_ids = None', why)
        if theirs
        else Change("task", '"transcribe"', why),
    )


def _labels_anew(theirs: bool) -> Change:
    if theirs:
        why = "the common test against bos_token_id never fires, and trains with a doubled start token"
        return Change("", "compare the first label with decoder_start_token_id", why)
    return Change("", "whispertune inspect shows the labels as tokens", "look at how they begin and end")


def _no_prompts(theirs: bool) -> tuple[Change, ...]:
    why = "the texts before are then no part of the input"
    return (
        Change("", "decode with condition_on_previous_text=False and no prompt", why)
        if theirs
        else Change("windows.prompt_share", "0.0", why),
    )


def _against_loops(theirs: bool) -> tuple[Change, ...]:
    if theirs:
        return (Change("", "look whether <|endoftext|> is masked in the labels", "padding and end share one id"),)
    return (
        Change("train.learning_rate", "half of it", "a decoder that was pushed too far repeats itself"),
        Change("windows.fit_share", "0.5 where clips are decoded cut", "a model trained on 30 s alone loops on less"),
    )


def _normalised(metric: Metric, theirs: bool) -> Change:
    if theirs:
        return Change("", "normalise both texts before counting", "or train on texts with case and punctuation")
    best = f'"{metric}_normalized"'
    return Change("checkpoints.best", best, "or write the texts as they are to be decoded: clean.case")


def _share(share: float) -> float:
    return round(100.0 * share, 1)
