"""What a location on the hub means, looked up: repository, configuration, splits; each failure one clear error.

    place = find_place(SourceSpec("google/fleurs:sv_se:train+validation"))
    place.config, place.splits                             # "sv_se", ("train", "validation")
    with told(place.where): place.builder.download_and_prepare()

A private or gated repository is read with the token of `hf auth login` or HF_TOKEN.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from whispertune.data.segments import SourceSpec
from whispertune.data.sources.hub_rows import Origin
from whispertune.errors import DataError

_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_SPLIT = re.compile(r"\w+([.-]\w+)*")
_FORM = "write it as hub:repo[:config][:split[+split]][@revision], e.g. hub:google/fleurs:sv_se:train"
_FIX_NETWORK = "see whether the network, HF_ENDPOINT and HF_HUB_OFFLINE are right, and try again"
_NAMES_TOLD = 12
_TRANSIENT = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Place:
    """A configuration of a dataset and splits of it. `builder` is that of the `datasets` library."""

    repo: str
    config: str
    splits: tuple[str, ...]
    revision: str | None
    builder: Any
    where: str

    @property
    def path(self) -> str:
        return _path(self.repo)

    @property
    def files(self) -> dict[str, list[str]]:
        """The addresses of the files of each split; empty where only the local cache is there."""
        return {str(split): list(files) for split, files in (self.builder.config.data_files or {}).items()}

    def origin(self, split: str) -> Origin:
        return Origin(self.repo, self.config, split)

    def put_there(self, path: str) -> bool:
        """Whether the library put this path into a row, as it does for a folder of audio, and it is of this repository.

        What is in a row otherwise was written by a stranger, and may name any file of this machine.
        """
        from huggingface_hub import constants

        if self.builder.info.builder_name != "audiofolder" or "\0" in path or ".." in re.split(r"[/\\]", path):
            return False
        *archive, address = path.split("::")
        if address.startswith(f"{self.path}@"):
            return not archive or (len(archive) == 1 and archive[0].startswith("zip://"))
        cache = Path(constants.HF_HUB_CACHE) / f"datasets--{self.repo.replace('/', '--')}"
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(cache))


@dataclass(frozen=True, slots=True)
class _Location:
    repo: str
    names: tuple[str, ...]  # what stands behind the repository: nothing, a configuration or splits, or both
    revision: str | None


def find_place(spec: SourceSpec) -> Place:
    """What the location means; a DataError where it means nothing."""
    where = f"{spec.origin}: hub:{spec.location}" if spec.origin else f"hub:{spec.location}"
    location = _parsed(spec.location, where)
    with told(where):
        config, splits = _config_and_splits(location, where)
        builder = _builder(location, config, where)
    place = Place(location.repo, builder.config.name, splits, location.revision, builder, where)
    known = list(place.files) or [str(split) for split in builder.info.splits or ()]
    for split in splits:
        if split not in known:
            raise DataError(f"there is no split {split!r}", where=where, fix=f"the splits are: {', '.join(known)}")
    return place


@contextmanager
def told(where: str, *, bars: bool = False) -> Iterator[None]:
    """What goes wrong with the hub, said in one line; of the libraries' own notes at most the progress bars."""
    from datasets.exceptions import DatasetsError
    from pyarrow import ArrowException

    try:
        with _quietly(bars):
            yield
    except (DatasetsError, OSError, RuntimeError, ValueError, ArrowException) as error:
        raise _told(error, where) from error
    except Exception as error:
        if not is_transient(error):
            raise
        raise _told(error, where) from error


def is_transient(error: BaseException | None) -> bool:
    """Whether this is the network or the hub's load, and another try may do."""
    response = getattr(error, "response", None)
    if response is not None:
        return response.status_code in _TRANSIENT
    of_network = isinstance(error, (ConnectionError, TimeoutError))
    return of_network or type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "aiohttp")


def _path(repo: str) -> str:
    return f"hf://datasets/{repo}"  # a folder here of the same name is not meant


def _parsed(location: str, where: str) -> _Location:
    if "[" in location:
        raise DataError("slices of splits are not read", where=where, fix="use limit_rows or limit_hours instead")
    body, _, revision = location.partition("@")
    repo, *names = body.split(":")
    if not _REPO.fullmatch(repo) or len(names) > 2 or not all(names):
        raise DataError("this names no dataset on the hub", where=where, fix=_FORM)
    return _Location(repo, tuple(names), revision or None)


