"""Terms: how many of the words that a user wants recognised are recognised.

    scores = score_terms(["we tune QLoRA"], ["we tune Q Laura"], load_terms(Path("terms.txt")))
    scores.recall, [row.term for row in scores.wrong]  # 0.0, ["QLoRA"]
    scores.rows[0].near  # (Near("Q Laura", 72.7),): no hit, but something of it was heard

A term is found as whole words: what whitespace parts, in NFC, without punctuation at the edges. So "GPT-4"
holds no "GPT", and "k-means," is "k-means". In scripts without spaces between words a term is found anywhere.

A missed term may stand in the hypothesis in another spelling. What is at least 70 per cent like it, spaces left
aside, is told beside the misses and changes no figure: neither recall nor precision know of it. Words that were
said, or that are terms themselves, are not taken for one, and no word is near two.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from whispertune.errors import DataError
from whispertune.languages import UNSPACED_SCRIPTS, is_unspaced
from whispertune.score.normalize import unify_apostrophes

_COMMENT: Final = re.compile(r"(?:^|\s)#.*")  # "C#" is no comment
_WORD: Final = re.compile(rf"[{UNSPACED_SCRIPTS}]|[^\s{UNSPACED_SCRIPTS}]+")
_HYPHENS_AND_BREAKS: Final = str.maketrans({"\u2010": "-", "\u2011": "-", "\u2014": " ", "\u2026": " "})
_PART_OF_NAMES: Final = "#&@%"  # punctuation by category, yet "C" is not in "C#"

NEAR: Final = 70.0  # per cent: twice the characters in common, in order / characters of both
WORDS_MORE: Final = 2  # that a term may be split into: "Q Lo Ra"


@dataclass(frozen=True, slots=True)
class Near:
    """What was written where a term was missed."""

    written: str
    similarity: float  # per cent


@dataclass(frozen=True, slots=True)
class TermRow:
    """One term: how often it stands in the references, is found again, and stands where it should not."""

    term: str
    occurrences: int
    hits: int
    false_insertions: int
    near: tuple[Near, ...] = ()  # one for each miss that has something like it in the same utterance

    @property
    def misses(self) -> int:
        return self.occurrences - self.hits


@dataclass(frozen=True, slots=True)
class TermScores:
    """All terms together, and a row for each in the order given."""

    terms: int
    occurrences: int
    hits: int
    false_insertions: int
    rows: tuple[TermRow, ...]

    @property
    def near(self) -> int:
        """Occurrences that were missed, and beside which something like them was written."""
        return sum(len(row.near) for row in self.rows)

    @property
    def recall(self) -> float | None:
        """Occurrences that were recognised, in per cent; None where the references hold no term."""
        return 100.0 * self.hits / self.occurrences if self.occurrences else None

    @property
    def precision(self) -> float | None:
        """Decoded terms that were said, in per cent; None where the hypotheses hold no term."""
        decoded = self.hits + self.false_insertions
        return 100.0 * self.hits / decoded if decoded else None

    @property
    def wrong(self) -> tuple[TermRow, ...]:
        """The terms that were missed or put where they were not said, most errors first."""
        rows = [row for row in self.rows if row.misses or row.false_insertions]
        return tuple(sorted(rows, key=lambda row: -(row.misses + row.false_insertions)))


def load_terms(path: Path) -> tuple[str, ...]:
    """The terms of a text file, a line a term; from a # at the start or after a space on is comment."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"the terms cannot be read: {error}", where=str(path), fix="give a UTF-8 text file, a line a term"
        ) from error
    terms = dict.fromkeys(" ".join(_COMMENT.sub("", line).split()) for line in lines)
    terms.pop("", None)
    if not terms:
        raise DataError("holds no terms", where=str(path), fix="write one term on each line")
    return tuple(terms)


def score_terms(
    references: Sequence[str],
    hypotheses: Sequence[str],
    terms: Sequence[str],
    *,
    case_sensitive: bool = False,
) -> TermScores:
    """Count every term in each reference and in its hypothesis; order within an utterance does not matter.

    Longer terms are found first and no word counts for two terms. Terms that are equal but for case (or as
    written) count once, under the first spelling.
    """
    if len(references) != len(hypotheses):
        raise DataError(
            f"cannot compare {len(references)} references with {len(hypotheses)} hypotheses",
            fix="give one hypothesis for every reference",
        )
    spelling: dict[tuple[str, ...], str] = {}
    for term in terms:
        spelling.setdefault(tuple(_WORD.findall(_fold(term, case_sensitive))), term)
    spelling.pop((), None)
    finder = _Finder(spelling, frozenset(word for words in spelling for word in words), case_sensitive)
    occurrences: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    decoded: Counter[str] = Counter()
    near: defaultdict[str, list[Near]] = defaultdict(list)
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        said, heard = finder.find(reference), finder.find(hypothesis)
        occurrences += said.terms
        decoded += heard.terms
        hits += said.terms & heard.terms  # the smaller count of each
        for term, found in finder.near(said, heard):
            near[term].append(found)
    rows = tuple(
        TermRow(term, occurrences[term], hits[term], decoded[term] - hits[term], tuple(near[term]))
        for term in spelling.values()
    )
    return TermScores(len(rows), occurrences.total(), hits.total(), (decoded - hits).total(), rows)


