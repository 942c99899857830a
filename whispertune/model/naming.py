"""What a model is called outside of this machine: on the model hub, in cards, in files that others read.

public_name("/home/ann/models/ggml-base.bin")     # "ggml-base.bin"
hub_name("bundled:whisper-base")                  # "openai/whisper-base"
offline_name("openai/whisper-base")               # "bundled:whisper-base", where that is installed
last_part("openai/whisper-base")                  # "whisper-base"
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from whispertune.model.bundled import BUNDLES, is_installed

BUNDLED: Final = "bundled:"
OPENAI: Final = "openai/"  # whose models on the hub the bundled ones are
_REPOSITORY: Final = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def public_name(model: str) -> str:
    """A model's name without the folders of this machine: of a path its last part, whether it is there or not."""
    path = Path(model).expanduser()
    if path.is_dir():
        return path.resolve().name
    is_path = ("/" in model or path.is_absolute()) and hub_name(model) is None
    return path.name if is_path else model


def last_part(model: str) -> str:
    """What a folder that is made of a model is called after."""
    return public_name(model).rpartition("/")[2].rpartition(":")[2]


def hub_name(model: str) -> str | None:
    """The repository of a model on the hub; None where it has none, or nobody knows."""
    if model.startswith(BUNDLED):
        name = model.removeprefix(BUNDLED)
        return OPENAI + name if name in BUNDLES else None
    on_hub = _REPOSITORY.fullmatch(model) and not Path(model).exists()
    return model if on_hub else None


def offline_name(model: str) -> str:
    """The bundled model that is a hub model, bit for bit, where it is installed; else the same name."""
    name = model.removeprefix(OPENAI)
    bundled = model.startswith(OPENAI) and name in BUNDLES and is_installed(name)
    return BUNDLED + name if bundled else model
