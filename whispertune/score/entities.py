"""Errors in named entities, and in all the other words: two error rates out of one alignment.

    tagger = load_tagger("names.txt")     # or "spacy:en_core_web_md"
    scores = score_entities(utterances, tagger, normalizer_for("en"))
    scores.alone.rate, scores.left_out.rate                # word error rates, per cent, raw
    scores.alone_normalized.rate, scores.kinds[0].recall   # per cent of the entities without an error

A tagger finds the entities in the references; what was decoded is never tagged. An entity is made up of whole words:
one that covers a part of a word covers all of it. Of entities that overlap, the first and longer one counts. A word
that was substituted or deleted counts where it stands; words that were inserted count as an entity's where they stand
inside of it, or directly beside a word of it that is wrong, and else as of the other words. So the errors of both
sides are those of the whole set. In scripts without spaces a character stands for a word. Entities and what stands
between them are normalised each for itself: a number in words that goes over an edge is read as two.

A tagger is a file with an entity a line, a spaCy pipeline by name (an extra: `pip install "whispertune[entities]"`,
and the pipeline itself), or from Python any object with a `name` and a method `tag`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from whispertune.errors import DataError, InputError
from whispertune.languages import UNSPACED_SCRIPTS, is_unspaced
from whispertune.score.normalize import Normalizer, basic, label_of, one_each
from whispertune.score.normalizers.scripts import by_character
from whispertune.score.terms import load_terms
from whispertune.score.wer import Counts, Edit, UtteranceScore, align_all

SPACY: Final = "spacy:"
LISTED: Final = "listed"  # the kind of what stands in a file
_PIECE: Final = re.compile(rf"[{UNSPACED_SCRIPTS}]|[^\s{UNSPACED_SCRIPTS}]+")

_Owner = int | None  # of a word: which entity of its text, or none


@dataclass(frozen=True, slots=True)
class Entity:
    """Where in a text a name stands: text[start:end]."""

    start: int
    end: int
    kind: str


class Tagger(Protocol):
    """Finds entities; `name` says by whose reckoning they are such."""

    name: str

    def tag(self, texts: Sequence[str]) -> Sequence[Sequence[Entity]]:
        """The entities of each text, in any order."""
        ...


@dataclass(frozen=True, slots=True)
class KindScores:
    """The entities of one kind, by the tagger's names."""

    kind: str
    entities: int
    right: int  # all words of it hits, nothing inserted inside; normalised

    @property
    def recall(self) -> float:
        return 100.0 * self.right / max(1, self.entities)


@dataclass(frozen=True, slots=True)
class EntityScores:
    """A set; words of entities alone, and the others where they are left out."""

    tagger: str
    normalizer: str
    alone: Counts
    left_out: Counts
    alone_normalized: Counts
    left_out_normalized: Counts
    kinds: tuple[KindScores, ...]  # the most frequent first

    @property
    def entities(self) -> int:
        return sum(each.entities for each in self.kinds)

    @property
    def recall(self) -> float | None:
        """Entities without an error, in per cent; None where there are none."""
        return 100.0 * sum(each.right for each in self.kinds) / self.entities if self.entities else None

    def as_json(self) -> dict[str, Any]:
        """Rates in per cent; None where no word is on that side."""
        sides = ("alone", "left_out", "alone_normalized", "left_out_normalized")
        counts: dict[str, Counts] = {side: getattr(self, side) for side in sides}
        return {
            "tagger": self.tagger,
            "normalizer": self.normalizer,
            "entities": self.entities,
            "entities_recall": self.recall,
            **{f"wer_{side}": each.rate if each.reference_length else None for side, each in counts.items()},
            "kinds": [{"kind": k.kind, "entities": k.entities, "right": k.right} for k in self.kinds],
        }


