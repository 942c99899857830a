"""WAV in all its kinds: plain ones are read by hand, odd ones are left to libsndfile, and both agree."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from whispertune.data.audio import SAMPLE_RATE_HZ, AudioInfo, AudioReader
from whispertune.data.decoding.libsndfile import PlainWav
from whispertune.data.segments import Held
from whispertune.errors import AudioError


def noise(frames: int, channels: int) -> np.ndarray:
    return np.random.default_rng(frames).uniform(-1, 1, (frames, channels)).astype(np.float32)


def expected(path: Path) -> np.ndarray:
    samples, _ = soundfile.read(path, dtype="float32", always_2d=True)
    return np.asarray(samples.mean(axis=1, dtype=np.float32))


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize(
    ("kind", "subtype", "plain"),
    [
        ("WAV", "PCM_16", True),
        ("WAV", "PCM_U8", False),
        ("WAV", "PCM_24", False),
        ("WAV", "FLOAT", False),
        ("WAV", "ALAW", False),
        ("WAVEX", "PCM_16", False),
        ("RF64", "PCM_16", False),
        ("W64", "PCM_16", False),
        ("AIFF", "PCM_16", False),
    ],
)
def test_every_kind_gives_what_libsndfile_gives(
    reader: AudioReader, tmp_path: Path, kind: str, subtype: str, channels: int, plain: bool
) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, noise(5001, channels), SAMPLE_RATE_HZ, format=kind, subtype=subtype)
    opened = PlainWav.open(str(path))
    assert (opened is not None) == plain
    if opened:
        opened.close()
    assert reader.probe(path) == AudioInfo(5001 / SAMPLE_RATE_HZ, SAMPLE_RATE_HZ, channels)
    np.testing.assert_allclose(reader.read(path), expected(path), atol=1e-7)
    np.testing.assert_allclose(reader.read(path, 0.1, 0.2), expected(path)[1600:3200], atol=1e-7)
    held = Held("x", path.read_bytes())
    np.testing.assert_array_equal(reader.read(held, 0.1, 0.2), reader.read(path, 0.1, 0.2))


def test_odd_and_broken_headers_are_left_to_libsndfile(reader: AudioReader, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "good.wav", noise(5000, 1), SAMPLE_RATE_HZ)
    good = (tmp_path / "good.wav").read_bytes()
    head, body = good[:36], good[44:]
    listed = b"LIST" + struct.pack("<I", 4) + b"INFO"
    odd = {
        "cut": good[:5044],
        "streamed": head + b"data" + struct.pack("<I", 0xFFFFFFFF) + body,
        "listed": head + listed + b"data" + struct.pack("<I", len(body)) + body,
    }
    for name, data in odd.items():
        path = tmp_path / f"{name}.wav"
        path.write_bytes(data)
        assert PlainWav.open(data) is None
        np.testing.assert_array_equal(reader.read(path), expected(path))
    for name, data in {"head": good[:30], "none": head + b"data\0\0\0\0"}.items():
        with pytest.raises(AudioError):
            reader.read(Held(name, data))


def test_what_follows_the_samples_is_not_heard(reader: AudioReader, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.WAV", noise(5000, 1), SAMPLE_RATE_HZ)
    data = (tmp_path / "x.WAV").read_bytes()
    (tmp_path / "x.WAV").write_bytes(data + b"LIST" + struct.pack("<I", 2000) + b"\x7f" * 2000)
    assert len(reader.read(tmp_path / "x.WAV")) == 5000


@given(st.binary(max_size=80), st.binary(max_size=20))
def test_no_bytes_break_the_header_s_reader(head: bytes, tail: bytes) -> None:
    for data in (head + tail, b"RIFF" + head + tail, b"RIFF1234WAVEfmt \x10\0\0\0\1\0" + head + b"data" + tail):
        opened = PlainWav.open(data)
        if opened is not None:
            assert 0 < sum(len(block) for block in opened.blocks(0, None)) <= len(data)


@pytest.mark.parametrize("stretch", [(0.0, None), (0.25, 0.75), (0.9, 5.0), (0.0, 1e-5)])
@pytest.mark.parametrize(("rate_hz", "channels"), [(16_000, 1), (16_000, 2), (8_000, 1)])
def test_a_file_read_without_a_child_gives_what_the_child_gives(
    tmp_path: Path, stretch: tuple[float, float | None], rate_hz: int, channels: int
) -> None:
    path = tmp_path / "a.WAV"
    soundfile.write(path, noise(rate_hz, channels), rate_hz, format="WAV", subtype="PCM_16")
    with AudioReader() as reader:

        def told(recording: Path | Held) -> tuple[bytes, str]:
            try:
                return reader.read(recording, *stretch).tobytes(), ""
            except AudioError as error:
                return b"", error.what

        assert told(path) == told(Held("a.wav", path.read_bytes()))


def test_only_plain_wav_files_are_read_without_a_child(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "plain.wav", noise(16_000, 1), 16_000, subtype="PCM_16")
    soundfile.write(tmp_path / "float.wav", noise(16_000, 1), 16_000, subtype="FLOAT")
    with AudioReader() as reader:
        assert len(reader.read(tmp_path / "plain.wav", 0.5)) == 8_000
        assert reader.pids == []
        assert len(reader.read(tmp_path / "float.wav", 0.5)) == 8_000
        assert len(reader.pids) == 1
        with pytest.raises(AudioError, match="there is no audio"):
            reader.read(tmp_path / "plain.wav", 1.5)
