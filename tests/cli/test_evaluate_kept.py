"""What was decoded is kept: what cannot be is found before, and what fails after costs no figure."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import soundfile

from whispertune.cli import main
from whispertune.decode.engines import CTranslate2Engine
from whispertune.errors import InputError
from whispertune.model.load import ModelFolder


@pytest.fixture
def _undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be decoded."""

    def decode(*given: Any, **named: Any) -> list[str]:
        raise AssertionError("it is decoded")

    monkeypatch.setattr(CTranslate2Engine, "decode", decode)


def rows_of(noises: Path, folder: Path, texts: list[str]) -> Path:
    """The rows of dev with other texts; those beyond are left out."""
    data = Path(shutil.copytree(noises / "dev", folder))
    rows = [json.loads(line) for line in (data / "metadata.jsonl").read_text().splitlines()]
    kept = [row | {"text": text} for row, text in zip(rows, texts, strict=False)]
    (data / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    return data


def test_rows_without_any_text_have_no_tokens_and_all_else(
    tiny: ModelFolder, noises: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = rows_of(noises, tmp_path / "silent", ["", "", ""])
    arguments = ["evaluate", str(tiny.path), str(data), "--language", "sv", "--context", "fit", "--tokens", "--json"]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found["rows"] == 3
    assert "tokens" not in found
    assert "no teacher-forced figures: no token to score" in printed.err


@pytest.mark.usefixtures("_undecoded")
def test_noise_of_which_nothing_can_be_made_is_found_before(
    tiny: ModelFolder, noises: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = rows_of(noises, tmp_path / "two", ["ett", "två"])
    for name in ("empty", "silent"):
        (tmp_path / name).mkdir()
    soundfile.write(tmp_path / "silent" / "a.wav", [0.0] * 16_000, 16_000)
    for noise, says in (("babble", "too few to hear"), ("empty", "holds none"), ("silent", "is silent")):
        source = noise if noise == "babble" else str(tmp_path / noise)
        arguments = ["evaluate", str(tiny.path), str(data), "--language", "sv", "--noise", "5", "--noise-from", source]
        assert main(arguments) == 2
        assert says in capsys.readouterr().err


@pytest.mark.usefixtures("_undecoded")
@pytest.mark.parametrize("options", [[], ["--recordings"]])
def test_a_base_without_the_language_is_found_before(
    options: list[str],
    tiny: ModelFolder,
    tiny_en: ModelFolder,
    noises: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def opened(*given: Any, **named: Any) -> None:
        raise AssertionError("it is transcribed")

    monkeypatch.setattr("whispertune.service.examine.open_transcriber", opened)
    arguments = [
        "evaluate",
        str(tiny.path),
        str(noises / "dev"),
        "--language",
        "sv",
        "--base",
        "bundled:whisper-tiny.en",
    ]
    assert main([*arguments, *options]) == 2
    assert "bundled:whisper-tiny.en" in capsys.readouterr().err


def unwritten(path: Path, page: str, fix: str = "") -> None:
    raise InputError("cannot be written (No space left on device)", where=str(path), fix=fix)


def test_figures_are_printed_before_pages_are_written(
    tiny: ModelFolder,
    noises: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("whispertune.service.examine.write_page", unwritten)
    monkeypatch.setattr("whispertune.drawing.page.write_page", unwritten)
    other, data = str(shutil.copytree(tiny.path, tmp_path / "other")), str(noises / "dev")
    page, lines = str(tmp_path / "page.html"), tmp_path / "rows.jsonl"
    options = ["--language", "sv", "--context", "fit"]
    evaluating = ["evaluate", other, data, *options, "--report", page, "--out", str(lines)]
    comparing = ["compare", str(tiny.path), other, "--data", data, *options, "--out", page]
    for arguments, figure in ((evaluating, "rows"), (comparing, "models")):
        assert main(arguments) == 2
        printed = capsys.readouterr()
        assert "WER" in printed.out
        assert "page.html" not in printed.out
        assert "No space left" in printed.err
        assert main([*arguments, "--json"]) == 2
        assert json.loads(capsys.readouterr().out)[figure]
    assert len(lines.read_text().splitlines()) == 3


@pytest.mark.usefixtures("_undecoded")
@pytest.mark.parametrize("option", ["--report", "--out"])
def test_a_place_where_nothing_can_be_written_is_found_before(
    option: str, tiny: ModelFolder, noises: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, place = str(noises / "dev"), str(tmp_path / ("x" * 240 + ".html"))  # longer with what is written first
    assert main(["evaluate", str(tiny.path), data, "--language", "sv", option, place]) == 2
    assert f"choose another {option}" in capsys.readouterr().err
    if option == "--out":
        assert main(["compare", str(tiny.path), "bundled:whisper-base", "--data", data, option, place]) == 2
        assert "cannot be written" in capsys.readouterr().err
