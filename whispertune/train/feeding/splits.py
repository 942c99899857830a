"""Train, dev and test: read, cleaned, checked before anything expensive starts, and kept apart.

with AudioReader() as reader:
    splits = load_splits(recipe, vocabulary, reader, TokenCounter(vocabulary), limits)
len(splits.train.segments), splits.reporting
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whispertune.data.audio import AudioReader
from whispertune.data.clean import CleanRules, clean, clean_row
from whispertune.data.leakage import Hashes, check_apart
from whispertune.data.listen import hear
from whispertune.data.problems import check_share
from whispertune.data.segments import Held, Problem, Segment, SourceData, SourceSpec, name_of
from whispertune.data.sources import open_source, open_stream
from whispertune.data.streams import Stream, count_rows, stream_rows
from whispertune.data.table import SegmentTable, as_table, prefixed
from whispertune.data.texts import written_languages
from whispertune.errors import DataError, RecipeError
from whispertune.languages import new_targets
from whispertune.recipe import Recipe, SourceTable
from whispertune.sources_of import source_spec
from whispertune.train.feeding.supply import too_many_tokens
from whispertune.windows.pack import CountTokens, Limits, fits
from whispertune.windows.tokens import Vocabulary

SPLITS = ("train", "dev", "test")
HEAD_SHARDS, HEAD_ROWS = 4, 64  # of a stream are looked at before the start
LISTEN_HOURS = 20.0  # of speech that clean.audio = "auto" listens to before the start

Watch = Callable[[str, int, int], None]  # (what, rows done, rows in all)


def _unwatched(what: str, done: int, total: int) -> None:
    return


@dataclass(frozen=True, slots=True)
class TrainStream:
    """A source of train that is read as it comes."""

    index: int  # among the recipe's sources of train
    source: str
    stream: Stream
    head: SegmentTable  # the first rows of its first shards, without audio

    @property
    def note(self) -> str:
        return (
            f"{self.source} is read as it comes: nobody listened to it, duplicates and speech rate are not looked at, "
            "and of leaks only texts"
        )


@dataclass(frozen=True, slots=True)
class Splits:
    """The data of a run. Dev selects the checkpoint; test, where given, reports.

    `parts` are the tables of train by the index of their source in the recipe; `train` is all of them together.
    """

    parts: dict[int, SegmentTable]
    streams: tuple[TrainStream, ...]
    train: SourceData
    dev: SourceData
    test: SourceData
    notes: tuple[str, ...] = ()

    @property
    def reporting(self) -> tuple[str, Sequence[Segment]]:
        """The split whose figures are final, by name, and its segments."""
        return ("test", self.test.segments) if self.test.segments else ("dev", self.dev.segments)

    @property
    def sample(self) -> SegmentTable:
        """What training text looks like: all of the tables, and the first rows of each stream."""
        return SegmentTable.join([as_table(self.train.segments), *(each.head for each in self.streams)])

    def fingerprints(self) -> dict[str, str]:
        """By split, a hash of what its segments say and where, of streams what they are called and how long."""
        found = {name: as_table(getattr(self, name).segments).fingerprint() for name in SPLITS}
        for each in self.streams:
            known = repr((found["train"], each.index, each.stream.name, each.stream.shard_rows))
            found["train"] = sha256(known.encode()).hexdigest()
        return found


class TokenCounter:
    """How many tokens the texts of segments take."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary

    def __call__(self, segments: Sequence[Segment]) -> NDArray[np.int32]:
        table = as_table(segments)
        return np.array(self.vocabulary.count(table.texts.to_pylist(), written_languages(table)), dtype=np.int32)


def read_sources(
    tables: Sequence[SourceTable],
    vocabulary: Vocabulary,
    reader: AudioReader,
    *,
    language: str | None,
    task: str,
    origin: str,
    scored: bool = False,
    whole: bool = False,
) -> SourceData:
    """All segments of some sources, one source behind the other, their languages checked against the model.

    Those that are `scored` may have empty texts; of `whole` recordings all cues count.
    """
    data = joined(
        [
            _read(
                table,
                source_spec(
                    table, language=language, task=task, origin=f"{origin}.{index}", scored=scored, whole=whole
                ),
                reader,
                f"{index}/" if len(tables) > 1 else "",
            )
            for index, table in enumerate(tables)
        ]
    )
    check_spoken(data.segments, vocabulary, origin)
    return data


