"""What goes up: every file of a publication by its name in the repository, looked through before.

files = files_of(folder, {"": folder / "exports" / "transformers-float32", "ct2": ...})
check(files, inside=folder, repository="me/whisper-small-sv")    # links, paths of this machine, names of its user
files = with_list(files, folder)           # and a file with their names, by which a later publication knows them

Only files of one folder go up. Texts are searched for what only means something on this machine, or tells whose it is.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from whispertune.errors import InputError
from whispertune.files import replace_text

LIST: Final = "whispertune-files.json"  # in the repository: what a publication put there
RECIPE: Final = "recipe.toml"  # in the repository
TEXTS: Final = (".json", ".md", ".toml", ".txt", ".py", ".yaml", ".yml", ".cfg")
VOCABULARIES: Final = ("tokenizer.json", "vocab.json", "vocabulary.json", "vocabulary.txt", "merges.txt")  # the base's
SHORT_NAME: Final = 3  # letters; in capitals alone such a word is an acronym more often than a name
LEAST_PATH: Final = 6  # characters of a folder's path that is searched for in weights too
BLOCK_BYTES: Final = 1 << 24
_PATH: Final = re.compile(r"(?<![\w.:/~-])(?:[A-Za-z]:)?[/\\][\w.@ -]+[/\\][\w.@/\\-]+")
_ON_HUB: Final = re.compile(r'\b(?:model = "|source = "hub:)([\w.-]+/[\w.-]+)')  # in the text of a recipe
_HUB_PAGE: Final = re.compile(r"https://huggingface\.co/(?:datasets/|spaces/)?")
_COMMON: Final = frozenset({"root", "user", "admin", "ubuntu", "runner", "nobody", "localhost", "docker", "home"})


@dataclass(frozen=True, slots=True)
class Upload:
    """A file, and what it is called in the repository."""

    name: str  # with slashes
    path: Path

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size


def files_of(beside: Sequence[Path], folders: Mapping[str, Path]) -> tuple[Upload, ...]:
    """Single files, which go to the root, and all files of some folders, by their folder in the repository.

    Raises:
        InputError: two of them would have the same name.
    """
    found = [Upload(path.name, path) for path in beside]
    for below, folder in folders.items():
        prefix = f"{below}/" if below else ""
        found += [Upload(prefix + path.relative_to(folder).as_posix(), path) for path in _all_files(folder)]
    names: set[str] = set()
    for each in found:
        if each.name in names:
            raise InputError("two files would have this name", where=each.name, fix="publish fewer formats at once")
        names.add(each.name)
    return tuple(sorted(found, key=lambda each: (each.name != "README.md", "/" in each.name, each.name)))


def _all_files(folder: Path) -> Iterator[Path]:
    """Links among them, also those that lead to folders: they are refused by name."""
    for at, folders, names in os.walk(folder):
        links = [name for name in folders if Path(at, name).is_symlink()]
        yield from (Path(at, name) for name in sorted([*names, *links]))


def with_list(files: Sequence[Upload], folder: Path) -> tuple[Upload, ...]:
    """The files, and one that names them, written into `folder`."""
    path = folder / LIST
    replace_text(path, json.dumps({"files": [each.name for each in files]}, indent=2, ensure_ascii=False) + "\n")
    return (*files, Upload(LIST, path))


def listed(text: str) -> frozenset[str]:
    """The names in such a file; none where it is another's."""
    try:
        names = json.loads(text)["files"]
        return frozenset(name for name in names if isinstance(name, str))
    except (ValueError, KeyError, TypeError, RecursionError):
        return frozenset()


def check(files: Sequence[Upload], *, inside: Path, repository: str, hardware: str | None = None) -> None:
    """See that every file may go up; `hardware`, as a run wrote it down, may hold a name: so do some GPUs.

    Raises:
        InputError: a link, a file from outside of the folder, or one that tells of this machine or its user.
    """
    recipes = [each.path.read_text(encoding="utf-8", errors="replace") for each in files if each.name == RECIPE]
    private = _Private.here(repository, "".join(recipes), hardware)
    root = inside.resolve()
    for each in files:
        if each.path.is_symlink() or not each.path.is_file():
            raise InputError(
                "not a file of its own", where=str(each.path), fix="links are not published; copy the file"
            )
        if not each.path.resolve().is_relative_to(root):
            raise InputError("this file lies elsewhere", where=str(each.path), fix=f"only what is in {inside} goes up")
        found = private.in_file(each.path)
        if found:
            fix = "publish writes this file anew: change what it comes from, in the run or the model's folder"
            raise _telling(found, each.path, fix)


def check_recipe(text: str, *, where: Path, repository: str) -> None:
    """See that a recipe's text may go up, before anything is made for it.

    Raises:
        InputError: it tells of this machine or its user.
    """
    if found := _Private.here(repository, text).in_text(text):
        raise _telling(found, where, "change it there: the name of the run, of the model or of a source")


