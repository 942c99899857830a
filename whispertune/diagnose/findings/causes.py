"""Why decoding is unlike training: what the outputs show, held against what the recipe asked for.

    asked = Asked("sv", "wer", theirs=False, recipe=recipe)
    causes = causes_of_texts(signs(utterances), asked)    # the most telling first
    causes[0].name, causes[0].told, causes[0].change

A cause says what stands in its place where the recipe has all that would be changed: `language = "sv"` is no advice to
a recipe in Swedish, whose outputs must be in another language for another reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from whispertune.diagnose.advice import already, by_normalised, holds, value_of, written
from whispertune.diagnose.finding import Change, Figure, Sure
from whispertune.diagnose.history import History, Metric
from whispertune.diagnose.predictions import Signs, Split
from whispertune.recipe import Recipe

MANY_INSERTIONS: Final = 25.0  # per cent of the reference words
ENGLISH: Final = 0.08  # of the words written, over those of the references
ENGLISH_SAID: Final = 0.2  # of the words of references that are English themselves
IN_RECIPE: Final = "the recipe has"
INSPECT: Final = "whispertune inspect on the recipe"


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked of training and decoding, as far as it is known."""

    language: str | None  # that is spoken
    metric: Metric
    theirs: bool  # a log of transformers, which has no recipe of ours
    recipe: Recipe | None = None
    split: Split = "dev"  # that was decoded

    @property
    def code(self) -> str:
        """The language as it stands in the recipe, or would."""
        named = self.recipe.language if self.recipe else self.language
        return f'"{named}"' if named else "the language that is spoken"

    def of_recipe(self, *keys: str) -> tuple[Figure, ...]:
        """What the recipe says under these keys."""
        if self.recipe is None:
            return ()
        said = [(key, value_of(self.recipe, key)) for key in keys]
        told = ", ".join(f"{key} = {written(value)}" if value is not None else f"no {key}" for key, value in said)
        return (Figure(IN_RECIPE, told),)


@dataclass(frozen=True, slots=True)
class Cause:
    """Why decoding is unlike training."""

    name: str
    told: str
    change: tuple[Change, ...]
    sure: Sure
    seen: tuple[Figure, ...] = ()
    instead: Cause | None = None  # where the recipe has already what would be changed

    def settled(self, recipe: Recipe | None) -> Cause:
        """The same, or what stands in its place in a run of this recipe."""
        keys = [each for each in self.change if each.key]
        if self.instead is None or not keys or not all(holds(recipe, each) for each in keys):
            return self
        is_said = any(each.name == IN_RECIPE for each in self.seen)
        return replace(self.instead, seen=self.seen if is_said else (*self.seen, already(recipe, keys)))


def causes_of_texts(found: Signs, asked: Asked) -> tuple[Cause, ...]:
    """What the outputs show, the most telling first."""
    rules: tuple[Callable[[Signs, Asked], Cause | None], ...] = (
        _tokens,
        _other_script,
        _english,
        _same_text,
        _same_beginning,
        _row_before,
        _loops,
        _spelling,
        _empty,
    )
    causes = (rule(found, asked) for rule in rules)
    return tuple(each.settled(asked.recipe) for each in causes if each)


def causes_of_rates(history: History, asked: Asked) -> tuple[Cause, ...]:
    """Where no text is known: what the counts of the last evaluation say."""
    return tuple(each.settled(asked.recipe) for each in _of_rates(history, asked))


def unknown(asked: Asked) -> Cause:
    """What to look at where neither texts nor counts tell."""
    told = (
        "The usual cause is that language or task at decoding are not those of training (a base model that detects "
        "another language, or translates); then a doubled start token, and case or punctuation. The generated texts "
        "would tell which"
    )
    instead = Cause(
        "not known",
        "The recipe names language and task already, and rows that name none are decoded so. What is left are rows "
        "that name others, case or punctuation, and loops: the generated texts would tell which",
        (Change("", "whispertune evaluate with --report", "shows what is written, and what goes wrong most"),),
        "possible",
    )
    changes = *_language(asked), *(() if asked.recipe else _task(asked))  # whether it is wrong, the texts would tell
    return Cause("language or task", told, changes, "possible", instead=instead).settled(asked.recipe)


def _tokens(found: Signs, asked: Asked) -> Cause | None:
    if found.tokens_as_text < 0.1:
        return None
    seen = (Figure("utterances with <|...|> in them", _share(found.tokens_as_text), "%"),)
    if asked.theirs:
        told = "Special tokens are written out as text: labels were encoded with them as letters"
        return Cause("tokens", told, (_labels_anew(),), "certain", seen)
    told = "Special tokens are written out as text: texts of train have them in it, as letters"
    done = asked.recipe.clean.markup if asked.recipe else "keep"  # either takes them out
    strip = Change("clean.markup", '"strip"' if done == "keep" else f'"{done}"', "takes them out of all texts")
    look = Change("", "look where <|...|> in the texts of train comes from", "the base model writes none")
    instead = Cause("tokens", f"{told}, or had when the model that was tuned here was trained", (look,), "likely")
    return Cause("tokens", told, (strip,), "likely", seen, instead)


