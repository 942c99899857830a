"""What selects the best weights where dev is in several languages, or is translated."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.train.runs import Started
from whispertune.train.keeping.checkpoint import Progress


@pytest.mark.parametrize(
    ("languages", "task", "metric"),
    [
        (("zh", "sv", "sv"), "transcribe", "wer"),
        (("sv", "zh", "zh"), "transcribe", "cer"),
        (("zh", "zh", "zh"), "translate", "wer"),  # into English
    ],
)
def test_the_language_of_most_texts_says_what_selects(
    languages: tuple[str, ...], task: str, metric: str, started: Started, noises: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(noises, tmp_path / "data")
    rows = [
        {"file_name": f"{n}.wav", "text": f"dev {n}", "language": language, "task": task}
        for n, language in enumerate(languages)
    ]
    (data / "dev" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    devset, _ = started(data=data, clean={"script": False})
    assert devset.metric == metric


def test_the_normalizer_that_the_recipe_names_is_that_of_dev(started: Started) -> None:
    """What was measured by another one is not compared with it."""
    named, _ = started(evaluation={"verify_clips": 2, "normalizer": "basic+digits"})
    own, _ = started("own", evaluation={"verify_clips": 2})
    assert named.base().scores.normalizer == "whispertune-basic+digits 1"
    told = [each.measured_by("full", Progress()) for each in (named, own)]
    assert told[0] == f"{told[1]} whispertune-basic+digits 1"
