"""Optimizers: AdamW, AdamW with its state in 8 bits, and Muon for the matrices inside the layers.

    optimizer = make_optimizer(module.named_parameters(), "adamw", rate=1e-4, weight_decay=0.01)
    for group in optimizer.param_groups:        # before each step
        group["lr"] = rate * group["scale"]

Each group carries a `name` for people and a `scale` of the rate. What comes back is one torch Optimizer, whatever
its kind: its state_dict is exact, and made of what torch.load(weights_only=True) reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Muon, Optimizer

from whispertune.errors import RecipeError

BETAS, EPSILON = (0.9, 0.98), 1e-6  # as Whisper was pre-trained (Radford et al., 2022, table 17)
BITS_DEVICES = ("cpu", "cuda", "xpu")  # that bitsandbytes has 8-bit AdamW for; on a CPU it is slow
HIDDEN, MATRICES, VECTORS = "hidden", "matrices", "vectors"  # names of groups

Named = tuple[str, Tensor]
Group = dict[str, Any]


def make_optimizer(named_parameters: Iterable[Named], kind: str, rate: float, weight_decay: float) -> Optimizer:
    """An optimizer of those parameters that are trained.

    Matrices decay; biases, norms and the position tables do not.

    Args:
        kind: "adamw", "adamw8bit" or "muon".

    Raises:
        RecipeError: 8-bit AdamW is not installed, or not made for the device.
    """
    trained = [(name, value) for name, value in named_parameters if value.requires_grad]
    return MAKERS[kind](trained, rate, weight_decay)


def _adamw(trained: Sequence[Named], rate: float, weight_decay: float) -> Optimizer:
    return AdamW(_groups(trained, rate, weight_decay), lr=rate, betas=BETAS, eps=EPSILON, fused=True)


def _adamw8bit(trained: Sequence[Named], rate: float, weight_decay: float) -> Optimizer:
    """Two bytes a weight instead of eight (Dettmers et al., 2021); tensors under 4,096 values stay in float32."""
    where = 'train.optimizer = "adamw8bit"'
    device = trained[0][1].device.type if trained else "cpu"
    if device not in BITS_DEVICES:
        raise RecipeError(
            f"bitsandbytes has no 8-bit AdamW for {device}, only for {', '.join(BITS_DEVICES)}",
            where=where,
            fix='take optimizer = "adamw"',
        )
    try:
        optim: Any = import_module("bitsandbytes.optim")
    except ImportError as error:
        raise RecipeError(
            "8-bit AdamW needs bitsandbytes", where=where, fix="pip install 'whispertune[bits]', or take adamw"
        ) from error
    made: Optimizer = optim.AdamW8bit(_groups(trained, rate, weight_decay), lr=rate, betas=BETAS, eps=EPSILON)
    return made


def _muon(trained: Sequence[Named], rate: float, weight_decay: float) -> Optimizer:
    hidden = [(name, value) for name, value in trained if _is_hidden(name, value)]
    others = [(name, value) for name, value in trained if not _is_hidden(name, value)]
    first = [_group(HIDDEN, hidden, rate, weight_decay)] if hidden else []
    return MuonWithAdamW(first, _groups(others, rate, weight_decay), rate)


MAKERS: dict[str, Callable[[Sequence[Named], float, float], Optimizer]] = {
    "adamw": _adamw,
    "adamw8bit": _adamw8bit,
    "muon": _muon,
}


class MuonWithAdamW(Optimizer):
    """Muon for hidden matrices, fused AdamW for all else, as one optimizer with one state.

    Muon (Jordan et al., 2024) replaces a matrix's momentum by the nearest orthogonal matrix. Its updates are scaled
    to the mean square that AdamW's have (0.2 · sqrt(larger side); Liu et al., 2025, "Muon is scalable for LLM
    training"), so that one learning rate, and one weight decay, mean the same to both.
    """

    def __init__(self, hidden: list[Group], others: list[Group], rate: float) -> None:
        self._parts: list[Optimizer] = []
        if hidden:
            self._parts.append(Muon(hidden, lr=rate, adjust_lr_fn="match_rms_adamw"))
        if others:
            self._parts.append(AdamW(others, lr=rate, betas=BETAS, eps=EPSILON, fused=True))
        super().__init__([*hidden, *others], {"lr": rate})  # the parts have filled in the rest of each group

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update the parameters; a closure is evaluated first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:  # loading a state, or wrapping the model, puts new groups and states in place
            part.param_groups = [group for group in self.param_groups if (group["name"] == HIDDEN) == _is_muon(part)]
            part.state = self.state
            part.step()
        return loss


def _is_muon(part: Optimizer) -> bool:
    return isinstance(part, Muon)


def _is_hidden(name: str, value: Tensor) -> bool:
    """A matrix inside a layer of the encoder or decoder: no table of tokens or positions, no convolution."""
    return value.ndim == 2 and ".layers." in name


def _groups(trained: Sequence[Named], rate: float, weight_decay: float) -> list[Group]:
    matrices = [(name, value) for name, value in trained if _decays(name, value)]
    vectors = [(name, value) for name, value in trained if not _decays(name, value)]
    groups = [_group(MATRICES, matrices, rate, weight_decay), _group(VECTORS, vectors, rate, 0.0)]
    return [group for group in groups if group["params"]]


def _decays(name: str, value: Tensor) -> bool:
    return value.ndim > 1 and "embed_positions" not in name


def _group(name: str, parameters: Sequence[Named], rate: float, weight_decay: float) -> Group:
    return {
        "params": [value for _, value in parameters],
        "name": name,
        "scale": 1.0,
        "lr": rate,
        "weight_decay": weight_decay,
    }
