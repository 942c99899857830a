"""A decoding process, the pipes to it, and the few of them that threads share.

    children = Children(2)
    with children.borrow() as lent:          # waits while both are busy
        child = lent.alive()
        child.send({"op": "probe", "paths": ["/data/a.wav"]})
        child.answer()                           # {"duration_s": 3.5, "rate_hz": 8000, "channels": 1}

Nothing here waits for ever: each exchange has a time limit, and `TooLateError` where it has passed.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whispertune.data import worker

PIPE_BYTES = 1 << 20  # the usual 64 KiB wake both sides after every second of a recording
# glibc gives memory back after each read and faults it in again for the next: 40 % of the time for MP3 at 48 kHz.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(1 << 28), "MALLOC_MMAP_THRESHOLD_": str(1 << 25)}
START_S = 60.0  # a busy machine may take seconds to import numpy
HEAD_BYTES = 4096  # read at a time until a message is whole


class TooLateError(Exception):
    """The child did not answer, or did not listen, in its time."""


class Child:
    """A running worker and the pipes to it. `kept` says which bytes it holds, and is the caller's to set."""

    def __init__(self) -> None:
        arena = _shared_memory()
        # By path, not by -m: nothing of the caller's folder or main module is imported in there.
        command = [sys.executable, "-P", worker.__file__, str(arena)]
        self.process = subprocess.Popen(
            command,
            bufsize=0,
            pass_fds=[arena],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **KEEP_MEMORY},
        )
        self._arena = np.frombuffer(mmap.mmap(arena, worker.ARENA_BYTES), np.uint8)
        os.close(arena)
        self.owner_pid = os.getpid()
        self.kept: Hashable = None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._requests, self._answers = self.process.stdin.fileno(), self.process.stdout.fileno()
        self._polls = {self._requests: select.poll(), self._answers: select.poll()}
        self._polls[self._requests].register(self._requests, select.POLLOUT)
        self._polls[self._answers].register(self._answers, select.POLLIN)
        for end in self._polls:
            os.set_blocking(end, False)  # a child that does not listen, or is slow, must not stop us
            with suppress(OSError, AttributeError):  # Linux alone can, within a quota
                fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._ahead = bytearray()  # read from the pipe and not yet asked for
        self._late_at = 0.0
        self._heard = False

    def allow(self, limit_s: float) -> None:
        """From now on the child has this long, and before its first answer the time to start too."""
        self._late_at = time.monotonic() + limit_s + (0.0 if self._heard else START_S)

    def send(self, request: dict[str, Any], data: bytes | memoryview = b"") -> None:
        """Ask; the child reads all of it before it answers."""
        for part in (worker.message_bytes(request), data):
            view = memoryview(part)
            while view:
                try:
                    view = view[os.write(self._requests, view) :]
                except BlockingIOError:
                    self._wait(self._requests)

    def answer(self) -> dict[str, Any]:
        size = int.from_bytes(self._take(4), "little")
        return dict(json.loads(self._take(size)))

    def samples(self, answer: dict[str, Any]) -> NDArray[np.float32]:
        """What an answer to a read speaks of, (samples,), in -1 to 1; nothing where it is an error."""
        kind = np.dtype(answer.get("type", "<f4"))
        size = answer.get("samples", 0) * kind.itemsize
        data = self._arena[:size] if answer.get("shared") else self._piped(size)
        samples: NDArray[Any] = data.view(kind)
        if kind.kind == "i":
            floats: NDArray[np.float32] = np.multiply(samples, np.float32(1 / 32768), dtype=np.float32)
        else:
            floats = samples.astype(np.float32)  # a copy: the next answer goes to the same place
        return floats

    def _piped(self, size: int) -> NDArray[np.uint8]:
        data = np.empty(size, np.uint8)
        view = memoryview(data)  # type: ignore[arg-type]  # arrays are buffers
        there = min(len(self._ahead), size)
        view[:there] = self._ahead[:there]
        del self._ahead[:there]
        view = view[there:]
        while view:
            try:
                view = view[_some(os.readv(self._answers, [view])) :]
            except BlockingIOError:
                self._wait(self._answers)
        return data

    def end(self) -> None:
        if self.owner_pid == os.getpid():
            self.process.kill()
            self.process.wait()
        else:
            self.process.returncode = 0  # another process owns it and waits for it
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()

    def _take(self, count: int) -> bytes:
        while len(self._ahead) < count:
            self._wait(self._answers)
            found = os.read(self._answers, HEAD_BYTES)
            self._heard = _some(len(found)) > 0
            self._ahead += found
        taken = bytes(self._ahead[:count])
        del self._ahead[:count]
        return taken

    def _wait(self, pipe: int) -> None:
        left_s = self._late_at - time.monotonic()
        if left_s <= 0 or not self._polls[pipe].poll(left_s * 1000):
            raise TooLateError


def _shared_memory() -> int:
    """A file without a name that the child can write to."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("whispertune")
    else:
        with tempfile.TemporaryFile() as named:
            file = os.dup(named.fileno())
    os.ftruncate(file, worker.ARENA_BYTES)
    return file


def _some(count: int) -> int:
    if not count:
        raise EOFError
    return count


class Lent:
    """The right to use one child, for the thread that borrowed it."""

    def __init__(self) -> None:
        self.user: int | None = None  # a thread
        self.child: Child | None = None

    def alive(self) -> Child:
        """The child, started where there is none or it has died."""
        if self.child and self.child.process.poll() is not None:
            self.end()
        self.child = self.child or Child()
        return self.child

    def end(self) -> None:
        if self.child:
            self.child.end()
        self.child = None


class Children:
    """At most `count` children, each used by one thread at a time; they start when first needed."""

    def __init__(self, count: int) -> None:
        self._all = tuple(Lent() for _ in range(count))
        self._changed = threading.Condition()

    @property
    def pids(self) -> list[int]:
        return [lent.child.process.pid for lent in self._all if lent.child]

    @contextmanager
    def borrow(self, key: Hashable = None) -> Iterator[Lent]:
        """Any free child, but rather the one that keeps `key`."""
        lent = self._take(key)
        try:
            yield lent
        finally:
            with self._changed:
                lent.user = None
                self._changed.notify_all()  # `end` may wait for another one

    def end(self) -> None:
        """End all, each when its user is done; what is borrowed later starts anew."""
        me = threading.get_ident()
        with self._changed:
            for lent in self._all:
                while lent.user not in (None, me):
                    self._changed.wait()
                lent.end()

    def abandon(self) -> None:
        """Let go of the pipes of another process's children, who would not see it end while we hold them."""
        for lent in self._all:
            lent.end()

    def _take(self, key: Hashable) -> Lent:
        me = threading.get_ident()
        with self._changed:
            while not (free := [lent for lent in self._all if lent.user in (None, me)]):
                self._changed.wait()
            keeps = [lent for lent in free if key is not None and lent.child and lent.child.kept == key]
            lent = (keeps or free)[0]
            if lent.user == me:  # Ctrl-C came between two lines: nobody knows what is in its pipes
                lent.end()
            lent.user = me
            return lent