def _other_script(found: Signs, asked: Asked) -> Cause | None:
    if found.other_script < 0.2:
        return None
    told = "It is written in another script than the references: decoding was asked for another language"
    seen = (
        Figure("utterances in another script", _share(found.other_script), "%"),
        Figure("such as", ", ".join(found.ids["other_script"][:5])),
    )
    instead = Cause(
        "rows",
        "It is written in another script than the references. Rows that name no language were decoded in that of the "
        "recipe, so either rows name another one, or texts of train are in that script",
        (
            Change("", INSPECT, "counts rows by language; that of a row goes before the recipe's"),
            Change("clean.script", "true", "drops rows of train that are not in a script of their language"),
        ),
        "likely",
    )
    return Cause("language", told, _language(asked), "certain", seen, instead)


def _english(found: Signs, asked: Asked) -> Cause | None:
    """The task, the language, or the rows: which of them the recipe tells."""
    if asked.language == "en" or found.english < ENGLISH or found.english_said >= ENGLISH_SAID:
        return None
    share = Figure("English function words beyond those of the references", _share(found.english), "%")
    seen, recipe = (share, *asked.of_recipe("language", "task")), asked.recipe
    told = "It is written in English and the references are not"
    if recipe is None:
        why = f"{told}: the task was translate, or the language English"
        return Cause("task", why, (*_task(asked), *_language(asked)), "likely", seen)
    if recipe.task == "translate" and not _has_targets(recipe):
        return Cause("task", f"{told}: the task is translate, which is into English", _task(asked), "certain", seen)
    if recipe.task == "translate":
        why = "the base model translates into English alone, and the other language is learned from train"
        longer = Change("data.train", "more rows", "a language to translate into takes many")
        return Cause("target", f"{told}: {why}", (longer,), "likely", seen)
    why = f"{told}: the task is transcribe, and rows that name no language are decoded in that of the recipe. "
    rows = Cause(
        "rows",
        f"{why}So either rows name English or translate themselves, or texts of train are in English",
        (Change("", INSPECT, "counts rows by language and task; those of a row go before the recipe's"),),
        "likely",
    )
    without = f"{told}: the task is transcribe, so rows are taken for English, and the recipe names no language"
    return Cause("language", without, _language(asked), "likely", seen, rows)


def _same_text(found: Signs, asked: Asked) -> Cause | None:
    if found.same_text < 0.3:
        return None
    told = "One text is written for many utterances: the audio is not heard, or a prompt overrides it"
    instead = Cause(
        "same text",
        "One text is written for many utterances, and no window carries the text before it: the audio is not heard",
        (
            Change("train.learning_rate", "half of it", "a decoder that was pushed too far writes what is frequent"),
            Change("", "listen to the rows", "what is silent or cut off cannot be heard"),
        ),
        "likely",
    )
    seen = Figure("the text", found.text[:60]), *asked.of_recipe("windows.prompt_share")
    return Cause("same text", told, _no_prompts(asked), "likely", seen, instead)


def _same_beginning(found: Signs, asked: Asked) -> Cause | None:
    if found.same_text >= 0.3 or found.same_beginning < 0.5:
        return None
    alike = Figure("begin alike", _share(found.same_beginning), "%"), Figure("with", found.beginning[:60])
    told = "Most utterances begin with the same wrong words: the start differs, such as "
    if asked.theirs:
        why = "a doubled <|startoftranscript|> or a prompt that was not there in training"
        return Cause("start tokens", told + why, (_labels_anew(), *_no_prompts(asked)), "likely", alike)
    texts = Change("", "look how the texts of train begin", "what they share is learned; clean.replace takes it out")
    why = "a prompt that is not there in decoding, or words that texts of train begin with"
    only = "Most utterances begin with the same wrong words, and no window carries the text before it: texts of train "
    instead = Cause("start tokens", f"{only}begin with them, or say them often", (texts,), "likely")
    seen = (*alike, *asked.of_recipe("windows.prompt_share"))
    return Cause("start tokens", told + why, (*_no_prompts(asked), texts), "likely", seen, instead)


def _row_before(found: Signs, asked: Asked) -> Cause | None:
    if found.prompt_repeated < 0.1:
        return None
    seen = (
        Figure("utterances with text of the row before", _share(found.prompt_repeated), "%"),
        Figure("such as", ", ".join(found.ids["prompt_repeated"][:5])),
        *asked.of_recipe("windows.prompt_share"),
    )
    instead = Cause(
        "shifted rows",
        "The text of the row before is written, and no window carries the text before it: so it is no prompt that is "
        f"repeated. Texts and audio are shifted against each other, in {asked.split} or in train",
        (Change("", "listen to the rows named beside their text", "a list of texts that is off by one shifts all"),),
        "likely",
    )
    told = "Text of the row before is written again: the prompt is learned as part of the text"
    return Cause("prompt", told, _no_prompts(asked), "likely", seen, instead)


