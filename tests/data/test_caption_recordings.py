"""Recordings of every kind beside captions, and what is said of files that are of none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import soundfile

from tests.data.conftest import encode_with_libav, encode_with_soundfile, sweep
from whispertune.data.audio import AudioReader
from whispertune.data.segments import SourceData, SourceSpec
from whispertune.data.sources import open_source
from whispertune.data.sources.captioned import AUDIO_SUFFIXES, read_captioned

LENGTH_S = 4.0
VTT = "WEBVTT\n\n00:01.000 --> 00:02.000\nhej\n"


SOUNDFILE = {
    ".aiff": {"format": "AIFF"},
    ".aif": {"format": "AIFF"},
    ".caf": {"format": "CAF", "subtype": "PCM_16"},
    ".oga": {"format": "OGG", "subtype": "VORBIS"},
}
SAME_AS = {".m4b": ".m4a", ".mka": ".mkv"}  # but for the suffix


def encoded(path: Path) -> Path:
    """Four seconds, as files with this suffix hold them."""
    if path.suffix == ".amr":
        return encode_with_libav(path, sweep(LENGTH_S, 8_000), 8_000, "libopencore_amrnb")
    samples = sweep(LENGTH_S, 44_100)
    if kind := SOUNDFILE.get(path.suffix):
        return encode_with_soundfile(path, samples, 44_100, **kind)
    written = path.with_suffix(SAME_AS.get(path.suffix, path.suffix))
    codec = "wmav2" if path.suffix == ".wma" else "aac"
    return encode_with_libav(written, samples, 44_100, codec).rename(path)


def troubles(data: SourceData) -> list[tuple[str, str]]:
    return [(Path(problem.where).name, problem.kind) for problem in data.problems]


@pytest.mark.parametrize(
    "suffix", [".aiff", ".aif", ".oga", ".mka", ".mkv", ".m4b", ".mov", ".wma", ".caf", ".avi", ".aac", ".amr", ".AIFF"]
)
def test_recordings_of_other_kinds_are_found_and_decode(tmp_path: Path, reader: AudioReader, suffix: str) -> None:
    recording = encoded(tmp_path / f"talk{suffix.lower()}").rename(tmp_path / f"talk{suffix}")
    (tmp_path / "talk.sv.vtt").write_text(VTT)
    assert suffix.lower() in AUDIO_SUFFIXES
    assert reader.probe(recording).duration_s == pytest.approx(LENGTH_S, abs=0.1)
    for location in (tmp_path, recording):
        data = open_source(SourceSpec(str(location)), reader)
        assert [(one.recording, one.text, one.start_s, one.end_s) for one in data.segments] == [
            (recording, "hej", 1.0, 2.0)
        ]
        assert data.problems == ()
    samples = reader.read(recording, 1.0, 2.0)
    assert len(samples) == 16_000
    assert abs(samples).max() > 0.2


def test_a_film_beside_the_sound_made_from_it_is_not_missed_captions(tmp_path: Path, reader: AudioReader) -> None:
    encoded(tmp_path / "talk.mkv")
    (tmp_path / "talk.vtt").write_text(VTT)
    soundfile.write(tmp_path / "talk.wav", sweep(LENGTH_S, 8000), 8000)
    data = read_captioned(SourceSpec(str(tmp_path), language="sv"), reader)
    assert [one.recording for one in data.segments] == [tmp_path / "talk.wav"]
    assert data.problems == ()
    shutil.copy(tmp_path / "talk.mkv", tmp_path / "alone.mkv")
    encoded(tmp_path / "sub.sv.mkv")
    soundfile.write(tmp_path / "sub.wav", sweep(LENGTH_S, 8000), 8000)
    (tmp_path / "sub.sv.vtt").write_text(VTT)
    data = read_captioned(SourceSpec(str(tmp_path), language="sv"), reader)
    assert [one.recording for one in data.segments] == [tmp_path / "sub.wav", tmp_path / "talk.wav"]
    assert data.problems == ()


@pytest.mark.parametrize("captions", ["b.vtt", "b.sv.vtt"])
def test_a_file_of_a_kind_that_is_not_looked_for_is_named(tmp_path: Path, reader: AudioReader, captions: str) -> None:
    soundfile.write(tmp_path / "a.wav", sweep(LENGTH_S, 8000), 8000)
    (tmp_path / "a.vtt").write_text(VTT)
    (tmp_path / captions).write_text(VTT)
    stem = captions.removesuffix(".vtt")
    for name in ("b.txt", "b.jpg", "b.json", "b.description", ".b.ac3"):
        (tmp_path / name).write_bytes(b"")
    (alone,) = read_captioned(SourceSpec(str(tmp_path), language="sv"), reader).problems
    assert alone.detail == f"no recording {stem} lies beside"
    (tmp_path / "b.ac3").write_bytes(b"\x0b\x77")
    (named,) = read_captioned(SourceSpec(str(tmp_path), language="sv"), reader).problems
    assert (named.where, named.kind) == (str(tmp_path / captions), "captions without a recording")
    assert named.detail == (
        f"no recording {stem} lies beside of a kind that is looked for; if b.ac3 is it, convert it, e.g. to .flac"
    )
