"""Whisper as three functions of tensors alone, which torch's exporter can follow: no caches, no masks to pass.

    encoder = Encoder(weights, layers=6, heads=8)
    states = encoder(input_features)
    first = FirstStep(weights, layers=6, heads=8, floats=floats)
    logits, *past = first(input_ids, states)
    logits, *present = NextStep(weights, layers=6, heads=8, floats=floats)(next_ids, past)

Weights may be kept in half precision; what is computed is computed in float32, as ONNX Runtime's CPU kernels would
have it anyhow, so that a file of half the size loses nothing that its source had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Floats:
    """What the larger weights are kept in; vectors (biases, norms) stay in float32."""

    products: torch.dtype  # of linear layers and convolutions
    embeddings: torch.dtype  # of tokens and positions
    tied: bool = True  # the projection reads the embeddings; else it is a matrix of its own


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights by transformers' names, below `model.encoder` or `model.decoder`."""

    state: Mapping[str, np.ndarray]
    part: str
    floats: Floats

    def vector(self, name: str) -> nn.Parameter:
        return self._kept(name, torch.float32)

    def product(self, name: str) -> nn.Parameter:
        return self._kept(name, self.floats.products)

    def embedding(self, name: str) -> nn.Parameter:
        return self._kept(name, self.floats.embeddings)

    def has(self, name: str) -> bool:
        return f"model.{self.part}.{name}" in self.state

    def _kept(self, name: str, floats: torch.dtype) -> nn.Parameter:
        array = self.state[f"model.{self.part}.{name}"]
        return nn.Parameter(torch.tensor(array).to(floats), requires_grad=False)


class Linear(nn.Module):
    """A linear layer that keeps its weight as the product takes it, (in, out): quantizers look for that."""

    def __init__(self, weights: Weights, name: str) -> None:
        super().__init__()
        weight = weights.product(f"{name}.weight")
        self.weight = nn.Parameter(weight.t().contiguous(), requires_grad=False)
        self.bias = weights.vector(f"{name}.bias") if weights.has(f"{name}.bias") else None  # keys have none

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        product = hidden @ self.weight.float()
        return product if self.bias is None else product + self.bias


class Norm(nn.Module):
    def __init__(self, weights: Weights, name: str) -> None:
        super().__init__()
        self.weight, self.bias = weights.vector(f"{name}.weight"), weights.vector(f"{name}.bias")

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(hidden, self.weight.shape, self.weight, self.bias)


class Attention(nn.Module):
    """Attention whose keys and values may come from before; (batch, heads, length, head width) each."""

    def __init__(self, weights: Weights, name: str, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            Linear(weights, f"{name}.{each}_proj") for each in ("q", "k", "v", "out")
        )

    def remembered(self, source: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of what is attended to."""
        return self._split(self.k_proj(source)), self._split(self.v_proj(source))

    def forward(
        self, hidden: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, *, causal: bool = False
    ) -> torch.Tensor:
        queries = self._split(self.q_proj(hidden))
        scores = (queries * queries.shape[-1] ** -0.5) @ keys.mT
        if causal:
            places = torch.arange(scores.shape[-1])
            scores = scores.masked_fill(places[None, :] > places[:, None], -torch.inf)
        mixed = scores.softmax(-1) @ values
        result: torch.Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return result

    def _split(self, projected: torch.Tensor) -> torch.Tensor:
        return projected.view(*projected.shape[:2], self.heads, -1).transpose(1, 2)


class FeedForward(nn.Module):
    def __init__(self, weights: Weights, name: str) -> None:
        super().__init__()
        self.norm = Norm(weights, f"{name}.final_layer_norm")
        self.fc1, self.fc2 = Linear(weights, f"{name}.fc1"), Linear(weights, f"{name}.fc2")

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        inner: torch.Tensor = self.fc2(F.gelu(self.fc1(self.norm(hidden))))
        return hidden + inner


class EncoderLayer(nn.Module):
    def __init__(self, weights: Weights, name: str, heads: int) -> None:
        super().__init__()
        self.norm = Norm(weights, f"{name}.self_attn_layer_norm")
        self.attention = Attention(weights, f"{name}.self_attn", heads)
        self.feed_forward = FeedForward(weights, name)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        normed = self.norm(hidden)
        hidden = hidden + self.attention(normed, *self.attention.remembered(normed))
        result: torch.Tensor = self.feed_forward(hidden)
        return result


class Encoder(nn.Module):
    """Log-mel features, (batch, n_mels, frames), to states, (batch, frames / 2, width); up to 3,000 frames."""

    def __init__(self, weights: Weights, layers: int, heads: int) -> None:
        super().__init__()
        self.convolutions = nn.ParameterList([weights.product(f"conv{number}.weight") for number in (1, 2)])
        self.biases = nn.ParameterList([weights.vector(f"conv{number}.bias") for number in (1, 2)])
        self.positions = weights.embedding("embed_positions.weight")
        self.layers = nn.ModuleList([EncoderLayer(weights, f"layers.{layer}", heads) for layer in range(layers)])
        self.norm = Norm(weights, "layer_norm")

    def forward(self, input_features: torch.Tensor) -> torch.Tensor:
        hidden = input_features
        for weight, bias, stride in zip(self.convolutions, self.biases, (1, 2), strict=True):
            hidden = F.gelu(F.conv1d(hidden, weight.float(), bias, stride=stride, padding=1))
        hidden = hidden.transpose(1, 2)
        hidden = hidden + F.embedding(torch.arange(hidden.shape[1]), self.positions).float()
        for layer in self.layers:
            hidden = layer(hidden)
        result: torch.Tensor = self.norm(hidden)
        return result


class DecoderLayer(nn.Module):
    def __init__(self, weights: Weights, name: str, heads: int) -> None:
        super().__init__()
        self.norm = Norm(weights, f"{name}.self_attn_layer_norm")
        self.attention = Attention(weights, f"{name}.self_attn", heads)
        self.cross_norm = Norm(weights, f"{name}.encoder_attn_layer_norm")
        self.cross_attention = Attention(weights, f"{name}.encoder_attn", heads)
        self.feed_forward = FeedForward(weights, name)

    def first(self, hidden: torch.Tensor, states: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """All tokens at once; and keys and values, the decoder's own and the encoder's."""
        normed = self.norm(hidden)
        own = self.attention.remembered(normed)
        hidden = hidden + self.attention(normed, *own, causal=True)
        heard = self.cross_attention.remembered(states)
        hidden = hidden + self.cross_attention(self.cross_norm(hidden), *heard)
        return self.feed_forward(hidden), [*own, *heard]

    def next(self, hidden: torch.Tensor, past: Sequence[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """One token more, after what `first` gave and `next` has lengthened; the encoder's stay as they are."""
        normed = self.norm(hidden)
        own = [torch.cat(pair, dim=2) for pair in zip(past[:2], self.attention.remembered(normed), strict=True)]
        hidden = hidden + self.attention(normed, *own)
        hidden = hidden + self.cross_attention(self.cross_norm(hidden), *past[2:])
        return self.feed_forward(hidden), own


class Decoder(nn.Module):
    """What both steps share: embeddings at the bottom, logits at the top."""

    def __init__(self, weights: Weights, layers: int, heads: int) -> None:
        super().__init__()
        self.tokens = weights.embedding("embed_tokens.weight")
        self.positions = weights.embedding("embed_positions.weight")
        self.layers = nn.ModuleList([DecoderLayer(weights, f"layers.{layer}", heads) for layer in range(layers)])
        self.norm = Norm(weights, "layer_norm")
        self.projection: nn.Parameter | None = None
        if not weights.floats.tied:
            matrix = weights.product("embed_tokens.weight").t().contiguous()
            self.projection = nn.Parameter(matrix, requires_grad=False)

    def embed(self, input_ids: torch.Tensor, first: int) -> torch.Tensor:
        places = torch.arange(input_ids.shape[1]) + first
        return F.embedding(input_ids, self.tokens).float() + F.embedding(places, self.positions).float()

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        matrix = self.tokens.float().t() if self.projection is None else self.projection
        result: torch.Tensor = self.norm(hidden) @ matrix
        return result


class FirstStep(Decoder):
    """Tokens, (batch, tokens), over states to logits, (batch, tokens, vocabulary), and four tensors a layer."""

    def forward(self, input_ids: torch.Tensor, encoder_hidden_states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        hidden = self.embed(input_ids, 0)
        present: list[torch.Tensor] = []
        for layer in self.layers:
            hidden, more = layer.first(hidden, encoder_hidden_states)  # type: ignore[operator]
            present += more
        return (self.logits(hidden), *present)


class NextStep(Decoder):
    """One token a row, (batch, 1), after the four tensors a layer; to logits and the first two of each, lengthened."""

    def forward(self, input_ids: torch.Tensor, past: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        hidden = self.embed(input_ids, past[0].shape[2])
        present: list[torch.Tensor] = []
        for number, layer in enumerate(self.layers):
            hidden, more = layer.next(hidden, past[4 * number : 4 * number + 4])  # type: ignore[operator]
            present += more
        return (self.logits(hidden), *present)
