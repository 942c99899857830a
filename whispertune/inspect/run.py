"""Looking at data: one call reads, cleans, listens, counts, and writes the report.

    found = inspect_data("recordings/", Options(language="sv", model="openai/whisper-small"), out=Path("report.html"))
    found.sets[0].rows, found.notes, found.as_json()

A recipe.toml stands for its train, dev and test, with its cleaning rules and the tokenizer of its model.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whispertune.data.audio import AudioReader
from whispertune.data.clean import CleanRules
from whispertune.data.segments import Problem, Segment, name_of
from whispertune.data.table import SegmentTable
from whispertune.drawing.page import check_target, write_page
from whispertune.errors import InputError, ModelError
from whispertune.evaluation.clips import audio_share, make_clip
from whispertune.inspect.cards import Card
from whispertune.inspect.numbers import Numbers, count
from whispertune.inspect.report import MAKER, Section, SuspectSection, render
from whispertune.inspect.samples import Chosen, choose
from whispertune.inspect.sets import (
    SPLITS,
    is_recipe,
    leaks,
    packed_step,
    read_set,
    recipe_of,
    unheard,
    unknown_languages,
    with_sources,
)
from whispertune.inspect.survey import Survey, survey
from whispertune.inspect.tokenizer import Tokenizer, find_tokenizer
from whispertune.recipe import Recipe
from whispertune.reporting import Reporter
from whispertune.sources_of import label

if TYPE_CHECKING:
    from whispertune.inspect.suspects import Suspect

CLIPS_BYTES = 8_000_000  # of all players and spectrograms in a report, about
SUSPECTS_PLAYED = 20  # have a player in the report
SUSPECTS_LISTED = 200


@dataclass(frozen=True, slots=True)
class Options:
    """What inspect is asked for."""

    language: str | None = None  # for rows that name none
    task: str | None = None
    columns: tuple[tuple[str, str], ...] = ()  # ("text", "sentence"): our field, the source's column
    limit_rows: int | None = None  # of each source
    model: str | None = None  # whose tokenizer counts
    suspects: bool = False
    quick: bool = False  # do not listen


@dataclass(frozen=True, slots=True)
class Suspects:
    """Rows by how badly text and audio agree."""

    worst: tuple[Suspect, ...]  # the worst first, at most `SUSPECTS_LISTED`
    ranked: int  # rows, with these
    unread: tuple[Problem, ...]  # rows whose audio could not be read

    def as_json(self) -> dict[str, Any]:
        return {"ranked": self.ranked, "unread": len(self.unread), "worst": [_as_json(each) for each in self.worst]}


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found."""

    source: str
    tokenizer: str | None  # whose tokens were counted
    sets: tuple[Numbers, ...]
    notes: tuple[str, ...]
    suspects: Suspects | None  # None where nobody asked
    report: Path | None

    def as_json(self) -> dict[str, Any]:
        """What `inspect --json` prints."""
        return {
            "source": self.source,
            "tokenizer": self.tokenizer,
            "sets": [numbers.as_json() for numbers in self.sets],
            "notes": list(self.notes),
            "suspects": None if self.suspects is None else self.suspects.as_json(),
            "report": None if self.report is None else str(self.report),
        }


def inspect_data(
    source: str, options: Options, *, out: Path | None = None, reporter: Reporter | None = None
) -> Inspection:
    """Look at a source, or at all data of a recipe, and write a report where `out` says so.

    Raises:
        InputError: the source, the model or an option cannot be used, or `out` is something else than a report.
    """
    if options.suspects and options.model is None:
        raise InputError("--suspects asks a model how badly text and audio agree", fix="add --model")
    if out is not None:
        check_target(out, MAKER)
    asked = {name: getattr(options, name) for name in ("language", "task", "columns", "limit_rows", "model")}
    work = _Work(source, recipe_of(source, **asked), options, reporter or Reporter())
    tokenizer, notes = work.tokenizer()
    with AudioReader(children=os.cpu_count() or 1) as reader:
        surveys = {name: work.survey(name, tokenizer, reader) for name in work.splits}
        notes += work.notes(surveys, tokenizer)
        suspects = work.rank(next(iter(surveys.values())).table, reader) if options.suspects else None
        numbers = tuple(map(count, surveys.values()))
        name = tokenizer.name if tokenizer else None
        found = Inspection(source, name, numbers, tuple(notes), suspects, out)
        if out is not None:
            write_page(out, work.page(found, surveys, reader))
    return found


