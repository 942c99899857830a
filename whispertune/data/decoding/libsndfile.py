"""WAV, FLAC, Ogg and MP3: plain WAV by hand, the others through libsndfile."""

from __future__ import annotations

import io
from collections.abc import Iterator
from struct import Struct
from typing import BinaryIO, Self

import numpy as np
import soundfile

from .common import BLOCK_FRAMES, PREROLL_S, Block, Mono, Source, mean, readable

MP3_PREROLL_S = 0.4  # a frame may lean on 255 bytes before it: at 8 kbit/s eight frames of 36 ms
VORBIS_PAGE_S = 20.0  # no page of Ogg Vorbis is longer, unless in silence
UNKNOWN_FRAMES = 2**63 - 1  # libsndfile's word for it
WAV_HEAD = Struct("<4s4x8sIHHIIHH4sI")  # where nothing but the format comes before the samples
WAV_HEAD_BYTES = WAV_HEAD.size  # 44


class PlainWav:
    """The commonest WAV, 16 bits and nothing odd about it: its samples as they are, in half libsndfile's time."""

    def __init__(self, file: BinaryIO, rate_hz: int, channels: int, frames: int) -> None:
        self._file, self._frames = file, frames
        self.rate_hz, self.channels = rate_hz, channels

    @classmethod
    def open(cls, source: Source) -> Self | None:
        """None where it is of another kind, or anything about it is not as usual."""
        head = source[:4] if isinstance(source, bytes) else source[-4:].lower()
        if head not in (b"RIFF", ".wav"):
            return None
        file = open(source, "rb") if isinstance(source, str) else io.BytesIO(source)  # noqa: SIM115
        head = file.read(WAV_HEAD_BYTES)
        if len(head) == WAV_HEAD_BYTES:
            riff, wave, length, kind, channels, rate_hz, _, width, bits, data, size = WAV_HEAD.unpack(head)
            usual = (riff, wave, length, kind, bits, data) == (b"RIFF", b"WAVEfmt ", 16, 1, 16, b"data")
            whole = 0 < size <= file.seek(0, io.SEEK_END) - WAV_HEAD_BYTES
            if usual and whole and rate_hz and channels and width == 2 * channels:
                return cls(file, rate_hz, channels, size // width)
        file.close()
        return None

    @property
    def duration_s(self) -> float:
        return self._frames / self.rate_hz

    def blocks(self, start: int, end: int | None) -> Iterator[Block]:
        end = self._frames if end is None else min(end, self._frames)
        for at in range(start, end, BLOCK_FRAMES):
            self._file.seek(WAV_HEAD_BYTES + at * 2 * self.channels)
            data = self._file.read(min(BLOCK_FRAMES, end - at) * 2 * self.channels)
            block = np.frombuffer(data, "<i2")
            yield block if self.channels == 1 else mean(block.reshape(-1, self.channels))

    def close(self) -> None:
        self._file.close()


class _SoundFile(soundfile.SoundFile):  # type: ignore[misc]  # it has no types
    """A SoundFile that goes on where it stands: its parent seeks after each read, which resets the decoder of MP3."""

    def seekable(self) -> bool:
        return False


class SoundfileRecording:
    """WAV, FLAC, Ogg and MP3 through libsndfile."""

    def __init__(self, source: Source) -> None:
        self._source, self._spent = source, False
        self._file = _SoundFile(readable(source))
        self._at = 0  # the frame that the decoder gives next
        self.rate_hz: int = self._file.samplerate
        self.channels: int = self._file.channels
        self._frames: int = self._file.frames
        self._duration_s: float | None = None
        self._dtype = np.int16 if self._file.subtype == "PCM_16" else np.float32
        # Seeks find the right sample, but MP3 and Ogg need what was before it to decode it. Where the last page
        # of Vorbis begins is only known from the page before.
        preroll_s = {"MP3": MP3_PREROLL_S, "OGG": PREROLL_S}.get(self._file.format, 0.0)
        self._preroll = round(preroll_s * self.rate_hz)
        page = round(VORBIS_PAGE_S * self.rate_hz) if self._file.subtype == "VORBIS" else 0
        self._last_seek = self._frames - page

    @property
    def duration_s(self) -> float:
        if self._duration_s is None:
            frames = self._frames if self._says_its_length() else sum(len(block) for block in self.blocks(0, None))
            self._duration_s = frames / self.rate_hz
        return self._duration_s

    def blocks(self, start: int, end: int | None) -> Iterator[Block]:
        end = self._frames if end is None else min(end, self._frames)
        position = start
        while position < end:
            if not self._approach(position):
                return
            early = position - self._at
            block = self._read(early + min(BLOCK_FRAMES, end - position))[early:]
            if not len(block):
                return
            yield block
            position += len(block)

    def close(self) -> None:
        self._file.close()

    def _approach(self, position: int) -> bool:
        """Stand at the position, or before it by what decoding it takes. False: there is nothing."""
        if not self._spent and self._at <= position <= self._at + self._preroll:
            return True  # going on is as good as a seek
        return self._seek(max(0, min(position - self._preroll, self._last_seek)))

    def _says_its_length(self) -> bool:
        """Whether the header does: a FLAC out of a pipe has none in it, and that of a cut MP3 is too much."""
        return self._frames < UNKNOWN_FRAMES and (self._file.format != "MP3" or self._has_frame(self._frames - 1))

    def _has_frame(self, index: int) -> bool:
        return index >= 0 and self._seek(index) and len(self._read(1)) == 1

    def _seek(self, frame: int) -> bool:
        if self._spent:  # an error stays: no later seek of the same handle works
            self._file.close()
            self._file, self._spent = _SoundFile(readable(self._source)), False
        try:
            self._at = self._file.seek(frame)
        except soundfile.LibsndfileError:
            self._spent = True  # behind the end
        return not self._spent

    def _read(self, frames: int) -> Block:
        shape = (frames, self.channels) if self.channels > 1 else (frames,)
        block = np.empty(shape, self._dtype)
        try:
            block = self._file.read(out=block)
            self._at += len(block)
        except soundfile.LibsndfileError:  # a FLAC that ends early
            block = self._read_before_damage(shape)
        return mean(block) if block.ndim > 1 else block

    def _read_before_damage(self, shape: tuple[int, ...]) -> Mono:
        """The same again in numbers that can say where they end."""
        self._spent = True
        block = np.full(shape, np.nan, dtype=np.float32)
        if self._seek(self._at):
            try:
                block = self._file.read(out=block)
            except soundfile.LibsndfileError:
                self._spent = True
        missing = np.isnan(block if block.ndim == 1 else block.sum(axis=1))
        self._at += len(block)
        return block[: int(missing.argmax())] if missing.any() else block
