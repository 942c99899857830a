"""The package as a whole: its public names, what importing it costs, and which room may import which."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import whispertune

PACKAGE = Path(whispertune.__file__).parent
ROOT = PACKAGE.parent
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


def test_the_readme_names_every_file_and_no_other() -> None:
    named = set(named_in_the_readme())
    summed_up = tuple(
        each for each in named if each.endswith("/") and sum(other.startswith(each) for other in named) == 1
    )
    found = [*PACKAGE.rglob("*.py")]
    for folder in ("benchmarks", "demo", "docs", "recipes"):
        found += [path for path in (ROOT / folder).rglob("*.*") if path.suffix != ".pyc"]
    files = {str(path.relative_to(ROOT)) for path in found if not says_nothing(path)}
    assert not {each for each in files - named if not each.startswith(summed_up)}
    assert not {each for each in named if not (ROOT / each).exists()}


def says_nothing(path: Path) -> bool:
    """Whether it is an `__init__.py` that only makes its folder a package, perhaps with a line about it."""
    return path.name == "__init__.py" and len(ast.parse(path.read_text()).body) < 2


def named_in_the_readme() -> Iterator[str]:
    """Every path of the tree of files: a name, one space or more, and what it is; folders end with a slash."""
    section = (ROOT / "README.md").read_text().partition("## Where things are\n")[2].partition("\n## ")[0]
    folders: list[tuple[int, str]] = [(-1, "")]
    for line in filter(str.strip, section.splitlines()):
        indent, name = len(line) - len(line.lstrip()), line.split()[0]
        while folders[-1][0] >= indent:
            folders.pop()
        path = folders[-1][1] + name
        yield path
        if name.endswith("/"):
            folders.append((indent, path))