@dataclass(frozen=True, slots=True)
class _Work:
    """One inspection at work."""

    source: str
    recipe: Recipe
    options: Options
    tell: Reporter

    @property
    def splits(self) -> list[str]:
        return [name for name in SPLITS if getattr(self.recipe.data, name)]

    def called(self, name: str) -> str:
        """A split of a recipe by its name, a source by its own."""
        return name if is_recipe(self.source) else label(self.recipe.data.train[0])

    def tokenizer(self) -> tuple[Tokenizer | None, list[str]]:
        """That of the model asked for; else of the recipe's, and a note where that cannot be had."""
        if self.options.model is not None:
            return find_tokenizer(self.options.model), []
        if not self.recipe.model:
            return None, []
        try:
            return find_tokenizer(self.recipe.model), []
        except ModelError as error:
            return None, [f"tokens were not counted: {error.what}"]

    def survey(self, name: str, tokenizer: Tokenizer | None, reader: AudioReader) -> Survey:
        rules = CleanRules(**self.recipe.clean.model_dump())
        vocabulary, language = (tokenizer.vocabulary, tokenizer.language) if tokenizer else (None, None)
        data = read_set(
            name, self.recipe, rules, reader, language=language, vocabulary=vocabulary, watch=self.tell.working
        )
        found = survey(
            self.called(name),
            data,
            rules,
            reader,
            packed_step(self.recipe),
            vocabulary,
            listen=not self.options.quick,
            watch=self.tell.working,
        )
        problems = with_sources(found.data.problems, getattr(self.recipe.data, name))
        return replace(found, data=replace(found.data, problems=problems))

    def notes(self, surveys: Mapping[str, Survey], tokenizer: Tokenizer | None) -> list[str]:
        """What a person should know of the sets together."""
        notes = []
        for found in surveys.values() if tokenizer else ():
            unknown = unknown_languages(found.table, tokenizer.vocabulary) if tokenizer else []
            notes += [note for note in unknown if note not in notes]
        notes += unheard(surveys, self.recipe.clean.audio)
        return notes + leaks(surveys, self.recipe.clean.leakage)

    def rank(self, table: SegmentTable, reader: AudioReader) -> Suspects:
        """The rows of the first set, which of a recipe is train."""
        from whispertune.inspect.suspects import rank_suspects

        if not len(table):
            return Suspects((), 0, ())

        def progress(done: int, total: int) -> None:
            self.tell.working("ranking", done, total)

        ranked, unread = rank_suspects(table, self.options.model or self.recipe.model, reader, progress=progress)
        return Suspects(tuple(ranked[:SUSPECTS_LISTED]), len(ranked), tuple(unread))

    def page(self, found: Inspection, surveys: Mapping[str, Survey], reader: AudioReader) -> str:
        """The report, with players in it."""
        chosen = {name: choose(survey) for name, survey in surveys.items()}
        worst = found.suspects.worst if found.suspects else ()
        played = worst[:SUSPECTS_PLAYED]
        clips = sum(len(rows) for both in chosen.values() for rows in both) + len(played)
        maker = _Cards(reader, audio_share(clips, CLIPS_BYTES), clips, self.tell)
        sections = [
            Section(
                surveys[name],
                numbers,
                tuple(label(table) for table in getattr(self.recipe.data, name)),
                *(maker.of_rows(surveys[name], rows) for rows in chosen[name]),
            )
            for name, numbers in zip(surveys, found.sets, strict=True)
        ]
        cards = [
            maker.make(each.segment, f"{rank}, score {each.score:.1f}", particulars=each.reason)
            for rank, each in enumerate(played, start=1)
        ]
        return render(
            self.source,
            sections,
            found.notes,
            tokenizer=found.tokenizer,
            suspects=SuspectSection(tuple(cards), worst, found.suspects.ranked) if found.suspects else None,
        )


class _Cards:
    """Makes cards, and tells how many are made."""

    def __init__(self, reader: AudioReader, most_bytes: int, total: int, tell: Reporter) -> None:
        self.reader, self.most_bytes, self.total, self.tell = reader, most_bytes, total, tell
        self.made = 0

    def of_rows(self, found: Survey, rows: Sequence[Chosen]) -> tuple[Card, ...]:
        table, tokens = found.table, found.tokens
        return tuple(
            self.make(table[each.row], each.why, None if tokens is None else int(tokens[each.row])) for each in rows
        )

    def make(self, segment: Segment, why: str, tokens: int | None = None, particulars: str = "") -> Card:
        card = Card(make_clip(segment, self.reader, self.most_bytes), why, particulars, tokens)
        self.made += 1
        self.tell.working("drawing samples", self.made, self.total)
        return card


def _as_json(suspect: Suspect) -> dict[str, Any]:
    """A suspect with its segment's fields beside its own."""
    segment = suspect.segment
    return {
        "id": segment.id,
        "recording": name_of(segment.recording),
        "start_s": round(segment.start_s, 3),
        "end_s": round(segment.end_s, 3),
        "text": segment.text,
        "heard": suspect.heard,
        "score": round(suspect.score, 3),
        "cer": suspect.cer,
        "reason": suspect.reason,
    }
