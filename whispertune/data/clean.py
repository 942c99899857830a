"""Cleaning: texts as the recipe wants them, and rows that cannot teach anything dropped, each with its reason.

    rules = CleanRules(**recipe.clean.model_dump())
    data = clean(data, rules, source="hub:google/fleurs:sv_se:train")   # SourceData; dropped rows are its problems
    clean_row(segment, rules)                                           # of a stream: a Segment or a Problem

A row that is dropped has the first of these reasons: markup, no text (or, where markup is stripped, nothing but
markup), too short, longer than 30 s, other script; and, judged on the whole set, which a stream does not have:
characters a second, duplicates, one text too often.
What only the audio tells is `listen`'s, what two splits share is `leakage`'s.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from whispertune.data.scripts import foreign, is_misplaced, scripts_of
from whispertune.data.segments import Problem, Segment, SourceData
from whispertune.data.sources.rows import LONGEST_S, ROUNDING_S, Trouble
from whispertune.data.table import SegmentTable, as_table
from whispertune.data.texts import TextPolicy, has_markup, rewrite, rewrite_all

if TYPE_CHECKING:
    import pyarrow as pa

# How fast a set is spoken is only known from some rows of it.
RATE_ROWS: Final = 20
# Clips have silence around what is said, and a one-word answer has little else: so much is not counted as speech.
SILENCE_S: Final = 3.0
# Captions are timed by hand and rounded: a row may be so much longer than it says, which matters to short ones.
ROUNDED_S: Final = 0.1

_QUOTED_CHARACTERS = 60
_NO_TEXT: Final = "no text"

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class CleanRules:
    """The recipe's table `clean`, where each key is explained and has its default."""

    min_s: float
    audio: str
    min_level_db: float
    max_clipped_share: float
    max_rate_factor: float
    script: bool
    markup: str
    case: str
    punctuation: str
    replace: Mapping[str, str]
    duplicates: bool
    max_same_text: int | None
    leakage: str

    @cached_property
    def policy(self) -> TextPolicy:
        return TextPolicy(self.markup, self.case, self.punctuation, tuple(self.replace.items()))


def clean(data: SourceData, rules: CleanRules, *, source: str, empty_texts: bool = False) -> SourceData:
    """The segments with their texts rewritten and without those that `rules` drop, which become problems.

    With `empty_texts`, rows that came without text stay: they are there to be scored.
    """
    written = as_table(data.segments)
    texts, notes = rewrite_all(written, rules.policy)
    table = dataclasses.replace(written, texts=texts)
    dropped: dict[int, Trouble] = {}
    rows = np.flatnonzero(_matches(written.texts, r".")) if empty_texts else np.arange(len(table))
    for judge in _JUDGES:
        found = dict(judge(table, rows, rules))
        dropped |= found
        rows = rows[~np.isin(rows, list(found))] if found else rows
    keep = np.ones(len(table), dtype=np.bool_)
    keep[list(dropped)] = False
    reasons = {row: _reason(dropped[row], written.texts[row].as_py(), rules) for row in sorted(dropped)}
    problems = (_problem(table[row], trouble, source) for row, trouble in reasons.items())
    return SourceData(table.where(keep), (*data.problems, *problems), (*data.notes, *notes))


def clean_row(segment: Segment, rules: CleanRules, *, source: str = "") -> Segment | Problem:
    """One row of a stream, judged by itself; behind a Problem the next row does not continue what was before it."""
    written = segment.text
    text = rewrite(written, segment.language if segment.task == "transcribe" else "", rules.policy)
    segment = segment if text == written else dataclasses.replace(segment, text=text)
    trouble = _trouble(segment, rules)
    return _problem(segment, _reason(trouble, written, rules), source) if trouble else segment


def quoted(text: str) -> str:
    """A text in a message: its beginning, where it is long."""
    return repr(text if len(text) <= _QUOTED_CHARACTERS else text[: _QUOTED_CHARACTERS - 1] + "…")


def _problem(segment: Segment, trouble: Trouble, source: str) -> Problem:
    return Problem(segment.id, *trouble, seconds=segment.duration_s, source=source)


def _reason(trouble: Trouble, written: str, rules: CleanRules) -> Trouble:
    """Why a row goes: that nothing is left of markup was asked for, and is no fault of the row."""
    if trouble[0] == _NO_TEXT and rules.markup == "strip" and has_markup(written):
        return "nothing but markup", f"nothing is left of {quoted(written)}; clean.markup is strip"
    return trouble


def _trouble(segment: Segment, rules: CleanRules) -> Trouble | None:
    """What is wrong with a row by itself; None where nothing is."""
    text, length_s = segment.text, segment.duration_s
    if rules.markup == "drop" and has_markup(text):
        return "markup", f"holds tags, or noises in brackets: {quoted(text)}; clean.markup is drop"
    if not any(map(str.isalnum, text)):
        return _NO_TEXT, f"nothing is said in {quoted(text)}"
    if length_s < rules.min_s - ROUNDING_S:
        return "too short", f"lasts {length_s:.3f} s; clean.min_s is {rules.min_s:g}"
    if length_s > LONGEST_S + ROUNDING_S:
        return "longer than 30 s", f"lasts {length_s:.2f} s"
    if rules.script and segment.task == "transcribe" and is_misplaced(text, segment.language):
        found = foreign(text, segment.language)
        told = f"{found.foreign} of its {found.letters} letters are not of the scripts of {segment.language}"
        return "other script", f"{told}, most of them {found.script}: {quoted(text)}"
    return None


