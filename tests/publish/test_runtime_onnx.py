"""ONNX Runtime writes what transformers writes, token by token."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import soundfile
from safetensors.numpy import load_file

from whispertune.errors import InputError, ModelError
from whispertune.model.formats.contents import Contents
from whispertune.model.formats.onnx import write_onnx
from whispertune.model.formats.transformers import write_tokenizer
from whispertune.model.generation import write_generation
from whispertune.model.load import ModelFolder
from whispertune.publish.runtimes.heard import Clip
from whispertune.publish.runtimes.onnx_runtime import open_onnx
from whispertune.publish.runtimes.transformers import open_transformers


@pytest.fixture(scope="module")
def exported(base: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real whisper-base as an export is: graphs, tokenizer, generation settings."""
    out = tmp_path_factory.mktemp("onnx")
    state = load_file(base.path / "model.safetensors")
    write_onnx(Contents(state, base.shape, base.tokenizer_json, base.generation), out, "float32")
    write_tokenizer(out, base.tokenizer_json, base.shape.n_mels)
    write_generation(out, base.generation, base.vocabulary)
    return out


def spoken(folder: Path, count: int, language: str, task: str = "transcribe") -> list[Clip]:
    """The first clips of a metadata folder."""
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()][:count]
    samples = [soundfile.read(folder / row["file_name"], dtype="float32") for row in rows]
    assert all(rate == 16_000 for _, rate in samples)
    return [Clip(each, language, task) for each, _ in samples]


def test_base_writes_the_tokens_that_transformers_writes(
    exported: Path, base: ModelFolder, english_read: Path, mboshi: Path
) -> None:
    runtime, source = open_onnx(exported), open_transformers(base.path)
    assert runtime.name.startswith("onnxruntime 1.")
    english, unknown = spoken(english_read, 3, "en"), spoken(mboshi / "dev", 20, "ln")
    for clip in [*english, *unknown, *spoken(mboshi / "dev", 1, "fr", "translate")]:
        heard = runtime.hear(clip)
        assert heard == source.hear(clip)
        assert heard.text
    assert "ask not what your country can do for you" in runtime.hear(english[2]).text


def test_what_the_model_suppresses_is_not_written(exported: Path, english_read: Path, tmp_path: Path) -> None:
    for file in exported.iterdir():
        if file.name != "generation_config.json":
            (tmp_path / file.name).symlink_to(file)
    clip = spoken(english_read, 3, "en")[2]
    before = open_onnx(exported).hear(clip).tokens
    settings = json.loads((exported / "generation_config.json").read_text())
    settings["begin_suppress_tokens"] = [before[0]]
    settings["suppress_tokens"] = [before[4]]
    (tmp_path / "generation_config.json").write_text(json.dumps(settings))
    after = open_onnx(tmp_path).hear(clip).tokens
    assert after[0] != before[0]
    assert before[4] not in after
    assert set(after) & set(before)


def test_a_missing_runtime_and_a_missing_graph_are_named(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tokenizer.json", "generation_config.json", "encoder_model.onnx"):
        (tmp_path / name).symlink_to(exported / name)
    with pytest.raises(ModelError, match=r"decoder_model\.onnx: no such graph"):
        open_onnx(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match="--no-verify"):
        open_onnx(exported)
