"""The real hub clients of this process, or of one that it starts, turned to the hub on loopback.

    with Hub() as hub, connected(hub, tmp_path / "home", monkeypatch):
        load_dataset("google/fleurs", "sv_se")                  # of `hub`, into tmp_path / "home"
    subprocess.run(command, env=environment(hub, tmp_path / "home"))

The clients read HF_ENDPOINT and HF_HOME when they are imported, so in a process that has them the constants are set.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.hub_server import Hub
from whispertune.data.audio import AudioReader
from whispertune.data.segments import Problem, Segment, SourceData, SourceSpec
from whispertune.data.sources.hub import stream_hub

_NOT_PASSED_ON = (
    "HF_HUB_OFFLINE",
    "HF_DATASETS_OFFLINE",
    "HF_TOKEN",
    "HF_HUB_CACHE",
    "HF_DATASETS_CACHE",
    "http_proxy",
)


@contextmanager
def connected(hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process speaks with `hub`, not logged in (set HF_TOKEN), and its clients retry without waiting."""
    import datasets.config
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.utils import _http, close_session

    for name in _NOT_PASSED_ON:
        monkeypatch.delenv(name, raising=False)
    for name, value in _constants(hub.url, home).items():
        monkeypatch.setattr(constants, name, value)
    for name, value in _config(hub.url, home).items():
        monkeypatch.setattr(datasets.config, name, value)
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", hub.url)  # of its plain functions
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=lambda seconds: None))
    huggingface_hub.HfFileSystem.clear_instance_cache()
    close_session()
    with warnings.catch_warnings():  # the client's own upload of large files uses what its HTTP library deprecates
        warnings.filterwarnings("ignore", "Use 'content=", DeprecationWarning)
        yield
    huggingface_hub.HfFileSystem.clear_instance_cache()
    close_session()


def environment(hub: Hub, home: Path, token: str | None = None) -> dict[str, str]:
    """The environment of a command that speaks with `hub`."""
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    return kept | own | ({"HF_TOKEN": token} if token else {})


def _constants(url: str, home: Path) -> dict[str, object]:
    return {
        "ENDPOINT": url,
        "HUGGINGFACE_CO_URL_TEMPLATE": url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HUGGINGFACE_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
    }


def _config(url: str, home: Path) -> dict[str, object]:
    datasets_home = home / "datasets"
    return {
        "HF_ENDPOINT": url,
        "HUB_DATASETS_URL": url + "/datasets/{repo_id}/resolve/{revision}/{path}",
        "HF_CACHE_HOME": str(home),
        "HF_DATASETS_CACHE": datasets_home,
        "DOWNLOADED_DATASETS_PATH": datasets_home / "downloads",
        "EXTRACTED_DATASETS_PATH": datasets_home / "downloads" / "extracted",
        "HF_MODULES_CACHE": home / "modules",
        "HF_HUB_OFFLINE": False,
        "HF_DATASETS_OFFLINE": False,
        "USE_PARQUET_EXPORT": False,  # of a viewer that lives on a host of its own
        "STREAMING_READ_RETRY_INTERVAL": 0,
        "STREAMING_OPEN_RETRY_INTERVAL": 0,
    }


def streamed(spec: SourceSpec, reader: AudioReader) -> SourceData:
    """All that a stream gives, as `read_hub` gives it."""
    stream = stream_hub(spec, reader)
    items = [item for shard in range(len(stream.shard_rows)) for item in stream.open(shard)]
    return SourceData(
        tuple(item for item in items if isinstance(item, Segment)),
        tuple(item for item in items if isinstance(item, Problem)),
    )
