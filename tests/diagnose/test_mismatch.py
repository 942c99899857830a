"""Family 2: low losses and generated text that is wrong; which cause the outputs show."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from whispertune.diagnose.advice import weighed
from whispertune.diagnose.finding import Finding
from whispertune.diagnose.findings.mismatch import decoding_unlike_training, rate_allowed
from whispertune.diagnose.history import Evaluated, History, Step
from whispertune.diagnose.predictions import Predictions
from whispertune.diagnose.run import diagnose
from whispertune.recipe import Checkpoints, Clean, Data, Recipe, SourceTable, Windows
from whispertune.score.wer import UtteranceScore, score

# A tutorial's Swedish run: dev loss and WER as decoded first, and after the language was forced.
SWEDISH_BEFORE = (0.325, 98.1)
SWEDISH_AFTER = (0.304, 20.7)

SENTENCES = (
    "den gamla bron byggdes av sten",
    "vi reser till havet i morgon bitti",
    "hon läste boken hela natten",
    "barnen leker på gården efter skolan",
    "kaffet är slut och affären har stängt",
    "tåget mot norr är försenat igen",
    "han glömde nycklarna på bordet",
    "det regnar sällan här om sommaren",
    "läraren skrev orden på tavlan",
    "katten sover under den blå stolen",
)


def history(loss: float | None = 0.325, rate: float = 98.1) -> History:
    steps = tuple(Step(step, 3.0 * 0.5 ** (step / 20)) for step in range(1, 101))
    return History(steps, (Evaluated(100, loss, rate),))


def written(texts: list[str], references: tuple[str, ...] = SENTENCES, language: str = "sv") -> Predictions:
    ids = [f"row-{place}" for place in range(len(texts))]
    return Predictions(tuned=tuple(score(ids, references, texts, language)[1]), language=language)


def cause(predictions: Predictions | None, given: History | None = None) -> str:
    found = decoding_unlike_training(given or history(), predictions)
    assert found is not None
    assert (found.key, found.severity) == ("decoding-unlike-training", "high")
    return str(found.seen[-1].value)


def test_the_swedish_run_is_decoded_unlike_it_was_trained() -> None:
    published = History((), (Evaluated(1000, *SWEDISH_BEFORE),), "transformers")
    found = decoding_unlike_training(published, None, "sv")
    assert found is not None
    assert found.sure == "possible"  # there is no text to tell by
    assert found.seen[-1].value == "language or task"
    assert 'language = "sv"' in found.change[0].value
    forced = History((), (Evaluated(1000, *SWEDISH_AFTER),), "transformers")
    assert decoding_unlike_training(forced, None, "sv") is None


def test_the_swedish_log_is_diagnosed_as_a_whole(tmp_path: Path) -> None:
    state = tmp_path / "trainer_state.json"

    def keys(loss: float, rate: float) -> list[str]:
        state.write_text(json.dumps({"log_history": [{"step": 1000, "eval_loss": loss, "eval_wer": rate}]}))
        return [each.key for each in diagnose(state).findings]

    assert keys(*SWEDISH_BEFORE) == ["decoding-unlike-training"]
    assert keys(*SWEDISH_AFTER) == []


def test_a_loss_allows_of_so_many_errors() -> None:
    assert rate_allowed(0.0) == 0.0
    assert rate_allowed(SWEDISH_AFTER[0]) > SWEDISH_AFTER[1]
    assert rate_allowed(SWEDISH_BEFORE[0]) < SWEDISH_BEFORE[1] - 15
    assert rate_allowed(0.2, "sv") < rate_allowed(0.2) < rate_allowed(0.2, "ta")  # letters of three bytes
    assert rate_allowed(0.1) < rate_allowed(1.0) < rate_allowed(10.0) <= 100.0


def test_a_language_of_many_tokens_a_word_may_have_more_wrong_words() -> None:
    given = History((), (Evaluated(1000, 0.2, 72.0),))
    assert decoding_unlike_training(given, None, "ta") is None
    assert decoding_unlike_training(given, None, "sv") is not None


def test_english_for_swedish_is_the_task() -> None:
    english = ["the old bridge was built of stone", "we are going to the sea and it is early"] * 5
    assert cause(written(english)) == "task"


def test_another_script_is_the_language() -> None:
    assert cause(written(["Это старый каменный мост, да"] * 5 + ["мы едем к морю завтра утром"] * 5)) == "language"


def test_loops_are_loops() -> None:
    assert cause(written([f"{text} {'och så vidare ' * 40}" for text in SENTENCES])) == "loops"


def test_a_wrong_beginning_that_all_share_is_the_start() -> None:
    texts = [f"Tack till {' '.join(reversed(text.split()))}" for text in SENTENCES]
    found = decoding_unlike_training(history(), written(texts))
    assert found is not None
    assert found.seen[-1].value == "start tokens"
    assert any(each.value == "Tack till" for each in found.seen)


def test_tokens_written_out_are_told_before_all_else() -> None:
    assert cause(written([f"<|sv|><|transcribe|> {text[::-1]}" for text in SENTENCES])) == "tokens"


def test_text_of_the_row_before_is_the_prompt() -> None:
    assert cause(written([SENTENCES[-1], *SENTENCES[:-1]])) == "prompt"


def test_one_text_for_all_rows() -> None:
    assert cause(written(["ja ja ja"] * 10)) == "same text"


def test_capitals_and_commas_alone_are_normalisation() -> None:
    shouted = [", ".join(text.upper().split()) + "!" for text in SENTENCES]
    found = decoding_unlike_training(history(), written(shouted))
    assert found is not None
    assert found.seen[-1].value == "normalisation"
    assert found.sure == "certain"
    assert any(each.value == '"wer_normalized"' for each in found.change)


def told_to(predictions: Predictions | None, recipe: Recipe, given: History | None = None) -> Finding:
    """What a run of this recipe is told."""
    found = decoding_unlike_training(given or history(), predictions, "sv", recipe)
    assert found is not None
    return weighed(found, recipe)


def recipe_of(**tables: Any) -> Recipe:
    return Recipe(model="m", data=tables.pop("data", Data()), **tables)


ENGLISH = written(["the old bridge was built of stone", "we are going to the sea and it is early"] * 5)
SHIFTED = written([SENTENCES[-1], *SENTENCES[:-1]])


def test_many_empty_texts_are_empty() -> None:
    found = decoding_unlike_training(history(), written([""] * 4 + list(SENTENCES[4:])))
    assert found is not None
    assert found.seen[-1].value == "empty"
    assert "Nothing is written" in found.means
    assert ("empty", 40.0) in [(each.name, each.value) for each in found.seen]
    assert any(each.value == "row-0, row-1, row-2, row-3" for each in found.seen)
    theirs = replace(history(), writer="transformers")
    found = decoding_unlike_training(theirs, written([""] * 4 + list(SENTENCES[4:])))
    assert found is not None
    assert "decoder_start_token_id" in found.change[0].value
    few = written([""] * 2 + [" ".join(reversed(text.split())) for text in SENTENCES[2:]])
    other = decoding_unlike_training(history(), few)
    assert other is not None
    assert "empty" not in {each.name for each in other.seen} | {each.value for each in other.seen}


def test_english_in_a_recipe_that_names_language_and_task_is_of_the_rows() -> None:
    found = told_to(ENGLISH, recipe_of(language="sv"))
    assert found.seen[-1].value == "rows"
    assert 'language = "sv", task = "transcribe"' in [each.value for each in found.seen]
    assert "the task is transcribe" in found.means
    assert {"language", "task"}.isdisjoint(each.key for each in found.change)
    named = told_to(ENGLISH, recipe_of(language="swedish"))
    assert "language" not in [each.key for each in named.change]  # by its name


def test_the_recipes_task_and_language_say_which_of_them_it_is() -> None:
    translating = told_to(replace(ENGLISH, language="en"), recipe_of(language="sv", task="translate"))
    assert (translating.seen[-1].value, translating.sure) == ("task", "certain")
    assert ("task", '"transcribe"') in [(each.key, each.value) for each in translating.change]
    nameless = told_to(ENGLISH, recipe_of())
    assert nameless.seen[-1].value == "language"
    assert "language" in [each.key for each in nameless.change]
    assert "task" not in [each.key for each in nameless.change]
    to_swedish = Data(dev=(SourceTable(source="a", target_language="sv"),))
    target = told_to(ENGLISH, recipe_of(language="fi", task="translate", data=to_swedish))
    assert target.seen[-1].value == "target"
    assert "task" not in [each.key for each in target.change]


def test_another_script_in_a_recipe_that_names_the_language() -> None:
    russian = written(["Это старый каменный мост, да"] * 5 + ["мы едем к морю завтра утром"] * 5)
    found = told_to(russian, recipe_of(language="sv"))
    assert "rows" in found.means.split("so either ")[1]
    assert {"language", "clean.script"}.isdisjoint(each.key for each in found.change)
    unchecked = told_to(russian, recipe_of(language="sv", clean=Clean(script=False)))
    assert ("clean.script", "true") in [(each.key, each.value) for each in unchecked.change]


def test_text_of_the_row_before_without_prompts_is_a_shift() -> None:
    with_prompts = told_to(SHIFTED, recipe_of(language="sv"))
    assert with_prompts.seen[-1].value == "prompt"
    assert ("windows.prompt_share", "0.0") in [(each.key, each.value) for each in with_prompts.change]
    assert "windows.prompt_share = 0.2" in [each.value for each in with_prompts.seen]
    without = told_to(SHIFTED, recipe_of(language="sv", windows=Windows(prompt_share=0.0)))
    assert without.seen[-1].value == "shifted rows"
    assert "windows.prompt_share" not in [each.key for each in without.change]
    assert "windows.prompt_share = 0" in [each.value for each in without.seen]
    assert "in dev or in train" in without.means
    of_test = told_to(replace(SHIFTED, split="test"), recipe_of(language="sv", windows=Windows(prompt_share=0.0)))
    assert "in test or in train" in of_test.means


def test_one_text_or_one_beginning_without_prompts_is_no_prompt() -> None:
    recipe = recipe_of(language="sv", windows=Windows(prompt_share=0.0))
    same = told_to(written(["ja ja ja"] * 10), recipe)
    assert "no window carries the text before it" in same.means
    begun = told_to(written([f"Tack till {' '.join(reversed(text.split()))}" for text in SENTENCES]), recipe)
    assert "no window carries the text before it" in begun.means
    for found in (same, begun):
        assert found.change
        assert "windows.prompt_share" not in [each.key for each in found.change]


def test_normalisation_that_the_recipe_has_is_said_to_be_so() -> None:
    shouted = written([", ".join(text.upper().split()) + "!" for text in SENTENCES])
    best = Checkpoints(best="wer_normalized")
    found = told_to(shouted, recipe_of(language="sv", checkpoints=best))
    assert found.seen[-1].value == 'checkpoints.best = "wer_normalized"'
    assert [each.key for each in found.change] == ["clean.case", "clean.punctuation", ""]
    whole = told_to(shouted, recipe_of(language="sv", checkpoints=best, clean=Clean(case="lower", punctuation="strip")))
    assert [each.key for each in whole.change] == [""]
    assert "has not learned to write so" in whole.means


def test_tokens_in_texts_are_taken_out_by_markup_where_it_is_kept() -> None:
    tokens = written([f"<|sv|><|transcribe|> {text[::-1]}" for text in SENTENCES])
    assert ("clean.markup", '"strip"') in [(each.key, each.value) for each in told_to(tokens, recipe_of()).change]
    for done in ("strip", "drop"):
        found = told_to(tokens, recipe_of(clean=Clean(markup=done)))
        assert "clean.markup" not in [each.key for each in found.change]
        assert "or had when the model" in found.means


def test_without_texts_a_recipe_that_names_its_language_is_told_to_look_at_them() -> None:
    found = told_to(None, recipe_of(language="sv"))
    assert found.seen[-1].value == "not known"
    assert [each.key for each in found.change] == [""]
    assert "language" in [each.key for each in told_to(None, recipe_of()).change]


def test_counts_alone_tell_of_loops_and_of_normalisation() -> None:
    base = history(None, 300.0)
    looping = replace(base, evaluations=(replace(base.evaluations[0], insertions=250.0),))
    assert cause(None, looping) == "loops"
    spelled = replace(base, evaluations=(replace(base.evaluations[0], wer=95.0, wer_normalized=20.0),))
    assert cause(None, spelled) == "normalisation"


def test_cut_clips_that_explode_beside_whole_ones_that_do_not() -> None:
    given = history(None, 700.0)
    given = replace(given, evaluations=(replace(given.evaluations[0], context="fit"),))
    good = written(list(SENTENCES))
    found = decoding_unlike_training(given, good)
    assert found is not None
    assert found.seen[-1].value == "context"
    assert found.change[0].key == "evaluation.context"


@pytest.mark.parametrize(
    "given",
    [
        history(0.3, 35.0),  # loss and WER fit
        history(2.5, 99.0),  # a loss that is as bad
        History((), (Evaluated(100, None, 98.0),)),  # nothing is known of losses
        History(tuple(Step(n, 4.0 - n / 50) for n in range(1, 101)), (Evaluated(50, None, 99.0),)),  # train is high
    ],
)
def test_where_they_fit_nothing_is_said(given: History) -> None:
    assert decoding_unlike_training(given) is None


def test_wrong_words_without_a_sign_are_no_matter_of_decoding() -> None:
    shuffled = written([" ".join(reversed(text.split())) for text in SENTENCES])
    assert shuffled.tuned_rate("wer") > 60
    assert decoding_unlike_training(history(None, 95.0), shuffled) is None


def test_predictions_of_a_good_model_have_no_causes() -> None:
    good: tuple[UtteranceScore, ...] = written(list(SENTENCES)).tuned
    assert decoding_unlike_training(history(0.1, 2.0), Predictions(tuned=good, language="sv")) is None
