"""How texts are written: a policy of the recipe, applied to each, and every change counted.

    policy = TextPolicy(markup="strip", case="lower", punctuation="strip", replace=(("&", "and"),))
    rewrite("[laughs] Rock & roll, 3.5 times!", "en", policy)    # "rock and roll 3.5 times"
    texts, notes = rewrite_all(table, policy)                     # notes: ("case lowered in 512 rows", ...)

Unicode NFC always; what a policy keeps stays as it is. In this order: NFC, replacements, markup, case, punctuation.
Combining marks are never taken out: they are vowels in Indic scripts and tones in many African languages.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

from whispertune.data.segments import written_in
from whispertune.data.table import SegmentTable, strings

if TYPE_CHECKING:
    import pyarrow as pa

_SLICE_ROWS = 50_000  # at a time as Python strings
_NOISE_WORDS = 3  # in round brackets or between asterisks; longer ones may well be spoken
_DOTLESS_LANGUAGES: Final = ("tr", "az")  # I is the capital of ı, İ that of i


@dataclass(frozen=True, slots=True)
class TextPolicy:
    """What the recipe says of texts."""

    markup: str  # keep, strip, drop (rows that hold any; texts stay as they are)
    case: str  # keep, lower
    punctuation: str  # keep, strip
    replace: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One change that a policy makes, and how a note tells it."""

    told: str
    change: Callable[[str, str], str]  # (text, language; "" where the text is not in it) -> text


def rewrite(text: str, language: str, policy: TextPolicy) -> str:
    """The text as the policy wants it."""
    for step in steps_of(policy):
        text = step.change(text, language)
    return text


def rewrite_all(table: SegmentTable, policy: TextPolicy) -> tuple[pa.Array, tuple[str, ...]]:
    """All texts as the policy wants them, and a note for each kind of change that was made."""
    import pyarrow as pa

    counts = dict.fromkeys(steps_of(policy), 0)
    languages = written_languages(table)
    written: list[pa.Array] = []
    for first in range(0, len(table), _SLICE_ROWS):
        part = table.texts.slice(first, _SLICE_ROWS)
        before = texts = part.to_pylist()
        of_part = languages[first : first + _SLICE_ROWS]
        for step in counts:
            changed = [step.change(text, language) for text, language in zip(texts, of_part, strict=True)]
            counts[step] += sum(map(str.__ne__, texts, changed))
            texts = changed
        written.append(part if texts == before else strings(texts).cast(part.type))
    notes = tuple(f"{step.told} in {rows_of(count)}" for step, count in counts.items() if count)
    return (pa.concat_arrays(written) if notes else table.texts), notes


def rows_of(count: int) -> str:
    """`1 row`, `1,200 rows`."""
    return f"{count:,} row" if count == 1 else f"{count:,} rows"


def written_languages(table: SegmentTable) -> Sequence[str]:
    """The language each text is in; "" for translations, whose language the row does not say."""
    languages, tasks = table.distinct("languages"), table.distinct("tasks")
    if len(languages) == 1 and tasks == ["transcribe"]:
        return languages * len(table)
    rows = zip(table.languages.to_pylist(), table.tasks.to_pylist(), strict=True)
    return [written_in(language, task) for language, task in rows]


@cache
def steps_of(policy: TextPolicy) -> tuple[Step, ...]:
    """The changes that a policy makes, in their order."""
    steps = [Step("text written in Unicode NFC", lambda text, _: unicodedata.normalize("NFC", text))]
    if policy.replace:
        steps.append(Step("text replaced by clean.replace", _replacement(policy.replace)))
    if policy.markup == "strip":
        steps.append(Step("markup taken out", lambda text, _: _without_markup(text)))
    if policy.case == "lower":
        steps.append(Step("case lowered", _lowered))
    if policy.punctuation == "strip":
        steps.append(Step("punctuation taken out", lambda text, _: _without_punctuation(text)))
    return tuple(steps)


def _replacement(replace: tuple[tuple[str, str], ...]) -> Callable[[str, str], str]:
    """All replacements in one pass, so that none works on what another wrote; the longest match wins."""
    table = {unicodedata.normalize("NFC", old): new for old, new in replace if old}
    pattern = re.compile("|".join(re.escape(old) for old in sorted(table, key=len, reverse=True)) or r"(?!)")

    def change(text: str, _: str) -> str:
        changed = pattern.sub(lambda found: table[found[0]], text)
        return text if changed == text else _tidy(changed)

    return change


