"""Real audio files of every kind, made once: a voice-like sweep, encoded with libsndfile and libav."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

LENGTH_S = 20.0
Encode = Callable[[Path, NDArray[np.float32], int], Path]


def sweep(duration_s: float, rate_hz: int) -> NDArray[np.float32]:
    """A tone that rises and swells, so that no two places of it are alike."""
    time = np.arange(round(duration_s * rate_hz)) / rate_hz
    tone = 0.3 * np.sin(2 * np.pi * (150 + 20 * time) * time) * (1 + 0.5 * np.sin(5 * time))
    return tone.astype(np.float32)


def encode_with_libav(path: Path, samples: NDArray[np.float32], rate_hz: int, codec: str) -> Path:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate_hz, layout="mono")
        stream.bit_rate = 64_000  # WMA has no default
        stream.codec_context.open()
        size = stream.codec_context.frame_size
        kind = "fltp" if stream.format.name == "fltp" else "flt"
        for start in range(0, len(samples), size):
            block = np.ascontiguousarray(samples[None, start : start + size])  # (1, frames)
            frame = av.AudioFrame.from_ndarray(block, format=kind, layout="mono")
            frame.sample_rate, frame.pts = rate_hz, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def encode_with_soundfile(path: Path, samples: NDArray[np.float32], rate_hz: int, **kind: str) -> Path:
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with soundfile.SoundFile(path, "w", rate_hz, channels, **kind) as file:
        for start in range(0, len(samples), 4800):  # Vorbis does not survive long blocks
            file.write(samples[start : start + 4800])
    return path


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same twenty seconds in each format."""
    folder = tmp_path_factory.mktemp("recordings")
    phone, cd, studio = sweep(LENGTH_S, 8000), sweep(LENGTH_S, 44_100), sweep(LENGTH_S, 48_000)
    encode_with_soundfile(folder / "a.wav", sweep(LENGTH_S, 16_000), 16_000)
    encode_with_soundfile(folder / "phone.wav", phone, 8000, subtype="ULAW")
    encode_with_soundfile(folder / "stereo.flac", np.stack([cd, 0.5 * cd], axis=1), 44_100)
    encode_with_soundfile(folder / "odd.wav", sweep(LENGTH_S, 11_025), 11_025, subtype="FLOAT")
    encode_with_soundfile(folder / "a.mp3", cd, 44_100)
    encode_with_soundfile(folder / "a.ogg", cd, 44_100, format="OGG", subtype="VORBIS")
    encode_with_soundfile(folder / "a.opus", studio, 48_000, format="OGG", subtype="OPUS")
    encode_with_libav(folder / "a.m4a", cd, 44_100, "aac")
    encode_with_libav(folder / "a.mp4", studio, 48_000, "aac")
    encode_with_libav(folder / "a.mkv", cd, 44_100, "aac")
    encode_with_libav(folder / "a.webm", studio, 48_000, "libopus")
    return folder
