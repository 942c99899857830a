"""Datasets from recipes: what is in them, what is left out, and what happens when the work is stopped."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from tests.prepare.conftest import RATE_HZ, clips, hashes, recipe_of, talk, voice
from whispertune.data.audio import AudioReader
from whispertune.data.problems import write_dropped
from whispertune.data.segments import Problem, SourceSpec
from whispertune.data.sources import open_source
from whispertune.data.sources.dataset import read_dataset
from whispertune.data.table import as_table
from whispertune.errors import DataError, InputError
from whispertune.prepare.prepared import Prepared
from whispertune.prepare.run import parse_part, prepare_dataset
from whispertune.recipe_file import parse_recipe

SHARD_S = 300.0  # no shard is smaller, where there is so much


def dropped(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "dropped.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_dataset_loads_as_it_is(talks: Path, tmp_path: Path) -> None:
    """By the library, from the folder alone: splits, features, and the samples of each row."""
    from datasets import Audio, load_dataset

    clips(tmp_path / "dev", 4, 1.5, seed=50)
    out = tmp_path / "dataset"
    summary = prepare_dataset(recipe_of(talks, tmp_path / "dev"), out)
    found = load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    assert {name: len(rows) for name, rows in found.items()} == {"train": 24, "validation": 4}
    assert {each.split: each.rows for each in summary.splits} == {"train": 24, "validation": 4}
    assert found["train"].features["audio"] == Audio(sampling_rate=RATE_HZ)
    rows = found["train"].cast_column("audio", Audio(decode=False))
    whole_talk, _ = soundfile.read(talks / "opening.flac", dtype="int16")
    of_talk = [row for row in rows if row["recording"] == "opening.flac"]
    assert len(of_talk) == 21
    for row in of_talk:
        own, rate_hz = soundfile.read(_file(row["audio"]["bytes"]), dtype="int16")
        start, end = round(row["start_s"] * RATE_HZ), round(row["end_s"] * RATE_HZ)
        assert rate_hz == RATE_HZ
        np.testing.assert_array_equal(own, whole_talk[start:end])
        if row["before"]:
            before, _ = soundfile.read(_file(row["before"]), dtype="int16")
            np.testing.assert_array_equal(before, whole_talk[start - len(before) : start])
            assert len(before) / RATE_HZ == pytest.approx(row["before_s"], abs=1e-4)


def _file(data: bytes) -> object:
    import io

    return io.BytesIO(data)


@pytest.mark.usefixtures("here")
def test_nothing_in_it_names_this_machine(talks: Path, tmp_path: Path) -> None:
    talk(talks, "broken", [(0.5, 2.0), (2.0, 1.0), (900.0, 910.0)], 3.0, seed=9)
    (talks / "lonely.vtt").write_text("WEBVTT\n\n00:00:01.000 --> 00:00:02.000\nhej\n", encoding="utf-8")
    out = tmp_path / "dataset"
    prepare_dataset(recipe_of(talks, data={"max_bad_share": 0.5}), out)
    assert dropped(out)
    texts = [path.read_text(encoding="utf-8") for path in out.iterdir() if path.is_file()]
    rows = pq.read_table(next((out / "data").iterdir()), columns=["id", "source", "recording", "text"]).to_pylist()
    for text in (*texts, json.dumps(rows)):
        assert str(tmp_path) not in text
        assert tmp_path.name not in text
    assert {row["recording"] for row in rows} == {"opening.flac", "broken.flac", "day2/closing.flac"}


@pytest.mark.usefixtures("here")
def test_the_card_says_what_is_there(talks: Path, tmp_path: Path) -> None:
    out = tmp_path / "my-data"
    prepare_dataset(recipe_of(talks), out)
    card = (out / "README.md").read_text(encoding="utf-8")
    for line in ('- "sv"', "- automatic-speech-recognition", "- n<1K", "path: data/train-*", "# my-data"):
        assert line in card
    assert "| train | 24 | 0.02 | none |" in card
    assert "license" not in card


@pytest.mark.usefixtures("here")
def test_times_chains_and_texts_are_those_of_the_source(talks: Path, tmp_path: Path, reader: AudioReader) -> None:
    out = tmp_path / "dataset"
    prepare_dataset(recipe_of(talks), out)
    source = as_table(open_source(SourceSpec(str(talks), language="sv"), reader).segments)
    table = as_table(read_dataset(SourceSpec(str(out)), reader).segments)
    assert table.texts.to_pylist() == source.texts.to_pylist()
    for name in ("start_s", "end_s", "lead_s"):
        np.testing.assert_array_equal(getattr(table, name), getattr(source, name))
    apart = source.start_s[1:] - source.end_s[:-1] > 5.0  # a pause that packing does not keep either
    expected = source.continues.copy()
    expected[1:] &= ~apart
    assert expected.sum() < source.continues.sum()
    np.testing.assert_array_equal(table.continues, expected)


@pytest.mark.usefixtures("here")
def test_rows_that_only_the_audio_gives_away_are_left_out_by_reason(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    clips(folder, 10, 1.5, seed=60)
    soundfile.write(folder / "clip1.wav", np.zeros(24_000, np.int16), RATE_HZ)
    (folder / "clip3.wav").write_bytes((folder / "clip2.wav").read_bytes())
    loud = np.sign(voice(1.5, 7)).astype(np.int16) * 32767
    soundfile.write(folder / "clip4.wav", np.repeat(loud[::8], 8), RATE_HZ, subtype="PCM_16")
    out = tmp_path / "dataset"
    recipe = recipe_of(folder, data={"max_bad_share": 0.5})
    (split,) = prepare_dataset(recipe, out).splits
    assert (split.rows, split.dropped) == (7, {"no speech": 1, "clipped": 1, "same audio, other text": 1})
    assert {row["kind"]: row["line"] for row in dropped(out)} == {
        "no speech": 2,
        "clipped": 5,
        "same audio, other text": 4,
    }
    assert all(row["source"] == "data" and row["split"] == "train" for row in dropped(out))


@pytest.mark.usefixtures("here")
def test_rows_left_out_are_told_as_those_of_a_run(tmp_path: Path) -> None:
    clips(tmp_path / "data", 10, 1.5, seed=60)
    (tmp_path / "data" / "clip3.wav").unlink()
    prepare_dataset(recipe_of(tmp_path / "data", data={"max_bad_share": 0.5}), tmp_path / "out")
    (row,) = dropped(tmp_path / "out")
    write_dropped(tmp_path / "run.jsonl", [Problem("a.csv:3", "no text", "nothing is said")])
    assert json.loads((tmp_path / "run.jsonl").read_text()).keys() <= row.keys()
    assert (row["line"], row["reason"]) == (4, row["kind"])


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ({"markup": "drop"}, "markup"),
        ({"max_same_text": 1}, "one text too often"),
        ({}, "duplicate"),
        ({}, "same audio twice"),
    ],
)
def test_what_the_recipe_asks_to_leave_out_is_not_bad(asked: dict[str, object], kind: str, tmp_path: Path) -> None:
    """Two rows of ten, over the limit, as `train` takes them."""
    folder = tmp_path / "data"
    clips(folder, 10, 1.5, seed=60)
    manifest = folder / "metadata.jsonl"
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    for number in (1, 2):
        if kind == "markup":
            rows[number]["text"] = f"[skratt] {rows[number]['text']}"
        if kind in ("one text too often", "same audio twice"):
            rows[number]["text"] = rows[0]["text"]
        if kind == "same audio twice":
            shutil.copy(folder / "clip0.wav", folder / f"clip{number}.wav")
        if kind == "duplicate":
            rows[number] = rows[0]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (split,) = prepare_dataset(recipe_of(folder, clean=asked), tmp_path / "out").splits
    assert (split.rows, split.dropped) == (8, {kind: 2})


def test_too_many_bad_rows_end_it(tmp_path: Path) -> None:
    clips(tmp_path / "data", 10, 1.5, seed=60)
    soundfile.write(tmp_path / "data" / "clip1.wav", np.zeros(24_000, np.int16), RATE_HZ)
    told = r"1 of 10 rows cannot be used \(10.0%; the limit is 5.0%\): 1 no speech[\s\S]*out/dropped.jsonl names all"
    with pytest.raises(DataError, match=told):
        prepare_dataset(recipe_of(tmp_path / "data"), tmp_path / "out")
    assert not (tmp_path / "out" / "prepare.json").exists()
    assert [(row["line"], row["kind"]) for row in dropped(tmp_path / "out")] == [(2, "no speech")]
    loosened = recipe_of(tmp_path / "data", data={"max_bad_share": 0.2})
    assert prepare_dataset(loosened, tmp_path / "out").splits[0].rows == 9


@pytest.mark.usefixtures("here")
def test_bad_rows_that_only_all_shards_tell_are_named_too(tmp_path: Path) -> None:
    clips(tmp_path / "data", 10, 1.5, seed=60)
    shutil.copy(tmp_path / "data" / "clip2.wav", tmp_path / "data" / "clip3.wav")
    told = r"1 of 10 rows [\s\S]*: 1 same audio, other text\n +metadata.jsonl:4: the same audio as"
    with pytest.raises(DataError, match=told):
        prepare_dataset(recipe_of(tmp_path / "data"), tmp_path / "out")
    assert [row["where"] for row in dropped(tmp_path / "out")] == ["metadata.jsonl:4"]


@pytest.mark.usefixtures("here")
def test_a_row_dropped_from_a_chain_ends_it(tmp_path: Path, reader: AudioReader) -> None:
    """Of two recordings that share the audio of a cue the second loses it, and its chain goes on behind it."""
    shared = voice(2.0, 5)
    for number, name in enumerate(("a", "b")):
        talk(tmp_path / "talks", name, [(1.0, 3.0), (3.5, 5.5), (6.0, 8.0)], 9.0, seed=20 + number)
        path = tmp_path / "talks" / f"{name}.flac"
        samples, _ = soundfile.read(path, dtype="int16")
        samples[round(3.5 * RATE_HZ) : round(5.5 * RATE_HZ)] = shared
        soundfile.write(path, samples, RATE_HZ, subtype="PCM_16")
    prepare_dataset(recipe_of(tmp_path / "talks", data={"max_bad_share": 0.5}), tmp_path / "out")
    table = as_table(read_dataset(SourceSpec(str(tmp_path / "out")), reader).segments)
    assert table.continues.tolist() == [False, True, True, False, False]
    last = table[4]
    samples, _ = soundfile.read(tmp_path / "talks" / "b.flac", dtype="float32")
    heard = reader.read(last.recording, last.start_s - last.lead_s, last.end_s)
    np.testing.assert_array_equal(heard, samples[round((6.0 - last.lead_s) * RATE_HZ) : 8 * RATE_HZ])


@pytest.mark.usefixtures("here")
def test_shards_are_known_before_and_the_same_whoever_writes_them(manifest: Path, whole: Path, tmp_path: Path) -> None:
    """In parts, in any order: the last one completes the dataset."""
    assert len(hashes(whole)) == 4
    parts = [prepare_dataset(recipe_of(manifest), tmp_path / "out", part=(n, 3), processes=1) for n in (2, 3, 1)]
    assert [part.complete for part in parts] == [False, False, True]
    assert [len(part.written) for part in parts] == [1, 2, 4]
    assert hashes(tmp_path / "out") == hashes(whole)
    for name in ("README.md", "dropped.jsonl"):
        assert (tmp_path / "out" / name).read_text() == (whole / name).read_text().replace("# dataset", "# out")
    assert not (tmp_path / "out" / ".work").exists()


@pytest.mark.usefixtures("here")
def test_sources_of_one_name_stay_two(tmp_path: Path) -> None:
    """In the card, in the rows, and in what was left out; a source that is there twice is one."""
    for number, folder in enumerate(("x", "y")):
        clips(tmp_path / folder / "train", 4, 1.5, seed=60 + 10 * number, name=folder)
        soundfile.write(tmp_path / folder / "train" / f"{folder}1.wav", np.zeros(24_000, np.int16), RATE_HZ)
    clips(tmp_path / "talks", 4, 1.5, seed=90)
    tables = [
        {"source": str(tmp_path / "talks"), "limit_rows": 2},
        *({"source": str(tmp_path / folder / "train")} for folder in ("x", "y")),
        {"source": str(tmp_path / "talks")},
    ]
    data = {"train": tables, "max_bad_share": 0.5}
    out = tmp_path / "out"
    prepare_dataset(parse_recipe({"model": "none", "language": "sv", "data": data}), out)
    card = (out / "README.md").read_text(encoding="utf-8")
    rows = pq.read_table(next((out / "data").iterdir()), columns=["source"])["source"].to_pylist()
    names = ["train (data.train.1)", "train (data.train.2)"]
    assert Counter(rows) == {"talks": 4, names[0]: 3, names[1]: 3}
    assert all(f"| {name} | 3 | 0.00 |" in card for name in names)
    silent = [row for row in dropped(out) if row["kind"] == "no speech"]
    assert [row["source"] for row in silent] == names


@pytest.mark.usefixtures("here")
def test_rows_that_two_splits_share_name_their_source(tmp_path: Path) -> None:
    """Of three sources the second has a text of dev, the third another."""
    for number, name in enumerate(("first", "second", "third")):
        clips(tmp_path / name, 6, 1.5, seed=60 + 10 * number, name=name)
    clips(tmp_path / "dev", 2, 1.5, seed=120)
    lines = [(tmp_path / name / "metadata.jsonl").read_text("utf-8").splitlines() for name in ("second", "third")]
    shared = [json.loads(of_one[row])["text"] for of_one, row in zip(lines, (2, 4), strict=True)]
    rows = [json.dumps({"file_name": f"clip{number}.wav", "text": text}) for number, text in enumerate(shared)]
    (tmp_path / "dev" / "metadata.jsonl").write_text("\n".join(rows), encoding="utf-8")
    tables = [{"source": str(tmp_path / name)} for name in ("first", "second", "third")]
    recipe = recipe_of(tmp_path, tmp_path / "dev", clean={"leakage": "drop"}, data={"train": tables})
    prepare_dataset(recipe, tmp_path / "out")
    found = [(row["where"], row["source"], row["kind"]) for row in dropped(tmp_path / "out")]
    assert found == [("1/metadata.jsonl:3", "second", "also in dev"), ("2/metadata.jsonl:5", "third", "also in dev")]


@pytest.mark.usefixtures("here")
def test_ids_of_several_sources_differ(tmp_path: Path) -> None:
    """Also where a folder of the first is called as the prefix of the second is."""
    talk(tmp_path / "first" / "1", "a", [(1.0, 3.0)], 4.0, seed=20)
    talk(tmp_path / "second", "a", [(1.0, 3.0)], 4.0, seed=21)
    tables = [{"source": str(tmp_path / name)} for name in ("first", "second")]
    prepare_dataset(recipe_of(tmp_path, data={"train": tables}), tmp_path / "out")
    ids = pq.read_table(next((tmp_path / "out" / "data").iterdir()), columns=["id"])["id"].to_pylist()
    assert ids == ["0/1/a.vtt:3", "1/a.vtt:3"]


def test_done_again_does_nothing(manifest: Path, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "out")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    again = prepare_dataset(recipe_of(manifest), tmp_path / "out")
    assert again.splits == Prepared.load(whole).splits
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}


def test_a_changed_recipe_or_other_data_is_an_error(manifest: Path, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "out")
    with pytest.raises(DataError, match=r"clean.case was \"keep\", is \"lower\"") as raised:
        prepare_dataset(recipe_of(manifest, clean={"case": "lower"}), tmp_path / "out")
    assert raised.value.exit_code == 2
    changed = shutil.copytree(manifest, tmp_path / "data")
    os.utime(changed / "2.wav", ns=(1, 1))
    with pytest.raises(DataError, match=r"data.train.0.audio was"):
        prepare_dataset(recipe_of(changed), tmp_path / "out")
    with (changed / "metadata.jsonl").open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({"file_name": "0.wav", "text": "en rad till i listan", "start": 0.1, "end": 9.0}) + "\n")
    with pytest.raises(DataError, match=r"data.train.0.rows was 120, is 121"):
        prepare_dataset(recipe_of(changed), tmp_path / "out")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("column", "told"), [("speaker", "data.train.0.speakers was"), ("file_name", "data.train.0.recordings was")]
)
def test_a_corrected_manifest_is_other_data(column: str, told: str, tmp_path: Path) -> None:
    """Two rows with stated times had each other's: all else, and the set of recordings, stays as it was."""
    folder = tmp_path / "data"
    clips(folder, 4, 1.5, seed=60)
    manifest = folder / "metadata.jsonl"
    rows = [json.loads(line) | {"start": 0.0, "end": 1.5} for line in manifest.read_text("utf-8").splitlines()]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    prepare_dataset(recipe_of(folder), tmp_path / "out")
    assert prepare_dataset(recipe_of(folder), tmp_path / "out").complete
    rows[1][column], rows[2][column] = rows[2][column], rows[1][column]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(DataError, match=told):
        prepare_dataset(recipe_of(folder), tmp_path / "out")


