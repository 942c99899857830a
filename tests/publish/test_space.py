"""The folder of a demo Space: complete, without a path of this machine, installable, and honest refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from huggingface_hub import SpaceCard
from packaging.requirements import Requirement

from tests.hub_client import environment
from tests.hub_server import Hub
from whispertune.errors import InputError
from whispertune.publish.space import write_space

HUB = {"tuned": "me/whisper-small-sv", "base": "openai/whisper-small", "language": "sv", "task": "transcribe"}
# The files that app.py finds for each of the models named.
FIND = """
import app, json, sys
found = {name: app.find(name, app.common([name])[0]) for name in sys.argv[1:]}
print(json.dumps({name: sorted(path.name for path in folder.iterdir()) for name, folder in found.items()}))
"""


def folder(path: Path, *files: str) -> Path:
    """A folder with empty files: what a model is told by."""
    for file in files:
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).touch()
    return path


def settings(space: Path) -> dict[str, str | None]:
    content: dict[str, str | None] = json.loads((space / "space.json").read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("title", ["Svenska", "Swedish: \"små\" ord # & 'fler'", "- 1e-5", "نموذج"])
def test_the_hub_reads_what_the_readme_says(tmp_path: Path, title: str) -> None:
    write_space(tmp_path / "space", title=title, **HUB)
    assert {path.name for path in (tmp_path / "space").iterdir()} == {
        *("app.py", "requirements.txt", "README.md", "space.json"),
    }
    card = SpaceCard.load(tmp_path / "space" / "README.md")
    told = card.data.to_dict()
    assert told["title"] == title
    assert (told["sdk"], told["app_file"]) == ("gradio", "app.py")
    assert told["models"] == ["me/whisper-small-sv", "openai/whisper-small"]
    assert len(told["short_description"]) <= 60  # the hub's limit
    requirements = (tmp_path / "space" / "requirements.txt").read_text().split()
    assert f"gradio=={told['sdk_version']}" in requirements
    assert settings(tmp_path / "space") == {"title": title, **HUB}


def test_what_it_requires_is_what_it_is_tested_with(tmp_path: Path) -> None:
    write_space(tmp_path, title="Svenska", **HUB)
    required = [Requirement(line) for line in (tmp_path / "requirements.txt").read_text().splitlines()]
    assert {each.name for each in required} == {"gradio", "faster-whisper", "torch", "transformers"}
    for each in required:
        assert each.specifier.contains(version(each.name)), each


def test_folders_are_named_from_the_space(tmp_path: Path) -> None:
    tuned = folder(tmp_path / "models" / "tuned", "model.bin", "config.json")
    base = folder(tmp_path / "space" / "base", "ct2/model.bin", "config.json", "model.safetensors")
    write_space(tmp_path / "space", title="Both", tuned=str(tuned), base=str(base), language=None, task="translate")
    told = settings(tmp_path / "space")
    assert (told["tuned"], told["base"]) == ("../models/tuned", "./base")
    for path in (tmp_path / "space").glob("*.*"):
        assert str(tmp_path) not in path.read_text(encoding="utf-8")
    # Both run in faster-whisper: nobody has to install torch for them.
    assert "torch" not in (tmp_path / "space" / "requirements.txt").read_text()
    assert "models" not in SpaceCard.load(tmp_path / "space" / "README.md").data.to_dict()  # none of them is on the hub


def test_a_transformers_folder_needs_torch(tmp_path: Path) -> None:
    tuned = folder(tmp_path / "tuned", "model.safetensors", "config.json")
    base = folder(tmp_path / "base", "model.bin", "config.json")
    write_space(tmp_path / "space", title="Two", tuned=str(tuned), base=str(base), language="sv", task="transcribe")
    assert "torch" in (tmp_path / "space" / "requirements.txt").read_text()


def test_bundled_weights_are_those_on_the_hub(tmp_path: Path) -> None:
    write_space(tmp_path, title="Bundled", **HUB | {"base": "bundled:whisper-base"})
    assert settings(tmp_path)["base"] == "openai/whisper-base"


def test_what_no_space_can_show_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    run = folder(tmp_path / "my-run", "run.json", "model/config.json")
    for name, fix in ((str(run), "export it first"), ("whisper-small", "a name on the hub"), ("./none", "or a folder")):
        with pytest.raises(InputError, match=fix):
            write_space(tmp_path / "space", title="No", **HUB | {"tuned": name})
    assert not (tmp_path / "space").exists()


def test_of_the_hub_it_loads_what_its_runtime_needs(hub: Hub, tmp_path: Path) -> None:
    plain = {
        "config.json": b"{}",
        "model.safetensors": b"w",
        "pytorch_model.bin": b"old",
        "flax_model.msgpack": b"other",
    }
    inner = {"ct2/config.json": b"{}", "ct2/model.bin": b"w", "ggml/ggml-model.bin": b"w"}
    hub.add_repo("openai/whisper-small", plain, kind="models")
    hub.add_repo("me/whisper-small-sv", plain | inner, kind="models")
    hub.add_repo("you/faster-whisper", {"config.json": b"{}", "model.bin": b"w", "logo.png": b"p"}, kind="models")
    write_space(tmp_path / "space", title="Svenska", **HUB)
    found = subprocess.run(
        [sys.executable, "-c", FIND, "openai/whisper-small", "me/whisper-small-sv", "you/faster-whisper"],
        cwd=tmp_path / "space",
        env=environment(hub, tmp_path / "home"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(found.stdout) == {
        "openai/whisper-small": ["config.json", "model.safetensors"],
        "me/whisper-small-sv": ["config.json", "model.bin"],
        "you/faster-whisper": ["config.json", "model.bin"],
    }
    weights = [one.path for one in hub.fetched("model.safetensors")]
    assert len(weights) == 1
    assert "openai" in weights[0]  # of what was published, only the part under ct2/
