"""Files of states: arrays by key, appended by one process, read by many, and never wrong.

with StateFiles(folder, width=512, room_bytes=10**9) as files:
    files.write(key, states)     # uint16, (frames, width); the key: 16 bytes
    files.read(key)              # the same, mapped into memory; None where there is none

Each writer has two files: `0.states`, one array after the other, and `0.index`, a record for each, written when its
array is. A record counts where its checksum is right and an array where its own is, looked up at the first read. So
a process that is killed loses at most what it was writing, and after a power cut what had not reached the disk is
missing, and is computed again; nothing waits for the disk.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

RECORD = struct.Struct("<16sQII")  # key, first byte, frames, checksum of the array; then the record's own:
RECORD_BYTES = RECORD.size + 4
KEY_BYTES = 16
ITEM_BYTES = 2
USED = "used"  # locked by all who have the folder open; its time is when that was last

GONE = ".gone-"  # what a folder is called while it is deleted


def silent(line: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where an array stands."""

    segment: _Segment
    first: int  # byte
    frames: int
    checksum: int


class _Segment:
    """The two files of one writer, as a reader sees them."""

    def __init__(self, stem: Path, width: int) -> None:
        self.states, self.index, self.width = stem.with_suffix(".states"), stem.with_suffix(".index"), width
        self._read_bytes = 0  # of the index
        self._map: mmap.mmap | None = None

    def news(self) -> Iterator[tuple[bytes, _Entry]]:
        """The records that came since this was last asked for. Half a one may follow: it counts when it is whole."""
        try:
            if os.stat(self.index).st_size < self._read_bytes + RECORD_BYTES:
                return
            with self.index.open("rb") as file:
                file.seek(self._read_bytes)
                content = file.read()
        except FileNotFoundError:
            return
        whole = len(content) // RECORD_BYTES * RECORD_BYTES
        self._read_bytes += whole
        for at in range(0, whole, RECORD_BYTES):
            fields, own = content[at : at + RECORD.size], content[at + RECORD.size : at + RECORD_BYTES]
            if zlib.crc32(fields) == int.from_bytes(own, "little"):
                key, first, frames, checksum = RECORD.unpack(fields)
                yield key, _Entry(self, first, frames, checksum)

    def view(self, entry: _Entry) -> NDArray[np.uint16] | None:
        """The array of an entry, not yet checked; None where the file ends before it does."""
        end = entry.first + entry.frames * self.width * ITEM_BYTES
        if (self._map is None or len(self._map) < end) and not self._mapped(end):
            return None
        assert self._map is not None
        flat = np.frombuffer(self._map, np.uint16, entry.frames * self.width, entry.first)
        return flat.reshape(entry.frames, self.width)

    def ahead(self, entry: _Entry) -> None:
        """Have the disk read an array before it is asked for."""
        assert self._map is not None
        if hasattr(self._map, "madvise"):
            first = entry.first // mmap.PAGESIZE * mmap.PAGESIZE
            size = entry.first - first + entry.frames * self.width * ITEM_BYTES
            self._map.madvise(mmap.MADV_WILLNEED, first, size)

    def _mapped(self, end: int) -> bool:
        """Map the file as it is now; what was mapped before lives as long as its arrays."""
        with self.states.open("rb") as file:
            if not end or os.fstat(file.fileno()).st_size < end:
                return False
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return True


