"""Recordings with captions: what is used, what is a Problem, how it hangs together."""

from __future__ import annotations

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
from whispertune.data.sources import SOURCES, open_source, open_stream
from whispertune.errors import DataError
from whispertune.recipe import KINDS


def tone(path: Path, duration_s: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.sin(np.arange(round(duration_s * 8000)) / 5)
    soundfile.write(path, samples, 8000)
    return path


def troubles(data: SourceData) -> list[tuple[str, str]]:
    return [(Path(problem.where).name, problem.kind) for problem in data.problems]


def told(segment: Segment) -> tuple[Any, ...]:
    return segment.start_s, segment.end_s, segment.text, segment.continues, round(segment.lead_s, 6)


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
    data = open_source(SourceSpec(str(tmp_path / "talk.wav"), language="sv"), reader)
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
    data = open_source(SourceSpec(str(tmp_path), language="sv"), reader)
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
    data = open_source(SourceSpec(str(tmp_path), language="en"), reader)
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
    assert open_source(SourceSpec(str(tmp_path)), reader).segments[0].language == "zh"
    assert open_source(SourceSpec(str(tmp_path), language="sv"), reader).segments[0].language == "sv"
    vtt(tmp_path / "talk.en.vtt", (1.0, 2.0, "x"))
    assert troubles(open_source(SourceSpec(str(tmp_path)), reader)) == [("talk.wav", "several captions")]
    assert open_source(SourceSpec(str(tmp_path), language="en"), reader).segments[0].id == "talk.en.vtt:3"
    vtt(tmp_path / "talk.vtt", (1.0, 2.0, "x"))
    with pytest.raises(DataError, match="nothing says which language"):
        open_source(SourceSpec(str(tmp_path)), reader)


def test_a_limit_keeps_the_first_usable_cues(tmp_path: Path, reader: AudioReader) -> None:
    for name in ("a", "b", "c"):
        tone(tmp_path / f"{name}.wav", 10.0)
        vtt(tmp_path / f"{name}.vtt", (1, 2, "1"), (2, 2, "bad"), (3, 4, "2"), (4, 4, "bad"), (5, 6, "3"))
    data = open_source(SourceSpec(str(tmp_path), language="en", limit_rows=5), reader)
    assert [segment.id for segment in data.segments] == [f"a.vtt:{n}" for n in (3, 9, 15)] + ["b.vtt:3", "b.vtt:9"]
    assert troubles(data) == [("a.vtt:6", "no length"), ("a.vtt:12", "no length"), ("b.vtt:6", "no length")]


def test_what_is_no_source_says_what_was_found(tmp_path: Path, reader: AudioReader) -> None:
    def refused(location: Path) -> str:
        with pytest.raises(DataError) as caught:
            open_source(SourceSpec(str(location), language="en", origin="data.train"), reader)
        assert str(location) in str(caught.value)
        assert "metadata.jsonl" in str(caught.value)
        return caught.value.what

    assert refused(tmp_path / "none") == "there is no such file or folder"
    assert refused(tmp_path) == "holds no metadata and no recording with captions, only nothing"
    tone(tmp_path / "a.wav", 1.0)
    tone(tmp_path / "sub" / "b.WAV", 1.0)
    (tmp_path / "sub" / "b.txt").touch()
    assert refused(tmp_path) == "holds no metadata and no recording with captions, only 2 .wav, 1 .txt"
    assert (
        refused(tmp_path / "a.wav") == "no a.vtt or other captions (.vtt, .srt, .ass, .ssa, .ttml, .dfxp) lie beside it"
    )
    assert refused(tmp_path / "sub" / "b.txt") == "is neither metadata (.jsonl, .csv, .tsv) nor a recording"


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
    data = open_source(SourceSpec(str(folder), language="en"), reader)
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


def test_a_limit_in_hours_keeps_what_fits_whole(tmp_path: Path, reader: AudioReader) -> None:
    tone(tmp_path / "talk.wav", 12)
    cues = "".join(f"00:{2 * n:02}.000 --> 00:{2 * n + 2:02}.000\nCue {n}\n\n" for n in range(6))
    (tmp_path / "talk.vtt").write_text("WEBVTT\n\n" + cues)
    data = open_source(SourceSpec(str(tmp_path), language="en", limit_hours=7 / 3600), reader)
    assert [segment.text for segment in data.segments] == ["Cue 0", "Cue 1", "Cue 2"]
    (tmp_path / "zz.vtt").write_text("WEBVTT\n\nnothing\n")  # behind the limit nothing is looked at
    assert open_source(SourceSpec(str(tmp_path), language="en", limit_hours=7 / 3600), reader).problems == ()


@pytest.mark.parametrize("kind", sorted(SOURCES.keys() - {"hub"}))  # the hub has its own server: test_hub.py
def test_every_kind_says_what_is_wrong_where_there_is_nothing(kind: str, tmp_path: Path, reader: AudioReader) -> None:
    with pytest.raises(DataError):
        open_source(SourceSpec(f"{kind}:{tmp_path}/nothing", language="en"), reader)


def test_only_some_kinds_are_streamed(tmp_path: Path, reader: AudioReader) -> None:
    tone(tmp_path / "talk.wav", 2)
    (tmp_path / "talk.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:01.000\nCue\n")
    with pytest.raises(DataError, match="a captions source is not streamed"):
        open_stream(SourceSpec(str(tmp_path), language="en"), reader)
    with pytest.raises(DataError, match="no kind of source is called 'kadli'"):
        open_source(SourceSpec("kadli:data/train"), reader)


def test_the_documentation_names_every_kind() -> None:
    assert tuple(SOURCES) == KINDS
    page = (Path(__file__).parents[2] / "docs" / "sources.md").read_text()
    assert [kind for kind in SOURCES if f"## {kind}" not in page] == []
