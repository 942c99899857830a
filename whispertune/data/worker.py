"""The process that decodes audio, so that a broken or hostile file cannot hurt the one that trains.

It imports nothing of Whispertune: `child.Child` starts this file by its path and talks over pipes.
A message is four bytes of length (little-endian), then JSON. The bytes of a recording that is no file follow
their request. Samples, little-endian int16 or float32, are left in memory that both sides share, until the next
request; more than fit there follow their answer:

    > {"op": "read", "path": "/data/talk.mp3", "start_s": 12.4, "end_s": 15.0}
    < {"samples": 41600, "type": "<f4", "shared": true}
    > {"op": "read", "bytes": 96000044, "start_s": 0.0, "end_s": 3000.0}  and 96,000,044 bytes
    < {"samples": 48000000, "type": "<i2"}  and 48,000,000 x 2 bytes
    > {"op": "read", "start_s": 1.0, "end_s": 2.0}  the bytes that came last
    > {"op": "probe", "paths": ["/data/a.wav", "/data/b.txt"]}
    < {"duration_s": 3.5, "rate_hz": 8000, "channels": 1}
    < {"error": "is not audio, or of a kind that cannot be read"}
    > {"op": "probe", "bytes": 96044}  and 96,044 bytes
"""

from __future__ import annotations

import importlib.util
import json
import mmap
import os
import signal
import sys
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from whispertune.data import decoding

ARENA_BYTES = 1 << 22  # shared, for answers: a minute of float32
OPEN_RECORDINGS = 8  # kept open between reads, so that the next segment costs a seek and no new start

Answer = tuple[dict[str, Any], bytes | memoryview]


def load_decoding() -> Any:
    """The package `decoding` beside this file, by its path: nothing else there becomes importable for it."""
    folder = Path(__file__).with_name("decoding")
    spec = importlib.util.spec_from_file_location("decoding", folder / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules["decoding"] = module = importlib.util.module_from_spec(spec)  # it imports its own parts
    spec.loader.exec_module(module)
    return module


class Worker:
    """Answers requests. Keeps the files read last open, and the bytes that came last."""

    def __init__(self, requests: BinaryIO, answers: int, arena: mmap.mmap) -> None:
        self._requests, self._answers, self._arena = requests, answers, arena
        self._decoding = load_decoding()
        self._files: OrderedDict[tuple[str, int, int], decoding.Recording] = OrderedDict()
        self._held: decoding.Recording | None = None

    def serve(self) -> None:
        while (message := read_message(self._requests)) is not None:
            data = self._requests.read(message["bytes"]) if "bytes" in message else None
            if data is not None and len(data) < message["bytes"]:
                return  # the other side has gone
            if message["op"] == "read":
                self._send(partial(self._read, message, data))
            elif data is not None:
                self._send(partial(self._probe, data))
            else:
                for path in message["paths"]:
                    self._send(partial(self._probe, path))

    def _probe(self, source: str | bytes) -> Answer:
        if isinstance(source, str):
            self._decoding.check(source)
        recording = self._decoding.open_recording(source)
        facts = {"duration_s": recording.duration_s, "rate_hz": recording.rate_hz, "channels": recording.channels}
        recording.close()
        return facts, b""

    def _read(self, message: dict[str, Any], data: bytes | None) -> Answer:
        path = message.get("path")
        try:
            recording = self._file(path) if path is not None else self._bytes(data)
            samples = self._decoding.read(recording, message["start_s"], message["end_s"])
        except BaseException:
            self._drop(path)  # its state is not to be trusted
            raise
        samples = samples.astype(samples.dtype.newbyteorder("<"), order="C", copy=False)
        return {"samples": len(samples), "type": samples.dtype.str}, memoryview(samples.view("u1"))

    def _file(self, path: str) -> decoding.Recording:
        """The open recording; one that changed on disk is opened again."""
        status = self._decoding.check(path)
        key = (path, status.st_size, status.st_mtime_ns)
        if key not in self._files:
            self._files[key] = self._decoding.open_recording(path)
            if len(self._files) > OPEN_RECORDINGS:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(key)
        return self._files[key]

    def _bytes(self, data: bytes | None) -> decoding.Recording:
        if data is not None:
            self._drop(None)
            self._held = self._decoding.open_recording(data)
        assert self._held is not None
        return self._held

    def _drop(self, path: str | None) -> None:
        if path is None and self._held is not None:
            self._held.close()
            self._held = None
        for key in [key for key in self._files if key[0] == path]:
            self._files.pop(key).close()

    def _send(self, work: Callable[[], Answer]) -> None:
        samples: bytes | memoryview = b""
        try:
            header, samples = work()
        except self._decoding.UnreadableError as error:
            header = {"error": str(error)}
        except MemoryError:
            header = {"error": "is too long for the memory of this machine"}
        except Exception as error:
            header = {"error": f"does not decode ({type(error).__name__}: {error})"}
        if samples and len(samples) <= ARENA_BYTES:
            self._arena[: len(samples)] = samples
            header, samples = {**header, "shared": True}, b""
        parts = [memoryview(message_bytes(header)), memoryview(samples)]
        while any(parts):  # all in one system call, which wakes the reader once
            sent = os.writev(self._answers, parts)
            parts = [parts[0][sent:], parts[1][max(0, sent - len(parts[0])) :]]


def message_bytes(message: dict[str, Any]) -> bytes:
    data = json.dumps(message).encode("ascii")
    return len(data).to_bytes(4, "little") + data


def read_message(stream: BinaryIO) -> dict[str, Any] | None:
    """The next message; None where the other side has gone."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    data = stream.read(size := int.from_bytes(head, "little"))
    return dict(json.loads(data)) if len(data) == size else None


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent; this process ends with its pipe
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints must not get between the answers
    try:
        Worker(sys.stdin.buffer, answers, mmap.mmap(int(sys.argv[1]), ARENA_BYTES)).serve()
    except BrokenPipeError:
        os._exit(0)  # the parent has gone: nobody is left to tell


if __name__ == "__main__":
    main()
