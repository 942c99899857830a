"""Datasets whose making is stopped, killed, damaged, or done by several at once: they come out the same."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.prepare.conftest import hashes, recipe_of
from whispertune.errors import InputError
from whispertune.prepare.run import prepare_dataset
from whispertune.prepare.shards import left_behind, own_name
from whispertune.recipe_file import save_recipe
from whispertune.reporting import Reporter

_SCRIPT = """
import sys
from pathlib import Path
from whispertune.errors import WhispertuneError
from whispertune.prepare.run import prepare_dataset
from whispertune.recipe_file import load_recipe
try:
    prepare_dataset(load_recipe(Path(sys.argv[1])), Path(sys.argv[2]), processes=2, part={part})
except WhispertuneError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


class Said(Reporter):
    """Keeps what is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


class Filling(Reporter):
    """From when so much is written on, files of this process may be no longer: as on a disk that is full."""

    def __init__(self, share: float, limit_bytes: int) -> None:
        self.share, self.limit_bytes = share, limit_bytes

    def working(self, what: str, done: int, total: int) -> None:
        if what == "writing" and done >= self.share * total:
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.limit_bytes, hard))


def _saved(data: Path, folder: Path) -> tuple[Path, Path]:
    save_recipe(recipe_of(data), folder / "recipe.toml")
    return folder / "recipe.toml", folder / "out"


def _start(recipe: Path, out: Path, part: str = "(1, 1)") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _SCRIPT.format(part=part), str(recipe), str(out)]
    return subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # background shells ignore it
    )


def _first_shard(running: subprocess.Popen[str], out: Path) -> dict[Path, int]:
    """The finished shards, as soon as there is one while others are being written."""
    while running.poll() is None:
        found = sorted((out / ".work" / "shards").glob("train-*.json"))
        partial = list((out / ".work" / "shards").glob(".*.partial"))
        if found and partial:
            shards = [path.with_suffix(".parquet") for path in found]
            return {path: path.stat().st_mtime_ns for path in shards}
        time.sleep(0.005)
    pytest.fail(f"it ended before it could be stopped: {running.stderr and running.stderr.read()}")


def _writer(out: Path) -> int:
    """A process that writes a shard."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:  # there is none for a moment where one shard ends and the next begins
        for partial in (out / ".work" / "shards").glob(".*.partial"):  # .NAME.HOST.PID.partial
            return int(partial.name.split(".")[-2])
        time.sleep(0.005)
    pytest.fail("nobody writes")


def test_two_at_once_write_one_dataset(manifest: Path, whole: Path, tmp_path: Path) -> None:
    recipe, out = _saved(manifest, tmp_path)
    running = [_start(recipe, out, part=f"({n}, 2)") for n in (1, 2)]
    told = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [0, 0], told
    assert hashes(out) == hashes(whole)


@pytest.mark.usefixtures("here")
def test_of_two_whole_ones_at_once_the_slower_takes_what_the_other_made(
    manifest: Path, whole: Path, tmp_path: Path
) -> None:
    """One of its processes sleeps through the end of the other, which clears the work folder away."""
    recipe, out = _saved(manifest, tmp_path)
    slower = _start(recipe, out)
    _first_shard(slower, out)
    sleeping = _writer(out)
    os.kill(sleeping, signal.SIGSTOP)
    try:
        prepare_dataset(recipe_of(manifest), out, processes=1)
    finally:
        os.kill(sleeping, signal.SIGCONT)
    _, told = slower.communicate(timeout=60)
    assert slower.returncode == 0, told
    assert hashes(out) == hashes(whole)
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "data", "dropped.jsonl", "prepare.json"]


@pytest.mark.parametrize("host", ["laptop", "node1.example.org"])
def test_what_a_dead_process_left_is_known_by_its_name(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    mine = own_name(tmp_path / "train-00000-of-00001.parquet")
    dead = subprocess.Popen([sys.executable, "-S", "-c", ""])
    dead.wait()
    theirs = mine.with_name(mine.name.replace(f".{os.getpid()}.", f".{dead.pid}."))
    assert (left_behind(mine), left_behind(theirs)) == (False, True)
    monkeypatch.setattr(socket, "gethostname", lambda: "example.org")
    assert not left_behind(theirs)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("share", "limit_bytes"), [(0.25, 20_000), (1.0, 500)])
