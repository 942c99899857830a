"""Word errors that are left when a difference of a space alone counts as none.

    merged_errors(["an", "ice", "cream"], ["an", "icecream"], 2)  # 0

The rule is the one by which the Open ASR Leaderboard counts (kaldialign's `merge_compounds`, as of 2026): two or
more neighbouring words of one text which, written together, are a single word of the other are correct, in either
direction, and of all ways to align the two texts the one with the fewest errors counts. Nothing else is forgiven:
two words against two others ("ice creamcone", "icecream cone") stay errors. The length to divide by stays that of
the reference as it is. The leaderboard counts so on text that its own normalizer has been over, and in languages
other than English it first joins what differs in spaces only, on both sides, which also shortens the reference:
this is not done here.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Sequence

import numpy as np


def merged_errors(reference: Sequence[str], hypothesis: Sequence[str], unmerged: int) -> int:
    """The fewest errors between two texts when words written together or apart are no error.

    `unmerged` is their number of errors without that: the answer where there is nothing to merge.
    """
    by_end: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)
    for end, count, word in _joins(reference, hypothesis):
        by_end[end].append((count, word))
    by_word: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for end, count, word in _joins(hypothesis, reference):
        by_word[word].append((end, count))
    if not by_end and not by_word:
        return unmerged
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, word in enumerate(hypothesis, 1):
        places[word].append(place)
    numbers = {word: number for number, word in enumerate(places)}
    heard = np.array([numbers[word] for word in hypothesis])  # (hypothesis words,)
    steps = np.arange(len(hypothesis) + 1)
    most = max((count for joins in by_end.values() for count, _ in joins), default=1)
    # A row holds the fewest errors of so many reference words and so many heard: (hypothesis words + 1,).
    rows = deque([steps], maxlen=most)
    for end, word in enumerate(reference, 1):
        above = rows[-1]
        row = above + 1
        np.minimum(row[1:], above[:-1] + (heard != numbers.get(word, -1)), out=row[1:])
        for count, joined in by_end.get(end, ()):
            for place in places[joined]:
                row[place] = min(row[place], rows[-count][place - 1])
        for place, count in by_word.get(word, ()):
            row[place] = min(row[place], above[place - count])
        rows.append(np.minimum.accumulate(row - steps) + steps)  # insertions
    return int(rows[-1][-1])


def _joins(words: Sequence[str], others: Collection[str]) -> list[tuple[int, int, str]]:
    """Runs of words that are one of the others when written together: where it ends, how many, the word."""
    wanted, longest = set(others), max(map(len, others), default=0)
    found = []
    for end in range(2, len(words) + 1):
        joined = words[end - 1]
        for start in range(end - 2, -1, -1):
            joined = words[start] + joined
            if len(joined) > longest:
                break
            if joined in wanted:
                found.append((end, end - start, joined))
    return found
