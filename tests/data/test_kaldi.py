"""Data folders in the form of Kaldi."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Problem, SourceSpec
from whispertune.data.sources.kaldi import is_kaldi, parse_kaldi, read_kaldi
from whispertune.errors import DataError

WHOLE = {
    "wav.scp": "u1 audio/one two.wav\nu2\taudio/b.flac\n",
    "text": "u1 good  morning\nu2 hej  på dig\n",
    "utt2spk": "u1 anna\nu2 bo\n",
    "utt2lang": "u1 en\nu2 Swedish\n",
}
SEGMENTED = {
    "wav.scp": "call audio/b.flac\n",
    "text": "call-a good morning\ncall-b and good night\n",
    "segments": "call-a call 0.25 1.00\ncall-b call 1.00 -1\n",
    "spk2utt": "anna call-a\nbo call-b\n",
}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "train"
    (folder / "audio").mkdir(parents=True)
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000)
    soundfile.write(folder / "audio" / "one two.wav", noise[:8000], 8000)
    soundfile.write(folder / "audio" / "b.flac", noise, 8000)
    return folder


def write(folder: Path, files: dict[str, str]) -> SourceSpec:
    for name, text in files.items():
        (folder / name).write_bytes(text.encode())
    return SourceSpec(str(folder), language="en")


def test_recordings_that_are_utterances(corpus: Path, reader: AudioReader) -> None:
    data = read_kaldi(write(corpus, WHOLE), reader)
    first, second = data.segments
    assert (first.id, first.recording, first.text) == ("u1", corpus / "audio" / "one two.wav", "good morning")
    assert (first.start_s, first.end_s, first.speaker, first.language) == (0.0, 1.0, "anna", "en")
    assert (second.end_s, second.text, second.speaker, second.language) == (2.0, "hej på dig", "bo", "sv")
    assert data.problems == ()


def test_segments(corpus: Path, reader: AudioReader) -> None:
    data = read_kaldi(write(corpus, SEGMENTED), reader)
    assert [(one.id, one.start_s, one.end_s, one.speaker) for one in data.segments] == [
        ("call-a", 0.25, 1.0, "anna"),
        ("call-b", 1.0, 2.0, "bo"),
    ]
    assert [one.continues for one in data.segments] == [False, True]


def test_durations_are_taken_from_the_files_that_state_them(corpus: Path) -> None:
    spec = write(corpus, WHOLE | {"reco2dur": "u1 1.5\nu2 2\n"})
    assert parse_kaldi(spec).duration_s == ["1.5", "2"]
    spec = write(corpus, {"utt2dur": "u1 1.25\n"})
    assert parse_kaldi(spec).duration_s == ["1.25", None]
    assert parse_kaldi(write(corpus, SEGMENTED)).duration_s is None


def test_windows_lines_and_blank_ones(corpus: Path) -> None:
    raw = parse_kaldi(write(corpus, {name: text.replace("\n", "\r\n\r\n") for name, text in SEGMENTED.items()}))
    assert list(raw.ids or ()) == ["call-a", "call-b"]
    assert list(raw.lines) == [1, 3]
    assert list(raw.text) == ["good morning", "and good night"]
    assert raw.problems == ()


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("sph2pipe -f wav a.sph |", "is a command, not a path: sph2pipe -f wav a.sph |"),
        ("| cat", "is a command"),
        ("-", "names no audio file"),
        ("", "names no audio file"),
        ("wavs.ark:123", "is a place inside an archive"),
        ("wavs.ark:123[0:9]", "is a place inside an archive"),
    ],
)
def test_what_is_no_path_is_refused_and_not_run(corpus: Path, path: str, told: str) -> None:
    spec = write(corpus, WHOLE | {"wav.scp": f"u1 audio/b.flac\nu2 {path}\n"})
    with pytest.raises(DataError) as caught:
        parse_kaldi(spec)
    assert caught.value.where == f"{corpus / 'wav.scp'}:2"
    assert caught.value.what.startswith(told)
    assert "write the path of the audio file itself" in str(caught.value)


def test_a_command_leaves_no_trace(corpus: Path) -> None:
    spec = write(corpus, WHOLE | {"wav.scp": "u1 touch ran; cat audio/b.flac |\n"})
    with pytest.raises(DataError, match="is a command"):
        parse_kaldi(spec)
    assert not (corpus / "ran").exists()


def test_what_does_not_fit_together_is_named(corpus: Path, reader: AudioReader) -> None:
    files = {
        "wav.scp": "call audio/b.flac\ncall audio/other.flac\n",
        "text": "call-a good morning\ncall-x nobody\ncall-d wrong recording\n",
        "segments": "call-a call 0 1\ncall-b call 1 1.5\ncall-c call 1.5\n"
        "call-d away 0 1\ncall-e call 0 1 1\ncall-a call 0 2\n",
    }
    data = read_kaldi(write(corpus, files), reader)
    assert [one.id for one in data.segments] == ["call-a"]
    assert {(problem.where.removeprefix(f"{corpus}/"), problem.kind) for problem in data.problems} == {
        ("wav.scp:2", "given twice"),
        ("text:2", "utterance without segment"),
        ("segments:2", "empty text"),
        ("segments:3", "malformed row"),
        ("segments:4", "no such recording"),
        ("segments:5", "one channel of several"),
        ("segments:6", "given twice"),
    }
    details = {problem.where.rpartition("/")[2]: problem.detail for problem in data.problems}
    assert details["text:2"] == "segments has no call-x"
    assert details["segments:3"] == "has 3 fields; lines are: utterance recording start end"


def test_recordings_and_texts_without_each_other(corpus: Path) -> None:
    raw = parse_kaldi(write(corpus, WHOLE | {"text": "u1 good morning\nu3 gone\n"}))
    assert list(raw.ids or ()) == ["u1"]
    assert raw.problems == (
        Problem(f"{corpus / 'text'}:2", "no such recording", "wav.scp has no u3, and there are no segments"),
        Problem(f"{corpus / 'wav.scp'}:2", "recording without text", "text has no u2"),
    )


def test_relative_paths_are_of_the_folder_else_of_the_start(
    corpus: Path, reader: AudioReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = write(corpus, SEGMENTED | {"wav.scp": "call data/train/audio/b.flac\n"})
    monkeypatch.chdir(corpus.parents[1])
    with pytest.raises(DataError, match=r"none of its paths leads anywhere.*data/train/audio/b\.flac") as caught:
        parse_kaldi(spec)
    assert "outside = true" in str(caught.value)
    allowed = SourceSpec(spec.location, language="en", outside=True)
    data = read_kaldi(allowed, reader)
    assert {str(one.recording) for one in data.segments} == {os.path.abspath("data/train/audio/b.flac")}


def test_absolute_paths_need_leave(corpus: Path, reader: AudioReader, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "away.wav", np.zeros(16_000), 8000)
    spec = write(corpus, SEGMENTED | {"wav.scp": f"call {tmp_path / 'away.wav'}\n"})
    with pytest.raises(DataError, match="every row leads out of"):
        read_kaldi(spec, reader)
    allowed = SourceSpec(spec.location, language="en", outside=True)
    assert len(read_kaldi(allowed, reader).segments) == 2


def test_a_folder_is_known_by_its_files(corpus: Path) -> None:
    assert not is_kaldi(corpus)
    with pytest.raises(DataError, match=r"holds no wav\.scp"):
        parse_kaldi(SourceSpec(str(corpus)))
    write(corpus, WHOLE)
    assert is_kaldi(corpus)
    assert not is_kaldi(corpus / "text")
