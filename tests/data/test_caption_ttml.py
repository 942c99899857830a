"""TTML: its times, its nesting, its speakers; bad files, each with its line; nothing dangerous is parsed."""

from __future__ import annotations

from pathlib import Path

import pytest

from whispertune.data.captions import Captions, Cue, read_captions
from whispertune.errors import DataError

NAMESPACES = (
    'xmlns="http://www.w3.org/ns/ttml" xmlns:ttp="http://www.w3.org/ns/ttml#parameter" '
    'xmlns:ttm="http://www.w3.org/ns/ttml#metadata" xmlns:tts="http://www.w3.org/ns/ttml#styling"'
)


def read(folder: Path, text: str, name: str = "a.ttml") -> Captions:
    path = folder / name
    path.write_bytes(text.encode())
    return read_captions(path)


def body(folder: Path, inner: str, attributes: str = "") -> Captions:
    return read(folder, f"<tt {NAMESPACES} {attributes}>\n<body>{inner}</body></tt>")


def problems(captions: Captions) -> list[tuple[str, str]]:
    return [(problem.where.rpartition(":")[2], problem.kind) for problem in captions.problems]


FULL = f"""<?xml version="1.0" encoding="ISO-8859-1"?>
<!-- encoded in UTF-8, whatever it says -->
<tt {NAMESPACES} xmlns:x="urn:x" xml:lang="sv-SE">
  <head>
    <metadata xml:id="m">
      <ttm:title>A talk</ttm:title>
      <ttm:agent xml:id="a" type="person">
        <ttm:name type="alias">A.</ttm:name><ttm:name type="full">Anna
          B</ttm:name><ttm:name type="family">B</ttm:name>
      </ttm:agent>
      <ttm:agent xml:id="b" type="person"/>
    </metadata>
    <styling><style xml:id="r" tts:ruby="text"/></styling>
    <layout><region xml:id="top"><style tts:origin="1px 2px"/></region></layout>
  </head>
  <body>
    <metadata>of no interest</metadata>
    <div begin="10s" ttm:agent="b">
      <p begin="5s" end="7.5s" region="top">second &amp; last</p>
      <p xml:id="p1"
         begin="00:00:01.500" dur="2s" ttm:agent="a" xml:space="preserve">Hej
och<br/>h\u00e5 <span tts:fontStyle="italic">d\u00e4r</span><x:note>foreign</x:note><metadata>no</metadata></p>
      <p begin="8s" end="9s"><span ttm:agent="a">Ja.</span> <span>Nej.</span></p>
      <p begin="9s" end="10s">\u6f22<span tts:ruby="text">kan</span>\u5b57<span style="x r">ji</span></p>
      <p begin="11s" end="12s"><br/></p>
      <p></p>
    </div>
  </body>
</tt>
"""


def test_a_ttml_file_with_everything_in_it(tmp_path: Path) -> None:
    for newline in ("\n", "\r\n"):
        captions = read(tmp_path, FULL.replace("\n", newline))
        assert captions.problems == ()
        assert captions.language == "sv-SE"
        assert captions.cues == (
            Cue(11.5, 13.5, "Hej och h\u00e5 d\u00e4r", speaker="Anna B"),
            Cue(15.0, 17.5, "second & last", speaker="b"),
            Cue(18.0, 19.0, "Ja. Nej."),
            Cue(19.0, 20.0, "\u6f22\u5b57", speaker="b"),
            Cue(21.0, 22.0, ""),
        )
        assert [cue.line for cue in captions.cues] == [20, 19, 23, 24, 25]
    (tmp_path / "a.DFXP").write_text(FULL, encoding="utf-16")
    assert read_captions(tmp_path / "a.DFXP") == captions


