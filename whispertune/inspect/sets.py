"""The sets that are looked at: those of a recipe, or one source as a recipe of its own with all defaults.

recipe = recipe_of("recordings/", language="sv")
data = read_set("train", recipe, rules, reader)          # SourceData, cleaned
leaks({"train": train, "dev": dev}, "error")             # notes on what they share
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from whispertune.data.audio import AudioReader
from whispertune.data.clean import CleanRules, clean
from whispertune.data.leakage import check_apart
from whispertune.data.segments import Problem, Segment, SourceData, SourceSpec
from whispertune.data.sources import open_stream
from whispertune.data.table import SegmentTable, as_table, prefixed
from whispertune.data.texts import rows_of
from whispertune.errors import DataError, InputError, RecipeError
from whispertune.inspect.survey import PackedStep, Survey, Watch, read_cleaned, unwatched
from whispertune.recipe import Recipe, SourceTable
from whispertune.recipe_file import load_recipe, parse_recipe
from whispertune.sources_of import label, source_spec
from whispertune.train.feeding.splits import LISTEN_HOURS, TokenCounter, joined
from whispertune.train.feeding.supply import too_many_tokens
from whispertune.windows.pack import Limits, fits
from whispertune.windows.tokens import Vocabulary

SPLITS = ("train", "dev", "test")
STREAMED_ROWS = 500  # of a source with `streaming = true`; their audio is held in memory
_PAIRS = (("train", "dev"), ("train", "test"), ("dev", "test"))
_OUTCOMES = {
    "error": "training would end here (clean.leakage is error)",
    "drop": "training leaves them out (clean.leakage is drop)",
    "allow": "training takes them all the same (clean.leakage is allow)",
}


def is_recipe(source: str) -> bool:
    """Whether a source is a recipe, by its name."""
    return source.endswith(".toml") and Path(source).is_file()


def recipe_of(
    source: str,
    *,
    language: str | None = None,
    task: str | None = None,
    columns: Sequence[tuple[str, str]] = (),
    limit_rows: int | None = None,
    model: str | None = None,
) -> Recipe:
    """The recipe that is given, or one that trains on the source and has all defaults.

    Raises:
        InputError: an option that a recipe says itself. RecipeError: the recipe, or a value, is wrong; it has no data.
    """
    if is_recipe(source):
        given = {"--language": language, "--task": task, "--column": columns}
        for option, value in given.items():
            if value:
                raise InputError(f"{option} is for a source; a recipe says it itself", where=source)
        recipe = load_recipe(Path(source))
        if not any(getattr(recipe.data, name) for name in SPLITS):
            fix = 'write [[data.train]] and below it source = "recordings/"'
            raise RecipeError("the recipe has no data", where=source, fix=fix)
        return _limited(recipe, limit_rows)
    asked: dict[str, Any] = {"source": source, "columns": dict(columns)}
    asked |= {} if limit_rows is None else {"limit_rows": limit_rows}
    tree: dict[str, Any] = {"model": model or "", "data": {"train": [asked]}}
    tree |= {name: value for name, value in (("language", language), ("task", task)) if value}
    return parse_recipe(tree)


def _limited(recipe: Recipe, limit_rows: int | None) -> Recipe:
    """At most so many rows of each source."""
    if limit_rows is None:
        return recipe
    limited = {
        name: tuple(
            table.model_copy(update={"limit_rows": min(limit_rows, table.limit_rows or limit_rows)})
            for table in getattr(recipe.data, name)
        )
        for name in SPLITS
    }
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=limited)})


def packed_step(recipe: Recipe) -> PackedStep:
    """What a step of its training packs together."""
    windows = recipe.windows
    return PackedStep(Limits(windows.max_tokens, windows.max_gap_s, windows.max_lead_s), recipe.train.segments_a_step)


def read_set(
    name: str,
    recipe: Recipe,
    rules: CleanRules,
    reader: AudioReader,
    *,
    language: str | None = None,
    vocabulary: Vocabulary | None = None,
    watch: Watch = unwatched,
) -> SourceData:
    """The rows of all sources of a split that can be used, as training would read them.

    `language` is for rows where neither they nor the recipe say it. Of train, rows whose text no window takes are
    problems too where a `vocabulary` is there to tell.
    """
    tables: tuple[SourceTable, ...] = getattr(recipe.data, name)
    found = []
    for index, table in enumerate(tables):
        watch(f"reading {name}", index, len(tables))
        spec = source_spec(
            table,
            language=recipe.language or language,
            task=recipe.task,
            origin=_origin(name, index),
            scored=name != "train",
        )
        if table.streaming:
            data = _read_head(spec, rules, reader, source=label(table))
        else:
            data = read_cleaned(spec, rules, reader, source=label(table))
        if vocabulary and name == "train":
            data = _without_wordy(data, packed_step(recipe).limits, vocabulary, source=label(table))
        segments = as_table(data.segments)
        found.append(replace(data, segments=prefixed(segments, f"{index}/") if len(tables) > 1 else segments))
    watch(f"reading {name}", len(tables), len(tables))
    return joined(found)


def _origin(name: str, index: int) -> str:
    return f"data.{name}.{index}"


def _read_head(spec: SourceSpec, rules: CleanRules, reader: AudioReader, *, source: str) -> SourceData:
    """The first rows of a stream, which need not be fetched whole to look at some."""
    stream = open_stream(spec, reader)
    rows = chain.from_iterable(stream.open(shard) for shard in range(len(stream.shard_rows)))
    head = list(islice(rows, min(STREAMED_ROWS, spec.limit_rows or STREAMED_ROWS)))
    segments = SegmentTable.of(row for row in head if isinstance(row, Segment))
    problems = tuple(replace(row, source=source) for row in head if isinstance(row, Problem))
    note = f"{source} is streamed: these are the first {len(head):,} of its rows, none of which training listens to"
    return clean(SourceData(segments, problems, (note,)), rules, source=source)


def _without_wordy(data: SourceData, limits: Limits, vocabulary: Vocabulary, *, source: str) -> SourceData:
    """Rows that no window takes become problems, as training has them."""
    table, count_tokens = as_table(data.segments), TokenCounter(vocabulary)
    keep = fits(table, limits, count_tokens)
    if keep.all():
        return data
    wordy = table.take(np.flatnonzero(~keep))
    problems = (
        replace(too_many_tokens(segment, int(count), limits), source=source)
        for segment, count in zip(wordy, count_tokens(wordy), strict=True)
    )
    return replace(data, segments=table.where(keep), problems=(*data.problems, *problems))


def with_sources(problems: Sequence[Problem], tables: Sequence[SourceTable]) -> tuple[Problem, ...]:
    """Problems that listening found, each with the source its row is of, by the prefix of its id."""

    def source(problem: Problem) -> str:
        return problem.source or label(tables[int(problem.where.partition("/")[0]) if len(tables) > 1 else 0])

    return tuple(replace(problem, source=source(problem)) for problem in problems)


def leaks(surveys: Mapping[str, Survey], policy: str) -> list[str]:
    """A note for each two splits that share speech, audio or text, and for speakers of train in dev or test."""
    notes: list[str] = []
    for pair in _PAIRS:
        if not set(pair) <= set(surveys):
            continue
        splits = {name: surveys[name].table for name in pair}
        heard = {name: surveys[name].measures for name in pair}
        hashes = {name: measures.audio_hashes for name, measures in heard.items() if measures is not None}
        try:
            notes += check_apart(splits, "error", hashes).notes
        except DataError as error:
            notes.append(f"{error.what}\n{_OUTCOMES[policy]}")
    return notes


def unheard(surveys: Mapping[str, Survey], audio: str) -> list[str]:
    """A note where training would not listen to what was listened to here; `audio` is the recipe's clean.audio."""
    by_ear = [problem for each in surveys.values() for problem in each.by_ear]
    seconds = sum(each.table.seconds for each in surveys.values()) + sum(each.seconds or 0.0 for each in by_ear)
    long = audio == "auto" and seconds / 3600 > LISTEN_HOURS
    if all(each.measures is None for each in surveys.values()) or not (long or audio == "never"):
        return []
    why = f"over {LISTEN_HOURS:g} h, and clean.audio is auto" if long else "clean.audio is never"
    return [
        f"training would not listen ({why}), as was done here: what was dropped here by ear "
        f"({rows_of(len(by_ear))}) would stay, and what two splits share by their audio alone would not be seen"
    ]


def unknown_languages(table: SegmentTable, vocabulary: Vocabulary) -> list[str]:
    """A note for each language that the model has no token of."""
    notes = []
    for language in table.distinct("languages"):
        try:
            vocabulary.check_language(language)
        except InputError as error:
            notes.append(f"{error.what}: {error.fix}" if error.fix else error.what)
    return notes


def parse_columns(written: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """`text=sentence` -> ("text", "sentence"): our field, the source's column."""
    pairs = []
    for each in written:
        field, separator, column = each.partition("=")
        if not separator or not field.strip() or not column.strip():
            raise InputError(f"not a column: {each!r}", where="--column", fix="write field=column: text=sentence")
        pairs.append((field.strip(), column.strip()))
    return tuple(pairs)
