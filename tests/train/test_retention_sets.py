"""The retention sets of a run: read before it starts, measured before, on the way and after, and diagnosed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from whispertune.data.audio import AudioReader
from whispertune.decode import engines as decoding
from whispertune.decode.engines import Engine, LiveModel, live_engine, load_live
from whispertune.diagnose.run import diagnose
from whispertune.errors import InputError
from whispertune.evaluation.retention import read_retained
from whispertune.model.load import ModelFolder
from whispertune.recipe import Recipe
from whispertune.recipe_file import parse_recipe
from whispertune.reporting import Reporter
from whispertune.train.measuring.retention import RetentionSets, load_retention
from whispertune.train.measuring.rows import Rows
from whispertune.train.run import Run
from whispertune.train.signals import StopRequest


class Notes(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []
        self.decoded: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def evaluating(self, what: str, done: int, total: int) -> None:
        if done >= total:
            self.decoded.append(what)


def recipe_with(
    tiny: ModelFolder, noises: Path, *retention: dict[str, Any], name: str = "", language: str = "sv"
) -> Recipe:
    return parse_recipe(
        {
            "model": name or str(tiny.path),
            "language": language,
            "data": {"train": [{"source": str(noises / "train")}], "dev": [{"source": str(noises / "dev")}]},
            "retention": list(retention),
            "evaluation": {"retention_subset": 2},
        }
    )


@pytest.fixture
def english(noises: Path) -> dict[str, Any]:
    return {"name": "english", "source": str(noises / "dev"), "language": "en"}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights come to no end by themselves."""
    monkeypatch.setattr(decoding, "MAX_LENGTH", 64)


def engines(tiny: ModelFolder) -> tuple[Engine, Engine]:
    """Of the model, and of one with other weights."""
    import torch

    live = load_live(tiny)
    base = live_engine("ctranslate2", live)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in live.model.parameters():
            value.add_(torch.randn(value.shape, generator=random) * 0.3)
    changed = LiveModel(live.model, live.shape, live.vocabulary, live.tokenizer_json, live.generation)
    return base, live_engine("ctranslate2", changed)


Opened = Callable[[], tuple[RetentionSets, Notes]]


@pytest.fixture
def opened(tiny: ModelFolder, noises: Path, english: dict[str, Any], reader: AudioReader, tmp_path: Path) -> Opened:
    """The sets of a run that has just begun, or goes on."""
    recipe = recipe_with(tiny, noises, english, {"name": "silence", "silence": True})
    run = Run(tmp_path / "run")
    run.start(recipe, {})

    def opening() -> tuple[RetentionSets, Notes]:
        notes = Notes()
        rows = Rows(run, recipe.evaluation, reader, notes, StopRequest())
        sets = load_retention(recipe, tiny.vocabulary, reader)
        return RetentionSets(recipe, sets, rows, lambda what, work: work()), notes

    return opening


def test_before_on_the_way_and_after(opened: Opened, tiny: ModelFolder) -> None:
    base, tuned = engines(tiny)
    kept, notes = opened()
    assert not kept.known("ctranslate2")
    kept.base(base)
    assert kept.known("ctranslate2")
    assert notes.decoded == ["retention, english, base model", "retention, silence, base model"]

    again, notes = opened()  # as after an interruption: nothing is decoded anew
    assert not again.known("transformers")  # whose texts may differ
    assert again.known("ctranslate2")
    again.base(base)
    assert notes.decoded == []

    again.at(tuned, 4)
    lines = [line for line in again.run.read_metrics() if line["kind"] == "retention"]
    assert [(line["step"], line["name"], line["tuned"]["rows"]) for line in lines] == [
        (4, "english", 2),
        (4, "silence", 2),
    ]
    assert lines[0]["base"]["metric"] == "wer"
    assert any(line.startswith("step 4: retention, english: WER") for line in notes.said)

    changes = again.tuned(tuned)
    folder = again.run.folder / "evaluations"
    assert [each.name for each in changes] == ["english", "silence"]
    assert changes[0].tuned.value != changes[0].base.value  # other weights write something else
    assert json.loads((folder / "retention.json").read_text())["sets"] == [each.as_json() for each in changes]
    assert {path.name for path in (folder / "retention").glob("*.json")} == {
        f"{name}.{who}.json" for name in ("english", "silence") for who in ("base", "tuned")
    }
    retained = read_retained(folder / "retention.json")
    assert [(each.name, each.base, each.tuned) for each in retained] == [
        (each.name, each.base.value, each.tuned.value) for each in changes
    ]
    again.run.add_metrics("evaluation", {"step": 4, "wer": 50.0, "cer": 20.0})
    assert "retention sets" not in diagnose(again.run.folder).missing


