"""The process that decodes audio, so that a broken or hostile file cannot hurt the one that trains.

It imports nothing of Whispertune: `audio.AudioReader` starts this file by its path and talks over pipes.
A message is four bytes of length (little-endian), then JSON; samples follow as little-endian float32:

    > {"op": "read", "path": "/data/talk.mp3", "start_s": 12.4, "end_s": 15.0}
    < {"samples": 41600}  and 41,600 x 4 bytes
    > {"op": "probe", "paths": ["/data/a.wav", "/data/b.txt"]}
    < {"duration_s": 3.5, "rate_hz": 8000, "channels": 1}
    < {"error": "is not audio, or of a kind that cannot be read"}
"""

from __future__ import annotations

import json
import math
import os
import signal
import stat
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from typing import Any, BinaryIO, Protocol

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 16_000
OPEN_RECORDINGS = 8  # kept open between reads, so that the next segment costs a seek and no new start
BLOCK_FRAMES = 1 << 20  # decoded at a time
RESAMPLER_EDGE_S = 0.1  # decoded around a stretch, so that resampling it gives what resampling all gives
PREROLL_S = 1.0  # decoded and dropped after a seek: Opus needs 0.08 s, and more to agree to 1e-4
VORBIS_PAGE_S = 20.0  # no page of Ogg Vorbis is longer, unless in silence
GAP_S = 0.1  # timestamps this far from the count of samples mean a hole, not rounding
LONGEST_GAP_S = 60.0

# libav opens playlists, scripts and network addresses too. Only containers of audio are wanted here.
AV_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "aac,aiff,amr,asf,au,avi,caf,flac,flv,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpeg,"
    "mpegts,ogg,w64,wav",
}
# Matroska keeps times in milliseconds. Frames of a codec start on a wider grid, which tells the sample.
AV_GRID_FRAMES = {"opus": 120, "libopus": 120, "vorbis": 64, "aac": 1024, "mp3": 576, "mp3float": 576}

Mono = NDArray[np.float32]


class UnreadableError(Exception):
    """One file, or a stretch of it, that gives no audio; the text goes to the user."""


class Recording(Protocol):
    """An open file: mono frames at its own rate, from any position."""

    rate_hz: int
    channels: int
    duration_s: float

    def blocks(self, start: int, end: int | None) -> Iterator[Mono]: ...

    def close(self) -> None: ...


class SoundfileRecording:
    """WAV, FLAC, Ogg and MP3 through libsndfile."""

    def __init__(self, path: str) -> None:
        self._path, self._spent = path, False
        self._file = soundfile.SoundFile(path)
        self.rate_hz: int = self._file.samplerate
        self.channels: int = self._file.channels
        frames: int = self._file.frames
        # Seeks find the right sample, but MP3 and Ogg need what was before it to decode it. Where the last page
        # of Vorbis begins is only known from the page before.
        self._preroll = round(PREROLL_S * self.rate_hz) if self._file.format in ("MP3", "OGG") else 0
        page = round(VORBIS_PAGE_S * self.rate_hz) if self._file.subtype == "VORBIS" else 0
        self._last_seek = frames - page
        if self._file.format == "MP3" and not self._has_frame(frames - 1):
            frames = sum(len(block) for block in self.blocks(0, None))  # the header of a cut file says too much
        self.duration_s = frames / self.rate_hz

    def blocks(self, start: int, end: int | None) -> Iterator[Mono]:
        position = start
        while end is None or position < end:
            seek_to = max(0, min(position - self._preroll, self._last_seek))  # soundfile seeks after every read
            wanted = BLOCK_FRAMES if end is None else min(BLOCK_FRAMES, end - position)
            if not self._seek(seek_to):
                return
            block = self._read(position - seek_to + wanted)[position - seek_to :]
            if not len(block):
                return
            yield block
            position += len(block)

    def close(self) -> None:
        self._file.close()

    def _has_frame(self, index: int) -> bool:
        return index >= 0 and self._seek(index) and len(self._read(1)) == 1

    def _seek(self, frame: int) -> bool:
        if self._spent:  # an error stays: no later seek of the same handle works
            self._file.close()
            self._file, self._spent = soundfile.SoundFile(self._path), False
        try:
            self._file.seek(frame)
        except soundfile.LibsndfileError:
            self._spent = True  # behind the end
        return not self._spent

    def _read(self, frames: int) -> Mono:
        block = np.full((frames, self.channels), np.nan, dtype=np.float32)
        try:
            block = self._file.read(out=block)  # (frames, channels)
        except soundfile.LibsndfileError:  # a FLAC that ends early: what came before is in the block
            self._spent = True
            missing = np.isnan(block).any(axis=1)
            block = block[: int(missing.argmax())] if missing.any() else block
        return block.mean(axis=1, dtype=np.float32) if self.channels > 1 else block[:, 0]


class AvRecording:
    """Everything else through libav: seek a little before, place frames by their times, drop early ones."""

    def __init__(self, path: str) -> None:
        self._path = path
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
        self._container = av.open(self._path, options=dict(AV_OPTIONS))
        streams = self._container.streams.audio
        if not streams:
            raise UnreadableError("has no sound in it")
        self._stream = streams[0]
        self._to_float = av.AudioResampler(format="fltp")

    def _duration_s(self) -> float:
        base, stream = self._stream.time_base, self._stream
        if stream.duration:
            end_s = ((stream.start_time or 0) + stream.duration) * base
        elif self._container.duration:
            end_s = Fraction(self._container.duration, 1_000_000) + self._origin
        else:  # recorded by a browser: no length is written, the last packet tells it
            packets = (packet for packet in self._container.demux(stream) if packet.pts is not None)
            end_s = max((packet.pts + (packet.duration or 0) for packet in packets), default=0) * base
        return float(end_s - self._origin)

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