def test_where_the_disk_is_full_it_says_so_and_goes_on_later(
    share: float, limit_bytes: int, manifest: Path, whole: Path, tmp_path: Path
) -> None:
    """In the second of four shards, and in what is written behind them."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(InputError, match=r"cannot be written \(File too large\)"):
            prepare_dataset(recipe_of(manifest), tmp_path / "out", reporter=Filling(share, limit_bytes))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "out" / "prepare.json").exists()
    assert not list((tmp_path / "out").glob("*.partial"))
    prepare_dataset(recipe_of(manifest), tmp_path / "out")
    assert hashes(tmp_path / "out") == hashes(whole)


@pytest.mark.usefixtures("here")
def test_what_was_half_written_in_the_last_step_is_in_nobodys_way(talks: Path, tmp_path: Path) -> None:
    """Of a process that was killed it goes; one of another machine may still be at work."""
    out = tmp_path / "out"
    out.mkdir()
    dead = subprocess.Popen([sys.executable, "-S", "-c", ""])
    dead.wait()
    mine = own_name(out / "dropped.jsonl")
    mine.with_name(mine.name.replace(f".{os.getpid()}.", f".{dead.pid}.")).write_text('{"split": "tra')
    theirs = out / ".README.md.elsewhere.12.partial"
    theirs.write_text("---")
    assert prepare_dataset(recipe_of(talks), out).complete
    found = sorted(path.name for path in out.iterdir())
    assert found == [theirs.name, "README.md", "data", "dropped.jsonl", "prepare.json"]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 3), (signal.SIGTERM, 3)])
def test_stopped_in_the_middle_it_goes_on_where_it_was(
    number: signal.Signals, code: int, manifest: Path, whole: Path, tmp_path: Path
) -> None:
    recipe, out = _saved(manifest, tmp_path)
    running = _start(recipe, out)
    finished = _first_shard(running, out)
    running.send_signal(number)
    _, told = running.communicate(timeout=60)
    assert running.returncode == code, told
    if code == 3:
        assert "of 4 shards are finished" in told
    assert not (out / "prepare.json").exists()
    inodes = {path.name: path.stat().st_ino for path in finished}
    lines = Said()
    prepare_dataset(recipe_of(manifest), out, processes=2, reporter=lines)
    assert any("shards are finished already" in line for line in lines.said)
    assert hashes(out) == hashes(whole)
    for name, inode in inodes.items():  # renamed, not written again
        assert (out / "data" / name).stat().st_ino == inode


@pytest.mark.usefixtures("here")
def test_a_process_that_dies_is_an_error_and_what_is_finished_is_kept(
    manifest: Path, whole: Path, tmp_path: Path
) -> None:
    """As the system ends one where memory runs out."""
    recipe, out = _saved(manifest, tmp_path)
    running = _start(recipe, out)
    _first_shard(running, out)
    os.kill(_writer(out), signal.SIGKILL)
    _, told = running.communicate(timeout=60)
    assert running.returncode == 1, told
    assert "was killed by signal 9" in told
    assert "run the same command again" in told
    prepare_dataset(recipe_of(manifest), out, processes=2)
    assert hashes(out) == hashes(whole)


@pytest.mark.usefixtures("here")
def test_a_finished_shard_that_was_damaged_is_written_again(manifest: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare_dataset(recipe_of(manifest), out, part=(1, 2), processes=2)
    for path, change in zip(sorted((out / ".work" / "shards").glob("*.parquet")), (b"", None), strict=True):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1  # one bit, in the audio
        path.write_bytes(data if change is None else change)
    prepare_dataset(recipe_of(manifest), out, processes=2)
    assert hashes(out) == hashes(whole)
