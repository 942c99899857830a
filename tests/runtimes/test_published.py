"""A LoRA run of the real whisper-base in every format on the hub, and the programs of its card, run from there."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import soundfile

from tests.exports import spoken
from tests.finished_run import finished_run
from tests.hub_server import Hub
from whispertune.cli.publish import publish
from whispertune.model.adapters import AdapterSettings
from whispertune.model.formats.adapter import keep_adapter
from whispertune.model.formats.transformers import write_folder
from whispertune.model.load import ModelFolder, find_model
from whispertune.model.parameters import Choice, merged_state, prepare
from whispertune.publish.runtimes import RUNTIMES
from whispertune.publish.usage import PROGRAMS
from whispertune.train.run import Run

TO = "me/whisper-english"
FORMATS = ("transformers", "ct2", "ggml", "openai", "onnx", "adapter")
QUANTIZATIONS = dict.fromkeys(FORMATS, "float32") | {"ggml": "float16"}

pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning"),  # peft 0.21, of transformers 5.23
    pytest.mark.filterwarnings("ignore:.*tiktoken:ResourceWarning"),  # openai-whisper leaves its vocabulary open
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def run(base: ModelFolder, english_read: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The real model, moved a little by random adapters, on real speech."""
    import torch

    folder = tmp_path_factory.mktemp("published")
    model = base.load()
    prepare(model, Choice("lora", targets=("decoder.layers.*.q_proj",), adapters=AdapterSettings(rank=4, alpha=8)))
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.copy_(torch.randn(value.shape, generator=random) * 0.02)
    write_folder(folder / "model", merged_state(model), base.shape, base.tokenizer_json, base.generation)
    keep_adapter(model, folder / "model", "bundled:whisper-base")
    shutil.copytree(english_read, folder / "data" / "dev")  # train is gone, so that these are what is compared
    return finished_run(folder / "run", folder / "model", folder / "data", language="en", licence="mit")


def test_every_format_goes_up_and_its_program_writes_what_was_verified(
    run: Run,
    base: ModelFolder,
    english_read: Path,
    hub: Hub,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    publish(str(run.folder), TO, formats=",".join(f"{each}:{QUANTIZATIONS[each]}" for each in FORMATS), json=True)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["url"] == f"{hub.url}/{TO}"
    verified = {each["format"]: each["verified"] for each in told["exports"]}
    assert {name: (found["clips"], found["tokens_equal"]) for name, found in verified.items()} == dict.fromkeys(
        FORMATS, (3, 3)
    )
    there = hub.files(TO, "models")
    assert {name: len(content) for name, content in there.items()} == {
        each["name"]: each["size_bytes"] for each in told["files"]
    }
    whole = b"".join(content for name, content in there.items() if name.endswith((".json", ".md", ".toml", ".txt")))
    assert str(run.folder.parent).encode() not in whole

    hub.add_repo(
        "openai/whisper-base",  # what the adapter belongs to
        {each.name: each.read_bytes() for each in base.path.iterdir()},
        kind="models",
    )
    monkeypatch.chdir(tmp_path)
    (clip,) = spoken(english_read, "en", 3)[2:]
    soundfile.write("speech.wav", clip.samples, 16_000)  # as many bits as it was read from
    programs = re.findall(r"### ([^\n,]+).*?```python\n(.*?)```", there["README.md"].decode(), re.DOTALL)
    assert len(programs) == len(PROGRAMS)
    source = find_model(str(run.folder))
    for (title, program), to in zip(programs, [each for each in FORMATS if each in PROGRAMS], strict=True):
        found: dict[str, Any] = {}
        exec(compile(program, title, "exec"), found)
        runtime = RUNTIMES[to](run.folder / "publish" / "exports" / f"{to}-{QUANTIZATIONS[to]}", source)
        assert found["text"].strip() == runtime.hear(clip).text.strip(), title
        assert "country" in found["text"], title
