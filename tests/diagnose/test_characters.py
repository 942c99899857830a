"""Runs in languages that are written without spaces are judged by characters: their WER counts whole sentences."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from whispertune.diagnose.history import from_metrics, from_trainer_state
from whispertune.diagnose.predictions import Predictions
from whispertune.diagnose.run import Material, findings_of
from whispertune.score.wer import UtteranceScore, score

ROWS = 100
LETTERS = {
    "zh": "今天气很好我们去公园散步吃饭看书学习中文他说明白了",
    "th": "กขคงจชดตถทนบปผพมยรลวสหอ",
}


def errors(text: str, share: float, letters: str, rng: random.Random) -> str:
    return "".join(rng.choice(letters) if rng.random() < share else letter for letter in text)


def scored(language: str, share: float, length: int = 30) -> tuple[dict[str, Any], list[UtteranceScore]]:
    """Random sentences of which this share of the characters is wrong."""
    rng, letters = random.Random(0), LETTERS[language]
    references = ["".join(rng.choice(letters) for _ in range(length)) for _ in range(ROWS)]
    written = [errors(text, share, letters, rng) for text in references]
    found, utterances = score([str(row) for row in range(ROWS)], references, written, language)
    names = ("wer", "cer", "wer_normalized", "cer_normalized", "insertions", "normalizer")
    figures = {name: getattr(found, name) for name in names}
    return figures | {"wer_interval": list(found.wer_interval or ())}, utterances


def material(language: str, shares: Sequence[float], loss: float) -> Material:
    """A run that was evaluated with these shares of wrong characters, evenly over its 200 steps."""
    lines: list[dict[str, Any]] = [
        {"kind": "step", "step": step, "loss": 1.5 * 0.98**step + 0.2, "learning_rate": 1e-5, "total_steps": 200}
        for step in range(1, 201)
    ]
    utterances: list[UtteranceScore] = []
    for place, share in enumerate(shares, 1):
        figures, utterances = scored(language, share)
        step = 200 * place // len(shares)
        known = {"kind": "evaluation", "step": step, "loss": loss * (1 + share - shares[-1]), "rows": ROWS}
        lines.append(known | {"weights": "live", "context": "full", "calibration_error": 3.0} | figures)
    return Material(from_metrics(lines), Predictions(tuned=tuple(utterances), language=language))


@pytest.mark.parametrize("language", LETTERS)
@pytest.mark.parametrize(("share", "loss"), [(0.08, 0.2), (0.08, 0.15), (0.10, 0.25)])
def test_a_run_in_order_is_left_alone(language: str, share: float, loss: float) -> None:
    given = material(language, (1.6 * share, 1.2 * share, 1.02 * share, share), loss)
    assert given.history.evaluations[-1].wer > 85  # type: ignore[operator]  # of sentences
    assert [each.key for each in findings_of(given) if each.severity == "high"] == []


@pytest.mark.parametrize("language", LETTERS)
def test_a_run_that_is_decoded_otherwise_is_found(language: str) -> None:
    found = findings_of(material(language, (0.9, 0.85, 0.85, 0.85), 0.15))
    (first,) = [each for each in found if each.key == "decoding-unlike-training"]
    assert first.severity == "high"
    assert "CER" in [each.name for each in first.seen]


def test_a_set_in_several_languages_is_not_read_by_one_of_its_normalizers() -> None:
    for label, metric in (("whispertune-characters 1", "cer"), ("whisper-english 1, whispertune-characters 1", "wer")):
        line = {"kind": "evaluation", "step": 1, "wer": 50.0, "cer": 20.0, "normalizer": label}
        assert from_metrics([line]).metric == metric


def test_the_unit_of_a_log_goes_by_its_middle_rate() -> None:
    def rates(*given: float) -> list[float | None]:
        log = [{"step": step, "eval_loss": 0.3, "eval_wer": rate} for step, rate in enumerate(given, 1)]
        return [each.wer for each in from_trainer_state(log).evaluations]

    assert rates(0.9, 0.55, 1.4, 2.6) == pytest.approx([90, 55, 140, 260])  # loops at the end
    assert rates(98.0, 40.0, 3.0, 0.8) == [98.0, 40.0, 3.0, 0.8]
    assert rates(0.5, 0.4) == [50.0, 40.0]


def test_evaluations_on_other_clips_are_not_compared() -> None:
    lines = [
        {"kind": "evaluation", "step": step, "wer": rate, "loss": 0.5, "weights": "live", "context": context}
        for step, rate, context in ((10, 20.0, "fit"), (20, 70.0, "full"), (30, 60.0, "full"))
    ]
    history = from_metrics(lines)
    assert [rate for _, rate in history.measured("wer")] == [70.0, 60.0]
    best = history.best()
    assert best is not None
    assert best.step == 30
    assert "1 of the evaluations" in " ".join(history.notes)
