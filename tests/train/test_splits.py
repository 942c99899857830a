"""What is refused before the first step, and what is only counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from whispertune.data.audio import AudioReader
from whispertune.errors import DataError, InputError, RecipeError
from whispertune.model.load import ModelFolder
from whispertune.recipe import Recipe
from whispertune.recipe_file import parse_recipe
from whispertune.train.feeding.splits import Splits, TokenCounter, load_splits
from whispertune.windows.pack import Limits


def recipe(train: Path, dev: Path | None, **more: Any) -> Recipe:
    data: dict[str, Any] = {"train": [{"source": str(train)}], "max_bad_share": more.pop("max_bad_share", 0.05)}
    if dev:
        data["dev"] = [{"source": str(dev)}]
    return parse_recipe({"model": "x", "language": "sv", "data": data} | more)


def load(asked: Recipe, model: ModelFolder, reader: AudioReader) -> Splits:
    return load_splits(asked, model.vocabulary, reader, TokenCounter(model.vocabulary), Limits())


def test_without_test_dev_reports(noises: Path, base: ModelFolder, reader: AudioReader) -> None:
    splits = load(recipe(noises / "train", noises / "dev"), base, reader)
    assert (len(splits.train.segments), splits.reporting[0]) == (12, "dev")


def test_dev_is_needed(noises: Path, base: ModelFolder, reader: AudioReader) -> None:
    with pytest.raises(RecipeError, match="dev selects the best checkpoint"):
        load(recipe(noises / "train", None), base, reader)


def test_the_same_speech_in_two_splits_is_an_error(noises: Path, base: ModelFolder, reader: AudioReader) -> None:
    with pytest.raises(DataError, match=r"the same speech is in (train and in dev|dev and in train)"):
        load(recipe(noises / "train", noises / "train"), base, reader)


def test_speech_that_overlaps_across_splits_is_an_error(
    noises: Path, base: ModelFolder, reader: AudioReader, tmp_path: Path
) -> None:
    """Two manifests over one recording; the stretches begin at different times and share half a second."""
    clip = noises / "train" / "11.wav"
    for name, start_s, end_s in (("train", 0.0, 1.5), ("dev", 1.0, 2.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "clip.wav").symlink_to(clip)
        row = {"file_name": "clip.wav", "text": "a", "start": start_s, "end": end_s}
        (tmp_path / name / "metadata.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match="the same speech"):
        load(recipe(tmp_path / "train", tmp_path / "dev"), base, reader)


def test_another_language_on_an_english_only_model(noises: Path, tiny_en: ModelFolder, reader: AudioReader) -> None:
    with pytest.raises(InputError, match="multilingual model"):
        load(recipe(noises / "train", noises / "dev"), tiny_en, reader)


def test_a_language_that_whisper_does_not_have(noises: Path, base: ModelFolder, reader: AudioReader) -> None:
    with pytest.raises(InputError, match="no language token 'mdw'"):
        load(recipe(noises / "train", noises / "dev", language="mdw"), base, reader)


def spoil(noises: Path, folder: Path, row: int, **values: Any) -> Path:
    """A copy of the training folder with one row changed."""
    rows = [json.loads(line) for line in (noises / "train" / "metadata.jsonl").read_text().splitlines()]
    rows[row] |= values
    folder.mkdir()
    for each in rows:
        source = noises / "train" / each["file_name"]
        if source.exists():
            (folder / each["file_name"]).write_bytes(source.read_bytes())
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_too_many_tokens_for_a_window_is_a_problem(
    noises: Path, base: ModelFolder, reader: AudioReader, tmp_path: Path
) -> None:
    folder = spoil(noises, tmp_path / "train", 2, text="kontrabas " * 100)
    splits = load(recipe(folder, noises / "dev", max_bad_share=0.1), base, reader)
    assert splits.train.counts() == {"too many tokens": 1}
    assert len(splits.train.segments) == 11


def test_more_than_5_per_cent_bad_rows_end_the_run(
    noises: Path, base: ModelFolder, reader: AudioReader, tmp_path: Path
) -> None:
    folder = spoil(noises, tmp_path / "train", 3, file_name="gone.wav")
    with pytest.raises(DataError, match=r"data.max_bad_share") as error:
        load(recipe(folder, noises / "dev"), base, reader)
    assert "metadata.jsonl:4" in str(error.value)
    assert error.value.exit_code == 2


def test_translation_into_another_language_than_english_is_said_to_be_new(
    mboshi: Path, base: ModelFolder, reader: AudioReader
) -> None:
    """Mboshi speech with its French translation as the text."""
    french = {"columns": {"text": "translation_fr"}, "task": "translate", "limit_rows": 20, "target_language": "French"}
    data = {name: [{"source": str(mboshi / name)} | french] for name in ("train", "dev")}
    asked = parse_recipe({"model": "x", "language": "ln", "data": data, "clean": {"audio": "never"}})
    splits = load(asked, base, reader)
    assert splits.train.segments[0].text == "Le chauffeur tourne le volant pour garer sa voiture"
    assert {segment.task for segment in splits.train.segments} == {"translate"}
    assert any("translation into fr is new to Whisper" in note for note in splits.notes)


def test_rows_without_text_are_scored_and_not_trained_on(
    noises: Path, base: ModelFolder, reader: AudioReader, tmp_path: Path
) -> None:
    train, dev = (spoil(noises, tmp_path / name, row, text="") for name, row in (("train", 3), ("dev", 4)))
    asked = recipe(train, dev, max_bad_share=0.2, clean={"leakage": "allow"})
    splits = load(asked, base, reader)
    assert splits.train.counts() == {"empty text": 1}
    assert (len(splits.dev.segments), splits.dev.segments[4].text, splits.dev.problems) == (12, "", ())
