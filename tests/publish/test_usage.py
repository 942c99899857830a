"""The programs of a card, run as they stand there, write what the verification's runtimes write."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

from tests.hub_server import Hub
from whispertune.model.export import write_ctranslate2, write_transformers
from whispertune.model.formats.contents import Contents
from whispertune.model.formats.ggml import write_ggml
from whispertune.model.formats.openai import write_openai
from whispertune.model.formats.transformers import Shape, config_for, write_folder, write_tokenizer
from whispertune.model.generation import write_generation
from whispertune.model.load import ModelFolder
from whispertune.model.parameters import merged_state
from whispertune.publish.exported import Exported
from whispertune.publish.runtimes.faster_whisper import open_faster_whisper
from whispertune.publish.runtimes.heard import Clip, Runtime
from whispertune.publish.runtimes.openai_whisper import open_openai
from whispertune.publish.runtimes.transformers import open_transformers
from whispertune.publish.runtimes.whisper_cpp import open_whisper_cpp
from whispertune.publish.usage import PROGRAMS, Spoken, remark, usage

REPOSITORY = "me/whisper-noise"
SENTENCE = "The ferry leaves the harbour at a quarter past seven."
RUNTIMES: dict[str, Callable[[Path], Runtime]] = {
    "transformers": open_transformers,
    "ct2": open_faster_whisper,
    "ggml": open_whisper_cpp,
    "openai": open_openai,
}


@pytest.fixture(scope="module")
def narrow(base: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """A random Whisper of the proportions that all runtimes take for granted."""
    import torch
    from transformers import WhisperForConditionalGeneration

    shape = Shape(base.shape.vocabulary, 80, 16, 2, 2, 2, 2, 64, 64)
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(config_for(shape, base.vocabulary))
    folder = tmp_path_factory.mktemp("narrow")
    write_folder(folder, merged_state(model), shape, base.tokenizer_json, base.generation)
    return ModelFolder(str(folder), folder)


def write(format_: str, folder: ModelFolder, out: Path) -> None:
    if format_ == "transformers":
        write_transformers(folder, out, "float32")
    elif format_ == "ct2":
        write_ctranslate2(folder, out, "float32")
    else:
        contents = Contents(merged_state(folder.load()), folder.shape, folder.tokenizer_json, folder.generation)
        if format_ == "ggml":
            write_ggml(contents, out, "float16")
        else:
            write_openai(contents, out, "float32")
        write_tokenizer(out, folder.tokenizer_json, folder.shape.n_mels)
        write_generation(out, folder.generation, folder.vocabulary)


def published(hub: Hub, out: Path, exported: Exported) -> None:
    prefix = f"{exported.folder}/" if exported.folder else ""
    files = {f"{prefix}{path.name}": path.read_bytes() for path in out.iterdir()}
    hub.add_repo(REPOSITORY, files, kind="models")


def run(program: str | None) -> str:
    assert program is not None
    found: dict[str, Any] = {}
    exec(compile(program, "the card", "exec"), found)
    return str(found["text"])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # openai-whisper closes no vocabulary
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("format_", PROGRAMS)
def test_the_program_is_what_the_verification_ran(
    format_: str, narrow: ModelFolder, base: ModelFolder, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On speech; whisper.cpp aborts on heads as narrow as those of a tiny model."""
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    write(format_, base if format_ == "ggml" else narrow, out)
    quantization = "float16" if format_ == "ggml" else "float32"
    exported = Exported(format_, quantization, "" if format_ == "transformers" else format_, 1, "some 1.0", None)
    published(hub, out, exported)
    subprocess.run([sys.executable, "-m", "py_nanotts", SENTENCE, "-o", "speech.wav", "-v", "en-US"], check=True)
    samples, rate = soundfile.read("speech.wav", dtype="float32")
    assert rate == 16_000
    written = run(usage(exported, REPOSITORY, Spoken("en", "transcribe", multilingual=True)))
    heard = RUNTIMES[format_](out, base).hear(Clip(samples, "en", "transcribe"))
    assert heard.tokens
    assert written.strip() == heard.text.strip()


def test_a_model_for_english_alone_is_told_no_language() -> None:
    exported = Exported("transformers", "float32", "", 1, "transformers 5.23.0", None)
    program = usage(exported, REPOSITORY, Spoken("en", "transcribe", multilingual=False))
    assert program is not None
    assert "language" not in program
    spoken = Spoken(None, "translate", multilingual=True)
    program = usage(exported, REPOSITORY, spoken)
    assert program is not None
    assert "language=" not in program
    assert 'task="translate"' in program


def test_whisper_cpps_own_program() -> None:
    exported = Exported("ggml", "q5_0", "ggml", 1, "pywhispercpp 1.5.1", None)
    told = remark(exported, Spoken("sv", "translate", multilingual=True))
    assert told is not None
    assert "whisper-cli -m ggml-model-q5_0.bin -l sv -tr -nt" in told
    assert (
        usage(Exported("onnx", "float32", "onnx", 1, "onnxruntime 1", None), REPOSITORY, Spoken("sv", "", True)) is None
    )
