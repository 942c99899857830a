"""Whatever bytes a file of captions holds, reading gives Captions or a DataError, and every trouble has its line."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from whispertune.data.captions import Captions, clean_text, read_captions
from whispertune.errors import DataError

GOOD = {
    "vtt": "WEBVTT\n\nNOTE x\n\n00:01.500 --> 00:03.000 align:start\n<v Anna>Hej &amp; h\u00e5</v>\nh\u00e4r\n",
    "srt": "1\n00:00:01,000 --> 00:00:02,000\n{\\an8}<b>a</b> R&amp;D\n\n2\n00:00:03,000 --> 00:00:04,000\nb\n",
    "json": '{"language": "sv", "cues": [\n{"start_s": 1, "end_s": 2.5, "text": "a", "words": '
    '[{"start_s": 1, "end_s": 2, "text": "a"}], "speaker": "Bo"}]}',
    "ass": "[Script Info]\n[Events]\nFormat: Layer, Start, End, Style, Name, Effect, Text\n"
    "Comment: 0,0:00:01.00,0:00:02.00,Default,,,no\n"
    "Dialogue: 0,0:00:03.00,0:00:04.00,D,Bo,,a{\\p1}m 0 0{\\p0}\\Nb, c\n",
    "ttml": '<?xml version="1.0"?>\n<tt xmlns="http://www.w3.org/ns/ttml" xml:lang="sv" xmlns:ttp='
    '"http://www.w3.org/ns/ttml#parameter" ttp:frameRate="25" xmlns:ttm="http://www.w3.org/ns/ttml#metadata">\n'
    '<head><metadata><ttm:agent xml:id="a"><ttm:name>Anna</ttm:name></ttm:agent></metadata></head>\n<body><div '
    'begin="1s"><p begin="00:00:01:05" dur="340ms" ttm:agent="a">x<br/>y</p>\n<p timeContainer="seq"><span begin='
    '"1s" end="2s">z</span></p></div></body></tt>',
}
PIECES = {
    kind: [
        *(piece.encode() for line in text.splitlines() for piece in line.split(" ")),
        *(b"\n", b"\r", b" ", b"-", b"9", b"9" * 400, b"<", b">", b"{", b"}", b"[", b'"', b",", b"\xff", b"\0", b"&"),
    ]
    for kind, text in GOOD.items()
}


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, bytes]:
    """A good file with pieces taken out, put in, or overwritten."""
    kind = draw(st.sampled_from(sorted(GOOD)))
    data = GOOD[kind].encode()
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, len(data)))
        removed = draw(st.integers(0, 12))
        data = data[:start] + draw(st.sampled_from(PIECES[kind]) | st.binary(max_size=4)) + data[start + removed :]
    return kind, data


anything = st.tuples(st.sampled_from(sorted(GOOD)), st.binary(max_size=200))


@settings(deadline=None, max_examples=400)
@given(file=mutated() | anything)
@example(file=("json", b'{"cues": [{"start_s": 1' + b"0" * 400 + b', "end_s": 2, "text": "a"}]}'))
@example(file=("ttml", b"<tt><body><p begin='1s' end='2s'>a</p></body></tt>"))
def test_any_bytes_are_captions_or_an_error(tmp_path_factory: pytest.TempPathFactory, file: tuple[str, bytes]) -> None:
    kind, data = file
    path = tmp_path_factory.getbasetemp() / f"fuzz.{kind}"
    path.write_bytes(data)
    refused_at = None
    refused_at = None
    try:
        captions = read_captions(path)
    except DataError as error:
        captions, refused_at = Captions(()), error.where
    assert refused_at is None or refused_at.startswith(str(path))
    lines = data.count(b"\n") + data.count(b"\r") + 1
    for cue in captions.cues:
        assert cue.text == clean_text(cue.text)
        assert cue.speaker is None or cue.speaker == clean_text(cue.speaker) != ""
        assert math.isfinite(cue.start_s)
        assert math.isfinite(cue.end_s)
        assert 1 <= cue.line <= lines
    for problem in captions.problems:
        name, _, line = problem.where.rpartition(":")
        assert (name, problem.kind != "", 1 <= int(line) <= lines) == (str(path), True, True)
    if kind in ("ass", "ttml"):
        assert [cue.start_s for cue in captions.cues] == sorted(cue.start_s for cue in captions.cues)


@pytest.mark.parametrize("kind", sorted(GOOD))
def test_the_files_that_are_mutated_are_good(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_text(GOOD[kind], encoding="utf-8")
    captions = read_captions(path)
    assert captions.cues
    assert captions.problems == ()


MANY = 2_000_000  # with a step for each pair of characters, these would take hours
VTT, SRT = "WEBVTT\n\n00:01.000 --> 00:02.000\n", "1\n00:00:01,000 --> 00:00:02,000\n"
ASS = "[Events]\nFormat: Start, End, Text\nDialogue: 0:00:01.00,0:00:02.00,"
HOSTILE = {
    "blanks in a voice": (f"{VTT}a<v", " ", "", "vtt"),
    "voices": (f"{VTT}a", "<v", "", "vtt"),
    "classes of voices": (f"{VTT}a", "<v.", "", "vtt"),
    "one class of a voice": (f"{VTT}a<v.", ".", "", "vtt"),
    "a tag of time": (f"{VTT}a<0", ":", "", "vtt"),
    "entities": (f"{VTT}a", "&#", "", "vtt"),
    "blanks in a font": (f"{SRT}a<font", " ", "", "srt"),
    "fonts": (f"{SRT}a", "<font ", "", "srt"),
    "blanks in a tag": (f"{SRT}a<b", " ", "", "srt"),
    "tags in braces": (f"{SRT}a", "{\\", "", "srt"),
    "digits of a time": ("0:00.0", "0", "x\n", "srt"),
    "minutes of a time": ("", "0", "x\n", "srt"),
    "digits of a second time": ("0:00.0 0", "0", "x\n", "srt"),
    "digits of a time after an arrow": ("00:00:01,000 --> ", "0", "x\n", "srt"),
    "blanks between times": ("0:00.0", " ", "x\n", "srt"),
    "words between times": ("0:00.0", " 0", "x\n", "srt"),
    "blanks before a time": ("", " ", "0:00.0\n", "srt"),
    "braces": (f"{ASS}a", "{", "", "ass"),
    "braces, closed": (f"{ASS}a", "{", "}", "ass"),
    "drawings": (f"{ASS}a", "{\\p", "}", "ass"),
    "the scale of a drawing": (f"{ASS}a{{\\p", "9", "}a", "ass"),
    "blanks in a scale": (f"{ASS}a{{\\p", "(", "}", "ass"),
    "sections": ("", "[", f"\n{ASS}a", "ass"),
    "a time of XML": ('<tt xmlns="http://www.w3.org/ns/ttml"><body><p begin="1', "1", '">a</p></body></tt>', "ttml"),
    "blanks after a key": ('{"cues"', " ", ': [{"start_s": 1, "end_s": 2, "text": "a"}]}', "json"),
}


@pytest.mark.parametrize(("head", "repeated", "tail", "kind"), HOSTILE.values(), ids=list(HOSTILE))
def test_long_lines_are_read_in_one_go(tmp_path: Path, head: str, repeated: str, tail: str, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_text(head + repeated * (MANY // len(repeated)) + tail, encoding="utf-8")
    captions = read_captions(path)
    assert captions.cues or captions.problems
