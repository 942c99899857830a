"""Everything that libsndfile does not read, through libav."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from .common import PREROLL_S, Mono, Source, UnreadableError, readable

GAP_S = 0.1  # timestamps this far from the count of samples mean a hole, not rounding
LONGEST_GAP_S = 60.0

# libav opens playlists, scripts and network addresses too. Only containers of audio are wanted here.
AV_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "aac,aiff,amr,asf,au,avi,caf,flac,flv,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpeg,"
    "mpegts,ogg,w64,wav",
}
GUESSED = ("aac", "amr")  # raw packets, whose length libav tells by the bit rate of the first ones
# Matroska keeps times in milliseconds. Frames of a codec start on a wider grid, which tells the sample.
AV_GRID_FRAMES = {"opus": 120, "libopus": 120, "vorbis": 64, "aac": 1024, "mp3": 576, "mp3float": 576}


class AvRecording:
    """Everything else through libav: seek a little before, place frames by their times, drop early ones."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._open()
        if (first := next((frame for frame, _ in self._frames()), None)) is None:
            raise UnreadableError("holds no audio that decodes")
        self.rate_hz: int = first.sample_rate
        self.channels: int = first.layout.nb_channels
        base: Fraction = self._stream.time_base
        codec = self._stream.codec_context.name
        self._grid = AV_GRID_FRAMES.get(codec, 1) if base * self.rate_hz > 1 else 1
        self._origin = Fraction(max(0, self._container.start_time or 0), 1_000_000)
        self._first = round(self._exact_position(first))
        self._phase = (self._first + first.samples) % self._grid  # of the second frame: the first may be trimmed
        self.duration_s = self._duration_s()

    def blocks(self, start: int, end: int | None) -> Iterator[Mono]:
        position = start
        for at, block, damaged in self._placed_from(start):
            if at + len(block) <= position:
                continue
            if at > position:
                missing = (at if end is None else min(at, end)) - position
                if damaged or missing > LONGEST_GAP_S * self.rate_hz:
                    raise UnreadableError(f"is damaged at about {position / self.rate_hz:.1f} s")
                yield np.zeros(missing, dtype=np.float32)
                position += missing
            piece = block[position - at : None if end is None else max(0, end - at)]
            position += len(piece)
            yield piece
            if end is not None and position >= end:
                return

    def close(self) -> None:
        self._container.close()

    def _open(self) -> None:
        import av  # a tenth of a second that WAV, FLAC, Ogg and MP3 do not need

        av.logging.set_level(av.logging.PANIC)
        self._broken_data = av.FFmpegError
        self._container = av.open(readable(self._source), options=dict(AV_OPTIONS))
        streams = self._container.streams.audio
        if not streams:
            raise UnreadableError("has no sound in it")
        self._stream = streams[0]
        self._to_float = av.AudioResampler(format="fltp")

    def _duration_s(self) -> float:
        base, stream = self._stream.time_base, self._stream
        if self._container.format.name in GUESSED:
            end_s = self._last_packet_s()
        elif stream.duration:
            end_s = ((stream.start_time or 0) + stream.duration) * base
        elif self._container.duration:
            end_s = Fraction(self._container.duration, 1_000_000) + self._origin
        else:  # recorded by a browser
            end_s = self._last_packet_s()
        return float(end_s - self._origin)

    def _last_packet_s(self) -> Fraction:
        """The end of the last packet, for what no length is written in."""
        packets = (packet for packet in self._container.demux(self._stream) if packet.pts is not None)
        end: int = max((packet.pts + (packet.duration or 0) for packet in packets), default=0)
        return end * Fraction(self._stream.time_base)

    def _placed_from(self, start: int) -> Iterator[tuple[int, Mono, bool]]:
        """Decoded blocks with their positions, from at or before `start`."""
        target_s = start / self.rate_hz - PREROLL_S
        if target_s > PREROLL_S and self._seek(target_s):
            placed = self._placed()
            first = next(placed, None)
            if first is not None and first[0] <= start:
                yield first
                yield from placed
                return
        self.close()  # a seek to the start makes the decoder trim a second time, and some files cannot seek
        self._open()
        yield from self._placed(self._first)

    def _seek(self, time_s: float) -> bool:
        offset = int((Fraction(time_s) + self._origin) / self._stream.time_base)
        try:
            self._container.seek(offset, stream=self._stream)
        except self._broken_data:
            return False
        return True

    def _placed(self, following: int | None = None) -> Iterator[tuple[int, Mono, bool]]:
        for frame, damaged in self._frames():
            if frame.sample_rate != self.rate_hz:
                raise UnreadableError(f"changes from {self.rate_hz} Hz to {frame.sample_rate} Hz midway")
            at = self._position(frame)
            if following is not None and not damaged and abs(at - following) <= GAP_S * self.rate_hz:
                at = following  # rounded times; the count of samples is exact
            block = np.concatenate([part.to_ndarray() for part in self._to_float.resample(frame)], axis=1)
            following = at + block.shape[1]
            yield at, block.mean(axis=0, dtype=np.float32), damaged  # (channels, frames) -> (frames,)

    def _frames(self) -> Iterator[tuple[Any, bool]]:
        """Frames, each with whether data before it did not decode."""
        damaged = False
        for packet in self._container.demux(self._stream):
            try:
                frames = packet.decode()
            except self._broken_data:
                damaged = True
                continue
            for frame in frames:
                yield frame, damaged
                damaged = False

    def _position(self, frame: Any) -> int:
        steps = round((self._exact_position(frame) - self._phase) / self._grid)
        return int(self._phase + self._grid * steps)

    def _exact_position(self, frame: Any) -> Fraction:
        if frame.pts is None:
            raise UnreadableError("has no times in it")
        return Fraction((frame.pts * frame.time_base - self._origin) * self.rate_hz)
