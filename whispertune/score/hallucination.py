"""Signs that a text was made up rather than heard: loops, bursts, another script, the length limit, text on silence.

    signs = signs_of(utterance, duration_s=3.2, limit=LengthLimit(220, count_tokens, "tokens"))
    signs[0]  # Sign("repeated", "'thank you' 31 times in a row")
    counts = count_hallucinations(utterances, durations_s=durations_s)
    counts.loops, counts.loop_rate, counts.flagged[0].id

A sign is a reason to look, no proof. What the reference does too is none: a song's chorus that was sung is heard,
and only a text that repeats itself far more than its reference is a loop. Where the reference is empty there is
nothing to weigh against, and any letter or digit is text on silence.

Texts are compared without case and punctuation; in scripts without spaces a character stands for a word. What is
not seen: another language in the same script, which takes a model that knows languages, and a loop inside one word
("aaaa") before the text is long enough for its compression to tell.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from whispertune.errors import DataError
from whispertune.languages import is_unspaced
from whispertune.score.normalize import basic, raw_text
from whispertune.score.normalizers.scripts import by_character
from whispertune.score.wer import Edit, UtteranceScore, align_all

COMPRESSION_RATIO: Final = 2.4  # above it OpenAI's decoder takes a text for a loop
COMPRESSION_FROM: Final = 80  # characters; "ha ha ha" for half a line is compressible too
OVER_REFERENCE: Final = 1.5  # times the ratio of the reference, which a loop must exceed

WORD_REPEATS: Final = 8  # times in a row: "no no no no" is said
PHRASE_REPEATS: Final = 4  # times in a row, of two words or more
PHRASE_CHARACTERS: Final = 5  # what is a phrase in scripts without spaces
LONGEST_PHRASE: Final = 30  # words
REPEATS_OVER_REFERENCE: Final = 2  # times as often as the reference repeats anything of that length

BURST_WORDS: Final = 5  # inserted in a row
BURST_CHARACTERS: Final = 15  # the same in scripts without spaces
WORDS_OVER_REFERENCE: Final = 2  # times as many words as the reference, and a burst more
WORDS_PER_S: Final = 8  # the fastest speakers in any language stay below
LETTERS_PER_S: Final = 40  # digits among them
MARGIN_S: Final = 0.5  # of a cue that is cut too short

SCRIPT_FROM: Final = 4  # letters on both sides
SCRIPT_IN_REFERENCE: Final = 0.2  # a script with that share of the reference's letters is mixed in, not another

Kind = Literal[
    "compressible", "repeated", "burst", "too many words", "too fast", "other script", "length limit", "on silence"
]
_LOOPS: Final[frozenset[Kind]] = frozenset({"compressible", "repeated"})
_BURSTS: Final[frozenset[Kind]] = frozenset({"burst", "too many words", "too fast"})

_EAST_ASIAN: Final = "CHINESE AND JAPANESE"  # one text mixes ideographs and kana
_SCRIPTS: Final = dict.fromkeys(("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "IDEOGRAPHIC"), _EAST_ASIAN)
_NO_SCRIPT: Final = frozenset({"", "MODIFIER"})


@dataclass(frozen=True, slots=True)
class Sign:
    """One reason to doubt a text, and what shows it."""

    kind: Kind
    evidence: str


@dataclass(frozen=True, slots=True)
class LengthLimit:
    """Where decoding stops by force: at `most` of what `count` counts in a text."""

    most: int
    count: Callable[[str], int] = len
    unit: str = "characters"


@dataclass(frozen=True, slots=True)
class Flagged:
    """An utterance with signs."""

    id: str
    signs: tuple[Sign, ...]


@dataclass(frozen=True, slots=True)
class HallucinationCounts:
    """Utterances of a set with each sign; one with several counts under each. Rates are per cent of the rows."""

    rows: int
    empty_references: int
    loops: int
    bursts: int
    other_script: int
    at_limit: int | None  # None where no limit was given
    on_silence: int  # of the empty references
    flagged: tuple[Flagged, ...]  # in the order of the set

    @property
    def rate(self) -> float:
        """Utterances with any sign."""
        return self._per_cent(len(self.flagged))

    @property
    def loop_rate(self) -> float:
        return self._per_cent(self.loops)

    @property
    def burst_rate(self) -> float:
        return self._per_cent(self.bursts)

    @property
    def script_rate(self) -> float:
        return self._per_cent(self.other_script)

    @property
    def limit_rate(self) -> float | None:
        return None if self.at_limit is None else self._per_cent(self.at_limit)

    @property
    def silence_rate(self) -> float | None:
        """Of the empty references; None where there are none."""
        return 100.0 * self.on_silence / self.empty_references if self.empty_references else None

    def _per_cent(self, number: int) -> float:
        return 100.0 * number / max(1, self.rows)


def count_hallucinations(
    utterances: Sequence[UtteranceScore],
    *,
    durations_s: Sequence[float | None] | None = None,
    limit: LengthLimit | None = None,
) -> HallucinationCounts:
    """The signs of every utterance, counted.

    Raises:
        DataError: not one duration for every utterance.
    """
    durations_s = [None] * len(utterances) if durations_s is None else durations_s
    if len(durations_s) != len(utterances):
        raise DataError(
            f"{len(utterances)} utterances, but {len(durations_s)} durations",
            fix="give one duration for every utterance, or None where it is not known",
        )
    flagged = tuple(
        Flagged(utterance.id, signs)
        for utterance, duration_s in zip(utterances, durations_s, strict=True)
        if (signs := signs_of(utterance, duration_s=duration_s, limit=limit))
    )
    kinds = [{sign.kind for sign in each.signs} for each in flagged]
    return HallucinationCounts(
        rows=len(utterances),
        empty_references=sum(not raw_text(utterance.reference) for utterance in utterances),
        loops=sum(bool(each & _LOOPS) for each in kinds),
        bursts=sum(bool(each & _BURSTS) for each in kinds),
        other_script=sum("other script" in each for each in kinds),
        at_limit=sum("length limit" in each for each in kinds) if limit else None,
        on_silence=sum("on silence" in each for each in kinds),
        flagged=flagged,
    )


def signs_of(
    utterance: UtteranceScore, *, duration_s: float | None = None, limit: LengthLimit | None = None
) -> tuple[Sign, ...]:
    """All signs of one utterance, at most one of a kind."""
    reference, hypothesis = raw_text(utterance.reference), raw_text(utterance.hypothesis)
    found = [_compressible(reference, hypothesis), _repeated(reference, hypothesis)]
    if reference:
        found += [
            _burst(utterance, reference, hypothesis),
            _too_many_words(reference, hypothesis),
            _other_script(reference, hypothesis),
        ]
    elif any(map(str.isalnum, hypothesis)):
        found.append(Sign("on silence", _quoted(hypothesis)))
    if duration_s is not None:
        found.append(_too_fast(reference, hypothesis, duration_s))
    if limit is not None and (length := limit.count(hypothesis)) >= limit.most:
        found.append(Sign("length limit", f"{length} {limit.unit}, the limit is {limit.most}"))
    return tuple(sign for sign in found if sign)


def compression_ratio(text: str) -> float:
    """Characters / bytes that zlib makes of them, each written as one byte.

    The figure of OpenAI's decoder for plain Latin letters. It takes UTF-8, in which the letters of Thai or Hindi
    are three bytes each, two of them always the same: there, ordinary sentences come near its threshold or over.
    """
    codes = {character: number for number, character in enumerate(dict.fromkeys(text))}
    return len(text) / len(zlib.compress(bytes(codes[character] % 256 for character in text)))


def longest_runs(tokens: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...], int]]:
    """Of each length the phrase that most often follows itself: (length, phrase, times in a row)."""
    for length in range(1, min(LONGEST_PHRASE, len(tokens)) + 1):
        best, end, same = 0, length, 0
        for place in range(length, len(tokens)):
            same = same + 1 if tokens[place] == tokens[place - length] else 0
            if same > best:
                best, end = same, place + 1
        yield length, tuple(tokens[end - length : end]), best // length + 1


def script_of(text: str) -> str | None:
    """The script that more than half of the letters are of, as Unicode names it; None without such a half."""
    letters = _letters_by_script(text)
    script, count = max(letters.items(), key=lambda each: each[1], default=("", 0))
    return script if 2 * count > letters.total() else None


def _compressible(reference: str, hypothesis: str) -> Sign | None:
    if len(hypothesis) < COMPRESSION_FROM:
        return None
    ratio, usual = compression_ratio(hypothesis), compression_ratio(reference)
    if ratio <= max(COMPRESSION_RATIO, OVER_REFERENCE * usual):
        return None
    return Sign("compressible", f"compression ratio {ratio:.1f}, of the reference {usual:.1f}")


def _repeated(reference: str, hypothesis: str) -> Sign | None:
    said = {length: times for length, _, times in longest_runs(_tokens(reference))}
    for length, phrase, times in longest_runs(_tokens(hypothesis)):
        is_phrase = length >= (PHRASE_CHARACTERS if is_unspaced(phrase[0]) else 2)
        least = PHRASE_REPEATS if is_phrase else WORD_REPEATS
        if times >= least and times > REPEATS_OVER_REFERENCE * said.get(length, 0):
            return Sign("repeated", f"{_quoted(_written(phrase))} {times} times in a row")
    return None


def _burst(utterance: UtteranceScore, reference: str, hypothesis: str) -> Sign | None:
    runs = [edit.hypothesis for edit in _edits(utterance, reference, hypothesis) if edit.kind == "I"]
    run = max(runs, key=len, default=())
    if not run or len(run) < (BURST_CHARACTERS if is_unspaced(run[0]) else BURST_WORDS):
        return None
    return Sign("burst", f"{len(run)} in a row that were not said: {_quoted(_written(run))}")


def _edits(utterance: UtteranceScore, reference: str, hypothesis: str) -> Sequence[Edit]:
    """The alignment of words, and of characters in scripts without spaces."""
    parted = by_character(reference), by_character(hypothesis)
    if parted == (reference, hypothesis):
        return utterance.alignment
    return align_all([parted[0]], [parted[1]])[0].edits


def _too_many_words(reference: str, hypothesis: str) -> Sign | None:
    said, written = _tokens(reference), _tokens(hypothesis)
    margin = BURST_CHARACTERS if written and is_unspaced(written[0]) else BURST_WORDS
    if not said or len(written) <= WORDS_OVER_REFERENCE * len(said) + margin:
        return None
    return Sign("too many words", f"{len(written)}, where the reference has {len(said)}")


def _too_fast(reference: str, hypothesis: str, duration_s: float) -> Sign | None:
    words, letters = len(basic(hypothesis).split()), sum(map(str.isalnum, hypothesis))
    needed_s = max(words / WORDS_PER_S, letters / LETTERS_PER_S)
    if needed_s <= duration_s + MARGIN_S or letters <= sum(map(str.isalnum, reference)):
        return None
    return Sign("too fast", f"{words} words, {letters} letters in {duration_s:.1f} s")


def _other_script(reference: str, hypothesis: str) -> Sign | None:
    letters = _letters_by_script(reference)
    said, written = script_of(reference), script_of(hypothesis)
    if not said or not written or min(letters.total(), _letters_by_script(hypothesis).total()) < SCRIPT_FROM:
        return None
    if letters[written] >= SCRIPT_IN_REFERENCE * letters.total():
        return None
    return Sign("other script", f"{written.lower()} instead of {said.lower()}: {_quoted(hypothesis)}")


def _letters_by_script(text: str) -> Counter[str]:
    letters = filter(str.isalpha, unicodedata.normalize("NFKC", text))
    names = Counter(unicodedata.name(letter, "").partition(" ")[0] for letter in letters)
    scripts: Counter[str] = Counter()
    for name, count in names.items():
        if name not in _NO_SCRIPT:
            scripts[_SCRIPTS.get(name, name)] += count
    return scripts


def _tokens(text: str) -> list[str]:
    return by_character(basic(text)).split()


def _written(tokens: Sequence[str]) -> str:
    return ("" if is_unspaced(tokens[0]) else " ").join(tokens)


def _quoted(text: str, most: int = 60) -> str:
    return repr(text if len(text) <= most else text[: most - 1] + "…")
