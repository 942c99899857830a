"""Low-rank adapters through peft, on a base that is whole or kept in 8 or 4 bits.

    add_adapters(model, ["model.decoder.layers.0.fc1"], AdapterSettings(rank=8), base_bits=None, device="cpu")

They are injected: the model keeps its class and its generate().
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from whispertune.errors import ModelError

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration


OUTLIER = 6.0  # inputs beyond it are multiplied as they are, the others in 8 bits (Dettmers et al., 2022)


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """Of LoRA (Hu et al., 2021), rsLoRA (Kalajdzievski, 2023) and DoRA (Liu et al., 2024)."""

    rank: int = 32
    alpha: float = 64.0
    dropout: float = 0.0
    rslora: bool = False
    dora: bool = False


def add_adapters(
    model: WhisperForConditionalGeneration,
    targets: Sequence[str],
    settings: AdapterSettings,
    base_bits: int | None,
    device: str,
) -> None:
    """Put an adapter beside each of the linear layers `targets`, in place; they alone want gradients.

    With `base_bits` all that is linear in the model's layers is kept in so many bits, with an adapter or without.

    Raises:
        ModelError: `base_bits` is asked for, and bitsandbytes is not installed.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # a line for each product on the CPU otherwise
    if base_bits:
        for name in [name for name, module in model.named_modules() if _in_a_layer(name, module)]:
            _keep_in_bits(model, name, base_bits, device)
        setattr(model, f"is_loaded_in_{base_bits}bit", True)  # what peft looks for
    from peft import LoraConfig, inject_adapter_in_model  # it loads bitsandbytes too

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        target_modules=list(targets),
        task_type=None,
    )
    inject_adapter_in_model(config, model)
    for name in targets:
        module: Any = model.get_submodule(name)
        module.cast_input_dtype_enabled = False  # to float32, from which autocast would cast it back


def _in_a_layer(name: str, module: nn.Module) -> bool:
    return ".layers." in name and isinstance(module, nn.Linear)


def _keep_in_bits(model: nn.Module, name: str, bits: int, device: str) -> None:
    """Replace a linear layer by one whose weights take a quarter or an eighth of the memory."""
    parent = model.get_submodule(name.rpartition(".")[0])
    linear: Any = model.get_submodule(name)
    kept = _in_bits(linear, bits).to(device)
    if linear.bias is not None:  # bitsandbytes rounds the bias to what it computes in, for good
        kept.register_buffer("exact_bias", linear.bias.detach().clone().to(device), persistent=False)
    setattr(parent, name.rpartition(".")[2], kept)


def _in_bits(linear: Any, bits: int) -> Any:
    bnb = _bitsandbytes()

    class Linear8bit(bnb.Linear8bitLt):  # type: ignore[name-defined,misc]
        """Keeps its scales where peft, reading the weights for DoRA, moves these to the device they are on."""

        def init_8bit_state(self) -> None:
            scales = self.state.SCB
            super().init_8bit_state()
            self.state.SCB = scales if self.state.SCB is None else self.state.SCB

    shape = (linear.in_features, linear.out_features, linear.bias is not None)
    weight = linear.weight.detach().clone()
    kept: Any
    if bits == 8:
        kept = Linear8bit(*shape, has_fp16_weights=False, threshold=OUTLIER)
        kept.weight = bnb.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    else:
        kept = bnb.Linear4bit(*shape, quant_type="nf4")
        kept.weight = bnb.Params4bit(weight, requires_grad=False, quant_type="nf4")
        kept.support_avx512bf16_for_cpu = False  # it would pack the weights anew, in a way that is not read back
    if linear.bias is not None:
        kept.bias = nn.Parameter(linear.bias.detach().clone(), requires_grad=False)
    return kept


def _bitsandbytes() -> Any:
    try:
        import bitsandbytes
    except ImportError as error:
        raise ModelError(
            "bitsandbytes is not installed", where="train.base_bits", fix='pip install "whispertune[bits]"'
        ) from error
    return bitsandbytes.nn


def merged_weight(layer: Any) -> torch.Tensor:
    """The weight that a linear layer and its adapter come to, float32; neither is touched.

    Args:
        layer: peft's, with one adapter.
    """
    base: torch.Tensor = linear_weight(layer.base_layer)
    (name,) = layer.active_adapters
    scaling = float(layer.scaling[name])
    merged = base + scaling * (_float(layer.lora_B[name].weight) @ _float(layer.lora_A[name].weight))
    if name in layer.lora_magnitude_vector:  # DoRA: the direction of each row times its own length
        magnitude = _float(layer.lora_magnitude_vector[name].weight)
        merged *= (magnitude / torch.linalg.norm(merged, dim=1)).unsqueeze(1)
    return merged


def linear_weight(linear: Any) -> Any:
    """The weight of a linear layer, whole or in few bits, float32; peft's own function breaks 8 bits on the CPU."""
    kind = type(linear.weight).__name__
    if kind == "Int8Params":  # rows of integers; the largest of a row is 127
        largest = linear.weight.SCB if linear.weight.SCB is not None else linear.state.SCB
        return linear.weight.detach().float() * (largest / 127).unsqueeze(1)
    if kind == "Params4bit":
        from bitsandbytes.functional import dequantize_4bit

        return dequantize_4bit(linear.weight.data, linear.weight.quant_state).float()
    return _float(linear.weight)


def linear_bias(linear: Any) -> Any:
    """The bias of a linear layer as it was before its weight went into few bits; None where it has none."""
    return getattr(linear, "exact_bias", linear.bias)


def _float(value: torch.Tensor) -> torch.Tensor:
    return whole(value).float()


def whole(value: torch.Tensor) -> torch.Tensor:
    """A tensor without its gradient and, where it is sharded over ranks, in one piece."""
    value = value.detach()
    gather: Any = getattr(value, "full_tensor", None)
    return gather() if gather else value
