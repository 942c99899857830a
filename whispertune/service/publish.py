"""A run, published: its exports made and verified, its card written, all of it looked through and pushed.

done = publish_run("my-run", "me/whisper-small-sv", formats="transformers,ct2", dry_run=True)
for each in done.files: print(each.name, each.size_bytes)

All that goes up lies in the run's folder `publish` before; exports that are there of the same weights stay, so that
a second call, after a broken connection for example, only pushes.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from whispertune.diagnose.rows import read_rows
from whispertune.errors import InputError
from whispertune.files import replace_text, sha256
from whispertune.model.load import find_model
from whispertune.publish.card import card
from whispertune.publish.exported import ROOT_FORMAT, Exported, Wanted, parse_formats
from whispertune.publish.facts import RunFacts, read_facts
from whispertune.publish.hub import push
from whispertune.publish.place import Upload, check, files_of
from whispertune.publish.space import write_space
from whispertune.reporting import Reporter
from whispertune.service.export import export_model
from whispertune.train.run import Run, write_json

FOLDER: Final = "publish"  # in a run
FORMATS: Final = "transformers,ct2"
SPACE_SUFFIX: Final = "-demo"
_REPOSITORY: Final = re.compile(r"[\w.-]+/[\w.-]+")
_LICENCE: Final = re.compile(r"[a-z0-9][a-z0-9.+-]*")


@dataclass(frozen=True, slots=True)
class Publication:
    """What goes up, or went up."""

    repository: str
    public: bool
    files: tuple[Upload, ...]
    exports: tuple[Exported, ...]
    card: Path
    licence: str | None
    space: str | None = None  # its repository
    space_files: tuple[Upload, ...] = ()
    url: str | None = None  # None where nothing was pushed
    space_url: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Under the names that `publish --json` promises."""
        return {
            "repository": self.repository,
            "public": self.public,
            "pushed": self.url is not None,
            "url": self.url,
            "card": str(self.card),
            "licence": self.licence,
            "files": [{"name": each.name, "size_bytes": each.size_bytes} for each in self.files],
            "exports": [each.as_json() for each in self.exports],
            "space": self.space,
            "space_url": self.space_url,
            "space_files": [{"name": each.name, "size_bytes": each.size_bytes} for each in self.space_files],
        }


def publish_run(
    model: str,
    repository: str,
    *,
    formats: str = FORMATS,
    public: bool = False,
    space: bool = False,
    licence: str | None = None,
    verify: bool = True,
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> Publication:
    """Publish the best weights of a finished run.

    Raises:
        InputError: no finished run, no such format, a file that must not go up, or no right to write there.
        VerificationError: an export does not do what its source does; nothing is pushed.
        WhispertuneError: the hub does not answer; the same call goes on.
    """
    tell = reporter or Reporter()
    run = Run(Path(model).expanduser())
    wanted = parse_formats(formats)
    _check_asked(repository, licence, wanted, space=space)
    facts = read_facts(run)
    if space:
        _check_base(facts)
    place = run.folder / FOLDER
    exports = _exports(run, place, wanted, verify, tell)
    licence = licence or facts.recipe.licence
    beside = _texts(place, facts, exports, repository, licence)
    files = files_of(beside, {each.folder: place / "exports" / each.key for each in wanted})
    check(files, inside=place, repository=repository)
    demo = f"{repository}{SPACE_SUFFIX}" if space else None
    space_files = _space(place / "space", facts, repository) if demo else ()
    check(space_files, inside=place, repository=repository)
    url = space_url = None
    if not dry_run:
        url = push(files, repository, public=public, reporter=tell)
        if demo:
            space_url = push(space_files, demo, public=public, reporter=tell, kind="space")
    return Publication(repository, public, files, exports, beside[0], licence, demo, space_files, url, space_url)


def _check_asked(repository: str, licence: str | None, wanted: Sequence[Wanted], *, space: bool) -> None:
    if not _REPOSITORY.fullmatch(repository):
        raise InputError("no name of a repository", where=repository, fix="write it as user/name")
    if licence is not None and not _LICENCE.fullmatch(licence):
        fix = "in small letters as the hub writes them: apache-2.0, cc-by-4.0, mit"
        raise InputError("no name of a licence", where=licence, fix=fix)
    if space and not any(each.format == ROOT_FORMAT and not each.folder for each in wanted):
        raise InputError(
            "the Space loads the model with transformers", where="--formats", fix=f"add {ROOT_FORMAT} to it"
        )


def _exports(run: Run, place: Path, wanted: Sequence[Wanted], verify: bool, tell: Reporter) -> tuple[Exported, ...]:
    """Made and verified, or found as they were made of the same weights; those of other weights are removed."""
    memory = place / "exports.json"
    weights = sha256(find_model(str(run.folder)).path / "model.safetensors")
    known = json.loads(memory.read_text(encoding="utf-8")) if memory.exists() else {}
    if known.get("weights") != weights:
        shutil.rmtree(place / "exports", ignore_errors=True)
        known = {"weights": weights, "made": {}}
    made: dict[str, Any] = known["made"]
    found = []
    for each in wanted:
        out = place / "exports" / each.key
        if each.key not in made or not out.is_dir() or (verify and made[each.key]["verified"] is None):
            shutil.rmtree(out, ignore_errors=True)
            report = export_model(
                str(run.folder), each.format, out, quantization=each.quantization, verify=verify, reporter=tell
            )
            made[each.key] = Exported.of(each, report).as_json()
            write_json(memory, known)
        found.append(Exported.read(made[each.key] | {"folder": each.folder}))
    return tuple(found)


def _texts(
    place: Path, facts: RunFacts, exports: Sequence[Exported], repository: str, licence: str | None
) -> tuple[Path, Path]:
    """The card and the recipe, written."""
    written = card(
        facts,
        exports,
        repository,
        licence=licence,
        multilingual=find_model(str(place.parent)).vocabulary.multilingual,
        rows=read_rows(facts.recipe).dev,
    )
    readme, recipe = place / "README.md", place / "recipe.toml"
    replace_text(readme, written)
    replace_text(recipe, facts.recipe_toml)
    return readme, recipe


def _check_base(facts: RunFacts) -> None:
    if facts.base_model.hub is None:
        raise InputError(
            f"the Space shows base and tuned model side by side, and {facts.base_model.name} is not on the hub",
            where="--space",
            fix="publish without it, or publish the base model first and name it in the recipe",
        )


def _space(out: Path, facts: RunFacts, repository: str) -> tuple[Upload, ...]:
    shutil.rmtree(out, ignore_errors=True)
    title = repository.partition("/")[2]
    language = facts.languages[0] if len(facts.languages) == 1 else None
    write_space(out, title=title, tuned=repository, base=facts.base_model.hub or "", language=language, task=facts.task)
    return files_of((), {"": out})
