"""Files that must be whole: their hash, waiting until they are on the disk, a text in place of another, full disks.

sha256(path)
sync(path), sync(path.parent)
replace_text(path, json_text(figures, indent=2) + "\n")
check_writable(Path("report.html"), "choose another --report")    # before what takes hours
with writing(out):                  # InputError: out: cannot be written (the disk is full)
    save_file(tensors, out / "model.safetensors")
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from whispertune.errors import InputError

FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def sha256(path: Path) -> str:
    """Of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never half of it.

    File names that are not UTF-8 are escaped in it.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
        sync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def json_text(content: Mapping[str, Any], indent: int | None = None) -> str:
    """JSON for files and for stdout: what is not finite is null, file names that are not UTF-8 are escaped."""
    text = json.dumps(finite(content), indent=indent, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def finite(value: Any) -> Any:
    """The same with None in place of numbers that JSON does not have: nan, and both infinities."""
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def partial_of(path: Path) -> Path:
    """Where a file is written before it takes its place, by this process alone."""
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def check_writable(path: Path, fix: str) -> None:
    """Raise InputError where no such file can be made in its folder; found out by making one beside it.

    What permissions say is not enough: root has them in /sys, and on a disk that can only be read.
    """
    probe = partial_of(path)
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror})", where=str(path), fix=fix) from error


def disk_trouble(error: Exception) -> int | None:
    """The number of an error of the disk, also of one that safetensors or torch hides; None for other errors."""
    if isinstance(error, OSError):
        return error.errno or errno.EIO
    if type(error).__name__ == "SafetensorError" and "os error" in str(error):
        return next((number for number in FULL if f"os error {number})" in str(error)), errno.EIO)
    if isinstance(error, RuntimeError) and "inline_container" in str(error):  # the file that torch.save writes
        return errno.EIO
    return None


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Errors of the disk inside, where `target` is written, as one that says so.

    Raises:
        InputError: it cannot be written.
    """
    try:
        yield
    except Exception as error:
        trouble = disk_trouble(error)
        if trouble is None:
            raise
        full = trouble in FULL
        why = "the disk is full" if full else os.strerror(trouble)
        fix = "make room, or write to another disk" if full else "see that it can be written, or give another folder"
        raise InputError(f"cannot be written ({why})", where=str(target), fix=fix) from error
