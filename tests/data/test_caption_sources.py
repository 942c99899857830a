"""Recordings beside captions in ASS and TTML: which file is read, in which order, under which ids and language."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from whispertune.data.audio import AudioReader
from whispertune.data.captions import Cue, write_captions
from whispertune.data.segments import SourceData, SourceSpec
from whispertune.data.sources import open_source
from whispertune.data.sources.captioned import CAPTION_SUFFIXES, read_captioned
from whispertune.errors import DataError

ASS = """[Events]
Format: Layer, Start, End, Name, Text
Dialogue: 0,0:00:05.00,0:00:06.00,Bo,third
Dialogue: 0,0:00:01.00,0:00:02.00,Anna,first
Dialogue: 0,0:00:0x.00,0:00:03.00,Anna,malformed
Dialogue: 1,0:00:01.00,0:00:02.00,Anna,first
Dialogue: 0,0:00:03.00,0:00:04.00,,second
"""
TTML = (
    '<tt xmlns="http://www.w3.org/ns/ttml" xml:lang="sv-SE"><body><div><p begin="5s" end="6s">third</p>'
    '<p begin="1s" end="2s">first</p><p begin="3s" end="4s">second</p>\n<p begin="7s">lost</p></div></body></tt>'
)


def told(data: SourceData) -> list[tuple[str, str, bool, float]]:
    return [(one.id, one.text, one.continues, round(one.lead_s, 6)) for one in data.segments]


def troubles(data: SourceData) -> list[tuple[str, str]]:
    return [(Path(problem.where).name, problem.kind) for problem in data.problems]


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "talk.wav", 0.1 * np.sin(np.arange(80_000) / 5), 8000)
    return tmp_path


def test_ass_beside_a_recording_is_used_by_time(talk: Path, reader: AudioReader) -> None:
    (talk / "talk.ass").write_text(ASS)
    data = read_captioned(SourceSpec(str(talk), language="sv"), reader)
    assert told(data) == [
        ("talk.ass:4", "first", False, 1.0),
        ("talk.ass:7", "second", False, 0.0),  # the malformed line stands behind the first
        ("talk.ass:3", "third", True, 1.0),
    ]
    assert [segment.speaker for segment in data.segments] == ["Anna", None, "Bo"]
    assert troubles(data) == [("talk.ass:5", "malformed time")]


def test_ttml_states_its_language_and_cues_of_one_line_have_ids_of_their_own(talk: Path, reader: AudioReader) -> None:
    (talk / "talk.ttml").write_text(TTML)
    data = read_captioned(SourceSpec(str(talk / "talk.wav")), reader)
    assert told(data) == [
        ("talk.ttml:1", "first", False, 1.0),
        ("talk.ttml:1.2", "second", True, 1.0),
        ("talk.ttml:1.3", "third", True, 1.0),
    ]
    assert {segment.language for segment in data.segments} == {"sv"}
    assert troubles(data) == [("talk.ttml:2", "text without a time")]
    assert read_captioned(SourceSpec(str(talk), language="nn"), reader).segments[0].language == "nn"
    (talk / "talk.ttml").rename(talk / "talk.fi.ttml")
    assert read_captioned(SourceSpec(str(talk)), reader).segments[0].language == "fi"


@pytest.mark.parametrize("language", ["", "und", "captions", "zxx-Latn", "\u00e5\u00e4"])
def test_what_states_no_language_is_an_error(talk: Path, reader: AudioReader, language: str) -> None:
    (talk / "talk.ttml").write_text(TTML.replace("sv-SE", language), encoding="utf-8")
    with pytest.raises(DataError, match="nothing says which language"):
        read_captioned(SourceSpec(str(talk)), reader)


def test_one_format_of_several_is_read(talk: Path, reader: AudioReader) -> None:
    assert CAPTION_SUFFIXES == (".vtt", ".srt", ".ass", ".ssa", ".ttml", ".dfxp")
    for suffix in (".vtt", ".srt"):
        write_captions(talk / f"talk{suffix}", [Cue(1, 2, "first")])
    for suffix in (".ASS", ".ssa"):
        (talk / f"talk{suffix}").write_text(ASS)
    for suffix in (".ttml", ".dfxp"):
        (talk / f"talk{suffix}").write_text(TTML)
    for suffix in (".vtt", ".srt", ".ASS", ".ssa", ".ttml", ".dfxp"):
        data = read_captioned(SourceSpec(str(talk), language="sv"), reader)
        assert data.segments[0].id.startswith(f"talk{suffix}:")
        (talk / f"talk{suffix}").unlink()
    assert troubles(read_captioned(SourceSpec(str(talk), language="sv"), reader)) == [
        ("talk.wav", "recording without captions")
    ]


def test_a_file_that_is_refused_is_named_with_its_line(talk: Path, reader: AudioReader) -> None:
    (talk / "talk.ttml").write_text("<tt>\n<!-- -->\n</body>")
    data = read_captioned(SourceSpec(str(talk), language="sv"), reader)
    assert troubles(data) == [("talk.ttml:3", "captions that cannot be read")]


VTT = "WEBVTT\n\n00:01.000 --> 00:02.000\n{}\n"


def languages(data: SourceData) -> list[tuple[str, str]]:
    return [(one.text, one.language) for one in data.segments]


@pytest.mark.parametrize("written", ["sv", "sv-SE", "swe", "Swedish"])
def test_a_language_is_one_however_it_is_written(talk: Path, reader: AudioReader, written: str) -> None:
    (talk / "talk.swe.vtt").write_text(VTT.format("hej"))
    assert languages(read_captioned(SourceSpec(str(talk)), reader)) == [("hej", "sv")]
    assert languages(read_captioned(SourceSpec(str(talk), language=written), reader)) == [("hej", "sv")]
    (talk / "talk.en.vtt").write_text(VTT.format("hi"))
    assert languages(read_captioned(SourceSpec(str(talk), language=written), reader)) == [("hej", "sv")]


def test_a_stated_language_is_that_of_whisper(talk: Path, reader: AudioReader) -> None:
    (talk / "talk.ttml").write_text(TTML.replace("sv-SE", "swe-x-spoken"))
    assert {one.language for one in read_captioned(SourceSpec(str(talk)), reader).segments} == {"sv"}


def test_an_unknown_language_in_a_name_is_a_problem_unless_the_recipe_has_one(talk: Path, reader: AudioReader) -> None:
    (talk / "talk.xx.vtt").write_text(VTT.format("hej"))
    data = open_source(SourceSpec(str(talk)), reader)
    assert (troubles(data), list(data.segments)) == ([("talk.wav", "unknown language")], [])
    assert data.problems[0].detail.startswith("talk.xx.vtt: 'xx' is no language")
    assert troubles(open_source(SourceSpec(str(talk / "talk.wav")), reader)) == [("talk.wav", "unknown language")]
    assert languages(read_captioned(SourceSpec(str(talk), language="sv"), reader)) == [("hej", "sv")]
    (talk / "talk.en.vtt").write_text(VTT.format("hi"))
    assert languages(read_captioned(SourceSpec(str(talk), language="xx"), reader)) == [("hej", "xx")]


def test_names_that_are_not_utf_8_are_problems(talk: Path, reader: AudioReader) -> None:
    (talk / "talk.vtt").write_text(VTT.format("hej"))
    for kind in ("wav", "vtt"):
        os.link(talk / f"talk.{kind}", os.fsencode(talk) + b"/Sm\xe5." + kind.encode())
    data = open_source(SourceSpec(str(talk), language="sv"), reader)
    assert languages(data) == [("hej", "sv")]
    assert sorted(troubles(data)) == [
        ("Sm\\xe5.vtt", "file name is not UTF-8"),
        ("Sm\\xe5.wav", "file name is not UTF-8"),
    ]
    alone = open_source(SourceSpec(os.fsdecode(os.fsencode(talk) + b"/Sm\xe5.wav"), language="sv"), reader)
    assert troubles(alone) == [("Sm\\xe5.wav", "file name is not UTF-8")]
    (talk / "talk.vtt").unlink()
    (talk / "talk.wav").unlink()
    assert len(open_source(SourceSpec(str(talk), language="sv"), reader).problems) == 2


def test_a_folder_that_is_not_utf_8_is_named_too(talk: Path, reader: AudioReader) -> None:
    folder = os.fsencode(talk) + b"/t\xe5l"
    os.mkdir(folder)
    os.rename(talk / "talk.wav", folder + b"/talk.wav")
    data = open_source(SourceSpec(str(talk), language="sv"), reader)
    assert [one.where for one in data.problems] == [f"{talk}/t\\xe5l/talk.wav"]


def test_a_pipe_or_a_dead_link_is_a_problem_and_not_waited_for(talk: Path, reader: AudioReader) -> None:
    os.mkfifo(talk / "pipe")
    (talk / "talk.vtt").symlink_to("pipe")
    (talk / "pipe.wav").symlink_to("pipe")
    (talk / "gone.wav").symlink_to("nowhere")
    (talk / "gone.vtt").write_text(VTT.format("hej"))
    data = open_source(SourceSpec(str(talk), language="sv"), reader)
    assert sorted(troubles(data)) == [
        ("gone.vtt", "captions without a recording"),
        ("gone.wav", "not a file"),
        ("pipe.wav", "not a file"),
        ("talk.vtt", "not a file"),
        ("talk.wav", "recording without captions"),
    ]


def test_names_from_a_mac_meet_those_of_others(talk: Path, reader: AudioReader) -> None:
    composed, apart = "Sm\u00e5", "Sma\u030a"
    (talk / "talk.wav").rename(talk / f"{composed}.wav")
    (talk / f"{apart}.sv.vtt").write_text(VTT.format("apart, named"))
    assert languages(read_captioned(SourceSpec(str(talk)), reader)) == [("apart, named", "sv")]
    (talk / f"{apart}.vtt").write_text(VTT.format("apart"))
    data = read_captioned(SourceSpec(str(talk), language="sv"), reader)
    assert (languages(data), data.problems[0].kind) == ([("apart", "sv")], "captions without a recording")
    (talk / f"{composed}.vtt").write_text(VTT.format("composed"))
    assert languages(read_captioned(SourceSpec(str(talk), language="sv"), reader)) == [("composed", "sv")]
    shutil.copy(talk / f"{composed}.wav", talk / f"{apart}.wav")
    found = languages(read_captioned(SourceSpec(str(talk), language="sv"), reader))
    assert sorted(found) == [("apart", "sv"), ("composed", "sv")]  # where both are there, each has its own


def test_linked_folders_are_entered_and_none_twice(talk: Path, tmp_path: Path, reader: AudioReader) -> None:
    write_captions(talk / "talk.vtt", [Cue(1.0, 2.0, "x")])
    for place in ("rec/day1", "disk/day2", "disk/day3"):
        (tmp_path / place).mkdir(parents=True)
        for name in ("talk.wav", "talk.vtt"):
            shutil.copy(talk / name, tmp_path / place / name)
    (tmp_path / "rec" / "day2").symlink_to(tmp_path / "disk" / "day2")
    (tmp_path / "rec" / "days").symlink_to(tmp_path / "disk")
    (tmp_path / "rec" / "again").symlink_to("day1")
    (tmp_path / "rec" / "day1" / "up").symlink_to("..")
    (tmp_path / "disk" / "day3" / "back").symlink_to(tmp_path / "rec")
    data = open_source(SourceSpec(str(tmp_path / "rec"), language="sv"), reader)
    assert [each.id for each in data.segments] == ["day1/talk.vtt:3", "day2/talk.vtt:3", "days/day3/talk.vtt:3"]
    assert data.problems == ()
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "day").symlink_to(tmp_path / "disk" / "day2")
    assert len(open_source(SourceSpec(str(tmp_path / "only"), language="sv"), reader).segments) == 1


def test_of_whole_recordings_all_cues_count_whatever_their_times(talk: Path, reader: AudioReader) -> None:
    """The recording has ten seconds; only what is said nowhere in it goes."""
    cues = [(1.0, 2.0, "a"), (1.5, 40.0, "b"), (1.2, 1.2, "c"), (0.5, 0.9, "d"), (3.0, 4.0, ""), (11.0, 12.0, "e")]
    write_captions(talk / "talk.vtt", [Cue(*cue) for cue in cues])
    rows = read_captioned(SourceSpec(str(talk), language="sv"), reader)
    whole = read_captioned(SourceSpec(str(talk), language="sv", whole=True), reader)
    assert [each.text for each in rows.segments] == ["a"]
    assert [(each.text, each.start_s, each.end_s) for each in whole.segments] == [
        ("a", 1.0, 2.0),
        ("b", 1.5, 10.0),
        ("c", 1.2, 1.2),
        ("d", 0.5, 0.9),
    ]
    assert [kind for _, kind in troubles(whole)] == ["empty cue", "past the end"]


def test_captions_named_for_another_language_are_told_of(talk: Path, reader: AudioReader) -> None:
    """They may be subtitles in it; a code that Whisper does not have says nothing."""
    for name, language in (("talk.en.vtt", "sv"), ("talk.mdw.vtt", "ln"), ("talk.sv.vtt", "sv-SE")):
        write_captions(talk / name, [Cue(1.0, 2.0, "x")])
        data = read_captioned(SourceSpec(str(talk), language=language), reader)
        assert len(data.segments) == 1
        assert [name in note and "taken as sv" in note for note in data.notes] == [True] * (name == "talk.en.vtt")
        (talk / name).unlink()
