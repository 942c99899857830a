"""Ranks: the processes that train one model together, started by torchrun, `accelerate launch` or Ray.

    with open_ranks("auto") as ranks:                    # one process is a rank too, and costs nothing
        wrapped = ranks.wrap(module)                     # train/across/wrapped.py
        tokens, seconds = ranks.sum(step.target_tokens, step.speech_seconds)
        splits = ranks.together(lambda: load_splits(...))        # where one fails, all raise the same error
        base = ranks.on_main(lambda: dev.base())                 # one does it, all get what came of it
        stop = ranks.any(stop_requested)

What ranks tell each other goes over sockets (gloo) with a long patience, never over the GPUs: one rank may decode
dev for an hour while the others wait. Every rank has to make the same calls in the same order.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

from whispertune.data.keyed import keyed_rng
from whispertune.errors import InputError, RecipeError, TrainingError, WhispertuneError

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from torch import nn

    from whispertune.recipe import Train
    from whispertune.train.across.wrapped import Wrapped

T = TypeVar("T")

PATIENCE: Final = timedelta(hours=24)  # of ranks that wait for one that decodes
GRADIENTS_PATIENCE: Final = timedelta(hours=1)  # all come to an exchange of gradients at about the same time
MAIN: Final = 0


class RankLostError(TrainingError):
    """Another rank has gone without a word."""


class RankFailedError(TrainingError):
    """This rank cannot go on, and the others do not know: it leaves without a word to them, which they notice."""


def in_main_process() -> bool:
    """Whether this process is the one that shows and writes things; asks the launcher's variables alone."""
    return int(os.environ.get("RANK", "0")) == MAIN


@dataclass(frozen=True, slots=True)
class Sharding:
    """How FSDP2 is asked for in Accelerate's configuration."""

    reshard_after_forward: bool
    offload: Any  # torch.distributed.fsdp.OffloadPolicy


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together."""

    rank: int
    count: int
    local_count: int  # on this machine
    device: torch.device
    precision: str  # "float32", "bfloat16" or "float16"
    sharded: Sharding | None  # FSDP2 where it is given, else every rank holds the whole model
    accelerator: Accelerator
    group: Any = None  # for words; None where there is one rank

    @property
    def main(self) -> bool:
        return self.rank == MAIN

    # --- words: small, over sockets -----------------------------------------------------------------------------

    def sum(self, *values: float) -> tuple[float, ...]:
        """Each value summed over the ranks, the same to the bit on all of them."""
        return tuple(sum(column) for column in zip(*self._all(values), strict=True))

    def any(self, flag: bool) -> bool:
        """Whether it is so on some rank."""
        return self.sum(float(flag)) != (0.0,)

    def most(self, value: int) -> int:
        """The largest value that a rank has."""
        return int(max(row[0] for row in self._all((value,))))

    def gather(self, value: T) -> list[T]:
        """What every rank has, in their order, on all ranks."""
        import torch.distributed as dist

        if self.group is None:
            return [value]
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, value, group=self.group)
        return found

    def broadcast(self, value: T) -> T:
        """What the main rank has, on all ranks."""
        import torch.distributed as dist

        if self.group is None:
            return value
        holder = [value]
        dist.broadcast_object_list(holder, src=MAIN, group=self.group)
        return holder[0]

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        self.sum(0.0)

    def _all(self, values: Sequence[float]) -> list[list[float]]:
        """The values of every rank."""
        import torch
        import torch.distributed as dist

        if self.group is None:
            return [list(values)]
        mine = torch.tensor(values, dtype=torch.float64)
        found = [torch.empty_like(mine) for _ in range(self.count)]
        dist.all_gather(found, mine, group=self.group)
        return [each.tolist() for each in found]

    # --- work, and what happens where it fails ------------------------------------------------------------------

    def together(self, work: Callable[[], T]) -> T:
        """Every rank does its own; where it fails on one, all raise that one's error, and none waits for ever."""
        if self.group is None:
            return work()
        result, error = _tried(work)
        if not self.any(error is not None):
            return result  # type: ignore[return-value]
        errors = self.gather(portable(error, self.rank))
        first = next(rank for rank, each in enumerate(errors) if each is not None)
        if first == self.rank and error is not None:
            raise error
        raise errors[first] from error  # type: ignore[misc]

    def on_main(self, work: Callable[[], T]) -> T:
        """The main rank does it, all get what came of it; where it fails, all raise its error."""
        if self.group is None:
            return work()
        result, error = _tried(work) if self.main else (None, None)
        result, told = self.broadcast((result, portable(error, self.rank)))
        if error is not None:
            raise error
        if told is not None:
            raise told
        return result  # type: ignore[return-value]

    # --- training -----------------------------------------------------------------------------------------------

    def wrap(self, module: nn.Module) -> Wrapped:
        """The module as all ranks train it; optimizers are made of its parameters after that."""
        from whispertune.train.across.wrapped import wrap

        return wrap(self, module)

    def rounds(self, parts: Sequence[Sequence[T]]) -> list[tuple[Sequence[T], bool]]:
        """The parts of this rank's share of a step, each with whether it is the last; an empty one is a pass for show.

        Every rank makes one pass at least, since all exchange gradients in their last one. Sharded ranks fetch each
        other's weights in every pass, so they all make as many as the one that has most to do.
        """
        passes = self.most(len(parts)) if self.sharded else len(parts)
        filled = [*parts, *[()] * (max(1, passes) - len(parts))]
        return [(part, number == len(filled)) for number, part in enumerate(filled, start=1)]

    def seed_dropout(self, seed: int, step: int) -> None:
        """What is random in a step of this rank, so that a resumed run draws the same."""
        import torch

        torch.manual_seed(int(keyed_rng(seed, "dropout", step, self.rank).integers(2**62)))

    def check(self, train: Train) -> None:
        """Refuse what cannot be sharded.

        Raises:
            RecipeError: with the key.
        """
        if self.sharded and train.base_bits:
            raise RecipeError("FSDP cannot shard a base in few bits", where="train.base_bits", fix="train with DDP")
        if self.sharded and train.average in ("last", "best"):
            fix = 'take average = "ema", or train with DDP'
            raise RecipeError("FSDP cannot average kept weights", where="train.average", fix=fix)
        if self.sharded and train.optimizer == "adamw8bit":
            fix = 'take optimizer = "adamw", or train with DDP'
            raise RecipeError("FSDP cannot shard the 8-bit optimizer", where="train.optimizer", fix=fix)