class _Writer:
    """Appends to one segment; there is one process that does."""

    def __init__(self, segment: _Segment) -> None:
        """BlockingIOError: another process writes there."""
        self._index = segment.index.open("ab", buffering=0)
        try:
            fcntl.flock(self._index, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._states = segment.states.open("ab", buffering=0)
        except OSError:
            self._index.close()
            raise
        self._records = os.fstat(self._index.fileno()).st_size // RECORD_BYTES * RECORD_BYTES
        self._index.truncate(self._records)  # half a record of one who was killed
        known = _Segment(segment.index.with_suffix(""), segment.width).news()
        self._end = max((entry.first + entry.frames * segment.width * ITEM_BYTES for _, entry in known), default=0)
        self._states.truncate(self._end)  # what no record points to goes; what a power cut took is a hole

    def append(self, key: bytes, states: NDArray[np.uint16]) -> None:
        """OSError: the disk is full, or the like; then nothing was written."""
        data = np.ascontiguousarray(states).data.cast("B")
        fields = RECORD.pack(key, self._end, len(states), zlib.crc32(data))
        try:
            _write(self._states, data)
            _write(self._index, memoryview(fields + zlib.crc32(fields).to_bytes(4, "little")))
        except OSError:
            with suppress(OSError):
                self._index.truncate(self._records)
                self._states.truncate(self._end)
            raise
        self._end += len(data)
        self._records += RECORD_BYTES

    def close(self) -> None:
        self._states.close()
        self._index.close()


class StateFiles:
    """The arrays in a folder; threads may share it."""

    def __init__(
        self,
        folder: Path,
        width: int,
        room_bytes: int,
        writer: int = 0,
        say: Callable[[str], None] = silent,
    ) -> None:
        """At most `room_bytes` are added, by the `writer` of this number, where no other process is that."""
        self.folder, self.width, self.writer, self._say = folder, width, writer, say
        self._lock = threading.Lock()
        self._used = _hold(folder)
        self._segments: dict[str, _Segment] = {}
        self._entries: dict[bytes, list[_Entry]] = {}  # several where one was found broken; the last one counts
        self._checked: set[bytes] = set()
        self._room_bytes = room_bytes
        self._out: _Writer | None = None
        try:
            self._out = _Writer(self._segment(str(writer)))
        except BlockingIOError:
            say(f"another run writes into {folder}: this one reads there, and computes what it does not find")
        except OSError as error:
            say(f"nothing is written into {folder}: {error.strerror}")
        self._refresh()

    def read(self, key: bytes) -> NDArray[np.uint16] | None:
        """The array of a key, (frames, width), not to be written to; None where there is none that is whole."""
        with self._lock:
            if key not in self._entries:
                self._refresh()
            entries = self._entries.get(key)
            entry = entries[-1] if entries else None
            states = None if entry is None else entry.segment.view(entry)
            checked = key in self._checked
        if entry is None:
            return None
        if states is not None and checked:
            entry.segment.ahead(entry)
            return states
        if states is not None and zlib.crc32(states.data.cast("B")) == entry.checksum:
            with self._lock:
                self._checked.add(key)
            return states
        self._forget(key, entry)
        return self.read(key)

    def write(self, key: bytes, states: NDArray[np.uint16]) -> None:
        """Keep an array, where there is room and the key has none yet."""
        assert states.shape[1:] == (self.width,)
        with self._lock:
            if self._out is None or not len(states) or key in self._entries:
                return
            if states.nbytes + RECORD_BYTES > self._room_bytes:
                self._stop(f"the cache in {self.folder} is as full as it may be: the rest is computed each time")
                return
            try:
                self._out.append(key, states)
            except OSError as error:
                self._stop(f"no more is written into {self.folder} ({error.strerror}): the rest is computed each time")
                return
            self._room_bytes -= states.nbytes + RECORD_BYTES
            self._take_news(self._segment(str(self.writer)))

    @property
    def writes(self) -> bool:
        """Whether what is given is kept: this process writes, and there is room."""
        return self._out is not None

    @property
    def room_bytes(self) -> int:
        """What this process may still add."""
        return self._room_bytes if self.writes else 0

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)

    def close(self) -> None:
        with self._lock:
            self._close_writer()
            self._used.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _segment(self, name: str) -> _Segment:
        if name not in self._segments:
            self._segments[name] = _Segment(self.folder / name, self.width)
        return self._segments[name]

    def _refresh(self) -> None:
        """What other processes wrote too: a rank sees in one epoch what another one saw in the last."""
        for path in sorted(self.folder.glob("*.index")):
            self._take_news(self._segment(path.stem))

    def _take_news(self, segment: _Segment) -> None:
        for key, entry in segment.news():
            self._entries.setdefault(key, []).append(entry)

    def _forget(self, key: bytes, entry: _Entry) -> None:
        with self._lock:
            self._checked.discard(key)
            rest = [each for each in self._entries.get(key, []) if each is not entry]
            if rest:
                self._entries[key] = rest
            else:
                self._entries.pop(key, None)

    def _stop(self, why: str) -> None:
        self._close_writer()
        self._say(why)

    def _close_writer(self) -> None:
        if self._out is not None:
            self._out.close()
            self._out = None


def _write(file: FileIO, data: memoryview) -> None:
    """All of it: a disk that fills up takes a part, and says no to the rest."""
    while data:
        data = data[file.write(data) :]


# --- folders in use, and old ones ------------------------------------------------------------------------------


def _hold(folder: Path) -> IO[bytes]:
    """A file that is locked as long as it is open, so that nobody deletes the folder."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = (folder / USED).open("ab")
        except FileNotFoundError:  # deleted in between
            continue
        with ExitStack() as closing:
            closing.enter_context(file)
            fcntl.flock(file, fcntl.LOCK_SH)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), os.stat(folder / USED)):
                    os.utime(folder / USED)
                    closing.pop_all()
                    return file


def folder_bytes(folder: Path) -> int:
    """What the files in a folder take."""
    sizes = 0
    for path in folder.glob("*"):
        with suppress(OSError):
            sizes += path.stat().st_size
    return sizes


def prune(root: Path, limit_bytes: int, keep: Path, needed_bytes: int) -> list[str]:
    """Delete the folders in `root` that were used longest ago, until `needed_bytes` in `keep` fit under the limit.

    `keep` stays, and so does what a running process has open. Returns the names of those that are gone.
    """
    for unfinished in root.glob(f"{GONE}*"):  # of a process that was killed
        shutil.rmtree(unfinished, ignore_errors=True)
    others = sorted((path.parent for path in root.glob(f"*/{USED}") if path.parent != keep), key=_last_used)
    sizes = {folder: folder_bytes(folder) for folder in others}
    over_bytes = sum(sizes.values()) + max(needed_bytes, folder_bytes(keep)) - limit_bytes
    gone: list[str] = []
    for folder in others:
        if over_bytes > 0 and _deleted(folder):
            over_bytes -= sizes[folder]
            gone.append(folder.name)
    return gone


def _last_used(folder: Path) -> int:
    try:
        return (folder / USED).stat().st_mtime_ns
    except OSError:  # another process deleted it
        return 0


def _deleted(folder: Path) -> bool:
    """Delete a folder, unless somebody has it open."""
    try:
        with (folder / USED).open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            away = folder.with_name(f"{GONE}{folder.name}-{os.getpid()}")
            folder.rename(away)
    except OSError:
        return False
    shutil.rmtree(away, ignore_errors=True)
    return True
