"""CTranslate2's `model.bin`: reading and writing Whisper weights with our own name table.

    arrays = read_model_bin(folder / "model.bin")      # CTranslate2's names -> arrays
    state = to_transformers(arrays)                    # transformers' names
    blob = model_bin(from_transformers(state, 8, 8), "float16")
    contents = read_ctranslate2(folder)                # all of a folder, checked

The file is a short header and then named arrays (format version 6, WhisperSpec revision 3). Its surprises: query,
key and value are fused along the first axis, keys get a bias of zeros, the projection is an alias of the
embeddings where it is tied to them. Linear, convolution and embedding weights can be int8, a scale a row
(value = weight / scale).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from whispertune.errors import ModelError
from whispertune.model.formats.contents import Contents
from whispertune.model.formats.known_tokenizers import tokenizer_beside
from whispertune.model.formats.shapes import check_state
from whispertune.model.formats.tied import PROJECTION, own_projection
from whispertune.model.formats.transformers import Shape
from whispertune.model.generation import Generation

Arrays = dict[str, np.ndarray]

BINARY_VERSION = 6
SPEC, REVISION = "WhisperSpec", 3
DTYPES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")  # the position is the code in the file
STORED_BFLOAT16 = "uint16"  # numpy has no such type, and the file no such integers
GELU = 3  # ctranslate2's number for GELU by tanh-free erf, the one Whisper has

# CTranslate2 -> transformers, outside of the layers. Both sides hold the same array.
TOP = {
    "encoder/conv1/weight": "model.encoder.conv1.weight",
    "encoder/conv1/bias": "model.encoder.conv1.bias",
    "encoder/conv2/weight": "model.encoder.conv2.weight",
    "encoder/conv2/bias": "model.encoder.conv2.bias",
    "encoder/position_encodings/encodings": "model.encoder.embed_positions.weight",
    "encoder/layer_norm/gamma": "model.encoder.layer_norm.weight",
    "encoder/layer_norm/beta": "model.encoder.layer_norm.bias",
    "decoder/embeddings/weight": "model.decoder.embed_tokens.weight",
    "decoder/position_encodings/encodings": "model.decoder.embed_positions.weight",
    "decoder/layer_norm/gamma": "model.decoder.layer_norm.weight",
    "decoder/layer_norm/beta": "model.decoder.layer_norm.bias",
}
OUTPUT = "decoder/projection/weight"
ALIAS = (OUTPUT, "decoder/embeddings/weight")

# Within a layer: CTranslate2's module -> transformers' modules, fused along the first axis in this order.
SELF_ATTENTION = {
    "self_attention/layer_norm": ("self_attn_layer_norm",),
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attention/linear_1": ("self_attn.out_proj",),
}
CROSS_ATTENTION = {
    "attention/layer_norm": ("encoder_attn_layer_norm",),
    "attention/linear_0": ("encoder_attn.q_proj",),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "attention/linear_2": ("encoder_attn.out_proj",),
}
FEED_FORWARD = {
    "ffn/layer_norm": ("final_layer_norm",),
    "ffn/linear_0": ("fc1",),
    "ffn/linear_1": ("fc2",),
}
LAYERS = {
    "encoder": SELF_ATTENTION | FEED_FORWARD,
    "decoder": SELF_ATTENTION | CROSS_ATTENTION | FEED_FORWARD,
}


@dataclass(frozen=True, slots=True)
class Row:
    """One array of a layer in both tongues."""

    ours: str  # CTranslate2's name
    theirs: tuple[str, ...]  # transformers' names, fused in this order


def layer_rows(part: str, layer: int) -> Iterator[Row]:
    """The rows of one layer of the encoder or the decoder."""
    for module, theirs in LAYERS[part].items():
        norm = module.endswith("layer_norm")
        for kind, ours in (("weight", "gamma" if norm else "weight"), ("bias", "beta" if norm else "bias")):
            names = tuple(f"model.{part}.layers.{layer}.{name}.{kind}" for name in theirs)
            yield Row(f"{part}/layer_{layer}/{module}/{ours}", names)


def count_layers(names: Mapping[str, object], part: str, pattern: str) -> int:
    """How many layers of `part` there are; `pattern` has {part} and {layer}."""
    layer = 0
    while any(name.startswith(pattern.format(part=part, layer=layer)) for name in names):
        layer += 1
    return layer


def to_transformers(arrays: Arrays, where: str | None = None) -> Arrays:
    """Arrays under transformers' names, unfused, without the key biases (all zeros) that it does not have."""
    try:
        state = {theirs: arrays[ours] for ours, theirs in TOP.items()}
        if OUTPUT in arrays:
            state[PROJECTION] = arrays[OUTPUT]
        for part in LAYERS:
            for layer in range(count_layers(arrays, part, "{part}/layer_{layer}/")):
                for row in layer_rows(part, layer):
                    pieces = _pieces(arrays, row, where)
                    state.update(zip(row.theirs, pieces, strict=True))
    except KeyError as error:
        what = f"model.bin has no array {error.args[0]}"
        raise ModelError(what, where=where, fix="is it a Whisper model?") from error
    return {name: array for name, array in state.items() if not name.endswith("k_proj.bias")}


