"""Micro-batches: halved where memory really runs out, with the same gradients, and found by trying."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from whispertune.errors import TrainingError
from whispertune.model.load import ModelFolder
from whispertune.model.loss import SummedLoss
from whispertune.train.across.ranks import RankFailedError, open_ranks
from whispertune.train.learning.micro import MicroBatch, find_seconds, full_batch, is_out_of_memory
from whispertune.train.setup import try_batch

MIB = 2**20

REAL = """
import json, resource
from pathlib import Path
import torch
from torch import nn
from whispertune.train.learning.micro import MicroBatch

torch.manual_seed(0)
torch.set_num_threads(1)
module = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64))
audio = torch.randn(96, 500, 64)  # of 96 seconds

def gradients(seconds):
    total = 0.0
    for first in range(0, 96, int(seconds)):
        loss = module(audio[first : first + int(seconds)]).square().mean() * seconds
        loss.backward()
        total += loss.item()
    return total

gradients(6.0)  # threads and buffers are there
for room_mib in (50, 8_000):
    module.zero_grad()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + room_mib * 2**20, resource.RLIM_INFINITY))
    said = []
    micro = MicroBatch(96.0, said.append, smallest=6.0)
    loss = micro.run(gradients, undo=module.zero_grad)
    print(json.dumps([micro.seconds, loss, module[0].weight.grad.norm().item(), said]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by the system call of Linux")
def test_memory_that_really_runs_out_halves_the_batch_and_not_the_step() -> None:
    done = subprocess.run([sys.executable, "-c", REAL], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    narrow, wide = map(json.loads, done.stdout.splitlines())
    assert (wide[0], wide[3]) == (96.0, [])
    seconds, loss, norm, said = narrow
    assert seconds in (6.0, 12.0, 24.0)
    assert len(said) == [24.0, 12.0, 6.0].index(seconds) + 2
    assert "with 96 s of audio in a forward pass: going on with 48 s" in said[0]
    assert (loss, norm) == pytest.approx((wide[1], wide[2]), rel=1e-4)


def test_the_step_is_begun_anew_from_zero() -> None:
    """A fault in the middle, with half of the gradients there: they are dropped, and counted once in the end."""
    weight, said = nn.Parameter(torch.zeros(1)), []

    def attempt(seconds: float) -> float:
        for begin in range(0, 240, int(seconds)):
            if seconds > 60 and begin:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            (weight * seconds).sum().backward()
        return seconds

    def undo() -> None:
        weight.grad = None

    micro = MicroBatch(240.0 / 2, said.append)
    assert micro.run(attempt, undo) == 60.0
    assert weight.grad is not None
    assert weight.grad.item() == 240.0
    assert micro.seconds == 60.0
    assert len(said) == 1
    assert micro.run(attempt, undo) == 60.0  # it is not tried again
    assert len(said) == 1


def test_never_below_one_window() -> None:
    tried: list[float] = []

    def attempt(seconds: float) -> None:
        tried.append(seconds)
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(TrainingError, match="30 s of audio in a forward pass, the least"):
        MicroBatch(100.0, lambda told: None).run(attempt, lambda: None)
    assert tried == [100.0, 50.0, 30.0]
    assert MicroBatch(10.0, lambda told: None).seconds == 30.0


def test_tensors_of_the_failed_attempt_are_gone_before_the_next() -> None:
    import weakref

    held: list[weakref.ref[torch.Tensor]] = []

    def attempt(seconds: float) -> None:
        assert not any(each() is not None for each in held)
        large = torch.zeros(10)
        held.append(weakref.ref(large))
        if len(held) < 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    MicroBatch(240.0, lambda told: None).run(attempt, lambda: None)
    assert len(held) == 3


def test_other_errors_pass() -> None:
    def attempt(seconds: float) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        MicroBatch(240.0, lambda told: None).run(attempt, lambda: None)


def test_one_of_several_processes_cannot_begin_anew() -> None:
    def attempt(seconds: float) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(RankFailedError, match=r"train.micro_windows=4"):
        MicroBatch(240.0, lambda told: None, ranks=2).run(attempt, lambda: None)


def test_a_try_that_fails_in_the_middle_leaves_no_gradients_for_the_first_step(tiny: ModelFolder) -> None:
    module = SummedLoss(tiny.load())

    def exhausted(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    module.model.model.encoder.conv2.register_full_backward_hook(exhausted)  # the decoder has its gradients by then
    with open_ranks("float32") as ranks, pytest.raises(torch.OutOfMemoryError):
        try_batch(ranks.wrap(module), tiny.shape.n_mels, 30.0)
    assert all(value.grad is None for value in module.parameters())


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (MemoryError("Unable to allocate 64.0 GiB"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_running_out_of_memory_looks_like(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


@dataclass
class Card:
    """A GPU's memory in MiB: a pass takes a fixed part, and so much a window."""

    size: float
    fixed: float
    each: float
    taken: float = 0.0
    tried: list[float] = field(default_factory=list)

    def begin(self) -> None:
        self.taken = 0.0

    def spent(self) -> int:
        return round(self.taken * MIB)

    def free(self) -> int:
        return round(self.size * MIB)

    def attempt(self, seconds: float) -> None:
        self.tried.append(seconds)
        self.taken = self.fixed + self.each * seconds / 30
        if self.taken > self.size:
            raise torch.OutOfMemoryError("CUDA out of memory.")


@settings(max_examples=30)  # after each try without room all of this process is searched for what can go
@given(
    size=st.floats(1_000, 200_000),
    fixed=st.floats(0, 20_000),
    each=st.floats(50, 5_000),
    most=st.integers(1, 200),
    reserved_share=st.floats(0, 0.5),
)
def test_the_size_that_is_found_fits_and_is_near_the_largest(
    size: float, fixed: float, each: float, most: int, reserved_share: float
) -> None:
    card = Card(size, fixed, each)
    found = find_seconds(card.attempt, card, 30.0 * most, reserve_bytes=round(reserved_share * size * MIB))
    usable = 0.9 * (1 - reserved_share) * size
    best = min(most, int((usable - fixed) / each))
    windows = found / 30
    assert windows == int(windows)
    assert 1 <= windows <= most
    if windows > 1:
        assert fixed + each * windows <= usable * 1.001
    assert abs(windows - max(1, best)) <= 1  # bytes are whole
    assert len(card.tried) <= 10


def test_a_fixed_part_does_not_keep_the_batch_small() -> None:
    card = Card(size=80_000, fixed=20_000, each=1_000)
    assert find_seconds(card.attempt, card, 30.0 * 200) == 30.0 * 52
    assert card.tried == [30.0, 60.0, 120.0, 240.0, 480.0, 960.0]


def test_the_fullest_batch_goes_through_a_model(tiny: ModelFolder) -> None:
    batch = full_batch(95.0, 80, 448, "cpu")
    assert batch.mel is not None
    assert batch.mel.shape == (3, 80, 3_000)
    loss = SummedLoss(tiny.load())(batch)
    loss.backward()
    assert torch.isfinite(loss)
