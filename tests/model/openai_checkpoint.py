"""A narrow checkpoint of OpenAI's kind, of noise, and when two models are one."""

from __future__ import annotations

import numpy as np

from whispertune.model.formats.contents import Contents
from whispertune.model.formats.known_tokenizers import default_generation, tokenizer_for
from whispertune.model.formats.openai import Dims, rows

DIMS = Dims(80, 1500, 16, 2, 2, 51865, 448, 16, 4, 1)


def random_contents(dims: Dims = DIMS, dtype: str = "float16") -> Contents:
    """A Whisper of noise."""
    rng = np.random.default_rng(0)
    state = {row.theirs: rng.normal(0, 0.1, row.shape).astype(dtype) for row in rows(dims)}
    tokenizer = tokenizer_for(dims.n_vocab)
    return Contents(state, dims.shape, tokenizer, default_generation(tokenizer))


def assert_same(one: Contents, other: Contents) -> None:
    assert one.shape == other.shape
    assert one.state.keys() == other.state.keys()
    for name, array in one.state.items():
        assert array.dtype == other.state[name].dtype, name
        assert np.array_equal(array, other.state[name]), name
