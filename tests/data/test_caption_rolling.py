"""YouTube's automatic captions, whose cues show each line twice, and files that only look a little like them."""

from __future__ import annotations

from pathlib import Path

from whispertune.data.captions import Captions, Cue, read_captions

Line = tuple[str, str, str]  # start, end, text

FIRST = ("00.160", "02.389", " \nhello<00:00:00.480><c> and</c><00:00:00.640><c> welcome</c>")
SECOND = ("02.399", "05.029", "hello and welcome\nto<00:00:02.720><c> R&amp;D</c><00:00:03.040><c> here</c>")
ROLLING: list[Line] = [
    FIRST,
    ("02.389", "02.399", "hello and welcome\n "),
    SECOND,
    ("05.029", "05.039", "to R&amp;D here\n "),
    ("05.039", "07.000", "to R&amp;D here\n[Music]"),
    ("07.000", "07.010", "[Music]\n "),
    ("07.010", "09.000", "[Music]\n[Music]"),
    ("09.000", "09.010", "[Music]\n "),
    ("09.010", "11.000", "[Music]\nbye<00:00:10.000><c> bye</c>"),
]


def read(folder: Path, lines: list[Line]) -> Captions:
    cues = "".join(f"00:00:{start} --> 00:00:{end} align:start position:0%\n{text}\n\n" for start, end, text in lines)
    path = folder / "talk.vtt"
    path.write_text(f"WEBVTT\nKind: captions\nLanguage: en\n\n{cues}")
    return read_captions(path)


def texts(folder: Path, lines: list[Line]) -> list[str]:
    return [cue.text for cue in read(folder, lines).cues]


def test_rolling_captions_are_read_once(tmp_path: Path) -> None:
    captions = read(tmp_path, ROLLING)
    assert captions.cues == (
        Cue(0.16, 2.389, "hello and welcome"),
        Cue(2.399, 5.029, "to R&D here"),
        Cue(5.039, 7.0, "[Music]"),
        Cue(7.01, 9.0, "[Music]"),
        Cue(9.01, 11.0, "bye bye"),
    )
    assert captions.problems == ()
    assert [cue.line for cue in captions.cues] == [5, 13, 21, 29, 37]


def test_a_song_that_repeats_its_lines_stays(tmp_path: Path) -> None:
    song = [
        ("01.000", "02.000", "la la"),
        ("02.000", "02.010", "la la"),
        ("02.010", "04.000", "la la\nla la"),
        ("04.000", "06.000", "la la\n<00:00:04.500>la <00:00:05.000>la"),
    ]
    assert texts(tmp_path, song) == ["la la", "la la", "la la la la", "la la la la"]


def test_in_a_rolling_file_only_what_is_shown_again_goes(tmp_path: Path) -> None:
    kept = [
        FIRST,
        ("02.389", "02.500", "hello and welcome"),  # long enough to be said
        ("02.500", "03.000", "hello and welcome\nall"),  # no times, and no repeat before it
        ("03.000", "04.000", "you<00:00:03.500><c> two</c>\nyou<00:00:03.700><c> too</c>"),
        ("04.000", "05.000", "you<00:00:04.500><c> too</c>\nand<00:00:04.700><c> me</c>"),  # both are said
        ("05.100", "05.110", "and me"),  # does not follow at once
        ("05.110", "06.000", "and\nyou<00:00:05.500><c> too</c>"),
    ]
    assert texts(tmp_path, kept) == [
        "hello and welcome",
        "hello and welcome",
        "hello and welcome all",
        "you two you too",
        "you too and me",
        "and me",
        "and you too",
    ]
    assert texts(tmp_path, [*kept[:1], SECOND]) == ["hello and welcome", "to R&D here"]  # also without the repeat


def test_a_bad_cue_within_is_told_still(tmp_path: Path) -> None:
    captions = read(tmp_path, [*ROLLING[:2], ("0x.000", "03.000", "lost"), *ROLLING[2:4]])
    assert [cue.text for cue in captions.cues] == ["hello and welcome", "to R&D here"]
    assert [problem.kind for problem in captions.problems] == ["malformed time"]
