"""Corpora in the form of LJSpeech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from whispertune.data.audio import AudioReader
from whispertune.data.segments import SourceSpec
from whispertune.data.sources.ljspeech import is_ljspeech, parse_ljspeech, read_ljspeech
from whispertune.errors import DataError

LINES = (
    'LJ001-0001|"Printed" in 1455, it was|"Printed" in fourteen fifty-five, it was',
    "LJ001-0002|Dr. Smith said so.|Doctor Smith said so.",
)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "wavs").mkdir()
    for number in (1, 2):
        noise = np.random.default_rng(number).normal(0, 0.1, 8000 * number)
        soundfile.write(tmp_path / "wavs" / f"LJ001-000{number}.wav", noise, 8000)
    write(tmp_path, *LINES)
    return tmp_path


def write(folder: Path, *lines: str) -> None:
    (folder / "metadata.csv").write_bytes("".join(f"{line}\r\n" for line in lines).encode())


def test_the_text_as_written_is_taken(corpus: Path, reader: AudioReader) -> None:
    data = read_ljspeech(SourceSpec(str(corpus), language="en"), reader)
    assert [segment.text for segment in data.segments] == ['"Printed" in 1455, it was', "Dr. Smith said so."]
    assert [segment.recording for segment in data.segments] == [
        corpus / "wavs" / "LJ001-0001.wav",
        corpus / "wavs" / "LJ001-0002.wav",
    ]
    assert [(segment.start_s, segment.end_s) for segment in data.segments] == [(0.0, 1.0), (0.0, 2.0)]
    assert {(segment.language, segment.speaker) for segment in data.segments} == {("en", None)}
    assert [segment.id for segment in data.segments] == ["LJ001-0001", "LJ001-0002"]
    assert data.problems == ()


def test_the_text_spelled_out_is_taken_where_asked_for(corpus: Path) -> None:
    raw = parse_ljspeech(SourceSpec(str(corpus / "metadata.csv"), columns=(("text", "normalized"),)))
    assert list(raw.text) == ['"Printed" in fourteen fifty-five, it was', "Doctor Smith said so."]
    with pytest.raises(DataError, match='called "raw" and "normalized"'):
        parse_ljspeech(SourceSpec(str(corpus), columns=(("text", "sentence"),)))
    with pytest.raises(DataError, match="speaker, which this kind of source fixes itself"):
        parse_ljspeech(SourceSpec(str(corpus), columns=(("speaker", "who"),)))


def test_lines_that_cannot_be_used_are_named(corpus: Path, reader: AudioReader) -> None:
    write(corpus, LINES[0], "LJ001-0002", "", "a|b|c|d", "LJ001-0003|gone|gone", "LJ001-0002||")
    data = read_ljspeech(SourceSpec(str(corpus), language="en"), reader)
    assert len(data.segments) == 1
    found = {problem.where.rpartition(":")[2]: problem for problem in data.problems}
    assert set(found) == {"2", "4", "5", "6"}
    assert found["2"].detail == "has 1 fields; lines are: id|text|text spelled out"
    assert found["4"].detail.startswith("has 4 fields")
    assert "LJ001-0003.wav" in found["5"].detail
    assert found["6"].kind == "empty text"


def test_two_fields_are_enough_for_the_text_as_written(corpus: Path) -> None:
    write(corpus, "LJ001-0001|Printed", "LJ001-0002|Said")
    assert list(parse_ljspeech(SourceSpec(str(corpus))).text) == ["Printed", "Said"]
    spelled = parse_ljspeech(SourceSpec(str(corpus), columns=(("text", "normalized"),)))
    assert (list(spelled.text), len(spelled.problems)) == ([], 2)


def test_only_this_form_is_taken_for_it(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert is_ljspeech(corpus)
    assert is_ljspeech(corpus / "metadata.csv")
    write(corpus, "file_name,text", "wavs/LJ001-0001.wav,Printed")
    assert not is_ljspeech(corpus)
    write(corpus, "file_name|text", "wavs/LJ001-0001.wav|Printed")
    assert not is_ljspeech(corpus)
    empty = tmp_path_factory.mktemp("empty")
    assert not is_ljspeech(empty)
    with pytest.raises(DataError, match=r"holds no metadata\.csv"):
        parse_ljspeech(SourceSpec(str(empty)))
