"""Several models on the same rows: the verdicts, what is said of rows that some lack, the tables and the page."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.examined import heard, sentence
from whispertune.cli.compare import _print, short_names
from whispertune.data.segments import Segment
from whispertune.errors import DataError
from whispertune.evaluation.compare import comparison, extras, further, page_of, rates, told, verdicts
from whispertune.evaluation.evaluate import Evaluation, Hypothesis, evaluation_of
from whispertune.evaluation.tokens import RowLoss
from whispertune.score.normalize import NORMALIZERS
from whispertune.score.translation import score_translations


def evaluation(error_share: float, rows: int = 60, skip: int = -1) -> Evaluation:
    """Of texts of eight words, of which such a share is wrong."""
    rng = np.random.default_rng(0)
    found = []
    for row in range(rows):
        words = sentence(rng)
        text = heard(words, error_share, rng)
        segment = Segment(f"{row}", Path(f"{row}.wav"), 0.0, 3.0, " ".join(words), "sv")
        if row != skip:
            found.append(Hypothesis(segment, text))
    return evaluation_of(found, [], 9.0, "ctranslate2", "full")


def test_the_verdicts() -> None:
    same, worse = evaluation(0.3), evaluation(0.6)
    rows = comparison({"base": evaluation(0.5), "tuned": evaluation(0.1), "same": evaluation(0.5), "worse": worse})
    assert [row.verdict for row in rows] == [
        None,
        "better",
        "no difference shown",
        "worse",
    ]
    assert rows[1].as_json()["difference"] < -30
    assert rows[0].as_json()["verdict"] is None
    assert rows[0].real_time_factor == pytest.approx(9 / 180)
    assert comparison({"a": same, "b": evaluation(0.3)})[1].as_json()["p_value"] == 1.0


def written(change: Callable[[str], str], share: float = 0.1) -> Evaluation:
    """The same texts, each written in a manner of its own."""
    found = evaluation(share)
    texts = [change(each.hypothesis) for each in found.utterances]
    rows = [Hypothesis(segment, text) for segment, text in zip(found.segments, texts, strict=True)]
    return evaluation_of(rows, [], 9.0, "ctranslate2", "full")


def shouted(text: str) -> str:
    return f"{text.capitalize()}!"


@pytest.mark.parametrize(
    ("first", "second", "verdicts_", "says"),
    [
        (written(str), written(shouted), ("worse", "no difference shown"), "case, punctuation or spelling alone"),
        (written(shouted), written(str), ("better", "no difference shown"), "case, punctuation or spelling alone"),
        (written(str.upper, 0.6), written(str.upper), ("no difference shown", "better"), "it is one in words, which"),
        (written(str, 0.2), written(str.upper), ("worse", "better"), "better in words, worse with case"),
        (written(str, 0.6), written(str), ("better", "better"), ""),
    ],
)
def test_spelling_is_told_from_words(
    first: Evaluation, second: Evaluation, verdicts_: tuple[str, str], says: str
) -> None:
    rows = comparison({"a": first, "b": second})
    found = rows[1].as_json()
    assert (found["verdict"], found["verdict_normalized"]) == verdicts_
    assert rows[0].as_json()["verdict_normalized"] is None
    difference = second.scores.wer_normalized - first.scores.wer_normalized
    assert found["difference_normalized"] == pytest.approx(difference)
    low, high = found["difference_normalized_interval"]
    assert low <= difference <= high
    assert (found["p_value_normalized"] < 0.05) == (verdicts_[1] != "no difference shown")
    assert (found["probability_of_improvement_normalized"] > 0.9) == (verdicts_[1] == "better")
    (sentence_,) = verdicts(rows)
    assert f"normalised: {verdicts_[1]}" in sentence_
    assert says in sentence_
    assert ("in words" in sentence_ or "none in words" in sentence_) == bool(says)


def test_the_normalizer_of_the_evaluation_decides() -> None:
    """A named one, for which digits of two scripts are the same, or that of the language, for which they are not."""
    segments = [Segment(f"{n}", Path("a.wav"), 0.0, 2.0, "١٢ ٣٤ ٥٦", "sv") for n in range(20)]

    def evaluated(text: str, named: str | None) -> Evaluation:
        normalizer = NORMALIZERS["basic"].choosing([named]) if named else None
        return evaluation_of([Hypothesis(s, text) for s in segments], [], 1.0, "ctranslate2", "full", normalizer)

    for named, verdict in ((None, "worse"), ("digits", "no difference shown")):
        _, second = comparison({"a": evaluated("١٢ ٣٤ ٥٦", named), "b": evaluated("12 34 56", named)})
        assert (second.verdict, second.against[0].verdict_normalized) == ("worse", verdict)


def test_all_pairs_are_judged() -> None:
    models = {"base": evaluation(0.5), "a": evaluation(0.1), "b": evaluation(0.4), "c": evaluation(0.1)}
    rows = comparison(models)
    pairs = {(each.first, each.second): each.verdict for each in further(rows)}
    assert pairs == {("a", "b"): "worse", ("a", "c"): "no difference shown", ("b", "c"): "better"}
    for found in further(rows):
        alone = comparison({found.first: models[found.first], found.second: models[found.second]})
        assert found == alone[1].against[0]
    assert [each.split(":")[0] for each in verdicts(rows)] == ["a", "b", "c", "b", "c", "c"]
    page = page_of(rows, "data/test")
    assert 'id="further"' in page
    assert "b: worse than a: +" in page
    assert 'id="further"' not in page_of(rows[:2], "data/test")


def translated(share: float, speakers: int = 0) -> Evaluation:
    found = evaluation(share)
    segments = tuple(
        replace(each, task="translate", speaker=f"s{n % speakers}" if speakers else None)
        for n, each in enumerate(found.segments)
    )
    return replace(found, segments=segments)


def test_translations_are_judged_by_bleu() -> None:
    models = {"base": translated(0.5), "tuned": translated(0.2), "same": translated(0.5)}
    rows = comparison(models)
    assert [row.verdict for row in rows] == [None, "better", "no difference shown"]
    found = [row.as_json() for row in rows]
    assert {each["judged_by"] for each in found} == {"bleu"}
    for row, each in zip(rows, found, strict=True):
        texts = [u.reference for u in row.evaluation.utterances], [u.hypothesis for u in row.evaluation.utterances]
        scores = score_translations(*texts)
        assert {name: each[name] for name in scores.as_json()} == scores.as_json()
    assert found[1]["difference_bleu"] == pytest.approx(found[1]["bleu"] - found[0]["bleu"])
    assert found[1]["difference_bleu_interval"][0] > 0
    assert found[1]["probability_of_improvement_bleu"] == 1.0
    assert found[1]["difference"] == pytest.approx(found[1]["wer"] - found[0]["wer"])  # still of the error rate
    assert found[1]["verdict_normalized"] is None
    assert [title for title, _ in rates(rows)] == ["BLEU", "chrF", "WER, %", "CER, %", "WER norm., %"]
    assert "tuned: better than base: +" in verdicts(rows)[0]
    assert "points of BLEU" in verdicts(rows)[0]
    assert "difference in BLEU, by paired bootstrap" in told(rows)
    page = page_of(rows, "data/test")
    assert page.count("<figure") == 4
    assert ">BLEU<" in page


def test_bleu_judges_where_it_tells_other_things_than_words() -> None:
    """BLEU and WER disagree: every third word wrong costs all longer n-grams, half of the text left out does not."""
    segments = [
        Segment(f"{n}", Path("a.wav"), 0.0, 2.0, f"{n} b c d e f g h i j k l", "sv", "translate") for n in range(40)
    ]

    def evaluated(change: Callable[[list[str]], list[str]]) -> Evaluation:
        rows = [Hypothesis(each, " ".join(change(each.text.split()))) for each in segments]
        return evaluation_of(rows, [], 1.0, "ctranslate2", "full")

    scattered = evaluated(lambda words: [w if n % 3 else "x" for n, w in enumerate(words)])  # a third wrong
    cut = evaluated(lambda words: words[:6])  # half missing
    _, second = comparison({"scattered": scattered, "cut": cut})
    assert second.against[0].raw.verdict == "worse"
    assert second.verdict == "better"


def test_rows_translated_in_part_are_judged_by_words() -> None:
    def mixed(share: float) -> Evaluation:
        found = translated(share)
        return replace(found, segments=(replace(found.segments[0], task="transcribe"), *found.segments[1:]))

    rows = comparison({"base": mixed(0.5), "tuned": mixed(0.1)})
    assert [row.judged_by for row in rows] == ["wer", "wer"]
    assert rows[1].as_json()["verdict_normalized"] == "better"
    assert rows[0].translation is not None
    assert rows[0].translation.rows == 59
    assert "difference_bleu" not in rows[1].as_json()


def test_normalised_and_character_rates_have_their_intervals() -> None:
    rows = comparison({"base": evaluation(0.5), "tuned": evaluation(0.1)})
    page = page_of(rows, "data/test")
    for row in rows:
        scores = row.evaluation.scores
        for low, high in (scores.wer_interval, scores.cer_interval, scores.wer_normalized_interval):
            assert f">{low:.1f} to {high:.1f}<" in page


@pytest.mark.parametrize("task", ["transcribe", "translate"])
def test_the_tables_can_be_read_on_80_columns(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With all that a run can have recorded, of models with long names that begin alike."""
    monkeypatch.setenv("COLUMNS", "80")
    names = [str(tmp_path / name) for name in ("whisper-base", "a-run-with-quite-a-long-name-of-its-own")]
    recorded = {"seconds_training": 5400.0, "cost": 12.5, "currency": "EUR", "energy_kwh": 0.123, "co2_kg": 0.0456}
    for name in names:
        Path(name).mkdir()
        (Path(name) / "run.json").write_text("{}")
        (Path(name) / "result.json").write_text(json.dumps(recorded))
    first, second = (translated if task == "translate" else evaluation)(0.5), evaluation(0.1)
    second = replace(second, segments=first.segments)
    losses = {name: {each.id: RowLoss(4.0, 2) for each in first.utterances} for name in names}
    rows = comparison(dict(zip(names, (first, second), strict=True)), losses)
    _print(rows)
    printed = [line for line in capsys.readouterr().out.splitlines() if line[:1] in "┏┃┡│└"]
    assert max(map(len, printed)) <= 80
    assert not any("…" in line for line in printed)
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in printed if line.startswith("│")]
    assert "".join(cell[0] for cell in cells) == "whisper-basea-run-with-quite-a-long-name-of-its-own" * 2
    scores = first.scores
    assert any(f"{scores.cer:.1f}" in row for row in cells)
    for low, high in (scores.wer_interval, scores.cer_interval, scores.wer_normalized_interval):
        assert any(f"{low:.1f}–{high:.1f}" in row for row in cells)
    assert any(row[1:] == ["0.050", "2.000", "90.0", "12.50 EUR", "0.123", "0.046"] for row in cells)


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["bundled:whisper-tiny.en", "bundled:whisper-base"], ["whisper-tiny.en", "whisper-base"]),
        (["runs/a", "runs/b/model", "runs/c"], ["a", "b/model", "c"]),
        (["openai/whisper-small", "runs/a"], ["openai/whisper-small", "runs/a"]),
        (["runs/a", "runs/a/model"], ["a", "a/model"]),
        (["runs/a/", "runs/a/b"], ["a/", "a/b"]),
        (["run-a", "run-b"], ["run-a", "run-b"]),
        (["C:\\runs\\a", "C:\\runs\\b"], ["a", "b"]),
    ],
)
def test_names_are_shown_from_where_they_differ(names: list[str], short: list[str]) -> None:
    assert short_names(names) == short