def _troubled_rows(table: SegmentTable, rows: Rows, rules: CleanRules) -> Iterator[tuple[int, Trouble]]:
    """Rows with something wrong by themselves; only those that may have are looked at one by one."""
    lengths_s = table.durations_s
    suspicious = (lengths_s < rules.min_s) | (lengths_s > LONGEST_S)
    suspicious |= ~_matches(table.texts, r"[\p{L}\p{N}]")
    if rules.markup == "drop":
        suspicious |= _matches(table.texts, r"[<(\[{（［【〔*♩♪♫♬🎵🎶]")
    if rules.script:
        suspicious |= _mostly_foreign(table)
    for row in rows[suspicious[rows]]:
        if trouble := _trouble(table[row], rules):
            yield int(row), trouble


def _mostly_foreign(table: SegmentTable) -> NDArray[np.bool_]:
    """Rows most of whose letters are not of their language's scripts; letters of no script among them."""
    import pyarrow.compute as pc

    found = np.zeros(len(table), dtype=np.bool_)
    for language in table.distinct("languages"):
        own = "".join(rf"\p{{{script}}}" for script in sorted(scripts_of(language)))
        if not own:
            continue
        rows = np.flatnonzero(pc.equal(table.languages, language).to_numpy(zero_copy_only=False))
        others = _count(table.texts.take(rows), rf"[^\P{{L}}{own}]")
        rows, others = rows[others > 0], others[others > 0]
        texts = table.texts.take(rows)
        letters = pc.utf8_length(texts).to_numpy(zero_copy_only=False) - _count(texts, r"\P{L}")
        found[rows] = 2 * others > letters
    return found


def _matches(texts: pa.Array, pattern: str) -> NDArray[np.bool_]:
    import pyarrow.compute as pc

    found: NDArray[np.bool_] = pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False)
    return found


def _count(texts: pa.Array, pattern: str) -> Rows:
    import pyarrow.compute as pc

    counts: Rows = pc.count_substring_regex(texts, pattern).to_numpy(zero_copy_only=False)
    return counts


def _odd_rates(table: SegmentTable, rows: Rows, rules: CleanRules) -> Iterator[tuple[int, Trouble]]:
    """Rows spoken too fast or too slowly by far, beside the median of their language."""
    import pyarrow.compute as pc

    characters = pc.utf8_length(table.texts).to_numpy(zero_copy_only=False)
    lengths_s = table.durations_s
    rows = rows[lengths_s[rows] > 0]
    spoken = _codes(table.languages) * (len(table.tasks.unique()) + 1) + _codes(table.tasks)
    for group in np.unique(spoken[rows]):
        of_it = rows[spoken[rows] == group]
        if len(of_it) < RATE_ROWS:
            continue
        usual = float(np.median(characters[of_it] / lengths_s[of_it]))
        most = rules.max_rate_factor * usual * (lengths_s[of_it] + ROUNDED_S)
        least = usual / rules.max_rate_factor * (lengths_s[of_it] - SILENCE_S)
        for row in of_it[(characters[of_it] > most) | (characters[of_it] < least)]:
            told = f"{characters[row]} in {lengths_s[row]:.2f} s, where {usual:.1f} a second are usual"
            yield int(row), ("characters a second out of range", f"{told}: {quoted(table.texts[row].as_py())}")


def _duplicates(table: SegmentTable, rows: Rows, rules: CleanRules) -> Iterator[tuple[int, Trouble]]:
    """Rows with the recording, stretch, text, language and task of a row before them."""
    if not rules.duplicates:
        return
    said = _said(table)
    rows = rows[np.bincount(said, minlength=1)[said[rows]] > 1]
    seen: dict[tuple[int, float, float], list[int]] = {}
    columns = (said[rows].tolist(), table.start_s[rows].tolist(), table.end_s[rows].tolist())
    for row, *key in zip(rows.tolist(), *columns, strict=True):
        alike = seen.setdefault((key[0], key[1], key[2]), [])
        recording = table.recordings[row] if alike else None
        first = next((other for other in alike if table.recordings[other] == recording), None)
        if first is None:
            alike.append(row)
        else:
            yield row, ("duplicate", f"the same stretch and text as {table.ids[first].as_py()}")


def _frequent_texts(table: SegmentTable, rows: Rows, rules: CleanRules) -> Iterator[tuple[int, Trouble]]:
    """Rows whose text so many rows before them have already."""
    if rules.max_same_text is None:
        return
    said = _said(table)[rows]
    order = np.argsort(said, kind="stable")
    _, first, counts = np.unique(said[order], return_index=True, return_counts=True)
    before = np.empty(len(rows), dtype=np.int64)  # rows of its text before each
    before[order] = np.arange(len(rows)) - np.repeat(first, counts)
    for row in rows[before >= rules.max_same_text]:
        told = f"clean.max_same_text is {rules.max_same_text}"
        yield int(row), ("one text too often", f"{quoted(table.texts[row].as_py())}; {told}")


_JUDGES: Final[Sequence[Callable[[SegmentTable, Rows, CleanRules], Iterator[tuple[int, Trouble]]]]] = (
    _troubled_rows,
    _odd_rates,
    _duplicates,
    _frequent_texts,
)


def _said(table: SegmentTable) -> Rows:
    """A number for each text in its language and task."""
    codes = _codes(table.texts)
    for column in (table.languages, table.tasks):
        codes = np.unique(codes * (len(column.unique()) + 1) + _codes(column), return_inverse=True)[1]
    return codes


def _codes(column: Any) -> Rows:
    """A number for each value of a column, counted from 0."""
    import pyarrow as pa

    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    codes: Rows = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes
