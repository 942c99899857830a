"""ASS and SSA: files as subtitlers' programs write them, and bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from whispertune.data.captions import Captions, Cue, read_captions
from whispertune.errors import DataError

HEAD = """[Script Info]
; made by hand
Title: A talk
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,20

[Events]
"""
FORMAT = "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"


def read(folder: Path, text: str, name: str = "a.ass") -> Captions:
    path = folder / name
    path.write_bytes(text.encode())
    return read_captions(path)


def line(start: str, end: str, text: str, name: str = "", layer: int = 0) -> str:
    return f"Dialogue: {layer},{start},{end},Default,{name},0,0,0,,{text}\n"


def spoken(folder: Path, raw: str) -> list[str]:
    return [cue.text for cue in read(folder, HEAD + FORMAT + line("0:00:01.00", "0:00:02.00", raw)).cues]


def test_an_ass_file_with_everything_in_it(tmp_path: Path) -> None:
    text = (
        "\ufeff"
        + HEAD
        + FORMAT
        + "Comment: 0,0:00:00.00,0:00:09.00,Default,,0,0,0,,not said\n"
        + line("0:00:05.00", "0:00:06.50", "{\\an8\\pos(10,20)}A sign, kept")
        + line("0:00:01.05", "0:00:02.99", "{\\i1}Hello,{\\i0}\\NAnna, R&D &amp; <b>\\hmore ", " Anna\u00a0B ")
        + line("0:00:01.05", "0:00:02.99", "{\\blur3}Hello,\\nAnna, R&D &amp; <b> more", layer=1)
        + "; a remark\n\n"
        + line("0:00:03.00", "0:00:04.00", "{\\p1}m 0 0 l 100 0 100 100{\\p0}")
        + line("0:00:03.00", "0:00:04.00", "{\\k20}Ka{\\k30}ra")
        + line("1:02:03.04", "1:02:04.00", "{only a remark}")
        + "[Fonts]\nDialogue: of a font\n"
        + "[events]\n"
        + line("0:00:07.00", "0:00:08.00", "in a second part")
    )
    captions = read(tmp_path, text.replace("\n", "\r\n"))
    assert captions.problems == ()
    assert captions.cues == (
        Cue(1.05, 2.99, "Hello, Anna, R&D &amp; <b> more", speaker="Anna B"),
        Cue(3.0, 4.0, "Kara"),
        Cue(5.0, 6.5, "A sign, kept"),
        Cue(7.0, 8.0, "in a second part"),
        Cue(3723.04, 3724.0, ""),
    )
    assert [cue.line for cue in captions.cues] == [14, 19, 13, 24, 20]


def test_ssa_and_columns_in_another_order(tmp_path: Path) -> None:
    text = (
        "[Script Info]\nScriptType: v4.00\n[Events]\n"
        "Format: Marked, Actor, End, Start, Style, Text\n"
        "Dialogue: Marked=0,Bo,0:00:02:50,0:00:01:00,Default,one, two\n"
        "Format: Start, End, Text\n"
        "dialogue:0:00:03.00,0:00:04.00,three, four\n"
        "Picture: 0:00:03.00,0:00:04.00,a.bmp\n"
    )
    captions = read(tmp_path, text, "a.SSA")
    assert captions.cues == (Cue(1.0, 2.5, "one, two", speaker="Bo"), Cue(3.0, 4.0, "three, four"))
    assert captions.problems == ()


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("a{\\p1}m 0 0{\\p0}b", "ab"),
        ("{\\p1\\pos(1,2)}m 0 0", None),
        ("{\\pbo4}text", "text"),
        ("{\\p1}m 0 0{\\p}text", "text"),
        ("{\\p1}m 0 0{\\i1} l 1 1{\\p0\\i0} after", "after"),
        ("{\\p1}{\\p0}", ""),
        ("an { open brace", "an { open brace"),
        ("\\{not a tag\\} {tag}x", "{not a tag} x"),
        ("C:\\path", "C:\\path"),
        ("one\\Ntwo\\n\\hthree", "one two three"),
        ("e\u0301", "\u00e9"),
    ],
)
def test_what_is_said_in_a_line(tmp_path: Path, raw: str, text: str | None) -> None:
    assert spoken(tmp_path, raw) == ([] if text is None else [text])


def test_a_line_of_open_braces_takes_no_time(tmp_path: Path) -> None:
    assert spoken(tmp_path, "{\\i1}a { b\\Nc" + "{" * 200_000) == ["a { b c" + "{" * 200_000]


def test_each_bad_line_is_named(tmp_path: Path) -> None:
    text = (
        HEAD
        + FORMAT
        + line("0:00:01.000", "0:00:02.00", "three digits")
        + line("0:61:01.00", "0:62:02.00", "61 minutes")
        + line("", "-0:00:02.00", "no time")
        + "Dialogue: 0,0:00:01.00,0:00:02.00,Default,too few\n"
        + "Dialoge: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,misspelt\n"
        + line("0:00:03.00", "0:00:04.00", "broken")
        + "onto a second line\n"
    )
    captions = read(tmp_path, text)
    assert captions.cues == (Cue(3.0, 4.0, "broken"),)
    path = tmp_path / "a.ass"
    assert [(problem.where, problem.kind) for problem in captions.problems] == [
        (f"{path}:12", "malformed time"),
        (f"{path}:13", "malformed time"),
        (f"{path}:14", "malformed time"),
        (f"{path}:15", "malformed cue"),
        (f"{path}:16", "malformed cue"),
        (f"{path}:18", "malformed cue"),
    ]
    assert "0:00:01.000 to 0:00:02.00" in captions.problems[0].detail
    assert "has 5 of 10 columns" in captions.problems[3].detail


def test_files_that_are_no_ass(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.ass: holds no \[Events\]"):
        read(tmp_path, "1\n00:00:01,000 --> 00:00:02,000\nx\n")
    with pytest.raises(DataError, match=r"a\.ass:11: a Dialogue line without a Format line"):
        read(tmp_path, HEAD + line("0:00:01.00", "0:00:02.00", "x"))
    for columns in ("Start, Text, End", "Start, Text", "Layer", ""):
        with pytest.raises(DataError, match=r"a\.ass:11: the Format line needs Start and End, and Text as its last"):
            read(tmp_path, f"{HEAD}Format: {columns}\n")
    (tmp_path / "a.ass").write_bytes((HEAD + FORMAT + "\u00f6").encode("cp1252"))
    with pytest.raises(DataError, match=r"a\.ass:12: is not UTF-8"):
        read_captions(tmp_path / "a.ass")
    assert read(tmp_path, HEAD) == Captions(())