def test_rows_that_one_lacks_count_for_none() -> None:
    rows = comparison({"a": evaluation(0.2), "b": evaluation(0.1, skip=7)})
    assert [row.evaluation.scores.rows for row in rows] == [59, 59]
    assert rows[0].evaluation.audio_seconds == pytest.approx(59 * 3)
    assert rows[0].real_time_factor == pytest.approx(9 / 180)
    assert all(each.id != "7" for row in rows for each in row.evaluation.utterances)


def test_languages_without_spaces_are_compared_by_characters() -> None:
    def chinese(wrong: int) -> Evaluation:
        texts = ["今天天气很好我们去公园"] * 40
        segments = [Segment(f"{n}", Path("a.wav"), 0.0, 2.0, text, "zh") for n, text in enumerate(texts)]
        found = [Hypothesis(s, "错" * wrong + s.text[wrong:]) for s in segments]
        return evaluation_of(found, [], 1.0, "ctranslate2", "full")

    rows = comparison({"a": chinese(3), "b": chinese(1)})
    against = rows[1].against[0].raw
    assert against.verdict == "better"
    assert against.difference == pytest.approx(-100 * 2 / 11)
    assert "in characters" in told(rows)


def test_what_cannot_be_compared() -> None:
    with pytest.raises(DataError, match="one model alone"):
        comparison({"a": evaluation(0.1)})
    with pytest.raises(DataError, match="no row"):
        comparison({"a": evaluation(0.1, rows=1), "b": evaluation(0.1, rows=2, skip=0)})