def score_entities(
    utterances: Sequence[UtteranceScore], tagger: Tagger, normalizer: Normalizer | Sequence[Normalizer]
) -> EntityScores:
    """Count the errors in the entities of the references, and those in the other words.

    `normalizer` is one for all utterances, or one for each.

    Raises:
        DataError: the tagger gives entities that are not in the texts.
    """
    references = [each.reference for each in utterances]
    found = tagger.tag(references)
    _check(references, found, tagger.name)
    stretches = [list(_stretches(*each)) for each in zip(references, found, strict=True)]
    hypotheses = [each.hypothesis for each in utterances]
    normalizers = one_each(normalizer, len(utterances))
    raw = _Tally.of(stretches, hypotheses, [_Raw()] * len(utterances))
    normalized = _Tally.of(stretches, hypotheses, normalizers)
    return EntityScores(
        tagger=tagger.name,
        normalizer=label_of(normalizers),
        alone=raw.alone,
        left_out=raw.left_out,
        alone_normalized=normalized.alone,
        left_out_normalized=normalized.left_out,
        kinds=normalized.kinds,
    )


def _check(texts: Sequence[str], found: Sequence[Sequence[Entity]], name: str) -> None:
    if len(found) != len(texts):
        raise DataError(f"{len(texts)} texts, but entities of {len(found)}", where=name, fix="tag every text")
    for text, entities in zip(texts, found, strict=True):
        for each in entities:
            if not 0 <= each.start < each.end <= len(text):
                raise DataError(
                    f"an entity from {each.start} to {each.end} in a text of {len(text)} characters",
                    where=name,
                    fix="count characters, as Python does",
                )


# --- which word is of which entity -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A part of a text, of one entity or of none."""

    text: str
    kind: str | None


def _stretches(text: str, entities: Sequence[Entity]) -> Iterator[_Stretch]:
    """All of a text in order; entities cover whole words."""
    at = 0
    for entity in sorted(entities, key=lambda each: (each.start, -each.end)):
        start, end = _whole_words(text, entity.start, entity.end)
        start = max(start, at)
        if start < end:
            yield _Stretch(text[at:start], None)
            yield _Stretch(text[start:end], entity.kind)
            at = end
    yield _Stretch(text[at:], None)


def _whole_words(text: str, start: int, end: int) -> tuple[int, int]:
    while start > 0 and _hang_together(text[start - 1 : start + 1]):
        start -= 1
    while end < len(text) and _hang_together(text[end - 1 : end + 1]):
        end += 1
    return start, end


def _hang_together(pair: str) -> bool:
    """Whether two neighbouring characters are of one word."""
    return not any(each.isspace() or is_unspaced(each) for each in pair)


# --- what became of them ---------------------------------------------------------------------------------------------


class _Raw:
    """Texts as they are, by characters in scripts without spaces."""

    def __call__(self, text: str) -> str:
        return text

    def parted(self, text: str) -> str:
        return by_character(text)


@dataclass(frozen=True, slots=True)
class _Tally:
    alone: Counts
    left_out: Counts
    kinds: tuple[KindScores, ...]

    @classmethod
    def of(
        cls,
        texts: Sequence[Sequence[_Stretch]],
        hypotheses: Sequence[str],
        preparing: Sequence[_Raw | Normalizer],
    ) -> _Tally:
        words = [
            [prepare.parted(prepare(stretch.text)).split() for stretch in stretches]
            for prepare, stretches in zip(preparing, texts, strict=True)
        ]
        aligned = align_all(
            [" ".join(word for stretch in each for word in stretch) for each in words],
            [prepare.parted(prepare(text)) for prepare, text in zip(preparing, hypotheses, strict=True)],
        )
        alone, left_out = Counts(), Counts()
        entities: defaultdict[str, list[bool]] = defaultdict(list)  # kind -> whether it is right
        for stretches, parts, each in zip(texts, words, aligned, strict=True):
            owners: list[_Owner] = [
                None if stretches[place].kind is None else place for place, part in enumerate(parts) for _ in part
            ]
            mine, others, wrong = _count(each.edits, owners)
            alone, left_out = alone + mine, left_out + others
            for place in sorted({owner for owner in owners if owner is not None}):
                entities[str(stretches[place].kind)].append(place not in wrong)
        kinds = [KindScores(kind, len(right), sum(right)) for kind, right in entities.items()]
        return cls(alone, left_out, tuple(sorted(kinds, key=lambda each: (-each.entities, each.kind))))


