"""Whisper as three functions of tensors alone, which torch's exporter can follow: no caches, no masks to pass.

    states = Encoder(Weights(state, "encoder", torch.float16), layers=6, heads=8)(input_features)
    weights = Weights(state, "decoder", torch.float16)
    logits, *past = FirstStep(weights, layers=6, heads=8)(input_ids, states)
    logits, *present = NextStep(weights, layers=6, heads=8)(next_ids, past)

Weights may be kept in half precision; what is computed is computed in float32, as ONNX Runtime's CPU kernels would
have it anyhow, so that a file of half the size loses nothing that its source had. In 8 bits a weight the graphs can
be exported, but not be run by torch: the product is ONNX Runtime's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from whispertune.model.formats.tied import own_projection

BLOCK = 32  # weights of a row that share a scale
ZERO = 128  # the level that stands for 0


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights by transformers' names, below `model.encoder` or `model.decoder`."""

    state: Mapping[str, np.ndarray]
    part: str
    floats: torch.dtype  # what matrices and convolutions are kept in; vectors (biases, norms) stay in float32
    in_bytes: bool = False  # linear layers and the embeddings of tokens have 8 bits a weight instead

    def vector(self, name: str) -> nn.Parameter:
        return nn.Parameter(torch.tensor(self._array(name), dtype=torch.float32), requires_grad=False)

    def kept(self, name: str) -> nn.Parameter:
        return self._kept(self._array(name))

    def matrix(self, name: str) -> InFloats | InBytes:
        return self._matrix(self._array(name))

    def output(self) -> InFloats | InBytes | None:
        """What makes logits of states; None where the embeddings of tokens do."""
        own = own_projection(self.state)
        return None if own is None else self._matrix(own)

    def has(self, name: str) -> bool:
        return f"model.{self.part}.{name}" in self.state

    def _kept(self, array: np.ndarray) -> nn.Parameter:
        return nn.Parameter(torch.tensor(array, dtype=self.floats), requires_grad=False)

    def _matrix(self, array: np.ndarray) -> InFloats | InBytes:
        return InBytes(array) if self.in_bytes else InFloats(self._kept(array))

    def _array(self, name: str) -> np.ndarray:
        return self.state[f"model.{self.part}.{name}"]


class InFloats(nn.Module):
    """A matrix, (out, in), as it is; ONNX Runtime turns it to the other side once, when it loads it."""

    def __init__(self, matrix: nn.Parameter) -> None:
        super().__init__()
        self.matrix = matrix

    def product(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden @ self.matrix.float().t()

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        return F.embedding(ids, self.matrix).float()


class InBytes(nn.Module):
    """A matrix, (out, in), in 8 bits a weight, laid out as ONNX Runtime's MatMulNBits takes it."""

    levels: torch.Tensor
    scales: torch.Tensor

    def __init__(self, matrix: np.ndarray) -> None:
        super().__init__()
        self.out, self.width = matrix.shape
        levels, scales = in_blocks(matrix)
        self.register_buffer("levels", torch.from_numpy(levels))
        self.register_buffer("scales", torch.from_numpy(scales))

    def product(self, hidden: torch.Tensor) -> torch.Tensor:
        # Level 4 brings blocks of what comes in to 8 bits as well, which is faster than multiplying floats.
        settings = {"K": self.width, "N": self.out, "bits": 8, "block_size": BLOCK, "accuracy_level": 4}
        return torch.onnx.ops.symbolic(
            "com.microsoft::MatMulNBits",
            (hidden, self.levels, self.scales),
            settings,
            dtype=torch.float32,
            shape=(*hidden.shape[:-1], self.out),
            version=1,
        )

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        levels = self.levels[ids].float() - ZERO  # (batch, tokens, blocks, 32)
        return (levels * self.scales[ids][..., None]).flatten(2)[..., : self.width]


def in_blocks(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Levels, uint8 (out, blocks, 32), and scales, float32 (out, blocks); value = (level - 128) * scale."""
    rows, width = matrix.shape
    padded = np.pad(matrix.astype(np.float32), ((0, 0), (0, -width % BLOCK))).reshape(rows, -1, BLOCK)
    scales = np.abs(padded).max(axis=2) / np.float32(127)
    levels = np.rint(padded / np.where(scales == 0, 1, scales)[..., None]) + ZERO
    return levels.astype(np.uint8), scales


class Linear(nn.Module):
    def __init__(self, weights: Weights, name: str) -> None:
        super().__init__()
        self.weight = weights.matrix(f"{name}.weight")
        self.bias = weights.vector(f"{name}.bias") if weights.has(f"{name}.bias") else None  # keys have none

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        product = self.weight.product(hidden)
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
        self.convolutions = nn.ParameterList([weights.kept(f"conv{number}.weight") for number in (1, 2)])
        self.biases = nn.ParameterList([weights.vector(f"conv{number}.bias") for number in (1, 2)])
        self.positions = weights.kept("embed_positions.weight")
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
        self.tokens = weights.matrix("embed_tokens.weight")
        self.positions = weights.kept("embed_positions.weight")
        self.layers = nn.ModuleList([DecoderLayer(weights, f"layers.{layer}", heads) for layer in range(layers)])
        self.norm = Norm(weights, "layer_norm")
        self.output = weights.output()

    def embed(self, input_ids: torch.Tensor, first: int) -> torch.Tensor:
        places = torch.arange(input_ids.shape[1]) + first
        return self.tokens.rows(input_ids) + F.embedding(places, self.positions).float()

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return (self.output or self.tokens).product(self.norm(hidden))


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
