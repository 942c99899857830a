"""What docs/ says of forms, points and extras is what the code does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from whispertune.model.export import EXPORTERS
from whispertune.publish.comparison import ENOUGH_WORDS
from whispertune.publish.runtimes import RUNTIMES

ROOT = Path(__file__).parents[2]
DEPLOY = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")


def row(name: str) -> list[str]:
    """The cells of a form in the first table of docs/deploy.md."""
    (line,) = (line for line in DEPLOY.splitlines() if line.startswith(f"| `{name}` | "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_of_forms() -> None:
    for name, exporter in EXPORTERS.items():
        _, points, verified, _ = row(name)
        told = {quantization: float(most) for quantization, most in re.findall(r"`(\w+)` ([\d.]+)", points)}
        assert list(told.items()) == list(exporter.tolerances.items()), name
        package = RUNTIMES[name].package
        extra = f": `whispertune[{package.extra}]`" if package.extra else ""
        assert verified.startswith(package.distribution + extra), name
        assert ("whispertune[" in verified) is bool(extra), name


def test_the_extras_are_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {each for group in re.findall(r"whispertune\[([\w,]+)\]", DEPLOY) for each in group.split(",")}
    assert named == {"ggml", "onnx", "openai", "demo"}
    assert named <= set(extras)


def test_words_and_options_are_named() -> None:
    assert f"up to {ENOUGH_WORDS} words" in DEPLOY
    for option in ("--data", "--language", "--no-verify", "--weights"):
        assert f"`{option}" in DEPLOY or f" {option} " in DEPLOY, option


def test_whisper_cpp_is_told_the_language_there_too() -> None:
    (command,) = re.findall(r"    whisper-cli (.+?) -f talk.wav", DEPLOY, re.DOTALL)
    assert " -l sv " in command
    assert "--suppress-regex" in command
