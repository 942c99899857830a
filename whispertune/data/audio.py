"""Reading recordings of any kind as 16 kHz mono, through a process that may break without harm.

    with AudioReader() as audio:
        info = audio.probe(Path("talk.m4a"))                       # AudioInfo(duration_s=61.2, ...)
        samples = audio.read(Path("talk.m4a"), start_s=12.4, end_s=15.0)  # float32 (41600,)

A file that does not decode, or crashes the decoder, or keeps it too long, is an `AudioError` and no more.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

import numpy as np
from numpy.typing import NDArray

from whispertune.data import worker
from whispertune.errors import AudioError

SAMPLE_RATE_HZ = worker.SAMPLE_RATE_HZ
TIME_LIMIT_S = 300.0  # a three-hour M4A decodes whole in well under a minute

_FIX_FILE = "play it to see whether it is whole, or convert it, e.g. with: ffmpeg -i FILE out.flac"


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a recording says of itself."""

    duration_s: float
    sample_rate_hz: int
    channels: int


class AudioReader:
    """Reads recordings; one child process decodes, starts when first needed and again after it has died.

    Threads may share a reader; their reads take turns. A forked process starts a child of its own.
    """

    def __init__(self, time_limit_s: float = TIME_LIMIT_S) -> None:
        self._time_limit_s = time_limit_s
        self._lock = threading.Lock()
        self._child: _Child | None = None

    @property
    def pid(self) -> int | None:
        """The process that decodes; None while there is none."""
        return self._child.process.pid if self._child else None

    def probe(self, path: Path) -> AudioInfo:
        """Length, rate and channels."""
        found = self.probe_many([path])[0]
        if isinstance(found, AudioError):
            raise found
        return found

    def probe_many(self, paths: Sequence[Path]) -> list[AudioInfo | AudioError]:
        """`probe` of all in one round trip, thousands of headers a second; errors stand in the list."""
        found: list[AudioInfo | AudioError] = []
        with self._lock:
            while len(found) < len(paths):  # once, and again behind each file that kills the child
                found += self._probe_until_death(paths[len(found) :])
        return found

    def read(self, path: Path, start_s: float = 0.0, end_s: float | None = None) -> NDArray[np.float32]:
        """Samples of [start_s, end_s), (samples,): the mean of the channels at 16 kHz, about in -1 to 1.

        Behind the end of the recording there is nothing: less comes back; where all is behind it, an error.
        """
        request = {"op": "read", "path": _absolute(path), "start_s": start_s, "end_s": end_s}
        with self._lock, self._alive(path) as child, child.deadline(self._time_limit_s):
            child.ask(request)
            answer = child.answer()
            samples = child.samples(answer.get("samples", 0))
        if "error" in answer:
            raise AudioError(answer["error"], where=str(path), fix=_FIX_FILE)
        return samples

    def close(self) -> None:
        """End the child process; the next call would start a new one."""
        with self._lock:
            self._end_child()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _probe_until_death(self, paths: Sequence[Path]) -> Iterator[AudioInfo | AudioError]:
        path = paths[0]
        try:
            with self._alive(path) as child, child.deadline(self._time_limit_s) as extend:
                child.ask({"op": "probe", "paths": [_absolute(path) for path in paths]})
                for path in paths:
                    extend()
                    yield _info(child.answer(), path)
        except AudioError as error:
            yield AudioError(error.what, where=str(path), fix=error.fix)

    @contextmanager
    def _alive(self, path: Path) -> Iterator[_Child]:
        """The child, started where there is none. Its death inside the block is an error of this file."""
        if self._child and (self._child.owner_pid != os.getpid() or self._child.process.poll() is not None):
            self._end_child()
        self._child = self._child or _Child()
        whole = False
        try:
            yield self._child
            whole = True
        except (EOFError, OSError):
            late = self._child.timed_out
            what = f"kept the decoder busy for more than {self._time_limit_s:g} s" if late else "broke the decoder"
            raise AudioError(what, where=str(path), fix=_FIX_FILE) from None
        finally:
            if not whole:  # also after Ctrl-C: an answer half read would be taken for the next
                self._end_child()

    def _end_child(self) -> None:
        if self._child:
            self._child.end()
        self._child = None


class _Child:
    """A running worker and the pipes to it."""

    def __init__(self) -> None:
        # By path, not by -m: nothing of the caller's folder or main module is imported in there.
        command = [sys.executable, "-P", worker.__file__]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.owner_pid = os.getpid()
        self.timed_out = False
        self._requests = cast(BinaryIO, self.process.stdin)
        self._answers = cast(BinaryIO, self.process.stdout)

    def ask(self, request: dict[str, Any]) -> None:
        worker.write_message(self._requests, request)
        self._requests.flush()

    def answer(self) -> dict[str, Any]:
        answer = worker.read_message(self._answers)
        if answer is None:
            raise EOFError
        return answer

    def samples(self, count: int) -> NDArray[np.float32]:
        samples = np.empty(count, dtype="<f4")
        view = memoryview(samples.view(np.uint8))  # type: ignore[arg-type]  # arrays are buffers
        while view:
            read = self._answers.readinto(view)  # type: ignore[attr-defined]  # buffered pipes have it
            if not read:
                raise EOFError
            view = view[read:]
        return samples.astype(np.float32, copy=False)

    @contextmanager
    def deadline(self, limit_s: float) -> Iterator[Callable[[], None]]:
        """Kill the process where the block takes longer; reading from it then ends. Its value extends it."""
        done, late_at = threading.Event(), [time.monotonic() + limit_s]

        def watch() -> None:
            while not done.wait(max(0.0, late_at[0] - time.monotonic())):
                if time.monotonic() >= late_at[0]:
                    self.timed_out = True
                    self.process.kill()
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield lambda: late_at.__setitem__(0, time.monotonic() + limit_s)
        finally:
            done.set()
            watcher.join()  # so that no late kill can hit the next file

    def end(self) -> None:
        if self.owner_pid == os.getpid():
            self.process.kill()
            self.process.wait()
        else:
            self.process.returncode = 0  # another process owns it and waits for it
        for pipe in (self._requests, self._answers):
            with suppress(OSError):  # what was buffered for a dead process
                pipe.close()


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # a name such as "concat:a|b" must stay a name


def _info(answer: dict[str, Any], path: Path) -> AudioInfo | AudioError:
    if "error" in answer:
        return AudioError(answer["error"], where=str(path), fix=_FIX_FILE)
    return AudioInfo(answer["duration_s"], answer["rate_hz"], answer["channels"])
