"""OpenAI's checkpoints, `.pt`: reading and writing the file that openai-whisper's load_model takes.

    contents = read_openai(Path("large-v3.pt"))
    write_openai(contents, out, "float16")           # out/model.pt

The file, one of torch.save, holds ten numbers (`dims`) and the weights (`model_state_dict`), no tokenizer and no
settings: those lie beside the exports that we write, and follow from the number of tokens for OpenAI's own. Which
heads tell the times of words is not in it either; openai-whisper knows that by the names of its models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from whispertune.errors import InputError, ModelError
from whispertune.model.formats.contents import FLOATS, Contents
from whispertune.model.formats.known_tokenizers import (
    BUNDLES,
    default_generation,
    generation_beside,
    tokenizer_beside,
    tokenizer_for,
)
from whispertune.model.formats.pickles import Stored, check_shared, read_pickle
from whispertune.model.formats.shapes import POSITIONS, check_shape, expected_shapes
from whispertune.model.formats.tied import check_tied
from whispertune.model.formats.transformers import Shape

FILE = "model.pt"
FIX = "download or export it again"

# OpenAI's name, transformers' name.
TOP = """
    encoder.conv1.weight            model.encoder.conv1.weight
    encoder.conv1.bias              model.encoder.conv1.bias
    encoder.conv2.weight            model.encoder.conv2.weight
    encoder.conv2.bias              model.encoder.conv2.bias
    encoder.positional_embedding    model.encoder.embed_positions.weight
    encoder.ln_post.weight          model.encoder.layer_norm.weight
    encoder.ln_post.bias            model.encoder.layer_norm.bias
    decoder.token_embedding.weight  model.decoder.embed_tokens.weight
    decoder.positional_embedding    model.decoder.embed_positions.weight
    decoder.ln.weight               model.decoder.layer_norm.weight
    decoder.ln.bias                 model.decoder.layer_norm.bias
"""
SELF_ATTENTION = """
    attn.query.weight               self_attn.q_proj.weight
    attn.query.bias                 self_attn.q_proj.bias
    attn.key.weight                 self_attn.k_proj.weight
    attn.value.weight               self_attn.v_proj.weight
    attn.value.bias                 self_attn.v_proj.bias
    attn.out.weight                 self_attn.out_proj.weight
    attn.out.bias                   self_attn.out_proj.bias
    attn_ln.weight                  self_attn_layer_norm.weight
    attn_ln.bias                    self_attn_layer_norm.bias
"""
CROSS_ATTENTION = SELF_ATTENTION.replace("attn", "cross_attn").replace("self_cross_attn", "encoder_attn")
FEED_FORWARD = """
    mlp.0.weight                    fc1.weight
    mlp.0.bias                      fc1.bias
    mlp.2.weight                    fc2.weight
    mlp.2.bias                      fc2.bias
    mlp_ln.weight                   final_layer_norm.weight
    mlp_ln.bias                     final_layer_norm.bias
"""
LAYERS = {"encoder": SELF_ATTENTION + FEED_FORWARD, "decoder": SELF_ATTENTION + CROSS_ATTENTION + FEED_FORWARD}


@dataclass(frozen=True, slots=True)
class Dims:
    """The ten numbers of a checkpoint, under OpenAI's names."""

    n_mels: int
    n_audio_ctx: int
    n_audio_state: int
    n_audio_head: int
    n_audio_layer: int
    n_vocab: int
    n_text_ctx: int
    n_text_state: int
    n_text_head: int
    n_text_layer: int

    @classmethod
    def of(cls, shape: Shape) -> Dims:
        """Those of a shape that the format can say."""
        return cls(
            n_mels=shape.n_mels,
            n_audio_ctx=POSITIONS["encoder"],
            n_audio_state=shape.width,
            n_audio_head=shape.encoder_heads,
            n_audio_layer=shape.encoder_layers,
            n_vocab=shape.vocabulary,
            n_text_ctx=POSITIONS["decoder"],
            n_text_state=shape.width,
            n_text_head=shape.decoder_heads,
            n_text_layer=shape.decoder_layers,
        )

    @property
    def shape(self) -> Shape:
        """The same in our words."""
        return Shape(
            vocabulary=self.n_vocab,
            n_mels=self.n_mels,
            width=self.n_audio_state,
            encoder_layers=self.n_audio_layer,
            decoder_layers=self.n_text_layer,
            encoder_heads=self.n_audio_head,
            decoder_heads=self.n_text_head,
            encoder_feed_forward=4 * self.n_audio_state,
            decoder_feed_forward=4 * self.n_text_state,
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One tensor in both tongues."""

    ours: str  # OpenAI's name
    theirs: str  # transformers'
    shape: tuple[int, ...]


def rows(dims: Dims) -> Iterator[Row]:
    """All tensors of a checkpoint with these numbers."""
    shapes = expected_shapes(dims.shape)
    for ours, theirs in _names(dims):
        yield Row(ours, theirs, shapes[theirs])


def _names(dims: Dims) -> Iterator[tuple[str, str]]:
    yield from _pairs(TOP)
    for part, layers in (("encoder", dims.n_audio_layer), ("decoder", dims.n_text_layer)):
        for layer in range(layers):
            for ours, theirs in _pairs(LAYERS[part]):
                yield f"{part}.blocks.{layer}.{ours}", f"model.{part}.layers.{layer}.{theirs}"


def _pairs(table: str) -> Iterator[tuple[str, str]]:
    words = table.split()
    return zip(words[::2], words[1::2], strict=True)


def check_dims(dims: Dims, tensors: int, where: str) -> None:
    """Raise ModelError where no Whisper of so many tensors can have these numbers."""
    if Dims.of(dims.shape) != dims:
        windows = f"windows of {POSITIONS['encoder']} states and {POSITIONS['decoder']} tokens"
        raise ModelError(f"its numbers are no Whisper's, which has {windows}, and one width", where=where, fix=FIX)
    check_shape(dims.shape, tensors, where)


def write_openai(contents: Contents, out: Path, quantization: str) -> None:
    """Write `out/model.pt`, in float16 or float32.

    Raises:
        InputError: openai-whisper cannot load a model of this shape.
    """
    import torch

    dims = Dims.of(contents.shape)
    _check_writable(dims, contents)
    # What is stored so already is not copied: torch.save reads it where it lies.
    state = {
        row.ours: torch.from_numpy(np.require(contents.state[row.theirs], FLOATS[quantization], ["C", "W"]))
        for row in rows(dims)
    }
    torch.save({"dims": asdict(dims), "model_state_dict": state}, out / FILE)


def _check_writable(dims: Dims, contents: Contents) -> None:
    if dims.shape != contents.shape:
        raise InputError(
            "openai-whisper knows no such model: its feed-forward layers are four times as wide as the others",
            fix="export it --to transformers or ct2",
        )
    if dims.n_vocab not in BUNDLES:
        raise InputError(
            f"openai-whisper has no tokenizer of {dims.n_vocab} tokens, only of {', '.join(map(str, BUNDLES))}",
            fix="export it --to transformers or ct2",
        )
    check_tied(contents.state, "openai-whisper")


def read_openai(path: Path) -> Contents:
    """Read a checkpoint; the weights stay in the file until they are used, bfloat16 comes as float32.

    `tokenizer.json` and `generation_config.json` are taken where they lie beside it. Else it is taken for one of
    OpenAI's tokenizers, by the number of tokens, with the lists of their decoder.

    Raises:
        ModelError: the file is damaged or holds no Whisper, or there is no tokenizer for it.
    """
    checkpoint = read_pickle(path)
    try:
        dims, tensors = _parted(checkpoint, path)
        state = {row.theirs: _array(row, tensors) for row in rows(dims)}
    except (ValueError, TypeError, ArithmeticError) as error:  # numbers of any kind are multiplied
        raise ModelError(f"not an OpenAI checkpoint ({error})", where=str(path), fix=FIX) from error
    tokenizer = tokenizer_beside(path, dims.n_vocab) or _openais_tokenizer(path, dims.n_vocab)
    generation = generation_beside(path) or default_generation(tokenizer)
    return Contents(state, dims.shape, tokenizer, generation)


def _parted(checkpoint: object, path: Path) -> tuple[Dims, Mapping[str, Stored]]:
    """The numbers and the tensors, which are all those of a Whisper of these numbers, and no others."""
    if not isinstance(checkpoint, dict) or not {"dims", "model_state_dict"} <= checkpoint.keys():
        raise ValueError("it holds no dims and model_state_dict")
    tensors = checkpoint["model_state_dict"]
    if not isinstance(tensors, dict) or not all(isinstance(each, Stored) for each in tensors.values()):
        raise ValueError("its model_state_dict holds other things than tensors")
    check_shared(tensors.values(), path)
    dims = _dims(checkpoint["dims"])
    check_dims(dims, len(tensors), str(path))
    expected = {row.ours for row in rows(dims)}
    if unknown := sorted(map(str, tensors.keys() - expected)):
        raise ValueError(f"it has {unknown[0]}, which no Whisper of its dims has")
    return dims, tensors


def _dims(values: object) -> Dims:
    names = [field.name for field in fields(Dims)]
    if not isinstance(values, dict) or values.keys() != set(names):
        raise ValueError(f"its dims are not {', '.join(names)}")
    return Dims(**values)


def _array(row: Row, tensors: Mapping[str, Stored]) -> np.ndarray:
    if row.ours not in tensors:
        raise ValueError(f"it has no {row.ours}")
    stored = tensors[row.ours]
    if stored.shape != row.shape:
        raise ValueError(f"its {row.ours} is {list(stored.shape)}, which its dims say is {list(row.shape)}")
    return stored.array()


def _openais_tokenizer(path: Path, n_vocab: int) -> bytes:
    try:
        return tokenizer_for(n_vocab)
    except ModelError as error:
        raise ModelError(error.what, where=str(path), fix=error.fix) from error
