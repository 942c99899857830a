"""What ONNX exports are made of, and which are not written; tests/runtimes computes with the graphs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from whispertune.errors import InputError
from whispertune.model.formats.contents import Contents
from whispertune.model.formats.onnx import write_onnx
from whispertune.model.formats.onnx_modules import BLOCK, ZERO, in_blocks


@given(
    matrix=arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 70)), elements=st.floats(-100, 100, width=32))
)
def test_a_block_is_as_exact_as_its_largest_weight_allows(matrix: np.ndarray) -> None:
    levels, scales = in_blocks(matrix)
    blocks = -(-matrix.shape[1] // BLOCK)
    assert levels.shape == (len(matrix), blocks, BLOCK)
    assert scales.shape == (len(matrix), blocks)
    back = ((levels.astype(np.float32) - ZERO) * scales[..., None]).reshape(len(matrix), -1)[:, : matrix.shape[1]]
    largest = np.abs(np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % BLOCK))).reshape(*levels.shape)).max(axis=2)
    allowed = np.repeat(largest / 254, BLOCK, axis=1)[:, : matrix.shape[1]]
    assert (np.abs(back - matrix) <= allowed * 1.001 + 1e-37).all()


def test_a_missing_package_is_named(contents: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"needs onnxscript.*\n.*whispertune\[onnx\]"):
        write_onnx(contents, tmp_path, "float32")
