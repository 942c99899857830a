"""Averages of weights: a moving one, or of the last or best that were evaluated. Each is evaluated like any weights.

    average = make_average("ema", module, run.folder / "averages", of=3, decay=0.99)     # or "last", "best"
    average.update(module)                       # after each optimizer step
    average.evaluated(step, wer, measured_by, module)    # after each evaluation of the live weights
    if average.due(last=extent.ended(...)):      # an average is to be evaluated beside them, and kept where better
        with average.applied(module):
            ...                                  # decode, and save the weights if they are the best so far
    ...                                          # here the live weights are back, to the bit

Averaging along the way makes up for a learning rate that is too high at the end, and smooths what single steps did
(Polyak and Juditsky, 1992; Izmailov et al., 2018). Only trained parameters are averaged, in float32.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from whispertune.files import disk_trouble, sync

UPDATES = "updates"  # the key of a moving average's count, beside the names of parameters


class Averager(Protocol):
    """Weights averaged over a run."""

    def update(self, module: nn.Module) -> None:
        """An optimizer step is done."""

    @property
    def members(self) -> tuple[int, ...]:
        """The steps whose weights are averaged, where they are few."""

    def evaluated(self, step: int, value: float, measured_by: str, module: nn.Module) -> None:
        """The live weights of the module were evaluated; `value` is the metric that selects, the lower, the better.

        Values are compared with those that were `measured_by` the same: metric, context and rows.
        Where there are several ranks, for the main one alone; it may write a file, so the disk may be full (OSError).
        """

    def due(self, *, last: bool) -> bool:
        """Whether an average is to be evaluated beside the live weights; `last`: of the run's evaluations."""

    def applied(self, module: nn.Module) -> AbstractContextManager[None]:
        """Within it the module has the averaged weights; after it its own again, to the bit."""

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint has to keep; tensors only, by the names of parameters."""

    def load_state_dict(self, state: Mapping[str, Tensor], step: int) -> None:
        """Go on as after `step`."""


def make_average(kind: str, module: nn.Module, folder: Path, *, of: int, decay: float) -> Averager | None:
    """The averager of a recipe; None where nothing is averaged.

    Args:
        kind: "none", "ema", "last" or "best".
        module: whose trained parameters are averaged, unwrapped, on its device.
        folder: for the weights that "last" and "best" hold until the end; made where it is needed.
    """
    if kind == "none":
        return None
    if kind == "ema":
        return MovingAverage(module, decay)
    return KeptAverage(folder, of, best=kind == "best")


class MovingAverage:
    """An exponential moving average of the weights, on their device.

    Its first steps count for less: the decay is at most (1 + n) / (10 + n) after n of them, so that the average is
    not held back by the weights it started from.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.shadow = {name: value.detach().to(torch.float32, copy=True) for name, value in _trained(module)}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, value in _trained(module):
            self.shadow[name].lerp_(value.float(), 1 - decay)

    @property
    def members(self) -> tuple[int, ...]:
        return ()

    def evaluated(self, step: int, value: float, measured_by: str, module: nn.Module) -> None:
        """Nothing: a moving average has no need of evaluations."""

    def due(self, *, last: bool) -> bool:
        return self.updates > 0

    def applied(self, module: nn.Module) -> AbstractContextManager[None]:
        return swapped(module, self.shadow)

    def state_dict(self) -> dict[str, Tensor]:
        return {**self.shadow, UPDATES: torch.tensor(self.updates)}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor], step: int) -> None:
        if UPDATES not in state:  # the run had no average so far; what this one starts from is soon forgotten
            return
        self.updates = int(state[UPDATES])
        for name, value in self.shadow.items():
            value.copy_(state[name])


@dataclass(frozen=True, slots=True)
class _Kept:
    """Evaluated weights in a file of their own."""

    step: int
    value: float
    measured_by: str
    path: Path