def test_what_runs_recorded_stands_in_the_table(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "result.json").write_text(json.dumps({"seconds_training": 90.0, "cost": 1.5, "currency": "EUR"}))
    rows = comparison({"base": evaluation(0.5), str(tmp_path): evaluation(0.1)})
    assert extras(rows)[-2:] == [("minutes of training", ["–", "1.5"]), ("cost", ["–", "1.50 EUR"])]
    assert rows[1].as_json()["seconds_training"] == 90.0
    (tmp_path / "result.json").write_text("{")  # a run that was cut short says nothing
    assert comparison({"base": evaluation(0.5), str(tmp_path): evaluation(0.1)})[1].recorded is None


def test_the_page_shows_every_model_and_escapes() -> None:
    page = page_of(comparison({"a<b>": evaluation(0.5), "tuned": evaluation(0.1)}), "data/<test>")
    assert "a&lt;b&gt;" in page
    assert "<b>" not in page
    assert page.count("<figure") == 2
    assert "tuned: better than a&lt;b&gt;: -" in page


def test_losses_stand_in_the_table_and_judge_nothing() -> None:
    models = {"base": evaluation(0.5), "tuned": evaluation(0.1), "int8": evaluation(0.1)}
    of_all = [each.id for each in models["base"].utterances]
    losses = {name: {id_: RowLoss(nats, 4) for id_ in of_all} for name, nats in (("base", 5.0), ("tuned", 10.0))}
    rows = comparison(models, losses)
    assert [row.as_json()["loss"] for row in rows] == [1.25, 2.5, None]
    assert dict(extras(rows))["loss, teacher-forced"] == ["1.250", "2.500", "–"]
    assert [row.verdict for row in rows] == [None, "better", "better"]
    assert "loss, in nats a token" in told(rows)
    assert "loss, teacher-forced" in page_of(rows, "data/test")
    without = comparison(models, {})
    assert "loss, teacher-forced" not in dict(extras(without))
    assert "loss" not in told(without)


def test_losses_are_of_the_rows_that_all_have() -> None:
    """Row 7 was not decoded by one, row 8 not counted for the other: neither is in any of the losses."""
    models = {"a": evaluation(0.2, rows=10), "b": evaluation(0.1, rows=10, skip=7), "int8": evaluation(0.1, rows=10)}
    of_a = {f"{row}": RowLoss(2.0, 2) for row in range(10)} | {"7": RowLoss(99.0, 1), "8": RowLoss(99.0, 1)}
    of_b = {f"{row}": RowLoss(6.0, 3) for row in range(10) if row not in (7, 8)}
    assert [row.loss for row in comparison(models, {"a": of_a, "b": of_b})] == [1.0, 2.0, None]
    assert [row.loss for row in comparison(models, {"a": {"7": RowLoss(1.0, 1)}})] == [None, None, None]
