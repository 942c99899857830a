"""Manifests of Lhotse: cuts, and supervisions with recordings."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from whispertune.data.audio import AudioReader
from whispertune.data.segments import SourceSpec
from whispertune.data.sources import reading
from whispertune.data.sources.lhotse import is_lhotse, parse_lhotse, read_lhotse
from whispertune.errors import DataError

Json = dict[str, Any]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).normal(0, 0.1, (8000 * 8, 2))
    soundfile.write(tmp_path / "talk.flac", noise[:, 0], 8000)
    soundfile.write(tmp_path / "stereo.wav", noise, 8000)
    return tmp_path


def recording(name: str = "talk.flac", channels: tuple[int, ...] = (0,), **more: Any) -> Json:
    source = {"type": "file", "channels": list(channels), "source": name}
    return {"id": name, "sources": [source], "sampling_rate": 8000, "num_samples": 64000, "duration": 8.0} | more


def supervision(name: str, start_s: float, duration_s: float, **more: Any) -> Json:
    row = {"id": name, "recording_id": "talk.flac", "start": start_s, "duration": duration_s, "channel": 0}
    return row | {"text": f"text {name}", "language": "English", "speaker": "anna"} | more


def cut(start_s: float, *supervisions: Json, **more: Any) -> Json:
    row = {"id": f"cut-{start_s}", "start": start_s, "duration": 4.0, "channel": 0, "type": "MonoCut"}
    return row | {"supervisions": list(supervisions), "recording": recording()} | more


def write(path: Path, *rows: Json | str) -> SourceSpec:
    lines = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(lines.encode()))
    else:
        path.write_text(lines, "utf-8")
    return SourceSpec(str(path), language="sv")


@pytest.mark.parametrize("name", ["cuts.jsonl", "train_cuts.jsonl.gz"])
def test_each_supervision_of_a_cut_is_a_row(corpus: Path, reader: AudioReader, name: str) -> None:
    rows = (
        cut(1.0, supervision("a", 0.5, 1.0), supervision("b", 1.5, 1.0, language=None, speaker=None)),
        cut(4.0, supervision("c", -0.25, 1.0, text="hej på dig", language="Mboshi", speaker=7)),
    )
    write(corpus / name, *rows)
    data = read_lhotse(SourceSpec(str(corpus), language="sv"), reader)
    assert [(one.id, one.start_s, one.end_s) for one in data.segments] == [
        ("a", 1.5, 2.5),
        ("b", 2.5, 3.5),
        ("c", 3.75, 4.75),
    ]
    assert [(one.text, one.language, one.speaker) for one in data.segments] == [
        ("text a", "en", "anna"),
        ("text b", "sv", None),
        ("hej på dig", "sv", "7"),
    ]
    assert {one.recording for one in data.segments} == {corpus / "talk.flac"}
    assert data.problems == ()


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_supervisions_with_their_recordings(corpus: Path, reader: AudioReader, suffix: str) -> None:
    write(corpus / "sw_recordings_dev.jsonl.gz", recording())
    spec = write(corpus / f"sw_supervisions_dev{suffix}", supervision("a", 0.5, 1.0), supervision("b", 2.0, 1.5))
    for location in (spec.location, str(corpus)):
        data = read_lhotse(SourceSpec(location), reader)
        assert [(one.id, one.start_s, one.end_s) for one in data.segments] == [("a", 0.5, 1.5), ("b", 2.0, 3.5)]
        assert data.problems == ()


def test_what_is_no_plain_recording_is_named(corpus: Path, reader: AudioReader) -> None:
    sound = recording("stereo.wav", (0, 1))
    spec = write(
        corpus / "cuts.jsonl",
        {"id": "mix", "type": "MixedCut", "tracks": []},
        {"id": "pad", "type": "PaddingCut", "duration": 1.0},
        "{not json",
        "[]",
        cut(0.0, supervision("left", 0, 1), recording=sound),
        cut(0.0, supervision("both", 0, 1, channel=[0, 1]), recording=sound, channel=[0, 1], type="MultiCut"),
        cut(0.0, supervision("right", 0, 1, channel=1), recording=sound, channel=[0, 1], type="MultiCut"),
        cut(0.0, supervision("fast", 0, 1), recording=recording(transforms=[{"name": "Speed", "kwargs": {}}])),
        cut(0.0, supervision("loud", 0, 1), recording=recording(transforms=[{"name": "Volume", "kwargs": {}}])),
        cut(0.0),
        {key: value for key, value in cut(0.0, supervision("features", 0, 1)).items() if key != "recording"},
        cut(0.0, supervision("late", 7.5, 2), supervision("timeless", "soon", 1), supervision("mute", 2, 1, text=None)),
        cut(0.0, supervision("loud", 3, 1)),
    )
    data = read_lhotse(spec, reader)
    assert sorted(one.id for one in data.segments) == ["both", "loud"]
    assert sorted((int(problem.where.rpartition(":")[2]), problem.kind) for problem in data.problems) == [
        (1, "mixed cut"),
        (2, "mixed cut"),
        (3, "malformed row"),
        (4, "malformed row"),
        (5, "one channel of several"),
        (7, "one channel of several"),
        (8, "transformed recording"),
        (10, "cut without supervisions"),
        (11, "cut without recording"),
        (12, "empty text"),
        (12, "past the end"),
        (12, "wrong times"),
        (13, "given twice"),
    ]
    details = [problem.detail for problem in data.problems]
    assert details[0] == "is a MixedCut; a mix is no recording"
    assert details[4] == "is of channel 0 of a recording with 0 and 1; the channels of a file are averaged here"


def test_the_file_of_a_channel_is_found(corpus: Path) -> None:
    sources = [
        {"type": "file", "channels": [0], "source": "other.wav"},
        {"type": "file", "channels": [1], "source": "talk.flac"},
    ]
    spec = write(corpus / "cuts.jsonl", cut(0.0, supervision("a", 0, 1), channel=1, recording={"sources": sources}))
    assert list(parse_lhotse(spec).audio) == ["talk.flac"]


@pytest.mark.parametrize("kind", ["command", "url", "memory", "shar", "shar_ptr"])
def test_only_files_are_read(corpus: Path, kind: str) -> None:
    source = {"type": kind, "channels": [0], "source": "touch ran"}
    spec = write(corpus / "cuts.jsonl", cut(0.0, supervision("a", 0, 1)), cut(4.0, recording={"sources": [source]}))
    with pytest.raises(DataError) as caught:
        parse_lhotse(spec)
    assert str(caught.value).startswith(f"{corpus / 'cuts.jsonl'}:2: is a source of type '{kind}', not a file")
    assert "nothing of it is run or fetched" in str(caught.value)


def test_relative_paths_are_of_the_folder_else_of_the_start(
    corpus: Path, reader: AudioReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    (corpus / "manifests").mkdir()
    spec = write(corpus / "manifests" / "cuts.jsonl", cut(0.0, supervision("a", 0, 1)))
    monkeypatch.chdir(corpus)
    with pytest.raises(DataError, match=r"none of its paths leads anywhere from its folder, e\.g\. 'talk\.flac'"):
        parse_lhotse(spec)
    data = read_lhotse(SourceSpec(spec.location, outside=True), reader)
    assert [str(one.recording) for one in data.segments] == [str(Path("talk.flac").absolute())]


def test_a_zip_bomb_is_left_packed(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SWELL_FREE_BYTES", 100_000)
    (corpus / "cuts.jsonl.gz").write_bytes(gzip.compress(b"\n" * 1_000_000))
    with pytest.raises(DataError, match="unpacks to more than 200 times its size"):
        parse_lhotse(SourceSpec(str(corpus / "cuts.jsonl.gz")))
    monkeypatch.setattr(reading, "LONGEST_LINE_BYTES", 50_000)
    (corpus / "cuts.jsonl.gz").write_bytes(gzip.compress(b" " * 60_000))
    with pytest.raises(DataError, match="the line is longer than"):
        parse_lhotse(SourceSpec(str(corpus / "cuts.jsonl.gz")))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"no gzip", "cannot be read"),
        (gzip.compress(b'{"type": "MonoCut"}\n' * 1000)[:-12], "cannot be read"),
        (gzip.compress(b'{"type": "MonoCut", "id": "\xff"}\n'), "is not UTF-8"),
        (gzip.compress(b""), "holds no rows"),
        (gzip.compress(b'{"audio_filepath": "a.wav", "text": "x", "duration": 1.0}\n'), "neither of cuts nor"),
        (gzip.compress(json.dumps(supervision("a", 0, 1)).encode()), "lacks its recordings"),
    ],
    ids=[
        "no gzip",
        "cut off",
        "no UTF-8",
        "empty",
        "a manifest",
        "no recordings",
    ],  # gzip writes the time into its bytes
)
def test_files_that_cannot_be_read_are_named(corpus: Path, content: bytes, told: str) -> None:
    path = corpus / "x_supervisions.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=told) as caught:
        parse_lhotse(SourceSpec(str(path)))
    assert str(caught.value).startswith(str(path))


def test_manifests_are_known_by_their_first_row(corpus: Path) -> None:
    assert not is_lhotse(corpus)
    write(corpus / "cuts_train.jsonl.gz", cut(0.0, supervision("a", 0, 1)))
    write(corpus / "nemo.jsonl", {"audio_filepath": "talk.flac", "text": "x", "duration": 1.0})
    write(corpus / "supervisions.jsonl", supervision("a", 0, 1))
    assert is_lhotse(corpus)
    assert is_lhotse(corpus / "cuts_train.jsonl.gz")
    assert is_lhotse(corpus / "supervisions.jsonl")
    assert not is_lhotse(corpus / "nemo.jsonl")
    assert not is_lhotse(corpus / "talk.flac")
    write(corpus / "cuts_dev.jsonl.gz", cut(0.0, supervision("a", 0, 1)))
    with pytest.raises(DataError, match=r"several manifests: cuts_dev\.jsonl\.gz, cuts_train\.jsonl\.gz"):
        parse_lhotse(SourceSpec(str(corpus)))
