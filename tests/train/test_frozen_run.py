"""A run with a frozen encoder, with what is the default of everything else."""

from __future__ import annotations

from pathlib import Path

from whispertune.model.load import ModelFolder
from whispertune.recipe_file import parse_recipe
from whispertune.reporting import Reporter
from whispertune.train.loop import fine_tune
from whispertune.train.run import Run


class Notes(Reporter):
    """What is said."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def say(self, text: str) -> None:
        self.notes.append(text)


def test_its_engine_is_checked_on_the_clips_whose_states_are_kept(
    tiny: ModelFolder, noises: Path, tmp_path: Path
) -> None:
    """CTranslate2 takes states in place of mels, transformers does not."""
    recipe = parse_recipe(
        {
            "model": str(tiny.path),
            "language": "sv",
            "data": {"train": [{"source": str(noises / "train")}], "dev": [{"source": str(noises / "dev")}]},
            "train": {"freeze": ["encoder"], "steps": 2, "step_segments": 4},
            "evaluation": {"times": 1, "verify_clips": 2},
        }
    )
    told = Notes()
    result = fine_tune(recipe, Run(tmp_path / "run"), reporter=told)
    assert result.engine == "ctranslate2"
    assert [note for note in told.notes if "ctranslate2 and transformers are 0.00 WER apart on 2 clips" in note]