def joined(found: Sequence[SourceData]) -> SourceData:
    """Several sources as one."""
    return SourceData(
        SegmentTable.join([as_table(data.segments) for data in found]),
        tuple(problem for data in found for problem in data.problems),
        tuple(note for data in found for note in data.notes),
    )


def check_spoken(segments: Iterable[Segment], vocabulary: Vocabulary, origin: str) -> None:
    """Raise InputError where the model has not the language or the task of a segment."""
    table = as_table(segments)
    for spoken in table.distinct("languages"):
        vocabulary.check_language(spoken, where=origin)
    for wanted in table.distinct("tasks"):
        vocabulary.check_task(wanted, where=origin)


def load_splits(
    recipe: Recipe,
    vocabulary: Vocabulary,
    reader: AudioReader,
    count_tokens: CountTokens,
    limits: Limits,
    watch: Watch = _unwatched,
) -> Splits:
    """Read the three splits of a recipe.

    Raises:
        RecipeError: no train or dev data. DataError: too many bad rows, or the same speech or text in two splits.
    """
    for name in ("train", "dev"):
        if not getattr(recipe.data, name):
            fix = "dev selects the best checkpoint: give recordings that are not in train" if name == "dev" else None
            raise RecipeError(f"the recipe has no [[data.{name}]]", where=f"data.{name}", fix=fix)
    rules = CleanRules(**recipe.clean.model_dump())
    _check_streaming(recipe)
    streams = _open_streams(recipe, rules, reader, watch)
    found = {name: _read_split(name, recipe, vocabulary, reader, rules, limits, count_tokens) for name in SPLITS}
    found, hashes = _hear(found, recipe, rules, reader, watch)
    apart = check_apart({name: as_table(data.segments) for name, data in found.items()}, rules.leakage, hashes)
    for name, data in found.items():
        problems = with_sources(apart.problems[name], getattr(recipe.data, name))
        found[name] = replace(data, segments=apart.splits[name], problems=(*data.problems, *problems))
        check_share(found[name], recipe.data.max_bad_share, f"data.{name}")
        if not found[name].segments and name != "test" and not (name == "train" and streams):
            raise DataError("no usable segments", where=f"data.{name}", fix="see the problems named above")
    notes = [f"{name}: {note}" for name, data in found.items() for note in data.notes]
    notes += [each.note for each in streams]
    train = apart.splits["train"]
    return Splits(_parts(train, len(recipe.data.train)), streams, **found, notes=(*notes, *apart.notes))


def _read_split(
    name: str,
    recipe: Recipe,
    vocabulary: Vocabulary,
    reader: AudioReader,
    rules: CleanRules,
    limits: Limits,
    count_tokens: CountTokens,
) -> SourceData:
    """The sources of a split that are no streams, cleaned, one behind the other."""
    found = []
    tables: Sequence[SourceTable] = getattr(recipe.data, name)
    for index, table in enumerate(tables):
        if table.streaming and name == "train":
            continue
        prefix = f"{index}/" if len(tables) > 1 else ""
        origin, scored = f"data.{name}.{index}", name != "train"
        spec = source_spec(table, language=recipe.language, task=recipe.task, origin=origin, scored=scored)
        data = _read(table, spec, reader, prefix)
        check_spoken(data.segments, vocabulary, origin)
        data = clean(data, rules, source=table.source, empty_texts=scored)
        found.append(_sort_out_overlong(data, limits, count_tokens, table.source) if name == "train" else data)
    return joined(found)


def _read(table: SourceTable, spec: SourceSpec, reader: AudioReader, prefix: str) -> SourceData:
    data = open_source(spec, reader)
    problems = tuple(replace(problem, source=table.source) for problem in data.problems)
    segments = as_table(data.segments)
    translated = "translate" in segments.distinct("tasks")
    notes = (*data.notes, *new_targets([table.target_language] if translated else ()))
    return replace(data, segments=prefixed(segments, prefix) if prefix else segments, problems=problems, notes=notes)


def source_counts(splits: Splits, recipe: Recipe) -> list[dict[str, Any]]:
    """Rows and seconds of each source that is no stream, as run.json keeps them."""
    return [
        {"split": split, "index": index, "rows": len(table), "seconds": round(table.seconds, 2)}
        for split in SPLITS
        for index, table in _parts(as_table(getattr(splits, split).segments), len(getattr(recipe.data, split))).items()
    ]


def _parts(rows: SegmentTable, sources: int) -> dict[int, SegmentTable]:
    """The rows of a split by the index of their source."""
    import pyarrow.compute as pc

    if sources == 1:
        return {0: rows} if len(rows) else {}
    parts = {}
    for index in range(sources):
        mine = rows.where(pc.starts_with(rows.ids, f"{index}/").to_numpy(zero_copy_only=False))
        if len(mine):
            parts[index] = mine
    return parts


