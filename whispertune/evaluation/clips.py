"""A row to hear and to see, as it stands in a page: its audio, small enough, and its spectrogram.

clip = make_clip(segment, reader, most_bytes=audio_share(20, 8_000_000))
clip.audio, clip.kind, clip.spectrogram      # FLAC or Ogg Opus, its MIME type, a PNG
player(clip), place(segment)                 # markup of both, and where the row lies
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whispertune.data.audio import SAMPLE_RATE_HZ, AudioReader
from whispertune.data.listen import Measures, measure
from whispertune.data.segments import Segment, name_of
from whispertune.drawing.markup import Markup, data_uri, element, join
from whispertune.drawing.png import COLOURS, encode_png
from whispertune.errors import AudioError

CLIP_S = 30.0  # the rest of a longer row is cut off
SPECTROGRAM_COLUMNS = 600  # at most; a column is 20 ms, or more where that would make more
ALT_CHARACTERS = 60
N_MELS = 80
LOG_RANGE = 2.0  # between the loudest and the faintest that `log_mel` tells apart: 80 dB
SHORTEST_SAMPLES = 400  # one frame
# Tried one after the other until the clip is small enough: lossless, 28 kbit/s, 19 kbit/s.
ENCODINGS = (
    ("audio/flac", "FLAC", "PCM_16", None),
    ("audio/ogg", "OGG", "OPUS", None),
    ("audio/ogg", "OGG", "OPUS", 0.95),
)


@dataclass(frozen=True, slots=True)
class Clip:
    """What there is to hear and see of a row; where its audio cannot be read, `trouble` says why."""

    segment: Segment
    audio: bytes = b""
    kind: str = ""  # MIME type of the audio
    spectrogram: bytes = b""  # PNG
    cut: bool = False  # whether more than `CLIP_S` is there
    measures: Measures | None = None
    trouble: str = ""


def make_clip(segment: Segment, reader: AudioReader, most_bytes: int) -> Clip:
    """Read, encode and draw a row; its audio takes about `most_bytes` at most."""
    cut = segment.duration_s > CLIP_S
    try:
        samples = reader.read(segment.recording, segment.start_s, min(segment.end_s, segment.start_s + CLIP_S))
    except AudioError as error:
        return Clip(segment, trouble=error.what)
    kind, audio = encode(samples, most_bytes)
    return Clip(segment, audio, kind, spectrogram(samples), cut, measure(samples))


def encode(samples: NDArray[np.float32], most_bytes: int) -> tuple[str, bytes]:
    """MIME type and file of 16 kHz mono audio: FLAC where it is small enough, else Opus."""
    import soundfile

    audio = np.clip(samples, -1.0, 1.0)
    found = "", b""
    for kind, container, subtype, level in ENCODINGS:
        file = io.BytesIO()
        options = {} if level is None else {"compression_level": level}
        with soundfile.SoundFile(file, "w", SAMPLE_RATE_HZ, 1, subtype, format=container, **options) as sound:
            sound.write(audio)
        found = kind, file.getvalue()
        if len(found[1]) <= most_bytes:
            break
    return found


def spectrogram(samples: NDArray[np.float32]) -> bytes:
    """Log-mel energies as Whisper takes them, as a PNG: time to the right, 0 to 8 kHz upwards."""
    import torch

    from whispertune.windows.features import log_mel

    audio = np.pad(samples, (0, max(0, SHORTEST_SAMPLES - len(samples))))
    mel = log_mel(torch.from_numpy(np.ascontiguousarray(audio))[None], N_MELS)[0].numpy()  # (80, frames)
    columns = max(1, min(SPECTROGRAM_COLUMNS, mel.shape[1] // 2))
    mel = np.stack([part.mean(axis=1) for part in np.array_split(mel, columns, axis=1)], axis=1)
    levels = 1.0 + (mel - mel.max()) / LOG_RANGE
    return encode_png(np.round((COLOURS - 1) * np.clip(levels, 0.0, 1.0)).astype(np.uint8)[::-1])


def audio_share(clips: int, most_bytes: int, picture_bytes: int = 25_000) -> int:
    """What each of so many clips may take, so that all of them with their pictures, as text, take `most_bytes`."""
    return max(0, most_bytes * 3 // 4 // max(1, clips) - picture_bytes)


def player(clip: Clip) -> Markup:
    """What plays a clip, and its spectrogram; why there is none where its audio cannot be read."""
    if not clip.audio:
        return element("p", f"It cannot be played: {clip.trouble}", class_="facts")
    short = clip.segment.text[:ALT_CHARACTERS]
    seconds = min(clip.segment.duration_s, CLIP_S)
    sound = element(
        "audio",
        controls=True,
        preload="metadata",
        src=data_uri(clip.kind, clip.audio),
        aria_label=f"Audio of: {short}",
    )
    picture = element(
        "img",
        src=data_uri("image/png", clip.spectrogram),
        alt=f"Spectrogram of {seconds:.1f} s, 0 to 8 kHz: {short}",
    )
    ends = f"{seconds:.2f} s"
    scale = element("figcaption", element("span", "0 s"), element("span", "0 to 8 kHz, mel"), element("span", ends))
    return join(sound, element("figure", picture, scale, class_="spectrogram"))


def place(segment: Segment) -> str:
    """Which row it is, who speaks, and where its audio lies."""
    spoken = f", {segment.speaker}" if segment.speaker else ""
    start = f", from {segment.start_s:.2f} s" if segment.start_s else ""
    return f"{segment.id}{spoken}, in {name_of(segment.recording)}{start}"