class KeptAverage:
    """The average of the last, or the best, k evaluated weights, each in a file until the run is done."""

    def __init__(self, folder: Path, of: int, *, best: bool) -> None:
        self.folder, self.of, self.best = folder, of, best

    def update(self, module: nn.Module) -> None:
        """Nothing: only evaluated weights count."""

    @property
    def members(self) -> tuple[int, ...]:
        return tuple(each.step for each in self._chosen())

    def evaluated(self, step: int, value: float, measured_by: str, module: nn.Module) -> None:
        """Write the weights aside, and drop those that no longer belong to the k."""
        new = _Kept(step, value, measured_by, self.folder / f"step-{step:07d}.safetensors")
        if new in self._chosen(new):
            _write(new, module)
        chosen = self._chosen()
        for each in self._all():
            if each not in chosen:
                each.path.unlink()

    def due(self, *, last: bool) -> bool:
        return last and len(self.members) > 1

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        with swapped(module, self.average()):
            yield

    def average(self) -> dict[str, Tensor]:
        """The mean of the kept weights, float32 on the CPU; one tensor of one file is read at a time."""
        from safetensors import safe_open

        mean: dict[str, Tensor] = {}
        for number, each in enumerate(self._chosen(), start=1):
            with safe_open(each.path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118
                    value = file.get_tensor(name).float()
                    mean[name] = mean[name].lerp_(value, 1 / number) if name in mean else value.clone()
        return mean

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing: what there is lies in the folder."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor], step: int) -> None:
        """Drop what was evaluated after `step`: a resumed run evaluates it again. All ranks do so, in any order."""
        for path in self.folder.glob(".*.partial"):
            path.unlink(missing_ok=True)
        for each in self._all():
            if each.step > step:
                each.path.unlink(missing_ok=True)

    def _chosen(self, *new: _Kept) -> list[_Kept]:
        """Those that are averaged, in the order of their steps; the best of those measured as the newest was."""
        found = sorted({each.step: each for each in (*self._all(), *new)}.values(), key=lambda each: each.step)
        if self.best:
            found = [each for each in found if each.measured_by == found[-1].measured_by]
        ranked = sorted(found, key=lambda each: (each.value, each.step) if self.best else (-each.step,))
        return sorted(ranked[: self.of], key=lambda each: each.step)

    def _all(self) -> list[_Kept]:
        read = (_read_note(path) for path in sorted(self.folder.glob("step-*.safetensors")))
        return [each for each in read if each is not None]


@contextmanager
def swapped(module: nn.Module, weights: dict[str, Tensor]) -> Iterator[None]:
    """Within it the module has these weights; after it its own again, and `weights` what they were, both to the bit.

    Weights change places one by one, so that memory holds one tensor more and no third copy of all. Values move and
    tensors stay, so that wrappers, ties and optimizers do not notice.
    """
    live = {name: value for name, value in _trained(module) if name in weights}
    held: dict[str, Tensor] = {}  # of those in fewer bits than the average, which would lose it
    done: list[str] = []
    try:
        for name, value in live.items():
            done.append(name)
            _exchange(name, value, weights, held)
        yield
    finally:
        for name in done:
            _restore(name, live[name], weights, held)


@torch.no_grad()
def _exchange(name: str, value: Tensor, weights: dict[str, Tensor], held: dict[str, Tensor]) -> None:
    own = value.detach().clone()
    value.copy_(weights[name])
    if value.dtype == weights[name].dtype:
        weights[name].copy_(own)
    else:
        held[name] = own


@torch.no_grad()
def _restore(name: str, value: Tensor, weights: dict[str, Tensor], held: dict[str, Tensor]) -> None:
    if name in held:
        value.copy_(held[name])
    else:
        _exchange(name, value, weights, held)


def _trained(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return ((name, value) for name, value in module.named_parameters() if value.requires_grad)


def _write(kept: _Kept, module: nn.Module) -> None:
    """Whole or not at all; the value travels in the file, so that neither is without the other."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    kept.path.parent.mkdir(parents=True, exist_ok=True)
    temporary = kept.path.with_name(f".{kept.path.name}.partial")
    tensors = {name: value.detach().cpu().contiguous() for name, value in _trained(module)}
    try:
        note = {"step": str(kept.step), "value": repr(kept.value), "measured_by": kept.measured_by}
        save_file(tensors, temporary, metadata=note)
        sync(temporary)
    except (OSError, SafetensorError) as error:  # what it raises on a full disk is no OSError
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise
        raise OSError(disk_trouble(error) or errno.EIO, str(error), str(temporary)) from error
    temporary.replace(kept.path)
    sync(kept.path.parent)


def _read_note(path: Path) -> _Kept | None:
    """None where it is not what was written, or has gone: such weights are not among the members."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            note = file.metadata()
    except (SafetensorError, OSError):
        return None
    return _Kept(int(note["step"]), float(note["value"]), note.get("measured_by", ""), path)
