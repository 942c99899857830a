"""A random model that every format takes: its feed-forward layers are four times as wide as the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from whispertune.model.formats.known_tokenizers import default_generation, tokenizer_for
from whispertune.model.formats.openai import Dims, rows
from whispertune.model.formats.transformers import write_folder
from whispertune.model.generation import Generation
from whispertune.model.load import ModelFolder

VOCABULARY = 51865
DIMS = Dims(80, 1500, 32, 2, 1, VOCABULARY, 448, 32, 2, 1)
TOKENIZER = tokenizer_for(VOCABULARY)


def small_model(folder: Path, generation: Generation | None = None) -> ModelFolder:
    """Written into a folder; what it writes is noise."""
    rng = np.random.default_rng(0)
    state = {row.theirs: rng.normal(0, 0.2, row.shape).astype(np.float32) for row in rows(DIMS)}
    write_folder(folder, state, DIMS.shape, TOKENIZER, generation or default_generation(TOKENIZER))
    return ModelFolder(str(folder), folder)
