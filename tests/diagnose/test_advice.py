"""Nothing is advised that the recipe has already, whatever it says and whatever the run shows."""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.diagnose.test_confidence import HINDI_LOSS, HINDI_WER
from tests.diagnose.test_fitting import by_heart, hump
from tests.diagnose.test_mismatch import SENTENCES, written
from tests.diagnose.test_outputs import GOOD, LOOP, LOOPS, SENTENCE, scored
from tests.diagnose.test_variety import heard
from tests.diagnose_curves import evaluated, run_of, steps_of, still_falling
from whispertune.diagnose.advice import halved, holds, times_as_long, weighed
from whispertune.diagnose.finding import Change, Figure, Finding
from whispertune.diagnose.findings.forgetting import Retained
from whispertune.diagnose.findings.variety import Facts
from whispertune.diagnose.history import Evaluated, History, Step
from whispertune.diagnose.predictions import Predictions
from whispertune.diagnose.run import Material, findings_of
from whispertune.recipe import Data, Recipe, Train, Windows
from whispertune.recipe_file import parse_recipe

RECIPES = 15
FINDINGS = {
    "case-unlike",
    "code-switching",
    "cut-clips-worse",
    "cut-off",
    "decoding-unlike-training",
    "deletions-on-long",
    "dev-too-small",
    "few-speakers",
    "forgetting",
    "hallucinations",
    "known-speakers",
    "leakage",
    "many-dropped",
    "numbers-unlike",
    "over-confident",
    "over-fitting",
    "punctuation-unlike",
    "rate-too-high",
    "rate-too-low",
    "suspicious-rows",
    "timestamps-lost",
    "under-trained",
    "warm-up-short",
}
CHOICES: dict[str, tuple[Any, ...]] = {  # None: left out
    "language": (None, "sv", "swedish", "en"),
    "task": ("transcribe", "translate"),
    "windows.prompt_share": (0.0, 0.2),
    "windows.timestamps_share": (0.0, 0.5, 0.8),
    "windows.fit_share": (0.0, 0.3, 0.5, 1.0),
    "windows.max_tokens": (100, 220),
    "checkpoints.best": ("auto", "wer", "cer", "wer_normalized", "cer_normalized"),
    "clean.case": ("keep", "lower"),
    "clean.punctuation": ("keep", "strip"),
    "clean.markup": ("keep", "strip", "drop"),
    "clean.script": (True, False),
    "clean.leakage": ("error", "drop", "allow"),
    "augment.pitch_semitones": (0.0, 2.0, 3.0),
    "train.label_smoothing": (0.0, 0.1, 0.2),
    "train.warmup_share": (0.02, 0.1),
    "train.learning_rate": (None, 1e-5, 1.25e-5),
    "train.method": ("full", "lora"),
    "train.steps": (None, 200),
    "train.step_windows": (None, 8),
    "evaluation.subset": (None, 80),
    "evaluation.context": ("auto", "full"),
}


def drawn(rng: random.Random) -> Recipe:
    tree: dict[str, Any] = {"model": "openai/whisper-small", "data": {}}
    for key, choices in CHOICES.items():
        if (value := rng.choice(choices)) is not None:
            put(tree, key, value)
    return parse_recipe(tree)


def put(tree: dict[str, Any], key: str, value: object) -> None:
    *tables, name = key.split(".")
    for table in tables:
        tree = tree.setdefault(table, {})
    tree[name] = value


def low_loss(context: str = "full", **more: Any) -> History:
    steps = tuple(Step(step, 3.0 * 0.5 ** (step / 20)) for step in range(1, 101))
    loss = None if context == "fit" else 0.325
    return History(steps, (Evaluated(100, loss, 98.1, context=context, **more),))


def diverging(done: float) -> float:
    return 2.0 - 1.5 * done if done < 0.4 else 1.4 + 4 * (done - 0.4)


