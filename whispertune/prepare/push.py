"""A finished dataset to the hub, a commit for every few shards, so that what is there already is not sent again.

files = push_dataset(Path("dataset"), "me/my-dataset", public=False, reporter=Reporter())
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from whispertune.data.sources.dataset import MARK
from whispertune.data.sources.hub_place import is_transient
from whispertune.errors import InputError, WhispertuneError
from whispertune.files import sha256
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
    with _told(repository):
        name = api.create_repo(repository, repo_type=KIND, private=not public, exist_ok=True).repo_id
        _check_visibility(api, name, public)
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


def _check_visibility(api: Any, name: str, public: bool) -> None:
    """A repository that was there before keeps who may see it: what is pushed must be meant for them."""
    if api.repo_info(name, repo_type=KIND).private is public:
        now, fix = ("private", "make it public on its page") if public else ("public", "give --public if that is meant")
        raise InputError(f"the repository is there already and is {now}", where=name, fix=f"{fix}, or another name")


def _hashes(api: Any, name: str) -> dict[str, str | None]:
    """The sha256 of each file that is there; None for small ones, which are no large-file objects."""
    tree: Sequence[Any] = list(api.list_repo_tree(name, repo_type=KIND, recursive=True))
    files = [entry for entry in tree if hasattr(entry, "size")]
    return {entry.path: entry.lfs.sha256 if entry.lfs else None for entry in files}


@contextmanager
def _told(repository: str) -> Iterator[None]:
    """The hub's errors as ours."""
    from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError

    try:
        yield
    except WhispertuneError:
        raise
    except (HFValidationError, LocalTokenNotFoundError) as error:
        raise InputError(_first_line(error), where=repository, fix=_FIX) from error
    except Exception as error:  # of the hub, of its HTTP library, of sockets: several trees
        response = getattr(error, "response", None)
        if response is not None and response.status_code in (401, 403, 404):
            raise InputError("the hub does not let us write there", where=repository, fix=_FIX) from error
        if response is None and not isinstance(error, OSError) and not is_transient(error):
            raise
        raise WhispertuneError(f"the hub failed: {_first_line(error)}", where=repository, fix=_AGAIN) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


_FIX = "log in with `hf auth login` or set HF_TOKEN to a token that may write; the name is user/dataset"
_AGAIN = "run the same command again: what was uploaded is not sent twice"
