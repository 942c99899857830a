"""Folders that stand there whole or not at all, whenever a process is killed.

with HashedFile(temporary / "model.safetensors") as file:    # hashed while it is written, on disk when closed
    file.write(data)
publish(temporary, run.model)       # a folder of that name is replaced in one operation
recover(run.folder, "model")        # at the start: what a killed process left behind
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final

from whispertune.files import sync

LARGE_BYTES: Final = 1 << 20  # from here on hashing in a thread of its own pays
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux, <fcntl.h>


def publish(temporary: Path, target: Path) -> None:
    """Sync a finished folder and put it in its place; one of the same name is replaced.

    Where the system cannot swap two names, there is none for a moment: the old one then stands as `.NAME.old`
    beside it, and `recover` brings it back.
    """
    for path in (*temporary.iterdir(), temporary):
        sync(path)
    if not target.exists():
        temporary.rename(target)
        sync(target.parent)
        return
    old = temporary
    if not swap(temporary, target):
        old = target.with_name(f".{target.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        temporary.rename(target)
    sync(target.parent)  # before the old one goes
    shutil.rmtree(old, ignore_errors=True)


def swap(first: Path, second: Path) -> bool:
    """Exchange two names in one operation; False where the system or the file system has none (Linux has)."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    names = (AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second))
    return bool(rename(*names, RENAME_EXCHANGE) == 0)


def recover(folder: Path, name: str = "*") -> None:
    """Bring back what had made way for something that never came, and drop what was half written."""
    if not folder.is_dir():
        return
    for old in folder.glob(f".{name}.old"):
        target = folder / old.name.removeprefix(".").removesuffix(".old")
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(target)
    for half in folder.glob(f".{name}.partial"):
        shutil.rmtree(half, ignore_errors=True)
    sync(folder)


class HashedFile:
    """A new file that is hashed while it is written; `sha256` and `size` are known when it is closed.

    Whoever writes into it may hide what went wrong in an error of its own (torch does): the first OSError is raised.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._hash = hashlib.sha256()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hash")
        self._failed: OSError | None = None
        self.size = 0

    def __enter__(self) -> HashedFile:
        return self

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, data: bytes | memoryview) -> int:
        """All of `data`, hashed by another thread while this one waits for the disk."""
        view = memoryview(data)
        if not view.nbytes:  # cannot be cast
            return 0
        view = view.cast("B")
        hashing = self._pool.submit(self._hash.update, view) if len(view) >= LARGE_BYTES else None
        try:
            self._file.write(view)
        except OSError as error:
            self._failed = self._failed or error
            raise
        finally:
            if hashing is None:
                self._hash.update(view)
            else:
                hashing.result()  # the memory belongs to the caller
        self.size += len(view)
        return len(view)

    def flush(self) -> None:
        """Part of being a file; nothing is gained before the end."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown()
        try:
            self._file.close()
        except OSError as late:  # what was still in its buffer
            self._failed = self._failed or late
        if self._failed is not None and error is not self._failed:
            raise self._failed