@dataclass(frozen=True, slots=True)
class _Found:
    """The words of a text, and the terms among them."""

    terms: Counter[str]
    words: tuple[str, ...]  # as they are compared
    written: tuple[str, ...]  # the same with their case
    free: tuple[bool, ...]  # of no term


@dataclass(frozen=True, slots=True)
class _Finder:
    """Finds terms in texts."""

    spelling: Mapping[tuple[str, ...], str]  # words of a term -> the term as written
    vocabulary: frozenset[str]  # all words of all terms
    case_sensitive: bool

    def find(self, text: str) -> _Found:
        written = _WORD.findall(_fold(text, case_sensitive=True))
        pairs = [(self._bare(_fold(word, self.case_sensitive)), _stripped(word)) for word in written]
        words = [word for word, _ in pairs if word]
        free = [True] * len(words)
        found: Counter[str] = Counter()
        for length in sorted({len(term) for term in self.spelling}, reverse=True):
            for first in range(len(words) - length + 1):
                term = self.spelling.get(tuple(words[first : first + length]))
                if term is not None and all(free[first : first + length]):
                    free[first : first + length] = [False] * length
                    found[term] += 1
        return _Found(found, tuple(words), tuple(written for word, written in pairs if word), tuple(free))

    def near(self, said: _Found, heard: _Found) -> list[tuple[str, Near]]:
        """For missed terms what is written instead, the most alike first."""
        missed = said.terms - heard.terms
        if not missed:
            return []
        free = _unsaid(said, heard)
        found = []
        for similarity, first, end, term in sorted(self._candidates(missed, heard.words, free)):
            if missed[term] and all(free[first:end]):
                free[first:end] = [False] * (end - first)
                missed[term] -= 1
                found.append((term, Near(_joined(heard.written[first:end]), -similarity)))
        return found

    def _candidates(
        self, missed: Collection[str], words: Sequence[str], free: Sequence[bool]
    ) -> Iterator[tuple[float, int, int, str]]:
        """Stretches of free words like a missed term: (-similarity, first, end, term), so that they sort."""
        from rapidfuzz.fuzz import ratio

        for parts, term in self.spelling.items():
            if term not in missed:
                continue
            wanted = "".join(parts)
            for first in range(len(words)):
                for end in range(first + 1, min(first + len(parts) + WORDS_MORE, len(words)) + 1):
                    if not free[end - 1]:
                        break
                    similarity = ratio(wanted, "".join(words[first:end]), score_cutoff=NEAR)
                    if similarity:
                        yield -similarity, first, end, term

    def _bare(self, word: str) -> str:
        """The word without punctuation at its edges, or with just the part of it that a term has."""
        first, end = _inside(word)
        if (first, end) != (0, len(word)):
            wider = ((i, j) for i in range(first + 1) for j in range(end, len(word) + 1))
            for i, j in sorted(wider, key=lambda span: span[0] - span[1]):
                if word[i:j] in self.vocabulary:
                    return word[i:j]
        return word[first:end]


def _fold(text: str, case_sensitive: bool) -> str:
    text = unify_apostrophes(unicodedata.normalize("NFC", text)).translate(_HYPHENS_AND_BREAKS)
    return text if case_sensitive else unicodedata.normalize("NFC", text.casefold())


def _stripped(word: str) -> str:
    """The word without punctuation at its edges."""
    first, end = _inside(word)
    return word[first:end]


def _inside(word: str) -> tuple[int, int]:
    """Where the word begins and ends but for punctuation at its edges."""
    first, end = 0, len(word)
    while first < end and _is_edge(word[first]):
        first += 1
    while end > first and _is_edge(word[end - 1]):
        end -= 1
    return first, end


def _is_edge(character: str) -> bool:
    return unicodedata.category(character)[0] == "P" and character not in _PART_OF_NAMES


def _unsaid(said: _Found, heard: _Found) -> list[bool]:
    """Which heard words are of no term, and are none of the words around the terms that were said."""
    others = Counter(word for word, free in zip(said.words, said.free, strict=True) if free)
    unsaid = []
    for word, free in zip(heard.words, heard.free, strict=True):
        unsaid.append(free and not others[word])
        others[word] -= free and others[word] > 0
    return unsaid


def _joined(words: Sequence[str]) -> str:
    return ("" if is_unspaced(words[0][:1]) else " ").join(words)
