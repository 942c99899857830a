"""Several models on the same rows: the verdicts, what is said of rows that some lack, the page and the command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.examined import heard, sentence
from whispertune.cli import main
from whispertune.data.segments import Segment
from whispertune.errors import DataError
from whispertune.evaluation.compare import cells, comparison, heads, page_of, told
from whispertune.evaluation.evaluate import Evaluation, Hypothesis, evaluation_of
from whispertune.evaluation.tokens import RowLoss
from whispertune.model.load import ModelFolder
from whispertune.service.evaluate import Decoding, compare_models


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
    assert [row.against_first and row.against_first.verdict for row in rows] == [
        None,
        "better",
        "no difference shown",
        "worse",
    ]
    assert rows[1].as_json()["difference"] < -30
    assert rows[0].as_json()["verdict"] is None
    assert rows[0].real_time_factor == pytest.approx(9 / 180)
    assert comparison({"a": same, "b": evaluation(0.3)})[1].as_json()["p_value"] == 1.0


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
    against = rows[1].against_first
    assert against is not None
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
    titles = heads(rows)
    assert titles[-2:] == ["minutes of training", "cost"]
    assert cells(rows[0], titles)[-2:] == ["–", "–"]
    assert cells(rows[1], titles)[-2:] == ["1.5", "1.50 EUR"]
    assert rows[1].as_json()["seconds_training"] == 90.0
    (tmp_path / "result.json").write_text("{")  # a run that was cut short says nothing
    assert comparison({"base": evaluation(0.5), str(tmp_path): evaluation(0.1)})[1].recorded is None


def test_the_page_shows_every_model_and_escapes() -> None:
    page = page_of(comparison({"a<b>": evaluation(0.5), "tuned": evaluation(0.1)}), "data/<test>")
    assert "a&lt;b&gt;" in page
    assert "<b>" not in page
    assert page.count("<figure") == 2
    assert "tuned: better than a&lt;b&gt;: -" in page


def test_the_command(english_read: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "compared.html"
    models = ["bundled:whisper-tiny.en", "bundled:whisper-base"]
    options = ["--data", str(english_read), "--language", "en", "--out", str(out), "--json"]
    assert main(["compare", *models, *options]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [each["model"] for each in found["models"]] == models
    assert [each["verdict"] for each in found["models"]] == [None, "no difference shown"]  # three clips show nothing
    assert all(each["real_time_factor"] > 0 and 0 <= each["wer"] < 30 for each in found["models"])
    assert all(0 < each["loss"] < 0.25 for each in found["models"])  # teacher-forced
    assert "bundled:whisper-base" in out.read_text()


def test_the_command_in_words(
    tiny: ModelFolder, noises: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(tiny.path, tmp_path / "other")
    options = ["--data", str(noises / "dev"), "--language", "sv", "--limit", "1", "--normalizer", "basic+digits"]
    assert main(["compare", str(tiny.path), str(other), *options]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 rows" in printed
    assert "normaliser: whispertune-basic+digits 1" in printed
    assert "no difference shown to" in printed


@pytest.mark.parametrize(
    ("models", "says"),
    [
        (["a", "b", "--normalizer", "none"], "one of basic, english, indic, arabic, characters"),
        (["bundled:whisper-base", "bundled:whisper-base"], "stands twice"),
        (["bundled:whisper-base", "no-such"], "no model 'no-such'"),
    ],
)
def test_wrong_names_end_with_2(
    models: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *models, "--data", str(tmp_path)]) == 2
    assert says in capsys.readouterr().err


@pytest.fixture
def speaking(tiny: ModelFolder, tmp_path: Path) -> Callable[..., str]:
    """Copies of a model that are for a language, or a task."""

    def copy(**settings: str) -> str:
        folder = shutil.copytree(tiny.path, tmp_path / "-".join(settings.values()))
        path = folder / "generation_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))
        return str(folder)

    return copy


@pytest.mark.parametrize("base_first", [True, False])
def test_one_language_and_task_for_all(
    base_first: bool, tiny: ModelFolder, speaking: Callable[..., str], noises: Path
) -> None:
    """A base model names none: it is judged as what was tuned from it is."""
    models = [str(tiny.path), speaking(language="sv", task="translate")]
    rows = compare_models(models if base_first else models[::-1], str(noises / "dev"), Decoding(limit=1))
    assert [(each.language, each.task) for row in rows for each in row.evaluation.segments] == [("sv", "translate")] * 2


@pytest.mark.parametrize(("what", "one", "other"), [("language", "sv", "no"), ("task", "transcribe", "translate")])
def test_models_that_differ_are_told_before_anything_is_decoded(
    what: str, one: str, other: str, speaking: Callable[..., str], noises: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [speaking(**{what: one}), speaking(**{what: other})]
    rest = ["--language", "sv"] if what == "task" else []
    assert main(["compare", *models, "--data", str(noises / "dev"), "--limit", "1", *rest]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert f"--{what}" in told
    assert all(each in told.replace(" ", "") for each in (f"{models[0]}:{one}", f"{models[1]}:{other}"))
    assert main(["compare", *models, "--data", str(noises / "dev"), "--limit", "1", *rest, f"--{what}", one]) == 0


def test_models_for_two_languages_are_compared_on_rows_that_name_theirs(
    speaking: Callable[..., str], noises: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(noises / "dev", tmp_path / "data")
    lines = [json.loads(line) | {"language": "da"} for line in (data / "metadata.jsonl").read_text().splitlines()]
    (data / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = compare_models([speaking(language="sv"), speaking(language="no")], str(data), Decoding(limit=1))
    assert [each.language for row in rows for each in row.evaluation.segments] == ["da", "da"]


def test_every_model_has_to_have_the_language(
    tiny: ModelFolder, noises: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [str(tiny.path), "bundled:whisper-tiny.en"]
    assert main(["compare", *models, "--data", str(noises / "dev"), "--language", "sv"]) == 2
    assert "bundled:whisper-tiny.en: an English-only model" in " ".join(capsys.readouterr().err.split())


def test_losses_stand_in_the_table_and_judge_nothing() -> None:
    models = {"base": evaluation(0.5), "tuned": evaluation(0.1), "int8": evaluation(0.1)}
    of_all = [each.id for each in models["base"].utterances]
    losses = {name: {id_: RowLoss(nats, 4) for id_ in of_all} for name, nats in (("base", 5.0), ("tuned", 10.0))}
    rows = comparison(models, losses)
    assert [row.as_json()["loss"] for row in rows] == [1.25, 2.5, None]
    titles = heads(rows)
    at = titles.index("loss, teacher-forced")
    assert [cells(row, titles)[at] for row in rows] == ["1.250", "2.500", "–"]
    assert [row.against_first and row.against_first.verdict for row in rows] == [None, "better", "better"]
    assert "loss, in nats a token" in told(rows)
    assert "loss, teacher-forced" in page_of(rows, "data/test")
    without = comparison(models, {})
    assert "loss, teacher-forced" not in heads(without)
    assert "loss" not in told(without)


def test_losses_are_of_the_rows_that_all_have() -> None:
    """Row 7 was not decoded by one, row 8 not counted for the other: neither is in any of the losses."""
    models = {"a": evaluation(0.2, rows=10), "b": evaluation(0.1, rows=10, skip=7), "int8": evaluation(0.1, rows=10)}
    of_a = {f"{row}": RowLoss(2.0, 2) for row in range(10)} | {"7": RowLoss(99.0, 1), "8": RowLoss(99.0, 1)}
    of_b = {f"{row}": RowLoss(6.0, 3) for row in range(10) if row not in (7, 8)}
    assert [row.loss for row in comparison(models, {"a": of_a, "b": of_b})] == [1.0, 2.0, None]
    assert [row.loss for row in comparison(models, {"a": {"7": RowLoss(1.0, 1)}})] == [None, None, None]