def _count(edits: Sequence[Edit], owners: Sequence[_Owner]) -> tuple[Counts, Counts, set[_Owner]]:
    """Words of entities, other words, and which entities are wrong."""
    fates, inserted = _fates(edits)
    wrong: set[_Owner] = {owner for owner, fate in zip(owners, fates, strict=True) if owner is not None and fate != "="}
    of_entities = 0
    for place, count in enumerate(inserted):
        if not count:
            continue
        around = range(max(0, place - 1), min(place + 1, len(owners)))
        inside = len(around) == 2 and owners[place] is not None and owners[place - 1] == owners[place]
        if inside:
            wrong.add(owners[place])
        if inside or any(owners[n] is not None and fates[n] != "=" for n in around):
            of_entities += count
    alone = _counts(fates, [owner is not None for owner in owners], of_entities)
    left_out = _counts(fates, [owner is None for owner in owners], sum(inserted) - of_entities)
    return alone, left_out, wrong


def _fates(edits: Sequence[Edit]) -> tuple[list[str], list[int]]:
    """Of each reference word "=", "S" or "D", and how many words are inserted before each, and after the last."""
    fates: list[str] = []
    inserted = [0]
    for edit in edits:
        if edit.kind == "I":
            inserted[-1] += len(edit.hypothesis)
        fates += [edit.kind] * len(edit.reference)
        inserted += [0] * len(edit.reference)
    return fates, inserted


def _counts(fates: Sequence[str], kept: Sequence[bool], insertions: int) -> Counts:
    mine = [fate for fate, keep in zip(fates, kept, strict=True) if keep]
    return Counts(mine.count("="), mine.count("S"), mine.count("D"), insertions)


# --- taggers ---------------------------------------------------------------------------------------------------------


class EntityList:
    """Entities that are known beforehand, found as whole words without case and punctuation, longer ones first."""

    def __init__(self, names: Sequence[str], name: str) -> None:
        self.name = name
        self.known = {words for each in names if (words := tuple(token for token, *_ in _tokens(each)))}
        self.lengths = sorted({len(words) for words in self.known}, reverse=True)

    def tag(self, texts: Sequence[str]) -> list[list[Entity]]:
        return [self._tag(text) for text in texts]

    def _tag(self, text: str) -> list[Entity]:
        tokens = _tokens(text)
        found, free = [], [True] * len(tokens)
        for length in self.lengths:
            for first in range(len(tokens) - length + 1):
                part = slice(first, first + length)
                if all(free[part]) and tuple(token for token, *_ in tokens[part]) in self.known:
                    free[part] = [False] * length
                    found.append(Entity(tokens[part][0][1], tokens[part][-1][2], LISTED))
        return found


def _tokens(text: str) -> list[tuple[str, int, int]]:
    """Words as they are compared, and where they stand; characters in scripts without spaces."""
    return [(token, each.start(), each.end()) for each in _PIECE.finditer(text) for token in basic(each[0]).split()]


class SpacyTagger:
    """What a spaCy pipeline takes for entities, under its labels."""

    def __init__(self, pipeline: Any, name: str) -> None:
        self.pipeline, self.name = pipeline, name

    def tag(self, texts: Sequence[str]) -> list[list[Entity]]:
        return [
            [Entity(each.start_char, each.end_char, each.label_) for each in document.ents]
            for document in self.pipeline.pipe(texts)
        ]


def load_tagger(name: str) -> Tagger:
    """A tagger by name: `spacy:` and a pipeline, or a text file with an entity a line, comments after a #.

    Raises:
        InputError: spaCy is not installed or has no such pipeline, or the file cannot be read.
    """
    if not name.startswith(SPACY):
        return EntityList(load_terms(Path(name)), Path(name).name)
    try:
        import spacy
    except ImportError as error:
        raise InputError(
            "this tagger needs spaCy, which is not installed", where=name, fix='pip install "whispertune[entities]"'
        ) from error
    pipeline = name.removeprefix(SPACY)
    try:
        loaded = spacy.load(pipeline)
    except (OSError, ValueError, ImportError) as error:
        raise InputError(
            f"spaCy cannot load this pipeline ({error})", where=name, fix=f"python -m spacy download {pipeline}"
        ) from error
    return SpacyTagger(loaded, f"{SPACY}{loaded.meta['lang']}_{loaded.meta['name']} {loaded.meta['version']}")
