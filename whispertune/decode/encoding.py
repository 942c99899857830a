"""Whisper's encoder for decoding on CPUs: float32, each product by the library that is quickest at it.

encoder = CpuEncoder(live.model, heads=8)       # copies the weights, adapters merged in
states = encoder(mel)                           # (rows, n_mels, frames) -> (rows, frames / 2, width)

On 30 s the encoder is most of what decoding costs. Linear layers by oneDNN take less than half the time that the
library torch asks otherwise takes on CPUs by AMD, and so do the products of attention, in blocks whose scores stay in
the caches. The states are ctranslate2's and transformers' up to rounding in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch
    from transformers import WhisperForConditionalGeneration

POSITIONS_AT_ONCE: Final = 1_500  # of all rows together: what lies between two layers then stays in the caches
QUERIES_AT_ONCE: Final = 256  # of one head: 1.5 MB of scores over 30 s
LONG: Final = 500  # positions, 10 s; of fewer torch's own attention is as quick
NORM_EPSILON: Final = 1e-5


@cache
def runs_here() -> bool:
    """Whether torch has oneDNN."""
    import torch

    backends: Any = torch.backends
    return bool(backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise"))


class CpuEncoder:
    """The encoder of a model in memory, as it was when this was made."""

    def __init__(self, model: WhisperForConditionalGeneration, heads: int) -> None:
        import torch

        from whispertune.model.parameters import merged_state

        state = merged_state(model.model.encoder)
        self.weights: Mapping[str, torch.Tensor] = {name: torch.from_numpy(array) for name, array in state.items()}
        self.heads, self.layers = heads, len(model.model.encoder.layers)

    def __call__(self, mel: torch.Tensor) -> torch.Tensor:
        """States of mels of one length, float32."""
        import torch

        at_once = max(1, POSITIONS_AT_ONCE // (mel.shape[-1] // 2))
        with torch.no_grad():
            return torch.cat([self._encode(rows) for rows in torch.split(mel, at_once)])

    def _encode(self, mel: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional as F

        hidden = F.gelu(self._convolved(mel, "conv1", stride=1))
        hidden = F.gelu(self._convolved(hidden, "conv2", stride=2)).permute(0, 2, 1)
        hidden = hidden + self.weights["embed_positions.weight"][: hidden.shape[1]]
        for layer in range(self.layers):
            hidden = self._layer(hidden, f"layers.{layer}")
        return self._normed(hidden, "layer_norm")

    def _convolved(self, hidden: torch.Tensor, name: str, stride: int) -> torch.Tensor:
        from torch.nn import functional as F

        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return F.conv1d(hidden, weight, bias, stride=stride, padding=1)

    def _layer(self, hidden: torch.Tensor, name: str) -> torch.Tensor:
        from torch.nn import functional as F

        normed = self._normed(hidden, f"{name}.self_attn_layer_norm")
        queries, keys, values = (self._split(self._linear(normed, f"{name}.self_attn.{each}_proj")) for each in "qkv")
        attend = _attention if hidden.shape[1] >= LONG else F.scaled_dot_product_attention
        mixed: torch.Tensor = attend(queries, keys, values).transpose(1, 2).flatten(2)
        hidden = hidden + self._linear(mixed, f"{name}.self_attn.out_proj")
        normed = self._normed(hidden, f"{name}.final_layer_norm")
        return hidden + self._linear(self._linear(normed, f"{name}.fc1", then="gelu"), f"{name}.fc2")

    def _split(self, projected: torch.Tensor) -> torch.Tensor:  # (rows, heads, length, head width)
        return projected.view(*projected.shape[:2], self.heads, -1).transpose(1, 2)

    def _normed(self, hidden: torch.Tensor, name: str) -> torch.Tensor:
        from torch.nn import functional as F

        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return F.layer_norm(hidden, weight.shape, weight, bias, NORM_EPSILON)

    def _linear(self, hidden: torch.Tensor, name: str, then: str = "none") -> torch.Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias")  # keys have no bias
        return _product(hidden, weight, bias, then)


def _product(
    left: torch.Tensor, right: torch.Tensor, bias: torch.Tensor | None = None, then: str = "none"
) -> torch.Tensor:
    """`left` times `right` transposed, by oneDNN."""
    import torch

    found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(left, right, bias, then, [], "none")
    return found


def _attention(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Scaled dot-product attention, (rows, heads, length, head width), some queries of one head after the other."""
    import torch

    mixed = torch.empty_like(queries, memory_format=torch.contiguous_format)
    scaled = queries * queries.shape[-1] ** -0.5
    for row in range(queries.shape[0]):
        for head in range(queries.shape[1]):
            own_keys, own_values = keys[row, head].contiguous(), values[row, head].mT.contiguous()
            for first in range(0, queries.shape[2], QUERIES_AT_ONCE):
                block = slice(first, first + QUERIES_AT_ONCE)
                scores = _product(scaled[row, head, block].contiguous(), own_keys)
                mixed[row, head, block] = _product(torch.softmax(scores, -1, out=scores), own_values)
    return mixed
