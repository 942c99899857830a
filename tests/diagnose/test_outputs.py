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
from whispertune.diagnose.predictions import Predictions
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
    assert found.seen[0].value == 7.5
    assert "row-0, row-1, row-2" in [each.value for each in found.seen]
    assert "base does so less" in found.means
    both = hallucinations(Predictions(tuned=LOOPS, base=LOOPS))
    assert both is not None
    assert both.severity == "medium"


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
    assert found.seen[0].value == 60.0
    assert "characters of text" in found.seen[2].told
    durations = {f"row-{n}": 3.0 if n < 30 else 25.0 for n in range(40)}
    timed = deletions_on_long(Predictions(tuned=scored(pairs), durations_s=durations))
    assert timed is not None
    assert (timed.seen[2].value, timed.seen[2].unit) == (25.0, "s")


def test_deletions_everywhere_are_no_matter_of_length() -> None:
    half = " ".join(SENTENCE.split()[::2])
    even = [(SENTENCE, half)] * 30 + [(f"{SENTENCE} " * 5, f"{half} " * 5)] * 10
    assert deletions_on_long(Predictions(tuned=scored(even))) is None
    assert deletions_on_long(Predictions(tuned=GOOD)) is None


def test_texts_that_end_early() -> None:
    start = " ".join(SENTENCE.split()[:4])
    found = cut_off(Predictions(tuned=scored([(SENTENCE, start)] * 4 + [(SENTENCE, SENTENCE)] * 36)))
    assert found is not None
    assert found.seen[0].value == 10.0
    assert cut_off(Predictions(tuned=scored([(SENTENCE, SENTENCE[:-4])] * 40))) is None  # a word is missing
    assert cut_off(Predictions(tuned=scored([(SENTENCE, "")] * 40))) is None  # that is another matter


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
