"""The training loss: cross-entropy summed over target tokens, and nothing computed for the others.

module = SummedLoss(model, precision="bfloat16")
loss_sum = module(batch, shorter)   # batches of one length each; divide by the step's target tokens
states = module.prefix(batch.mel)   # of a frozen beginning of the encoder, to be kept and given back
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from whispertune.model.encoder import swap_encoder
from whispertune.model.layers import Spans, decode, layers_of, set_stochastic_depth
from whispertune.windows.labels import IGNORE

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

    from whispertune.windows.batches import Batch

CHUNK_TOKENS = 2_048  # that logits are computed for at once: 0.4 GB of them in float32
HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_precision(precision: str, device: str) -> str:
    """`auto` to `bfloat16` where the device computes in it faster than in float32, else to `float32`."""
    if precision != "auto":
        return precision
    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if _cpu_has_bfloat16() else "float32"


def _cpu_has_bfloat16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


class SummedLoss(nn.Module):
    """A Whisper model whose forward pass gives the summed loss of a batch.

    A module of its own so that wrappers (data parallel, sharding) see the whole computation. What is trained is
    settled before, by `prepare`; float16 needs a gradient scaler around it.

    Args:
        model: its encoder and layers become ours, in place.
        precision: float32, bfloat16 or float16 of the products; weights and sums stay float32.
        label_smoothing: that share of each target is spread evenly over the vocabulary.
        stochastic_depth: chance that a row skips the last layer, see `set_stochastic_depth`.
        checkpointing: keep only the inputs of the layers that learn, and compute the rest again backwards.
        compiled: torch.compile the layers.
    """

    def __init__(
        self,
        model: WhisperForConditionalGeneration,
        precision: str = "float32",
        *,
        label_smoothing: float = 0.0,
        stochastic_depth: float = 0.0,
        checkpointing: bool = False,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        swap_encoder(model)
        self.products = HALVES.get(precision)
        self.label_smoothing = label_smoothing
        set_stochastic_depth(model, stochastic_depth)
        for layer in layers_of(model):
            layer.compiled = compiled
            layer.gradient_checkpointing = checkpointing
            # the reentrant kind would need an input with a gradient, which there is none of under adapters
            layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)

    def forward(self, *batches: Batch) -> torch.Tensor:
        """Loss summed over target tokens, of batches that all have mels or all have states of the frozen layers.

        Windows of several lengths, a batch for each, cost one pass over the weights.

        Returns:
            float32 scalar.
        """
        decoder, inputs = self.model.model.decoder, [each.inputs for each in batches]
        with self._autocast(inputs[0].device):
            encoded, over = self._encoded(batches)
            hidden = decode(decoder, inputs, encoded, over).flatten(0, 1)
            targets = torch.cat([each.targets.flatten() for each in batches])
            wanted = targets != IGNORE  # the 51,865-way projection is the decoder's largest product
            return self._loss(hidden[wanted], targets[wanted])

    def _encoded(self, batches: Sequence[Batch]) -> tuple[torch.Tensor, Spans | None]:
        encoder = self.model.model.encoder
        states = [each.states for each in batches if each.states is not None]
        mels = [each.mel for each in batches if each.mel is not None]
        if len(states) != len(batches) and len(mels) != len(batches):
            raise ValueError("give batches that all have mels, or all have states")
        encoded = encoder.rest(states) if states else encoder.whole(mels)
        if len(batches) == 1:
            return encoded, None
        lengths = [each.shape[1] for each in states] or [each.shape[2] // 2 for each in mels]
        return encoded, tuple((len(each.inputs), length) for each, length in zip(batches, lengths, strict=True))

    def prefix(self, mel: torch.Tensor) -> torch.Tensor:
        """What the frozen beginning of the encoder gives, to be kept: bfloat16, (batch, frames / 2, width)."""
        with self._autocast(mel.device):
            return self.model.model.encoder.prefix(mel).to(torch.bfloat16)  # type: ignore[no-any-return]

    def _autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, dtype=self.products, enabled=self.products is not None)

    def _loss(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """In chunks, so that logits are never there for all tokens; a lone chunk is not computed twice."""
        if len(targets) <= CHUNK_TOKENS:
            return self._loss_of(hidden, targets)
        losses = [
            checkpoint(self._loss_of, *chunk, use_reentrant=False)
            for chunk in zip(torch.split(hidden, CHUNK_TOKENS), torch.split(targets, CHUNK_TOKENS), strict=True)
        ]
        return torch.stack(losses).sum()

    def _loss_of(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = self.model.proj_out(hidden).float()
        return F.cross_entropy(logits, targets, reduction="sum", label_smoothing=self.label_smoothing)
