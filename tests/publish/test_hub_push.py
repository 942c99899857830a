"""What goes up to the hub: all that is meant to, nothing else, and after a broken connection only what is missing."""

from __future__ import annotations

import getpass
import json
import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub_client import environment
from tests.hub_server import Hub
from whispertune.errors import InputError, WhispertuneError
from whispertune.publish.hub import Kind, push
from whispertune.publish.place import BLOCK_BYTES, LIST, RECIPE, Upload, check, check_recipe, files_of
from whispertune.reporting import Reporter

REPOSITORY = "me/whisper-noise"
CARD = "---\nlanguage:\n- sv\n---\n\n# whisper-noise\n\nhttps://huggingface.co/me/whisper-noise, 1/2 and/or 3/4.\n"
LARGE = 4


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A publication in two forms, with four large files."""
    folder = tmp_path / "publish"
    for name in ("README.md", "plain/config.json", "ct2/config.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(CARD if name == "README.md" else '{"d_model": 16}')
    for number, name in enumerate(("plain/a.safetensors", "plain/b.safetensors", "ct2/model.bin", "ct2/more.bin")):
        (folder / name).write_bytes(random.Random(number).randbytes(200_000))
    return folder


def uploads_of(place: Path) -> tuple[Upload, ...]:
    return files_of([place / "README.md"], {"": place / "plain", "ct2": place / "ct2"})


def pushed(files: tuple[Upload, ...], *, public: bool = False) -> str:
    return push(files, REPOSITORY, public=public, reporter=Reporter()).url


def sent(hub: Hub) -> list[str]:
    return [one.path for one in hub.requests if one.method == "PUT"]


def test_all_of_it_private_in_one_commit(place: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    files = uploads_of(place)
    assert pushed(files) == f"{hub.url}/{REPOSITORY}"
    assert hub.repos["models", REPOSITORY].private
    assert hub.files(REPOSITORY, "models") == {each.name: each.path.read_bytes() for each in files}
    assert [each.name for each in files][:2] == ["README.md", "a.safetensors"]
    assert hub.repos["models", REPOSITORY].messages == ["initial commit", "Published with Whispertune"]
    assert pushed(files) == f"{hub.url}/{REPOSITORY}"
    assert len(sent(hub)) == LARGE


def test_a_broken_connection_leaves_nothing_half_and_is_gone_on_from(
    place: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.break_uploads(after=2)
    with pytest.raises(WhispertuneError, match=r"(?s)the hub failed.*run the same command again") as raised:
        pushed(uploads_of(place))
    assert raised.value.exit_code == 1
    assert hub.files(REPOSITORY, "models") == {}
    assert len(sent(hub)) == 2
    hub.mend_uploads()
    pushed(uploads_of(place))
    assert len(sent(hub)) == len(set(sent(hub))) == LARGE
    assert len(hub.files(REPOSITORY, "models")) == LARGE + 3


@pytest.mark.parametrize("kind", ["model", "space"])
def test_a_card_that_the_hub_rejects_is_told_before_anything_is_sent(
    kind: Kind, place: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    (place / "README.md").write_text(CARD.replace("---\n\n#", "license: cc-by4\n---\n\n#"))
    with pytest.raises(
        InputError, match=r'README.md: the hub rejects this card: "license" must be one of [^\n]+\n.*--licence'
    ):
        push(uploads_of(place), REPOSITORY, public=False, reporter=Reporter(), kind=kind)
    assert not sent(hub)
    assert hub.files(REPOSITORY, f"{kind}s") == {}


def test_what_an_earlier_publication_left_is_removed(place: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    old = {"ct2/old.bin": b"1", "ct2-int8/model.bin": b"2", "model.safetensors": b"3"}
    theirs = {"LICENSE": b"4", "pictures/curve.png": b"5", ".gitattributes": b"6"}
    theirs |= {LIST: json.dumps({"files": [*old]}).encode()}
    hub.add_repo(REPOSITORY, old | theirs, kind="models", private=True)
    pushed(uploads_of(place))
    names = set(hub.files(REPOSITORY, "models"))
    assert names == {each.name for each in uploads_of(place)} | set(theirs)


def test_public_only_when_asked_for(place: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.add_repo(REPOSITORY, {}, kind="models")
    with pytest.raises(InputError, match=r"is there already and is public[\s\S]*--public"):
        pushed(uploads_of(place))
    pushed(uploads_of(place), public=True)
    assert not hub.repos["models", REPOSITORY].private


@pytest.mark.parametrize("whose", ["nobody", "stranger"])
def test_no_right_to_write_is_one_clear_line(
    whose: str, place: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    if whose == "stranger":
        monkeypatch.setenv("HF_TOKEN", hub.stranger_token)
    with pytest.raises(InputError, match=r"(?s)the hub does not let us write there.*hf auth login"):
        pushed(uploads_of(place))
    assert not sent(hub)


PUSH = """
import sys
from pathlib import Path
from whispertune.publish.hub import push
from whispertune.publish.place import files_of
from whispertune.reporting import Reporter
print(push(files_of([Path(sys.argv[1])], {}), sys.argv[2], public=False, reporter=Reporter()).url)
"""


@pytest.mark.parametrize("written", ["token", "\n token \n"])
def test_the_token_that_logging_in_left(written: str, place: Path, hub: Hub, tmp_path: Path) -> None:
    """In HF_HOME/token, for a process whose environment names none."""
    home = tmp_path / "logged in"
    home.mkdir()
    (home / "token").write_text(written.replace("token", hub.token))
    surroundings = environment(hub, home)
    assert "HF_TOKEN" not in surroundings
    command = [sys.executable, "-c", PUSH, str(place / "README.md"), REPOSITORY]
    found = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == f"{hub.url}/{REPOSITORY}"
    assert {one.user for one in hub.requests if "commit" in one.path} == {"me"}
    assert set(hub.files(REPOSITORY, "models")) == {"README.md"}


def test_a_space(place: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    files = files_of([place / "README.md"], {})
    url = push(files, f"{REPOSITORY}-demo", public=False, reporter=Reporter(), kind="space").url
    assert url == f"{hub.url}/spaces/{REPOSITORY}-demo"
    assert hub.repos["spaces", f"{REPOSITORY}-demo"].private
    assert set(hub.files(f"{REPOSITORY}-demo", "spaces")) == {"README.md"}


def test_links_and_files_from_elsewhere_are_refused(place: Path, tmp_path: Path) -> None:
    check(uploads_of(place), inside=place, repository=REPOSITORY)
    outside = tmp_path / "secret.json"
    outside.write_text("{}")
    with pytest.raises(InputError, match="lies elsewhere"):
        check(files_of([outside], {}), inside=place, repository=REPOSITORY)
    for target in (outside, tmp_path):
        (place / "ct2" / "link").symlink_to(target)
        with pytest.raises(InputError, match=r"link: not a file of its own"):
            check(uploads_of(place), inside=place, repository=REPOSITORY)
        (place / "ct2" / "link").unlink()
    with pytest.raises(InputError, match=r"README.md: two files"):
        files_of([place / "README.md"], {"": place})


@pytest.mark.parametrize(
    ("name", "held"),
    [
        ("README.md", f"made in {Path.home()}/runs"),
        ("plain/config.json", f'{{"_name_or_path": "{Path(__file__).parent}"}}'),
        ("ct2/config.json", '{"made_by": "annika"}'),
        ("plain/notes.txt", "on host-of-annika."),
        ("plain/a.safetensors", f"stack trace: {Path(__file__).parents[2]}/whispertune/model.py"),
    ],
)
def test_what_tells_of_this_machine_is_found(
    name: str, held: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "annika")
    monkeypatch.setattr(socket, "gethostname", lambda: "host-of-annika")
    check(uploads_of(place), inside=place, repository=REPOSITORY)
    (place / name).write_text(held)
    with pytest.raises(InputError, match="which tells of this machine or its user"):
        check(uploads_of(place), inside=place, repository=REPOSITORY)


def test_what_is_public_anyway_is_not_taken_for_a_name(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner's name where it is the user's too, addresses, and the words of the base's vocabulary."""
    monkeypatch.setattr(getpass, "getuser", lambda: "annika")
    (place / "README.md").write_text(CARD + "`annika/whisper-sv`, see https://example.org/usr/lib and 10 km/h /usr x")
    (place / "plain" / "tokenizer.json").write_text('{"annika": 1, "/usr/lib": 2}')
    check(uploads_of(place), inside=place, repository="annika/whisper-sv")
    with pytest.raises(InputError, match="'annika'"):
        check(uploads_of(place), inside=place, repository=REPOSITORY)