def _telling(found: str, where: Path, fix: str) -> InputError:
    return InputError(f"it holds {found!r}, which tells of this machine or its user", where=str(where), fix=fix)


def _is_text(path: Path) -> bool:
    return path.suffix in TEXTS and path.name not in VOCABULARIES


@dataclass(frozen=True, slots=True)
class _Private:
    """What must not be told: folders of this machine, and the names of its user and itself."""

    folders: tuple[str, ...]
    names: tuple[str, ...]
    public: tuple[str, ...]  # what may stand there although it holds such a name

    @classmethod
    def here(cls, repository: str, recipe: str, hardware: str | None = None) -> _Private:
        """On this machine; public is where it goes to, the hardware, and what the recipe's text names on the hub."""
        places = (Path.home(), Path.cwd(), Path(sys.prefix), Path(__file__).parents[2], Path(tempfile.gettempdir()))
        names = _hosts()
        with suppress(OSError, KeyError):  # a user without a name
            names.append(getpass.getuser())
        own = {name for name in names if len(name) >= SHORT_NAME and name.lower() not in _COMMON}
        folders = dict.fromkeys(str(each) for each in places if len(each.parts) > 1)
        named = [form for name in _ON_HUB.findall(recipe) for form in (name, name.replace("/", "-").lower())]
        owner = repository.partition("/")[0]
        public = (*named, repository, owner, *([hardware] if hardware else []))
        return cls(tuple(folders), tuple(sorted(own, key=lambda name: (-len(name), name))), public)

    def in_file(self, path: Path) -> str | None:
        """What a file tells; None where that is nothing."""
        if _is_text(path):
            return self.in_text(path.read_text(encoding="utf-8", errors="replace"))
        return self.in_bytes(path)

    def in_text(self, text: str) -> str | None:
        """A folder, a path that leads somewhere on this machine, or a name; None where there is none of them."""
        text = _HUB_PAGE.sub("", text)
        for public in self.public:
            written = r"\s+".join(map(re.escape, public.split()))  # in a card's head lines are broken
            text = re.sub(rf"(?<![\w/.]){written}(?![\w])", "", text, flags=re.IGNORECASE)
        for folder in self.folders:
            if found := re.search(rf"{_path(folder)}(?![\w.-])", text):
                return found[0]
        for found in _PATH.finditer(text):
            if _leads_somewhere(found[0]):
                return found[0]
        for name in self.names:
            if found := _named(name).search(text):
                return found[0]
        return None

    def in_bytes(self, path: Path) -> str | None:
        """A folder of this machine, which exporters may leave in weights."""
        if path.name in VOCABULARIES:
            return None
        folders = [f"{each}{os.sep}" for each in self.folders if len(each) + 1 >= LEAST_PATH]
        wanted = [re.compile(_path(each).encode()) for each in folders]
        most = max((len(each.encode()) for each in folders), default=0) + 1  # and what stands before it
        data = b""
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                kept = data[-most:]
                data = kept + block
                for each in wanted:
                    if found := each.search(data, min(1, len(kept))):
                        return found[0].decode()
        return None


def _path(folder: str) -> str:
    """The expression for a folder; of one at the root, such as /data, only where no other path goes on with it."""
    written = re.escape(folder)
    return rf"{written}(?<![\w.~-]{written})" if len(Path(folder).parts) == 2 else written


def _hosts() -> list[str]:
    """The names of this machine: in full, and without its domain, but for the first number of an address."""
    full = socket.gethostname()
    alone = full.partition(".")[0]
    return [full] if alone.isdigit() else [full, alone]


@cache
def _named(name: str) -> re.Pattern[str]:
    """Where a text tells a name; a user called dev or train is told by home folders and addresses only."""
    word = _in_any_case(name)
    among_signs = rf"(?<![^\W\d_]){word}(?![^\W\d_])"  # ann_interviews and ann2 are Ann's, annex is not
    if re.search(among_signs, _own_texts(), re.IGNORECASE):
        return re.compile(rf"(?:(?:home|[Uu]sers)[/\\]|~){word}(?![\w-])|(?<![\w.-]){word}@|@{word}(?![\w.-])")
    return re.compile(among_signs)


def _in_any_case(name: str) -> str:
    """The expression for a name, however it is written."""
    if len(name) > SHORT_NAME:
        return f"(?i:{re.escape(name)})"
    return f"(?:{'|'.join(map(re.escape, dict.fromkeys((name, name.lower(), name.capitalize()))))})"


@cache
def _own_texts() -> str:
    """The modules that the texts and keys of every publication come from."""
    package = Path(__file__).parents[1]
    modules = [package / "recipe.py", package / "languages.py", *(package / "model").rglob("*.py")]
    return "\n".join(path.read_text(encoding="utf-8") for path in [*modules, *(package / "publish").rglob("*.py")])


def _leads_somewhere(written: str) -> bool:
    """Whether the first folders of a path are there: a URL's path or a fraction is none of this machine's."""
    with suppress(OSError, ValueError):
        return Path(*Path(written).parts[:3]).exists()
    return False
