"""The card of a run that translates: BLEU and chrF stand first, and BLEU judges, as in `compare`."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from tests.finished_run import finished_run, of_texts
from tests.hub_server import Hub
from whispertune.data.segments import Segment
from whispertune.evaluation.compare import comparison
from whispertune.evaluation.evaluate import Evaluation
from whispertune.model.load import ModelFolder
from whispertune.publish.card import card
from whispertune.publish.exported import Exported
from whispertune.publish.facts import RunFacts, read_facts
from whispertune.publish.hub import check_card
from whispertune.publish.translated import translated

EXPORTS = (Exported("transformers", "float32", "", 1, "transformers 5.23.0", None),)
SENTENCE = "we walk to the old bridge and look at water while children play near market until evening comes"


def rows(task: str = "translate") -> list[Segment]:
    order = random.Random(0)
    texts = [" ".join(order.sample(SENTENCE.split(), 12)) for _ in range(60)]
    return [Segment(f"{n}", Path(f"{n}.wav"), 0.0, 5.0, text, "sv", task, f"s{n % 12}") for n, text in enumerate(texts)]


def wordy(segments: list[Segment], split: str = "test") -> Evaluation:
    """All that was said, and as much again: many wrong words, and most n-grams of the reference."""
    return of_texts(segments, lambda text: f"{text} so then you know what i mean here it goes again", split)


def curt(segments: list[Segment], split: str = "test") -> Evaluation:
    """The first third: fewer wrong words, and next to no BLEU."""
    return of_texts(segments, lambda text: " ".join(text.split()[:4]), split)


@pytest.fixture(scope="module")
def facts(tiny: ModelFolder, noises: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFacts:
    """Of a run that translates, whose tuned model says less and less."""
    run = finished_run(tmp_path_factory.mktemp("translated") / "run", tiny.path, noises, task="translate", test=True)
    segments = rows()
    return replace(read_facts(run), base=wordy(segments), tuned=curt(segments), tuned_fit=curt(segments))


def card_of(facts: RunFacts, at_hand: list[Segment]) -> str:
    return card(facts, EXPORTS, "me/whisper-noise", licence=None, multilingual=True, rows=at_hand)


@pytest.mark.parametrize("at_hand", [rows(), []])
def test_its_verdict_is_that_of_compare(at_hand: list[Segment], facts: RunFacts) -> None:
    """By words the tuned model is the better one. Without rows at hand the recipe says what is translated."""
    segments = at_hand or [replace(each, speaker=None) for each in rows()]
    base, tuned = comparison({"base": wordy(segments), "tuned": curt(segments)})
    assert (tuned.judged_by, tuned.verdict) == ("bleu", "worse")
    assert tuned.evaluation.scores.wer < base.evaluation.scores.wer
    found = tuned.against[0].bleu
    assert found is not None
    written = card_of(facts, at_hand)
    assert (
        f"shows the tuned model to be worse: {found.difference:+.1f} points of BLEU, "
        f"{found.interval[0]:+.1f} to {found.interval[1]:+.1f}." in written
    )
    assert "points of WER" not in written
    assert base.translation
    assert tuned.translation
    low, high = tuned.translation.bleu_interval
    assert f"| {tuned.translation.bleu:.1f} ({low:.1f} to {high:.1f}) |" in written
    assert tuned.translation.chrf_signature in written
    assert f"to translate it: BLEU {base.translation.bleu:.1f} before, {tuned.translation.bleu:.1f} after" in written


def test_bleu_and_chrf_stand_above_the_rates_in_every_column(facts: RunFacts) -> None:
    fit = curt(rows())
    written = card_of(replace(facts, tuned_fit=replace(fit, context="fit")), rows())
    lines = [line for line in written.split("## Results")[1].splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:5]] == ["BLEU", "chrF", "WER, raw, %"]
    assert {line.count("|") for line in lines[:8]} == {5}


def test_the_hub_reads_bleu_beside_wer(facts: RunFacts, hub: Hub) -> None:
    written = card_of(facts, rows())
    check_card(written, where="README.md")
    data = ModelCard(written).data
    assert [each.metric_type for each in data.eval_results] == ["bleu", "chrf", "wer", "wer", "cer", "cer"]
    assert data.metrics == ["bleu", "chrf", "wer", "cer"]
    found = translated(facts, rows())
    assert found is not None
    bleu = data.eval_results[0]
    assert bleu.metric_value == round(found.tuned.bleu, 2)
    assert bleu.metric_args["signature"] == found.tuned.bleu_signature
    assert bleu.task_name == "Speech translation"
    assert "speech-translation" in data.tags
    assert "hf-asr-leaderboard" not in data.tags


def test_of_rows_that_are_not_all_translated_words_judge(facts: RunFacts) -> None:
    mixed = [*rows()[:30], *rows("transcribe")[30:]]
    written = card_of(facts, mixed)
    assert "shows the tuned model to be better" in written
    assert "BLEU" not in written
    assert "hf-asr-leaderboard" in ModelCard(written).data.tags
