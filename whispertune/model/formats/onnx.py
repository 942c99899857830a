"""ONNX: three files that ONNX Runtime, optimum and transformers.js know by their names and those of their tensors.

    write_onnx(contents, out, "float32")    # into an empty folder, without tokenizer and generation settings

encoder_model.onnx, decoder_model.onnx (the first step, over all tokens of the prompt) and
decoder_with_past_model.onnx (one token more), written by torch's exporter, and config.json. Batch, tokens and frames
are free. ONNX has no format of its own for a Whisper that could be read back.

float16 halves the files and computes in float32: nothing is lost of a float16 source. int8 keeps linear layers and the
embeddings of tokens in 8 bits, with a scale for every 32 weights, in ONNX Runtime's own kind of node (MatMulNBits).
Its dynamic quantization, one scale for all of what comes into a layer, made whisper-base write other words.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from whispertune.errors import InputError
from whispertune.model.formats.contents import Contents
from whispertune.model.formats.tied import own_projection
from whispertune.model.formats.transformers import config_for
from whispertune.windows.tokens import Vocabulary

if TYPE_CHECKING:
    import torch

    from whispertune.model.formats.onnx_modules import Weights

OPSET = 18  # the oldest that torch's exporter writes without converting
LARGEST_BYTES = 1_900_000_000  # of one file; protobuf ends at 2 GiB. The weights of larger ones lie beside them
PAST = tuple(f"{of}.{what}" for of in ("decoder", "encoder") for what in ("key", "value"))  # of each layer

# The names of lengths that are free, as optimum has them.
BATCH, FRAMES, STATES = "batch_size", "feature_size", "encoder_sequence_length"
TOKENS, PAST_TOKENS = "decoder_sequence_length", "past_decoder_sequence_length"


@dataclass(frozen=True, slots=True)
class Graph:
    """One of the three files, to be."""

    file: str
    module: torch.nn.Module
    inputs: tuple[Any, ...]  # tensors, or a list of them; the exporter follows the module with these
    free: tuple[Any, ...]  # as inputs: axis -> name of each length that is free
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]


def write_onnx(contents: Contents, out: Path, quantization: str) -> None:
    """Write the three graphs and config.json, in float32, float16 or int8.

    Raises:
        InputError: onnxscript is not installed.
    """
    _check_installed("onnxscript")
    for graph_of in (_encoder, _first_step, _next_step):  # one after the other: memory holds the weights of one
        file, model = _exported(graph_of(contents, quantization))
        _write(model, out / file)
        del model
    _write_config(contents, out)


def _check_installed(module: str) -> None:
    if find_spec(module) is None:
        raise InputError(f"ONNX needs {module}, not installed here", fix="pip install 'whispertune[onnx]'")


# Lengths of 2 and more, each another, stand for those that are free: the exporter would take 1 for a constant.


def _encoder(contents: Contents, quantization: str) -> Graph:
    import torch

    from whispertune.model.formats.onnx_modules import Encoder

    shape = contents.shape
    return Graph(
        file="encoder_model.onnx",
        module=Encoder(_weights(contents, "encoder", quantization), shape.encoder_layers, shape.encoder_heads),
        inputs=(torch.zeros(2, shape.n_mels, 60),),
        free=({0: BATCH, 2: FRAMES},),
        input_names=("input_features",),
        output_names=("last_hidden_state",),
    )


def _first_step(contents: Contents, quantization: str) -> Graph:
    import torch

    from whispertune.model.formats.onnx_modules import FirstStep

    shape = contents.shape
    return Graph(
        file="decoder_model.onnx",
        module=FirstStep(_weights(contents, "decoder", quantization), shape.decoder_layers, shape.decoder_heads),
        inputs=(torch.zeros(2, 4, dtype=torch.int64), torch.zeros(2, 30, shape.width)),
        free=({0: BATCH, 1: TOKENS}, {0: BATCH, 1: STATES}),
        input_names=("input_ids", "encoder_hidden_states"),
        output_names=("logits", *_names("present", shape.decoder_layers)),
    )


def _next_step(contents: Contents, quantization: str) -> Graph:
    import torch

    from whispertune.model.formats.onnx_modules import NextStep

    shape = contents.shape
    lengths = {"decoder": (5, PAST_TOKENS), "encoder": (30, STATES)}
    past, free = [], []
    for name in PAST * shape.decoder_layers:
        length, called = lengths[name.split(".")[0]]
        past.append(torch.zeros(2, shape.decoder_heads, length, shape.width // shape.decoder_heads))
        free.append({0: BATCH, 2: called})
    return Graph(
        file="decoder_with_past_model.onnx",
        module=NextStep(_weights(contents, "decoder", quantization), shape.decoder_layers, shape.decoder_heads),
        inputs=(torch.zeros(2, 1, dtype=torch.int64), past),
        free=({0: BATCH}, free),
        input_names=("input_ids", *_names("past_key_values", shape.decoder_layers)),
        output_names=("logits", *(name for name in _names("present", shape.decoder_layers) if ".decoder." in name)),
    )


def _weights(contents: Contents, part: str, quantization: str) -> Weights:
    import torch

    from whispertune.model.formats.onnx_modules import Weights

    floats = {"float32": torch.float32, "float16": torch.float16, "int8": torch.float16}[quantization]
    return Weights(contents.state, part, floats, in_bytes=quantization == "int8")


def _names(kind: str, layers: int) -> list[str]:
    """The tensors that one step leaves to the next: `present.0.decoder.key` ..."""
    return [f"{kind}.{layer}.{name}" for layer in range(layers) for name in PAST]


def _exported(graph: Graph) -> tuple[str, Any]:
    """The file's name and what it will hold, an onnx_ir.Model."""
    import torch

    with _quiet():
        program = torch.onnx.export(
            graph.module.eval(),
            graph.inputs,
            dynamo=True,
            dynamic_shapes=graph.free,
            input_names=graph.input_names,
            output_names=graph.output_names,
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    _forget_origins(program.model)
    return graph.file, program.model


@contextmanager
def _quiet() -> Iterator[None]:
    """Within it torch says nothing of names that lengths share, and of its own parts that will go some day."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _forget_origins(model: Any) -> None:
    """Take out where each node came from, which are lines of source files on this machine."""
    graph = model.graph
    for each in (model, graph, *graph.inputs, *graph.outputs, *graph.initializers.values()):
        each.metadata_props.clear()
    for node in graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()


def _write(model: Any, path: Path) -> None:
    import onnx_ir

    size_bytes = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    beside = f"{path.name}_data" if size_bytes > LARGEST_BYTES else None
    onnx_ir.save(model, path, external_data=beside)


def _write_config(contents: Contents, out: Path) -> None:
    """config.json, by which optimum and transformers.js tell what the graphs are of."""
    with TemporaryDirectory(prefix="whispertune-") as scratch:
        tokenizer = Path(scratch) / "tokenizer.json"
        tokenizer.write_bytes(contents.tokenizer_json)
        tied = own_projection(contents.state) is None
        config = config_for(contents.shape, Vocabulary.from_file(tokenizer), tied=tied)
    config.dtype = "float32"  # of what goes in and comes out
    config.save_pretrained(out)
