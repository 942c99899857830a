"""Train, dev and test: read, checked before anything expensive starts, and kept apart.

with AudioReader() as reader:
    splits = load_splits(recipe, vocabulary, reader)
len(splits.train.segments), splits.reporting
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from whispertune.data.audio import AudioReader
from whispertune.data.problems import check_share
from whispertune.data.segments import Problem, Segment, SourceData, SourceSpec
from whispertune.data.sources import open_source
from whispertune.errors import DataError, RecipeError
from whispertune.recipe import Recipe, SourceTable
from whispertune.windows.pack import CountTokens, Limits, fits
from whispertune.windows.tokens import Vocabulary

OVERLAP_S = 0.05  # captions touch each other


@dataclass(frozen=True, slots=True)
class Splits:
    """The data of a run. Dev selects the checkpoint; test, where given, reports."""

    train: SourceData
    dev: SourceData
    test: SourceData

    @property
    def reporting(self) -> tuple[str, tuple[Segment, ...]]:
        """The split whose figures are final, by name, and its segments."""
        return ("test", self.test.segments) if self.test.segments else ("dev", self.dev.segments)


class TokenCounter:
    """How many tokens a segment's text takes; each text is encoded once."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._counts: dict[str, int] = {}

    def __call__(self, segment: Segment) -> int:
        if segment.id not in self._counts:
            self._counts[segment.id] = len(self.vocabulary.encode(segment.text, segment.language))
        return self._counts[segment.id]


def read_sources(
    tables: Sequence[SourceTable],
    vocabulary: Vocabulary,
    reader: AudioReader,
    *,
    language: str | None,
    task: str,
    origin: str,
) -> SourceData:
    """All segments of some sources, their languages checked against the model."""
    segments: list[Segment] = []
    problems: list[Problem] = []
    for index, table in enumerate(tables):
        spec = SourceSpec(
            location=Path(table.source),
            language=table.language or language,
            task=table.task or task,
            limit_rows=table.limit_rows,
            origin=f"{origin}.{index}",
        )
        data = open_source(spec, reader)
        segments += [replace(each, id=f"{index}/{each.id}") for each in data.segments] if index else data.segments
        problems += data.problems
    for spoken in {segment.language for segment in segments}:
        vocabulary.check_language(spoken, where=origin)
    for wanted in {segment.task for segment in segments}:
        vocabulary.check_task(wanted, where=origin)
    return SourceData(tuple(segments), tuple(problems))


def load_splits(
    recipe: Recipe, vocabulary: Vocabulary, reader: AudioReader, count_tokens: CountTokens, limits: Limits
) -> Splits:
    """Read the three splits of a recipe.

    Raises:
        RecipeError: no train or dev data. DataError: too many bad rows, or a recording in two splits.
    """
    for name in ("train", "dev"):
        if not getattr(recipe.data, name):
            fix = "dev selects the best checkpoint: give recordings that are not in train" if name == "dev" else None
            raise RecipeError(f"the recipe has no [[data.{name}]]", where=f"data.{name}", fix=fix)
    found = {
        name: read_sources(
            getattr(recipe.data, name),
            vocabulary,
            reader,
            language=recipe.language,
            task=recipe.task,
            origin=f"data.{name}",
        )
        for name in ("train", "dev", "test")
    }
    found["train"] = _sort_out_overlong(found["train"], limits, count_tokens)
    for name, data in found.items():
        check_share(data, recipe.data.max_bad_share, f"data.{name}")
        if not data.segments and name != "test":
            raise DataError("no usable segments", where=f"data.{name}", fix="see the problems named above")
    _check_apart(found)
    return Splits(**found)


def _sort_out_overlong(data: SourceData, limits: Limits, count_tokens: CountTokens) -> SourceData:
    """Segments that no window can hold become problems, and the cue after one starts a new chain."""
    kept: list[Segment] = []
    problems = list(data.problems)
    dropped = False
    for segment in data.segments:
        if not fits(segment, limits, count_tokens):
            detail = f"{count_tokens(segment)} tokens, a window takes {limits.max_tokens} with its timestamps and end"
            problems.append(Problem(segment.id, "too many tokens", detail))
            dropped = True
            continue
        kept.append(replace(segment, continues=False) if dropped else segment)
        dropped = False
    return SourceData(tuple(kept), tuple(problems))


def _check_apart(found: dict[str, SourceData]) -> None:
    """No stretch of a recording may stand in two splits."""
    spoken = sorted(
        (segment.recording.resolve(), segment.start_s, segment.end_s, name)
        for name, data in found.items()
        for segment in data.segments
    )
    heard: dict[str, tuple[Path, float]] = {}  # split -> the recording it was last seen in, and until when
    for recording, start_s, end_s, name in spoken:
        for other, (same, until_s) in heard.items():
            if other != name and same == recording and until_s - start_s > OVERLAP_S:
                raise DataError(
                    f"the same speech is in {name} and in {other}",
                    where=f"{recording} at {start_s:.2f} s",
                    fix="figures on speech that was trained on mean nothing: take it out of one of them",
                )
        _, until_s = heard[name] if name in heard and heard[name][0] == recording else (recording, 0.0)
        heard[name] = (recording, max(until_s, end_s))
