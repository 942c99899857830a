"""A model hub on loopback: enough of the Hugging Face Hub's API for its real clients to read from and push to.

    with Hub() as hub:
        hub.add_repo("google/fleurs", {"README.md": card, "sv_se/train-00000.parquet": shard})
        hub.drop(".parquet", after_bytes=1000)             # the next such body breaks off
        hub.break_uploads(after=1)                         # one large file more arrives, then none until mend_uploads
        ...                                                # HF_ENDPOINT=hub.url, HF_TOKEN=hub.token
        hub.sent_bytes(".parquet")                         # what was fetched of such files
        hub.files("me/pushed")                             # {"README.md": b"...", ...}

Content-addressed storage (Xet) is not spoken: clients need HF_HUB_DISABLE_XET=1 to push.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub_cards import validated
from tests.hub_store import Refused, Repo, etag_of, info_of, tree_of, upload_mode

_API = re.compile(r"/api/(models|datasets|spaces)/([^/]+)/([^/]+)(?:/(.*))?")
_RESOLVE = re.compile(r"/(?:(datasets|spaces)/)?([^/]+)/([^/]+)/resolve/([^/]+)/(.+)")
_BATCH = re.compile(r"/(?:(datasets|spaces)/)?([^/]+)/([^/]+)\.git/info/lfs/objects/batch")
_BLOCK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Request:
    """One request and what was sent for it. `range` is [first, last) of the bytes asked for."""

    method: str
    path: str
    status: int
    sent_bytes: int
    range: tuple[int, int] | None = None
    user: str | None = None


@dataclass(slots=True)
class _Drop:
    """Bodies of such paths break off behind so many bytes, so many times."""

    suffix: str
    after_bytes: int
    times: int


class Hub:
    """The server. `token` is that of the user "me"; `stranger_token` that of somebody else."""

    token = "hf_me"
    stranger_token = "hf_stranger"

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.large: dict[str, bytes] = {}  # by sha256
        self.users = {self.token: "me", self.stranger_token: "stranger"}
        self.requests: list[Request] = []
        self.lock = threading.RLock()
        self._drops: list[_Drop] = []
        self._uploads_left: int | None = None  # before they break off
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hub = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def add_repo(self, repo_id: str, files: Mapping[str, bytes], **kind: Any) -> Repo:
        """A repository with one commit; `private`, `gated`, `readers` and `kind` as in `Repo`."""
        repo = Repo(repo_id, **kind)
        repo.commit({}, "initial commit")
        repo.commit(files, "files")
        self.repos[repo.kind, repo_id] = repo
        return repo

    def files(self, repo_id: str, kind: str = "datasets") -> dict[str, bytes]:
        """What stands on the main branch."""
        repo = self.repos[kind, repo_id]
        return repo.commits[repo.branches["main"]]

    def drop(self, suffix: str, *, after_bytes: int, times: int = 1) -> None:
        """Break the connection behind so many bytes of the body of files that end so."""
        self._drops.append(_Drop(suffix, after_bytes, times))

    def break_uploads(self, *, after: int) -> None:
        """Let so many large files arrive; of the others half, then the connection is closed."""
        self._uploads_left = after

    def mend_uploads(self) -> None:
        self._uploads_left = None

    def upload_breaks(self) -> bool:
        with self.lock:
            if self._uploads_left is None:
                return False
            self._uploads_left -= 1
            return self._uploads_left < 0

    def due_drop(self, path: str) -> int | None:
        with self.lock:
            for drop in self._drops:
                if drop.times and path.endswith(drop.suffix):
                    drop.times -= 1
                    return drop.after_bytes
        return None

    def fetched(self, suffix: str = "") -> list[Request]:
        """The requests that fetched bytes of files that end so."""
        return [one for one in self.requests if one.method == "GET" and one.sent_bytes and one.path.endswith(suffix)]

    def sent_bytes(self, suffix: str = "") -> int:
        return sum(one.sent_bytes for one in self.fetched(suffix))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()  # waits for the threads of open connections


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    hub: Hub

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.open_sockets: set[socket.socket] = set()

    def get_request(self) -> tuple[socket.socket, Any]:
        opened, address = super().get_request()
        self.open_sockets.add(opened)
        return opened, address

    def shutdown_request(self, request: Any) -> None:
        self.open_sockets.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End connections that clients keep for later."""
        for opened in list(self.open_sockets):
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that hang up


