"""Manifests as CSV and TSV: quotes, lines within them, and what is wrong with a file as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Segment, SourceData, SourceSpec
from whispertune.data.sources.lines import Wanted, read_csv
from whispertune.data.sources.manifest import is_manifest, read_manifest
from whispertune.errors import DataError


def tone(path: Path, duration_s: float) -> Path:
    soundfile.write(path, 0.1 * np.sin(np.arange(round(duration_s * 8000)) / 5), 8000)
    return path


def troubles(data: SourceData) -> list[tuple[str, str]]:
    return [(Path(problem.where).name, problem.kind) for problem in data.problems]


def told(segment: Segment) -> tuple[Any, ...]:
    return segment.start_s, segment.end_s, segment.text


def written(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="")
    return path


def read(path: Path, reader: AudioReader, **more: Any) -> SourceData:
    return read_manifest(SourceSpec(str(path), **{"language": "en", **more}), reader)


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
        "a.wav,not swallowed,,,\r\n"
    )
    (tmp_path / "metadata.csv").write_bytes(text.encode())
    data = read_manifest(SourceSpec(str(tmp_path / "metadata.csv"), language="en"), reader)
    assert [told(segment)[:3] for segment in data.segments] == [
        (0.0, 3.0, 'one, "two" three'),
        (0.0, 3.0, "short"),
        (0.0, 3.0, "not swallowed"),
        (0.5, 1.5, "timed"),
    ]
    assert [segment.id for segment in data.segments] == [f"metadata.csv:{line}" for line in (2, 6, 9, 7)]
    assert troubles(data) == [("metadata.csv:5", "malformed row"), ("metadata.csv:8", "malformed row")]
    assert "not closed" in data.problems[1].detail


def test_tsv(tmp_path: Path, reader: AudioReader) -> None:
    tone(tmp_path / "a.wav", 2.0)
    rows = ('a.wav\t"Hi," he said.', 'a.wav\t"Hello."', 'a.wav\t"She said ""no""."', "a.wav\tx\ty", "a.wav", "")
    plain = read(written(tmp_path / "metadata.tsv", "path\tsentence", *rows), reader)
    assert [segment.text for segment in plain.segments] == ['"Hi," he said.', '"Hello."', 'She said "no".']
    assert troubles(plain) == [("metadata.tsv:5", "malformed row"), ("metadata.tsv:6", "empty text")]
    quoted = read(written(tmp_path / "q.tsv", '"path"\t"sentence"', *rows[1:3], '"a.wav"\t"x\ty"'), reader)
    assert [segment.text for segment in quoted.segments] == ["Hello.", 'She said "no".', "x y"]
    assert is_manifest(tmp_path)
    (tmp_path / "q.tsv").write_bytes("path\tsentence\r\na.wav\t\u00f6\r\n".encode("utf-16"))
    assert [segment.text for segment in read(tmp_path / "q.tsv", reader).segments] == ["\u00f6"]


def rows_and_lines(path: Path, *lines: str, names: tuple[str, str] = ("file", "text")) -> tuple[list[Any], list[int]]:
    """(the line, the file and the text of each row, the lines of problems)."""
    audio, text = names
    wanted = [Wanted("audio", (audio,)), Wanted("text", (text,))]
    blocks = list(read_csv(written(path, *lines), lambda _: wanted))
    columns = [(block.lines, block.column("audio"), block.column("text")) for block in blocks if len(block.lines)]
    rows = [
        (int(line), file.as_py(), words.as_py())
        for numbers, files, texts in columns
        for line, file, words in zip(numbers, files or (), texts or (), strict=True)
    ]
    return rows, [int(problem.where.rpartition(":")[2]) for block in blocks for problem in block.problems]


@pytest.mark.parametrize("end", [None, 'she "said" "x', '"bye"', 'bye"', '"bye', '"a ""b"" c"'])
@pytest.mark.parametrize("bad", [0, 1, 10, 28])
@pytest.mark.parametrize("header", ["file,text", "text,file"])
def test_a_quote_that_is_not_closed_costs_one_row(tmp_path: Path, end: str | None, bad: int, header: str) -> None:
    """Whatever stands in a later line, 30 of them, that may close it."""
    turn = 1 if header == "file,text" else -1

    def line(number: int, text: str) -> str:
        return ",".join((f"{number}.wav", text)[::turn])

    lines = [line(number, f"text {number}") for number in range(40)]
    lines[bad] = line(bad, '"oops')
    if end:
        lines[30] = line(30, end)
    rows, problems = rows_and_lines(tmp_path / "m.csv", header, *lines)
    kept = [number for number in range(40) if number != bad]
    if end == '"bye':
        kept.remove(30)
        assert problems == [bad + 2, 32]
    else:
        assert problems == [bad + 2]
    assert [(row[0], row[1]) for row in rows] == [(number + 2, f"{number}.wav") for number in kept]
    texts = {'"bye"': "bye", '"a ""b"" c"': 'a "b" c'}
    expected = [texts.get(end, end) if end and number == 30 else f"text {number}" for number in kept]
    assert [row[2] for row in rows] == expected


def test_texts_over_several_lines_are_one_row(tmp_path: Path) -> None:
    poem = 'Roses are red, my love,\nviolets are blue, too.\n\nIt ends, ""here"".'
    lines = ("a.wav,one", f'b.wav,"{poem}"', "c.wav,three", f'd.wav,"{poem}"')
    rows, problems = rows_and_lines(tmp_path / "m.csv", "file,text", *lines)
    whole = poem.replace('""', '"')
    assert rows == [(2, "a.wav", "one"), (3, "b.wav", whole), (7, "c.wav", "three"), (8, "d.wav", whole)]
    assert problems == []


@pytest.mark.parametrize(
    ("header", "lines", "text"),
    [
        ("file,text", ('a.wav,"Hello,', 'I said, yes"', "b.wav,ok then"), "Hello,\nI said, yes"),
        ("file,text", ('a.wav,"Hello', "I said, yes", '"', "b.wav,ok then"), "Hello\nI said, yes\n"),
        ("note,file,text", ('"x, y",a.wav,"One,', 'two, three, four"', "z,b.wav,ok then"), "One,\ntwo, three, four"),
        ("text,file", ('"Hello,', 'I said yes",a.wav', "ok then,b.wav"), "Hello,\nI said yes"),
    ],
)
def test_the_text_of_the_first_row_may_have_several_lines(
    tmp_path: Path, header: str, lines: tuple[str, ...], text: str
) -> None:
    rows, problems = rows_and_lines(tmp_path / "m.csv", header, *lines)
    assert rows == [(2, "a.wav", text), (len(lines) + 1, "b.wav", "ok then")]
    assert problems == []


def test_a_space_behind_a_comma_is_no_part_of_a_cell(tmp_path: Path, reader: AudioReader) -> None:
    for name in "abc":
        tone(tmp_path / f"{name}.wav", 1.0)
    rows = ('"a.wav", "Hello, there", "en"', "b.wav, Good day, sv", 'c.wav,  "One,', 'two", "en"')
    data = read(written(tmp_path / "metadata.csv", "file_name, text, language", *rows), reader)
    assert [(one.text, one.language) for one in data.segments] == [
        ("Hello, there", "en"),
        ("Good day", "sv"),
        ("One, two", "en"),
    ]
    assert data.problems == ()
    lines = ('0.wav, "oops', '1.wav, "said, yes"', "2.wav, x")
    assert rows_and_lines(tmp_path / "m.csv", "file, text", *lines, names=("file", "text")) == (
        [(3, "1.wav", "said, yes"), (4, "2.wav", "x")],
        [2],
    )
    tabs = read(written(tmp_path / "m.tsv", "file_name\ttext", 'a.wav\t "Hi" '), reader)
    assert [one.text for one in tabs.segments] == ['"Hi"']


def test_every_line_of_a_bad_record_counts(tmp_path: Path) -> None:
    lines = ("a.wav,one", 'b.wav,"two', 'and "more" words', 'b.wav", c, d, e', "c.wav,three", 'd.wav,"four')
    rows, problems = rows_and_lines(tmp_path / "m.csv", "file,text", *lines)
    assert [row[:2] for row in rows] == [(2, "a.wav"), (4, 'and "more" words'), (6, "c.wav")]  # no such file: a Problem
    assert problems == [3, 5, 7]


parts = st.sampled_from(["a.wav", "b.flac", ",", '"', '""', "\n", "x", " ", ",b.wav\n"])


@given(content=st.lists(parts, max_size=30).map("".join))
def test_no_line_is_lost_or_read_twice(tmp_path_factory: pytest.TempPathFactory, content: str) -> None:
    lines = content.split("\n")
    rows, problems = rows_and_lines(tmp_path_factory.getbasetemp() / "any.csv", "file,text", *lines)
    spanned = [(line, line + (text or "").count("\n") + (file or "").count("\n")) for line, file, text in rows]
    seen = [number for first, last in spanned for number in range(first, last + 1)] + problems
    assert sorted(seen) == [number for number, line in enumerate(lines, start=2) if line or number in seen]


def test_what_is_wrong_with_the_file_is_told(tmp_path: Path, reader: AudioReader) -> None:
    for mark, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        written(tmp_path / "m.csv", f"file_name{mark}text", f"a.wav{mark}x, y")
        with pytest.raises(DataError, match=rf"m\.csv: has {name} between its columns(.|\n)*save it with commas"):
            read(tmp_path / "m.csv", reader)
    written(tmp_path / "m.csv", "file_name,text,note, text,note", "a.wav,first,x,second,y")
    with pytest.raises(DataError, match=r"m\.csv: has several columns 'text'"):
        read(tmp_path / "m.csv", reader)
    tone(tmp_path / "a.wav", 1.0)
    assert read(tmp_path / "m.csv", reader, columns=(("text", "file_name"),)).segments[0].text == "a.wav"
