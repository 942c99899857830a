"""The sources of a recipe as a dataset wants them: read without a model, cleaned, and with what they held noted.

read = read_everything(recipe, reader, watch)
read.tables["train"], read.problems["train"], read.streams
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np

from whispertune.data.audio import AudioReader
from whispertune.data.clean import CleanRules, clean
from whispertune.data.leakage import check_apart
from whispertune.data.segments import Embedded, Joined, Problem, Recording, SourceSpec
from whispertune.data.sources import open_source, open_stream
from whispertune.data.sources.dataset import SPLITS
from whispertune.data.table import Files, SegmentTable, as_table, prefixed
from whispertune.errors import RecipeError
from whispertune.prepare.rows import NamedTable, recording_name
from whispertune.recipe import Recipe, SourceTable, place_of
from whispertune.sources_of import label, source_spec

Watch = Callable[[str, int, int], None]  # (what, done, in all)


@dataclass(frozen=True, slots=True)
class Held:
    """What a source held: equal for the same data."""

    rows: int | None  # None: a stream
    hours: float
    texts: str  # sha256 of texts and times
    audio: str  # sha256 of the names, sizes and times of change of the audio files
    speakers: str = ""  # sha256 of that of each row
    recordings: str = ""  # sha256 of the name of that of each row, as the dataset has it


@dataclass(frozen=True, slots=True)
class ReadSource:
    """One source of the recipe."""

    origin: str  # data.train.0
    held: Held


@dataclass(frozen=True, slots=True)
class ReadStream:
    """A source of train that is read while its shards are written."""

    spec: SourceSpec
    source: str
    prefix: str
    shards: int


@dataclass(frozen=True, slots=True)
class Everything:
    """All splits, by the hub's names; those that the recipe has."""

    rules: CleanRules
    tables: dict[str, tuple[NamedTable, ...]]
    problems: dict[str, tuple[Problem, ...]]
    sources: tuple[ReadSource, ...]
    streams: tuple[ReadStream, ...]
    notes: tuple[str, ...]


def read_everything(recipe: Recipe, reader: AudioReader, watch: Watch) -> Everything:
    """Read and clean all sources of a recipe.

    Raises:
        RecipeError: it has none. DataError: splits share speech or text.
    """
    rules = CleanRules(**recipe.clean.model_dump())
    labels = labels_of(recipe)
    found = {name: _Split(labels) for name in SPLITS if getattr(recipe.data, name)}
    if not found:
        raise RecipeError("the recipe has no data", where="data", fix="give it a [[data.train]]")
    for name, split in found.items():
        for index, table in enumerate(getattr(recipe.data, name)):
            watch("reading sources", index, len(getattr(recipe.data, name)))
            _read(split, table, index, name, recipe, rules, reader)
        watch("reading sources", 1, 1)
    notes = [note for split in found.values() for note in split.notes]
    notes += _keep_apart(found, rules.leakage)
    return Everything(
        rules=rules,
        tables={SPLITS[name]: tuple(split.tables) for name, split in found.items()},
        problems={SPLITS[name]: tuple(split.problems) for name, split in found.items()},
        sources=tuple(each for split in found.values() for each in split.sources),
        streams=tuple(each for split in found.values() for each in split.streams),
        notes=tuple(notes),
    )


@dataclass(slots=True)
class _Split:
    """What was found for a split so far."""

    labels: Mapping[str, str]  # of sources
    tables: list[NamedTable] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    sources: list[ReadSource] = field(default_factory=list)
    streams: list[ReadStream] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _read(
    split: _Split, table: SourceTable, index: int, name: str, recipe: Recipe, rules: CleanRules, reader: AudioReader
) -> None:
    """Add a source to a split."""
    spec = source_spec(table, language=recipe.language, task=recipe.task, origin=f"data.{name}.{index}")
    # Ids are unique in a split, as training has them.
    prefix = f"{index}/" if len(getattr(recipe.data, name)) > 1 else ""
    if table.streaming and name == "train":
        stream = open_stream(spec, reader)
        split.streams.append(ReadStream(spec, split.labels[table.source], prefix, len(stream.shard_rows)))
        split.sources.append(ReadSource(spec.origin, Held(None, 0.0, "", "")))
        return
    called = split.labels[table.source]
    data = open_source(spec, reader)
    segments = as_table(data.segments)
    split.sources.append(ReadSource(spec.origin, held(segments, root_of(table))))
    cleaned = clean(replace(data, segments=prefixed(segments, prefix) if prefix else segments), rules, source="")
    split.tables.append(NamedTable(as_table(cleaned.segments), called, root_of(table)))
    split.problems += [_hidden(problem, table, called) for problem in cleaned.problems]
    split.notes += cleaned.notes


