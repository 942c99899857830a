"""Captions: files as people write them, and everything written is read back the same."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whispertune.data.captions import WRITERS, Cue, Word, clean_text, read_captions, write_captions
from whispertune.errors import DataError


def written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def texts(path: Path) -> list[str]:
    return [cue.text for cue in read_captions(path).cues]


VTT = """\ufeffWEBVTT - a talk
Kind: captions
Language: sv

NOTE
00:00:00.000 --> nothing of this counts

STYLE
::cue { color: red }

REGION
id:fred

00:01.500 --> 00:03.000 align:start position:0%
<v.loud Anna B>Hej &amp; h\u00e5</v>
<i>andra</i>   <c.x>raden</c> &lt;nu&gt;

name of a cue
1:00:04.000-->01:00:05.250
<00:00:04.500><v Anna>Ja.</v> <v Bo>Nej.</v>
NOTE this is text
01:00:06.000 --> 01:00:07.000
no empty line before

00:99:00.000 --> 00:02:00.000
bad minutes

lost text

00:10.000 --> 00:11.000
"""


def test_a_vtt_file_with_everything_in_it(tmp_path: Path) -> None:
    path = written(tmp_path, "a.vtt", VTT.replace("\n", "\r\n"))
    captions = read_captions(path)
    assert captions.cues == (
        Cue(1.5, 3.0, "Hej & h\u00e5 andra raden <nu>", speaker="Anna B"),
        Cue(3604.0, 3605.25, "Ja. Nej. NOTE this is text"),
        Cue(3606.0, 3607.0, "no empty line before"),
        Cue(10.0, 11.0, ""),
    )
    assert [cue.line for cue in captions.cues] == [14, 19, 22, 30]
    found = [(problem.where, problem.kind) for problem in captions.problems]
    assert found == [(f"{path}:25", "malformed time"), (f"{path}:28", "text without a time")]


SRT = """1
00:00:01,000 --> 00:00:02,000 X1:10
{\\an8}<font color="red">Red</font> <b>a</b> {and} <laughs>
second line

00:00:03.000 --> 00:00:04.000
no number, R&D, 1 < 2

3
00:00:05,000 --> 00:00:06,000
before

after an empty line
4
00:00:07,000 --> 00:00:08,000
no empty line before
5
00:00:09,000 -> 00:00:10,000
6
00:00:11,00 --> 00:00:12,000
two digits

7

