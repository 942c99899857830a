"""What cannot be published is said before anything is exported, with what helps."""

from __future__ import annotations

import getpass
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from tests.finished_run import finished_run
from tests.hub_server import Hub
from whispertune.cli.publish import publish
from whispertune.errors import InputError, WhispertuneError
from whispertune.model.load import ModelFolder
from whispertune.service.export import export_model
from whispertune.train.run import Run

TO = "me/whisper-noise"


@pytest.fixture
def run(tiny: ModelFolder, noises: Path, tmp_path: Path) -> Run:
    """A run of its own, with data of its own."""
    shutil.copytree(noises, tmp_path / "data")
    return finished_run(tmp_path / "my-run", tiny.path, tmp_path / "data")


def refused(run: Run, what: str, **options: Any) -> InputError:
    with pytest.raises(InputError, match=what) as raised:
        publish(str(run.folder), **{"to": TO, "dry_run": True, **options})
    assert not (run.folder / "publish").exists()
    return raised.value


@pytest.mark.parametrize(
    ("to", "module", "install"),
    [("ct2", "faster_whisper", "'faster-whisper'"), ("ggml", "_pywhispercpp", "'whispertune[ggml]'")],
)
def test_a_runtime_that_is_missing(
    to: str, module: str, install: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    error = refused(run, "is not installed", formats=f"transformers,{to}")
    assert error.fix == f"pip install {install}, or --no-verify"
    with pytest.raises(InputError, match="is not installed"):
        export_model(str(run.folder), to)


def test_a_runtime_is_not_needed_where_nothing_is_verified(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    publish(str(run.folder), TO, formats="ct2", verify=False, dry_run=True)
    assert (run.folder / "publish" / "README.md").is_file()


def test_an_adapter_of_a_run_that_has_none(run: Run) -> None:
    refused(run, "no adapter is kept", formats="transformers,adapter")


def test_no_right_to_write(run: Run, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(run, "the hub does not let us write there", dry_run=False)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.add_repo(f"{TO}-demo", {}, kind="spaces")
    refused(run, f"{TO}-demo: the repository is there already and is public", dry_run=False, space=True)
    assert hub.files(TO, "models") == {}


def test_a_licence_that_the_hub_does_not_know(run: Run, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    refused(run, 'rejects this card: "license" must be one of', dry_run=False, licence="cc-by4")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"licence": "cc-by4"}, r"has no licence 'cc-by4' \(near: cc-by-4.0"),
        ({"to": "me/x..y"}, "no name of a repository: Cannot have -- or .."),
        ({"to": "-me/x-"}, "no name of a repository: .* cannot start or end with"),
        ({"to": "a/b/c"}, "no name of a repository"),
        ({"to": f"me/{'x' * 93}", "space": True, "formats": "transformers"}, "xx-demo: no name of a repository"),
    ],
)
def test_what_a_dry_run_finds_without_the_hub(options: dict[str, Any], what: str, run: Run, hub: Hub) -> None:
    refused(run, what, **options)
    assert not hub.requests


def test_a_dry_run_looks_at_the_recipes_licence(run: Run) -> None:
    written = run.resolved_recipe.read_text()
    run.resolved_recipe.write_text(f'licence = "apache"\n{written}')
    error = refused(run, "has no licence 'apache'")
    assert error.where == str(run.resolved_recipe)
    assert "--licence" in str(error.fix)


def test_a_hub_that_cannot_be_reached_is_named(run: Run, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not the recipe that failed."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        with pytest.raises(WhispertuneError, match="the hub failed") as raised:
            publish(str(run.folder), TO)
    assert raised.value.where == address
    assert not (run.folder / "publish").exists()


def test_the_data_of_the_run_is_gone(run: Run, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "data" / "dev")
    assert "--no-verify" in str(refused(run, "the run's own clips to verify with cannot be read"))
    with pytest.raises(InputError, match="own clips to verify with cannot be read") as raised:
        export_model(str(run.folder), "ct2")
    assert "--data" in str(raised.value)
    assert not (run.folder / "exports").exists()


def test_a_recipe_that_names_its_user(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "annika")
    written = run.resolved_recipe.read_text()
    run.resolved_recipe.write_text(written.replace('name = "noise"', 'name = "annika 2"'))
    error = refused(run, "it holds 'annika'")
    assert error.where == str(run.resolved_recipe)
    assert error.fix is not None
    assert "change it there" in error.fix


@pytest.mark.parametrize("name", ["whisper", "train", "model"])
def test_users_called_as_words_of_every_card_publish(name: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: name)
    publish(str(run.folder), TO, formats="transformers,ct2", space=True, verify=False, dry_run=True)
    assert name in (run.folder / "publish" / "README.md").read_text()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("result.json", '{"steps": 40'),
        ("run.json", "[1, 2]"),
        ("evaluations/retention.json", '{"sets": [{}]}'),
        ("evaluations/tuned.json", "{}"),
    ],
)
def test_damaged_files_of_a_run_are_named(file: str, content: str, run: Run) -> None:
    (run.folder / file).write_text(content)
    error = refused(run, "cannot be read|not finished")
    assert str(run.folder) in str(error)
