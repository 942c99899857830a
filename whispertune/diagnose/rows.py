"""What is known of a run's rows: speakers, lengths and texts, read from the sources of its recipe again.

rows = read_rows(recipe)          # empty where the sources lie elsewhere by now, or on the hub
facts_of(rows).train_speakers
read_split(recipe, "test")        # of one split alone
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from whispertune.data.audio import AudioReader
from whispertune.data.problems import ASKED_FOR, reasons_of
from whispertune.data.segments import Segment
from whispertune.data.sources import open_source
from whispertune.diagnose.findings.variety import LONG_TEXT, Facts, Split
from whispertune.errors import WhispertuneError
from whispertune.recipe import Recipe, place_of
from whispertune.sources_of import source_spec
from whispertune.train.run import Run

COUNTS: Final = "run.json"  # says how many rows of each source were used


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of train and of the split that was decoded; none where they cannot be read."""

    train: tuple[Segment, ...] = ()
    decoded: tuple[Segment, ...] = ()
    split: Split = "dev"  # that was decoded

    @property
    def durations_s(self) -> dict[str, float]:
        return {each.id: each.duration_s for each in self.decoded}

    @property
    def speakers(self) -> dict[str, str]:
        return {each.id: each.speaker for each in self.decoded if each.speaker}


def read_rows(recipe: Recipe) -> Rows:
    """The rows of train and of the split that reports."""
    split: Split = "test" if recipe.data.test else "dev"
    return Rows(read_split(recipe, "train"), read_split(recipe, split), split)


def read_split(recipe: Recipe, name: str) -> tuple[Segment, ...]:
    """The rows of train, dev or test, where all its sources lie on this machine and none is streamed; else none."""
    tables = getattr(recipe.data, name, ())
    places = [place_of(table.source) for table in tables]
    if any(table.streaming for table in tables) or not all(place and place.exists() for place in places):
        return ()
    found: list[Segment] = []
    with AudioReader() as reader:
        for index, table in enumerate(tables):
            try:
                spec = source_spec(
                    table,
                    language=recipe.language,
                    task=recipe.task,
                    origin=f"data.{name}.{index}",
                    scored=name != "train",
                )
                prefix = f"{index}/" if len(tables) > 1 else ""  # as a run names them
                found += [replace(each, id=prefix + each.id) for each in open_source(spec, reader).segments]
            except WhispertuneError:  # what has changed since is no reason to say nothing of the rest
                return ()
    return tuple(found)


def facts_of(rows: Rows) -> Facts:
    """What is said of them in findings."""
    texts = {text for each in rows.train if (text := _plain(each.text))}
    shared = sum(_plain(each.text) in texts for each in rows.decoded)
    return Facts(
        train_rows=len(rows.train) or None,
        decoded_rows=len(rows.decoded) or None,
        train_speakers=_speakers(rows.train),
        decoded_speakers=_speakers(rows.decoded),
        shared_texts=shared if rows.train and rows.decoded else None,
        split=rows.split,
    )


def bad_by_reason(dropped: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The lines of dropped.jsonl, but for rows that a key of the recipe asked to drop."""
    return {reason: count for reason, count in reasons_of(dropped).items() if reason not in ASKED_FOR}


def rows_used(run: Run, recipe: Recipe) -> int | None:
    """As the run counted them, of all splits; None where it did not, or streamed some."""
    try:
        counted = json.loads((run.folder / COUNTS).read_text(encoding="utf-8"))["data"]
        rows = sum(int(each["rows"]) for each in counted)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if any(table.streaming for table in recipe.data.train) else rows


def _speakers(rows: Sequence[Segment]) -> frozenset[str] | None:
    """None unless every row names one."""
    named = [each.speaker for each in rows if each.speaker]
    return frozenset(named) if named and len(named) == len(rows) else None


def _plain(text: str) -> str:
    """Letters and digits alone; nothing of a text that people say everywhere."""
    plain = "".join(character for character in text.casefold() if character.isalnum())
    return plain if len(plain) >= LONG_TEXT else ""
