"""One process writes into a run at a time.

with run_lock(run.folder):
    ...                     # another process that comes here is refused

The lock is the system's, on `run.lock` in the folder: it is gone with the process, however that ended. The file stays,
and says who wrote last. What only reads a run needs no lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from whispertune.errors import InputError

LOCK: Final = "run.lock"
TAKEN: Final = (errno.EAGAIN, errno.EACCES)


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Keep others out of the folder, which is there, where its file system knows locks.

    Raises:
        InputError: another process writes there.
    """
    with (folder / LOCK).open("ab+", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in TAKEN:
                file.seek(0)
                raise _taken(folder, file.read().decode()) from None
        with suppress(OSError):  # a full disk: the lock holds without a name
            file.truncate(0)
            file.write(f"{os.getpid()} on {platform.node()}".encode())
        yield


def _taken(folder: Path, owner: str) -> InputError:
    return InputError(
        f"process {owner or '(unknown)'} is training in this folder",
        where=str(folder),
        fix="wait until it has ended, or stop it, or --out for another folder",
    )
