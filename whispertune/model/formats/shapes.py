"""Which weights a Whisper of a shape has, and whether what was read from a file is that.

    expected_shapes(shape)["model.encoder.conv1.weight"]      # (width, n_mels, 3)
    check_state(state, shape, where=str(path))                # ModelError where it is something else
    check_sizes(sizes, shape, where=str(folder))              # the same, before anything but the headers was read

Files may lie or be damaged; nothing is allocated by what a header says before it was held against the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Final

import numpy as np

from whispertune.errors import ModelError
from whispertune.model.formats.tied import EMBEDDINGS, PROJECTION
from whispertune.model.formats.transformers import Shape

Sizes = dict[str, tuple[int, ...]]

POSITIONS: Final = {"encoder": 1500, "decoder": 448}  # of any Whisper
KERNEL: Final = 3  # of both convolutions
TOLD: Final = 3  # names at most that an error lists


def expected_shapes(shape: Shape) -> Sizes:
    """The shape of each weight by transformers' name, without the projection, which has mostly none of its own."""
    width = shape.width
    sizes: Sizes = {
        "model.encoder.conv1.weight": (width, shape.n_mels, KERNEL),
        "model.encoder.conv1.bias": (width,),
        "model.encoder.conv2.weight": (width, width, KERNEL),
        "model.encoder.conv2.bias": (width,),
        EMBEDDINGS: (shape.vocabulary, width),
    }
    parts = {
        "encoder": (shape.encoder_layers, shape.encoder_feed_forward),
        "decoder": (shape.decoder_layers, shape.decoder_feed_forward),
    }
    for part, (layers, feed_forward) in parts.items():
        sizes[f"model.{part}.embed_positions.weight"] = (POSITIONS[part], width)
        sizes |= _norm(f"model.{part}.layer_norm", width)
        for layer in range(layers):
            sizes |= _layer(f"model.{part}.layers.{layer}", part, width, feed_forward)
    return sizes


def _layer(name: str, part: str, width: int, feed_forward: int) -> Sizes:
    sizes: Sizes = {}
    for attention in ("self_attn",) if part == "encoder" else ("self_attn", "encoder_attn"):
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            sizes[f"{name}.{attention}.{projection}.weight"] = (width, width)
            if projection != "k_proj":  # has no bias
                sizes[f"{name}.{attention}.{projection}.bias"] = (width,)
        sizes |= _norm(f"{name}.{attention}_layer_norm", width)
    sizes |= {f"{name}.fc1.weight": (feed_forward, width), f"{name}.fc1.bias": (feed_forward,)}
    sizes |= {f"{name}.fc2.weight": (width, feed_forward), f"{name}.fc2.bias": (width,)}
    return sizes | _norm(f"{name}.final_layer_norm", width)


def _norm(name: str, width: int) -> Sizes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def check_state(state: Mapping[str, np.ndarray], shape: Shape, where: str) -> None:
    """Raise ModelError where the weights are not all those of this shape."""
    check_sizes({name: array.shape for name, array in state.items()}, shape, where)


def check_sizes(found: Mapping[str, tuple[int, ...]], shape: Shape, where: str) -> None:
    """Raise ModelError where the weights, of which only the shapes are known yet, are not all those of this shape."""
    check_shape(shape, len(found), where)
    expected = expected_shapes(shape)
    if PROJECTION in found:
        expected[PROJECTION] = expected[EMBEDDINGS]
    if missing := sorted(expected.keys() - found.keys()):
        raise _damaged(f"{len(missing)} of its weights are missing, {', '.join(missing[:TOLD])} first", where)
    for name, size in expected.items():
        if tuple(found[name]) != size:
            raise _damaged(f"{name} has the shape {tuple(found[name])} where {size} is expected", where)


def check_shape(shape: Shape, weights: int, where: str) -> None:
    """Raise ModelError where no Whisper of so many weights has this shape; before a name is made for each of them."""
    for each in fields(shape):
        value = getattr(shape, each.name)
        if type(value) is not int or value < 1:
            raise _damaged(f"{each.name} is {value!r}", where)
    if shape.width % shape.encoder_heads or shape.width % shape.decoder_heads:
        heads = f"{shape.encoder_heads} and {shape.decoder_heads} heads"
        raise _damaged(f"{heads} do not divide a width of {shape.width}", where)
    if shape.encoder_layers + shape.decoder_layers > weights:
        layers = f"{shape.encoder_layers} and {shape.decoder_layers} layers"
        raise _damaged(f"{layers} cannot have {weights} weights", where)


def _damaged(what: str, where: str) -> ModelError:
    return ModelError(what, where=where, fix="download or convert it again")
