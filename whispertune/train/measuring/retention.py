"""What a run measures beside its own language: its retention sets, before, on the way and after.

sets = load_retention(recipe, vocabulary, reader, train)  # RetentionSet; what is wrong with them is found here
kept = RetentionSets(recipe, sets, rows, write)
kept.known("ctranslate2") or kept.base(engine)            # the untouched model on all rows, decoded once a run
kept.at(engine, step)                                     # on some rows: lines of kind "retention" in metrics.jsonl
changes = kept.tuned(engine)                              # on all rows: evaluations/retention.json

All is decoded on 30 s: that is what the base model can do. Whole recordings are transcribed before and after only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from whispertune.data.audio import AudioReader
from whispertune.data.clean import quoted
from whispertune.data.leakage import MOST_FILES, check_apart
from whispertune.data.problems import check_share, summary
from whispertune.data.segments import Segment
from whispertune.data.sources import open_source
from whispertune.data.table import SegmentTable, as_table, prefixed
from whispertune.data.texts import rows_of
from whispertune.decode.engines import Engine
from whispertune.errors import DataError, RecipeError
from whispertune.evaluation.evaluate import Evaluation
from whispertune.evaluation.retention import (
    RetentionSet,
    SetChange,
    changed,
    prefix,
    silence_set,
    transcribed,
    write_changes,
)
from whispertune.files import replace_text
from whispertune.languages import code_of
from whispertune.recipe import Recipe, RetentionTable
from whispertune.score.normalize import raw_text
from whispertune.score.wer import UtteranceScore
from whispertune.sources_of import source_spec
from whispertune.train.feeding.splits import check_spoken
from whispertune.train.measuring.rows import Rows
from whispertune.windows.tokens import Vocabulary

FOLDER: Final = "retention"  # in a run's evaluations: what was written for each set
FILE: Final = "retention.json"  # beside it: what came of them

Utterances = tuple[UtteranceScore, ...]
Write = Callable[[str, Callable[[], None]], None]  # (what is written, what writes it)


def load_retention(
    recipe: Recipe, vocabulary: Vocabulary, reader: AudioReader, train: Sequence[Segment] = ()
) -> tuple[RetentionSet, ...]:
    """The recipe's retention sets, without what is trained on, or whatever else `clean.leakage` says of that.

    Raises:
        InputError: one of them cannot be read, has no rows, or a language that the model does not have.
        DataError: one shares speech, audio or text with `train`, and that is an error.
    """
    sets = []
    for index, table in enumerate(recipe.retention):
        found = read_set(table, f"retention.{index}", recipe, vocabulary, reader)
        sets.append(kept_apart(found, train, recipe.clean.leakage, f"retention.{index}"))
    return tuple(sets)


def read_set(
    table: RetentionTable, origin: str, recipe: Recipe, vocabulary: Vocabulary, reader: AudioReader
) -> RetentionSet:
    """One retention set, its texts as they stand; `recipe` says what its table leaves open."""
    if table.silence:
        written = table.language or recipe.language or "en"
        code = code_of(written)
        if code is None:
            raise RecipeError(f"Whisper has no language {written!r}", where=origin, fix="give its code, as in sv")
        vocabulary.check_language(code, where=origin)
        return silence_set(table.name, code, table.task or recipe.task)
    spec = source_spec(
        table.rows,
        language=recipe.language,
        task=recipe.task,
        origin=origin,
        scored=True,
        whole=table.recordings,
    )
    data = open_source(spec, reader)
    check_spoken(data.segments, vocabulary, origin)
    check_share(data, recipe.data.max_bad_share, origin)
    if not data.segments:
        raise DataError("no usable segments", where=origin, fix=f"check {table.source}")
    notes = (summary(data, f"retention, {table.name}"), *data.notes)
    rows = prefixed(as_table(data.segments), prefix(table.name))
    return RetentionSet(table.name, tuple(rows), recordings=table.recordings, notes=notes)


def kept_apart(found: RetentionSet, train: Sequence[Segment], policy: str, origin: str) -> RetentionSet:
    """A set that shares nothing with train, or what the policy (error, drop, allow) lets it.

    Unlike with dev it is the set's rows that are dropped: what is trained does not depend on what is measured. Of
    recordings that are transcribed as a whole all goes.

    Raises:
        DataError: they share something and the policy is error, or nothing is left.
    """
    if found.silent or not len(train):
        return found
    rows = SegmentTable.of(replace(each, text=raw_text(each.text)) for each in found.segments)
    kept = check_apart({"train": rows, "dev": as_table(train)}, "drop").kept["train"]  # "drop" takes from the first
    if len(rows) + len(train) > MOST_FILES:
        note = f"retention, {found.name}: not looked whether train has copies of its files: over {MOST_FILES:,} rows"
        found = replace(found, notes=(*found.notes, note))
    shared = [each for each, stays in zip(found.segments, kept, strict=True) if not stays]
    if not shared:
        return found
    told = f"{len(shared):,} of the {rows_of(len(found.segments))} of retention, {found.name}, are in train too"
    if policy == "error":
        raise DataError(
            f"{told}, by speech, audio or text, e.g. {shared[0].id}: {quoted(shared[0].text)}",
            where=origin,
            fix="what was trained on does not tell what is kept: take it out of one of them, or set clean.leakage to "
            '"drop" (it goes from the retention set) or "allow"',
        )
    if policy == "allow":
        note = f"{told} (clean.leakage is allow): its figures say too little of what is forgotten"
        return replace(found, notes=(*found.notes, note))
    gone = {each.recording if found.recordings else each.id for each in shared}
    left = tuple(s for s in found.segments if (s.recording if found.recordings else s.id) not in gone)
    if not left:
        raise DataError(f"all rows of retention, {found.name}, are in train too", where=origin, fix="name other data")
    note = f"{told}, so {len(found.segments) - len(left):,} are left out (clean.leakage is drop)"
    return replace(found, segments=left, notes=(*found.notes, note))


class RetentionSets:
    """The retention sets of one run. Every rank makes the same calls; the main one writes."""

    def __init__(self, recipe: Recipe, sets: Sequence[RetentionSet], rows: Rows, write: Write) -> None:
        self.recipe, self.best = recipe, recipe.checkpoints.best
        self.sets, self.rows, self.run, self.tell, self.write = sets, rows, rows.run, rows.tell, write
        self._base: dict[str, Utterances] = {}

    def known(self, engine_kind: str) -> bool:
        """Whether the base model's texts are there, from this session or an earlier one, for these rows and engine."""
        missing = [each for each in self.sets if each.name not in self._base]
        found = {each.name: self._read(each, engine_kind) for each in missing}
        self._base |= {name: utterances for name, utterances in found.items() if utterances is not None}
        return None not in found.values()

    def base(self, engine: Engine) -> None:
        """The untouched model on all rows of each set, where that is not known yet."""
        self.known(engine.name)
        for each in self.sets:
            if each.name not in self._base:
                self._base[each.name] = self._decode(engine, each, "base", self.recipe.model)

    def at(self, engine: Engine, step: int) -> None:
        """Some rows of each set, after a step, against the base model's on the same rows."""
        for each in self.sets:
            if each.recordings:
                continue
            part = each.subset(self.recipe.evaluation.retention_subset, self.recipe.seed)
            found = self.rows.evaluate(engine, part.segments, f"retention, {each.name}, after step {step}", "full")
            change = changed(part, self._base[each.name], found.utterances, self.best)
            self.write("metrics.jsonl", partial(self.run.add_metrics, "retention", {"step": step, **change.as_json()}))
            self.tell.say(f"step {step}: {change.told()}")

    def tuned(self, engine: Engine) -> tuple[SetChange, ...]:
        """The weights that were kept, on all rows of each set."""
        changes = []
        for each in self.sets:
            found = self._decode(engine, each, "tuned", str(self.run.model))
            changes.append(changed(each, self._base[each.name], found, self.best))
            self.tell.say(changes[-1].told())
        if changes:
            path = self.run.evaluations / FILE
            self.write("an evaluation", lambda: write_changes(path, changes))
        return tuple(changes)

    def _decode(self, engine: Engine, found: RetentionSet, who: str, model: str) -> Utterances:
        """All of a set, by an engine, or where recordings are transcribed, by the model of that name."""
        what = f"retention, {found.name}, {who} model"
        if found.recordings:
            evaluation = self.rows.ranks.on_main(lambda: self._transcribe(model, found, engine.name, what))
        else:
            evaluation = self.rows.evaluate(engine, found.segments, what, "full")
        evaluation = evaluation.of("retention", biased=False)

        def write() -> None:
            how = self._how_path(found)
            how.parent.mkdir(parents=True, exist_ok=True)
            if who == "base":
                how.unlink(missing_ok=True)
            self.run.save_evaluation(f"{FOLDER}/{found.name}.{who}", evaluation)
            if who == "base":  # last: where it stands, it is of what lies beside it
                replace_text(how, json.dumps(self._how(found, engine.name), indent=2) + "\n")

        self.write("an evaluation", write)
        return evaluation.utterances

    def _transcribe(self, model: str, found: RetentionSet, engine_kind: str, what: str) -> Evaluation:
        def progress(recording: str, done_s: float, total_s: float) -> None:
            self.tell.evaluating(f"{what}, {Path(recording).name}, seconds", round(done_s), round(total_s))
            if self.rows.stop.requested:
                raise self.run.interrupted(what)

        beams = self.recipe.evaluation.beams
        return transcribed(model, found, self.rows.reader, engine=engine_kind, beams=beams, progress=progress)

    def _read(self, found: RetentionSet, engine_kind: str) -> Utterances | None:
        """What the base model wrote, where it was for these very rows and decoded as the recipe says now."""
        known, how = self.rows.ranks.on_main(
            lambda: (self.run.read_evaluation(f"{FOLDER}/{found.name}.base"), _read_how(self._how_path(found)))
        )
        if known is None or how != self._how(found, engine_kind):  # which names all rows, also those without a text
            return None
        rows = {segment.id: raw_text(segment.text) for segment in found.segments}
        decoded = {each.id: each.reference for each in known.utterances}
        whole = len(decoded) == known.scores.rows and decoded.items() <= rows.items()
        return known.utterances if whole else None

    def _how(self, found: RetentionSet, engine_kind: str) -> dict[str, Any]:
        """All that what a model writes for a set depends on, besides its weights: always on 30 s."""
        return {
            "engine": engine_kind,
            "beams": self.recipe.evaluation.beams,
            "recordings": found.recordings,
            "rows_sha256": as_table(found.segments).fingerprint(),
        }

    def _how_path(self, found: RetentionSet) -> Path:
        return self.run.evaluations / FOLDER / f"{found.name}.base.how.json"


def _read_how(path: Path) -> Any:
    """How the base model was measured; None where that is not known."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
