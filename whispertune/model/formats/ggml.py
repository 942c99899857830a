"""whisper.cpp's ggml files: writing in 16, 8 and 5 bits, reading what has lost nothing: 16 and 32.

    write_ggml(contents, out, "q5_0")                       # out/ggml-model-q5_0.bin
    contents = read_ggml(Path("models/ggml-base.bin"))

The file is eleven numbers, the mel filters, the text tokens as byte strings, and then the tensors, each with its
dimensions (the last one first), type and name. The names are OpenAI's, see openai.py. What has one dimension, the
biases of the convolutions (which have a second one of 1) and the positions are always float32, convolutions float16;
the rest is what the file is called by. Settings are not in it: those lie beside the exports that we write.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from whispertune.errors import InputError, ModelError
from whispertune.model.formats.contents import Contents
from whispertune.model.formats.ggml_quantize import BLOCK, PACKERS, packed
from whispertune.model.formats.ggml_vocabulary import LONGEST_TOKEN_BYTES, TEXT_TOKENS, token_bytes, tokenizer_from
from whispertune.model.formats.known_tokenizers import (
    FIX_BESIDE,
    default_generation,
    generation_beside,
    tokenizer_beside,
)
from whispertune.model.formats.openai import Dims, Row, check_dims, rows
from whispertune.model.formats.tied import check_tied
from whispertune.windows.features import FFT_SAMPLES

MAGIC = 0x67676D6C  # "ggml"
FREQUENCIES = 1 + FFT_SAMPLES // 2  # 201, of each mel filter
QUANTIZATION_VERSION = 2_000  # is added to the number of a file of small numbers
FILE_TYPES: Final = {"float32": 0, "float16": 1, "q8_0": QUANTIZATION_VERSION + 7, "q5_0": QUANTIZATION_VERSION + 8}
SMALL: Final = {2: "q4_0", 3: "q4_1", 7: "q8_0", 8: "q5_0", 9: "q5_1"} | {  # by the number of the file
    number: f"q{bits}_K" for bits, number in zip(range(2, 7), range(10, 15), strict=True)
}
TENSOR_TYPES: Final = {"float32": 0, "float16": 1, "q5_0": 6, "q8_0": 8}
FILES: Final = {  # none of float32: whisper.cpp loads it, and then ends the process at the first convolution
    "float16": "ggml-model.bin",
    "q8_0": "ggml-model-q8_0.bin",
    "q5_0": "ggml-model-q5_0.bin",
}
CONV_BIASES = ("encoder.conv1.bias", "encoder.conv2.bias")
ALWAYS_FLOAT32 = (*CONV_BIASES, "encoder.positional_embedding", "decoder.positional_embedding")
ORDER = (  # the numbers at the start; the type of the file follows them
    "n_vocab",
    "n_audio_ctx",
    "n_audio_state",
    "n_audio_head",
    "n_audio_layer",
    "n_text_ctx",
    "n_text_state",
    "n_text_head",
    "n_text_layer",
    "n_mels",
)


def write_ggml(contents: Contents, out: Path, quantization: str) -> None:
    """Write the file that whisper.cpp loads into `out`, in one of the precisions of FILES.

    Raises:
        InputError: whisper.cpp cannot load a model of this shape.
    """
    dims = Dims.of(contents.shape)
    tokens = _check_writable(contents, dims, quantization)
    with (out / FILES[quantization]).open("wb") as file:
        numbers = [getattr(dims, name) for name in ORDER]
        file.write(struct.pack("<I11i", MAGIC, *numbers, FILE_TYPES[quantization]))
        filters = _mel_filters(dims.n_mels)
        file.write(struct.pack("<2i", *filters.shape) + filters.tobytes())
        file.write(struct.pack("<i", len(tokens)))
        for token in tokens:
            file.write(struct.pack("<i", len(token)) + token)
        for row in rows(dims):
            _write(file, row, contents.state[row.theirs], stored_as(row, quantization))


def _check_writable(contents: Contents, dims: Dims, quantization: str) -> list[bytes]:
    """The text tokens of a model that whisper.cpp can load so."""
    fix = "export it --to transformers or ct2"
    if dims.shape != contents.shape:
        raise InputError(
            "whisper.cpp knows no such model: its feed-forward layers are four times as wide as the others", fix=fix
        )
    if quantization in PACKERS and dims.n_audio_state % BLOCK:
        raise InputError(
            f"{quantization} packs {BLOCK} numbers of a row together, and this model has rows of {dims.n_audio_state}",
            fix="float16",
        )
    try:
        tokens = token_bytes(contents.tokenizer_json)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"whisper.cpp cannot take its tokenizer ({error})", fix=fix) from error
    if TEXT_TOKENS.get(dims.n_vocab) != len(tokens):
        raise InputError(
            f"whisper.cpp knows models of {', '.join(map(str, TEXT_TOKENS))} tokens, and this one has {dims.n_vocab}, "
            f"{len(tokens)} of them of text",
            fix=fix,
        )
    check_tied(contents.state, "whisper.cpp")
    return tokens


def _mel_filters(n_mels: int) -> np.ndarray:  # (n_mels, 201) float32
    from transformers import WhisperFeatureExtractor

    filters = WhisperFeatureExtractor(feature_size=n_mels).mel_filters
    return np.ascontiguousarray(filters.T, dtype="<f4")


def stored_as(row: Row, quantization: str) -> str:
    """What one tensor is stored as in a file of a quantization."""
    if quantization == "float32" or len(row.shape) == 1 or row.ours in ALWAYS_FLOAT32:
        return "float32"
    return "float16" if len(row.shape) == 3 else quantization


def stored_shape(row: Row) -> tuple[int, ...]:
    """The shape of a tensor in the file."""
    return (*row.shape, 1) if row.ours in CONV_BIASES else row.shape


def _write(file: BinaryIO, row: Row, array: np.ndarray, stored: str) -> None:
    shape, name = stored_shape(row), row.ours.encode()
    file.write(struct.pack(f"<{3 + len(shape)}i", len(shape), len(name), TENSOR_TYPES[stored], *reversed(shape)) + name)
    if stored in PACKERS:
        for piece in packed(array, stored):
            file.write(piece.data)
    else:
        file.write(np.ascontiguousarray(array, dtype=np.dtype(stored).newbyteorder("<")).data)


def read_ggml(path: Path) -> Contents:
    """Read a file of float16 or float32; the arrays come in one precision, the lower where nothing is lost by it.

    `tokenizer.json` and `generation_config.json` are taken where they lie beside it. Else the tokenizer is made from
    the file's tokens, and the lists are those of OpenAI's decoder.

    Raises:
        ModelError: the file is damaged, holds no Whisper, or holds one in fewer than 16 bits.
    """
    try:
        reader = _Reader(np.memmap(path, dtype=np.uint8, mode="r"))
        dims, file_type = reader.header()
        _check_type(file_type, path)
        tokens, tensors = reader.tokens(dims), reader.tensors()
        check_dims(dims, len(tensors), str(path))
        state = _state(tensors, dims, "float16" if file_type else "float32")
        tokenizer = _beside(path, tokens, dims) or tokenizer_from(tokens, dims.n_vocab)
    except (OSError, ValueError, struct.error) as error:
        raise ModelError(
            f"not a readable ggml file of a Whisper model ({error})",
            where=str(path),
            fix="download or convert it again",
        ) from error
    return Contents(state, dims.shape, tokenizer, generation_beside(path) or default_generation(tokenizer))


def _check_type(file_type: int, path: Path) -> None:
    version, number = divmod(file_type, 1000)
    if file_type in (FILE_TYPES["float32"], FILE_TYPES["float16"]):
        return
    if not 0 <= version <= 2 or number not in SMALL:
        raise ValueError(f"it is of an unknown type, {file_type}")
    raise ModelError(
        f"its weights are {SMALL[number]}, which has lost what training needs",
        where=str(path),
        fix="use the file of 16 or 32 bits, or the model it was made from",
    )


def _beside(path: Path, tokens: list[bytes], dims: Dims) -> bytes | None:
    """The tokenizer.json beside a file, where it is the file's; None where there is none."""
    content = tokenizer_beside(path, dims.n_vocab)
    try:
        same = content is None or token_bytes(content) == tokens
    except (ValueError, KeyError, TypeError):
        same = False
    if not same:
        where = str(path.with_name("tokenizer.json"))
        raise ModelError(f"this tokenizer has other tokens than {path.name}", where=where, fix=FIX_BESIDE)
    return content


