"""A finished dataset to the hub, a commit for every few shards, so that what is there already is not sent again.

pushed = push_dataset(Path("dataset"), "me/my-dataset", public=False, reporter=Reporter())
pushed.files, pushed.removed

A repository that holds anything else than a dataset of `prepare`, or the beginning of this one, is left alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from whispertune.data.sources.dataset import MARK, SHARD
from whispertune.errors import InputError
from whispertune.files import sha256
from whispertune.hub_writing import open_repository, told
from whispertune.reporting import Reporter

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SHARDS_A_COMMIT = 20  # some 5 GB
BESIDE = ("README.md", "dropped.jsonl", MARK)  # in the last commit: with them the dataset is whole
OF_THE_HUB = ".gitattributes"  # in every repository from its start
KIND = "dataset"
NAMED = 3  # files, in an error

Hashes = Mapping[str, str | None]  # the sha256 of each file; None for small ones, which are no large-file objects


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of a repository."""

    files: tuple[str, ...]  # that make the dataset, as they are called there
    removed: tuple[str, ...]  # shards of an earlier dataset


def push_dataset(out: Path, repository: str, *, public: bool, reporter: Reporter) -> Pushed:
    """Upload what is not there yet, and remove the shards of an earlier dataset.

    Raises:
        InputError: no token, no right to write, other files in the repository, or it is public and `public` is not
            asked for.
        WhispertuneError: the hub does not answer; the same call goes on.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi()
    shards = {f"data/{path.name}": path for path in sorted((out / "data").glob("*.parquet"))}
    with told(repository):
        name = open_repository(api, repository, KIND, public=public)
        there = _hashes(api, name)
        missing = {at: path for at, path in shards.items() if at not in there or there[at] != sha256(path)}
        earlier = _is_ours(api, name, there)
        if not earlier:
            _check_empty(name, there.keys() - (shards.keys() - missing.keys()))
        _send(api, name, missing, len(shards), reporter)
        gone = sorted(_shards(there) - shards.keys()) if earlier else []
        last: list[Any] = [CommitOperationAdd(each, str(out / each)) for each in BESIDE]
        last += map(CommitOperationDelete, gone)
        api.create_commit(name, last, commit_message="Prepared with Whispertune", repo_type=KIND)
    return Pushed((*shards, *BESIDE), tuple(gone))


def _hashes(api: HfApi, name: str) -> Hashes:
    tree: Sequence[Any] = list(api.list_repo_tree(name, repo_type=KIND, recursive=True))
    files = [entry for entry in tree if hasattr(entry, "size")]
    return {entry.path: entry.lfs.sha256 if entry.lfs else None for entry in files}


def _is_ours(api: HfApi, name: str, there: Hashes) -> bool:
    """Whether a dataset of `prepare` is there, by its mark."""
    if MARK not in there:
        return False
    path = Path(api.hf_hub_download(name, MARK, repo_type=KIND))
    try:
        mark = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return False
    return isinstance(mark, dict) and {"digest", "splits", "shards"} <= mark.keys()


def _check_empty(name: str, there: set[str]) -> None:
    """Raise where there are files that no push of this dataset put there."""
    foreign = sorted(there - {OF_THE_HUB})
    if not foreign:
        return
    more = f" and {len(foreign) - NAMED:,} more" if len(foreign) > NAMED else ""
    raise InputError(
        f"the repository holds other files ({', '.join(foreign[:NAMED])}{more}) and no {MARK}",
        where=name,
        fix="push to a repository of its own, or remove them there if nobody needs them",
    )


def _shards(there: Hashes) -> set[str]:
    """What the card takes for shards of the dataset."""
    paths = map(PurePosixPath, there)
    return {str(path) for path in paths if str(path.parent) == "data" and SHARD.fullmatch(path.name)}


def _send(api: HfApi, name: str, missing: Mapping[str, Path], total: int, reporter: Reporter) -> None:
    from huggingface_hub import CommitOperationAdd

    left = list(missing.items())
    for first in range(0, len(left), SHARDS_A_COMMIT):
        group = left[first : first + SHARDS_A_COMMIT]
        reporter.working(f"pushing to {name}", first, len(left))
        operations = [CommitOperationAdd(at, str(path)) for at, path in group]
        api.create_commit(name, operations, commit_message=f"{len(group)} shards of {total}", repo_type=KIND)
    if left:
        reporter.working(f"pushing to {name}", len(left), len(left))
