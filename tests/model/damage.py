"""Files that are damaged: cut short, with flipped bits or headers that lie; and whether what reads them says so."""

from __future__ import annotations

import json
import re
import resource
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from whispertune.errors import ModelError

ROOM_BYTES = 100 << 20  # of address space: far more than files of a few MB need, far less than they claim


def refused(path: Path, content: bytes, read: Callable[[], object]) -> bool:
    """Whether what reads the file refuses it, in little room."""
    path.write_bytes(content)
    return error_of(read) is not None


def error_of(read: Callable[[], object]) -> ModelError | None:
    """The one error of what reads a file in little room, which is none of memory that was asked for and not there."""
    found: ModelError | None = None
    try:
        with little_room():
            read()
    except ModelError as error:
        found = error
    if found is None:
        return None
    assert found.where
    assert found.fix
    assert "\x1b" not in str(found)
    assert not re.search("memory|thread", found.what.lower())
    return found


@contextmanager
def little_room() -> Iterator[None]:
    """Within it the address space of this process may grow by so much and no more, where the system tells its size."""
    pages = Path("/proc/self/statm")
    before = resource.getrlimit(resource.RLIMIT_AS)
    if pages.exists():
        used = int(pages.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def flipped(content: bytes, position: int, bit: int) -> bytes:
    changed = bytearray(content)
    changed[position] ^= 1 << bit
    return bytes(changed)


def header_of(content: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(header: Any, data: bytes) -> bytes:
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def lying_safetensors(good: bytes) -> Iterator[bytes]:
    """Headers in which one array is told to be another, or is not there."""
    header, data = header_of(good)
    name = next(each for each in header if each.endswith("weight") and len(header[each]["shape"]) == 2)
    rows, columns = header[name]["shape"]
    for change in (
        {"shape": [2**40, 2**40]},
        {"shape": [columns, rows + 1]},
        {"shape": [rows * columns]},
        {"shape": [0, columns]},
        {"shape": []},
        {"shape": [-1, columns]},
        {"shape": "many"},
        {"dtype": "I8"},
        {"dtype": "F64"},
        {"dtype": "F4"},
        {"data_offsets": [0, 2**60]},
        {"data_offsets": [64, 0]},
        {"data_offsets": [2**63, 2**63]},
        {"data_offsets": None},
    ):
        yield with_header(header | {name: header[name] | change}, data)
    yield with_header({each: value for each, value in header.items() if each != name}, data)
    yield with_header({each.replace(name, "else"): value for each, value in header.items()}, data)
    yield with_header([header], data)
    for length in (0, 1, 2**24, 2**40, 2**63, 2**64 - 1):
        yield struct.pack("<Q", length) + good[8:]


def damaged_safetensors(good: bytes) -> Iterator[bytes]:
    random = np.random.default_rng(0)
    data_at = len(good) - len(header_of(good)[1])
    yield from (good[: int(end)] for end in (0, 1, 7, 8, 9, data_at - 1, data_at, len(good) - 1))
    yield from (good[: int(end)] for end in random.integers(0, len(good), 12))
    yield from lying_safetensors(good)
    for _ in range(40):
        yield flipped(good, int(random.integers(data_at)), int(random.integers(8)))