HUB_RECIPE = """name = "annas"
model = "annika/whisper-sv"

[data]
train = [
    { source = "hub:annika/clips:train" },
]
"""


def test_what_the_recipe_names_on_the_hub_may_hold_the_users_name(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "annika")
    check_recipe(HUB_RECIPE, where=place / RECIPE, repository="acme/whisper-sv")
    with pytest.raises(InputError, match="'annika'"):
        check_recipe(HUB_RECIPE.replace("annas", "annika"), where=place / RECIPE, repository="acme/whisper-sv")
    (place / "plain" / RECIPE).write_text(HUB_RECIPE)
    link = "[hub:annika/clips:train](https://huggingface.co/datasets/annika/clips)"
    card = f"{CARD}annika/whisper-sv, hub-annika-clips-train-dev, {link}"
    (place / "README.md").write_text(card)
    check(uploads_of(place), inside=place, repository="acme/whisper-sv")
    for more in ("annika/other", "https://huggingface.co/annika", "annika"):
        (place / "README.md").write_text(f"{card} by {more}")
        with pytest.raises(InputError, match="'annika'"):
            check(uploads_of(place), inside=place, repository="acme/whisper-sv")


@pytest.mark.parametrize("before", [b"", bytes(BLOCK_BYTES - 8)])
def test_a_folder_at_the_root(before: bytes, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names within torch's files are model/data/0, datasets on the hub may be me/data."""
    monkeypatch.setattr(Path, "home", lambda: Path("/data"))
    (place / "README.md").write_text(f"{CARD}hub:you/data:train, https://huggingface.co/datasets/you/data")
    (place / "plain" / "model.pt").write_bytes(before + b"PK model/data/0")
    check(uploads_of(place), inside=place, repository=REPOSITORY)
    (place / "plain" / "model.pt").write_bytes(before + b"PKmod X\0/data/x")
    with pytest.raises(InputError, match=r"model.pt: it holds '/data/'"):
        check(uploads_of(place), inside=place, repository=REPOSITORY)
    (place / "plain" / "model.pt").unlink()
    (place / "README.md").write_text(f"{CARD}in /data or so")
    with pytest.raises(InputError, match=r"README.md: it holds '/data'"):
        check(uploads_of(place), inside=place, repository=REPOSITORY)


@pytest.mark.parametrize(
    ("held", "told"), [("captions:anna_interviews", True), ("anna2", True), ("hannah, annas", False)]
)
def test_a_name_that_is_part_of_another(held: str, told: bool, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "anna")
    if not told:
        check_recipe(held, where=place / RECIPE, repository="acme/whisper-sv")
        return
    with pytest.raises(InputError, match="it holds 'anna'"):
        check_recipe(held, where=place / RECIPE, repository="acme/whisper-sv")
