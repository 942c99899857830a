"""Optimizers: which parameters decay, resuming to the bit, and being what accelerate and gradient scalers take."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from whispertune.errors import RecipeError
from whispertune.model.load import ModelFolder
from whispertune.model.loss import SummedLoss
from whispertune.train.learning.optimizers import MAKERS, make_optimizer

BITS = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="the extra bits is not installed")
KINDS = [pytest.param(kind, marks=BITS if kind == "adamw8bit" else ()) for kind in MAKERS]


class Layered(nn.Module):
    """Named like a Whisper: tables outside, matrices in layers, large enough for a state in 8 bits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed_tokens = nn.Embedding(100, 64)
        self.embed_positions = nn.Embedding(80, 64)
        self.conv = nn.Conv1d(64, 64, 3)
        self.layers = nn.ModuleList([nn.Linear(64, 128), nn.Linear(128, 64)])


def _named(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return SummedLike(module).named_parameters()


class SummedLike(nn.Module):
    """A prefix before the names, as in training."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


def _steps(module: nn.Module, optimizer: Optimizer, first: int, end: int, *, constant: bool = False) -> None:
    for step in range(first, end):
        generator = torch.Generator().manual_seed(step)
        for parameter in module.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        for group in optimizer.param_groups:
            group["lr"] = 1e-4 if constant else 1e-2 * group["scale"] / (1 + step)
        optimizer.step()
        optimizer.zero_grad()


def _state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("kind", KINDS)
def test_matrices_decay_and_nothing_else_does(kind: str, tiny: ModelFolder) -> None:
    module = SummedLoss(tiny.load())
    named = dict(module.named_parameters())
    optimizer = make_optimizer(named.items(), kind, rate=1e-3, weight_decay=0.25)
    names = {id(value): name for name, value in named.items()}
    found = {names[id(each)]: group for group in optimizer.param_groups for each in group["params"]}
    trained = {name for name, value in named.items() if value.requires_grad}
    assert found.keys() == trained
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(trained)
    for name, group in found.items():
        decays = group["weight_decay"] == 0.25
        assert decays == (not name.endswith(("bias", "norm.weight")) and "embed_positions" not in name), name
        assert group["scale"] == 1.0


def test_muon_takes_the_matrices_of_layers(tiny: ModelFolder) -> None:
    module = SummedLoss(tiny.load())
    optimizer = make_optimizer(module.named_parameters(), "muon", rate=1e-3, weight_decay=0.0)
    names = {id(value): name for name, value in module.named_parameters()}
    hidden = {names[id(each)] for each in optimizer.param_groups[0]["params"]}
    assert optimizer.param_groups[0]["name"] == "hidden"
    assert "model.model.decoder.layers.1.encoder_attn.q_proj.weight" in hidden
    assert "model.model.encoder.layers.0.fc1.weight" in hidden
    assert not any("embed" in name or "conv" in name or "norm" in name or "bias" in name for name in hidden)


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_optimizer_goes_on_to_the_bit(kind: str, tmp_path: Path) -> None:
    whole = Layered()
    _steps(whole, make_optimizer(_named(whole), kind, 1e-2, 0.1), 0, 6)

    before = Layered()
    optimizer = make_optimizer(_named(before), kind, 1e-2, 0.1)
    _steps(before, optimizer, 0, 3)
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")

    after = Layered()
    after.load_state_dict(before.state_dict())
    resumed = make_optimizer(_named(after), kind, 1e-2, 0.1)
    resumed.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    _steps(after, resumed, 3, 6)

    for name, value in _state(whole).items():
        assert torch.equal(value, _state(after)[name]), name
    assert not torch.equal(whole.conv.weight, before.conv.weight)


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_is_needed_to_resume(kind: str) -> None:
    """The test above would not see a state that counts for nothing."""
    whole = Layered()
    optimizer = make_optimizer(_named(whole), kind, 1e-2, 0.1)
    _steps(whole, optimizer, 0, 3)
    bare = Layered()
    bare.load_state_dict(whole.state_dict())
    _steps(whole, optimizer, 3, 4)
    _steps(bare, make_optimizer(_named(bare), kind, 1e-2, 0.1), 3, 4)
    for group in ("layers.0.weight", "embed_tokens.weight"):
        assert not torch.equal(whole.state_dict()[group], bare.state_dict()[group])


@pytest.mark.parametrize("kind", KINDS)
def test_accelerate_prepares_it_and_the_groups_take_a_rate(kind: str) -> None:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    bare, prepared = Layered(), Layered()
    _steps(bare, make_optimizer(_named(bare), kind, 1e-2, 0.1), 0, 2)
    module, optimizer = accelerator.prepare(prepared, make_optimizer(_named(prepared), kind, 1e-2, 0.1))
    _steps(module, optimizer, 0, 2)
    for name, value in _state(bare).items():
        assert torch.equal(value, _state(prepared)[name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_scaler_unscales_and_skips_what_is_not_finite(kind: str) -> None:
    module = Layered()
    optimizer = make_optimizer(_named(module), kind, 1e-2, 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale(torch.zeros(()))  # as the loss of a step does: the scaler is begun
    before = _state(module)
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, float("inf"))
    scaler.step(optimizer)
    scaler.update()
    assert all(torch.equal(value, before[name]) for name, value in _state(module).items())
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, 4.0 * 8.0 / 2.0)
    scaler.unscale_(optimizer)
    assert module.conv.weight.grad is not None
    assert float(module.conv.weight.grad[0, 0, 0]) == 4.0
    scaler.step(optimizer)
    assert not any(torch.equal(value, before[name]) for name, value in _state(module).items())


def test_muon_moves_matrices_as_far_as_adamw() -> None:
    """One rate for both: once AdamW has its moments, updates have like mean squares."""
    moved = {}
    for kind in ("adamw", "muon"):
        module = Layered()
        optimizer = make_optimizer(_named(module), kind, 1e-4, 0.0)
        _steps(module, optimizer, 0, 60, constant=True)
        before = module.layers[0].weight.detach().clone()
        _steps(module, optimizer, 60, 61, constant=True)
        moved[kind] = float((module.layers[0].weight.detach() - before).square().mean().sqrt())
    assert moved["muon"] / moved["adamw"] == pytest.approx(1.0, abs=0.4)


@BITS
def test_adamw_in_8_bits_keeps_two_bytes_a_weight() -> None:
    sizes = {}
    for kind in ("adamw", "adamw8bit"):
        module = nn.Sequential(nn.Linear(512, 512, bias=False))
        optimizer = make_optimizer(_named(module), kind, 1e-3, 0.0)
        _steps(module, optimizer, 0, 1)
        state = next(iter(optimizer.state.values()))
        sizes[kind] = sum(value.nbytes for value in state.values() if isinstance(value, torch.Tensor))
    assert sizes["adamw"] / (512 * 512) == pytest.approx(8, rel=0.01)
    assert sizes["adamw8bit"] / (512 * 512) == pytest.approx(2, rel=0.05)


def test_without_bitsandbytes_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(RecipeError, match=r"whispertune\[bits\]"):
        make_optimizer(_named(Layered()), "adamw8bit", 1e-3, 0.0)


def test_8_bits_on_a_device_without_them_is_said() -> None:
    with pytest.raises(RecipeError, match="meta, only for cpu, cuda, xpu"):
        make_optimizer(_named(Layered().to("meta")), "adamw8bit", 1e-3, 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_groups_without_parameters_are_left_out(kind: str) -> None:
    module = Layered()
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name.startswith("layers") and parameter.ndim == 2)
    optimizer = make_optimizer(_named(module), kind, 1e-2, 0.1)
    assert [len(group["params"]) for group in optimizer.param_groups] == [2]
    _steps(module, optimizer, 0, 1)
