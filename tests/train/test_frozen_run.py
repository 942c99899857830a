"""A run with a frozen encoder, with what is the default of everything else."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.train.runs import last
from whispertune.model.load import ModelFolder
from whispertune.recipe import Recipe
from whispertune.recipe_file import parse_recipe
from whispertune.reporting import Reporter
from whispertune.train.loop import fine_tune
from whispertune.train.run import Run
from whispertune.train.states import state_files


class Notes(Reporter):
    """What is said."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def say(self, text: str) -> None:
        self.notes.append(text)


def recipe_for(tiny: ModelFolder, noises: Path) -> Recipe:
    return parse_recipe(
        {
            "model": str(tiny.path),
            "language": "sv",
            "data": {"train": [{"source": str(noises / "train")}], "dev": [{"source": str(noises / "dev")}]},
            "train": {"freeze": ["encoder"], "steps": 2, "step_segments": 4},
            "evaluation": {"times": 1, "verify_clips": 2},
        }
    )


def test_its_engine_is_checked_on_the_clips_whose_states_are_kept(
    tiny: ModelFolder, noises: Path, tmp_path: Path
) -> None:
    """CTranslate2 takes states in place of mels, transformers does not."""
    told = Notes()
    result = fine_tune(recipe_for(tiny, noises), Run(tmp_path / "run"), reporter=told)
    assert result.engine == "ctranslate2"
    assert [note for note in told.notes if "ctranslate2 and transformers are 0.00 WER apart on 2 clips" in note]


def test_where_nothing_can_be_locked_nothing_is_kept_and_the_run_is_the_same(
    tiny: ModelFolder, noises: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on network disks whose servers know no locks."""
    fine_tune(recipe_for(tiny, noises), kept := Run(tmp_path / "kept"))

    def unknown(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(state_files.fcntl, "flock", unknown)
    told = Notes()
    fine_tune(recipe_for(tiny, noises), run := Run(tmp_path / "run"), reporter=told)
    assert [note for note in told.notes if "is not kept" in note and "No locks available" in note]
    expected = last(kept).weights()
    assert all((value == expected[name]).all() for name, value in last(run).weights().items())