8
00:00:13,000 --> 00:00:14,000
"""


def test_an_srt_file_with_everything_in_it(tmp_path: Path) -> None:
    path = written(tmp_path, "a.srt", SRT)
    captions = read_captions(path)
    assert [(cue.line, cue.text) for cue in captions.cues] == [
        (2, "Red a {and} <laughs> second line"),
        (6, "no number, R&D, 1 < 2"),
        (10, "before after an empty line"),
        (15, "no empty line before"),
        (26, ""),
    ]
    found = [(problem.where, problem.kind) for problem in captions.problems]
    assert found == [
        (f"{path}:18", "malformed time"),
        (f"{path}:20", "malformed time"),
        (f"{path}:23", "text without a time"),
    ]


def test_encodings_are_known_or_refused(tmp_path: Path) -> None:
    body = "WEBVTT\n\n00:01.000 --> 00:02.000\nsn\u00f6 \u096e\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        assert texts(written(tmp_path, "a.vtt", body.encode(encoding))) == ["sn\u00f6 \u096e"]
    assert texts(written(tmp_path, "a.vtt", b"\xfe\xff" + body.encode("utf-16-be"))) == ["sn\u00f6 \u096e"]
    latin = body.replace("\u096e", "").encode("cp1252")
    with pytest.raises(DataError, match=r"a\.vtt:4: is not UTF-8: byte 0xf6 at position 34\n.*iconv -f WINDOWS-1252"):
        read_captions(written(tmp_path, "a.vtt", latin))
    for encoding in ("utf-16-le", "utf-32-le"):
        with pytest.raises(DataError, match="zero bytes"):
            read_captions(written(tmp_path, "a.vtt", body.encode(encoding)))


def test_files_that_hold_no_captions(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not start with WEBVTT"):
        read_captions(written(tmp_path, "a.vtt", "1\n00:00:01,000 --> 00:00:02,000\nx\n"))
    with pytest.raises(DataError, match="does not start with WEBVTT"):
        read_captions(written(tmp_path, "a.vtt", ""))
    with pytest.raises(DataError, match="captions are read from"):
        read_captions(written(tmp_path, "a.xml", ""))
    with pytest.raises(DataError, match="cannot be read"):
        read_captions(tmp_path / "none.vtt")
    for broken in ("", "[]", '{"cues": 3}', '{"cues": [', "null", '{"text": []}', "[" * 100_000):
        with pytest.raises(DataError, match="holds no captions"):
            read_captions(written(tmp_path, "a.json", broken))
    with pytest.raises(DataError, match="no captions can be written"):
        write_captions(tmp_path / "a.docx", [])
    assert read_captions(written(tmp_path, "a.srt", "\n\n")).cues == ()


def test_json_names_the_line_of_a_bad_cue(tmp_path: Path) -> None:
    rows = [
        '{"start_s": 1, "end_s": 2.5, "text": " a\\nb "}',
        '{"start_s": "x", "end_s": 2, "text": "a"}',
        "7",
        '{"start_s": NaN, "end_s": 2, "text": "a", "words": 3}',
        '{"start_s": 3, "end_s": 4, "text": "c", "speaker": "Bo"}',
    ]
    path = written(tmp_path, "a.json", '{"language": "sv",\n "cues": [\n' + ",\n".join(rows) + "]}")
    captions = read_captions(path)
    assert captions.language == "sv"
    assert captions.cues == (Cue(1.0, 2.5, "a b"), Cue(3.0, 4.0, "c", speaker="Bo"))
    assert [cue.line for cue in captions.cues] == [3, 7]
    assert [problem.where for problem in captions.problems] == [f"{path}:{line}" for line in (4, 5, 6)]


def test_what_is_written_looks_as_it_should(tmp_path: Path) -> None:
    cues = [Cue(0.5, 3661.25, "R&D <i> -->", words=(Word(0.5, 1, "R&D"),), speaker="Anna"), Cue(3662, 3663, "x & y")]
    write_captions(tmp_path / "a.vtt", cues, language="en")
    assert (tmp_path / "a.vtt").read_text() == (
        "WEBVTT\n\n00:00:00.500 --> 01:01:01.250\n<v Anna>R&amp;D &lt;i&gt; --&gt;\n"
        "\n01:01:02.000 --> 01:01:03.000\nx &amp; y\n"
    )
    write_captions(tmp_path / "a.srt", cues, language="en")
    assert (tmp_path / "a.srt").read_text() == (
        "1\n00:00:00,500 --> 01:01:01,250\nR&amp;D &lt;i&gt; --&gt;\n\n2\n01:01:02,000 --> 01:01:03,000\nx & y\n"
    )
    write_captions(tmp_path / "a.txt", cues, language="en")
    assert (tmp_path / "a.txt").read_text() == "R&D <i> -->\nx & y\n"
    write_captions(tmp_path / "a.json", cues, language="en")
    data = json.loads((tmp_path / "a.json").read_text())
    assert data["language"] == "en"
    assert data["cues"][0]["words"] == [{"start_s": 0.5, "end_s": 1, "text": "R&D"}]
    assert data["cues"][1] == {"start_s": 3662, "end_s": 3663, "text": "x & y", "words": [], "speaker": None}
    with pytest.raises(ValueError, match="before the recording"):
        write_captions(tmp_path / "a.vtt", [Cue(-1, 2, "x")])


TRICKY = [
    *'<>&{}7 "[\\',
    *"\n\r\u2028\x1c\0\ufeff\u200b\ud800\u0958\u0344",
    *(
        "&amp;",
        "&lt;",
        "&#60;",
        "&nbsp;",
        "-->",
        "{\\an8}",
        "<i>",
        "</i>",
        "<v Bo>",
        "<font ",
        "NOTE",
        "WEBVTT",
        "STYLE",
    ),
    *("e\u0301", "00:00:01.000 --> 00:00:02.000", "1:00:01,000 - 1:00:02,000", "cues"),
]
text = st.one_of(st.lists(st.sampled_from(TRICKY), max_size=6).map("".join), st.text(max_size=30))
time_s = st.integers(0, 400_000_000).map(lambda milliseconds: milliseconds / 1000)
word = st.builds(Word, time_s, time_s, text.map(clean_text))
cue = st.builds(Cue, time_s, time_s, text, words=st.lists(word, max_size=2).map(tuple), speaker=st.none() | text)


@settings(deadline=None)
@given(
    cues=st.lists(cue, max_size=5), kind=st.sampled_from(["vtt", "srt", "json"]), ending=st.sampled_from(["\n", "\r\n"])
)
def test_everything_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, cues: list[Cue], kind: str, ending: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"round.{kind}"
    write_captions(path, cues, language="sv")
    path.write_bytes(path.read_bytes().replace(b"\n", ending.encode()))
    captions = read_captions(path)
    kept_speaker, kept_words = kind != "srt", kind == "json"
    assert captions.problems == ()
    assert list(captions.cues) == [
        replace(
            cue,
            text=clean_text(cue.text),
            speaker=(clean_text(cue.speaker or "") or None) if kept_speaker else None,
            words=cue.words if kept_words else (),
        )
        for cue in cues
    ]
    assert clean_text(clean_text("".join(cue.text for cue in cues))) == clean_text("".join(cue.text for cue in cues))


@pytest.mark.parametrize("kind", ["vtt", "srt"])
@pytest.mark.parametrize(
    "said",
    [
        "7\n00:00:01.000 --> 00:00:02.000<",
        "<\n00:00:01.000 --> 00:00:02.000",
        "7\n1:00:01,000 - 1:00:02,000",
        "00:00:01.000 --> 00:00:02.000\n7\n1:00:01,000 - 1:00:02,000\nyes",
    ],
)
def test_times_in_a_text_begin_no_cue(said: str, kind: str, tmp_path: Path) -> None:
    write_captions(tmp_path / f"a.{kind}", [Cue(0, 1, said), Cue(1, 2, "two\nlines")])
    captions = read_captions(tmp_path / f"a.{kind}")
    assert [cue.text for cue in captions.cues] == [" ".join(said.split()), "two lines"]
    assert captions.problems == ()
    assert "two\nlines" in (tmp_path / f"a.{kind}").read_text()


@settings(deadline=None)
@given(data=st.text(max_size=200) | st.lists(st.sampled_from([*TRICKY, "\n\n"]), max_size=30).map("".join))
def test_any_text_is_cues_and_problems(tmp_path_factory: pytest.TempPathFactory, data: str) -> None:
    """Nothing that stands in a file makes reading fail in another way than by a DataError."""
    for kind, head in (("vtt", "WEBVTT\n"), ("srt", ""), ("json", '{"cues": [')):
        path = tmp_path_factory.getbasetemp() / f"any.{kind}"
        path.write_bytes((head + data).encode("utf-8", "surrogatepass"))
        try:
            captions = read_captions(path)
        except DataError:
            continue
        for cue in captions.cues:
            assert cue.text == clean_text(cue.text)
            assert cue.line > 0


def test_the_writers_are_named_by_suffix() -> None:
    assert list(WRITERS) == ["vtt", "srt", "txt", "json"]


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("00:00:09,000 -> 00:00:10,000", True),
        ("00:00:09,000 00:00:10,000", True),
        ("00:00:09,000 \u2014> 00:00:10,000 ", True),
        ("00:00:09,000 ->00:00:10,000", True),
        ("00:00:09,000-> 00:00:10,000", True),
        ("00:00:09,000-00:00:10,000", True),
        ("  0:9,0 1:10.5", True),
        ("01:02:03", False),
        ("00:00:09,000 until 00:00:10,000", False),
        ("00:00:09,000 - 00:00:10,000 o'clock", False),
        ("from 00:00:09,000 to 00:00:10,000", False),
        ("", False),
    ],
)
def test_what_is_meant_as_a_line_of_times(tmp_path: Path, line: str, meant: bool) -> None:
    captions = read_captions(written(tmp_path, "a.srt", f"1\n{line}\ntext\n"))
    assert [problem.kind for problem in captions.problems] == ["malformed time" if meant else "text without a time"]


def test_only_files_of_a_size_to_be_captions_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder.vtt").mkdir()
    (tmp_path / "zero.vtt").symlink_to("/dev/zero")
    (tmp_path / "pipe.vtt").symlink_to("pipe")
    for name in ("folder.vtt", "zero.vtt", "pipe.vtt"):
        with pytest.raises(DataError, match="is no file but a folder, a pipe or a device"):
            read_captions(tmp_path / name)
    with (tmp_path / "long.vtt").open("wb") as file:
        file.truncate(64 * 1024 * 1024 + 1)
    with pytest.raises(DataError, match="holds 67,108,865 bytes, and captions at most 67,108,864"):
        read_captions(tmp_path / "long.vtt")
