"""What selects the best weights where dev is in several languages, or is translated."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.train.runs import Started


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
