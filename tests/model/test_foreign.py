"""Models by the name of a file of another project, or of a folder that holds one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from whispertune.errors import ModelError
from whispertune.model.export import contents_of, write_ggml, write_openai
from whispertune.model.formats.transformers import token_names
from whispertune.model.load import ModelFolder, find_model


@pytest.mark.parametrize("write", [write_openai, write_ggml])
def test_a_file_is_a_model_and_so_is_its_folder(
    write: Callable[[ModelFolder, Path, str], None], tiny_en: ModelFolder, tmp_path: Path
) -> None:
    write(tiny_en, tmp_path, "float16")
    (file,) = (path for path in tmp_path.iterdir() if path.suffix in (".pt", ".bin"))
    by_file, by_folder = find_model(str(file)), find_model(str(tmp_path))
    assert by_file.path == by_folder.path  # converted once
    ours, theirs = contents_of(tiny_en), contents_of(by_file)
    assert (theirs.shape, theirs.generation) == (ours.shape, ours.generation)
    assert token_names(theirs.tokenizer_json) == token_names(ours.tokenizer_json)
    assert all(np.array_equal(theirs.state[name], array) for name, array in ours.state.items())


def test_several_models_in_a_folder(tmp_path: Path) -> None:
    for name in ("a.pt", "ggml-b.bin"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ModelError, match=r"several models in this folder: a\.pt, ggml-b\.bin"):
        find_model(str(tmp_path))


def test_files_of_other_kinds(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(ModelError, match="no model that can be read"):
        find_model(str(tmp_path / "notes.txt"))
