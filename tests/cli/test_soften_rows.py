"""`whispertune soften` tells of the rows that it does not count."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.cli.test_soften import run_of
from whispertune.cli import main
from whispertune.model.load import ModelFolder


def rows(folder: Path, *texts: str) -> Path:
    """A folder with metadata.jsonl; the last recording breaks off."""
    folder.mkdir()
    lines = []
    for number, text in enumerate(texts):
        path = folder / f"{number}.flac"
        soundfile.write(path, np.random.default_rng(number).normal(0, 0.1, 32_000), 16_000)
        lines.append(json.dumps({"file_name": path.name, "text": text}))
    content = path.read_bytes()
    path.write_bytes(content[:200] + bytes(len(content) - 200))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_rows_that_do_not_count_are_told_once(
    tiny: ModelFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dev = rows(tmp_path / "dev", "some words", "", "other words", "more words", "broken off")
    kept = rows(tmp_path / "kept", "some words", "other words", "broken off")
    run = run_of(tmp_path / "run", tiny.path, tiny.path, dev)
    assert main(["soften", str(run), "--retention", f"kept={kept}:en", "--lambdas", "0.5"]) == 0
    captured = capsys.readouterr()
    told = captured.out + captured.err
    assert told.count("dev: 4 rows used") == 1  # a row without text counts
    assert "1 row dropped" in told
    assert told.count("kept: 1 of the 3 rows cannot be read and do not count, e.g. ") == 1


def test_rows_that_the_run_was_trained_on_do_not_tell_what_is_kept(
    tiny: ModelFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [f"a longer sentence with many words, number {number}, of these rows" for number in range(4)]
    dev = rows(tmp_path / "dev", "some words", "other words", "broken off")
    train = rows(tmp_path / "train", *texts[:2], "broken off")
    kept = rows(tmp_path / "kept", *texts, "broken off")
    for policy in ("drop", "error"):
        run = run_of(tmp_path / policy, tiny.path, tiny.path, dev, train=train, leakage=policy)
        status = main(["soften", str(run), "--retention", f"kept={kept}:en", "--lambdas", "0.5"])
        captured = capsys.readouterr()
        assert "of retention, kept, are in train too" in captured.out + captured.err
        assert status == (0 if policy == "drop" else 2)
        assert (run / "soften.json").exists() == (policy == "drop")


def test_train_that_is_gone_is_told(tiny: ModelFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dev, kept = (rows(tmp_path / name, "some words", "broken off") for name in ("dev", "kept"))
    run = run_of(tmp_path / "run", tiny.path, tiny.path, dev, train=tmp_path / "gone", leakage="error")
    assert main(["soften", str(run), "--retention", f"kept={kept}:en", "--lambdas", "0.5"]) == 0
    assert "train cannot be read any more" in "".join(capsys.readouterr())
