"""Sets in several languages, translations, and normalisers by name: no figure depends on which row comes first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.examined import heard, sentence
from whispertune.data.audio import AudioReader
from whispertune.data.captions import Cue
from whispertune.data.segments import Segment
from whispertune.decode.transcribe import Progress, Transcriber, Transcript
from whispertune.evaluation.analysis import analyse
from whispertune.evaluation.clips import Clip
from whispertune.evaluation.compare import comparison, told
from whispertune.evaluation.evaluate import Evaluation, Hypothesis, evaluation_of
from whispertune.evaluation.noise import Condition, Conditioned, noise_section
from whispertune.evaluation.recordings import evaluate_recordings
from whispertune.evaluation.report_texts import worst_section
from whispertune.evaluation.retention import RetentionSet, changed, metric_of
from whispertune.score.normalize import Normalizer, normalizer_named

ENGLISH = ("Hello there", "hello, there.")  # without an error, as the normaliser leaves it
HINDI = (("यह कितना सुंदर है", "यह कतन सदर ह"), ("मुझे हिंदी आती है", "मझ हद आत ह"))  # all vowel signs are left out
CHINESE = ("今天天气很好我们去公园", "错天天气很好我们去公园")


def row(name: str, said: str, written: str, language: str, task: str = "transcribe", path: str = "a.wav") -> Hypothesis:
    return Hypothesis(Segment(name, Path(path), 0.0, 2.0, said, language, task), written)


def mixed() -> list[Hypothesis]:
    return [row("en", *ENGLISH, "en"), *(row(f"hi{n}", *each, "hi") for n, each in enumerate(HINDI))]


def evaluated(rows: list[Hypothesis], normalizer: Normalizer | None = None) -> Evaluation:
    return evaluation_of(rows, [], 1.0, "ctranslate2", "full", normalizer)


def wrong_characters(found: Evaluation) -> dict[tuple[str, str], int]:
    return {(each.reference, each.heard): each.count for each in analyse(found).confusions.characters}


def test_the_order_of_the_rows_changes_nothing() -> None:
    first, last = evaluated(mixed()), evaluated(mixed()[::-1])
    assert first.scores.wer_normalized == last.scores.wer_normalized == pytest.approx(70.0)  # 7 of 10 words
    assert first.scores.normalizer == last.scores.normalizer == "whisper-english 1, whispertune-indic 1"
    assert sorted(first.utterances, key=lambda each: each.id) == sorted(last.utterances, key=lambda each: each.id)
    assert wrong_characters(first) == wrong_characters(last)


def test_rows_are_counted_as_where_they_stand_alone() -> None:
    together = evaluated(mixed())
    alone = [evaluated([each]).utterances[0] for each in mixed()]
    assert list(together.utterances) == alone
    of_language = {each.name: each for each in analyse(together).slices if each.attribute == "language"}
    assert (of_language["en"].wer_normalized, of_language["hi"].wer_normalized) == (0.0, 87.5)
    assert wrong_characters(together)["\u093e", ""] == 1  # a vowel sign of Hindi that is left out


def test_all_rows_by_a_normalizer_that_is_named() -> None:
    found = evaluated(mixed(), normalizer_named("english"))
    assert found.scores.normalizer == "whisper-english 1"
    assert found.scores.wer_normalized == pytest.approx(100 / 3)  # whoever asks for it has marks stripped
    assert ("\u093e", "") not in wrong_characters(found)
    rows = comparison({"a": found, "b": replace(found, utterances=found.utterances[:2], segments=found.segments[:2])})
    assert {each.evaluation.scores.normalizer for each in rows} == {"whisper-english 1"}


def english(language: str, task: str, wrong: float) -> Evaluation:
    """Forty English sentences; where they are transcribed, a row in Chinese stands before them."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(40):
        words = sentence(rng)
        rows.append(row(f"{number}", " ".join(words), heard(words, wrong, rng), language, task))
    return evaluated([row("zh", *CHINESE, "zh"), *rows] if task == "transcribe" else rows)


@pytest.mark.parametrize(("language", "task"), [("ja", "translate"), ("en", "transcribe")])
def test_texts_in_english_are_counted_by_words(language: str, task: str) -> None:
    base, tuned = english(language, task, 0.6), english(language, task, 0.1)
    rows = comparison({"base": base, "tuned": tuned})
    against = rows[1].against[0].raw
    assert against.difference == pytest.approx(tuned.scores.wer - base.scores.wer)
    assert ("in BLEU" if task == "translate" else "in words") in told(rows)
    assert "WER in white noise" in str(noise_section({"base": [Conditioned(Condition(10.0, "white"), base)]}))
    assert metric_of(RetentionSet("kept", base.segments)) == "wer"


def test_few_rows_with_spaces_do_not_lead() -> None:
    rows = [row("en", *ENGLISH, "en"), *(row(f"zh{n}", *CHINESE, "zh") for n in range(3))]
    assert evaluated(rows).leading == evaluated(rows[::-1]).leading == "cer"


def test_retention_by_the_language_of_each_row() -> None:
    """Vowel signs that are lost are errors, whatever row is first."""
    right = [Hypothesis(each.segment, each.segment.text) for each in mixed()] * 8
    rows = [replace(each, segment=replace(each.segment, id=f"{n}")) for n, each in enumerate(right)]
    wrong = [replace(each, text=heard) for each, heard in zip(rows, [each.text for each in mixed()] * 8, strict=True)]
    found = RetentionSet("kept", tuple(each.segment for each in rows))
    change = changed(found, evaluated(rows).utterances, evaluated(wrong).utterances, "wer_normalized")
    assert change.tuned.value == pytest.approx(70.0)
    assert change.shown


def test_recordings_each_in_its_language(tmp_path: Path) -> None:
    said = {"en": ENGLISH[0], "hi": HINDI[0][0]}
    written = {"en": ENGLISH[1], "hi": HINDI[0][1]}
    for name in said:
        soundfile.write(tmp_path / f"{name}.wav", np.full(32_000, 1e-3, dtype=np.float32), 16_000)

    def open_(language: str, task: str) -> Transcriber:
        def transcribe(samples: np.ndarray, recording: Path, progress: Progress | None) -> Transcript:
            return Transcript(recording, language, (Cue(0.0, 2.0, written[language]),), 2.0, 1.0)

        return transcribe

    rows = [Segment(name, tmp_path / f"{name}.wav", 0.0, 2.0, text, name) for name, text in said.items()]
    with AudioReader() as reader:
        for order in (rows, rows[::-1]):
            found = evaluate_recordings(open_, order, reader, engine="ctranslate2", context="full").evaluation
            assert found.scores.normalizer == "whisper-english 1, whispertune-indic 1"
            assert found.scores.wer_normalized == pytest.approx(100 * 3 / 6)
            assert found.leading == "wer"


def test_each_card_is_in_its_language() -> None:
    found = evaluated([row("zh", *CHINESE, "zh"), row("ja", "sol och hav", "sol och", "ja", "translate")])
    page = str(worst_section(found.utterances, [Clip(each, trouble="none") for each in found.segments], {}))
    assert "1 error in 11 characters" in page
    assert "1 error in 3 words" in page
    assert 'lang="en"' in page
    assert 'lang="ja"' not in page
