"""Micro-batches: how many seconds of audio, padding included, go through the model at once.

    micro = MicroBatch(30.0 * (settings.micro_windows or CPU_WINDOWS), tell.say)
    micro.run(lambda seconds: stepper.gradients(step.parts(seconds)), undo=optimizer.zero_grad)    # then the update

The loss and its gradients do not depend on it, only memory and speed do. Where memory runs out it is halved, and the
step begun anew. On a GPU the first size is found by trying, with gradients that count for nothing:

    attempt = lambda seconds: probe(full_batch(seconds, shape.n_mels, tokens, "cuda"))   # forward, backward, zero
    find_seconds(attempt, CudaMemory(), most_s=..., reserve_bytes=...)
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import torch

from whispertune.errors import TrainingError
from whispertune.train.across.ranks import RankFailedError
from whispertune.windows.batches import Batch
from whispertune.windows.pack import WINDOW_S

CPU_WINDOWS = 4  # where no GPU's memory says how many
USED_SHARE = 0.9  # of the memory that is free; the rest is lost between blocks
MEL_FRAMES = 3_000  # of a window

# What allocators say where they raise no error of their own; the driver and cuBLAS take memory apart from torch.
_PHRASES = (
    "can't allocate memory",  # torch on a CPU
    "out of memory",  # the CUDA driver, MPS
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)

T = TypeVar("T")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether smaller batches may help against it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in _PHRASES)


class MicroBatch:
    """The seconds of a forward pass; they only ever become fewer."""

    def __init__(
        self, seconds: float, say: Callable[[str], None], *, smallest: float = WINDOW_S, ranks: int = 1
    ) -> None:
        self.seconds, self.smallest = max(seconds, smallest), smallest
        self._say, self._ranks = say, ranks

    def run(self, attempt: Callable[[float], T], undo: Callable[[], None]) -> T:
        """What `attempt(seconds)` gives: the gradients of a step, before the update, from the seeds on.

        Where it runs out of memory, `undo` drops what gradients there are, and it is begun anew with half the seconds:
        the same windows, the same sum.

        Raises:
            TrainingError: memory runs out with the smallest batch.
            RankFailedError: it runs out on one rank of several, where the others wait for its gradients.
        """
        while True:
            try:
                return attempt(self.seconds)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self._ranks > 1 or self.seconds <= self.smallest:
                    raise self._given_up() from error
            undo()  # only here: the error held on to the frames of the attempt, and so to its tensors
            release_memory()
            before, self.seconds = self.seconds, max(self.smallest, self.seconds / 2)
            self._say(
                f"out of memory with {before:g} s of audio in a forward pass: going on with {self.seconds:g} s; "
                "steps stay what they are"
            )

    def _given_up(self) -> TrainingError:
        if self._ranks > 1:
            windows = max(1, int(self.seconds / 2 // WINDOW_S))
            return RankFailedError(
                f"one of {self._ranks} processes is out of memory with {self.seconds:g} s of audio in a forward pass",
                fix=f"resume with train.micro_windows={windows}",
            )
        return TrainingError(
            f"out of memory with {self.seconds:g} s of audio in a forward pass, the least there is",
            fix='train.activation_checkpointing=true, train.method="lora", train.optimizer="adamw8bit", '
            "or a smaller model",
        )


class Memory(Protocol):
    """The memory that forward and backward passes take."""

    def begin(self) -> None:
        """From here on the peak is measured."""

    def spent(self) -> int:
        """Bytes at the peak since `begin`, beyond what was held then."""

    def free(self) -> int:
        """Bytes that could be taken."""


class CudaMemory:
    """Of the current GPU."""

    _held = 0  # bytes, at the beginning

    def begin(self) -> None:
        release_memory()
        torch.cuda.reset_peak_memory_stats()
        self._held = torch.cuda.memory_allocated()

    def spent(self) -> int:
        return int(torch.cuda.max_memory_allocated() - self._held)

    def free(self) -> int:
        cached = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return int(torch.cuda.mem_get_info()[0] + cached)


def find_seconds(
    attempt: Callable[[float], None],
    memory: Memory,
    most_s: float,
    *,
    reserve_bytes: int = 0,
) -> float:
    """The largest micro-batch that fits, in whole windows, up to `most_s` or one window.

    Tries one window, two, four ..., until memory is exhausted or would be, then goes by what the tries took: a fixed
    part, and one that grows with the seconds.

    Args:
        attempt: forward and backward over so many seconds, at their longest; leaves no gradients behind.
        most_s: more is of no use, such as the seconds of a whole step.
        reserve_bytes: for what is not there yet, such as the state of the optimizer: 8 bytes a trained weight.
    """
    usable = USED_SHARE * (memory.free() - reserve_bytes)
    most = max(1, int(most_s // WINDOW_S))  # windows
    tries: list[tuple[int, int]] = []  # windows, bytes
    windows, limit = 1, most
    while True:
        memory.begin()
        if not _fits(attempt, windows * WINDOW_S):
            limit = windows - 1
            break
        tries.append((windows, memory.spent()))
        known = len(tries) > 1  # one try does not tell what is fixed from what grows
        if windows == most or (known and _forecast(tries, min(2 * windows, most)) > usable):
            break
        windows = min(2 * windows, most)
    while limit > 1 and _forecast(tries, limit) > usable:
        limit -= 1
    return max(1, limit) * WINDOW_S


def _fits(attempt: Callable[[float], None], seconds: float) -> bool:
    try:
        attempt(seconds)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    else:
        return True
    release_memory()
    return False


def _forecast(tries: Sequence[tuple[int, int]], windows: int) -> float:
    """Bytes that so many windows take, on the line through the last two tries."""
    last, spent = tries[-1]
    if len(tries) == 1:
        return spent * windows / last
    before, less = tries[-2]
    return spent + (spent - less) / (last - before) * (windows - last)


def full_batch(seconds: float, n_mels: int, tokens: int, device: str) -> Batch:
    """Whole windows of nothing with the longest labels: what takes the most memory. tokens: of a window, at most."""
    rows = max(1, int(seconds // WINDOW_S))
    labels = torch.zeros(rows, tokens, dtype=torch.long, device=device)
    return Batch(torch.zeros(rows, n_mels, MEL_FRAMES, device=device), labels, labels.clone())


def release_memory() -> None:
    """Give back what nothing refers to."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def lend_memory() -> None:
    """Give back what torch holds of a GPU and does not use: other libraries there ask for memory of their own."""
    if torch.cuda.is_available():
        release_memory()