def _pieces(arrays: Arrays, row: Row, where: str | None) -> list[np.ndarray]:
    array = arrays[row.ours]
    if array.ndim == 0 or len(array) % len(row.theirs):
        fused = f"{row.ours} of the shape {array.shape} is not {len(row.theirs)} arrays in one"
        raise ModelError(fused, where=where, fix="download or convert it again")
    return np.split(array, len(row.theirs))


def from_transformers(state: Mapping[str, np.ndarray], encoder_heads: int, decoder_heads: int) -> Arrays:
    """float32 arrays under CTranslate2's names, from a transformers state dict."""
    arrays = {ours: state[theirs] for ours, theirs in TOP.items()}
    if (own := own_projection(state)) is not None:
        arrays[OUTPUT] = own
    for part in LAYERS:
        for layer in range(count_layers(state, part, "model.{part}.layers.{layer}.")):
            for row in layer_rows(part, layer):
                pieces = [_array(state, name) for name in row.theirs]
                arrays[row.ours] = np.concatenate(pieces) if len(pieces) > 1 else pieces[0]
    arrays = {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in arrays.items()}
    scalars: dict[str, np.generic] = {
        "encoder/num_heads": np.int16(encoder_heads),
        "decoder/num_heads": np.int16(decoder_heads),
        "decoder/activation": np.int8(GELU),
        "decoder/alibi": np.int8(0),
        "decoder/alignment_heads": np.int16(1),
        "decoder/alignment_layer": np.int16(-1),
        "decoder/pre_norm": np.int8(1),
        "decoder/scale_embeddings": np.int8(0),
        "decoder/start_from_zero_embedding": np.int8(0),
    }
    return arrays | {name: np.asarray(value) for name, value in scalars.items()}


def _array(state: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name.endswith("k_proj.bias"):
        return np.zeros(state[name.removesuffix("bias") + "weight"].shape[0], dtype=np.float32)
    return state[name]


def quantize(arrays: Arrays, quantization: str) -> Arrays:
    """The same arrays as they are stored in a file; bfloat16 as its 16 bits."""
    floats: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "float32": np.asarray,
        "float16": _float16,
        "bfloat16": _bfloat16,
        "int8": np.asarray,
    }
    convert = floats[quantization.removeprefix("int8_")]
    stored: Arrays = {}
    for name, array in arrays.items():
        if quantization.startswith("int8") and name.endswith("/weight"):
            stored[name], stored[f"{name}_scale"] = _int8(array)
        else:
            stored[name] = convert(array) if array.dtype == np.float32 else array
    return stored


def _float16(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float16)


def _bfloat16(array: np.ndarray) -> np.ndarray:
    """The upper half of each number, rounded to the nearest, of two the even one; what is no number stays so."""
    bits = np.ascontiguousarray(array).view(np.uint32)
    odd = (bits >> 16) & 1
    rounded = (bits + 0x7FFF + odd) >> 16
    return np.where(np.isnan(array), (bits >> 16) | 0x40, rounded).astype(STORED_BFLOAT16)


