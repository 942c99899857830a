"""A second publication: what is kept of the first, what is made anew, and what goes from the repository."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.finished_run import finished_run
from tests.hub_server import Hub
from whispertune.cli.publish import publish
from whispertune.model.load import ModelFolder
from whispertune.publish import kept
from whispertune.train.run import Run

TO = "me/whisper-noise"
EXPORT = "transformers-float32"


@pytest.fixture
def run(tiny: ModelFolder, noises: Path, tmp_path: Path) -> Run:
    return finished_run(tmp_path / "my-run", tiny.path, noises)


def published(run: Run, **options: Any) -> dict[str, int]:
    """When each file of the export was written."""
    publish(str(run.folder), TO, **{"formats": "transformers", "dry_run": True, "verify": False, **options})
    exports = run.folder / "publish" / "exports" / EXPORT
    return {path.name: path.stat().st_mtime_ns for path in exports.iterdir()}


def test_edited_and_deleted_files_are_made_anew(run: Run) -> None:
    first = published(run)
    assert published(run) == first
    exports = run.folder / "publish" / "exports" / EXPORT
    config = (exports / "config.json").read_bytes()
    (exports / "config.json").write_bytes(b"edited")
    (exports / "tokenizer.json").unlink()
    (exports / "more.txt").touch()
    assert published(run).keys() == first.keys()
    assert (exports / "config.json").read_bytes() == config


def other_version(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "version", lambda name: "0.0.1")


def other_settings(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run.model / "generation_config.json"
    path.write_text(path.read_text() + "\n")


@pytest.mark.parametrize("change", [other_version, other_settings])
def test_what_an_export_is_made_of_is_looked_at(
    change: Callable[[Run, pytest.MonkeyPatch], None], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = published(run)
    change(run, monkeypatch)
    again = published(run)
    assert all(again[name] > written for name, written in first.items())


def test_what_another_version_of_the_runtime_verified_is_made_anew(run: Run) -> None:
    first = published(run, verify=True)
    assert published(run, verify=True) == first
    memory = run.folder / "publish" / kept.MEMORY
    content = json.loads(memory.read_text())
    content["made"][EXPORT]["export"]["runtime"] = "transformers 4.0.0"
    memory.write_text(json.dumps(content))
    assert published(run, verify=False) == first
    assert published(run, verify=True)["model.safetensors"] > first["model.safetensors"]


def test_the_push_lists_what_it_removes(
    run: Run, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    published(run, formats="transformers,ct2", dry_run=False)
    assert "removed there" not in capsys.readouterr().out
    first = hub.files(TO, "models")
    theirs = {"openai-notes/a.md": b"notes", "model.pt": b"weights", "ct2/LICENSE": b"mit"}
    hub.repos["models", TO].commit(first | theirs)
    published(run, dry_run=False, json=True)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(told["removed"]) == {name for name in first if name.startswith("ct2/")}
    assert set(hub.files(TO, "models")) == {each["name"] for each in told["files"]} | theirs.keys()
    published(run, formats="ct2", dry_run=False)
    assert "removed there, of an earlier publication: " in capsys.readouterr().out
    assert "model.safetensors" not in hub.files(TO, "models")