HEALTHY = (60.0, 45.0, 40.0, 39.8)
LONG = f"{SENTENCE} " * 5
TEXTS = {
    "english": ["the old bridge was built of stone", "we are going to the sea and it is early"] * 5,
    "russian": ["Это старый каменный мост, да"] * 10,
    "loops": [f"{text} {'och så vidare ' * 40}" for text in SENTENCES],
    "begun": [f"Tack till {' '.join(reversed(text.split()))}" for text in SENTENCES],
    "tokens": [f"<|sv|><|transcribe|> {text[::-1]}" for text in SENTENCES],
    "before": [SENTENCES[-1], *SENTENCES[:-1]],
    "same": ["ja ja ja"] * 10,
    "spelled": [", ".join(text.upper().split()) + "!" for text in SENTENCES],
    "empty": [""] * 10,
}


def materials() -> Iterator[Material]:
    """Runs that show every finding, and every cause of decoding unlike training."""
    nothing = History((), ())
    for texts in TEXTS.values():
        yield Material(low_loss(), written(texts))
    yield Material(low_loss())
    yield Material(low_loss(insertions=250.0))
    yield Material(low_loss(wer_normalized=20.0))
    yield Material(low_loss("fit"), Predictions(tuned=GOOD, language="sv"))
    yield Material(History((), tuple(map(Evaluated, range(1000, 6000, 1000), HINDI_LOSS, HINDI_WER))))
    yield Material(History(steps_of(by_heart), evaluated((50.0, 40.0, 44.0, 48.0), (0.9, 0.7, 0.9, 1.2))))
    yield Material(run_of(still_falling, (90.0, 75.0, 66.0, 60.0)))
    yield Material(run_of(still_falling, HEALTHY, rate=1e-7))
    yield Material(run_of(diverging, HEALTHY, rate=3e-4))
    yield Material(run_of(hump, HEALTHY, warm=0.02))
    lucky = tuple(Evaluated(n, wer=30.0 + n / 10, interval=(25.0, 35.0), rows=80) for n in (1, 2, 3))
    yield Material(History((), lucky))
    facts = Facts(80, 40, frozenset("abc"), frozenset("ab"), 10)
    yield Material(nothing, Predictions(base=heard(3, 20), tuned=heard(1, 20), language="sv"), facts=facts)
    yield Material(nothing, facts=replace(facts, split="test"), dropped={"no text": 20}, used=200)
    yield Material(nothing, retained=(Retained("english", 10.0, 14.0, 120),))
    yield Material(nothing, Predictions(tuned=LOOPS, cut=LOOPS, language="sv"))
    yield Material(nothing, Predictions(tuned=GOOD, cut=scored([(SENTENCE, LOOP)] * 3 + [(SENTENCE, SENTENCE)] * 37)))
    ends = [(SENTENCE, " ".join(SENTENCE.split()[:4]))] * 4 + [(LONG, f"{SENTENCE} {SENTENCE}")] * 10
    yield Material(nothing, Predictions(tuned=scored([(SENTENCE, SENTENCE)] * 26 + ends), language="sv"))
    yield Material(nothing, Predictions(tuned=scored([(SENTENCE, f"{SENTENCE.capitalize()}, ja.")] * 20)))
    numbers = [("det kostar 25 kronor", "det kostar tjugofem kronor")] * 6 + [(SENTENCE, SENTENCE)] * 30
    other = [("helt annan text i filen", "zzz qqq")] * 2
    mixed = [("ett software company är", "ett σοφτ κομ är"), ("det är κομπανι här", "det var en bil")] * 3
    yield Material(nothing, Predictions(tuned=scored([*numbers, *other, *mixed])))


def equals(recipe: Recipe, key: str, value: str) -> bool:
    """Found without `advice`: through the recipe as a tree."""
    has: Any = recipe.model_dump()
    for name in key.split("."):
        has = has[name]  # a key that is none fails here
    try:
        return bool(tomllib.loads(f"it = {value}")["it"] == has)
    except tomllib.TOMLDecodeError:
        return False