def _hear(
    found: Mapping[str, SourceData], recipe: Recipe, rules: CleanRules, reader: AudioReader, watch: Watch
) -> tuple[dict[str, SourceData], dict[str, Hashes]]:
    """Listen to everything where the recipe wants it: what is left, and what tells equal audio."""
    hours = sum(data.seconds for data in found.values()) / 3600
    if recipe.clean.audio == "never" or (recipe.clean.audio == "auto" and hours > LISTEN_HOURS):
        return dict(found), {}
    left: dict[str, SourceData] = {}
    hashes: dict[str, Hashes] = {}
    for name, data in found.items():
        heard = hear(as_table(data.segments), rules, reader, progress=partial(watch, f"listening to {name}"))
        problems = with_sources(heard.data.problems, getattr(recipe.data, name))
        left[name] = replace(data, segments=heard.data.segments, problems=(*data.problems, *problems))
        hashes[name] = heard.measures.audio_hashes
    return left, hashes


def _check_streaming(recipe: Recipe) -> None:
    """Only train is streamed, and its steps are counted in segments then."""
    for name in ("dev", "test"):
        for index, table in enumerate(getattr(recipe.data, name)):
            if table.streaming or table.count or table.weight != 1:
                fix = "limit_rows or limit_hours bound what is fetched"
                where = f"data.{name}.{index}"
                raise RecipeError("streaming, count and weight are for train", where=where, fix=fix)
    if recipe.train.step_windows and any(table.streaming for table in recipe.data.train):
        raise RecipeError(
            "a stream is not packed ahead, so its steps are not counted in windows",
            where="train.step_windows",
            fix="give train.step_segments instead",
        )


def _open_streams(recipe: Recipe, rules: CleanRules, reader: AudioReader, watch: Watch) -> tuple[TrainStream, ...]:
    streams = []
    for index, table in enumerate(recipe.data.train):
        if table.streaming:
            origin = f"data.train.{index}"
            spec = source_spec(table, language=recipe.language, task=recipe.task, origin=origin)
            stream = open_stream(spec, reader)
            if table.count:
                stream = count_rows(stream, partial(_count_watched, watch, table.source))
            if stream_rows(stream) is None and recipe.train.steps is None and recipe.train.hours is None:
                raise RecipeError(
                    f"how long {table.source} is, only reading it tells",
                    where=origin,
                    fix="give train.steps or train.hours, or count = true: it is read through once before",
                )
            streams.append(TrainStream(index, table.source, stream, _head(stream, rules)))
    return tuple(streams)


def _head(stream: Stream, rules: CleanRules) -> SegmentTable:
    """The first rows of the first shards as they are trained on, without their audio."""
    shards = range(min(HEAD_SHARDS, len(stream.shard_rows)))
    rows = (row for shard in shards for row in islice(stream.open(shard), HEAD_ROWS))
    cleaned = (clean_row(row, rules) for row in rows if isinstance(row, Segment))
    kept = (row for row in cleaned if isinstance(row, Segment))
    return SegmentTable.of(replace(row, recording=Held(name_of(row.recording), b"")) for row in kept)


def _count_watched(watch: Watch, source: str, done: int) -> None:
    watch(f"counting the rows of {source}", done, done + 1)


def with_sources(problems: Iterable[Problem], tables: Sequence[SourceTable]) -> tuple[Problem, ...]:
    """The problems of rows of several sources, each with the source it is of, by the prefix of its id."""

    def told(problem: Problem) -> Problem:
        if problem.source:
            return problem
        index = int(problem.where.partition("/")[0]) if len(tables) > 1 else 0
        return replace(problem, source=tables[index].source)

    return tuple(told(problem) for problem in problems)


def _sort_out_overlong(data: SourceData, limits: Limits, count_tokens: CountTokens, source: str) -> SourceData:
    """Segments that no window can hold become problems, and the cue after one starts a new chain."""
    table = as_table(data.segments)
    keep = fits(table, limits, count_tokens)
    if keep.all():
        return data
    dropped = table.take(np.flatnonzero(~keep))
    counts = count_tokens(dropped)
    problems = [
        replace(too_many_tokens(segment, int(count), limits), source=source)
        for segment, count in zip(dropped, counts, strict=True)
    ]
    return replace(data, segments=table.where(keep), problems=(*data.problems, *problems))
