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
    dev = rows(tmp_path / "dev", "some words", "", "other words", "broken off")
    kept = rows(tmp_path / "kept", "some words", "other words", "broken off")
    run = run_of(tmp_path / "run", tiny.path, tiny.path, dev)
    assert main(["soften", str(run), "--retention", f"kept={kept}:en", "--lambdas", "0.5"]) == 0
    captured = capsys.readouterr()
    told = captured.out + captured.err
    assert told.count("dev: 2 rows used") == 1
    assert "2 rows dropped" in told
    assert told.count("kept: 1 of the 3 rows cannot be read and do not count, e.g. ") == 1
