"""Families 5 and 6: what is made up, left out or forgotten."""

from __future__ import annotations

from whispertune.diagnose.findings.forgetting import Retained, forgetting
from whispertune.diagnose.findings.outputs import (
    cut_off,
    deletions_on_long,
    hallucinations,
    outputs,
    timestamps_lost,
)
from whispertune.diagnose.history import History
from whispertune.diagnose.predictions import Predictions
from whispertune.diagnose.run import Material, findings_of
from whispertune.recipe import Data, Recipe, Windows
from whispertune.score.wer import UtteranceScore, score

SENTENCE = "den gamla bron byggdes av sten för länge sedan här"


def scored(pairs: list[tuple[str, str]]) -> tuple[UtteranceScore, ...]:
    references, texts = zip(*pairs, strict=True)
    return tuple(score([f"row-{n}" for n in range(len(pairs))], references, texts, "sv")[1])


GOOD = scored([(SENTENCE, SENTENCE)] * 40)
LOOPS = scored([(SENTENCE, f"{SENTENCE} {'tack för att ni tittade ' * 20}")] * 3 + [(SENTENCE, SENTENCE)] * 37)


def test_loops_are_told_with_the_rows_and_whether_base_has_them_too() -> None:
    found = hallucinations(Predictions(tuned=LOOPS, base=GOOD))
    assert found is not None
    assert (found.severity, found.sure) == ("high", "certain")
    assert [each.value for each in found.seen[:2]] == ["30 s", 7.5]
    assert "row-0, row-1, row-2" in [each.value for each in found.seen]
    assert "base does so less" in found.means
    both = hallucinations(Predictions(tuned=LOOPS, base=LOOPS))
    assert both is not None
    assert both.severity == "medium"


LOOP = f"{SENTENCE} {'tack för att ni tittade ' * 40}"


def test_a_single_row_that_makes_most_of_the_errors_counts() -> None:
    slight = SENTENCE.replace("gamla", "gamle")
    found = hallucinations(Predictions(tuned=scored([(SENTENCE, LOOP), *[(SENTENCE, slight)] * 29])))
    assert found is not None
    assert [each.told for each in found.seen if each.name in ("errors in them", "such as")] == [
        "errors in them: 87.3 % of all, 66.7 points of the WER",
        "such as: row-0",
    ]


def test_a_single_loop_that_hardly_matters_is_let_be() -> None:
    wrong = " ".join(reversed(SENTENCE.split()))
    assert hallucinations(Predictions(tuned=scored([(SENTENCE, LOOP), *[(SENTENCE, wrong)] * 150]))) is None  # of many
    assert hallucinations(Predictions(tuned=scored([(SENTENCE, LOOP), *[(SENTENCE, SENTENCE)] * 2000]))) is None


def test_in_scripts_without_spaces_a_loop_is_weighed_by_characters() -> None:
    said = "今天天气很好我们去公园散步"
    pairs = [(said, said + "谢谢大家" * 40), *[(said, said)] * 29]
    references, texts = zip(*pairs, strict=True)
    rows = score([str(n) for n in range(30)], references, texts, "zh")[1]
    found = hallucinations(Predictions(tuned=tuple(rows), language="zh"))
    assert found is not None
    assert "points of the CER" in found.seen[2].told


def test_text_on_silence_is_made_up() -> None:
    found = hallucinations(
        Predictions(tuned=scored([("", "Thank you for watching.")] * 3 + [(SENTENCE, SENTENCE)] * 9))
    )
    assert found is not None
    assert any(each.name == "text on silence" and each.value == 25.0 for each in found.seen)


def test_good_texts_and_songs_are_not() -> None:
    song = "na na na na na na na na na na hej hej hej"
    assert hallucinations(Predictions(tuned=GOOD)) is None
    assert hallucinations(Predictions(tuned=scored([(song, song)] * 20))) is None
    assert hallucinations(Predictions()) is None


