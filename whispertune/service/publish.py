"""A run, published: its exports made and verified, its card written, all of it looked through and pushed.

done = publish_run("my-run", "me/whisper-small-sv", formats="transformers,ct2", dry_run=True)
for each in done.files: print(each.name, each.size_bytes)

What cannot be is found before anything is made: a runtime that is missing, a recipe that tells of this machine, a name
that no repository can have, no right to write there, a card that the hub rejects. A dry run asks the hub nothing: of
rights it knows nothing, and of the card what can be told without it. All that goes up lies in the run's folder
`publish` before; exports that are there and would be made again as they are stay, so that a second call, after a broken
connection for example, only pushes.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from whispertune.diagnose.rows import read_split
from whispertune.errors import InputError
from whispertune.files import replace_text, writing
from whispertune.model.load import ModelFolder, find_model
from whispertune.publish.card import card
from whispertune.publish.comparison import Reference
from whispertune.publish.export import check_possible, export
from whispertune.publish.exported import ROOT_FORMAT, Exported, Wanted, parse_formats
from whispertune.publish.facts import RunFacts, read_facts
from whispertune.publish.hub import check_card, claim, push
from whispertune.publish.kept import KeptExports
from whispertune.publish.metadata import metadata
from whispertune.publish.offline import check_head, check_repository
from whispertune.publish.place import Upload, check, check_recipe, files_of, with_list
from whispertune.publish.space import write_space
from whispertune.publish.translated import translated
from whispertune.reporting import Reporter
from whispertune.service.export import reference_of
from whispertune.train.run import Run

FOLDER: Final = "publish"  # in a run
SPACE_SUFFIX: Final = "-demo"
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
    removed: tuple[str, ...] = ()  # from the repository, what an earlier publication put there

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
            "removed": list(self.removed),
            "exports": [each.as_json() for each in self.exports],
            "space": self.space,
            "space_url": self.space_url,
            "space_files": [{"name": each.name, "size_bytes": each.size_bytes} for each in self.space_files],
        }


def publish_run(
    model: str,
    repository: str,
    *,
    formats: str,
    public: bool = False,
    space: bool = False,
    licence: str | None = None,
    verify: bool = True,
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> Publication:
    """Publish the best weights of a finished run.

    Raises:
        InputError: no finished run, no such format, a runtime that is not installed, a file that must not go up, or no
            right to write there.
        VerificationError: an export does not do what its source does; nothing is pushed.
        WhispertuneError: the hub does not answer; the same call goes on.
    """
    tell = reporter or Reporter()
    run = Run(Path(model).expanduser())
    wanted = parse_formats(formats)
    _check_asked(repository, licence, wanted, space=space)
    facts = read_facts(run)
    source = find_model(str(run.folder))
    demo = f"{repository}{SPACE_SUFFIX}" if space else None
    _check_possible(run, source, facts, wanted, repository, verify=verify, space=space)
    licence = licence or facts.recipe.licence
    head = metadata(facts, [each.format for each in wanted], repository, licence, translated(facts))
    (check_head if dry_run else check_card)(head, where=str(run.resolved_recipe))
    if not dry_run:
        _claim(repository, demo, public=public)
    place = run.folder / FOLDER
    exports, folders = _exports(run, source, facts, wanted, verify, tell)
    beside = _texts(place, source, facts, exports, repository, licence)
    with writing(place):
        files = with_list(files_of(beside, folders), place)
        space_files = _space(place / "space", facts, repository) if demo else ()
    check([*files, *space_files], inside=place, repository=repository, hardware=facts.machine)
    done = Publication(repository, public, files, exports, beside[0], licence, demo, space_files)
    return done if dry_run else _pushed(done, tell)


def _pushed(done: Publication, tell: Reporter) -> Publication:
    model = push(done.files, done.repository, public=done.public, reporter=tell)
    done = replace(done, url=model.url, removed=model.removed)
    if done.space is None:
        return done
    space = push(done.space_files, done.space, public=done.public, reporter=tell, kind="space")
    return replace(done, space_url=space.url)


def _claim(repository: str, demo: str | None, *, public: bool) -> None:
    claim(repository, public=public)
    if demo:
        claim(demo, public=public, kind="space")


def _check_asked(repository: str, licence: str | None, wanted: Sequence[Wanted], *, space: bool) -> None:
    for name in [repository, *([repository + SPACE_SUFFIX] if space else [])]:
        check_repository(name)
    if licence is not None and not _LICENCE.fullmatch(licence):
        fix = "in small letters as the hub writes them: apache-2.0, cc-by-4.0, mit"
        raise InputError("no name of a licence", where=licence, fix=fix)
    if space and not any(each.format == ROOT_FORMAT and not each.folder for each in wanted):
        raise InputError(
            "the Space decodes base and tuned model alike, by transformers where the base has no ct2/",
            where="--formats",
            fix=f"add {ROOT_FORMAT} to it",
        )


def _check_possible(
    run: Run,
    source: ModelFolder,
    facts: RunFacts,
    wanted: Sequence[Wanted],
    repository: str,
    *,
    verify: bool,
    space: bool,
) -> None:
    """What an hour of exporting need not be waited for."""
    if space:
        _check_base(facts)
    check_recipe(facts.recipe_toml, where=run.resolved_recipe, repository=repository)
    for each in wanted:
        check_possible(source, each.format, verify=verify)


def _exports(
    run: Run, source: ModelFolder, facts: RunFacts, wanted: Sequence[Wanted], verify: bool, tell: Reporter
) -> tuple[tuple[Exported, ...], dict[str, Path]]:
    """Made and verified, or kept; and their folders by those in the repository."""
    kept = KeptExports(run.folder / FOLDER, source)
    found: list[Exported] = []
    reference: Reference | None = None
    for each in wanted:
        known = kept.get(each, verify=verify)
        if known is None:
            if verify:
                reference = reference or reference_of(str(run.folder), source)
            report = export(
                source,
                each.format,
                kept.folder(each),
                quantization=each.quantization,
                reference=reference,
                base=facts.base_model,
                reporter=tell,
            )
            known = kept.add(each, report)
        found.append(known)
    return tuple(found), {each.folder: kept.folder(each) for each in wanted}


def _texts(
    place: Path,
    source: ModelFolder,
    facts: RunFacts,
    exports: Sequence[Exported],
    repository: str,
    licence: str | None,
) -> tuple[Path, Path]:
    """The card and the recipe, written."""
    written = card(
        facts,
        exports,
        repository,
        licence=licence,
        multilingual=source.vocabulary.multilingual,
        rows=read_split(facts.recipe, facts.tuned.split),
    )
    readme, recipe = place / "README.md", place / "recipe.toml"
    with writing(place):
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
    base = facts.base_model.hub or ""
    write_space(out, title=title, tuned=repository, base=base, language=facts.language, task=facts.task)
    return files_of((), {"": out})
