"""A finished dataset to the hub, a commit for every few shards, so that what is there already is not sent again.

files = push_dataset(Path("dataset"), "me/my-dataset", public=False, reporter=Reporter())
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from whispertune.data.sources.dataset import MARK
from whispertune.files import sha256
from whispertune.hub_writing import open_repository, told
from whispertune.reporting import Reporter

SHARDS_A_COMMIT = 20  # some 5 GB
BESIDE = ("README.md", "dropped.jsonl", MARK)  # in the last commit: with them the dataset is whole
KIND = "dataset"


def push_dataset(out: Path, repository: str, *, public: bool, reporter: Reporter) -> tuple[str, ...]:
    """Upload what is not there yet; the files that make the dataset, as they are called there.

    Raises:
        InputError: no token, no right to write, or the repository is public and `public` is not asked for.
        WhispertuneError: the hub does not answer; the same call goes on.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi()
    with told(repository):
        name = open_repository(api, repository, KIND, public=public)
        there = _hashes(api, name)
        shards = sorted((out / "data").glob("*.parquet"))
        names = [f"data/{path.name}" for path in shards]
        missing = [
            (at, path) for at, path in zip(names, shards, strict=True) if at not in there or there[at] != sha256(path)
        ]
        for first in range(0, len(missing), SHARDS_A_COMMIT):
            group = missing[first : first + SHARDS_A_COMMIT]
            reporter.working(f"pushing to {name}", first, len(missing))
            operations = [CommitOperationAdd(at, str(path)) for at, path in group]
            api.create_commit(name, operations, commit_message=f"{len(group)} shards of {len(shards)}", repo_type=KIND)
        if missing:
            reporter.working(f"pushing to {name}", len(missing), len(missing))
        last: list[Any] = [CommitOperationAdd(each, str(out / each)) for each in BESIDE]
        last += [CommitOperationDelete(at) for at in there if at.endswith(".parquet") and at not in names]
        api.create_commit(name, last, commit_message="Prepared with Whispertune", repo_type=KIND)
    return (*names, *BESIDE)


def _hashes(api: Any, name: str) -> dict[str, str | None]:
    """The sha256 of each file that is there; None for small ones, which are no large-file objects."""
    tree: Sequence[Any] = list(api.list_repo_tree(name, repo_type=KIND, recursive=True))
    files = [entry for entry in tree if hasattr(entry, "size")]
    return {entry.path: entry.lfs.sha256 if entry.lfs else None for entry in files}