def _loops(found: Signs, asked: Asked) -> Cause | None:
    if found.loops < 0.1 and found.bursts < 0.2:
        return None
    told = "Phrases repeat until the length limit: the end of a text is not decoded as it was trained"
    seen = Figure("utterances with loops", _share(found.loops), "%"), Figure("bursts", _share(found.bursts), "%")
    return Cause("loops", told, _against_loops(asked), "likely", seen)


def _spelling(found: Signs, asked: Asked) -> Cause | None:
    if found.case_or_punctuation_alone < 0.5:
        return None
    seen = (Figure("word errors that go with case and punctuation", _share(found.case_or_punctuation_alone), "%"),)
    return _normalisation(asked, seen)


def _empty(found: Signs, asked: Asked) -> Cause | None:
    if found.empty < 0.3:
        return None
    seen = Figure("empty", _share(found.empty), "%"), Figure("such as", ", ".join(found.ids["empty"][:5]))
    told = "Nothing is written for many utterances: the end comes first, as after "
    if asked.theirs:
        return Cause("empty", f"{told}labels that begin with it", (_labels_anew(),), "likely", seen)
    listen = Change("", "listen to the rows named", "audio that is silent, or cut away, has no text")
    short = Change("", INSPECT, "shows the slowest rows of train; texts that are cut short teach to end")
    return Cause("empty", f"{told}training on texts that are cut short, or on silence", (listen, short), "likely", seen)


def _of_rates(history: History, asked: Asked) -> Iterator[Cause]:
    last = history.evaluations[-1] if history.evaluations else None
    name = history.metric
    rate, normalized = (last.rate(name), last.normalized(name)) if last else (None, None)
    if last is None or rate is None:
        return
    if name == "wer" and last.insertions is not None and last.insertions >= MANY_INSERTIONS:
        told = "Far more is written than said: loops, or text that goes on after its end"
        seen = (Figure("insertions", last.insertions, "% of the words"),)
        yield Cause("loops", told, _against_loops(asked), "likely", seen)
    if normalized is not None and normalized < rate / 2:
        yield _normalisation(asked, (Figure(f"{name.upper()} normalised", normalized, "%"),))


def _normalisation(asked: Asked, seen: tuple[Figure, ...]) -> Cause:
    told = "Most errors are case or punctuation: what is counted is not what was trained"
    if asked.theirs:
        why = "or train on texts with case and punctuation"
        return Cause("normalisation", told, (Change("", "normalise both texts before counting", why),), "certain", seen)
    changes = (
        by_normalised(asked.recipe, asked.metric, "where case and punctuation do not matter"),
        Change("clean.case", '"lower"', "or write all texts alike"),
        Change("clean.punctuation", '"strip"', "the same for punctuation"),
    )
    figure = Change("", "read the normalised rate", "texts are written alike, and what is kept goes by it")
    plain = "though the recipe writes all texts alike: the model has not learned to write so"
    instead = Cause("normalisation", f"Most errors are case or punctuation, {plain}", (figure,), "certain")
    return Cause("normalisation", told, changes, "certain", seen, instead)


def _has_targets(recipe: Recipe) -> bool:
    """Whether speech is translated into another language than English."""
    return any(each.target_language for each in (*recipe.data.train, *recipe.data.dev, *recipe.data.test))


def _language(asked: Asked) -> tuple[Change, ...]:
    why = "force it in decoding as in training"
    if asked.theirs:
        return (Change("", f"generation_config.language = {asked.code}", why),)
    return (Change("language", asked.code, why),)


def _task(asked: Asked) -> tuple[Change, ...]:
    why = "the base model would translate else"
    if asked.theirs:
        return (Change("", 'generation_config.task = "transcribe", forced_decoder_ids = None', why),)
    return (Change("task", '"transcribe"', why),)


def _labels_anew() -> Change:
    why = "the common test against bos_token_id never fires, and trains with a doubled start token"
    return Change("", "compare the first label with decoder_start_token_id", why)


def _no_prompts(asked: Asked) -> tuple[Change, ...]:
    why = "the texts before are then no part of the input"
    if asked.theirs:
        return (Change("", "decode with condition_on_previous_text=False and no prompt", why),)
    return (Change("windows.prompt_share", "0.0", why),)


def _against_loops(asked: Asked) -> tuple[Change, ...]:
    if asked.theirs:
        return (Change("", "look whether <|endoftext|> is masked in the labels", "padding and end share one id"),)
    why = "where clips are decoded cut: a model trained on 30 s alone loops on less"
    return (
        Change("train.learning_rate", "half of it", "a decoder that was pushed too far repeats itself"),
        Change("windows.fit_share", "0.5", why, "at least"),
    )


def _share(share: float) -> float:
    return round(100.0 * share, 1)
