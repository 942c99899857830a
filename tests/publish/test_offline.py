"""What the hub would reject, and what it would not, told without it."""

from __future__ import annotations

import pytest

from tests.hub_cards import LICENCES as KNOWN_TO_OUR_HUB
from whispertune.errors import InputError
from whispertune.publish.offline import LICENCES, check_head, check_repository


def head(written: str) -> str:
    return f"---\n{written}\n---"


def test_the_licences_that_the_hub_lists() -> None:
    assert set(KNOWN_TO_OUR_HUB) <= set(LICENCES)
    assert len(LICENCES) == len(set(LICENCES))


@pytest.mark.parametrize(
    "written",
    [
        "license: cc-by-4.0",
        "language:\n- sv\n- yue",
        "base_model: openai/whisper-small",
        "base_model:\n- me/a\n- me/b\ndatasets:\n- common_voice\n- me/clips",
        "tags:\n- whisper",
    ],
)
def test_right_heads(written: str) -> None:
    check_head(head(written), where="resolved.toml")


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("license: creative-commons", "no licence 'creative-commons'"),
        ("license:\n- mit\n- apache-2", r"no licence 'apache-2' \(near: apache-2.0"),
        ("language:\n- mboshi", "language 'mboshi' is no code"),
        ("base_model: me/x--y", "me/x--y is no name of a repository"),
        ("datasets:\n- me/clips.git", "me/clips.git is no name of a repository"),
        ("license: mitt\nlanguage: xxxx", "'mitt' .*; the language 'xxxx'"),
    ],
)
def test_wrong_heads(written: str, told: str) -> None:
    with pytest.raises(InputError, match=f"the hub would reject this card: .*{told}") as raised:
        check_head(head(written), where="resolved.toml")
    assert raised.value.where == "resolved.toml"


@pytest.mark.parametrize("name", ["whisper", "a/b/c", "me/", "/x", "me/x--y", "me/x.git", "me/.x", "me/å"])
def test_names_of_no_repository(name: str) -> None:
    with pytest.raises(InputError, match=r"no name of a repository: .+") as raised:
        check_repository(name)
    assert "user/name" in str(raised.value.fix)


def test_names_of_repositories() -> None:
    for name in ("me/whisper-small-sv", "Me-1/a_b.c"):
        check_repository(name)
