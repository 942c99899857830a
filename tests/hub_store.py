"""Repositories as the hub on loopback keeps them, and the JSON in which a hub tells of them.

repo = Repo("google/fleurs")
sha = repo.commit({"README.md": card}, "first")
tree_of(repo.commits[sha], "", recursive=True)         # [{"type": "file", "path": "README.md", ...}]
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

LARGE_SUFFIXES = (".parquet", ".arrow", ".wav", ".flac", ".mp3", ".zip", ".tar", ".bin", ".safetensors", ".onnx", ".pt")
_DATE = "2026-01-01T00:00:00.000Z"


@dataclass(slots=True)
class Repo:
    """A repository: the files of each commit, and which commit each branch is at."""

    id: str
    kind: str = "datasets"
    private: bool = False
    gated: bool = False
    readers: set[str] = field(default_factory=set)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, files: Mapping[str, bytes], message: str = "", branch: str = "main") -> str:
        number = f"{self.kind}/{self.id}/{len(self.commits)}"
        sha = hashlib.sha1(number.encode()).hexdigest()
        self.commits[sha] = dict(files)
        self.branches[branch] = sha
        self.messages.append(message)
        return sha


class Refused(Exception):
    """A request that is answered with an error; `more` goes into the JSON of the answer."""

    def __init__(self, status: int, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.more = status, code, more


def _is_large(path: str) -> bool:
    return path.endswith(LARGE_SUFFIXES)


@lru_cache(maxsize=100)
def etag_of(path: str, content: bytes) -> str:
    if _is_large(path):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # as git names it


def upload_mode(one: dict[str, Any]) -> dict[str, Any]:
    mode = "lfs" if _is_large(one["path"]) else "regular"
    return {"path": one["path"], "uploadMode": mode, "shouldIgnore": False, "oid": None}


def tree_of(files: Mapping[str, bytes], below: str, recursive: bool) -> list[dict[str, Any]]:
    """The files and folders in a folder, as the hub lists them."""
    prefix = f"{below}/" if below else ""
    inside = {path: content for path, content in files.items() if path.startswith(prefix)}
    if below and not inside:
        raise Refused(404, "EntryNotFound", f"{below} does not exist on this revision")
    folders = {path[:end] for path in inside for end in range(len(prefix), len(path)) if path[end] == "/"}
    entries = [_folder_entry(path) for path in sorted(folders)]
    entries += [_file_entry(path, content) for path, content in inside.items()]
    return [entry for entry in entries if recursive or "/" not in entry["path"][len(prefix) :]]


def _last_commit() -> dict[str, Any]:
    return {"id": "0" * 40, "title": "files", "date": _DATE}


def _folder_entry(path: str) -> dict[str, Any]:
    oid = hashlib.sha1(path.encode()).hexdigest()
    return {"type": "directory", "path": path, "size": 0, "oid": oid, "lastCommit": _last_commit()}


def _file_entry(path: str, content: bytes) -> dict[str, Any]:
    oid = etag_of(path, content)
    entry = {"type": "file", "path": path, "size": len(content), "oid": oid[:40], "lastCommit": _last_commit()}
    return entry | ({"lfs": {"oid": oid, "size": len(content), "pointerSize": 130}} if _is_large(path) else {})


def info_of(repo: Repo, sha: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        "id": repo.id,
        "author": repo.id.partition("/")[0],
        "sha": sha,
        "private": repo.private,
        "gated": "manual" if repo.gated else False,
        "disabled": False,
        "lastModified": _DATE,
        "createdAt": _DATE,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": [{"rfilename": path} for path in files],
    }
