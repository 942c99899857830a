"""Where a model comes from: what it was tuned from or merged of, and the licence of that, as far as it is known.

origin_of("my-run")                      # Origin("openai/whisper-small", "openai/whisper-small", "apache-2.0")
origin_of("deployed")                    # of an export what its source was tuned from: its mark says so
Origin.of("deployed")                    # the same model as the base of another: "deployed", which began as ...
carry(source, out, origin)               # written beside an export

Every export says it in `whispertune.json`, which goes along when it is read and exported again; merged and softened
folders name there what they were made of.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from whispertune.decode.context import Mark
from whispertune.files import replace_text
from whispertune.model.formats import adapter
from whispertune.model.load import MARK, RUN_MARK, copy_mark
from whispertune.model.naming import OPENAI, hub_name, public_name
from whispertune.recipe_file import load_recipe
from whispertune.train.run import Run

BASE: Final = "base"  # in a mark: the origin of an export
UNKNOWN: Final = "not known"

# "License" on the pages huggingface.co/openai/whisper-<size>, each of which was looked up in copies of 2023 to 2026.
_PAGES: Final = {
    "apache-2.0": (
        *("tiny", "tiny.en", "base", "base.en", "small", "small.en", "medium", "medium.en"),
        *("large", "large-v2", "large-v3"),
    ),
    "mit": ("large-v3-turbo",),
}
OPENAI_LICENCES: Final = {f"{OPENAI}whisper-{size}": name for name, sizes in _PAGES.items() for size in sizes}
# README of github.com/openai/whisper: "Whisper's code and model weights are released under the MIT License."
OTHER_WHISPER: Final = "MIT (openai/whisper)"  # of sizes whose page is not known here


@dataclass(frozen=True, slots=True)
class Origin:
    """The model that another began with."""

    name: str  # what people call it; a folder without where it lies
    hub: str | None  # on the model hub; None where it is not there, or nobody knows
    licence: str | None  # where it is known
    parts: tuple[Origin, ...] = ()  # of a merge: what it was made of

    @classmethod
    def of(cls, model: str) -> Origin:
        """From a recipe's `model`; a run or an export stands for the model that it began with."""
        if hub := hub_name(model):
            return cls(hub, hub, _licence(hub))
        found = _known(Path(model).expanduser())
        return replace(found, name=public_name(model)) if found else cls(public_name(model), None, None)

    @classmethod
    def merged(cls, parts: tuple[Origin, ...]) -> Origin:
        """What several models were merged to."""
        licences = list(dict.fromkeys(each.licence for each in parts))
        told = "; ".join(dict.fromkeys(f"{each.name}: {each.licence or UNKNOWN}" for each in parts))
        licence = licences[0] if len(licences) == 1 else told
        return cls(f"a merge of {' and '.join(each.name for each in parts)}", None, licence, parts)

    def told(self, link: Callable[[str], str], otherwise: str = "") -> str:
        """In words, its names on the hub as `link` writes them; what has none is followed by `otherwise`."""
        if self.parts:
            merge = f"a merge of {' and '.join(each.told(link, otherwise) for each in self.parts)}"
            return merge if self.name == Origin.merged(self.parts).name else f"{self.name}, {merge}"
        if self.hub is None:
            return self.name + otherwise
        return link(self.hub) if self.name == self.hub else f"{self.name}, which began as {link(self.hub)}"

    @property
    def hubs(self) -> tuple[str, ...]:
        """All that it began with on the model hub."""
        own = (self.hub,) if self.hub else ()
        return tuple(dict.fromkeys([*own, *(hub for each in self.parts for hub in each.hubs)]))


def origin_of(model: str) -> Origin:
    """The base of a model by name: of a run, an export or an adapter what it was tuned from, else the model itself."""
    return (None if hub_name(model) else _known(Path(model).expanduser())) or Origin.of(model)


def carry(source: Path, out: Path, origin: Origin | None) -> None:
    """Let an export say what its source says of itself, and where that came from.

    Raises:
        ModelError: what the source says cannot be read.
    """
    if origin is None:
        copy_mark(source, out)
        return
    told = asdict(Mark.read(source)) | _told(source) | {BASE: asdict(origin)}
    replace_text(out / MARK, json.dumps(told, ensure_ascii=False) + "\n")


def _licence(hub: str) -> str | None:
    return OPENAI_LICENCES.get(hub) or (OTHER_WHISPER if hub.startswith(f"{OPENAI}whisper") else None)


def _known(path: Path) -> Origin | None:
    """What a folder, or that of a file, says that its model began with; None where it says nothing."""
    told = _told(path.parent if path.is_file() else path)
    if found := _read(told.get(BASE)):
        return found
    made_of = told.get("origin")  # of `merge` and `soften`
    made_of = made_of if isinstance(made_of, dict) else {}
    if names := [each for each in made_of.get("models") or () if isinstance(each, str)]:
        return Origin.merged(tuple(map(_named, names)))
    if not path.is_dir():
        return None
    for run in (path, path.parent):  # softened weights lie in their run
        if (run / RUN_MARK).exists():
            return Origin.of(load_recipe(Run(run).resolved_recipe).model)
    if isinstance(made_of.get("base"), str):
        return _named(made_of["base"])
    return Origin.of(adapter.base_name(path)) if adapter.is_adapter(path) else None


def _named(name: str) -> Origin:
    """A model by the name that it had when another was made of it; a folder of that name may be another by now."""
    hub = hub_name(name)
    return Origin(hub or name, hub, _licence(hub) if hub else None)


def _told(folder: Path) -> dict[str, Any]:
    """The mark of a folder; nothing where there is none, or none that can be read."""
    try:
        return dict(json.loads((folder / MARK).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def _read(told: Any) -> Origin | None:
    """What `asdict` made of an origin; None where this is none."""
    if not isinstance(told, Mapping) or not isinstance(told.get("name"), str):
        return None
    hub, licence = (each if isinstance(each, str) else None for each in (told.get("hub"), told.get("licence")))
    parts = told.get("parts")
    found = map(_read, parts if isinstance(parts, list) else ())
    return Origin(told["name"], hub, licence, tuple(each for each in found if each))
