"""A diagnosis as a whole: gathered from a run, sorted, written as Markdown and as a page, printed."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import typer
from typer.testing import CliRunner

from tests.diagnose_curves import evaluated, falling, run_of, steps_of, still_falling
from whispertune.cli.diagnose import diagnose as command
from whispertune.diagnose.finding import Change, Figure, Finding, Severity, Sure, number, sorted_findings
from whispertune.diagnose.findings.forgetting import Retained
from whispertune.diagnose.history import Evaluated, History
from whispertune.diagnose.predictions import Predictions
from whispertune.diagnose.report import NOTHING, markdown, page_of, write_reports
from whispertune.diagnose.run import Diagnosis, Material, diagnose, findings_of
from whispertune.errors import InputError
from whispertune.recipe import Checkpoints, Data, Recipe, SourceTable, Windows
from whispertune.recipe_file import save_recipe
from whispertune.score.wer import UtteranceScore, score, write_utterances

TODAY = date(2026, 1, 2)


def finding(severity: Severity = "low", sure: Sure = "likely", key: str = "a") -> Finding:
    return Finding(key, severity, (Figure("rows <b>", 3),), "it *means* `this`", (Change("a.b", "1", "why"),), sure)


def run_folder(folder: Path) -> Path:
    """A run that ended too early and was trained without timestamps, with loops in two of its texts."""
    folder.mkdir()
    recipe = Recipe(
        model="openai/whisper-small",
        language="sv",
        data=Data(train=(SourceTable(source=str(folder / "gone")),)),
        windows=Windows(timestamps_share=0.0),
    )
    save_recipe(recipe, folder / "resolved.toml")
    lines = [
        {"kind": "step", "step": each.step, "loss": each.loss, "learning_rate": each.learning_rate, "grad_norm": 5.0}
        for each in steps_of(still_falling)
    ]
    lines += [
        {"kind": "evaluation", "step": each.step, "wer": each.wer, "cer": 20.0}
        for each in evaluated((90.0, 75.0, 66.0, 60.0))
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = "den gamla bron byggdes av sten"
    texts = [said + " och så vidare" * 30] * 2 + [said] * 38
    (folder / "evaluations").mkdir()
    for name, written in (("tuned", texts), ("base", [said.replace("sten", "trä")] * 40)):
        utterances = score([str(n) for n in range(40)], [said] * 40, written, "sv")[1]
        save(folder, name, utterances)
    return folder


def save(run: Path, name: str, utterances: Sequence[UtteranceScore], **figures: Any) -> None:
    """An evaluation as a run writes it, of its figures only what is looked at."""
    write_utterances(run / "evaluations" / f"{name}.jsonl", utterances)
    content = {"rows": len(utterances), **figures}
    (run / "evaluations" / f"{name}.json").write_text(json.dumps(content))


def test_the_most_important_stands_first_and_of_equals_the_surest() -> None:
    given = [finding("low", "certain", "a"), finding("high", "possible", "b"), finding("high", "certain", "c")]
    given += [finding("medium", key="d"), finding("high", "certain", "e")]
    assert [each.key for each in sorted_findings(given)] == ["c", "e", "b", "d", "a"]


@pytest.mark.parametrize(
    ("value", "text"), [(3, "3"), (4000, "4,000"), (34.63, "34.63"), (0.3075, "0.3075"), (1e-5, "1e-05"), (60.0, "60")]
)
def test_numbers_are_written_so_that_they_say_something(value: float, text: str) -> None:
    assert number(value) == text


def test_a_run_is_diagnosed_from_what_it_wrote(tmp_path: Path) -> None:
    found = diagnose(run_folder(tmp_path / "run"))
    assert {"hallucinations", "under-trained", "timestamps-lost"} == {each.key for each in found.findings}
    assert found.findings[0].key == "hallucinations"
    assert found.missing == ("dev loss", "the rows themselves (speakers, lengths)", "retention sets")


def test_rows_used_are_those_that_the_run_counted(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run")
    dropped = [{"source": "data/train", "line": str(n), "reason": "no text", "detail": ""} for n in range(30)]
    (folder / "dropped.jsonl").write_text("".join(json.dumps(line) + "\n" for line in dropped))
    counted = [{"split": "train", "index": 0, "rows": 160, "seconds": 500.0}]
    counted += [{"split": split, "index": 0, "rows": 20, "seconds": 60.0} for split in ("dev", "test")]
    (folder / "run.json").write_text(json.dumps({"data": counted}))
    (found,) = [each for each in diagnose(folder).findings if each.key == "many-dropped"]
    assert [(each.name, each.value) for each in found.seen] == [
        ("rows dropped", 30),
        ("rows used", 200),
        ("no text", 30),
    ]
    (folder / "run.json").write_text("{}")
    assert "many-dropped" not in {each.key for each in diagnose(folder).findings}


def test_retention_figures_are_looked_at_where_there_are_any(tmp_path: Path) -> None:
    found = diagnose(run_folder(tmp_path / "run"), [Retained("english", 10.0, 20.0, 120)])
    assert "forgetting" in {each.key for each in found.findings}
    assert "retention sets" not in found.missing


def test_a_healthy_run_has_nothing_to_say() -> None:
    material = Material(run_of(falling, (60.0, 45.0, 40.0, 39.8)))
    assert findings_of(material) == ()
    assert NOTHING in markdown(Diagnosis("run", material, ()))


def test_the_run_says_which_figure_leads_before_the_language_does() -> None:
    rates = (Evaluated(100, wer=88.0, cer=9.0), Evaluated(200, wer=90.0, cer=6.0))
    for run, language, metric in (("wer", "zh", "wer"), ("cer", "en", "cer"), (None, "zh", "cer"), (None, "en", "wer")):
        material = Material(History((), rates, leading=run), Predictions(language=language))
        assert material.judged.metric == metric
    recipe = Recipe(model="m", data=Data(), checkpoints=Checkpoints(best="cer_normalized"))
    assert Material(History((), rates, leading="wer"), recipe=recipe).judged.metric == "cer"


def test_the_reports_are_whole_and_hold_every_finding(tmp_path: Path) -> None:
    found = diagnose(run_folder(tmp_path / "run"))
    text, drawn = write_reports(found, tmp_path / "out", TODAY)
    written, html = text.read_text(), drawn.read_text()
    ElementTree.fromstring(html[html.index("<body") : html.index("</html>")])
    for each in found.findings:
        assert f". {each.key}" in written
        assert f". {each.key.replace('-', ' ')}</h2>" in html
    assert "2026-01-02" in written
    assert html.count("<svg") == 3  # losses, errors, learning rate
    assert "<script" not in html
    write_reports(found, tmp_path / "out", TODAY)  # its own reports are replaced


def test_text_of_others_stays_text() -> None:
    given = Diagnosis("<b>my_run", Material(History((), ())), (finding(),))
    assert "<b>" not in page_of(given, TODAY).partition("</head>")[2]
    assert "# Diagnosis of \\<b\\>my\\_run" in markdown(given, TODAY)
    assert "it \\*means\\* \\`this\\`." in markdown(given, TODAY)


@pytest.mark.parametrize("name", ["report.md", "report.html"])
def test_reports_of_others_are_not_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=f"{name}: is there already"):
        write_reports(Diagnosis("run", Material(History((), ())), ()), tmp_path)
    assert (tmp_path / name).read_text() == "mine"
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_a_folder_whose_name_is_not_utf_8_has_its_report(tmp_path: Path) -> None:
    given = run_folder(tmp_path / "run")
    folder = given.rename(tmp_path / os.fsdecode(b"r\xe9sum\xe9"))
    found = diagnose(folder)
    text, drawn = write_reports(found, folder, TODAY)
    assert all(r"r\udce9sum\udce9" in each.read_text(encoding="utf-8") for each in (text, drawn))
    assert not list(folder.glob(".*.partial"))


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="cannot be written"):
        write_reports(Diagnosis("run", Material(History((), ())), ()), tmp_path / "out")


def test_the_command_prints_the_findings_or_one_json_object(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(command)
    run = run_folder(tmp_path / "run")
    told = CliRunner().invoke(app, [str(run)])
    assert told.exit_code == 0, told.output
    assert told.output.index("hallucinations (high") < told.output.index("under-trained (medium")
    assert (run / "report.md").exists()
    printed = CliRunner().invoke(app, [str(run), "--json", "--out", str(tmp_path / "out")])
    content = json.loads(printed.output.splitlines()[-1])
    assert content["best_step"] == 200
    assert content["findings"][0]["key"] == "hallucinations"
    assert content["reports"] == [str(tmp_path / "out" / name) for name in ("report.md", "report.html")]
    refused = CliRunner().invoke(app, [str(tmp_path)])
    assert isinstance(refused.exception, InputError)