def test_long_rows_that_lose_their_words() -> None:
    long = f"{SENTENCE} " * 5
    pairs = [(SENTENCE, SENTENCE)] * 30 + [(long, f"{SENTENCE} {SENTENCE}")] * 10
    found = deletions_on_long(Predictions(tuned=scored(pairs)))
    assert found is not None
    assert found.seen[1].value == 60.0
    assert "characters of text" in found.seen[3].told
    durations = {f"row-{n}": 3.0 if n < 30 else 25.0 for n in range(40)}
    timed = deletions_on_long(Predictions(tuned=scored(pairs), durations_s=durations))
    assert timed is not None
    assert (timed.seen[3].value, timed.seen[3].unit) == (25.0, "s")


def test_deletions_everywhere_are_no_matter_of_length() -> None:
    half = " ".join(SENTENCE.split()[::2])
    even = [(SENTENCE, half)] * 30 + [(f"{SENTENCE} " * 5, f"{half} " * 5)] * 10
    assert deletions_on_long(Predictions(tuned=scored(even))) is None
    assert deletions_on_long(Predictions(tuned=GOOD)) is None


def test_texts_that_end_early() -> None:
    start = " ".join(SENTENCE.split()[:4])
    found = cut_off(Predictions(tuned=scored([(SENTENCE, start)] * 4 + [(SENTENCE, SENTENCE)] * 36)))
    assert found is not None
    assert found.seen[1].value == 10.0
    assert cut_off(Predictions(tuned=scored([(SENTENCE, SENTENCE[:-4])] * 40))) is None  # a word is missing
    assert cut_off(Predictions(tuned=scored([(SENTENCE, "")] * 40))) is None  # that is another matter


def test_what_the_recipe_has_is_not_advised_and_what_comes_next_is() -> None:
    start, long = " ".join(SENTENCE.split()[:4]), f"{SENTENCE} " * 5
    pairs = [(SENTENCE, SENTENCE)] * 26 + [(SENTENCE, start)] * 4 + [(long, f"{SENTENCE} {SENTENCE}")] * 10
    recipe = Recipe(model="m", data=Data(), windows=Windows(fit_share=0.0))
    material = Material(History((), ()), Predictions(tuned=scored(pairs)), recipe)
    advised = {each.key: each for each in findings_of(material)}
    assert [each.key for each in advised["cut-off"].change] == ["", ""]
    assert advised["cut-off"].seen[-1].told == "already in the recipe: windows.max_tokens = 220"
    assert [each.key for each in advised["deletions-on-long"].change] == ["data.train", ""]
    other = Recipe(model="m", data=Data(), windows=Windows(fit_share=0.6, max_tokens=100))
    advised = {each.key: each for each in findings_of(Material(material.history, material.predictions, other))}
    assert (advised["cut-off"].change[0].key, advised["cut-off"].change[0].value) == ("windows.max_tokens", "220")
    assert advised["deletions-on-long"].change[0].told.startswith("windows.fit_share = 0.3")
    looping = Material(History((), ()), Predictions(tuned=LOOPS), recipe)
    (found,) = findings_of(looping)
    assert "windows.timestamps_share" not in [each.key for each in found.change]
    assert found.change[0].key == "train.learning_rate"


def test_training_without_timestamps_loses_them() -> None:
    without = Recipe(model="m", data=Data(), windows=Windows(timestamps_share=0.0))
    found = timestamps_lost(without)
    assert found is not None
    assert found.change[0].key == "windows.timestamps_share"
    assert timestamps_lost(Recipe(model="m", data=Data())) is None
    assert timestamps_lost(None) is None
    assert outputs(Predictions(tuned=GOOD, base=GOOD), Recipe(model="m", data=Data())) == []


def test_what_became_worse_by_more_than_a_twentieth_is_forgotten() -> None:
    (found,) = forgetting([Retained("english", 10.0, 14.0, 120), Retained("french", 20.0, 21.5, 80)])
    assert found.severity == "high"
    assert "english, french" in found.means
    assert "+40 % relative" in found.seen[1].unit
    (slight,) = forgetting([Retained("english", 10.0, 11.0, 120, shown=True)])
    assert (slight.severity, slight.sure) == ("medium", "certain")


def test_what_is_kept_is_not_forgotten() -> None:
    assert forgetting([Retained("english", 10.0, 10.4, 120), Retained("silence", 0.0, 0.2, 20)]) == []
    assert forgetting([Retained("english", 10.0, 12.0, 20, shown=False)]) == []  # a test says it may be luck
    assert forgetting([]) == []
