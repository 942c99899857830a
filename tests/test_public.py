"""The package as a whole: its public names, what importing it costs, and which room may import which."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import whispertune

PACKAGE = Path(whispertune.__file__).parent
HEAVY = ("torch", "transformers", "ctranslate2", "faster_whisper", "av", "jiwer", "numpy", "pydantic")

# Room -> rooms it may import from. What stands on top (service, cli) may import all below.
ROOMS = {
    "drawing": {"drawing"},
    "data": {"data"},
    "windows": {"windows", "data"},
    "score": {"score", "data"},
    "model": {"model", "windows", "data"},
    "decode": {"decode", "model", "windows", "data"},
    "evaluation": {"evaluation", "drawing", "decode", "score", "model", "windows", "data"},
    "train": {"train", "evaluation", "decode", "score", "model", "windows", "data"},
    "diagnose": {"diagnose", "drawing", "score", "train", "evaluation", "data"},
    "prepare": {"prepare", "windows", "data"},
    "publish": {"publish", "drawing", "train", "evaluation", "decode", "score", "model", "windows", "data"},
    "inspect": {"inspect", "drawing", "train", "evaluation", "decode", "score", "model", "windows", "data"},
}


def test_every_public_name_is_there() -> None:
    assert sorted(whispertune.__all__) == sorted(whispertune._HOMES)
    for name in whispertune.__all__:
        assert getattr(whispertune, name).__name__ == name
    with pytest.raises(AttributeError):
        _ = whispertune.nonsense


@pytest.mark.parametrize("code", ["import whispertune", "from whispertune.cli import main; main(['--help'])"])
def test_importing_and_help_load_nothing_heavy(code: str) -> None:
    loaded = f"import sys; {code}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


@pytest.mark.parametrize("module", ["whispertune.data.captions", "whispertune.score.wer", "whispertune.score.terms"])
def test_captions_and_scores_need_no_torch(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way(room: str) -> None:
    for path in (PACKAGE / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("whispertune."):
                parts = (node.module or "").split(".")
                if len(parts) > 2:
                    assert parts[1] in ROOMS[room], f"{path} imports {node.module}"


def test_the_readme_names_every_file_of_the_package() -> None:
    readme = (PACKAGE.parent / "README.md").read_text()
    tree = readme[readme.index("## Where things are") :]
    for path in PACKAGE.rglob("*.py"):
        if path.read_text().strip():
            assert f" {path.name}" in tree or f"/{path.name}" in tree, path
