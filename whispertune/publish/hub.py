"""A model, with all its forms and its card, or a Space, to the hub: private unless it is asked to be public.

claim("me/whisper-small-sv", public=False)           # before anything is made for it: no right to write is told here
check_card(text, where="README.md")                  # of a head that the hub does not take, too
push(files, "me/whisper-small-sv", public=False, reporter=Reporter()).removed

Large files go up one by one, each kept by the hub as soon as it is there whole; then one commit makes all of them
visible at once, the card with them. Where the connection breaks, the same call sends only what is missing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from whispertune.errors import InputError
from whispertune.hub_writing import open_repository, told
from whispertune.publish.offline import MEND
from whispertune.publish.place import LIST, Upload, listed
from whispertune.reporting import Reporter

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

CARD: Final = "README.md"
Kind = Literal["model", "space"]


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of a repository."""

    url: str
    removed: tuple[str, ...]  # files of an earlier publication


def claim(repository: str, *, public: bool, kind: Kind = "model") -> None:
    """See that it may be written to; one that is not there yet is made, empty.

    Raises:
        InputError: no token, no right to write, or the repository is public and `public` is not asked for.
        WhispertuneError: the hub does not answer.
    """
    from huggingface_hub import HfApi

    with told(repository):
        _open(HfApi(), repository, kind, public=public)


def check_card(text: str, *, where: str, kind: Kind = "model") -> None:
    """Ask the hub whether it takes what stands at the head of a card.

    Raises:
        InputError: it does not. WhispertuneError: the hub does not answer.
    """
    from huggingface_hub import RepoCard, constants

    with told(constants.ENDPOINT):  # where nothing is wrong with the card
        try:
            RepoCard(text).validate(kind)
        except ValueError as error:
            raise InputError(f"the hub rejects this card: {_reasons(error)}", where=where, fix=MEND) from error


def _reasons(error: ValueError) -> str:
    """What the hub says of a card, in JSON; as it stands where it is none."""
    try:
        return "; ".join(each["message"] for each in json.loads(str(error))["errors"])
    except (ValueError, KeyError, TypeError):
        return str(error).strip()


def push(files: Sequence[Upload], repository: str, *, public: bool, reporter: Reporter, kind: Kind = "model") -> Pushed:
    """Upload what is not there yet, and remove what an earlier publication says that it put there and this one has not.

    Raises:
        InputError: no token, no right to write, a card that the hub rejects, or the repository is public and `public`
            is not asked for.
        WhispertuneError: the hub does not answer; the same call goes on.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi()
    with told(repository):
        name = _open(api, repository, kind, public=public)
        for each in files:
            if each.name == CARD:
                check_card(each.path.read_text(encoding="utf-8"), where=str(each.path), kind=kind)
        additions = [CommitOperationAdd(each.name, str(each.path)) for each in files]
        _send_large(api, name, kind, additions, files, reporter)
        gone = sorted(_earlier(api, name, kind) - {each.name for each in files})
        operations: list[Any] = [*additions, *map(CommitOperationDelete, gone)]
        commit = api.create_commit(name, operations, commit_message="Published with Whispertune", repo_type=kind)
    return Pushed(str(commit.commit_url).partition("/commit/")[0], tuple(gone))


def _open(api: HfApi, repository: str, kind: Kind, *, public: bool) -> str:
    more = {"space_sdk": "gradio"} if kind == "space" else {}
    return open_repository(api, repository, kind, public=public, **more)


def _earlier(api: HfApi, name: str, kind: Kind) -> frozenset[str]:
    """What an earlier publication put there, as far as it still is; nothing where it left no list."""
    there = frozenset(api.list_repo_files(name, repo_type=kind))
    if LIST not in there:
        return frozenset()
    path = Path(api.hf_hub_download(name, LIST, repo_type=kind))
    return there & listed(path.read_text(encoding="utf-8", errors="replace"))


def _send_large(
    api: HfApi,
    name: str,
    kind: Kind,
    additions: Sequence[CommitOperationAdd],
    files: Sequence[Upload],
    reporter: Reporter,
) -> None:
    """File by file; small ones go with the commit, and what the hub has already is not sent."""
    total = sum(each.size_bytes for each in files)
    done = 0
    for addition, each in zip(additions, files, strict=True):
        reporter.working(f"pushing to {name}, MB", round(done / 1e6), max(1, round(total / 1e6)))
        api.preupload_lfs_files(name, [addition], repo_type=kind, free_memory=False)
        done += each.size_bytes
    reporter.working(f"pushing to {name}, MB", max(1, round(total / 1e6)), max(1, round(total / 1e6)))
