"""The names of the user and the machine, however they are written, and those that are words of every publication."""

from __future__ import annotations

import getpass
import socket
from pathlib import Path

import pytest

from whispertune.errors import InputError
from whispertune.publish.place import check, check_recipe, files_of

PLAIN = "`dev` and data/dev, [dev](https://huggingface.co/x/dev): on the dev set, dev.\n"


def look_through(place: Path, text: str, hardware: str | None = None) -> None:
    (place / "README.md").write_text(text)
    files = files_of([place / "README.md"], {})
    check(files, inside=place, repository="me/whisper-noise", hardware=hardware)


def look_at_recipe(text: str, repository: str = "acme/whisper-sv") -> None:
    check_recipe(text, where=Path("resolved.toml"), repository=repository)


@pytest.mark.parametrize("held", ["/home/dev/runs", r"C:\Users\dev\runs", "~dev/runs", "dev@laptop", "me@dev"])
def test_are_told_by_their_home_and_their_address(held: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "dev")
    monkeypatch.setattr(socket, "gethostname", lambda: "Whisper")
    look_through(tmp_path, PLAIN)
    with pytest.raises(InputError, match="tells of this machine or its user"):
        look_through(tmp_path, f"{PLAIN}made in {held}\n")


def test_other_names_are_told_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "dev-annika")
    look_through(tmp_path, PLAIN)
    with pytest.raises(InputError, match="'dev-annika'"):
        look_through(tmp_path, f"{PLAIN}by dev-annika\n")


@pytest.mark.parametrize(
    ("held", "told"),
    [
        ("swedish-on-Annikas-MacBook-Pro", "Annikas-MacBook-Pro"),
        ("annikas-macbook-pro", "annikas-macbook-pro"),
        ("on Annikas-MacBook-Pro.local", "Annikas-MacBook-Pro.local"),
        ("Annika-run", "Annika"),
        ("ANNIKA_2", "ANNIKA"),
        ("annikas", None),
        ("MacBook-Pro", None),
    ],
)
def test_names_are_told_without_domain_and_in_any_case(
    held: str, told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Annikas-MacBook-Pro.local")
    monkeypatch.setattr(getpass, "getuser", lambda: "annika")
    if told is None:
        look_at_recipe(f'name = "{held}"')
        return
    with pytest.raises(InputError, match=f"it holds '{told}'"):
        look_at_recipe(f'name = "{held}"')


def test_what_is_on_the_hub_may_be_written_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "annika")
    look_at_recipe('name = "for Annika-L"', repository="annika-l/whisper-sv")
    look_at_recipe('model = "Annika/whisper-sv"\nname = "annika/whisper-sv, further"')
    with pytest.raises(InputError, match="'Annika'"):
        look_at_recipe('model = "Annika/whisper-sv"\nname = "by Annika"')


@pytest.mark.parametrize(("held", "told"), [("on Jin", True), ("jin_2", True), ("a JIN layer", False)])
def test_a_short_name_in_capitals_is_an_acronym(held: str, told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "jin")
    if not told:
        look_at_recipe(held)
        return
    with pytest.raises(InputError, match="which tells of this machine"):
        look_at_recipe(held)


def test_the_number_that_an_address_begins_with_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "192.168.0.7")
    look_through(tmp_path, f"{PLAIN}192 rows\n")
    with pytest.raises(InputError, match=r"'192\.168\.0\.7'"):
        look_through(tmp_path, f"{PLAIN}on 192.168.0.7\n")


def test_the_hardware_may_be_called_like_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the head of a card long lines are broken."""
    monkeypatch.setattr(getpass, "getuser", lambda: "ada")
    hardware = "AMD EPYC 7763, 16 cores, 128 GB; 2 x NVIDIA RTX 6000 Ada Generation"
    card = (
        f"{PLAIN}- Hardware: {hardware}; processes: 2\nhardware_used: {hardware.replace(' Ada', chr(10) + '  Ada')}\n"
    )
    look_through(tmp_path, card, hardware)
    for written, allowed in ((card, None), (f"{card}by Ada", hardware)):
        with pytest.raises(InputError, match="'Ada'"):
            look_through(tmp_path, written, allowed)