@pytest.mark.usefixtures("here")
def test_the_same_data_in_another_place_is_the_same(tmp_path: Path) -> None:
    """As where another machine, which has it under another path, goes on with the rest."""
    for name in ("here", "there"):
        clips(tmp_path / name / "data", 4, 1.5, seed=60)
        for path in (tmp_path / name / "data").glob("*.wav"):
            os.utime(path, ns=(1, 1))
        assert prepare_dataset(recipe_of(tmp_path / name / "data"), tmp_path / "out").complete


@pytest.mark.usefixtures("here")
def test_a_begun_dataset_of_another_recipe_is_an_error_too(manifest: Path, tmp_path: Path) -> None:
    prepare_dataset(recipe_of(manifest), tmp_path / "out", part=(1, 4), processes=1)
    with pytest.raises(DataError, match=r"holds a dataset of another recipe .*windows.max_gap_s was 5.0, is 2.0"):
        prepare_dataset(recipe_of(manifest, windows={"max_gap_s": 2.0}), tmp_path / "out")


def test_a_damaged_dataset_is_named(manifest: Path, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "out")
    path = tmp_path / "out" / "data" / "train-00002-of-00004.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"00002-of-00004.parquet: is not what was written\n.*remove \S+/out and run"):
        prepare_dataset(recipe_of(manifest), tmp_path / "out")


def test_shards_of_an_earlier_dataset_never_stand_beside_new_ones(manifest: Path, whole: Path, tmp_path: Path) -> None:
    """The mark is gone, and with it what would tell them from others."""
    shutil.copytree(whole, tmp_path / "out")
    (tmp_path / "out" / "prepare.json").unlink()
    with pytest.raises(InputError, match=r"has data/ but no prepare.json[\s\S]*remove this folder"):
        prepare_dataset(recipe_of(manifest, clean={"case": "lower"}), tmp_path / "out")
    assert hashes(tmp_path / "out") == hashes(whole)


@pytest.mark.parametrize("name", ["thesis.tex", ".thesis.tex.partial", ".thesis.tex.laptop.12.partial"])
def test_a_folder_with_other_things_is_left_alone(name: str, talks: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("years of work")
    with pytest.raises(InputError, match=rf"holds other things already \({re.escape(name)}\)"):
        prepare_dataset(recipe_of(talks), tmp_path / "out")
    assert (tmp_path / "out" / name).read_text() == "years of work"


@pytest.mark.parametrize("text", ["3", "0/4", "5/4", "a/b", "1/0"])
def test_parts_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="is no part"):
        parse_part(text)
