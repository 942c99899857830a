"""OpenAI's checkpoints whose numbers and tensors are no Whisper's: one clear error each, and no memory taken for a lie.

Files that are damaged, or meant to do damage, are in test_damaged_pickles.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.model.damage import error_of
from tests.model.openai_checkpoint import DIMS, random_contents
from whispertune.model.formats.openai import FILE, read_openai, write_openai

HUGE = 1 << 40


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow checkpoint."""
    folder = tmp_path_factory.mktemp("written")
    write_openai(random_contents(), folder, "float16")
    return folder / FILE


def refused(path: Path) -> str:
    """The message of the one error."""
    error = error_of(lambda: read_openai(path))
    assert error is not None, path
    assert error.where == str(path)
    return error.what


Lie = Callable[[dict[str, Any], dict[str, torch.Tensor]], Any]
EMBEDDINGS, BIAS = "decoder.token_embedding.weight", "decoder.ln.bias"

DIMS_LIES: list[Lie] = [
    *(lambda dims, state, key=key: dims.update({key: dims[key] + 1}) for key in asdict(DIMS)),
    *(lambda dims, state, key=key: dims.pop(key) for key in asdict(DIMS)),
    *(
        lambda dims, state, value=value: dims.update(n_text_layer=value)
        for value in (0, -1, HUGE, 1.0, "1", None, True)
    ),
    *(lambda dims, state, key=key: dims.update({key: HUGE}) for key in asdict(DIMS)),
    lambda dims, state: dims.update(n_extra=1),
    lambda dims, state: dims.update({1: 1}),
    lambda dims, state: dims.update(n_audio_head=3, n_text_head=3),
]
STATE_LIES: list[Lie] = [
    lambda dims, state: state.pop(EMBEDDINGS),
    lambda dims, state: state.pop("encoder.positional_embedding"),
    lambda dims, state: state.update({"decoder.blocks.1.mlp.0.bias": torch.ones(64)}),
    lambda dims, state: state.update({"proj_out.weight": state[EMBEDDINGS]}),
    lambda dims, state: state.update({BIAS: torch.ones(16, 1)}),
    lambda dims, state: state.update({BIAS: torch.ones(17)}),
    lambda dims, state: state.update({BIAS: torch.ones(0)}),
    lambda dims, state: state.update({BIAS: torch.ones(16, dtype=torch.int8)}),
    lambda dims, state: state.update({BIAS: torch.ones(16, dtype=torch.float64)}),
    lambda dims, state: state.update({BIAS: torch.ones(16).to_sparse()}),
    lambda dims, state: state.update({BIAS: torch.ones(1).expand(16)}),
    lambda dims, state: state.update({BIAS: [0.0] * 16}),
    lambda dims, state: state.update({3: torch.ones(16)}),
    lambda dims, state: state.update({EMBEDDINGS: torch.ones(1, 1).expand(51865, 16)}),
    lambda dims, state: state.update({EMBEDDINGS: torch.ones(16, 51865)}),
    lambda dims, state: state.clear(),
]


@pytest.mark.parametrize("lies", [DIMS_LIES, STATE_LIES], ids=["dims", "tensors"])
def test_numbers_and_tensors_that_do_not_belong_together(lies: list[Lie], written: Path, tmp_path: Path) -> None:
    for number, lie in enumerate(lies):
        checkpoint = torch.load(written, weights_only=True)
        lie(checkpoint["dims"], checkpoint["model_state_dict"])
        torch.save(checkpoint, tmp_path / f"{number}.pt")
        refused(tmp_path / f"{number}.pt")


@pytest.mark.parametrize("content", [{}, [], 3, {"dims": {}}, {"dims": [], "model_state_dict": []}, {"dims": 1}])
def test_other_contents(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / FILE)
    refused(tmp_path / FILE)