def _int8(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = array.reshape(len(array), -1)
    largest = np.abs(rows).max(axis=1)
    scale = (127.0 / np.where(largest == 0, 127.0, largest)).astype(np.float32)
    return np.rint(rows * scale[:, None]).astype(np.int8).reshape(array.shape), scale


def model_bin(arrays: Arrays, quantization: str = "float32") -> bytes:
    """The content of a `model.bin`; `arrays` is emptied on the way, so that memory holds each of them once."""
    in_bytes = quantization.startswith("int8")
    names = sorted(arrays)
    count = len(names) + sum(name.endswith("/weight") for name in names if in_bytes)
    aliases = [] if OUTPUT in arrays else [ALIAS, tuple(f"{name}_scale" for name in ALIAS)][: 1 + in_bytes]
    out = io.BytesIO()
    out.write(struct.pack("<I", BINARY_VERSION) + _string(SPEC) + struct.pack("<II", REVISION, count))
    for name in names:
        for stored, array in quantize({name: arrays.pop(name)}, quantization).items():
            _write(out, stored, array)
    out.write(struct.pack("<I", len(aliases)))
    for alias, of in aliases:
        out.write(_string(alias) + _string(of))
    return out.getvalue()


def _write(out: io.BytesIO, name: str, array: np.ndarray) -> None:
    shape = struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
    kind = "bfloat16" if array.dtype.name == STORED_BFLOAT16 else array.dtype.name
    out.write(_string(name) + shape + struct.pack("<BI", DTYPES.index(kind), array.nbytes))
    out.write(np.ascontiguousarray(array).data.cast("B"))


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<H", len(raw) + 1) + raw + b"\0"


def read_ctranslate2(folder: Path) -> Contents:
    """All of a CTranslate2 folder whose weights are whole.

    Raises:
        ModelError: it is damaged, no Whisper model, without a tokenizer, or its weights are integers.
    """
    where = str(folder / "model.bin")
    arrays = read_model_bin(folder / "model.bin")
    if integers := {array.dtype.name for array in arrays.values() if array.dtype.kind == "i" and array.ndim}:
        raise ModelError(
            f"its weights are {', '.join(sorted(integers))}, which has lost what training needs",
            where=str(folder),
            fix="use the float16 or float32 conversion, or the model it was made from",
        )
    state = to_transformers(arrays, where)
    try:
        heads = [int(arrays[f"{part}/num_heads"]) for part in ("encoder", "decoder")]
        shape = Shape.from_state(state, *heads)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ModelError(f"not a Whisper model ({error!r})", where=where, fix="download or convert it again") from error
    check_state(state, shape, where)
    if len({array.dtype for array in state.values()}) > 1:
        raise ModelError("its weights are of several precisions", where=where, fix="download or convert it again")
    tokenizer_json = tokenizer_beside(folder / "model.bin")
    if tokenizer_json is None:
        fix = "copy the base model's into it"
        raise ModelError("no tokenizer.json in the folder", where=str(folder), fix=fix)
    return Contents(state, shape, tokenizer_json, Generation.from_ctranslate2(folder))


def read_model_bin(path: Path) -> Arrays:
    """Read a `model.bin`; float arrays come as stored, bfloat16 as float32.

    Raises:
        ModelError: the file is damaged, is not a Whisper model, or is of a version that we do not know.
    """
    try:
        return _Reader(np.memmap(path, dtype=np.uint8, mode="r")).read()
    except (OSError, ValueError, struct.error, IndexError) as error:
        raise ModelError(
            f"not a readable CTranslate2 model ({error})", where=str(path), fix="convert or download it again"
        ) from error


class _Reader:
    """Walks through the file; every size is held against what is left of it."""

    def __init__(self, data: np.memmap) -> None:
        self.data, self.position = data, 0

    def read(self) -> Arrays:
        version, spec, revision = self._number("I"), self._text(), self._number("I")
        if (version, spec, revision) != (BINARY_VERSION, SPEC, REVISION):
            raise ValueError(f"{spec} version {version} revision {revision}, expected {SPEC} 6 revision 3")
        arrays = dict(self._array() for _ in range(self._number("I")))
        for _ in range(2 * self._number("I")):  # other names of some of them
            self._text()
        return arrays

    def _array(self) -> tuple[str, np.ndarray]:
        name = self._text()
        shape = tuple(self._number("I") for _ in range(self._number("B")))
        code, size = self._number("B"), self._number("I")
        if code >= len(DTYPES):
            raise ValueError(f"array {name} has an unknown type")
        stored = np.dtype("uint16" if DTYPES[code] == "bfloat16" else DTYPES[code])
        count = 1
        for length in shape:
            count *= length
        if count * stored.itemsize != size:
            raise ValueError(f"array {name} states {size} bytes for a shape of {shape}")
        values = self._take(size).view(stored).reshape(shape)
        if DTYPES[code] == "bfloat16":
            wide = values.astype(np.uint32)
            wide <<= 16  # in place: twice the bytes of the file are enough
            values = wide.view(np.float32)
        return name, np.asarray(values)

    def _number(self, kind: str) -> int:
        return int(struct.unpack("<" + kind, self._take(struct.calcsize(kind)).tobytes())[0])

    def _text(self) -> str:
        return self._take(self._number("H")).tobytes()[:-1].decode()

    def _take(self, size: int) -> np.ndarray:
        if self.position + size > len(self.data):
            raise ValueError("it ends too early")
        self.position += size
        return self.data[self.position - size : self.position]
