"""A push removes what an earlier publication says that it put there, and nothing else, whatever it is called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.hub_server import Hub
from whispertune.publish.hub import Pushed, push
from whispertune.publish.place import LIST, files_of, with_list
from whispertune.reporting import Reporter

REPOSITORY = "me/whisper-noise"
THEIRS = {"LICENSE": b"1", "openai-notes/a.md": b"2", ".gitattributes": b"3", "model.pt": b"4", "ct2/a.txt": b"5"}
OLD = {"ct2/model.bin": b"6", "ct2-int8/model.bin": b"7"}


def pushed(place: Path) -> Pushed:
    """A card and the list of what goes up."""
    place.mkdir(exist_ok=True)
    (place / "README.md").write_text("---\nlanguage:\n- sv\n---\n")
    files = with_list(files_of([place / "README.md"], {}), place)
    return push(files, REPOSITORY, public=False, reporter=Reporter())


def test_by_its_list(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    told = json.dumps({"files": [*OLD, "README.md", "gone/by-now.bin"]}).encode()
    hub.add_repo(REPOSITORY, OLD | THEIRS | {LIST: told}, kind="models", private=True)
    assert set(pushed(tmp_path / "place").removed) == set(OLD)
    there = hub.files(REPOSITORY, "models")
    assert set(there) == {"README.md", LIST, *THEIRS}
    assert json.loads(there[LIST]) == {"files": ["README.md"]}
    assert pushed(tmp_path / "place").removed == ()


@pytest.mark.parametrize("told", ["[]", '{"files": 1}', "not JSON", '{"files": [["LICENSE"]]}'])
def test_not_by_somebody_elses(told: str, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.add_repo(REPOSITORY, OLD | THEIRS | {LIST: told.encode()}, kind="models", private=True)
    assert pushed(tmp_path / "place").removed == ()
    assert set(hub.files(REPOSITORY, "models")) == {"README.md", LIST, *OLD, *THEIRS}
