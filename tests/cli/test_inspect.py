"""`whispertune inspect` as users meet it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.inspect_tree import Row, rows, tree
from whispertune.cli import main
from whispertune.model.load import ModelFolder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree(
        tmp_path_factory.mktemp("cli") / "talks", [*rows(), Row("silent", 2.0, "hör du något alls här", gain=0.0)]
    )


def test_numbers_are_printed_and_the_report_written(
    folder: Path, base: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", str(folder), "--model", str(base.path)]) == 0
    printed = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    for line in ("rows that can be used 24", "speakers 2 (and 4 rows that name none)", "rows dropped 1 (4.0 % of all)"):
        assert line in lines
    assert any(line.startswith("tokens a word ") for line in lines)
    assert any(line.startswith("no speech 1, ") for line in lines)
    assert "report: report.html" in lines
    assert "<svg" in (tmp_path / "report.html").read_text()
    assert main(["inspect", str(folder), "--quick"]) == 0  # its own report is written again


def test_json_is_one_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found.html"
    assert main(["inspect", str(folder), "--quick", "--limit-rows", "5", "--out", str(out), "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert found.keys() == {"source", "tokenizer", "sets", "notes", "suspects", "report"}
    assert found["sets"][0]["rows"] == 5
    assert found["report"] == str(out)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--suspects"], "add --model"),
        (["--column", "text"], "not a column"),
        (["--column", "text=sentence"], "sentence"),
        (["--model", "nothing"], "no model 'nothing'"),
        (["--task", "sing"], "task"),
    ],
)
def test_what_cannot_be_ends_with_2(
    arguments: list[str], told: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(folder), "--out", str(tmp_path / "report.html"), *arguments]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_a_recipe_without_data_says_what_to_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipe.toml").write_text('model = "bundled:whisper-base"\n[data]\n')
    assert main(["inspect", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "report.html")]) == 2
    told = capsys.readouterr().err
    assert "the recipe has no data" in told
    assert "[[data.train]]" in told


def test_a_file_of_yours_is_safe(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes = tmp_path / "notes.html"
    notes.write_text("mine")
    assert main(["inspect", str(folder), "--out", str(notes)]) == 2
    assert "is no report of whispertune inspect" in capsys.readouterr().err
    assert notes.read_text() == "mine"


def test_suspects_are_told_and_shown(
    tmp_path: Path, tiny: ModelFolder, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.html"
    asked = ["inspect", str(folder), "--limit-rows", "6", "--model", str(tiny.path), "--suspects", "--out", str(out)]
    assert main(asked) == 0
    assert "rows whose text and audio agree worst, of 6:" in capsys.readouterr().out
    assert "Suspicious transcripts" in out.read_text()
    assert main([*asked, "--json"]) == 0
    suspects = json.loads(capsys.readouterr().out)["suspects"]
    assert (suspects["ranked"], len(suspects["worst"])) == (6, 6)
    assert [each["score"] for each in suspects["worst"]] == sorted(
        (e["score"] for e in suspects["worst"]), reverse=True
    )
