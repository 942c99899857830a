"""Family 2: low losses and generated text that is wrong; which cause the outputs show."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from whispertune.diagnose.findings.mismatch import decoding_unlike_training, rate_allowed
from whispertune.diagnose.history import Evaluated, History, Step
from whispertune.diagnose.predictions import Predictions
from whispertune.diagnose.run import diagnose
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
