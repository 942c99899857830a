"""Checkpoints: whole or not there, whatever is killed, damaged or full; the newest valid one is found."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from whispertune.errors import TrainingError
from whispertune.train.keeping import placing
from whispertune.train.keeping.checkpoint import Checkpoint, Progress, newest_checkpoint, save_checkpoint
from whispertune.train.keeping.placing import HashedFile, publish, recover, swap
from whispertune.train.keeping.saving import Saver
from whispertune.train.run import Run, append_line, read_lines

MEGABYTE = 1 << 20


def tensors(seed: int = 0, size: int = 1000) -> dict[str, torch.Tensor]:
    """Of several types; one with gaps, one without elements, one without dimensions, two that share memory."""
    rng = torch.Generator().manual_seed(seed)
    whole = torch.randn(size, 3, generator=rng)
    return {
        "b.bias": torch.tensor([True, False, True]),
        "a.weight": whole,
        "a.turned": whole.t(),
        "half": whole.to(torch.bfloat16)[::2],
        "none": torch.zeros(0, 4),
        "one": torch.tensor(seed, dtype=torch.int64),
    }


def state(size: int = 10) -> dict[str, Any]:
    """What AdamW keeps after a step."""
    weight = torch.nn.Parameter(torch.ones(size))
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    weight.grad = torch.ones(size)
    optimizer.step()
    return optimizer.state_dict()


def save(folder: Path, step: int, **more: Any) -> Path:
    return save_checkpoint(folder, tensors(step), state(), Progress(step=step, segments=7 * step), **more)


def newest(folder: Path) -> Checkpoint:
    found = newest_checkpoint(folder)
    assert found is not None
    return found


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-*"))


def test_what_is_saved_comes_back_to_the_bit(tmp_path: Path) -> None:
    average, extras = {"a.weight": torch.full((5,), 0.5)}, {"scaler": {"scale": 65536.0}, "seen": torch.arange(3)}
    progress = Progress(step=3, best_step=2, best_value=45.5, skipped_steps=2, skipped_in_a_row=1)
    before = state()
    save_checkpoint(tmp_path, tensors(3), before, progress, average=average, extras=extras)
    found = newest(tmp_path)
    assert found.progress == progress
    weights = found.weights()
    assert weights.keys() == tensors(3).keys()
    for name, value in tensors(3).items():
        assert weights[name].dtype == value.dtype
        assert torch.equal(weights[name], value), name
    assert torch.equal(found.optimizer()["state"][0]["exp_avg"], before["state"][0]["exp_avg"])
    assert found.optimizer()["param_groups"] == before["param_groups"]
    assert torch.equal(found.average()["a.weight"], average["a.weight"])  # type: ignore[index]
    assert found.extras()["scaler"] == extras["scaler"]
    with safe_open(found.folder / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_without_average_and_extras_there_are_none(tmp_path: Path) -> None:
    save(tmp_path, 1)
    assert (newest(tmp_path).average(), newest(tmp_path).extras()) == (None, {})
    assert newest_checkpoint(tmp_path / "nowhere") is None


@pytest.mark.parametrize("keep", [1, 3])
def test_the_newest_are_kept(keep: int, tmp_path: Path) -> None:
    for step in range(1, 6):
        save(tmp_path, step, keep=keep)
    assert steps(tmp_path) == list(range(6 - keep, 6))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [flip, shorten, Path.unlink])
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "progress.json", "sha256.json"])
def test_a_damaged_one_is_passed_over_and_said(name: str, damage: Callable[[Path], None], tmp_path: Path) -> None:
    save(tmp_path, 4)
    save(tmp_path, 6)
    damage(tmp_path / "step-0000006" / name)
    said: list[str] = []
    found = newest_checkpoint(tmp_path, said.append)
    assert found is not None
    assert found.progress.step == 4
    assert said == ["the checkpoint step-0000006 is not as it was written: it is passed over"]


def test_the_last_valid_one_is_never_pruned_for_damaged_ones(tmp_path: Path) -> None:
    """A run that goes on from step 2, since those after it are damaged, keeps what it saves."""
    for step in (2, 4, 6):
        save(tmp_path, step, keep=3)
    for step in (4, 6):
        flip(tmp_path / f"step-{step:07d}" / "optimizer.pt")
    assert newest(tmp_path).progress.step == 2
    save(tmp_path, 3, keep=1)
    assert newest(tmp_path).progress.step == 3
    assert steps(tmp_path) == [3]
    save(tmp_path, 4, keep=2)
    shorten(tmp_path / "step-0000004" / "model.safetensors")
    save(tmp_path, 5, keep=2)
    assert steps(tmp_path) == [3, 5]  # the one cut short makes no room for itself


# --- killed at every operation of the file system --------------------------------------------------------------------

_KILLED = """
import errno, json, os, shutil, sys
from pathlib import Path
import torch
from whispertune.train.keeping import placing
from whispertune.train.keeping.checkpoint import Progress, newest_checkpoint, save_checkpoint

root, own_swap = Path(sys.argv[1]), placing.swap