class _Handler(BaseHTTPRequestHandler):
    """Routes and answers requests, one connection at a time."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are sent apart
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answered()

    def do_HEAD(self) -> None:
        self._answered()

    def do_POST(self) -> None:
        self._answered()

    def do_PUT(self) -> None:
        self._answered()

    @property
    def _hub(self) -> Hub:
        return self.server.hub

    def _answered(self) -> None:
        if self.command == "PUT" and self._hub.upload_breaks():
            self.rfile.read(int(self.headers.get("Content-Length") or 0) // 2)
            self.close_connection = True
            return
        body = self._body()
        try:
            with self._hub.lock:
                self._check_token()
                answer = self._route(urlsplit(self.path), body)
        except Refused as refused:
            headers = {"X-Error-Code": refused.code, "X-Error-Message": str(refused)}
            self._send(json.dumps({"error": str(refused)} | refused.more).encode(), refused.status, headers)
            return
        if isinstance(answer, tuple):
            self._send_file(*answer)
        else:
            self._send(json.dumps(answer).encode(), headers={"Content-Type": "application/json"})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _route(self, url: Any, body: bytes) -> Any:
        """What to answer: something for JSON, or a file as (content, ETag, commit)."""
        path: str = url.path
        fixed = {
            "/api/whoami-v2": self._whoami,
            "/api/validate-yaml": self._validate,
            "/api/repos/create": self._create,
        }
        if path in fixed:
            return fixed[path](body)
        if path.startswith("/lfs/"):
            return self._large(path.removeprefix("/lfs/"), body)
        if found := _BATCH.fullmatch(path):
            self._repo(found[1] or "models", f"{found[2]}/{found[3]}", writing=True)
            return self._batch(json.loads(body))
        if found := _RESOLVE.fullmatch(path):
            repo = self._repo(found[1] or "models", f"{found[2]}/{found[3]}", content=True)
            return self._file(repo, unquote(found[4]), unquote(found[5]))
        if found := _API.fullmatch(path):
            return self._api(found, parse_qs(url.query), body)
        raise Refused(404, "", f"no such page: {path}")

    def _api(self, found: re.Match[str], query: dict[str, list[str]], body: bytes) -> Any:
        what, *rest = [unquote(part) for part in (found[4] or "").split("/")]
        revision = rest[0] if rest else "main"
        repo = self._repo(found[1], f"{found[2]}/{found[3]}", writing=what in {"preupload", "commit"})
        if what == "preupload":
            return {"files": [upload_mode(one) for one in json.loads(body)["files"]]}
        if what == "commit":
            return self._commit(repo, revision, [json.loads(line) for line in body.splitlines()])
        sha, files = self._at(repo, revision)
        if what == "tree":
            return tree_of(files, "/".join(rest[1:]), query.get("recursive") == ["true"])
        if what == "paths-info":
            entries = {entry["path"]: entry for entry in tree_of(files, "", recursive=True)}
            paths = parse_qs(body.decode()).get("paths", [])
            return [entries[one] for one in paths if one in entries]
        if what in {"", "revision"}:
            return info_of(repo, sha, files)
        raise Refused(404, "", f"no such page: {found[0]}")

    @property
    def _user(self) -> str | None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        return self._hub.users.get(token)

    def _check_token(self) -> None:
        if self.headers.get("Authorization") and self._user is None:
            raise Refused(401, "", "Invalid credentials in Authorization header")

    def _whoami(self, body: bytes) -> Any:
        if self._user is None:
            raise Refused(401, "", "Invalid username or password.")
        return {"type": "user", "name": self._user, "fullname": self._user, "orgs": []}

    def _repo(self, kind: str, repo_id: str, *, content: bool = False, writing: bool = False) -> Repo:
        """The repository where this user may see it, as the real hub says no: 401 to the unknown, 404 to users."""
        repo, user = self._hub.repos.get((kind, repo_id)), self._user
        owner = repo_id.partition("/")[0]
        known = user is not None and (user == owner or (repo is not None and user in repo.readers))
        if repo is None or (repo.private and not known):
            raise Refused(404 if user else 401, "RepoNotFound", "Repository not found")
        if content and repo.gated and not known:
            raise Refused(403 if user else 401, "GatedRepo", f"Access to {repo_id} is restricted")
        if writing and user != owner:
            raise Refused(403 if user else 401, "", "You don't have the rights to do this")
        return repo

    def _at(self, repo: Repo, revision: str) -> tuple[str, dict[str, bytes]]:
        sha = repo.branches.get(revision, revision)
        if sha not in repo.commits:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha, repo.commits[sha]

    def _file(self, repo: Repo, revision: str, path: str) -> tuple[bytes, str, str]:
        sha, files = self._at(repo, revision)
        if path not in files:
            raise Refused(404, "EntryNotFound", "Entry not found")
        return files[path], etag_of(path, files[path]), sha

    def _validate(self, body: bytes) -> Any:
        card = json.loads(body)
        return validated(card["content"], card["repoType"])

    def _create(self, body: bytes) -> Any:
        wanted = json.loads(body)
        owner = wanted.get("organization") or self._user
        if self._user is None or owner != self._user:
            raise Refused(403 if self._user else 401, "", f"You don't have the rights to create under {owner}")
        kind, repo_id = wanted.get("type", "model") + "s", f"{owner}/{wanted['name']}"
        told = {"url": f"{self._hub.url}/{'' if kind == 'models' else kind + '/'}{repo_id}", "name": repo_id}
        if (kind, repo_id) in self._hub.repos:
            raise Refused(409, "", "You already created this repo", **told)
        repo = Repo(repo_id, kind, private=wanted.get("visibility") == "private")
        repo.commit({}, "initial commit")
        self._hub.repos[kind, repo_id] = repo
        return told

    def _batch(self, wanted: dict[str, Any]) -> Any:
        objects: list[dict[str, Any]] = []
        for one in wanted["objects"]:
            asked = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self._hub.large:
                asked["actions"] = {"upload": {"href": f"{self._hub.url}/lfs/{one['oid']}", "header": {}}}
            objects.append(asked)
        return {"transfer": "basic", "objects": objects}

    def _large(self, oid: str, body: bytes) -> Any:
        if self.command != "PUT" or hashlib.sha256(body).hexdigest() != oid:
            raise Refused(400, "", "the content is not what its name says")
        self._hub.large[oid] = body
        return {}

    def _commit(self, repo: Repo, branch: str, lines: list[dict[str, Any]]) -> Any:
        files = dict(self._at(repo, branch)[1])
        for line in lines[1:]:
            value, path = line["value"], line["value"]["path"]
            if line["key"] == "file":
                files[path] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self._hub.large:
                    raise Refused(400, "", f"{path} was not uploaded")
                files[path] = self._hub.large[value["oid"]]
            else:
                gone = [name for name in files if name == path or name.startswith(path.rstrip("/") + "/")]
                files = {name: content for name, content in files.items() if name not in gone}
        sha = repo.commit(files, lines[0]["value"]["summary"], branch)
        page = repo.id if repo.kind == "models" else f"{repo.kind}/{repo.id}"
        return {"success": True, "commitOid": sha, "commitUrl": f"{self._hub.url}/{page}/commit/{sha}"}

    def _send_file(self, content: bytes, etag: str, commit: str) -> None:
        headers = {
            "ETag": f'"{etag}"',
            "X-Repo-Commit": commit,
            "X-Linked-Size": str(len(content)),
            "Accept-Ranges": "bytes",
        }
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not asked:
            self._send(content, headers=headers)
            return
        first, end = int(asked[1]), min(int(asked[2] or len(content)) + 1, len(content))
        if first >= len(content):
            self._send(b"", 416, {"Content-Range": f"bytes */{len(content)}"})
            return
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(content)}"
        self._send(content[first:end], 206, headers, (first, end))

    def _send(
        self,
        body: bytes,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        asked: tuple[int, int] | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        path = unquote(urlsplit(self.path).path)
        dropped = self._hub.due_drop(path) if self.command == "GET" and status < 300 else None
        sent = 0 if self.command == "HEAD" else self._sent(body[:dropped])
        self._hub.requests.append(Request(self.command, path, status, sent, asked, self._user))
        if dropped is not None:
            self.close_connection = True

    def _sent(self, body: bytes) -> int:
        """Block by block, so that what a client does not wait for is not counted as sent."""
        sent = 0
        with suppress(OSError):
            for first in range(0, len(body), _BLOCK_BYTES):
                sent += self.wfile.write(body[first : first + _BLOCK_BYTES])
        return sent