def _config_and_splits(location: _Location, where: str) -> tuple[str | None, tuple[str, ...]]:
    if not location.names:
        return None, ("train",)
    if len(location.names) == 2:
        return location.names[0], _splits(location.names[1], where)
    name = location.names[0]
    configs = _configs(location)
    if name in configs:
        return name, ("train",)
    if len(configs) == 1 or "default" in configs:
        return None, _splits(name, where)
    raise _no_config(name, configs, where)


def _splits(written: str, where: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in written.split("+"))
    if not all(_SPLIT.fullmatch(name) for name in names):
        raise DataError(f"{written!r} names no splits", where=where, fix=_FORM)
    return tuple(dict.fromkeys(names))


def _configs(location: _Location) -> list[str]:
    from datasets import get_dataset_config_names

    return list(get_dataset_config_names(_path(location.repo), revision=location.revision))


def _builder(location: _Location, config: str | None, where: str) -> Any:
    from datasets import load_dataset_builder

    try:
        return load_dataset_builder(_path(location.repo), name=config, revision=location.revision)
    except ValueError as error:
        configs = _configs(location)
        if config is None and len(configs) > 1:
            fix = f"name one, hub:{location.repo}:{configs[0]}; there are: {_some(configs)}"
            raise DataError("it has several configurations", where=where, fix=fix) from error
        if config is not None and config not in configs:
            raise _no_config(config, configs, where) from error
        raise


def _no_config(name: str, configs: Sequence[str], where: str) -> DataError:
    near = get_close_matches(name, configs, n=3)
    told_first = [*near, *(config for config in configs if config not in near)]
    return DataError(f"there is no configuration {name!r}", where=where, fix=f"there are: {_some(told_first)}")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES_TOLD} more" if len(names) > _NAMES_TOLD else ""
    return ", ".join(names[:_NAMES_TOLD]) + more


def _told(error: BaseException, where: str) -> DataError:
    """The error in our words, where it is a known one; else its own first line."""
    if isinstance(error, DataError):
        return error
    said = str(error)
    for known, what, fix in _KNOWN:
        if re.search(known, said):
            return DataError(what, where=where, fix=fix(said) if callable(fix) else fix)
    if any(is_transient(one) for one in _chain(error)):
        return DataError("the hub cannot be reached", where=where, fix=_FIX_NETWORK)
    root = list(_chain(error))[-1]  # the library wraps it in one that says nothing
    first = next((line for line in str(root).splitlines() if line.strip()), type(root).__name__)
    fix = "see on the dataset's page whether its files are whole"
    return DataError(f"it cannot be read: {first}", where=where, fix=fix)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _private_fix(said: str) -> str:
    from huggingface_hub import get_token

    if get_token():
        return "see whether its name is right and your token may read it"
    return "see whether its name is right; for a private one log in with `hf auth login`, or set HF_TOKEN"


def _gated_fix(said: str) -> str:
    from huggingface_hub import constants, get_token

    page = re.search(r"[Dd]ataset '(.+?)'", said)
    ask = f"ask for access at {constants.ENDPOINT}/datasets/{page[1]}" if page else "ask for access on its page"
    return ask if get_token() else f"{ask}, then log in with `hf auth login` or set HF_TOKEN"


# What the libraries say, in our words.
_KNOWN: Final[tuple[tuple[str, str, str | Callable[[str], str]], ...]] = (
    ("gated dataset", "this dataset is gated, and you may not read it", _gated_fix),
    (
        "Invalid credentials|Invalid user token",
        "the hub does not know your token",
        "log in again with `hf auth login`, or unset HF_TOKEN",
    ),
    ("Revision .*doesn't exist", "there is no such revision", "its branches and tags are on the dataset's page"),
    ("doesn't exist on the Hub", "there is no such dataset, or it is private", _private_fix),
    (
        "scripts are no longer supported",
        "it is read by a Python script of its own, which is never run",
        "use a copy of the dataset that holds Parquet files, or ask its authors for one",
    ),
    (
        "any data files|data files found",
        "it holds no data files that can be read",
        "see on the dataset's page whether it holds Parquet files or audio",
    ),
    ("Couldn't find cache", "the hub cannot be reached, and the cache does not hold all of this", _FIX_NETWORK),
)


@contextmanager
def _quietly(bars: bool) -> Iterator[None]:
    """No notes, for what matters is raised; progress bars only where they are wanted."""
    import datasets
    from huggingface_hub.utils import logging

    before = datasets.logging.get_verbosity(), logging.get_verbosity()
    left = bars or datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    logging.set_verbosity_error()
    if not left:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(before[0])
        logging.set_verbosity(before[1])
        if not left:
            datasets.enable_progress_bars()