def test_other_rows_are_decoded_anew(opened: Opened, tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    base, _ = engines(tiny)
    kept, _ = opened()
    kept.base(base)
    path = tmp_path / "run" / "evaluations" / "retention" / "english.base.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    again, notes = opened()
    assert not again.known("ctranslate2")
    again.base(base)
    assert notes.decoded == ["retention, english, base model"]


def test_whole_recordings_are_transcribed(
    tiny_en: ModelFolder, english_read: Path, reader: AudioReader, tmp_path: Path
) -> None:
    talks = {"name": "talks", "source": str(english_read), "recordings": True, "limit_rows": 2}
    recipe = recipe_with(tiny_en, english_read, talks, name="bundled:whisper-tiny.en", language="en")
    run = Run(tmp_path / "run")
    run.start(recipe, {})
    shutil.copytree(tiny_en.path, run.model)  # as if nothing had been learned
    notes = Notes()
    rows = Rows(run, recipe.evaluation, reader, notes, StopRequest())
    kept = RetentionSets(recipe, load_retention(recipe, tiny_en.vocabulary, reader), rows, lambda what, work: work())
    engine = live_engine("ctranslate2", load_live(tiny_en))
    kept.base(engine)
    kept.at(engine, 3)
    assert [line for line in run.read_metrics() if line["kind"] == "retention"] == []  # they take too long
    (change,) = kept.tuned(engine)
    assert (change.base, change.relative, change.shown) == (change.tuned, 0.0, False)
    assert change.base.rows == 2
    assert any(each.startswith("retention, talks, tuned model, libri") for each in notes.decoded)


def test_without_sets_nothing_is_done(tiny: ModelFolder, noises: Path, reader: AudioReader, tmp_path: Path) -> None:
    recipe, run = recipe_with(tiny, noises), Run(tmp_path / "run")
    run.start(recipe, {})
    rows = Rows(run, recipe.evaluation, reader, Reporter(), StopRequest())
    kept = RetentionSets(recipe, load_retention(recipe, tiny.vocabulary, reader), rows, lambda what, work: work())
    assert kept.known("ctranslate2")
    assert kept.tuned(engines(tiny)[0]) == ()
    assert not (run.folder / "evaluations").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"language": "xx"}, "no language token 'xx'"),
        ({"language": "Swedisch"}, "no language 'Swedisch'"),
        ({"source": "nowhere"}, "nowhere"),
    ],
)
def test_a_set_that_cannot_be_read_is_named(
    changes: dict[str, Any], says: str, tiny: ModelFolder, noises: Path, english: dict[str, Any], reader: AudioReader
) -> None:
    with pytest.raises(InputError) as error:
        load_retention(recipe_with(tiny, noises, english | changes), tiny.vocabulary, reader)
    assert says in str(error.value)


def test_what_is_there_is_told(tiny: ModelFolder, noises: Path, english: dict[str, Any], reader: AudioReader) -> None:
    (found,) = load_retention(recipe_with(tiny, noises, english), tiny.vocabulary, reader)
    assert (found.name, found.language, len(found.segments)) == ("english", "en", 3)
    assert found.notes == ("retention, english: 3 rows used, 0.00 h of audio",)