class Kill:
    left = None
    def at(self, *_):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                os._exit(9)

kill = Kill()
EVENTS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree", "ctypes.dlsym")
sys.addaudithook(lambda event, arguments: kill.at() if event in EVENTS else None)

def counted(function):
    def call(*arguments):
        kill.at()
        return function(*arguments)
    return call

os.fsync = counted(os.fsync)

def save(step, mark):
    weights = {"w": torch.full((50,), float(mark))}
    save_checkpoint(root / "checkpoints", weights, {"state": {}}, Progress(step=step, segments=mark), keep=1)

def model(mark):
    temporary = root / ".model.partial"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    for name in ("config.json", "model.safetensors"):
        with placing.HashedFile(temporary / name) as file:
            file.write(str(mark).encode())
    placing.publish(temporary, root / "model")

def work(what, mark):
    model(mark) if what == "model" else save(5 if what == "same step" else 5 + mark, mark)

def found(what):
    if what == "model":
        marks = {(root / "model" / name).read_text() for name in ("config.json", "model.safetensors")}
        (mark,) = marks  # of one saving
        return int(mark)
    newest = newest_checkpoint(root / "checkpoints")
    assert float(newest.weights()["w"][0]) == newest.progress.segments
    return newest.progress.segments

def case(what, swaps):
    placing.swap = counted(own_swap) if swaps else lambda first, second: False
    seen, missing, code = [], 0, 9
    while code:
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        work(what, 1)
        child = os.fork()
        if not child:
            kill.left = len(seen)
            work(what, 2)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if what == "model":
            missing += not (root / "model").exists()  # for readers, until the run goes on
            placing.recover(root, "model")
        else:
            found(what)  # before anything is put right, too
            placing.recover(root / "checkpoints")
        seen.append(found(what))
        left = [path.name for path in (root, root / "checkpoints") if path.exists() for path in path.glob(".*")]
        assert not left, left
        work(what, 3)
        assert found(what) == 3
    return {"seen": seen, "missing": missing}

