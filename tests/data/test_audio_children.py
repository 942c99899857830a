"""Several decoding processes, shared by threads: who waits for whom, and what a death, a fork or Ctrl-C costs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from whispertune.data.audio import SAMPLE_RATE_HZ, AudioInfo, AudioReader
from whispertune.data.child import Children
from whispertune.data.segments import Held, Recording
from whispertune.errors import AudioError

ROOT = Path(__file__).parents[2]
START = """
import os, signal, sys, threading, time
sys.path[0] = sys.argv[1]
signal.signal(signal.SIGINT, signal.default_int_handler)  # background shells ignore it
from pathlib import Path
from whispertune.data.audio import AudioReader
path = Path(sys.argv[2])
reader = AudioReader()
reader.read(path, 0, 1)
os.kill(reader.pid, signal.SIGSTOP)
"""


def run(script: str, path: Path) -> str:
    """In a process of its own: it forks, and is interrupted."""
    command = [sys.executable, "-c", START + script, str(ROOT), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_a_second_thread_does_not_wait_for_the_first(recordings: Path) -> None:
    path = recordings / "odd.wav"
    with AudioReader(children=2) as reader, ThreadPoolExecutor(1) as thread:
        reader.read(path, 0, 1)
        assert len(reader.pids) == 1  # the second starts when it is needed
        os.kill(reader.pids[0], signal.SIGSTOP)
        first = thread.submit(reader.read, path, 2, 3)
        while not any(lent.user for lent in reader._here()[0]._all):
            pass
        assert len(reader.read(path, 0, 1)) == SAMPLE_RATE_HZ
        assert not first.done()
        assert len(reader.pids) == 2
        os.kill(reader.pids[0], signal.SIGCONT)
        np.testing.assert_array_equal(first.result(), reader.read(path, 2, 3))
    assert reader.pids == []


def test_the_death_of_one_of_two_costs_what_it_was_reading(recordings: Path) -> None:
    path = recordings / "odd.wav"
    with AudioReader(children=2) as reader, ThreadPoolExecutor(1) as thread:
        reader.read(path, 0, 1)
        os.kill(reader.pids[0], signal.SIGSTOP)
        first = thread.submit(reader.read, path, 2, 3)
        while not any(lent.user for lent in reader._here()[0]._all):
            pass
        reader.read(path, 0, 1)
        lost, other = reader.pids
        os.kill(lost, signal.SIGKILL)
        with pytest.raises(AudioError, match="broke the decoder"):
            first.result()
        assert reader.pids == [other]
        assert len(reader.read(path, 0, 1)) == SAMPLE_RATE_HZ


def test_many_are_probed_in_order_by_all_children(recordings: Path, tmp_path: Path) -> None:
    held = Held("held", (recordings / "phone.wav").read_bytes())
    some: list[Recording] = [recordings / "a.wav", tmp_path / "none.wav", held, recordings / "stereo.flac"] * 150
    with AudioReader(children=3) as reader:
        found = reader.probe_many(some)
        assert [type(one) for one in found] == [AudioInfo, AudioError, AudioInfo, AudioInfo] * 150
        assert [one.sample_rate_hz for one in found if isinstance(one, AudioInfo)] == [16_000, 8000, 44_100] * 150


def test_threads_share_several_children(recordings: Path) -> None:
    with AudioReader(children=3) as reader:
        held = Held("a", (recordings / "a.m4a").read_bytes())
        whole = {each: reader.read(each) for each in (recordings / "odd.wav", recordings / "a.mp3", held)}

        def differs(seed: int) -> float:
            recording, second = list(whole)[seed % 3], seed % 17
            part = reader.read(recording, second, second + 1)
            return float(np.abs(part - whole[recording][second * 16_000 :][:16_000]).max())

        with ThreadPoolExecutor(6) as threads:
            assert max(threads.map(differs, range(200))) < 1e-3


def test_a_fork_in_the_middle_of_a_read_reads_with_a_child_of_its_own(recordings: Path) -> None:
    script = """
thread = threading.Thread(target=lambda: print(len(reader.read(path, 2, 3)), flush=True))
thread.start()
while not any(lent.user for lent in reader._here()[0]._all):
    time.sleep(0.01)
pid = os.fork()
if not pid:
    with reader:
        good = len(reader.read(path, 0, 1)) == 16_000
    os._exit(0 if good else 1)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
os.kill(reader.pid, signal.SIGCONT)
thread.join()
reader.close()
"""
    assert run(script, recordings / "odd.wav").split() == ["0", "16000"]


def test_after_ctrl_c_the_next_read_is_right_and_closing_does_not_wait(recordings: Path) -> None:
    script = """
before = reader.pid
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    reader.read(path, 2, 3)
except KeyboardInterrupt:
    print("interrupted")
print(reader.pid, len(reader.read(path, 0, 0.5)), reader.pid != before)
reader.close()
"""
    assert run(script, recordings / "odd.wav").split() == ["interrupted", "None", "8000", "True"]


def test_what_an_interrupt_left_borrowed_is_free_for_its_thread_and_starts_anew(recordings: Path) -> None:
    children = Children(1)
    lost = children.borrow()
    before = lost.__enter__().alive().process.pid  # Ctrl-C right here: nobody gives it back
    with children.borrow() as lent:
        assert lent.alive().process.pid != before
    waiting = threading.Thread(target=children.end)
    waiting.start()
    waiting.join(timeout=10)
    assert not waiting.is_alive()
    assert children.pids == []