def taken(recipe: Recipe, change: Change) -> Recipe | None:
    """The recipe with the change made; None where it is in words."""
    try:
        value = tomllib.loads(f"it = {change.value}")["it"]
    except tomllib.TOMLDecodeError:
        return None
    tree = recipe.model_dump(exclude_unset=True)
    put(tree, change.key, value)
    return parse_recipe(tree)


def test_no_finding_advises_what_the_recipe_has() -> None:
    rng, found = random.Random(1), set()
    for material in materials():
        for recipe in (drawn(rng) for _ in range(RECIPES)):
            for finding in findings_of(replace(material, recipe=recipe)):
                check(finding, recipe)
                found.add(finding.key)
    assert found == FINDINGS  # all of them are looked at


def check(finding: Finding, recipe: Recipe) -> None:
    assert finding.change, finding.key
    assert len(set(finding.change)) == len(finding.change)
    for change in finding.change:
        assert not re.search(r"\w+\.\w+ = |^(language|task) = ", change.why), change  # nor in passing
        if change.key:
            assert not equals(recipe, change.key, change.value), (finding.key, change)
            taken(recipe, change)  # which is a recipe again


SMALL = Recipe(model="m", data=Data(), windows=Windows(fit_share=0.6, prompt_share=0.0))


@pytest.mark.parametrize(
    ("change", "is_held"),
    [
        (Change("windows.prompt_share", "0.0", "why"), True),
        (Change("windows.prompt_share", "0", "why"), True),
        (Change("windows.prompt_share", "0.2", "why"), False),
        (Change("windows.fit_share", "0.5", "why"), False),
        (Change("windows.fit_share", "0.5", "why", "at least"), True),
        (Change("windows.fit_share", "0.7", "why", "at least"), False),
        (Change("windows.fit_share", "0.7", "why", "at most"), True),
        (Change("windows.fit_share", "lower", "why", "at most"), False),
        (Change("task", '"transcribe"', "why"), True),
        (Change("language", '"sv"', "why"), False),
        (Change("train.learning_rate", "1e-5", "why", "at least"), False),  # not given
        (Change("clean.script", "true", "why"), True),
        (Change("", "0.0", "why"), False),
    ],
)
def test_what_a_recipe_holds(change: Change, is_held: bool) -> None:
    assert holds(SMALL, change) == is_held
    assert not holds(None, change)


def test_what_is_held_is_said_to_be_so_and_what_comes_next_is_named() -> None:
    changes = Change("windows.prompt_share", "0.0", "why"), Change("windows.fit_share", "0.9", "why")
    after = Change("", "listen", "next")
    given = Finding("a", "low", (Figure("rows", 3),), "it means", changes, "likely", (after,))
    found = weighed(given, SMALL)
    assert [each.told for each in found.seen] == ["rows: 3", "already in the recipe: windows.prompt_share = 0"]
    assert found.change == (changes[1], after)
    assert weighed(given, None) == given
    assert weighed(replace(given, change=changes[1:]), SMALL).change == changes[1:]


@pytest.mark.parametrize(
    ("train", "told"),
    [
        (Train(), "train.epochs = 1.5"),
        (Train(epochs=10, steps=301), "train.steps = 150"),
        (Train(hours=3), "train.hours = 1.5"),
    ],
)
def test_the_length_is_changed_under_the_key_that_counts(train: Train, told: str) -> None:
    recipe = Recipe(model="m", data=Data(), train=train)
    assert times_as_long(recipe, 0.5, "why").told == f"{told}: why"
    assert times_as_long(None, 0.5, "why").told == "train.epochs = 0.5 times as many: why"


def test_half_of_nothing_is_no_advice() -> None:
    none = Recipe(model="m", data=Data(), windows=Windows(fit_share=0.0))
    assert halved(SMALL, "windows.fit_share", "why").value == "0.3"
    assert holds(none, halved(none, "windows.fit_share", "why"))
    assert halved(None, "windows.fit_share", "why").value == "lower"