def test_drafts_of_ttml_and_files_without_a_namespace(tmp_path: Path) -> None:
    inner = '<body><div><p begin="1s" end="2s">x</p></div></body>'
    for namespace in ('xmlns="http://www.w3.org/2006/10/ttaf1"', 'xmlns="http://www.w3.org/2006/04/ttaf1"', ""):
        assert read(tmp_path, f"<tt {namespace}>{inner}</tt>", "a.dfxp").cues == (Cue(1.0, 2.0, "x"),)
    prefixed = (
        '<t:tt xmlns:t="http://www.w3.org/2006/10/ttaf1" xmlns:p="http://www.w3.org/2006/10/ttaf1#parameter" '
        'p:frameRate="10" p:frameRateMultiplier="1:2"><t:body><t:p begin="0:00:01:5" end="15f">x</t:p></t:body></t:tt>'
    )
    assert read(tmp_path, prefixed, "a.dfxp").cues == (Cue(2.0, 3.0, "x"),)


@pytest.mark.parametrize(
    ("time", "attributes", "seconds"),
    [
        ("01:02:03", "", 3723.0),
        ("00:00:12.5", "", 12.5),
        ("00:00:00.123456789", "", 0.123456789),
        ("12.5s", "", 12.5),
        ("340ms", "", 0.34),
        ("1.5m", "", 90.0),
        ("0.5h", "", 1800.0),
        (" 2s ", "", 2.0),
        ("00:00:01:15", "", 1.5),
        ("00:00:01:12", 'ttp:frameRate="24"', 1.5),
        ("100f", 'ttp:frameRate="25"', 4.0),
        ("00:00:10:15", 'ttp:frameRate="30" ttp:frameRateMultiplier="1000 1001"', 10 + 15 * 1.001 / 30),
        ("300f", 'ttp:frameRate="30" ttp:frameRateMultiplier="1000 1001"', 10.01),
        ("00:00:01:01.1", 'ttp:frameRate="10" ttp:subFrameRate="2"', 1.15),
        ("500t", 'ttp:tickRate="1000"', 0.5),
        ("25000000t", 'ttp:tickRate="10000000"', 2.5),
        ("3t", "", 3.0),
        ("50t", 'ttp:frameRate="25" ttp:subFrameRate="2"', 1.0),
        ("01:00:00:00", 'ttp:timeBase="smpte" ttp:frameRate="30" ttp:frameRateMultiplier="1000 1001"', 3603.6),
        (
            "01:00:00:00",
            'ttp:timeBase="smpte" ttp:frameRateMultiplier="1000 1001" ttp:dropMode="dropNTSC"',
            (108_000 - 108) * 1.001 / 30,
        ),
        (
            "00:22:00:00",
            'ttp:timeBase="smpte" ttp:frameRateMultiplier="1000 1001" ttp:dropMode="dropPAL"',
            (22 * 1800 - 40) * 1.001 / 30,
        ),
        ("00:00:12.5", 'ttp:timeBase="smpte" ttp:frameRate="25"', 12.5),
    ],
)
def test_times(tmp_path: Path, time: str, attributes: str, seconds: float) -> None:
    captions = body(tmp_path, f'<div><p begin="{time}" dur="1h">x</p></div>', attributes)
    assert captions.problems == ()
    assert captions.cues[0].start_s == pytest.approx(seconds, abs=1e-12)


@pytest.mark.parametrize(
    ("time", "attributes", "detail"),
    [
        ("12.5", "", "is no time like"),
        ("00:00:01,500", "", "is no time like"),
        ("00:60:01.500", "", "is no time like"),
        ("-1s", "", "is no time like"),
        ("", "", "is no time like"),
        ("\u0661s", "", "is no time like"),
        ("1" * 30 + "s", "", "is no time like"),
        ("00:00:01:25", 'ttp:frameRate="25"', "has frame 25 where a second has 25"),
        ("00:00:01:01.1", "", "has part 1 of a frame that has 1"),
        ("00:00:01.5", 'ttp:timeBase="smpte" ttp:frameRateMultiplier="1000 1001"', "has a fraction"),
    ],
)
def test_bad_times_are_named(tmp_path: Path, time: str, attributes: str, detail: str) -> None:
    inner = f'<div>\n<p begin="{time}" end="9s">x</p>\n<p begin="0s" end="{time}">y</p></div>'
    captions = body(tmp_path, inner, attributes)
    assert captions.cues == ()
    assert problems(captions) == [("3", "malformed time"), ("4", "malformed time")]
    assert f'begin="{time[:40]}" {detail}' in captions.problems[0].detail
    assert f'end="{time[:40]}" {detail}' in captions.problems[1].detail


