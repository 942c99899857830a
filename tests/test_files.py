"""Files that are whole or not there, and JSON that every reader reads."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path

import pytest

from whispertune.errors import InputError
from whispertune.files import check_writable, json_text, replace_text

ODD = os.fsdecode(b"run\xe9")  # a name that is not UTF-8


def no_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


@pytest.mark.parametrize("indent", [None, 2])
def test_what_is_not_finite_is_null(indent: int | None) -> None:
    content = {"loss": math.nan, "of": [{"share": -math.inf, "word": "på"}, (1.5, math.inf)], "rows": 3, "best": True}
    text = json_text(content, indent)
    assert json.loads(text, parse_constant=no_constant) == {
        "loss": None,
        "of": [{"share": None, "word": "på"}, [1.5, None]],
        "rows": 3,
        "best": True,
    }
    assert "på" in text


def test_names_that_are_not_utf_8_are_escaped(tmp_path: Path) -> None:
    text = json_text({"run": ODD})
    text.encode("utf-8")
    assert json.loads(text) == {"run": ODD}
    replace_text(tmp_path / "readme.md", f"# {ODD}\n")
    assert (tmp_path / "readme.md").read_text(encoding="utf-8") == "# run\\udce9\n"


def test_nothing_half_written_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    replace_text(path, "old")

    def stopped(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        replace_text(path, "new")
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]
    assert path.read_text() == "old"


def test_what_can_be_written_is_found_out_before(tmp_path: Path) -> None:
    check_writable(tmp_path / "report.html", "choose another")
    assert list(tmp_path.iterdir()) == []
    for path in (tmp_path / "nowhere" / "report.html", tmp_path / ("x" * 250)):  # too long with what is put before it
        with pytest.raises(InputError, match="cannot be written"):
            check_writable(path, "choose another")


@pytest.mark.skipif(sys.platform != "linux", reason="has no folder in which even root cannot write")
def test_permissions_are_not_all() -> None:
    with pytest.raises(InputError, match="cannot be written"):
        check_writable(Path("/proc/report.html"), "choose another")
