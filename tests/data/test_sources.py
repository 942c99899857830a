"""Folders with metadata and recordings with captions: what is used, what is a Problem, how it hangs together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from whispertune.data.audio import AudioReader
from whispertune.data.captions import Cue, write_captions
from whispertune.data.segments import Segment, SourceData, SourceSpec
from whispertune.data.sources import SOURCES, open_source
from whispertune.errors import DataError


def tone(path: Path, duration_s: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.sin(np.arange(round(duration_s * 8000)) / 5)
    soundfile.write(path, samples, 8000)
    return path


def troubles(data: SourceData) -> list[tuple[str, str]]:
    return [(Path(problem.where).name, problem.kind) for problem in data.problems]


def told(segment: Segment) -> tuple[Any, ...]:
    return segment.start_s, segment.end_s, segment.text, segment.continues, round(segment.lead_s, 6)


def jsonl(folder: Path, *rows: dict[str, Any] | str) -> Path:
    written = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "metadata.jsonl").write_text("\n".join(written) + "\n", encoding="utf-8")
    return folder


def row(file_name: str = "long.wav", text: str = "x", **more: Any) -> dict[str, Any]:
    return {"file_name": file_name, "text": text, **more}


def test_a_folder_with_jsonl(tmp_path: Path, reader: AudioReader) -> None:
    tone(tmp_path / "clips" / "a.wav", 2.0)
    tone(tmp_path / "long.wav", 60.0)
    jsonl(
        tmp_path,
        row("clips/a.wav", " Caf\u0065\u0301  au lait ", language="fr", speaker=7, topic="food"),
        row(text="third", start=9.0, end=12.5),
        row(text="second", start="5", end=8.75),
        "",
        row(text="first", start=1.0, end=5.0, speaker="Bo"),
        row(text="to the end", start=40, end=None, task="translate"),
    )
    data = open_source(SourceSpec(tmp_path, language="sv"), reader)
    assert data.problems == ()
    assert data.segments[0] == Segment(
        id="metadata.jsonl:1",
        recording=tmp_path / "clips" / "a.wav",
        start_s=0.0,
        end_s=2.0,
        text="Caf\u00e9 au lait",
        language="fr",
        speaker="7",
    )
    assert [told(segment) for segment in data.segments[1:]] == [
        (1.0, 5.0, "first", False, 1.0),
        (5.0, 8.75, "second", True, 0.0),
        (9.0, 12.5, "third", True, 0.25),
        (40.0, 60.0, "to the end", False, 27.5),
    ]
    assert [segment.id for segment in data.segments[1:]] == [f"metadata.jsonl:{line}" for line in (5, 3, 2, 6)]
    assert {segment.language for segment in data.segments[1:]} == {"sv"}
    assert data.segments[4].task == "translate"
    assert data.segments[1].speaker == "Bo"


def test_bad_rows_are_named_and_the_rest_is_used(tmp_path: Path, reader: AudioReader) -> None:
    tone(tmp_path / "set" / "long.wav", 60.0)
    tone(tmp_path / "outside.wav", 1.0)
    (tmp_path / "set" / "text.wav").write_text("no audio")
    (tmp_path / "set" / "empty.wav").touch()
    folder = jsonl(
        tmp_path / "set",
        row(start=1, end=2),
        "{",
        "[1, 2]",
        row("none.wav"),
        row("zero\0.wav"),
        row(text=" \n"),
        row("../outside.wav"),
        row(str(tmp_path / "outside.wav")),
        row(start="soon", end=2),
        row(start=-1, end=2),
        row(start=float("nan"), end=2),
        row(start=4, end=4),
        row(start=5, end=3),
        row(start=59, end=60.3),
        row(start=61),
        row(start=2, end=32.5),
        row(),
        row("text.wav"),
        row("empty.wav"),
        row(task="sing"),
        row(text=["x"]),
        row(start=True, end=2),
        {"text": "no file"},
        row("x" * 5000),
        row(start=58, end=60.15),
    )
    data = open_source(SourceSpec(folder, language="en"), reader)
    assert [told(segment)[:2] for segment in data.segments] == [(1.0, 2.0), (58.0, 60.0)]
    kinds = (
        ["malformed row"] * 2
        + ["missing file"] * 2
        + ["empty text"]
        + ["path outside of the folder"] * 2
        + ["wrong times"] * 3
        + ["no length"] * 2
        + ["past the end"] * 2
        + ["longer than 30 s"] * 2
        + ["recording does not decode"] * 2
        + ["unknown task", "malformed row", "wrong times", "missing file", "missing file"]
    )
    assert troubles(data) == [(f"metadata.jsonl:{line}", kind) for line, kind in enumerate(kinds, start=2)]
    assert all(problem.where.startswith(str(folder)) and problem.detail for problem in data.problems)


def test_a_folder_with_csv(tmp_path: Path, reader: AudioReader) -> None:
    tone(tmp_path / "a.wav", 3.0)
    text = (
        "\ufefffile_name, text,start,end,notes\r\n"
        'a.wav,"one, ""two""\r\nthree",,,x\r\n'
        "\r\n"
        "a.wav,four, five,6,7,8\r\n"
        "a.wav,short\r\n"
        "a.wav,timed,0.5,1.5,\r\n"
        'a.wav,"never closed,,,\r\n'
        "a.wav,swallowed,,,\r\n"
    )
    (tmp_path / "metadata.csv").write_bytes(text.encode())
    data = open_source(SourceSpec(tmp_path / "metadata.csv", language="en"), reader)
    assert [told(segment)[:3] for segment in data.segments] == [
        (0.0, 3.0, 'one, "two" three'),
        (0.0, 3.0, "short"),
        (0.5, 1.5, "timed"),
    ]
    assert [segment.id for segment in data.segments] == [f"metadata.csv:{line}" for line in (2, 6, 7)]
    assert troubles(data) == [("metadata.csv:5", "malformed row"), ("metadata.csv:8", "malformed row")]
    assert "line 9" in data.problems[1].detail


def test_missing_columns_and_languages_are_one_error(tmp_path: Path, reader: AudioReader) -> None:
    tone(tmp_path / "a.wav", 1.0)
    (tmp_path / "metadata.csv").write_text("path;sentence\na.wav;x, y\n")
    with pytest.raises(DataError, match=r"metadata\.csv: has no column file_name and text\n.*path;sentence"):
        open_source(SourceSpec(tmp_path, language="en"), reader)
    (tmp_path / "metadata.csv").unlink()
    jsonl(tmp_path, {"file_name": "a.wav", "sentence": "x"})
    with pytest.raises(DataError, match=r"metadata\.jsonl: has no column text\n.*file_name, sentence"):
        open_source(SourceSpec(tmp_path, language="en"), reader)
    jsonl(tmp_path, row("a.wav", language="en"), row("a.wav"))
    with pytest.raises(DataError, match=r"metadata\.jsonl:2: nothing says which language(.|\n)*data\.train"):
        open_source(SourceSpec(tmp_path, origin="data.train"), reader)
    (tmp_path / "metadata.jsonl").write_text("\n")
    with pytest.raises(DataError, match="holds no rows"):
        open_source(SourceSpec(tmp_path, language="en"), reader)
    (tmp_path / "metadata.csv").touch()
    with pytest.raises(DataError, match="holds both"):
        open_source(SourceSpec(tmp_path, language="en"), reader)


def test_chains_of_a_folder(tmp_path: Path, reader: AudioReader) -> None:
    """Unusable rows and other languages break a chain; a translation of the same speech does not."""
    tone(tmp_path / "long.wav", 60.0)
    jsonl(
        tmp_path,
        row(text="a", start=1, end=2),
        row(text="A", start=1, end=2, task="translate"),
        row(text="b", start=2.5, end=4.01),
        row(text="B", start=2.5, end=4.01, task="translate"),
        row(text="c, starts early by rounding", start=4, end=5),
        row(text="d, in Swedish", start=6, end=7, language="sv"),
        row(text="e", start=8, end=9),
        row(text="f", start=8.5, end=11),
        row(text="g, too long", start=12, end=50),
        row(text="h", start=51, end=52),
    )
    data = open_source(SourceSpec(tmp_path, language="en"), reader)
    assert [(*told(segment)[:2], segment.text[:1], *told(segment)[3:]) for segment in data.segments] == [
        (1.0, 2.0, "a", False, 1.0),
        (2.5, 4.01, "b", True, 0.5),
        (4.01, 5.0, "c", True, 0.0),
        (8.0, 9.0, "e", False, 1.0),
        (8.5, 11.0, "f", False, 0.0),
        (51.0, 52.0, "h", False, 1.0),
        (6.0, 7.0, "d", False, 1.0),
        (1.0, 2.0, "A", False, 1.0),
        (2.5, 4.01, "B", True, 0.5),
    ]


def test_a_limit_keeps_the_first_usable_rows(tmp_path: Path, reader: AudioReader) -> None:
    tone(tmp_path / "a.wav", 1.0)
    jsonl(tmp_path, row("a.wav", "1"), row("none.wav", "2"), row("a.wav", "3"), row("none.wav", "4"), row("a.wav", "5"))
    data = open_source(SourceSpec(tmp_path, language="en", limit_rows=2), reader)
    assert [segment.text for segment in data.segments] == ["1", "3"]
    assert troubles(data) == [("metadata.jsonl:2", "missing file")]


def test_real_speech(mboshi: Path, reader: AudioReader) -> None:
    data = open_source(SourceSpec(mboshi / "dev", language="ln"), reader)
    assert len(data.segments) == 250
    assert data.problems == ()
    assert data.seconds / 3600 == pytest.approx(0.22, abs=0.01)


def vtt(path: Path, *cues: tuple[float, float, str]) -> Path:
    write_captions(path, [Cue(*cue) for cue in cues])
    return path


def test_a_recording_with_captions(tmp_path: Path, reader: AudioReader) -> None:
    tone(tmp_path / "talk.wav", 60.0)
    vtt(
        tmp_path / "talk.vtt",
        (0.5, 2.0, "one"),
        (2.5, 4.0, "two"),
        (3.99, 5.0, "three, early by rounding"),
        (4.5, 6.0, "overlaps"),
        (7.0, 8.0, "four"),
        (8.0, 8.0, "no length"),
        (9.0, 10.0, "five"),
        (10.0, 11.0, ""),
        (11.0, 12.0, "six"),
        (3.0, 4.0, "out of order"),
        (13.0, 14.0, "seven"),
        (14.0, 44.5, "too long"),
        (45.0, 50.0, "eight"),
        (50.0, 59.0, "nine"),
        (59.0, 60.1, "ten, cut"),
        (61.0, 62.0, "behind"),
    )
    data = open_source(SourceSpec(tmp_path / "talk.wav", language="sv"), reader)
    assert [(*told(segment)[:2], segment.text.split(",")[0], *told(segment)[3:]) for segment in data.segments] == [
        (0.5, 2.0, "one", False, 0.5),
        (2.5, 4.0, "two", True, 0.5),
        (4.0, 5.0, "three", True, 0.0),
        (7.0, 8.0, "four", False, 1.0),
        (9.0, 10.0, "five", False, 1.0),
        (11.0, 12.0, "six", False, 1.0),
        (13.0, 14.0, "seven", False, 1.0),
        (45.0, 50.0, "eight", False, 0.5),
        (50.0, 59.0, "nine", True, 0.0),
        (59.0, 60.0, "ten", True, 0.0),
    ]
    assert troubles(data) == [
        ("talk.vtt:12", "overlapping cue"),
        ("talk.vtt:18", "no length"),
        ("talk.vtt:24", "empty cue"),
        ("talk.vtt:30", "out of order"),
        ("talk.vtt:36", "longer than 30 s"),
        ("talk.vtt:48", "past the end"),
    ]
    assert data.segments[3].id == "talk.vtt:15"
    assert {(segment.language, segment.recording) for segment in data.segments} == {("sv", tmp_path / "talk.wav")}


def test_a_malformed_cue_breaks_the_chain_and_its_lead_is_unknown(tmp_path: Path, reader: AudioReader) -> None:
    tone(tmp_path / "talk.wav", 20.0)
    times = ("00:00:01,000 --> 00:00:02,000", "00:00:03,0 --> 00:00:04,000", "00:00:05,000 --> 00:00:06,000")
    srt = "\n".join(f"{number}\n{time}\n{text}\n" for number, (time, text) in enumerate(zip(times, "abc", strict=True)))
    (tmp_path / "talk.srt").write_text(srt)
    data = open_source(SourceSpec(tmp_path, language="sv"), reader)
    assert [told(segment) for segment in data.segments] == [(1.0, 2.0, "a", False, 1.0), (5.0, 6.0, "c", False, 0.0)]
    assert troubles(data) == [("talk.srt:6", "malformed time")]


def test_a_folder_of_recordings_with_captions(recordings: Path, tmp_path: Path, reader: AudioReader) -> None:
    for name in ("a.mp3", "a.flac", "stereo.flac", "phone.wav", "a.m4a", "a.webm", "a.opus"):
        if (recordings / name).exists():
            (tmp_path / "b").mkdir(exist_ok=True)
            shutil.copy(recordings / name, tmp_path / "b" / f"{name.replace('.', '_')}{Path(name).suffix.upper()}")
    cue = (1.0, 2.0, "x")
    vtt(tmp_path / "b" / "a_mp3.sv.vtt", cue)
    vtt(tmp_path / "b" / "a_m4a.srt", cue)
    vtt(tmp_path / "b" / "a_webm.zh-Hans.vtt", cue)
    vtt(tmp_path / "b" / "a_opus.en.vtt", cue)
    vtt(tmp_path / "b" / "a_opus.sv.vtt", cue)
    vtt(tmp_path / "b" / "phone_wav.vtt", cue)
    vtt(tmp_path / "b" / "phone_wav.srt", cue)
    vtt(tmp_path / "b" / "nobody.vtt", cue)
    (tmp_path / "b" / "._phone_wav.vtt").write_bytes(b"\0")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "broken.wav").write_text("text")
    vtt(tmp_path / "a" / "broken.vtt", cue, (3.0, 4.0, "y"))
    tone(tmp_path / "a" / "ok.wav", 3.0)
    (tmp_path / "a" / "ok.vtt").write_bytes("WEBVTT\n\n00:01.000 --> 00:02.000\n\u00f6\n".encode("cp1252"))
    tone(tmp_path / "a" / "none.wav", 3.0)
    (tmp_path / "a" / "none.vtt").write_text("WEBVTT\n")
    data = open_source(SourceSpec(tmp_path, language="en"), reader)
    assert [segment.id for segment in data.segments] == [
        "b/a_m4a.srt:2",
        "b/a_mp3.sv.vtt:3",
        "b/a_opus.en.vtt:3",
        "b/a_webm.zh-Hans.vtt:3",
        "b/phone_wav.vtt:3",
    ]
    assert sorted(troubles(data)) == [
        ("broken.vtt:3", "recording does not decode"),
        ("broken.vtt:6", "recording does not decode"),
        ("nobody.vtt", "captions without a recording"),
        ("none.vtt", "captions without cues"),
        ("ok.vtt:4", "captions that cannot be read"),
        ("stereo_flac.FLAC", "recording without captions"),
    ]


def test_the_language_is_in_the_name_unless_it_is_given(tmp_path: Path, reader: AudioReader) -> None:
    tone(tmp_path / "talk.wav", 3.0)
    vtt(tmp_path / "talk.zh-Hans.vtt", (1.0, 2.0, "x"))
    assert open_source(SourceSpec(tmp_path), reader).segments[0].language == "zh"
    assert open_source(SourceSpec(tmp_path, language="sv"), reader).segments[0].language == "sv"
    vtt(tmp_path / "talk.en.vtt", (1.0, 2.0, "x"))
    assert troubles(open_source(SourceSpec(tmp_path), reader)) == [("talk.wav", "several captions")]
    assert open_source(SourceSpec(tmp_path, language="en"), reader).segments[0].id == "talk.en.vtt:3"
    vtt(tmp_path / "talk.vtt", (1.0, 2.0, "x"))
    with pytest.raises(DataError, match="nothing says which language"):
        open_source(SourceSpec(tmp_path), reader)


def test_a_limit_keeps_the_first_usable_cues(tmp_path: Path, reader: AudioReader) -> None:
    for name in ("a", "b", "c"):
        tone(tmp_path / f"{name}.wav", 10.0)
        vtt(tmp_path / f"{name}.vtt", (1, 2, "1"), (2, 2, "bad"), (3, 4, "2"), (4, 4, "bad"), (5, 6, "3"))
    data = open_source(SourceSpec(tmp_path, language="en", limit_rows=5), reader)
    assert [segment.id for segment in data.segments] == [f"a.vtt:{n}" for n in (3, 9, 15)] + ["b.vtt:3", "b.vtt:9"]
    assert troubles(data) == [("a.vtt:6", "no length"), ("a.vtt:12", "no length"), ("b.vtt:6", "no length")]


def test_what_is_no_source_says_what_was_found(tmp_path: Path, reader: AudioReader) -> None:
    def refused(location: Path) -> str:
        with pytest.raises(DataError) as caught:
            open_source(SourceSpec(location, language="en", origin="data.train"), reader)
        assert str(location) in str(caught.value)
        assert "metadata.jsonl" in str(caught.value)
        return caught.value.what

    assert refused(tmp_path / "none") == "there is no such file or folder"
    assert refused(tmp_path) == "holds no metadata and no recording with captions, only nothing"
    tone(tmp_path / "a.wav", 1.0)
    tone(tmp_path / "sub" / "b.WAV", 1.0)
    (tmp_path / "sub" / "b.txt").touch()
    assert refused(tmp_path) == "holds no metadata and no recording with captions, only 2 .wav, 1 .txt"
    assert refused(tmp_path / "a.wav") == "no a.vtt or a.srt lies beside it"
    assert refused(tmp_path / "sub" / "b.txt") == "is neither metadata (.jsonl, .csv) nor a recording"
    assert list(SOURCES) == ["folder", "captions"]


centiseconds = st.integers(0, 2100).map(lambda value: value / 100)
any_cue = st.builds(Cue, centiseconds, centiseconds, st.sampled_from(["", "x", "some text", "-->"]))
steady = st.lists(st.integers(1, 300), min_size=2, max_size=12).map(
    lambda steps: [
        Cue((end - step) / 100, (end - step + max(1, step * 9 // 10)) / 100, "x")
        for step, end in zip(steps, np.cumsum(steps).tolist(), strict=True)
    ]
)


@settings(deadline=None)
@given(cues=st.lists(any_cue, max_size=10) | steady)
def test_any_captions_are_used_or_named(
    tmp_path_factory: pytest.TempPathFactory, reader: AudioReader, cues: list[Cue]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    if not (folder / "talk.wav").exists():
        tone(folder / "talk.wav", 20.0)
    write_captions(folder / "talk.vtt", cues)
    data = open_source(SourceSpec(folder, language="en"), reader)
    assert len(data.segments) + len(data.problems) == max(1, len(cues))  # a file without cues is a problem too
    assert len({segment.id for segment in data.segments}) == len(data.segments)
    spoken = [cue for cue in cues if cue.text and cue.end_s > cue.start_s]
    before: Segment | None = None
    for segment in data.segments:
        assert 0 <= segment.start_s < segment.end_s <= 20.0
        assert not segment.continues or before is not None
        assert 0 <= segment.lead_s <= segment.start_s
        quiet_from_s = segment.start_s - segment.lead_s
        assert not any(quiet_from_s + 1e-6 < cue.end_s <= segment.start_s for cue in spoken if cue.end_s <= 20.2)
        if before is not None:
            assert segment.start_s >= before.end_s
            if segment.continues:
                assert segment.lead_s == pytest.approx(segment.start_s - before.end_s)
        before = segment
