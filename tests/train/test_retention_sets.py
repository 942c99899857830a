"""The retention sets of a run: read before it starts, measured before, on the way and after, and diagnosed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.train.runs import Notes
from whispertune.data.audio import AudioReader
from whispertune.data.segments import Segment
from whispertune.decode.engines import Engine, LiveModel, live_engine, load_live
from whispertune.diagnose.run import diagnose
from whispertune.errors import DataError, InputError
from whispertune.evaluation.retention import RetentionSet, read_retained
from whispertune.model.load import ModelFolder
from whispertune.recipe import Recipe
from whispertune.recipe_file import parse_recipe
from whispertune.reporting import Reporter
from whispertune.train.measuring.retention import RetentionSets, kept_apart, load_retention
from whispertune.train.measuring.rows import Rows
from whispertune.train.run import Run
from whispertune.train.signals import StopRequest

pytestmark = pytest.mark.usefixtures("_short")


def recipe_with(
    tiny: ModelFolder, noises: Path, *retention: dict[str, Any], name: str = "", language: str = "sv"
) -> Recipe:
    return parse_recipe(
        {
            "model": name or str(tiny.path),
            "language": language,
            "data": {"train": [{"source": str(noises / "train")}], "dev": [{"source": str(noises / "dev")}]},
            "retention": list(retention),
            "evaluation": {"retention_subset": 2, "normalizer": "basic+digits"},
        }
    )


@pytest.fixture
def english(noises: Path) -> dict[str, Any]:
    return {"name": "english", "source": str(noises / "dev"), "language": "en"}


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
        f"{name}.{what}.json" for name in ("english", "silence") for what in ("base", "base.how", "tuned")
    }
    known = again.run.read_evaluation("retention/english.base")
    assert known is not None
    assert known.scores.normalizer == "whisper-english 1"  # whatever the recipe names for dev
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


def test_a_row_that_does_not_decode_has_nothing_decoded_anew(
    tiny: ModelFolder, noises: Path, english: dict[str, Any], reader: AudioReader, tmp_path: Path
) -> None:
    base, _ = engines(tiny)
    recipe = recipe_with(tiny, noises, english)
    run = Run(tmp_path / "run")
    run.start(recipe, {})
    (found,) = load_retention(recipe, tiny.vocabulary, reader)
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"broken")
    sets = [replace(found, segments=(*found.segments, replace(found.segments[0], id="broken", recording=broken)))]

    def opened() -> tuple[RetentionSets, Notes]:
        notes = Notes()
        rows = Rows(run, recipe.evaluation, reader, notes, StopRequest())
        return RetentionSets(recipe, sets, rows, lambda what, work: work()), notes

    opened()[0].base(base)
    again, notes = opened()
    assert again.known("ctranslate2")
    again.base(base)
    assert notes.decoded == []
    sets = [found]  # another set, all of whose rows are known
    assert not opened()[0].known("ctranslate2")


def test_what_is_decoded_otherwise_is_decoded_anew(
    tiny: ModelFolder, noises: Path, english: dict[str, Any], reader: AudioReader, tmp_path: Path
) -> None:
    """As where a run goes on with other beams, another language of the set, or its recordings as a whole."""
    base, _ = engines(tiny)
    first = recipe_with(tiny, noises, english)
    run = Run(tmp_path / "run")
    run.start(first, {})

    def opened(recipe: Recipe) -> RetentionSets:
        rows = Rows(run, recipe.evaluation, reader, Reporter(), StopRequest())
        return RetentionSets(recipe, load_retention(recipe, tiny.vocabulary, reader), rows, lambda what, work: work())

    opened(first).base(base)
    assert opened(first).known("ctranslate2")
    beams = first.model_copy(update={"evaluation": first.evaluation.model_copy(update={"beams": 2})})
    swedish = recipe_with(tiny, noises, english | {"language": "sv"})
    whole = recipe_with(tiny, noises, english | {"recordings": True})
    assert not any(opened(each).known("ctranslate2") for each in (beams, swedish, whole))
    opened(beams).base(base)
    assert opened(beams).known("ctranslate2")
    assert not opened(first).known("ctranslate2")
    (run.folder / "evaluations" / "retention" / "english.base.how.json").write_text("{")  # cut off in the writing
    assert not opened(beams).known("ctranslate2")


def with_policy(recipe: Recipe, policy: str) -> Recipe:
    return recipe.model_copy(update={"clean": recipe.clean.model_copy(update={"leakage": policy})})


def test_what_is_trained_on_is_no_measure_of_what_is_kept(
    tiny: ModelFolder, noises: Path, reader: AudioReader, tmp_path: Path
) -> None:
    """Of the set's rows one is in train by its text, one by its audio, one by both; as long as nobody listens."""
    rows = [json.loads(line) for line in (noises / "train" / "metadata.jsonl").read_text().splitlines()]
    told = [rows[0]["text"].upper() + "!", "words that nobody else has said", rows[2]["text"], "nor has anybody these"]
    for place, source in enumerate((noises / "dev" / "0.wav", noises / "train" / "1.wav", noises / "train" / "2.wav")):
        shutil.copy(source, tmp_path / f"{place}.wav")
    shutil.copy(noises / "dev" / "1.wav", tmp_path / "3.wav")
    lines = [json.dumps({"file_name": f"{place}.wav", "text": text}) for place, text in enumerate(told)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    mixed = {"name": "mixed", "source": str(tmp_path), "language": "en"}
    recipe = recipe_with(tiny, noises, mixed, {"name": "silence", "silence": True})
    train = [
        Segment(f"{n}", noises / "train" / row["file_name"], 0.0, 1.0 + n / 10, row["text"], "sv")
        for n, row in enumerate(rows)
    ]

    def loaded(policy: str) -> RetentionSet:
        return load_retention(with_policy(recipe, policy), tiny.vocabulary, reader, train)[0]

    with pytest.raises(DataError, match="3 of the 4 rows of retention, mixed, are in train too") as error:
        loaded("error")
    assert error.value.where == "retention.0"
    assert "clean.leakage" in str(error.value)
    dropped = loaded("drop")
    assert [each.text for each in dropped.segments] == told[3:]
    assert dropped.notes[-1].endswith("so 3 are left out (clean.leakage is drop)")
    allowed = loaded("allow")
    assert len(allowed.segments) == 4
    assert "say too little of what is forgotten" in allowed.notes[-1]
    apart = load_retention(recipe, tiny.vocabulary, reader, train[5:])
    assert [len(each.segments) for each in apart] == [4, 25]
    assert len(apart[0].notes) == 1


def test_of_recordings_that_are_transcribed_all_goes() -> None:
    def cue(recording: str, at_s: float, text: str) -> Segment:
        return Segment(f"{recording} {at_s}", Path(recording), at_s, at_s + 1.0, text, "sv")

    spoken, other = "det här har redan sagts en gång", "och det här har ingen sagt förut"
    cues = (cue("a.wav", 0.0, spoken), cue("a.wav", 2.0, other), cue("b.wav", 0.0, other + " heller"))
    train = [cue("c.wav", 0.0, spoken)]
    rows, whole = (RetentionSet("talks", cues, recordings=each) for each in (False, True))
    assert kept_apart(rows, train, "drop", "retention.0").segments == cues[1:]
    assert kept_apart(whole, train, "drop", "retention.0").segments == cues[2:]
    assert kept_apart(whole, (), "error", "retention.0") is whole
    with pytest.raises(DataError, match="all rows of retention, talks, are in train too"):
        kept_apart(RetentionSet("talks", cues[:1]), train, "drop", "retention.0")


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
    assert (found.name, found.segments[0].language, len(found.segments)) == ("english", "en", 3)
    assert found.notes == ("retention, english: 3 rows used, 0.00 h of audio",)