def open_recording(path: str) -> Recording:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        raise UnreadableError("there is no such file") from None
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableError("is not a file")
    if not os.access(path, os.R_OK):
        raise UnreadableError("may not be read by this user")
    if not status.st_size:
        raise UnreadableError("the file is empty")
    try:
        return SoundfileRecording(path)
    except Exception:  # not its kind of file: libsndfile and its binding raise several types for that
        return _open_with_av(path)


def _open_with_av(path: str) -> Recording:
    try:
        return AvRecording(path)
    except (UnreadableError, MemoryError):
        raise
    except Exception:  # libav's own errors have many types too
        raise UnreadableError("is not audio, or of a kind that cannot be read") from None


def read(recording: Recording, start_s: float, end_s: float | None) -> Mono:
    """Samples at 16 kHz [start_s, end_s): the same that a slice of the whole resampled recording gives."""
    start = round(start_s * SAMPLE_RATE_HZ)
    end = None if end_s is None else round(end_s * SAMPLE_RATE_HZ)
    if start < 0 or (end is not None and end <= start):
        raise UnreadableError(f"a stretch from {start_s} s to {end_s} s holds no audio")
    samples = np.concatenate([np.empty(0, np.float32), *_resampled(recording, start, end)])
    if not len(samples):
        header = f"its header says {recording.duration_s:.2f} s"
        raise UnreadableError(f"there is no audio from {start_s:.2f} s on ({header})")
    if not np.isfinite(samples).all():
        raise UnreadableError("holds values that are not numbers (NaN or infinity)")
    return samples


def _resampled(recording: Recording, start: int, end: int | None) -> Iterator[Mono]:
    rate_hz = recording.rate_hz
    if rate_hz == SAMPLE_RATE_HZ:
        yield from recording.blocks(start, end)
        return
    # The grids of both rates meet every `unit` frames; a start there keeps the phase of the whole.
    unit_samples = SAMPLE_RATE_HZ // math.gcd(rate_hz, SAMPLE_RATE_HZ)
    unit = rate_hz * unit_samples // SAMPLE_RATE_HZ
    edge_units = math.ceil(RESAMPLER_EDGE_S * rate_hz / unit)
    first_unit = max(0, start // unit_samples - edge_units)
    last_frame = None if end is None else (-(-end // unit_samples) + edge_units) * unit
    at = first_unit * unit_samples
    for block in _stream_resampler(recording.blocks(first_unit * unit, last_frame), rate_hz):
        yield block[max(0, start - at) : None if end is None else max(0, end - at)]
        at += len(block)


def _stream_resampler(blocks: Iterator[Mono], rate_hz: int) -> Iterator[Mono]:
    stream = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)


class OpenRecordings:
    """The recordings read last, kept open; one that changed on disk is opened again."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[str, int, int], Recording] = OrderedDict()

    def get(self, path: str) -> Recording:
        try:
            status = os.stat(path)
            key = (path, status.st_size, status.st_mtime_ns)
        except (OSError, ValueError):
            raise UnreadableError("there is no such file") from None
        if key not in self._open:
            self._open[key] = open_recording(path)
            if len(self._open) > OPEN_RECORDINGS:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(key)
        return self._open[key]

    def drop(self, path: str) -> None:
        for key in [key for key in self._open if key[0] == path]:
            self._open.pop(key).close()


def write_message(stream: BinaryIO, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode("ascii")
    stream.write(len(data).to_bytes(4, "little") + data)


def read_message(stream: BinaryIO) -> dict[str, Any] | None:
    """The next message; None where the other side has gone."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    data = stream.read(size := int.from_bytes(head, "little"))
    return dict(json.loads(data)) if len(data) == size else None


def _answer_probe(path: str) -> tuple[dict[str, Any], bytes]:
    recording = open_recording(path)
    recording.close()
    facts = {"duration_s": recording.duration_s, "rate_hz": recording.rate_hz, "channels": recording.channels}
    return facts, b""


def _answer_read(cache: OpenRecordings, path: str, start_s: float, end_s: float | None) -> tuple[dict[str, Any], bytes]:
    try:
        samples = read(cache.get(path), start_s, end_s)
    except BaseException:
        cache.drop(path)  # its state is not to be trusted
        raise
    return {"samples": len(samples)}, samples.astype("<f4", copy=False).tobytes()


def _send(answers: BinaryIO, work: Callable[[], tuple[dict[str, Any], bytes]]) -> None:
    samples = b""
    try:
        header, samples = work()
    except UnreadableError as error:
        header = {"error": str(error)}
    except MemoryError:
        header = {"error": "is too long for the memory of this machine"}
    except Exception as error:
        header = {"error": f"does not decode ({type(error).__name__}: {error})"}
    write_message(answers, header)
    answers.write(samples)
    answers.flush()


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    cache = OpenRecordings()
    while (message := read_message(requests)) is not None:
        if message["op"] == "probe":
            for path in message["paths"]:
                _send(answers, partial(_answer_probe, path))
        else:
            stretch = message["path"], message["start_s"], message["end_s"]
            _send(answers, partial(_answer_read, cache, *stretch))


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent; this process ends with its pipe
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get between the answers
    try:
        serve(sys.stdin.buffer, answers)
    except BrokenPipeError:
        os._exit(0)  # the parent has gone: nobody is left to tell


if __name__ == "__main__":
    main()