print(json.dumps([case(what, swaps) for what, swaps in json.loads(sys.argv[2])]))
"""

CASES = [("model", True), ("model", False), ("new step", True), ("same step", True), ("same step", False)]


def test_killed_at_any_operation_the_old_or_the_new_is_there(tmp_path: Path) -> None:
    """A process that ends at the n-th operation, for every n: then all is put right and saved once more."""
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "run"), json.dumps(CASES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for (_, swaps), result in zip(CASES, json.loads(done.stdout), strict=True):
        assert set(result["seen"]) == {1, 2}
        assert result["seen"] == sorted(result["seen"])  # first the old, from some operation on the new
        assert len(result["seen"]) > 15
        if swaps:
            assert result["missing"] == 0  # whoever reads the model meanwhile always finds one


def test_a_swap_is_one_operation_where_there_is_one(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not swap(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot exchange names")
    assert (tmp_path / "a" / "b").exists()
    assert (tmp_path / "b" / "a").exists()


def test_leftovers_go_and_what_made_way_comes_back(tmp_path: Path) -> None:
    for name in (".step-0000002.partial", ".step-0000004.old", "step-0000006", ".step-0000006.old", "kept"):
        (tmp_path / name).mkdir()
    recover(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "step-0000004", "step-0000006"]


def test_one_that_made_way_counts(tmp_path: Path) -> None:
    save(tmp_path, 4)
    (tmp_path / "step-0000004").rename(tmp_path / ".step-0000004.old")
    assert newest(tmp_path).progress.step == 4


def test_publishing_keeps_nothing_of_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for swaps in (True, False):
        if not swaps:
            monkeypatch.setattr(placing, "swap", lambda first, second: False)
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / "old").touch()
        (tmp_path / ".model.partial").mkdir()
        (tmp_path / ".model.partial" / "new").touch()
        publish(tmp_path / ".model.partial", tmp_path / "model")
        assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["model", "model/new"]
        (tmp_path / "model" / "new").unlink()


# --- a full disk -----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("nothing can be mounted here: the injected fault below is what is tested")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def saver_of(folder: Path, on_full: Any = "stop", keep: int = 2) -> tuple[Saver, list[str]]:
    said: list[str] = []
    (folder / "run").mkdir(exist_ok=True)
    return Saver(Run(folder / "run"), keep, on_full, said.append), said


def large(megabytes: float) -> dict[str, torch.Tensor]:
    return {"w": torch.ones(round(megabytes * MEGABYTE / 4))}


@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize(("weights", "optimizer"), [(5, 1), (1, 5), (1, 2.999)])  # where it gets full
def test_on_a_full_disk_the_run_stops_and_what_was_saved_stays(
    weights: float, optimizer: float, small_disk: Path
) -> None:
    saver, said = saver_of(small_disk)
    assert saver.save(large(2), large(2), Progress(step=1))
    with pytest.raises(
        TrainingError, match="the disk is full: the checkpoint of step 2 could not be written"
    ) as stopped:
        saver.save(large(weights), large(optimizer), Progress(step=2))
    assert "the checkpoint of step 1 is kept" in str(stopped.value)
    assert f"make room, then go on: {saver.run.resume_command}" in str(stopped.value)
    assert stopped.value.exit_code == 1
    assert [path.name for path in saver.run.checkpoints.iterdir()] == ["step-0000001"]
    assert newest(saver.run.checkpoints).progress.step == 1
    assert said == []


def test_on_a_full_disk_the_run_goes_on_and_says_so_each_time(small_disk: Path) -> None:
    saver, said = saver_of(small_disk, "continue")
    assert saver.save(large(2), large(2), Progress(step=1))
    for step in (2, 3):
        assert not saver.save(large(3), large(3), Progress(step=step))
        assert f"the checkpoint of step {step} could not be written" in said[-1]
        assert said[-1].endswith("the checkpoint of step 1 is kept; the run goes on")
    assert len(said) == 2
    assert saver.save(large(1), large(2), Progress(step=4))  # there is room again
    assert newest(saver.run.checkpoints).progress.step == 4


def test_on_a_full_disk_the_best_weights_so_far_stay(small_disk: Path) -> None:
    saver, said = saver_of(small_disk, "continue")

    def write(megabytes: int) -> Callable[[Path], None]:
        from safetensors.torch import save_file

        def into(folder: Path) -> None:
            folder.mkdir()
            save_file(large(megabytes), folder / "model.safetensors")  # as write_folder does

        return into

    assert saver.model(write(3))
    assert not saver.model(write(6))
    assert "the disk is full: the best weights could not be written" in said[-1]
    assert load_file(saver.run.model / "model.safetensors")["w"].nbytes == 3 * MEGABYTE
    assert [path.name for path in saver.run.folder.iterdir()] == ["model"]
    with pytest.raises(TrainingError, match="the best weights could not be written"):
        saver.model(write(6), must=True)


def test_on_a_full_disk_no_line_is_cut_off(small_disk: Path) -> None:
    saver, said = saver_of(small_disk, "continue")
    run = saver.run
    run.add_metrics("step", {"step": 1, "text": "x" * 5000})
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(bytes(8 * MEGABYTE))
    for _ in range(2):
        with saver.room(run.metrics.name):
            run.add_metrics("step", {"step": 2, "text": "x" * 5000})
    assert len(said) == 2
    assert "metrics.jsonl could not be written" in said[0]
    filler.unlink()
    run.add_metrics("step", {"step": 3})
    assert [line["step"] for line in run.read_metrics()] == [1, 3]
    assert run.metrics.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("on_full", ["stop", "continue"])
def test_errors_of_the_disk_while_saving(
    number: int, on_full: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An injected fault, after the first megabyte; torch makes an error of its own of it."""
    saver, said = saver_of(tmp_path, on_full)
    assert saver.save(large(0.1), large(0.1), Progress(step=1))
    write = HashedFile.write

    def failing(self: HashedFile, data: bytes) -> int:
        if self.size + len(data) > MEGABYTE:
            self._failed = OSError(number, "what the system says")
            raise self._failed
        return write(self, data)

    monkeypatch.setattr(HashedFile, "write", failing)
    if on_full == "stop" or number == errno.EIO:
        with pytest.raises(TrainingError, match="checkpoint of step 2 could not be written"):
            saver.save(large(0.5), large(2), Progress(step=2))
    else:
        assert not saver.save(large(0.5), large(2), Progress(step=2))
        assert said[-1].startswith("the disk is full")
    assert [path.name for path in saver.run.checkpoints.iterdir()] == ["step-0000001"]


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    saver, said = saver_of(tmp_path)
    assert saver.save({"a": torch.ones(3)}, {}, Progress(step=1))
    assert not saver.save({"a": torch.tensor([1.0, float("nan")])}, {}, Progress(step=2))
    assert said == ["a is not finite after step 2: the checkpoint of step 1 is kept"]
    assert newest(saver.run.checkpoints).progress.step == 1


def test_too_little_room_is_told_in_a_line_before_the_start(small_disk: Path) -> None:
    saver, said = saver_of(small_disk)
    assert saver.preflight(MEGABYTE // 2, MEGABYTE // 2)  # 3 checkpoints of 1.5 MB and the model twice
    assert said == []
    assert not saver.preflight(2 * MEGABYTE, MEGABYTE)
    (line,) = said
    assert "3 checkpoints and the best weights need up to 0.02 GB, 0.01 GB can be had" in line
    assert saver.save(large(0.5), large(1), Progress(step=1))
    assert saver.preflight(MEGABYTE // 2, MEGABYTE // 2)  # what is there already is part of it


def test_a_line_is_appended_whole_or_not_at_all_and_torn_ones_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append_line(path, json.dumps({"step": 1}))
    path.write_bytes(path.read_bytes() + b'{"step": 2, "text": "\xc3')
    assert read_lines(path) == [{"step": 1}]
    path.write_bytes(b'{"a": {"b": 1}\n"text"\n' + path.read_bytes())
    assert read_lines(path) == [{"step": 1}]
