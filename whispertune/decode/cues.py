"""Cues as people read them: one sentence each, not too long, on balanced lines.

    cues = by_sentence(transcript.cues)  # decoded with word times
    print(wrap(cues[0].text, max_line_characters=42, max_lines=2))

Whisper's own cues begin and end where its timestamps happen to fall. Here all words are taken in order and
cut anew: at the end of a sentence, at a pause, where the speaker changes, and inside what is still too long.
Words are joined as they are, so each carries its own leading space, as Whisper's do.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Final

from whispertune.data.captions import Cue, Word
from whispertune.errors import DataError
from whispertune.languages import is_unspaced

MAX_LINES: Final = 2
PAUSE_S: Final = 1.0  # a longer silence ends a cue
_CLAUSE_PAUSE_S: Final = 0.2  # a longer silence is as good a place to cut as a comma

_SENTENCE_ENDS: Final = ".!?…。！？؟।॥။។።"
_CLAUSE_ENDS: Final = ",;:،؛、，；：—"
_CLOSERS: Final = "\"'”’»›)]}」』）】"
_ABBREVIATIONS: Final = frozenset(
    {"mr.", "mrs.", "ms.", "dr.", "prof.", "st.", "vs.", "cf.", "ca.", "approx.", "fig.", "bzw.", "mme."}
)
_INITIALS: Final = re.compile(r"(?:[^\W\d_]\.)+")  # J. or e.g. or U.S.

_SMALL_KANA: Final = "ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶ"
_FOLLOWING_VOWELS: Final = "ะาำๅະາຳ"  # Thai and Lao vowels written after their consonant
_LEADING_VOWELS: Final = "เแโใไເແໂໃໄ"  # and before it
_STACKERS: Final = "\u1039\u17d2"  # Burmese and Khmer: the next consonant stands below


@dataclass(frozen=True, slots=True)
class _Limits:
    duration_s: float
    line_characters: int
    lines: int

    def pieces(self, words: Sequence[Word]) -> int:
        """How many cues the words need at the least."""
        text = _text(words)
        needed = max(
            (words[-1].end_s - words[0].start_s) / self.duration_s,
            len(text) / (self.line_characters * self.lines),
            len(_fill(_chunks(text), self.line_characters)) / self.lines,
        )
        return max(1, math.ceil(needed - 1e-9))  # 10.1 s - 3.1 s is 7.0 s


def by_sentence(
    cues: Sequence[Cue], *, max_duration_s: float = 7.0, max_line_characters: int = 42, max_lines: int = MAX_LINES
) -> tuple[Cue, ...]:
    """Regroup decoded cues into sentences that fit the screen; every word stands in one cue, in order.

    A cue keeps both limits, and `wrap` puts it on lines that do, except for a single word that is longer.
    """
    cues = _with_words(cues)
    limits = _Limits(max_duration_s, max_line_characters, max_lines)
    groups = [
        (group, speaker)
        for sentence, speaker in _sentences(cues)
        for group in _within_limits(sentence, limits)
        if _text(group)
    ]
    return _without_overlap(groups)


def _with_words(cues: Sequence[Cue]) -> list[Cue]:
    """The cues, each with words; a text without is a word, and punctuation alone goes to the word before it."""
    silent = [cue for cue in cues if not cue.words and not _is_punctuation(cue.text)]
    if silent and not any(cue.words for cue in cues):
        raise DataError(
            f"the cue {silent[0].text.strip()!r} at {silent[0].start_s:.2f} s has no words with times",
            fix="transcribe with word timestamps",
        )
    found: list[Cue] = []
    waiting: list[Cue] = []  # without words, after the last that has some
    for cue in cues:
        text = cue.text.strip()
        if cue.words:
            _add_silent(found, waiting)
            found.append(cue)
            waiting = []
        elif text and (waiting or not _is_punctuation(text)):
            waiting.append(replace(cue, text=text))
        elif found and not found[-1].words[-1].text.endswith(text):  # decoders may have put it there already
            *others, last = found[-1].words
            found[-1] = replace(found[-1], words=(*others, replace(last, text=last.text + text)))
    _add_silent(found, waiting)
    return found


def _is_punctuation(text: str) -> bool:
    return all(unicodedata.category(character)[0] in "PSZ" for character in text.strip())


def _add_silent(found: list[Cue], waiting: Sequence[Cue]) -> None:
    """Add cues without words, each as a word of its own; what the last word so far holds of it is cut off there.

    faster-whisper cuts at spaces, and gives a cue the whole of the word that ends in it. Khmer has hardly any, so one
    word may hold several cues, and the later ones have none. What stands in whole words before is not said again.
    """
    if not waiting:
        return
    said = "".join(word.text for cue in found for word in cue.words).rstrip()
    added: list[Cue] = []
    for cue in reversed(waiting):
        text = cue.text
        if said.endswith(text):
            *others, last = found[-1].words
            head = last.text.removesuffix(text)
            if head == last.text or not head.strip() or not said.endswith(last.text):
                said = said.removesuffix(text).rstrip()
                continue
            found[-1] = replace(found[-1], words=(*others, replace(last, text=head)))
            said = said.removesuffix(text)
        elif not (is_unspaced(text[0]) or _is_punctuation(text)):
            text = f" {text}"
        added.append(replace(cue, words=(Word(cue.start_s, cue.end_s, text),)))
    found += reversed(added)


def wrap(text: str, max_line_characters: int, max_lines: int) -> str:
    """The text on as few lines as it needs, of about equal length, with newlines between them.

    Text that does not fit `max_lines` makes the lines longer; none is lost.
    """
    chunks = _chunks(text)
    if not chunks:
        return ""
    lines = min(len(_fill(chunks, max_line_characters)), max_lines)
    narrow, wide = 1, sum(map(len, chunks))
    while narrow < wide:  # the narrowest width that needs no more lines gives the most even ones
        width = (narrow + wide) // 2
        if len(_fill(chunks, width)) <= lines:
            wide = width
        else:
            narrow = width + 1
    return "\n".join(_fill(chunks, narrow))


def _text(words: Sequence[Word]) -> str:
    return "".join(word.text for word in words).strip()


def _sentences(cues: Sequence[Cue]) -> Iterator[tuple[list[Word], str | None]]:
    """Words with their speaker, cut where a sentence, a turn or the speech itself ends."""
    spoken = [(word, cue.speaker) for cue in cues for word in cue.words]
    words = [word for word, _ in spoken]
    first = 0
    for index, (_, speaker) in enumerate(spoken):
        last = index + 1 == len(spoken)
        if last or speaker != spoken[index + 1][1] or _ends_here(words, first, index):
            yield words[first : index + 1], speaker
            first = index + 1


def _ends_here(words: Sequence[Word], first: int, index: int) -> bool:
    """Whether the group that began at `first` ends with the word at `index`."""
    word, following = words[index], words[index + 1]
    if not following.text.strip():  # blanks end a group, they do not begin one
        return False
    if following.start_s - word.end_s > PAUSE_S:
        return True
    if _is_attached_punctuation(following):
        return False
    # A sentence end, its closing quotes and its abbreviation may be words of their own: look some words back.
    return _ends_sentence(_text(words[max(first, index - 4) : index + 1]), following.text)


def _ends_sentence(text: str, following: str) -> bool:
    bare = text.rstrip(_CLOSERS)
    if not bare or bare[-1] not in _SENTENCE_ENDS:
        return False
    if bare[-1] != ".":
        return True
    if following[0].isascii() and following[0].isalnum():  # 3 . 5 or example .com, no space between
        return False
    token = bare.split()[-1].lstrip("\"'“‘«([")
    return token.lower() not in _ABBREVIATIONS and not _INITIALS.fullmatch(token)


def _is_attached_punctuation(word: Word) -> bool:
    """Whether the word is only punctuation that belongs to the word before it."""
    return not word.text[:1].isspace() and all(
        character in _SENTENCE_ENDS + _CLAUSE_ENDS + _CLOSERS for character in word.text.strip()
    )


def _within_limits(words: list[Word], limits: _Limits) -> Iterator[list[Word]]:
    pieces = limits.pieces(words)
    if pieces == 1 or len(words) == 1:
        yield words
        return
    cut = _best_cut(words, pieces)
    yield from _within_limits(words[:cut], limits)
    yield from _within_limits(words[cut:], limits)


def _best_cut(words: Sequence[Word], pieces: int) -> int:
    """Where to cut words that need so many cues: at a comma or a pause near the middle, else at the middle.

    "Near" is measured in characters, and "the middle" leaves half of the cues needed on either side.
    """
    characters = len(_text(words))
    target = characters * (pieces // 2) / pieces
    ends = accumulate(len(word.text) for word in words[:-1])
    distance = {cut: abs(end - target) for cut, end in enumerate(ends, 1)}
    cuts = [cut for cut in distance if _may_part(words[cut - 1], words[cut])] or list(distance)
    near = [cut for cut in cuts if distance[cut] <= 0.4 * characters / pieces]
    commas = [cut for cut in near if _ends_clause(words[cut - 1].text)]
    if commas:
        return min(commas, key=distance.__getitem__)
    pauses = {cut: words[cut].start_s - words[cut - 1].end_s for cut in near}
    longest = max(pauses, key=pauses.__getitem__, default=0)
    if longest and pauses[longest] > _CLAUSE_PAUSE_S:
        return longest
    return min(cuts, key=distance.__getitem__)


def _ends_clause(text: str) -> bool:
    return text.rstrip().rstrip(_CLOSERS).endswith(tuple(_CLAUSE_ENDS))


def _may_part(word: Word, following: Word) -> bool:
    if not word.text.strip() or not following.text.strip():
        return False
    left, right = word.text[-1], following.text[0]
    return left.isspace() or right.isspace() or _may_cut(left, right)


def _without_overlap(groups: Sequence[tuple[Sequence[Word], str | None]]) -> tuple[Cue, ...]:
    """Cues with the times of their words; where those of two cues overlap, the earlier one ends sooner."""
    cues: list[Cue] = []
    free_s = -math.inf  # nothing is on the screen from here on
    for index, (words, speaker) in enumerate(groups):
        start_s = max(words[0].start_s, free_s)
        end_s = max(words[-1].end_s, start_s)
        if index + 1 < len(groups):
            end_s = min(end_s, max(start_s, groups[index + 1][0][0].start_s))
        cues.append(Cue(start_s, end_s, _text(words), words=tuple(words), speaker=speaker))
        free_s = end_s
    return tuple(cues)


def _chunks(text: str) -> list[str]:
    """The parts of a text between which a line may end; a part that follows a space begins with it."""
    text = " ".join(text.split())
    cuts = [0]
    for index, (left, right) in enumerate(pairwise(text), 1):
        if right == " " or _may_cut(left, right):
            cuts.append(index)
    return [text[start:end] for start, end in pairwise([*cuts, len(text)])] if text else []


def _may_cut(left: str, right: str) -> bool:
    """Whether a line may end between two characters of which one is of a script without spaces."""
    if not (is_unspaced(left) or is_unspaced(right)):
        return False
    if left.isspace() or left in _LEADING_VOWELS + _STACKERS or unicodedata.category(left) in ("Ps", "Pi"):
        return False
    category = unicodedata.category(right)
    if right in _SMALL_KANA + _FOLLOWING_VOWELS or category == "Lm" or category[0] == "M":
        return False
    return category[0] != "P" or category in ("Ps", "Pi")


def _fill(chunks: Sequence[str], width: int) -> list[str]:
    """Lines of at most `width` characters, each as full as it can be; a longer chunk has its own line."""
    lines: list[str] = []
    for chunk in chunks:
        if lines and len(lines[-1]) + len(chunk) <= width:
            lines[-1] += chunk
        else:
            lines.append(chunk.lstrip())
    return lines
