"""Leakage: the same speech, text or audio in two splits, whose figures then mean nothing.

    apart = check_apart({"train": train, "dev": dev, "test": test}, policy="error")   # DataError where they share
    apart.splits["train"], apart.problems["train"], apart.notes

Three things are one too many in two splits: the same stretch of a recording, or of a copy of its file; the same
audio, by the hashes of `listen` where both were listened to; the same text. Texts are compared without case, forms
of letters (ß, ligatures, full width), punctuation and spaces, and only those of at least 15 letters and digits (8 in
Chinese, Japanese and Korean, where a character is a syllable or more): people say "yes" and "thank you" everywhere,
and those are counted in a note.
The same speaker in train and in dev or test is a note too.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from whispertune.data.clean import quoted
from whispertune.data.segments import Problem, Recording, name_of
from whispertune.data.table import SegmentTable, strings
from whispertune.data.texts import rows_of
from whispertune.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

OVERLAP_S: Final = 0.05  # captions touch each other
TEXT_LETTERS: Final = 15
SYLLABIC_LETTERS: Final = 8
SYLLABIC_LANGUAGES: Final = ("zh", "yue", "ja", "ko")
MOST_FILES: Final = 20_000  # whose contents are compared; more would take long to open
_FOLDERS: Final = r"^.*[/\\]"  # of a path
_UNCOMPARED: Final = r"[^\p{L}\p{M}\p{N}]+"
_FOLDED: Final = (("ß", "ss"), ("ς", "σ"))  # what lowering leaves apart
_EXAMPLES = 3
_READ_BYTES = 1 << 20

Hashes = NDArray[np.bytes_]
_PAIRS: Final = (("train", "dev"), ("train", "test"), ("dev", "test"))  # rows go from the first


@dataclass(frozen=True, slots=True)
class Leak:
    """A row that shares something with a row of another split."""

    row: int
    other: int
    what: str  # speech, audio, text


@dataclass(frozen=True, slots=True)
class Apart:
    """Splits that share nothing, or what the policy lets them."""

    splits: Mapping[str, SegmentTable]
    kept: Mapping[str, NDArray[np.bool_]]  # of each split as it came, whether a row stayed
    problems: Mapping[str, tuple[Problem, ...]]  # of each split: the rows that went, in their order
    notes: tuple[str, ...]


def check_apart(splits: Mapping[str, SegmentTable], policy: str, hashes: Mapping[str, Hashes] | None = None) -> Apart:
    """Find what splits share. `policy`: error, drop (rows of train go, of dev those in test), allow (a note).

    `hashes` are `MeasureTable.audio_hashes` of splits that were listened to.

    Raises:
        DataError: two splits share speech, audio or text, and the policy is error.
    """
    gone: dict[str, dict[int, Problem]] = {name: {} for name in splits}
    notes: list[str] = []
    keys = {name: text_keys(table.texts) for name, table in splits.items()}
    for name, other in _PAIRS:
        if name not in splits or other not in splits or not len(splits[name]) or not len(splits[other]):
            continue
        leaks, noted = _shared(splits, keys, name, other, hashes or {})
        notes += noted
        if leaks and policy == "error":
            raise _error(splits, name, other, leaks)
        if leaks and policy == "allow":
            notes.append(f"{_counted(leaks, name, other)} (clean.leakage is allow): figures of {other} say too much")
        if leaks and policy == "drop":
            for leak in leaks:
                gone[name].setdefault(leak.row, _problem(splits, name, other, leak))
    kept = {name: _all_but(gone[name], len(table)) for name, table in splits.items()}
    return Apart(
        {name: table.where(kept[name]) for name, table in splits.items()},
        kept,
        {name: tuple(problem for _, problem in sorted(gone[name].items())) for name in splits},
        tuple(notes),
    )


def _shared(
    splits: Mapping[str, SegmentTable],
    keys: Mapping[str, pa.Array],
    name: str,
    other: str,
    hashes: Mapping[str, Hashes],
) -> tuple[list[Leak], list[str]]:
    """One leak for each row of `name` that has any, and notes."""
    mine, theirs = splits[name], splits[other]
    listened = name in hashes and other in hashes
    notes: list[str] = []
    same: Mapping[Recording, Recording] = {}
    if len(mine) + len(theirs) <= MOST_FILES:
        same = _equal_files(mine, theirs)  # hashes tell only rows that are cut alike
    elif not listened:
        notes.append(
            f"whether {name} and {other} hold copies of the same audio was not looked at: over {MOST_FILES:,} rows; "
            'clean.audio = "all" listens to all'
        )
    leaks = list(_same_speech(mine, theirs, same))
    if listened:
        leaks += _same_audio(hashes[name], hashes[other])
    texts, short = _same_texts(mine, keys[name], keys[other])
    leaks += texts
    if short:
        one = quoted(mine.texts[short[0]].as_py())
        notes.append(f"{rows_of(len(short))} of {name} with a short text that {other} has too, e.g. {one}: no leak")
    first = {leak.row: leak for leak in reversed(leaks)}
    return [first[row] for row in sorted(first)], [*notes, *_speakers(splits, name, other)]


def _same_speech(mine: SegmentTable, theirs: SegmentTable, same: Mapping[Recording, Recording]) -> Iterator[Leak]:
    """Stretches of one recording that lie on each other. `same` says which files of mine are which of theirs."""
    stretches: dict[Recording, list[tuple[float, float, int]]] = defaultdict(list)
    for recording, rows in _runs(theirs, range(len(theirs)), {}):
        stretches[recording] += [(float(theirs.start_s[row]), float(theirs.end_s[row]), row) for row in rows]
    starts: dict[Recording, list[float]] = {}
    last: dict[Recording, list[tuple[float, int]]] = {}  # of those that have started, the one that ends last
    for recording, of_one in stretches.items():
        of_one.sort()
        starts[recording] = [start_s for start_s, _, _ in of_one]
        last[recording] = list(accumulate(((end_s, row) for _, end_s, row in of_one), max))
    for recording, rows in _runs(mine, _called_alike(mine, theirs, [*stretches], [*same]), same):
        if recording not in starts:
            continue
        theirs_start_s, until = starts[recording], last[recording]
        for row in rows:
            begun = bisect_left(theirs_start_s, float(mine.end_s[row]) - OVERLAP_S)
            if begun and until[begun - 1][0] - float(mine.start_s[row]) > OVERLAP_S:
                yield Leak(row, until[begun - 1][1], "speech")


def _runs(
    table: SegmentTable, rows: Iterable[int], same: Mapping[Recording, Recording]
) -> Iterator[tuple[Recording, list[int]]]:
    """Some rows, by the recording that neighbours share: to look up a `Joined` of a thousand parts takes long."""
    last: Recording | None = None
    run: list[int] = []
    for row in rows:
        recording = table.recordings[row]
        if recording is not last and last is not None:
            yield _resolved(same.get(last, last)), run
            run = []
        last = recording
        run.append(row)
    if last is not None:
        yield _resolved(same.get(last, last)), run


def _resolved(recording: Recording) -> Recording:
    return recording.resolve() if isinstance(recording, Path) else recording


def _called_alike(
    mine: SegmentTable, theirs: SegmentTable, resolved: list[Recording], others: list[Recording]
) -> list[int]:
    """Rows of mine whose recording is called like one of theirs: the only ones worth resolving among a million."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names = (theirs.recording_names(), strings([name_of(recording) for recording in (*resolved, *others)]))
    wanted = pc.replace_substring_regex(pa.chunked_array(names), pattern=_FOLDERS, replacement="")
    called = pc.replace_substring_regex(mine.recording_names(), pattern=_FOLDERS, replacement="")
    found: list[int] = np.flatnonzero(pc.is_in(called, value_set=wanted).to_numpy(zero_copy_only=False)).tolist()
    return found


