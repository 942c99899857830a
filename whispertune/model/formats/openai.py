"""OpenAI's checkpoints, `.pt`: reading and writing the file that openai-whisper's load_model takes.

    contents = read_openai(Path("large-v3.pt"))
    write_openai(contents, out, "float16")           # out/model.pt

The file is a zip archive: a pickle that lists the tensors, and the bytes of each as they are. It holds ten numbers
(`dims`) and the weights (`model_state_dict`), no tokenizer and no settings: those lie beside the exports that we
write, and follow from the number of tokens for OpenAI's own. Which heads tell the times of words is not in it
either; openai-whisper knows that by the names of its models.
"""

from __future__ import annotations

import pickletools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZIP_STORED, ZipFile

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
from whispertune.model.formats.shapes import POSITIONS, check_shape, expected_shapes
from whispertune.model.formats.transformers import Shape

if TYPE_CHECKING:
    import torch

FILE = "model.pt"
FIX = "download or export it again"
LARGEST_LIST_BYTES = 1 << 24  # a list of the tensors of large-v3 takes about 100 kB

# What the pickle of a checkpoint refers to; of what torch allows beyond it some takes memory as it likes.
NAMES_IN_PICKLES = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch HalfStorage",
    "torch FloatStorage",
    "torch BFloat16Storage",
}

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
    _check_writable(dims, contents.shape)
    # What is stored so already is not copied: torch.save reads it where it lies.
    state = {
        row.ours: torch.from_numpy(np.require(contents.state[row.theirs], FLOATS[quantization], ["C", "W"]))
        for row in rows(dims)
    }
    torch.save({"dims": asdict(dims), "model_state_dict": state}, out / FILE)


def _check_writable(dims: Dims, shape: Shape) -> None:
    if dims.shape != shape:
        raise InputError(
            "openai-whisper knows no such model: its feed-forward layers are four times as wide as the others",
            fix="export it --to transformers or ct2",
        )
    if dims.n_vocab not in BUNDLES:
        raise InputError(
            f"openai-whisper has no tokenizer of {dims.n_vocab} tokens, only of {', '.join(map(str, BUNDLES))}",
            fix="export it --to transformers or ct2",
        )


def read_openai(path: Path) -> Contents:
    """Read a checkpoint; the weights stay in the file until they are used, bfloat16 comes as float32.

    `tokenizer.json` and `generation_config.json` are taken where they lie beside it. Else it is taken for one of
    OpenAI's tokenizers, by the number of tokens, with the lists of their decoder.

    Raises:
        ModelError: the file is damaged or holds no Whisper, or there is no tokenizer for it.
    """
    try:
        dims, tensors = _load(path)
        state = {row.theirs: _array(row, tensors) for row in rows(dims)}
    except ModelError:
        raise
    except Exception as error:  # what unpickles damaged bytes raises whatever Python has
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"not a readable OpenAI checkpoint ({reason[0]})", where=str(path), fix=FIX) from error
    tokenizer = tokenizer_beside(path, dims.n_vocab) or _openais_tokenizer(path, dims.n_vocab)
    generation = generation_beside(path) or default_generation(tokenizer)
    return Contents(state, dims.shape, tokenizer, generation)


def _load(path: Path) -> tuple[Dims, Mapping[str, torch.Tensor]]:
    """The numbers and the tensors, which are views of the file; nothing is believed that the file cannot hold."""
    import torch

    records = _checked_records(path)
    checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if not isinstance(checkpoint, dict) or not {"dims", "model_state_dict"} <= checkpoint.keys():
        raise ValueError("it holds no dims and model_state_dict")
    tensors = checkpoint["model_state_dict"]
    if not isinstance(tensors, dict) or not all(isinstance(each, torch.Tensor) for each in tensors.values()):
        raise ValueError("its model_state_dict holds other things than tensors")
    stored = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors.values()}
    if Counter(stored.values()) - records:
        raise ValueError("it lists tensors of other sizes than it holds")
    dims = _dims(checkpoint["dims"])
    check_dims(dims, len(tensors), str(path))
    expected = {row.ours for row in rows(dims)}
    if unknown := sorted(tensors.keys() - expected):
        raise ValueError(f"it has {unknown[0]}, which no Whisper of its dims has")
    return dims, tensors


def _checked_records(path: Path) -> Counter[int]:
    """How many records of each size the archive has, after its checksums and what its pickle names were checked."""
    with ZipFile(path) as archive:
        records = archive.infolist()
        if any(each.compress_type != ZIP_STORED or each.compress_size != each.file_size for each in records):
            raise ValueError("its records are compressed")  # torch writes none so; it would take what they state
        if sum(each.file_size for each in records) > path.stat().st_size:
            raise ValueError("its records are larger than the file")
        lists = [each for each in records if each.filename.endswith("/data.pkl")]
        if len(lists) != 1 or lists[0].file_size > LARGEST_LIST_BYTES:
            raise ValueError("it is no archive that torch has saved")
        operations = pickletools.genops(archive.read(lists[0]))  # reads, runs nothing
        named = {str(argument) for operation, argument, _ in operations if operation.name in ("GLOBAL", "STACK_GLOBAL")}
        if unknown := sorted(named - NAMES_IN_PICKLES):
            raise ValueError(f"its pickle wants {unknown[0]}, which no checkpoint of a Whisper needs")
        if (broken := archive.testzip()) is not None:
            raise ValueError(f"the checksum of {broken} is wrong")
    return Counter(each.file_size for each in records)


def _dims(values: object) -> Dims:
    names = [field.name for field in fields(Dims)]
    if not isinstance(values, dict) or sorted(values) != sorted(names):
        raise ValueError(f"its dims are not {', '.join(names)}")
    return Dims(**values)


def _array(row: Row, tensors: Mapping[str, torch.Tensor]) -> np.ndarray:
    import torch

    if row.ours not in tensors:
        raise ValueError(f"it has no {row.ours}")
    tensor = tensors[row.ours]
    if tuple(tensor.shape) != row.shape or not tensor.is_contiguous():
        raise ValueError(f"its {row.ours} is {list(tensor.shape)}, which its dims say is {list(row.shape)}")
    if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        raise ValueError(f"its {row.ours} is {tensor.dtype}")
    tensor = tensor.detach()
    return np.asarray((tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy())


def _openais_tokenizer(path: Path, n_vocab: int) -> bytes:
    try:
        return tokenizer_for(n_vocab)
    except ModelError as error:
        raise ModelError(error.what, where=str(path), fix=error.fix) from error
