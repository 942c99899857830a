"""A module as all ranks train it: whole on each (DDP), or in shards (FSDP2), through the same few calls.

    wrapped = ranks.wrap(module)                         # a SummedLoss
    optimizer = make_optimizer(wrapped.inner.named_parameters(), ...)
    tokens, = ranks.sum(step.target_tokens)
    for part, last in ranks.rounds(step.parts(...)):
        batch = collate(part, ...) if part else blank_batch(...)
        with wrapped.exchanging(last):
            loss = wrapped(batch) * bool(part) / tokens
            wrapped.backward(loss)
    norm = wrapped.clip(optimizer, max_norm)
    wrapped.update(optimizer)

Gradients are the mean over ranks, so each loss counts as often as there are ranks: their sum is then the gradient of
the loss over all target tokens of all ranks, however these are spread.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from whispertune.model.adapters import whole
from whispertune.windows.batches import Batch

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from whispertune.train.across.ranks import Ranks, Sharding

LAYER: Final = re.compile(r"(^|.*\.)layers\.\d+")  # a layer of the encoder or decoder
TYPES: Final = {"bfloat16": torch.bfloat16, "float16": torch.float16}
FIRST_SCALE: Final = 2.0**14  # of float16 losses; 2**16, torch's own, overflows in the first steps
BLANK_FRAMES: Final = 20


@dataclass(frozen=True)
class Wrapped:
    """A module that all ranks train, and what is done with it."""

    ranks: Ranks
    inner: nn.Module  # what was wrapped, on the device; FSDP2 has put shards in place of its parameters
    outer: nn.Module  # what is called: the same, or DDP around it
    scaler: torch.amp.GradScaler  # of losses in float16; else it does nothing
    mesh: DeviceMesh | None = None  # the ranks among which parameters are sharded
    whole: nn.Module | None = None  # where they are sharded, on the main rank: a copy that is not, on the CPU

    # --- a step ---------------------------------------------------------------------------------------------------

    def __call__(self, *inputs: Any, **named: Any) -> Tensor:
        loss: Tensor = self.outer(*inputs, **named)
        return loss

    def exchanging(self, last: bool) -> AbstractContextManager[None]:
        """Around forward and backward of a part: whole models exchange gradients in the last part alone.

        Shards do so in each: keeping the gradients of the whole model is what sharding is to save.
        """
        if last or not isinstance(self.outer, nn.parallel.DistributedDataParallel):
            return nullcontext()
        context: AbstractContextManager[None] = self.outer.no_sync()
        return context

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss that was divided by the target tokens of all ranks."""
        self.scaler.scale(loss * self.ranks.count).backward()  # type: ignore[no-untyped-call]

    def clip(self, optimizer: torch.optim.Optimizer, max_norm: float) -> float:
        """Scale the gradients down to a norm, over all shards; the norm before that."""
        self.scaler.unscale_(optimizer)
        trained = [value for value in self.inner.parameters() if value.requires_grad]
        return float(whole(torch.nn.utils.clip_grad_norm_(trained, max_norm)))

    def update(self, optimizer: torch.optim.Optimizer) -> None:
        """One step of the optimizer; none where float16 gradients overflowed."""
        self.scaler.step(optimizer)
        self.scaler.update()

    def skip(self) -> None:
        """Go without a step whose loss is not finite; a float16 loss is scaled less from here on."""
        self.scaler.update()

    # --- states ---------------------------------------------------------------------------------------------------

    def full(self, state: dict[str, Any]) -> dict[str, Any]:
        """A state (of optimizer, averages, trained weights) whole and on the CPU for the main rank, for others empty.

        It does not tell how many ranks there were, so any number can go on from it. Every rank has to call.
        """
        if self.mesh is None and not self.ranks.main:
            return {}
        gathered: dict[str, Any] = _mapped(state, self._gathered)
        return gathered if self.ranks.main else {}

    def own(self, state: dict[str, Any] | None) -> dict[str, Any]:
        """From what the main rank read of `full`, this rank's: all of it, or shards. Every rank has to call.

        Others give None; tensors come to them one by one, so that no rank holds more of a sharded state than its own.
        """
        outline = None if state is None else _mapped(state, lambda value: value.to("meta"))
        outline = self.ranks.broadcast(outline)
        assert outline is not None
        given = iter(_tensors(state)) if state is not None else None
        own: dict[str, Any] = _mapped(outline, lambda empty: self._share(next(given) if given else empty))
        return own

    def _share(self, value: Tensor) -> Tensor:
        """One tensor of the main rank to all, and the part of it that this rank keeps."""
        import torch.distributed as dist

        if self.ranks.group is not None:
            value = value.contiguous() if self.ranks.main else torch.empty_like(value, device="cpu")
            dist.broadcast(value, src=0, group=self.ranks.group)
        if self.mesh is None or value.ndim == 0:
            return value
        from torch.distributed.tensor import Shard, distribute_tensor

        return distribute_tensor(value, self.mesh, [Shard(0)], src_data_rank=None)  # all have it, nothing is sent

    def plain(self) -> nn.Module | None:
        """The module with its weights of now, whole, to decode with or to write: the live one, or a copy of shards.

        Every rank has to call; where parameters are sharded, all but the main rank get None.
        """
        if self.mesh is None:
            return self.inner
        kept = {} if self.whole is None else dict(self.whole.named_parameters())
        for name, value in self.inner.named_parameters():
            if value.requires_grad:
                gathered = self._gathered(value)
                if self.whole is not None:
                    kept[name].data.copy_(gathered)
        return self.whole

    def _gathered(self, value: Tensor) -> Tensor:
        """On the main rank a tensor in one piece, on the CPU; on others what they have of it. Every rank has to call.

        Shards go to the main rank alone: `DTensor.full_tensor` would send all of them to all ranks.
        """
        import torch.distributed as dist
        from torch.distributed.tensor import DTensor

        value = value.detach()
        if not isinstance(value, DTensor):
            return value.cpu()
        assert self.mesh is not None
        own, rows = value.to_local(), len(value)
        sent = own.new_zeros((-(-rows // self.ranks.count), *own.shape[1:]))  # of all ranks alike; the last have less
        sent[: len(own)] = own
        parts = [torch.empty_like(sent) for _ in range(self.ranks.count)] if self.ranks.main else None
        dist.gather(sent, parts, dst=0, group=self.ranks.group if own.is_cpu else self.mesh.get_group())
        return own if parts is None else torch.cat([part.cpu() for part in parts])[:rows]


def wrap(ranks: Ranks, module: nn.Module) -> Wrapped:
    """The module as all ranks train it."""
    scaler = torch.amp.GradScaler(ranks.device.type, init_scale=FIRST_SCALE, enabled=ranks.precision == "float16")
    if ranks.sharded is None:
        with warnings.catch_warnings():  # torch 2.13 calls broadcast_buffers otherwise, Accelerate 1.15 does not
            warnings.simplefilter("ignore", FutureWarning)
            outer = ranks.accelerator.prepare_model(module)
        return Wrapped(ranks, module, outer, scaler)
    from torch.distributed.device_mesh import init_device_mesh

    copied = copy.deepcopy(module) if ranks.main else None
    mesh = init_device_mesh(ranks.device.type, (ranks.count,))
    _shard(module.to(ranks.device), mesh, ranks.sharded, TYPES.get(ranks.precision))
    return Wrapped(ranks, module, module, scaler, mesh, copied)


def _shard(module: nn.Module, mesh: DeviceMesh, how: Sharding, computed_in: torch.dtype | None) -> None:
    """Each layer by itself, and what is left together: the tied embeddings have to stay in one group."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    policy = MixedPrecisionPolicy(param_dtype=computed_in, reduce_dtype=torch.float32, cast_forward_inputs=False)
    layers = [layer for name, layer in module.named_modules() if LAYER.fullmatch(name)]
    for unit in (*layers, module):
        resharded = how.reshard_after_forward if unit is not module else None
        fully_shard(unit, mesh=mesh, reshard_after_forward=resharded, mp_policy=policy, offload_policy=how.offload)


def blank_batch(n_mels: int, device: torch.device) -> Batch:
    """A batch for a rank that has nothing to show in a pass: its loss counts nothing, but touches all parameters."""
    token = torch.zeros((1, 1), dtype=torch.int64, device=device)
    return Batch(mel=torch.zeros((1, n_mels, BLANK_FRAMES), device=device), inputs=token, targets=token)


def _mapped(state: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A nested state with its tensors changed, in their order."""
    if isinstance(state, Tensor):
        return change(state)
    if isinstance(state, dict):
        return {key: _mapped(value, change) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(_mapped(value, change) for value in state)
    return state


def _tensors(state: Any) -> Iterator[Tensor]:
    found: list[Tensor] = []
    _mapped(state, lambda value: found.append(value) or value)  # type: ignore[func-returns-value]
    return iter(found)