@pytest.mark.parametrize(
    ("attributes", "what"),
    [
        ('ttp:frameRate="29.97"', "is no whole number above 0"),
        ('ttp:frameRate="0"', "is no whole number above 0"),
        ('ttp:tickRate="-1"', "is no whole number above 0"),
        ('ttp:frameRateMultiplier="1000/1001"', "is not like"),
        ('ttp:frameRateMultiplier="1 0"', "is not like"),
        ('ttp:timeBase="clock"', "not those of a recording"),
        ('ttp:timeBase="smpte" ttp:markerMode="discontinuous"', "not those of a recording"),
        ('ttp:dropMode="some"', "is not known"),
    ],
)
def test_parameters_that_make_no_clock(tmp_path: Path, attributes: str, what: str) -> None:
    with pytest.raises(DataError, match=what) as caught:
        body(tmp_path, "", attributes)
    assert caught.value.where == f"{tmp_path / 'a.ttml'}:1"


def test_times_nest(tmp_path: Path) -> None:
    inner = """<div begin="10s" end="20s"><div begin="1s">
        <p begin="1s" end="3s">offsets add up</p>
        <p begin="5s" dur="1m">the div ends it</p>
        <p end="2s">begins with the div</p>
        <p begin="1s" dur="9s" end="3s">the first end counts</p>
        <p>all of the div</p>
        <p begin="30s" end="31s">behind its div</p></div></div>"""
    captions = body(tmp_path, inner)
    assert captions.problems == ()
    assert [(cue.start_s, cue.end_s, cue.text) for cue in captions.cues] == [
        (11.0, 13.0, "begins with the div"),
        (11.0, 20.0, "all of the div"),
        (12.0, 14.0, "offsets add up"),
        (12.0, 14.0, "the first end counts"),
        (16.0, 20.0, "the div ends it"),
        (41.0, 20.0, "behind its div"),
    ]


def test_spans_with_times_of_their_own(tmp_path: Path) -> None:
    inner = """<div>
<p><span begin="1s" end="2s">one</span>
   <span begin="3s" dur="1s">two <span begin="0.5s" end="1s">halves</span></span></p>
<p begin="10s"><span begin="1s" end="2s">counted from the p</span> </p>
<p begin="20s" end="25s"><span begin="0s">all</span> <span begin="1s" end="x">in one</span></p>
<p><span begin="30s"><span end="1s">deep</span></span> and text without a time</p>
<p><span begin="40s" end="soon">bad</span></p>
<p><span begin="50s">no end</span></p></div>stray"""
    captions = body(tmp_path, inner)
    assert [(cue.start_s, cue.end_s, cue.text, cue.line) for cue in captions.cues] == [
        (1.0, 2.0, "one", 3),
        (3.0, 4.0, "two halves", 4),
        (11.0, 12.0, "counted from the p", 5),
        (20.0, 25.0, "all in one", 6),
        (30.0, 31.0, "deep", 7),
    ]
    assert problems(captions) == [
        ("7", "text without a time"),
        ("8", "malformed time"),
        ("9", "text without a time"),
        ("9", "text without a time"),
    ]


def test_sequences(tmp_path: Path) -> None:
    inner = """<div timeContainer="seq" begin="10s">
<p dur="2s">one</p>
<p begin="1s" end="3s">two</p>
<div dur="5s"><p begin="1s" end="2s">three</p></div>
<p begin="1s" dur="bad">four</p>
<p dur="1s">five</p></div><div><p begin="1s" end="2s">six</p></div>"""
    captions = body(tmp_path, inner)
    assert [(cue.start_s, cue.end_s, cue.text) for cue in captions.cues] == [
        (1.0, 2.0, "six"),
        (10.0, 12.0, "one"),
        (13.0, 15.0, "two"),
        (16.0, 17.0, "three"),
    ]
    assert problems(captions) == [("6", "malformed time"), ("7", "malformed time")]
    assert captions.problems[1].detail == "follows, in a sequence, what has no end"