def _state(tensors: Mapping[str, _Tensor], dims: Dims, precision: str) -> dict[str, np.ndarray]:
    """The arrays under transformers' names, where the file holds all that its numbers say, and nothing else."""
    expected = {row.ours: row for row in rows(dims)}
    if others := sorted(tensors.keys() ^ expected.keys()):
        lacks = "lacks" if others[0] in expected else "has"
        raise ValueError(f"it {lacks} {others[0]}, against its own numbers")
    for name, row in expected.items():
        wanted = (TENSOR_TYPES[stored_as(row, precision)], stored_shape(row))
        if (tensors[name].type, tensors[name].shape) != wanted:
            raise ValueError(f"{name} has the type and shape {tensors[name].type}, {tensors[name].shape}, not {wanted}")
    arrays = {row.theirs: tensors[name].array.reshape(row.shape) for name, row in expected.items()}
    if precision == "float16":
        return _in_one_precision(arrays)
    return {name: np.require(array, requirements="A") for name, array in arrays.items()}


def _in_one_precision(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All float16 where nothing is lost: OpenAI's own weights are, and whisper.cpp has some of them in float32."""
    with np.errstate(over="ignore"):
        short = {name: array.astype(np.float16) for name, array in arrays.items()}
    lossless = all(np.array_equal(array, short[name]) for name, array in arrays.items())
    return short if lossless else {name: array.astype(np.float32) for name, array in arrays.items()}


@dataclass(frozen=True, slots=True)
class _Tensor:
    """One tensor as it lies in the file."""

    type: int
    shape: tuple[int, ...]
    array: np.ndarray  # (values,) float16 or float32, a view of the file


class _Reader:
    """Walks through the file; every size is held against what is left of it."""

    def __init__(self, data: np.memmap) -> None:
        self.data, self.position = data, 0

    def header(self) -> tuple[Dims, int]:
        """The numbers and the type of the file; the mel filters, which are always the same, are passed over."""
        if self._numbers(1)[0] != MAGIC:
            raise ValueError("it does not begin with 'ggml'")
        *numbers, file_type = self._numbers(1 + len(ORDER))
        dims = Dims(**dict(zip(ORDER, numbers, strict=True)))
        if dims.n_vocab not in TEXT_TOKENS:
            raise ValueError(f"no Whisper has {dims.n_vocab} tokens")
        filters = self._numbers(2)
        if filters != (dims.n_mels, FREQUENCIES):
            raise ValueError(f"its mel filters are {filters}, not {(dims.n_mels, FREQUENCIES)}")
        self._take(4 * dims.n_mels * FREQUENCIES)
        return dims, file_type

    def tokens(self, dims: Dims) -> list[bytes]:
        """The text tokens; older files list the end after them, whose place is known."""
        count, wanted = self._numbers(1)[0], TEXT_TOKENS[dims.n_vocab]
        if not wanted <= count <= dims.n_vocab:
            raise ValueError(f"it lists {count} tokens, where {dims.n_vocab} in all have {wanted} of text")
        raw = self.data[self.position : self.position + count * (4 + LONGEST_TOKEN_BYTES)].tobytes()
        found: list[bytes] = []
        place = 0
        for _ in range(count):
            length = int.from_bytes(raw[place : place + 4], "little")
            if length > LONGEST_TOKEN_BYTES or place + 4 + length > len(raw):
                raise ValueError(f"its token {len(found)} is too long, or it ends too early")
            found.append(raw[place + 4 : place + 4 + length])
            place += 4 + length
        self._take(place)
        return found[:wanted]

    def tensors(self) -> dict[str, _Tensor]:
        """All that follows, to the end of the file."""
        found: dict[str, _Tensor] = {}
        while self.position < len(self.data):
            name, tensor = self._tensor()
            if name in found:
                raise ValueError(f"it has {name} twice")
            found[name] = tensor
        return found

    def _tensor(self) -> tuple[str, _Tensor]:
        n_dims, length, type_ = self._numbers(3)
        if not 1 <= n_dims <= 3 or type_ not in (TENSOR_TYPES["float32"], TENSOR_TYPES["float16"]):
            raise ValueError(f"a tensor states {n_dims} dimensions and the type {type_}")
        shape = tuple(reversed(self._numbers(n_dims)))
        name = self._take(length).tobytes().decode()
        stored = np.dtype("<f2" if type_ else "<f4")
        values = 1
        for side in shape:
            if side < 1:
                raise ValueError(f"{name} has the shape {shape}")
            values *= side
        return name, _Tensor(type_, shape, self._take(values * stored.itemsize).view(stored))

    def _numbers(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}i", self._take(4 * count).tobytes())

    def _take(self, size: int) -> np.ndarray:
        if not 0 <= size <= len(self.data) - self.position:
            raise ValueError("it ends too early")
        self.position += size
        return np.asarray(self.data[self.position - size : self.position])
