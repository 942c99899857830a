"""The encoder as training and decoding need it: mels of any length, and a frozen beginning that costs little.

    encoder = swap_encoder(model)     # in place; before adapters, devices and wrappers
    encoder.frozen_layers = 4         # the convolutions and the first four layers
    states = encoder.prefix(mel)      # no gradient, no dropout, whatever train() says; can be kept
    hidden = encoder.rest([states])   # the other layers and the last norm
    hidden = encoder.whole([mel, shorter])    # all of it, rows of several lengths, one after the other

For 3,000 frames the numbers are transformers' own, whose encoder takes no other length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn import functional as F
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.whisper import modeling_whisper

from whispertune.errors import ModelError
from whispertune.model.layers import flat, swap_layers

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration


class WhisperEncoder(modeling_whisper.WhisperEncoder):  # type: ignore[misc]
    """transformers' encoder, which keeps its name for wrappers that look for it."""

    frozen_layers: int = 0  # 1 and more: the convolutions too; one more than there are: the last norm too

    def forward(self, input_features: torch.Tensor, attention_mask: None = None, **kwargs: Any) -> BaseModelOutput:
        """Encode mels of any even length; nothing is ever masked.

        Args:
            input_features: (rows, n_mels, frames), at most twice as many frames as there are positions (3,000).
            attention_mask: not used, as in transformers.
            kwargs: what generate() hands through; nothing of it matters here.
        """
        return BaseModelOutput(last_hidden_state=self.whole([input_features]))

    def whole(self, mels: Sequence[torch.Tensor]) -> torch.Tensor:
        """From mels (rows, n_mels, frames) to what the decoder reads; several lie as `flat` lays them."""
        if self.frozen_layers:
            return self.rest([self.prefix(mel) for mel in mels])
        return self._through([self._front(mel) for mel in mels], 0)

    def prefix(self, mel: torch.Tensor) -> torch.Tensor:
        """What the frozen layers give: (rows, frames / 2, width), without a gradient."""
        with torch.no_grad():
            hidden = self._front(mel)
            for layer in self.layers[: self.frozen_layers]:
                hidden = layer(hidden)
            return self.layer_norm(hidden) if self.frozen_layers > len(self.layers) else hidden

    def rest(self, states: Sequence[torch.Tensor]) -> torch.Tensor:
        """From the frozen layers' states to those the decoder reads; several lie as `flat` lays them."""
        states = [each.to(self.layer_norm.weight.dtype) for each in states]  # kept ones come in bfloat16
        if self.frozen_layers > len(self.layers):
            return flat(states)[0]
        return self._through(states, self.frozen_layers)

    def train(self, mode: bool = True) -> WhisperEncoder:
        """Set the mode of all but the frozen layers, which stay without dropout and checkpointing."""
        super().train(mode)
        if self.frozen_layers:
            for module in (self.conv1, self.conv2, *self.layers[: self.frozen_layers]):
                module.eval()
        return self

    def _front(self, mel: torch.Tensor) -> torch.Tensor:
        frames, most = mel.shape[-1], 2 * self.embed_positions.num_embeddings
        if frames % 2 or not 0 < frames <= most:
            raise ModelError(f"a mel of {frames} frames", fix=f"give an even number of frames, at most {most}")
        hidden = F.gelu(self.conv2(F.gelu(self.conv1(mel)))).permute(0, 2, 1)
        hidden = hidden + self.embed_positions.weight[: frames // 2]
        return F.dropout(hidden, self.dropout, self.training and not self.frozen_layers)

    def _through(self, rectangles: Sequence[torch.Tensor], first: int) -> torch.Tensor:
        hidden, spans = flat(rectangles)
        for layer in self.layers[first:]:
            hidden = layer(hidden, spans=spans)
        return cast(torch.Tensor, self.layer_norm(hidden))


def swap_encoder(model: WhisperForConditionalGeneration) -> WhisperEncoder:
    """Make the encoder and all layers of a model ours, in place; those that are stay as they are set.

    Args:
        model: loaded by transformers, not wrapped yet.
    """
    swap_layers(model)
    encoder = model.model.encoder
    encoder.__class__ = WhisperEncoder
    return cast(WhisperEncoder, encoder)


def frozen_prefix(encoder: nn.Module) -> int:
    """How many layers at the encoder's beginning learn nothing; 0 where the convolutions do."""

    def learns(*modules: nn.Module) -> bool:
        return any(value.requires_grad for module in modules for value in module.parameters())

    encoder = cast(WhisperEncoder, encoder)
    if learns(encoder.conv1, encoder.conv2):
        return 0
    count = next((n for n, layer in enumerate(encoder.layers) if learns(layer)), len(encoder.layers))
    return count + 1 if count == len(encoder.layers) and not learns(encoder.layer_norm) else count
