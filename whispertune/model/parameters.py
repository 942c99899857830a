"""What is trained: all weights, adapters beside them, or what freezing leaves over.

parameters = prepare(model, Choice(method="lora", freeze=("encoder.layers.0-3",)))   # in place
parameters.told                # "1.2 M of 73.8 M parameters are trained: adapters of rank 32 on ..."
state = trained_state(module)  # what a checkpoint keeps
load_trained(module, state)
merged_state(model)            # the weights of an ordinary Whisper, for decoding and export
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import nn

from whispertune.errors import ModelError, RecipeError
from whispertune.model.adapters import AdapterSettings, add_adapters, linear_bias, linear_weight, merged_weight, whole
from whispertune.model.encoder import frozen_prefix, swap_encoder

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

EMBEDDINGS = ("decoder.embed_tokens", "decoder.embed_positions")
TARGETS = {
    "attention": ("*.q_proj", "*.k_proj", "*.v_proj", "*.out_proj"),
    "feed_forward": ("*.fc1", "*.fc2"),
}
WITHOUT_FRILLS = AdapterSettings()
LISTED = 6  # names at most that an error lists


@dataclass(frozen=True, slots=True)
class Choice:
    """What the recipe says about what is trained."""

    method: Literal["full", "lora"] = "full"
    freeze: tuple[str, ...] = ()
    targets: tuple[str, ...] = ("attention",)  # of adapters
    adapters: AdapterSettings = WITHOUT_FRILLS
    base_bits: Literal[4, 8] | None = None


@dataclass(frozen=True, slots=True)
class Parameters:
    """What came of it."""

    trained: int
    total: int
    frozen_prefix: int  # layers at the encoder's beginning without a gradient; one more than there are: all of it
    adapters: bool
    told: str


def prepare(model: WhisperForConditionalGeneration, choice: Choice, device: str = "cpu") -> Parameters:
    """Settle what of a model is trained, in place: freeze, add adapters, keep the base in few bits.

    Args:
        model: in float32, as loaded; its encoder and layers become ours.
        choice: what the recipe says.
        device: where weights are brought to be kept in 4 or 8 bits, whose layout differs between devices.

    Raises:
        RecipeError: a pattern that matches nothing, or nothing is left to train.
        ModelError: bitsandbytes is needed and not installed.
    """
    encoder = swap_encoder(model)
    frozen = _frozen(model, choice.freeze)
    before = _before_frozen_layers(model, frozen) if choice.method == "full" else set()
    frozen |= before
    for name, value in model.model.named_parameters():
        if name in frozen or choice.method == "lora":
            value.requires_grad_(False)
    if choice.method == "lora":
        targets = _targets(model.model, choice.targets, frozen)
        add_adapters(model, [f"model.{name}" for name in targets], choice.adapters, choice.base_bits, device)
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    if not trained:
        raise RecipeError("everything is frozen", where="train.freeze", fix="leave a part that learns")
    encoder.frozen_layers = frozen_prefix(encoder)
    total = sum(_size(value) for value in model.parameters())
    told = _told(choice, trained, total, encoder.frozen_layers, len(encoder.layers), bool(before))
    return Parameters(trained, total, encoder.frozen_layers, choice.method == "lora", told)


def _frozen(model: WhisperForConditionalGeneration, patterns: Sequence[str]) -> set[str]:
    """The parameters that the patterns and Whisper itself (the encoder's positions) keep as they are."""
    names = [name for name, _ in model.model.named_parameters()]
    frozen = {"encoder.embed_positions.weight"}
    for pattern in patterns:
        for each in EMBEDDINGS if pattern == "embeddings" else _expanded(pattern):
            found = {name for name in names if any(fnmatchcase(part, each) for part in _with_parents(name))}
            if not found:
                known = sorted({"embeddings", *(part for name in names for part in _with_parents(name))})
                raise _nothing("train.freeze", pattern, each, known)
            frozen |= found
    return frozen


def _before_frozen_layers(model: WhisperForConditionalGeneration, frozen: set[str]) -> set[str]:
    """What of the convolutions would learn before a frozen first layer, whose gradients would have to go through."""
    names = [name for name, _ in model.model.named_parameters()]
    if not frozen.issuperset(name for name in names if name.startswith("encoder.layers.0.")):
        return set()
    return {name for name in names if name.startswith("encoder.conv")} - frozen


def _targets(model: nn.Module, patterns: Sequence[str], frozen: set[str]) -> list[str]:
    """The linear layers that adapters go to; frozen parts get none."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    chosen: set[str] = set()
    for pattern in patterns:
        for each in TARGETS.get(pattern) or _expanded(pattern):
            found = {name for name in linear if any(fnmatchcase(part, each) for part in _with_parents(name))}
            if not found:
                raise _nothing("train.lora.targets", pattern, each, sorted({*TARGETS, *linear}))
            chosen |= found
    free = [name for name in linear if name in chosen and f"{name}.weight" not in frozen]
    if not free:
        raise RecipeError(
            "all that adapters would go to is frozen", where="train.freeze", fix="free a part, or name other targets"
        )
    return free


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def _expanded(pattern: str) -> list[str]:
    """`encoder.layers.0-5` as six patterns."""
    span = re.search(r"(?<=\.)(\d+)-(\d+)(?=\.|$)", pattern)
    if span is None:
        return [pattern]
    numbers = range(int(span[1]), int(span[2]) + 1)
    return [pattern[: span.start()] + str(number) + pattern[span.end() :] for number in numbers] or [pattern]


def _nothing(where: str, pattern: str, each: str, known: Iterable[str]) -> RecipeError:
    names = list(known)
    near = get_close_matches(each, names, n=3, cutoff=0.5) or [name for name in names if "." not in name]
    inside = "" if each == pattern else f" (there is no {each})"
    return RecipeError(
        f"{pattern!r} matches nothing in this model{inside}",
        where=where,
        fix=f"did you mean {', '.join(near[:LISTED])}?",
    )


def _size(value: nn.Parameter) -> int:
    """Numbers in a parameter; four bits are kept two in a byte."""
    state = getattr(value, "quant_state", None)
    return int(state.shape.numel()) if state is not None else value.numel()


def _told(choice: Choice, trained: int, total: int, prefix: int, layers: int, before: bool) -> str:
    def millions(count: int) -> str:
        return f"{count / 1e6:,.1f} M" if count >= 1e5 else f"{count:,}"

    told = f"{millions(trained)} of {millions(total)} parameters are trained"
    if choice.method == "lora":
        kind = "DoRA" if choice.adapters.dora else "rsLoRA" if choice.adapters.rslora else "LoRA"
        base = f", all layers of the base in {choice.base_bits} bits" if choice.base_bits else ""
        told += f": {kind} adapters of rank {choice.adapters.rank} on {', '.join(choice.targets)}{base}"
    if choice.freeze:
        told += f"; frozen: {', '.join(choice.freeze)}" + (" (so the convolutions too)" if before else "")
    if prefix:
        whole = "the encoder" if prefix > layers else f"the encoder's first {prefix} of {layers} layers"
        told += f"; no gradient goes through {whole}"
    return told


def trained_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """What a checkpoint has to keep: copies of the trained parameters, on the CPU, by name.

    Args:
        module: the model, or what wraps it; the names are the same. Of a sharded one all ranks have to call.
    """
    return {name: whole(value).cpu().clone() for name, value in _trained(module).items()}


def load_trained(module: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Put back what `trained_state` gave.

    Raises:
        ModelError: it is of another model, or of another choice of what is trained.
    """
    trained = _trained(module)
    odd = sorted(set(trained) ^ set(state))
    odd += [name for name, value in trained.items() if name in state and value.shape != state[name].shape]
    if odd:
        raise ModelError(
            f"the kept weights are not those that are trained here ({len(odd)} differ, {odd[0]} first)",
            fix="resume with the recipe and the model that the run began with",
        )
    with torch.no_grad():
        for name, value in trained.items():
            value.copy_(_like(state[name].to(value.device), value))


def _trained(module: nn.Module) -> dict[str, nn.Parameter]:
    from transformers import WhisperForConditionalGeneration

    whisper = next(part for part in module.modules() if isinstance(part, WhisperForConditionalGeneration))
    return {name: value for name, value in whisper.named_parameters() if value.requires_grad}


def _like(value: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """A whole tensor, sharded as another is."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    return distribute_tensor(value, other.device_mesh, other.placements) if isinstance(other, DTensor) else value


def merged_state(model: nn.Module) -> dict[str, np.ndarray]:
    """The weights as an ordinary Whisper has them: float32 copies by name, adapters merged in.

    Args:
        model: a WhisperForConditionalGeneration, prepared or not, which is not touched. Of a sharded one all ranks
            have to call.
    """
    state: dict[str, np.ndarray] = {}
    adapted: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if name.startswith(adapted or ("\0",)):
            continue
        if hasattr(module, "lora_A"):
            adapted += (f"{name}.",)
        for key, value in _ordinary(module):
            state[f"{name}.{key}"] = np.array(whole(value).float().cpu().numpy())  # off the device one by one
    return state


def _ordinary(module: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """A module's own parameters as an ordinary Whisper has them."""
    adapted = hasattr(module, "lora_A")
    if not adapted and not isinstance(module, nn.Linear):
        yield from module.named_parameters(recurse=False)
        return
    base = module.base_layer if adapted else module
    yield "weight", merged_weight(module) if adapted else linear_weight(base)
    if (bias := linear_bias(base)) is not None:
        yield "bias", bias
