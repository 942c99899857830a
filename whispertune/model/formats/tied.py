"""Output weights: the embeddings of the tokens, as in all of OpenAI's models, or a model's own.

    own_projection(state)        # (vocabulary, width); None where the embeddings stand there
    without_tied(state)          # the weights without a second copy of the embeddings

transformers keeps own ones where config.json says `"tie_word_embeddings": false`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from whispertune.errors import InputError

EMBEDDINGS: Final = "model.decoder.embed_tokens.weight"
PROJECTION: Final = "proj_out.weight"


def own_projection(state: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The output weights of a model where they are not its embeddings."""
    projection = state.get(PROJECTION)
    tied = projection is None or np.array_equal(projection, state[EMBEDDINGS], equal_nan=True)
    return None if tied else projection


def without_tied(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same weights; the output's among them only where they are not the embeddings."""
    own = own_projection(state)
    return {name: array for name, array in state.items() if name != PROJECTION or own is not None}


def check_tied(state: Mapping[str, np.ndarray], runtime: str) -> None:
    """Raise InputError where a model has output weights of its own, for which a runtime takes the embeddings."""
    if own_projection(state) is not None:
        raise InputError(
            f"{runtime} has no output weights but the embeddings of the tokens, and this model has its own "
            f"({PROJECTION}, not tied): it would be another model",
            fix="export it --to transformers, ct2 or onnx",
        )