def _equal_files(mine: SegmentTable, theirs: SegmentTable) -> Mapping[Recording, Recording]:
    """Files of mine whose content is that of a file of theirs, by another path."""
    sizes = [{path: _size(path) for path in _files(table)} for table in (mine, theirs)]
    alike = set(sizes[0].values()) & set(sizes[1].values()) - {None}
    candidates = [[path for path, size in some.items() if size in alike] for some in sizes]
    contents = {_sha256(path): path for path in candidates[1]}
    found = ((path, contents.get(_sha256(path))) for path in candidates[0])
    return {path: other for path, other in found if other is not None}


def _files(table: SegmentTable) -> Iterable[Path]:
    recordings = (table.recordings[row] for row in range(len(table)))
    return dict.fromkeys(recording for recording in recordings if isinstance(recording, Path))


def _size(path: Path) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None  # whoever reads it will say so


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_READ_BYTES):
                digest.update(block)
    except OSError:
        return f"unreadable {path}"
    return digest.hexdigest()


def _same_audio(mine: Hashes, theirs: Hashes) -> Iterator[Leak]:
    firsts = {audio: row for row, audio in reversed(list(enumerate(theirs.tolist()))) if audio}
    for row in np.flatnonzero(np.isin(mine, theirs) & (mine != b"")):
        yield Leak(int(row), firsts[bytes(mine[row])], "audio")


