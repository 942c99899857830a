"""What is confused with what: words and characters most often wrong, most often left out, most often made up.

    found = confusions(utterances, normalizer=normalizer_for("sv"))     # or one for each utterance
    found.pairs[0]  # Confusion("bron", "broen", 14, 31, ("a:3", "a:9", "b:1")): 14 of the 31 times it was said
    found.deleted[0].reference, found.inserted[0].heard, found.characters[0]

Raw words as they were aligned, or what a normalizer leaves of them: without one, case and punctuation are
confusions as all others. Where errors follow each other, several alignments have equally few: the one counts whose
pairs look most alike, so that of "en gamla", heard as "gamle", "en" was left out. In scripts without spaces a
normalizer makes every character a word. Characters are those inside of words heard as others, aligned with these;
a combining mark is a character of its own. A loop counts as often as it turns: leave utterances with one (see
hallucination.py) out first, where there are any.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from typing import Final

import numpy as np

from whispertune.score.normalize import Normalizer, one_each
from whispertune.score.wer import Edit, UtteranceScore, align_all

EXAMPLES: Final = 3

_Pair = tuple[str, str]  # reference and heard, "" for nothing
_Where = Mapping[_Pair, Sequence[str]]  # pair -> the id of the utterance, for every time


@dataclass(frozen=True, slots=True)
class Confusion:
    """One word (or character) and what was heard in its place."""

    reference: str  # "" where it was inserted
    heard: str  # "" where it was deleted
    count: int
    occurrences: int  # of what the reference has, in all references; 0 where it was inserted
    examples: tuple[str, ...]  # ids of the first utterances with it


@dataclass(frozen=True, slots=True)
class Confusions:
    """Each most often first."""

    pairs: tuple[Confusion, ...]
    deleted: tuple[Confusion, ...]
    inserted: tuple[Confusion, ...]
    characters: tuple[Confusion, ...]  # substituted, deleted and inserted inside of words


def confusions(
    utterances: Sequence[UtteranceScore],
    *,
    normalizer: Normalizer | Sequence[Normalizer] | None = None,
    most: int = 20,
) -> Confusions:
    """The errors of a set, counted; at most `most` of each kind."""
    edits = _alignments(utterances, normalizer)
    said = Counter(word for each in edits for edit in each for word in edit.reference)
    letters: Counter[str] = Counter()
    for word, count in said.items():
        for letter in word:
            letters[letter] += count
    words = _collect(zip((each.id for each in utterances), edits, strict=True))
    both, deleted, inserted = (
        {pair: ids for pair, ids in words.items() if (bool(pair[0]), bool(pair[1])) == sides}
        for sides in ((True, True), (True, False), (False, True))
    )
    return Confusions(
        pairs=_most_often(both, said, most),
        deleted=_most_often(deleted, said, most),
        inserted=_most_often(inserted, said, most),
        characters=_most_often(_inside(both), letters, most),
    )


def _alignments(
    utterances: Sequence[UtteranceScore], normalizer: Normalizer | Sequence[Normalizer] | None
) -> list[Sequence[Edit]]:
    if normalizer is None or not utterances:
        return [each.alignment for each in utterances]
    normalizers = one_each(normalizer, len(utterances))
    references, hypotheses = (
        [each.parted(each(text)) for each, text in zip(normalizers, texts, strict=True)]
        for texts in ([each.reference for each in utterances], [each.hypothesis for each in utterances])
    )
    return [each.edits for each in align_all(references, hypotheses)]


def _collect(aligned: Iterable[tuple[str, Sequence[Edit]]]) -> _Where:
    """All errors of (id, alignment)."""
    found: defaultdict[_Pair, list[str]] = defaultdict(list)
    for name, edits in aligned:
        for is_hit, stretch in groupby(edits, key=lambda edit: edit.kind == "="):
            if is_hit:
                continue
            errors = list(stretch)
            said = [word for edit in errors for word in edit.reference]
            heard = [word for edit in errors for word in edit.hypothesis]
            for pair in _alike(said, heard):
                found[pair].append(name)
    return found


def _alike(said: Sequence[str], heard: Sequence[str]) -> list[_Pair]:
    """As many pairs as there can be, in order and as alike as can be; what is left over stands beside nothing."""
    if len(said) == len(heard) or not said or not heard:
        return list(zip_longest(said, heard, fillvalue=""))
    if len(said) < len(heard):
        return [(reference, word) for word, reference in _alike(heard, said)]
    from rapidfuzz.fuzz import ratio
    from rapidfuzz.process import cdist

    likeness = cdist(said, heard, scorer=ratio)  # (said, heard)
    spare = len(said) - len(heard)  # words with no pair: word i is paired with i - spare to i
    best = np.zeros((len(said) + 1, len(heard) + 1))  # the sum from here to the end
    for i in reversed(range(len(said))):
        for j in range(max(0, i - spare), min(i + 1, len(heard))):
            left_out = best[i + 1, j] if i - j < spare else -1.0
            best[i, j] = max(likeness[i, j] + best[i + 1, j + 1], left_out)
    pairs, j = [], 0
    for i, word in enumerate(said):
        if j < len(heard) and best[i, j] == likeness[i, j] + best[i + 1, j + 1]:
            pairs.append((word, heard[j]))
            j += 1
        else:
            pairs.append((word, ""))
    return pairs


def _inside(swapped: _Where) -> _Where:
    """The characters that are wrong inside of words heard as others."""
    if not swapped:
        return {}
    references, hypotheses = zip(*swapped, strict=True)
    aligned = align_all(references, hypotheses, characters=True)
    return _collect((name, each.edits) for each, names in zip(aligned, swapped.values(), strict=True) for name in names)


def _most_often(found: _Where, said: Mapping[str, int], most: int) -> tuple[Confusion, ...]:
    first = sorted(found.items(), key=lambda each: (-len(each[1]), each[0]))[:most]
    return tuple(
        Confusion(reference, heard, len(ids), said.get(reference, 0), tuple(dict.fromkeys(ids))[:EXAMPLES])
        for (reference, heard), ids in first
    )