def _tidy(text: str) -> str:
    """NFC, and one space where something was taken out; a change may leave a letter and a mark side by side."""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def _lowered(text: str, language: str) -> str:
    if language in _DOTLESS_LANGUAGES:
        text = text.replace("I", "ı").replace("İ", "i")
    changed = text.lower()
    return changed if changed == text else unicodedata.normalize("NFC", unicodedata.normalize("NFC", changed).lower())


# Markup: tags and timestamps of captions, Whisper's special tokens; [noises] and {styles} of any length; (noises)
# and *noises* of a few words that no word touches ("page(s)" and "2*3*4" are none); signs for music.
_TAG: Final = r"</?[A-Za-z][^<>]*>|<\d\d:[\d:.]+>|<\|[^<>|]*\|>"
_WORDS: Final = rf"\w+(?:[^\w()（）*]+\w+){{0,{_NOISE_WORDS - 1}}}[.!?…]?"
_MARKUP: Final = re.compile(
    rf"(?P<tag>{_TAG})"
    r"|\[[^\[\]]*\]|\{[^{}]*\}|［[^［］]*］|【[^【】]*】|〔[^〔〕]*〕"
    rf"|(?<!\w)\(\s*{_WORDS}\s*\)(?!\w)|（\s*{_WORDS}\s*）|(?<![\w*])\*{_WORDS}\*(?![\w*])"
    r"|[♩♪♫♬🎵🎶]"
)
_GAP: Final = "\0"  # stands where a noise was taken out
_GAP_BEFORE_PUNCTUATION: Final = re.compile(rf" ?{_GAP}(?: ?{_GAP})*(?= ?[,.;:!?…])")


def has_markup(text: str) -> bool:
    """Whether the text holds tags, noises in brackets or signs for music."""
    return _MARKUP.search(text) is not None


def _without_markup(text: str) -> str:
    """Without markup, until none is left: `[a [b]]` holds some within."""
    if not has_markup(text):
        return text
    while has_markup(text):
        text = _MARKUP.sub(_gap, text)
    return _tidy(_GAP_BEFORE_PUNCTUATION.sub("", _tidy(text)).replace(_GAP, " "))


def _gap(found: re.Match[str]) -> str:
    """Nothing for a tag, which may stand inside a word; but <br> is a line's end."""
    return "" if found["tag"] and not found["tag"].lower().startswith("<br") else _GAP


# Of what Unicode calls punctuation these are spoken, in one language or another.
_SPOKEN: Final = "%&@#٪％＆＠＃‰"
# Kept inside words: apostrophes and the accents typed in their place, hyphens, the Hebrew maqaf, geresh and
# gershayim, the Catalan middle dot, and the dots between Tibetan syllables.
_IN_WORDS: Final = frozenset("'’‘‛＇´`՚-‐‑֊־׳״·༌་")
_IN_NUMBERS: Final = frozenset(".,:/٫٬")  # kept between digits: "3.5" is not read as "35" is
_WITHIN_LETTERS: Final = frozenset("՛՜՞")  # Armenian writes these inside the word that they go with


_MAYBE_PUNCTUATION: Final = re.compile(r"[^\w\s]|_")


def _without_punctuation(text: str) -> str:
    """Punctuation becomes a space; apostrophes, hyphens and dots that belong to a word or number stay."""
    changed = _MAYBE_PUNCTUATION.sub(_unless_needed, text)
    return text if changed == text else _tidy(changed)


def _unless_needed(found: re.Match[str]) -> str:
    text, at, character = found.string, found.start(), found[0]
    is_punctuation = unicodedata.category(character).startswith("P") or character in "`´"
    if not is_punctuation or character in _SPOKEN:
        return character
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    if before.isdecimal() and after.isdecimal() and character in _IN_NUMBERS:
        return character
    if not (_in_word(before) and _in_word(after)):
        return " "
    if character in _WITHIN_LETTERS:
        return ""
    return character if character in _IN_WORDS else " "


def _in_word(character: str) -> bool:
    """A letter, a mark, a digit, or a joiner between such."""
    return bool(character) and (unicodedata.category(character)[0] in "LMN" or character in "\u200c\u200d")
