from __future__ import annotations

import random
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whispertune.score.compounds import merged_errors
from whispertune.score.wer import align_words

# Words that are made of one another, so that many runs can be merged.
WORDS = st.lists(st.sampled_from(["a", "b", "ab", "ba", "aa", "aab", "c", "abc", "ö", "öb"]), max_size=7)


def plain_errors(reference: list[str], hypothesis: list[str]) -> int:
    return align_words(" ".join(reference), " ".join(hypothesis)).counts.errors


def errors(reference: str, hypothesis: str) -> int:
    words = reference.split(), hypothesis.split()
    return merged_errors(*words, plain_errors(*words))


def by_definition(reference: tuple[str, ...], hypothesis: tuple[str, ...]) -> int:
    """Every way to align, merged runs among the steps."""

    @cache
    def fewest(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        ways = [fewest(i - 1, j) + 1, fewest(i, j - 1) + 1]
        ways.append(fewest(i - 1, j - 1) + (reference[i - 1] != hypothesis[j - 1]))
        ways += [fewest(i - k, j - 1) for k in range(2, i + 1) if "".join(reference[i - k : i]) == hypothesis[j - 1]]
        ways += [fewest(i - 1, j - k) for k in range(2, j + 1) if "".join(hypothesis[j - k : j]) == reference[i - 1]]
        return min(ways)

    return fewest(len(reference), len(hypothesis))


@settings(deadline=None, max_examples=500)
@given(WORDS, WORDS)
def test_fewest_errors_of_all_alignments(reference: list[str], hypothesis: list[str]) -> None:
    plain = plain_errors(reference, hypothesis)
    merged = merged_errors(reference, hypothesis, plain)
    assert merged == by_definition(tuple(reference), tuple(hypothesis)) <= plain
    assert merged == merged_errors(hypothesis, reference, plain)  # either direction


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("the white paper is good", "the whitepaper is good", 0),
        ("en järnvägsstation", "en järn vägs station", 0),
        ("a white paper is here", "a whitepaper was here", 1),
        ("ice creamcone", "icecream cone", 2),  # two against two: as the leaderboard counts
        ("ice cream", "icecreams", 2),
        ("cream ice", "icecream", 2),
        ("a b", "a b", 0),
        ("", "ab", 1),
        ("a b", "", 2),
        ("", "", 0),
        ("你好 世界", "你好世界", 0),
    ],
)
def test_examples(reference: str, hypothesis: str, expected: int) -> None:
    assert errors(reference, hypothesis) == expected


def test_a_whole_lecture() -> None:
    generator = random.Random(0)
    reference = [f"w{generator.randrange(3000)}" for _ in range(3000)]
    hypothesis: list[str] = []
    joined = 0
    for n, word in enumerate(reference):
        if n % 10 == 7:
            hypothesis[-1] += word
            joined += 1
        else:
            hypothesis.append(word)
    assert plain_errors(reference, hypothesis) == 2 * joined
    assert merged_errors(reference, hypothesis, 2 * joined) == 0
