"""Users and machines called as a word that stands in every publication."""

from __future__ import annotations

import getpass
import socket
from pathlib import Path

import pytest

from whispertune.errors import InputError
from whispertune.publish.place import check, files_of

PLAIN = "`dev` and data/dev, [dev](https://huggingface.co/x/dev): on the dev set, dev.\n"


def look_through(place: Path, text: str) -> None:
    (place / "README.md").write_text(text)
    check(files_of([place / "README.md"], {}), inside=place, repository="me/whisper-noise")


@pytest.mark.parametrize("held", ["/home/dev/runs", r"C:\Users\dev\runs", "~dev/runs", "dev@laptop", "me@dev"])
def test_are_told_by_their_home_and_their_address(held: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "dev")
    monkeypatch.setattr(socket, "gethostname", lambda: "Whisper")
    look_through(tmp_path, PLAIN)
    with pytest.raises(InputError, match="tells of this machine or its user"):
        look_through(tmp_path, f"{PLAIN}made in {held}\n")


def test_other_names_are_told_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "dev-annika")
    look_through(tmp_path, PLAIN)
    with pytest.raises(InputError, match="'dev-annika'"):
        look_through(tmp_path, f"{PLAIN}by dev-annika\n")