def _same_texts(mine: SegmentTable, keys: pa.Array, others: pa.Array) -> tuple[list[Leak], list[int]]:
    """Rows of mine whose text is among the others; and those whose shared text is too short to count."""
    import pyarrow.compute as pc

    shared = pc.index_in(keys, value_set=others).fill_null(-1).to_numpy(zero_copy_only=False)
    lengths = pc.utf8_length(keys).to_numpy(zero_copy_only=False)
    leaks: list[Leak] = []
    short: list[int] = []
    for row in np.flatnonzero((shared >= 0) & (lengths > 0)).tolist():
        if lengths[row] >= letters_that_count(mine.languages[row].as_py(), mine.tasks[row].as_py()):
            leaks.append(Leak(row, int(shared[row]), "text"))
        else:
            short.append(row)
    return leaks, short


def letters_that_count(language: str, task: str) -> int:
    """How many letters and digits a shared text must have to be a leak."""
    return SYLLABIC_LETTERS if language in SYLLABIC_LANGUAGES and task == "transcribe" else TEXT_LETTERS


def text_keys(texts: pa.Array) -> pa.Array:
    """Texts as they are compared: no case, no forms of letters, nothing but letters, marks and digits."""
    import pyarrow.compute as pc

    # Before forms go too: those of some signs begin with a mark (´) or are letters (™).
    compared = pc.replace_substring_regex(texts, pattern=_UNCOMPARED, replacement="")
    keys = pc.utf8_lower(pc.utf8_normalize(compared, form="NFKC"))
    for form, letter in _FOLDED:
        keys = pc.replace_substring(keys, pattern=form, replacement=letter)
    return pc.replace_substring_regex(keys, pattern=_UNCOMPARED, replacement="")


def _speakers(splits: Mapping[str, SegmentTable], name: str, other: str) -> Iterator[str]:
    if name != "train":
        return
    theirs = splits[other].distinct("speakers")
    both = set(theirs) & set(splits[name].distinct("speakers"))
    if both:
        yield (
            f"{len(both)} of {len(theirs)} speakers of {other} speak in train too (e.g. {min(both)}): "
            f"figures of {other} say less about speakers who were never heard"
        )


def _problem(splits: Mapping[str, SegmentTable], name: str, other: str, leak: Leak) -> Problem:
    segment, twin = splits[name][leak.row], splits[other].ids[leak.other].as_py()
    detail = f"the same {leak.what} as {twin} of {other}; clean.leakage is drop"
    return Problem(segment.id, f"also in {other}", detail, segment.duration_s)


def _counted(leaks: Iterable[Leak], name: str, other: str) -> str:
    counts = Counter(leak.what for leak in leaks)
    told = ", ".join(f"{count:,} by the same {what}" for what, count in counts.most_common())
    return f"{counts.total():,} of the rows of {name} are in {other} too: {told}"


def _error(splits: Mapping[str, SegmentTable], name: str, other: str, leaks: list[Leak]) -> DataError:
    mine, theirs = splits[name], splits[other]
    examples = "".join(
        f"\n    {mine.ids[leak.row].as_py()} of {name}, {theirs.ids[leak.other].as_py()} of {other}: "
        f"the same {leak.what}, {quoted(mine.texts[leak.row].as_py())}"
        for leak in leaks[:_EXAMPLES]
    )
    return DataError(
        f"the same {leaks[0].what} is in {name} and in {other}; {_counted(leaks, name, other)}{examples}",
        where="clean.leakage",
        fix="figures on what was trained on mean nothing: take it out of one of them, or set clean.leakage to "
        f'"drop" (it goes from {name}) or "allow"',
    )


def _all_but(rows: Iterable[int], total: int) -> NDArray[np.bool_]:
    keep = np.ones(total, dtype=np.bool_)
    keep[list(rows)] = False
    return keep
