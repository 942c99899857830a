"""Files of states: what is read is what was written, whatever happened to the process, the disk or the bytes."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from whispertune.train.states.state_files import KEY_BYTES, RECORD_BYTES, USED, StateFiles, prune

WIDTH = 8
ROOM_BYTES = 1 << 30

WRITER = """
import sys
from pathlib import Path
from tests.train.test_state_files import ROOM_BYTES, states_of, key_of
from whispertune.train.states.state_files import StateFiles
files = StateFiles(Path(sys.argv[1]), 512, ROOM_BYTES)
for number in range(len(files), 10**9):
    files.write(key_of(number), states_of(number, 512))
    print("written", flush=True)
"""


def key_of(number: int) -> bytes:
    return number.to_bytes(KEY_BYTES, "big")


def states_of(number: int, width: int = WIDTH) -> NDArray[np.uint16]:
    """What belongs to a key, of a length of its own."""
    rng = np.random.default_rng(number)
    return rng.integers(0, 2**16, (1 + number % 7, width), dtype=np.uint16)


def filled(folder: Path, count: int) -> None:
    with StateFiles(folder, WIDTH, ROOM_BYTES) as files:
        for number in range(count):
            files.write(key_of(number), states_of(number))


def right(files: StateFiles, numbers: range, width: int = WIDTH) -> list[int]:
    """Which of them are there; those that are, are right."""
    found = []
    for number in numbers:
        states = files.read(key_of(number))
        if states is not None:
            assert np.array_equal(states, states_of(number, width))
            found.append(number)
    return found


def test_states_are_there_for_the_next_process(tmp_path: Path) -> None:
    filled(tmp_path, 20)
    with StateFiles(tmp_path, WIDTH, ROOM_BYTES) as files:
        assert len(files) == 20
        assert right(files, range(20)) == [*range(20)]
        assert files.read(key_of(20)) is None
        states = files.read(key_of(3))
        assert states is not None
        assert not states.flags.writeable
        assert not states.flags.owndata


def test_killed_at_any_moment_all_that_is_there_is_right(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    before = 0
    for round_ in range(8):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"written\n"
            time.sleep(0.02 + 0.013 * round_)
            process.send_signal(signal.SIGKILL)
        with StateFiles(tmp_path, 512, 0) as files:
            assert right(files, range(len(files) + 1), 512) == [*range(len(files))]
            assert len(files) > before
            before = len(files)


@given(st.data())
def test_files_cut_anywhere_lose_only_their_ends(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """After a power cut either file may end earlier than it did, and what follows is written behind it."""
    folder = tmp_path_factory.mktemp("cut")
    filled(folder, 9)
    states, index = folder / "0.states", folder / "0.index"
    os.truncate(states, data.draw(st.integers(0, states.stat().st_size)))
    os.truncate(index, data.draw(st.integers(0, index.stat().st_size)))
    for _ in range(2):
        with StateFiles(folder, WIDTH, ROOM_BYTES) as files:
            found = right(files, range(12))
            assert found == [*range(len(found))]
            for number in range(9, 12):
                files.write(key_of(number), states_of(number))
            assert right(files, range(12)) == [*found, *(n for n in range(9, 12) if n not in found)]
            for number in range(12):
                files.write(key_of(number), states_of(number))
            assert right(files, range(12)) == [*range(12)]
        assert index.stat().st_size % RECORD_BYTES == 0


@pytest.mark.parametrize("suffix", [".states", ".index"])
def test_a_flipped_bit_is_found_and_the_entry_written_anew(suffix: str, tmp_path: Path) -> None:
    filled(tmp_path, 10)
    path = tmp_path / f"0{suffix}"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with StateFiles(tmp_path, WIDTH, ROOM_BYTES) as files:
        found = right(files, range(10))
        assert len(found) == 9
        (lost,) = set(range(10)) - set(found)
        files.write(key_of(lost), states_of(lost))
        assert right(files, range(10)) == [*range(10)]
    with StateFiles(tmp_path, WIDTH, ROOM_BYTES) as files:
        assert right(files, range(10)) == [*range(10)]


def test_files_of_something_else_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "0.index").write_bytes(bytes(RECORD_BYTES * 5))
    (tmp_path / "0.states").write_bytes(b"x" * 1000)
    with StateFiles(tmp_path, WIDTH, ROOM_BYTES) as files:
        assert not len(files)
        assert files.read(bytes(KEY_BYTES)) is None


def test_no_more_is_written_than_there_is_room_for(tmp_path: Path) -> None:
    said: list[str] = []
    size = states_of(6).nbytes + RECORD_BYTES
    with StateFiles(tmp_path, WIDTH, 3 * size + 10, say=said.append) as files:
        for number in range(6, 6 + 7 * 10, 7):  # all of one size
            files.write(key_of(number), states_of(number))
        assert len(files) == 3
        assert not files.writes
        assert right(files, range(100)) == [6, 13, 20]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3 * size + 10
    assert len(said) == 1
    assert "as full as it may be" in said[0]


def test_a_full_disk_ends_writing_and_harms_nothing(tmp_path: Path) -> None:
    """The kernel takes a part of what is written and refuses the rest, as a full disk does."""
    said: list[str] = []
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with StateFiles(tmp_path, 512, ROOM_BYTES, say=said.append) as files:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        try:
            for number in range(20):
                files.write(key_of(number), states_of(number, 512))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        found = right(files, range(20), 512)
        assert found == [*range(len(found))]
        assert 0 < len(found) < 20
    assert len(said) == 1
    assert "File too large" in said[0]
    with StateFiles(tmp_path, 512, ROOM_BYTES) as files:
        assert right(files, range(20), 512) == found
        files.write(key_of(19), states_of(19, 512))
        assert right(files, range(20), 512) == [*found, 19]


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "0.states").mkdir()
    with StateFiles(tmp_path, WIDTH, ROOM_BYTES, say=said.append) as files:
        files.write(key_of(1), states_of(1))
        assert files.read(key_of(1)) is None
    assert len(said) == 1


def test_one_process_writes_and_the_others_read(tmp_path: Path) -> None:
    said: list[str] = []
    with (
        StateFiles(tmp_path, WIDTH, ROOM_BYTES) as first,
        StateFiles(tmp_path, WIDTH, ROOM_BYTES, say=said.append) as second,
        StateFiles(tmp_path, WIDTH, ROOM_BYTES, writer=1) as rank,
    ):
        assert "another run writes" in said[0]
        first.write(key_of(1), states_of(1))
        second.write(key_of(2), states_of(2))
        rank.write(key_of(3), states_of(3))
        for files in (first, second, rank):
            assert right(files, range(5)) == [1, 3]
    with StateFiles(tmp_path, WIDTH, ROOM_BYTES) as alone:
        assert right(alone, range(5)) == [1, 3]


def test_threads_read_while_one_writes(tmp_path: Path) -> None:
    with StateFiles(tmp_path, 512, ROOM_BYTES) as files, ThreadPoolExecutor(4) as threads:
        readers = [threads.submit(_read_until_there, files, range(n, 400, 4)) for n in range(4)]
        for number in range(400):
            files.write(key_of(number), states_of(number, 512))
        for reader in readers:
            reader.result()


def _read_until_there(files: StateFiles, numbers: range) -> None:
    for number in numbers:
        while (states := files.read(key_of(number))) is None:
            time.sleep(0)
        assert np.array_equal(states, states_of(number, 512))


def test_what_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    for age_s, name in enumerate(("new", "middle", "open", "old"), start=1):
        filled(tmp_path / name, 10)
        os.utime(tmp_path / name / USED, (10**9 - age_s, 10**9 - age_s))
    size = sum(path.stat().st_size for path in (tmp_path / "old").iterdir())
    held = (tmp_path / "open" / USED).stat()
    with StateFiles(tmp_path / "open", WIDTH, 0):
        os.utime(tmp_path / "open" / USED, ns=(held.st_atime_ns, held.st_mtime_ns))
        assert prune(tmp_path, 4 * size, tmp_path / "old", 0) == []
        assert prune(tmp_path, 5 * size, tmp_path / "mine", size) == []
        assert prune(tmp_path, 4 * size, tmp_path / "mine", size) == ["old"]
        assert prune(tmp_path, 2 * size, tmp_path / "mine", size) == ["middle", "new"]  # "open" is in use
    assert sorted(path.name for path in tmp_path.iterdir()) == ["open"]
    assert prune(tmp_path, 0, tmp_path / "mine", 0) == ["open"]


def test_what_a_killed_process_was_deleting_goes(tmp_path: Path) -> None:
    filled(tmp_path / "a", 3)
    (tmp_path / "a").rename(tmp_path / ".gone-a-1")
    filled(tmp_path / "b", 3)
    assert prune(tmp_path, ROOM_BYTES, tmp_path / "b", 0) == []
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
