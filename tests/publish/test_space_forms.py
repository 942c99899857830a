"""In a Space both models are decoded by one runtime, where they have one in common."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.hub_client import environment
from tests.hub_server import Hub
from whispertune.publish.space import write_space

# Of each pair of models, what each is run by and with which files.
ASK = """
import app, json, sys
def loaded(name, form):
    return form, sorted(path.name for path in app.find(name, form).iterdir())
pairs = [names.split() for names in sys.argv[1:]]
print(json.dumps([[loaded(*each) for each in zip(names, app.common(names))] for names in pairs]))
"""


def test_both_are_run_alike(hub: Hub, tmp_path: Path) -> None:
    config = {"config.json": b"{}"}
    pickled = config | {"pytorch_model.bin": b"w", "flax_model.msgpack": b"other"}
    plain = config | {"model.safetensors": b"w", "pytorch_model.bin": b"old"}
    inner = {"ct2/config.json": b"{}", "ct2/model.bin": b"w"}
    repositories = {"you/old": pickled, "me/tuned": plain | inner, "you/faster": config | {"model.bin": b"w"}}
    for name, files in repositories.items():
        hub.add_repo(name, files, kind="models")
    space, local = tmp_path / "space", tmp_path / "local"
    for file in ("config.json", "model.safetensors", "ct2/model.bin"):
        (local / file).parent.mkdir(parents=True, exist_ok=True)
        (local / file).touch()
    write_space(space, title="Svenska", tuned=str(local), base="you/old", language="sv", task="transcribe")
    pairs = ["you/old me/tuned", "you/faster me/tuned", "you/old you/faster", "you/old ../local", "../local me/tuned"]
    found = subprocess.run(
        [sys.executable, "-c", ASK, *pairs],
        cwd=space,
        env=environment(hub, tmp_path / "home"),
        capture_output=True,
        text=True,
        check=True,
    )
    old = ["transformers", ["config.json", "pytorch_model.bin"]]
    faster = ["ct2", ["config.json", "model.bin"]]
    here = sorted(path.name for path in local.iterdir())
    assert json.loads(found.stdout) == [
        [old, ["transformers", ["config.json", "model.safetensors"]]],
        [faster, ["ct2", ["config.json", "model.bin"]]],
        [old, faster],  # nothing in common
        [old, ["transformers", here]],
        [["ct2", ["model.bin"]], ["ct2", ["config.json", "model.bin"]]],
    ]