def _keep_apart(found: dict[str, _Split], policy: str) -> tuple[str, ...]:
    """No speech and no text may be in two splits; what only the audio tells comes at the end."""
    joined = {name: SegmentTable.join([each.segments for each in split.tables]) for name, split in found.items()}
    apart = check_apart(joined, policy)
    for name, split in found.items():
        problems, first = iter(apart.problems[name]), 0
        for at, named in enumerate(split.tables):
            kept = apart.kept[name][first : first + len(named.segments)]
            gone = islice(problems, int(np.count_nonzero(~kept)))
            split.problems += [replace(problem, source=named.source) for problem in gone]
            split.tables[at] = replace(named, segments=named.segments.where(kept))
            first += len(kept)
    return apart.notes


def labels_of(recipe: Recipe) -> dict[str, str]:
    """What each source is called: where two would be called the same, by their places in the recipe too."""
    firsts: dict[str, tuple[str, str]] = {}
    for name in SPLITS:
        for index, table in enumerate(getattr(recipe.data, name)):
            firsts.setdefault(table.source, (label(table), f"data.{name}.{index}"))
    times = Counter(called for called, _ in firsts.values())
    return {
        source: called if times[called] == 1 else f"{called} ({origin})" for source, (called, origin) in firsts.items()
    }


def _hidden(problem: Problem, table: SourceTable, called: str) -> Problem:
    """A problem without the folders of this machine."""
    root = f"{root_of(table)}{os.sep}"
    where, detail = problem.where.replace(root, ""), problem.detail.replace(root, "")
    return replace(problem, where=where, detail=detail, source=called)


def root_of(table: SourceTable) -> Path:
    """The folder that a source's recordings are named from."""
    path = Path(os.path.abspath(place_of(table.source) or ""))
    return path if path.is_dir() else path.parent


def held(table: SegmentTable, root: Path) -> Held:
    """What a table holds, and its audio files by name, size and time of change; recordings are named from `root`."""
    digest = hashlib.sha256()
    for path, is_own in _files(table):
        try:
            status = os.stat(path)
            # A container may be of the hub, fetched anew by each machine: the name of its commit tells its content.
            facts = f"{status.st_size} {status.st_mtime_ns if is_own else ''}"
        except OSError:
            facts = "not there"
        digest.update(f"{os.path.basename(path)} {facts}\n".encode("utf-8", "surrogateescape"))
    return Held(
        rows=len(table),
        hours=round(table.seconds / 3600, 6),
        texts=_digest([table.fingerprint(), *table.lead_s.tolist()]),
        audio=digest.hexdigest(),
        speakers=_digest(table.speakers.to_pylist()),
        recordings=_digest(_names(table, root)),
    )


def _digest(values: Iterable[object]) -> str:
    return hashlib.sha256(json.dumps(list(values)).encode()).hexdigest()


def _names(table: SegmentTable, root: Path) -> Iterator[str]:
    """What the dataset calls the recording of each row."""
    files: dict[Path, str] = {}  # many rows, few files
    for row in range(len(table)):
        recording = table.recordings[row]
        if not isinstance(recording, Path):
            yield recording_name(recording, root)
            continue
        if recording not in files:
            files[recording] = recording_name(recording, root)
        yield files[recording]


def _files(table: SegmentTable) -> list[tuple[str, bool]]:
    """The files that hold the audio, and whether they are recordings of their own."""
    if isinstance(table.recordings, Files):
        return [(path, True) for path in sorted(table.recordings.paths.unique().to_pylist())]
    found: set[tuple[str, bool]] = set()
    last: Recording | None = None
    for row in range(len(table)):
        recording = table.recordings[row]
        if recording is not last:  # rows of a chain share one object of many parts
            found |= _files_of(recording)
        last = recording
    return sorted(found)


def _files_of(recording: Recording) -> set[tuple[str, bool]]:
    if isinstance(recording, Path):
        return {(str(recording), True)}
    if isinstance(recording, Embedded):
        return {(str(recording.container), False)}
    parts = recording.parts if isinstance(recording, Joined) else ()
    return {(str(part.audio.container), False) for part in parts}
