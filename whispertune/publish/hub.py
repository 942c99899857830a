"""A model, with all its forms and its card, or a Space, to the hub: private unless it is asked to be public.

push(files, "me/whisper-small-sv", public=False, reporter=Reporter())

Large files go up one by one, each kept by the hub as soon as it is there whole; then one commit makes all of them
visible at once, the card with them. Where the connection breaks, the same call sends only what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from whispertune.hub_writing import open_repository, told
from whispertune.model.export import EXPORTERS
from whispertune.publish.place import Upload
from whispertune.reporting import Reporter

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

WEIGHTS: Final = (".safetensors", ".safetensors.index.json", ".bin", ".pt", ".onnx", ".onnx_data", ".onnx.data")

Kind = Literal["model", "space"]


def push(files: Sequence[Upload], repository: str, *, public: bool, reporter: Reporter, kind: Kind = "model") -> str:
    """Upload what is not there yet; the address of the repository.

    What an earlier publication left there of other formats or weights is removed; files of others stay.

    Raises:
        InputError: no token, no right to write, or the repository is public and `public` is not asked for.
        WhispertuneError: the hub does not answer; the same call goes on.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi()
    more = {"space_sdk": "gradio"} if kind == "space" else {}
    with told(repository):
        name = open_repository(api, repository, kind, public=public, **more)
        additions = [CommitOperationAdd(each.name, str(each.path)) for each in files]
        _send_large(api, name, kind, additions, files, reporter)
        operations: list[Any] = list(additions)
        if kind == "model":
            names = {each.name for each in files}
            there = api.list_repo_files(name)
            operations += [CommitOperationDelete(at) for at in there if at not in names and _is_ours(at)]
        commit = api.create_commit(name, operations, commit_message="Published with Whispertune", repo_type=kind)
    return str(commit.commit_url).partition("/commit/")[0]


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


def _is_ours(name: str) -> bool:
    """Whether a publication wrote it: all in the folder of a format, and weights beside the card."""
    folder, separator, _ = name.partition("/")
    if separator:
        return folder.partition("-")[0] in EXPORTERS
    return name.endswith(WEIGHTS)
