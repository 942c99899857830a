"""What a Whisper is, whatever file it came from or goes to.

contents = Contents(state, shape, tokenizer_json, generation)
contents.state["model.encoder.conv1.weight"].astype(FLOATS["float16"])
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from whispertune.model.formats.transformers import Shape
from whispertune.model.generation import Generation

FLOATS: Final[dict[str, np.dtype[Any]]] = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16)}


@dataclass(frozen=True, slots=True)
class Contents:
    """Weights under transformers' names, and all they need."""

    state: Mapping[str, np.ndarray]  # float32 or float16, as stored; those of the output may lack, see tied.py
    shape: Shape
    tokenizer_json: bytes
    generation: Generation
