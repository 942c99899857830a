"""The weights of a transformers folder, whatever files they are in, checked before any of them is read.

    tensors = read_weights(folder, Shape.from_folder(folder))     # views of the files, as stored
    model = read_model(folder, tensors, generation, vocabulary)

They lie in safetensors or in pickles, whole or in parts that an index lists; safetensors come first, as transformers
has it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from whispertune.errors import ModelError
from whispertune.model.formats.pickles import read_tensors
from whispertune.model.formats.shapes import check_sizes
from whispertune.model.formats.transformers import Shape

if TYPE_CHECKING:
    import torch

SAFE: Final = ".safetensors"
FILES: Final = ("model.safetensors", "pytorch_model.bin")
INDEX: Final = ".index.json"  # behind the name of a file: the list of its parts
PREFIX: Final = "model."  # which checkpoints of the inner model alone do without


def read_weights(folder: Path, shape: Shape) -> dict[str, torch.Tensor]:
    """The tensors of a folder by the names of a whole model; nothing is read but what lists them.

    Raises:
        ModelError: there are none, a file is damaged, or they are not what its config.json says.
    """
    tensors = {name: tensor for path in _files(folder) for name, tensor in _opened(path).items()}
    if not any(name.startswith(PREFIX) for name in tensors):
        tensors = {PREFIX + name: tensor for name, tensor in tensors.items()}
    check_sizes({name: tuple(tensor.shape) for name, tensor in tensors.items()}, shape, str(folder))
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise _damaged(f"{name} holds {tensor.dtype}, which are no weights that can be trained", str(folder))
    return tensors


def _files(folder: Path) -> list[Path]:
    for whole in (folder / name for name in FILES):
        if whole.is_file():
            return [whole]
        index = whole.with_name(whole.name + INDEX)
        if index.is_file():
            return _parts(index, whole.suffix)
    raise ModelError("no weights in this folder", where=str(folder), fix=f"it needs {' or '.join(FILES)}")


def _parts(index: Path, suffix: str) -> list[Path]:
    """The files that an index names, all of one kind and in its own folder."""
    try:
        names = {str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged("not a readable list of weights", str(index)) from error
    if outside := sorted(name for name in names if Path(name).name != name):
        raise _damaged(f"it names a file of another folder ({outside[0]})", str(index))
    if others := sorted(name for name in names if Path(name).suffix != suffix):
        raise _damaged(f"it names a file of another kind ({others[0]})", str(index))
    return [index.parent / name for name in sorted(names)]


def _opened(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix != SAFE:
        return {name: stored.tensor() for name, stored in read_tensors(path).items()}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:  # it holds the header against the size of the file
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise _damaged(f"not a readable safetensors file ({error})", str(path)) from error


def _damaged(what: str, where: str) -> ModelError:
    return ModelError(what, where=where, fix="download or convert it again")
