"""What tests of training share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.train.runs import Notes, Started, dev_recipe, open_dev
from whispertune.data.audio import AudioReader
from whispertune.decode import engines
from whispertune.model.load import ModelFolder
from whispertune.train.measuring.dev import DevSet
from whispertune.train.run import Run


@pytest.fixture
def started(tiny: ModelFolder, noises: Path, reader: AudioReader, tmp_path: Path) -> Started:
    """Begins a run with these tables of a recipe: its dev set, and what is told."""

    def start(name: str = "run", data: Path = noises, **tables: Any) -> tuple[DevSet, Notes]:
        notes = Notes()
        return open_dev(dev_recipe(tiny, data, **tables), Run(tmp_path / name), reader, notes), notes

    return start


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts are cut off early: random weights come to no end by themselves."""
    monkeypatch.setattr(engines, "MAX_LENGTH", 32)
    monkeypatch.setattr(engines, "MAX_NEW_TOKENS", 16)
