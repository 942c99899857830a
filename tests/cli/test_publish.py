"""`whispertune publish`, from a run to the hub on loopback, and what its card says run from there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import soundfile

from tests.finished_run import finished_run
from tests.hub_server import Hub
from whispertune.cli.publish import publish
from whispertune.errors import InputError, WhispertuneError
from whispertune.model.load import ModelFolder, find_model
from whispertune.publish.runtimes import RUNTIMES
from whispertune.publish.runtimes.heard import Clip
from whispertune.train.run import Run

TO = "me/whisper-noise"
FORMATS = "transformers,ct2:float32"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny: ModelFolder, noises: Path) -> Run:
    return finished_run(tmp_path_factory.mktemp("publish") / "my-run", tiny.path, noises, licence="apache-2.0")


def listed(capsys: pytest.CaptureFixture[str], run: Run, **options: Any) -> Any:
    publish(str(run.folder), TO, formats=FORMATS, json=True, **options)
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_from_a_run_to_the_hub_and_back(
    run: Run,
    hub: Hub,
    tmp_path: Path,
    noises: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = listed(capsys, run, dry_run=True)
    assert not told["pushed"]
    assert not hub.requests
    names = {each["name"]: each["size_bytes"] for each in told["files"]}
    assert {"README.md", "recipe.toml", "model.safetensors", "ct2/model.bin", "ct2/tokenizer.json"} <= set(names)
    verified = [(each["verified"]["clips"], each["verified"]["tokens_equal"]) for each in told["exports"]]
    assert verified == [(15, 15)] * 2  # 3 of dev, and as those have few words, 12 of train

    made = run.folder / "publish" / "exports" / "ct2-float32" / "model.bin"
    before = made.stat().st_mtime_ns
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.break_uploads(after=1)
    with pytest.raises(WhispertuneError, match="run the same command again"):
        listed(capsys, run)
    hub.mend_uploads()
    told = listed(capsys, run)
    assert (told["url"], told["public"]) == (f"{hub.url}/{TO}", False)
    assert made.stat().st_mtime_ns == before
    there = hub.files(TO, "models")
    assert {name: len(content) for name, content in there.items()} == names

    monkeypatch.chdir(tmp_path)
    samples, rate = soundfile.read(noises / "dev" / "1.wav", dtype="float32")
    soundfile.write("speech.wav", samples, rate)
    programs = re.findall(r"```python\n(.*?)```", there["README.md"].decode(), re.DOTALL)
    for program, to, key in zip(
        programs, ("transformers", "ct2"), ("transformers-float32", "ct2-float32"), strict=True
    ):
        found: dict[str, Any] = {}
        exec(compile(program, "the card", "exec"), found)
        runtime = RUNTIMES[to](run.folder / "publish" / "exports" / key, find_model(str(run.folder)))
        assert found["text"] == runtime.hear(Clip(samples, "sv", "transcribe")).text


def test_what_people_are_told(
    run: Run, hub: Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    publish(str(run.folder), TO, formats="transformers", space=True, verify=False, licence="mit")
    told = capsys.readouterr().out
    assert f"{TO} (private): " in told
    assert re.search(r"\d{2},\d{3}  README\.md|\d,\d{3}  README\.md", told)
    assert f"{TO}-demo, a Space (private)" in told
    assert f"pushed: {hub.url}/{TO}\n" in told
    assert "add HF_TOKEN to its secrets" in told
    assert "license: mit" in hub.files(TO, "models")["README.md"].decode()
    space = hub.files(f"{TO}-demo", "spaces")
    assert {"app.py", "requirements.txt", "README.md"} <= set(space)
    assert TO in "".join(content.decode() for name, content in space.items() if name.endswith(".json"))


def test_not_verified_is_on_the_card(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    own = finished_run(tmp_path / "own", tiny.path, noises)
    publish(str(own.folder), TO, formats="ct2", verify=False, dry_run=True)
    card = (own.folder / "publish" / "README.md").read_text()
    assert "| ct2 | float16 | `ct2/` |" in card
    assert card.count("ot verified**") == 2


def test_other_weights_are_exported_anew(
    tiny: ModelFolder, noises: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = finished_run(tmp_path / "own", tiny.path, noises)
    listed(capsys, own, dry_run=True, verify=False)
    weights = own.folder / "publish" / "exports" / "transformers-float32" / "model.safetensors"
    before = weights.read_bytes()
    content = bytearray((own.model / "model.safetensors").read_bytes())
    content[-400:] = bytes(400)
    (own.model / "model.safetensors").write_bytes(content)
    listed(capsys, own, dry_run=True, verify=False)
    assert weights.read_bytes() != before


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"to": "whisper-noise"}, "no name of a repository"),
        ({"licence": "Apache 2"}, "no name of a licence"),
        ({"formats": "ct2", "space": True}, "the Space decodes base and tuned model alike"),
        ({"formats": "mp3"}, "unknown format"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_made(
    options: dict[str, Any], what: str, tiny: ModelFolder, noises: Path, tmp_path: Path
) -> None:
    own = finished_run(tmp_path / "own", tiny.path, noises)
    asked: dict[str, Any] = {"to": TO, "dry_run": True} | options
    with pytest.raises(InputError, match=what):
        publish(str(own.folder), **asked)
    assert not (own.folder / "publish").exists()


def test_a_folder_that_is_no_run(tiny: ModelFolder) -> None:
    with pytest.raises(InputError, match="no run: a card tells how a model was made"):
        publish(str(tiny.path), TO, dry_run=True)


def test_a_base_that_is_not_on_the_hub_has_no_space(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    own = finished_run(tmp_path / "own", tiny.path, noises, base=str(tiny.path))
    with pytest.raises(InputError, match="is not on the hub"):
        publish(str(own.folder), TO, formats="transformers", space=True, verify=False, dry_run=True)
    assert not (own.folder / "publish").exists()
