"""What the formats are written in: asked for by any of their names, refused before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from whispertune.errors import InputError
from whispertune.model.export import EXPORTERS, check_export

# Points that an export may be from its source: 0.5 in 16 bits and more, 1.0 in 8, 3.0 below.
TOLERANCES = {
    "ct2": {"float16": 0.5, "float32": 0.5, "bfloat16": 0.5, "int8": 1.0, "int8_float16": 1.0},
    "transformers": {"float32": 0.5, "float16": 0.5},
    "openai": {"float16": 0.5, "float32": 0.5},
    "ggml": {"float16": 0.5, "q8_0": 1.0, "q5_0": 3.0},
    "onnx": {"float32": 0.5, "float16": 0.5, "int8": 1.0},
    "adapter": {"float32": 0.5, "float16": 0.5},
}


def test_tolerances_are_those_of_the_specification() -> None:
    assert {to: dict(exporter.tolerances) for to, exporter in EXPORTERS.items()} == TOLERANCES


@pytest.mark.parametrize("to", EXPORTERS)
def test_a_format_is_written_in_what_it_has(to: str, tmp_path: Path) -> None:
    known = EXPORTERS[to].quantizations
    assert check_export(to, tmp_path, None) == known[0]
    assert [check_export(to, tmp_path, each) for each in known] == list(known)
    with pytest.raises(InputError, match=rf"{to} is not written in int3\n.*one of {', '.join(known)}"):
        check_export(to, tmp_path, "int3")


def test_short_names(tmp_path: Path) -> None:
    assert check_export("ggml", tmp_path, "f16") == "float16"
    with pytest.raises(InputError, match="ggml is not written in float32"):  # whisper.cpp ends at the first such layer
        check_export("ggml", tmp_path, "f32")


def test_unknown_formats(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown format 'mp3'(.|\n)*ct2, transformers"):
        check_export("mp3", tmp_path, None)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes.txt: this is a file, where a folder is to be written"):
        check_export("ct2", tmp_path / "notes.txt", None)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_in_use_is_kept(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        check_export("ct2", tmp_path, None)