@contextmanager
def open_ranks(precision: str = "auto") -> Iterator[Ranks]:
    """Join the other ranks, by what the launcher says; without a launcher there is one.

    Raises:
        InputError: Accelerate is set up for something that Whispertune does not train with.
    """
    import torch.distributed as dist

    from whispertune.model.loss import resolve_precision

    began_here = not (dist.is_available() and dist.is_initialized())
    accelerator = _accelerator()
    count = accelerator.num_processes
    group = dist.new_group(backend="gloo", timeout=PATIENCE) if count > 1 else None
    ranks = Ranks(
        rank=accelerator.process_index,
        count=count,
        local_count=int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if count > 1 else 1,
        device=accelerator.device,
        precision=resolve_precision(precision, accelerator.device.type),
        sharded=_sharding() if count > 1 else None,
        accelerator=accelerator,
        group=group,
    )
    try:
        yield ranks
        ranks.barrier()  # who leaves first closes the sockets
    except RuntimeError as error:
        if group is None or not _is_cut_off(error):
            raise
        raise RankLostError(
            f"another of the {count} processes ended", fix="its own message says why; what was saved can be resumed"
        ) from error
    finally:
        if group is not None and began_here:
            dist.destroy_process_group()


def _accelerator() -> Accelerator:
    """Devices, process groups and data parallel wrapping. Precision is the recipe's, so Accelerate has none."""
    import torch
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs, DistributedType, InitProcessGroupKwargs

    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    accelerator = Accelerator(
        mixed_precision="no",
        # Where there is no GPU, Accelerate sees several processes only if it is told to use the CPU.
        cpu=several and not torch.cuda.is_available() and not torch.xpu.is_available(),
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True),
            InitProcessGroupKwargs(timeout=GRADIENTS_PATIENCE),
        ],
    )
    known = ("NO", "MULTI_CPU", "MULTI_GPU", "MULTI_XPU", "FSDP")
    if accelerator.distributed_type not in [DistributedType(name) for name in known]:
        raise InputError(
            f"Accelerate is set up for {accelerator.distributed_type.value}, which is not trained with here",
            where="accelerate config",
            fix="take one of recipes/accelerate/, or start with torchrun",
        )
    return accelerator


def _sharding() -> Sharding | None:
    """FSDP2 as the launcher set it up. Accelerate itself never takes it on CPUs, so the variables are asked."""
    from accelerate.utils import FullyShardedDataParallelPlugin

    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() != "true":
        return None
    plugin = FullyShardedDataParallelPlugin()
    if plugin.fsdp_version != 2 or plugin.cpu_ram_efficient_loading:
        raise InputError(
            "only FSDP version 2 is trained with here, and every rank reads the weights by itself",
            where="fsdp_config",
            fix="fsdp_version: 2 and fsdp_cpu_ram_efficient_loading: false, as in recipes/accelerate/fsdp2-8gpu.yaml",
        )
    return Sharding(bool(plugin.reshard_after_forward), plugin.cpu_offload)


def _is_cut_off(error: RuntimeError) -> bool:
    """Whether it is what gloo says when another process is gone."""
    return any(words in str(error) for words in ("Connection closed", "Connection reset", "Broken pipe"))


def _tried(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return work(), None
    except Exception as error:
        return None, error


def portable(error: Exception | None, rank: int) -> WhispertuneError | None:
    """The error as other ranks raise it: ours as it is, anything else by name."""
    if error is None:
        return None
    if isinstance(error, WhispertuneError):
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301
        except Exception:  # something in it cannot travel
            return TrainingError(f"rank {rank}: {error.what}", where=error.where, fix=error.fix)
        return error
    return TrainingError(f"rank {rank} failed: {type(error).__name__}: {error}", fix="its own message says more")
