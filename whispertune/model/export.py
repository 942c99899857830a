"""Exporters: a model folder written for a runtime, complete.

    write_ctranslate2(find_model("my-run"), Path("deployed"), "float16")

To add a format, write a function `(folder, out, quantization)` and name it in `EXPORTERS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from whispertune.errors import InputError
from whispertune.model.formats import adapter, ggml, ggml_vocabulary, onnx, openai
from whispertune.model.formats import ctranslate2 as ct2
from whispertune.model.formats.contents import FLOATS, Contents
from whispertune.model.formats.tied import without_tied
from whispertune.model.formats.transformers import (
    Shape,
    token_names,
    write_folder,
    write_tokenizer,
)
from whispertune.model.generation import Generation, ctranslate2_config, write_generation
from whispertune.model.load import ModelFolder
from whispertune.windows.tokens import Vocabulary

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration


def ctranslate2_files(
    model: WhisperForConditionalGeneration,
    shape: Shape,
    generation: Generation,
    vocabulary: Vocabulary,
    tokenizer_json: bytes,
    quantization: str = "float32",
) -> dict[str, bytes]:
    """What ctranslate2 loads, by file name, from weights in memory; the model is not touched."""
    from whispertune.model.parameters import merged_state

    arrays = ct2.from_transformers(merged_state(model), shape.encoder_heads, shape.decoder_heads)
    return {
        "model.bin": ct2.model_bin(arrays, quantization),
        "config.json": ctranslate2_config(generation, vocabulary, shape.decoder_layers, shape.decoder_heads),
        "vocabulary.json": json.dumps(token_names(tokenizer_json), ensure_ascii=False).encode(),
    }


def write_ctranslate2(folder: ModelFolder, out: Path, quantization: str) -> None:
    """A folder for ctranslate2 and faster-whisper."""
    files = ctranslate2_files(
        folder.load(), folder.shape, folder.generation, folder.vocabulary, folder.tokenizer_json, quantization
    )
    for name, content in files.items():
        (out / name).write_bytes(content)
    write_tokenizer(out, folder.tokenizer_json, folder.shape.n_mels)
    write_generation(out, folder.generation, folder.vocabulary)


def write_transformers(folder: ModelFolder, out: Path, quantization: str) -> None:
    """A folder for transformers, in safetensors."""
    from whispertune.model.parameters import merged_state

    floats = merged_state(folder.load()).items()
    state = {name: array.astype(FLOATS[quantization], copy=False) for name, array in floats}
    write_folder(out, state, folder.shape, folder.tokenizer_json, folder.generation)


def contents_of(folder: ModelFolder) -> Contents:
    """The whole of a model in memory, its weights float32 (exactly what they were stored in less)."""
    from whispertune.model.parameters import merged_state

    state = without_tied(merged_state(folder.load()))
    return Contents(state, folder.shape, folder.tokenizer_json, folder.generation)


def write_openai(folder: ModelFolder, out: Path, quantization: str) -> None:
    """OpenAI's checkpoint, with what it leaves to its package beside it."""
    _write_foreign(openai.write_openai, folder, out, quantization)


def write_ggml(folder: ModelFolder, out: Path, quantization: str) -> None:
    """whisper.cpp's file, with what it leaves out beside it."""
    _write_foreign(ggml.write_ggml, folder, out, quantization)
    left_out = ggml_vocabulary.left_out_pattern(folder.tokenizer_json, folder.generation.suppress)
    (out / ggml_vocabulary.LEFT_OUT).write_text(left_out, encoding="ascii")


def write_onnx(folder: ModelFolder, out: Path, quantization: str) -> None:
    """Encoder and decoder for ONNX Runtime, with tokenizer and settings."""
    _write_foreign(onnx.write_onnx, folder, out, quantization)


def write_adapter(folder: ModelFolder, out: Path, quantization: str) -> None:
    """What a run's LoRA learned, or an adapter folder holds, for peft, with tokenizer and settings."""
    adapter.write_adapter(folder.path, out, quantization)
    write_tokenizer(out, folder.tokenizer_json, folder.shape.n_mels)
    write_generation(out, folder.generation, folder.vocabulary)


def _write_foreign(
    write: Callable[[Contents, Path, str], None], folder: ModelFolder, out: Path, quantization: str
) -> None:
    write(contents_of(folder), out, quantization)
    write_tokenizer(out, folder.tokenizer_json, folder.shape.n_mels)
    write_generation(out, folder.generation, folder.vocabulary)


@dataclass(frozen=True, slots=True)
class Exporter:
    """How a format is written, in what, and what its runtime is called."""

    write: Callable[[ModelFolder, Path, str], None]
    runtime: str
    tolerances: Mapping[str, float]  # by quantization, the default first: points that it may be from its source

    @property
    def quantizations(self) -> tuple[str, ...]:
        """The first is the default."""
        return tuple(self.tolerances)


EXPORTERS = {
    "ct2": Exporter(
        write_ctranslate2,
        "faster-whisper",
        {"float16": 0.5, "float32": 0.5, "bfloat16": 0.5, "int8": 1.0, "int8_float16": 1.0},
    ),
    "transformers": Exporter(write_transformers, "transformers", {"float32": 0.5, "float16": 0.5}),
    "openai": Exporter(write_openai, "openai-whisper", {"float16": 0.5, "float32": 0.5}),
    "ggml": Exporter(write_ggml, "whisper.cpp", {"float16": 0.5, "q8_0": 1.0, "q5_0": 3.0}),
    "onnx": Exporter(write_onnx, "onnxruntime", {"float32": 0.5, "float16": 0.5, "int8": 1.0}),
    "adapter": Exporter(write_adapter, "peft", {"float32": 0.5, "float16": 0.5}),
}

SHORT_NAMES = {"f16": "float16", "f32": "float32"}  # whisper.cpp's


def check_export(to: str, out: Path, quantization: str | None) -> str:
    """The quantization to use, where the format has it and `out` is new or empty.

    Raises:
        InputError: no such format or quantization, or a folder that no model can be put at.
    """
    if to not in EXPORTERS:
        raise InputError(f"unknown format {to!r}", where="--to", fix=f"one of {', '.join(EXPORTERS)}")
    exporter = EXPORTERS[to]
    chosen = SHORT_NAMES.get(quantization or "", quantization) or exporter.quantizations[0]
    if chosen not in exporter.quantizations:
        raise InputError(
            f"{to} is not written in {chosen}",
            where="--quantization",
            fix=f"one of {', '.join(exporter.quantizations)}",
        )
    check_out(out)
    return chosen


def check_out(out: Path) -> None:
    """See that a model may be put at `out`: what is written beside it and then named so, is there whole or not at all.

    Raises:
        InputError: a file, a folder in use, the working folder, or one that cannot be replaced, as a disk is mounted
            there.
    """
    if out.exists() and not out.is_dir():
        raise InputError("this is a file, where a folder is to be written", where=str(out), fix="give a new --out")
    if out.resolve() == Path.cwd():
        raise InputError("this is the folder you are in", where=str(out), fix="give one in it, such as --out model")
    if out.exists() and any(out.iterdir()):
        raise InputError("the folder to write is not empty", where=str(out), fix="give a new one with --out")
    if out.resolve().is_mount():
        raise InputError("a disk is mounted there", where=str(out), fix=f"give a folder in it: --out {out / 'model'}")