def test_a_bad_time_above_is_named_at_each_cue_below(tmp_path: Path) -> None:
    captions = body(tmp_path, '<div begin="?">\n<p begin="1s" end="2s">a</p>\n<p begin="2s" end="3s">b</p></div>')
    assert problems(captions) == [("3", "malformed time"), ("4", "malformed time")]
    assert captions.problems[0].detail.startswith('<div> at line 2: begin="?" is no time')


def test_languages_are_not_mixed(tmp_path: Path) -> None:
    inner = """<div xml:lang="sv-SE"><p begin="1s" end="2s">ett</p>
<p begin="2s" end="3s" xml:lang="SV">tv\u00e5 <span xml:lang="en">cool</span></p>
<p begin="3s" end="4s" xml:lang="en">three</p>
<p begin="4s" end="5s" xml:lang="">fyra</p></div>"""
    captions = body(tmp_path, inner, 'xml:lang="en"')
    assert captions.language == "sv-SE"
    assert [cue.text for cue in captions.cues] == ["ett", "tv\u00e5 cool", "fyra"]
    assert problems(captions) == [("4", "cue in another language")]


LAUGHS = "".join(f'<!ENTITY l{n} "{"".join([f"&l{n - 1};"] * 10)}">' for n in range(1, 10))


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        (f'<!DOCTYPE tt [<!ENTITY l0 "ha">{LAUGHS}]>\n<tt><body><p>&l9;</p></body></tt>', ":1", "has a DOCTYPE"),
        ('\n<!DOCTYPE tt [<!ENTITY x SYSTEM "file:///etc/hostname">]>\n<tt>&x;</tt>', ":2", "has a DOCTYPE"),
        ('\n\n<!DOCTYPE tt SYSTEM "http://localhost/tt.dtd">\n<tt/>', ":3", "has a DOCTYPE"),
        ("<tt><body>\n<p>&nbsp;</p></body></tt>", ":2", "no well-formed XML: undefined entity"),
        ("<tt><body>\n<p>x</div></body></tt>", ":2", "no well-formed XML: mismatched tag"),
        ("<tt><body>\n\n", ":3", "no well-formed XML: no element found"),
        ("", ":1", "no well-formed XML: no element found"),
        ("WEBVTT\n", ":1", "no well-formed XML"),
        ("<tt>\n<body><x:p/></body></tt>", ":2", "no well-formed XML: unbound prefix"),
        ("<tt>\n\ufffe</tt>", ":2", "no well-formed XML"),
        ('<html xmlns="http://www.w3.org/1999/xhtml">\n</html>', ":1", "is no TTML: its root is <html>"),
        ("\n<transcript/>", ":2", "is no TTML: its root is <transcript>"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, where: str, what: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, text)
    assert caught.value.where == f"{tmp_path / 'a.ttml'}{where}"
    assert what in caught.value.what


def test_deep_nesting_and_long_files_are_read(tmp_path: Path) -> None:
    deep = '<p begin="1s" end="2s">' + "<span>" * 20_000 + "x" + "</span>" * 20_000 + "</p>"
    assert body(tmp_path, deep).cues == (Cue(1.0, 2.0, "x"),)
    assert body(tmp_path, "<div>" * 20_000 + deep + "</div>" * 20_000).cues == (Cue(1.0, 2.0, "x"),)


def test_one_language_written_in_several_ways_is_one(tmp_path: Path) -> None:
    inner = '<p begin="1s" end="2s" xml:lang="swe">ett</p><p begin="2s" end="3s">tv\u00e5</p>'
    captions = body(tmp_path, inner, 'xml:lang="sv-SE"')
    assert [cue.text for cue in captions.cues] == ["ett", "tv\u00e5"]
    assert captions.problems == ()
