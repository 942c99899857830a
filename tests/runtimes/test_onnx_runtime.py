"""ONNX Runtime on what we write: the lists of a model, and clear errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.exports import exported, spoken
from whispertune.errors import InputError, ModelError
from whispertune.model.load import ModelFolder
from whispertune.publish.runtimes.onnx_runtime import open_onnx


@pytest.fixture(scope="module")
def out(tiny_en: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real whisper-tiny.en."""
    return exported(tiny_en, "onnx", "float32", tmp_path_factory.mktemp("onnx") / "out")


def test_what_the_model_suppresses_is_not_written(out: Path, english_read: Path, tmp_path: Path) -> None:
    for file in out.iterdir():
        if file.name != "generation_config.json":
            (tmp_path / file.name).symlink_to(file)
    clip = spoken(english_read, "en", 3)[2]
    before = open_onnx(out).hear(clip).tokens
    settings = json.loads((out / "generation_config.json").read_text())
    settings["begin_suppress_tokens"] = [before[0]]
    settings["suppress_tokens"] = [before[4]]
    (tmp_path / "generation_config.json").write_text(json.dumps(settings))
    after = open_onnx(tmp_path).hear(clip).tokens
    assert after[0] != before[0]
    assert before[4] not in after
    assert set(after) & set(before)


def test_a_missing_runtime_and_a_missing_graph_are_named(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tokenizer.json", "generation_config.json", "encoder_model.onnx"):
        (tmp_path / name).symlink_to(out / name)
    with pytest.raises(ModelError, match=r"decoder_model\.onnx: no such graph"):
        open_onnx(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match="--no-verify"):
        open_onnx(out)
