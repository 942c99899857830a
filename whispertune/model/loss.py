"""The training loss: cross-entropy summed over target tokens, and nothing computed for the others.

module = SummedLoss(model, precision="float32")
loss_sum = module(batch.mel, batch.inputs, batch.targets)   # divide by the step's target tokens
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from whispertune.windows.labels import IGNORE

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration


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

    A module of its own so that wrappers (data parallel, compile) see the whole computation.
    """

    def __init__(self, model: WhisperForConditionalGeneration, precision: str = "float32") -> None:
        super().__init__()
        self.model = model
        self.in_bfloat16 = precision == "bfloat16"

    def forward(self, mel: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Loss summed over target tokens.

        Args:
            mel: float32, (batch, n_mels, frames).
            inputs: int64, (batch, tokens), decoder inputs.
            targets: int64, (batch, tokens), IGNORE where there is no loss.

        Returns:
            float32 scalar.
        """
        with torch.autocast(mel.device.type, dtype=torch.bfloat16, enabled=self.in_bfloat16):
            hidden = self.model.model(mel, decoder_input_ids=inputs, use_cache=False).last_hidden_state
            wanted = targets != IGNORE  # the 51,865-way projection is the decoder's largest product
            logits = self.model.proj_out(hidden[wanted])
        return F.cross_entropy(logits.float(), targets[wanted], reduction="sum")
