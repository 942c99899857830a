"""Which scripts a language is written in, and which letters of a text are of another.

    scripts_of("sr")                     # {"Cyrillic", "Latin"}
    foreign("Καλημέρα σας", "sr")        # Foreign(letters=11, foreign=11, script="Greek")
    is_misplaced("Καλημέρα σας", "sr")   # True

A language that Whisper lacks is tuned under the code of another, and may borrow letters (Mboshi, under `ln`, has
ε and ω): so a text is out of place only where most of its letters are, and Latin letters, in which names and
abbreviations are written everywhere, only from ten on.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

LATIN_ALLOWED = 9  # foreign letters: "WhatsApp", "OK", "iPhone"

# All of Whisper's languages. Where several scripts are in use, now or in communities of some size, all stand here:
# to keep a stray row is cheaper than to lose a good one.
_SCRIPTS: Final = {
    language: frozenset(scripts.split())
    for languages, scripts in (
        ("af br ca cs cy da de en es et eu fi fo fr gl haw hr ht hu id is it la lb", "Latin"),
        ("ln lt lv mg mi mt nl nn no oc pl pt ro sk sl sn sq sv tr vi yo", "Latin"),
        ("ha ms so sw", "Latin Arabic"),
        ("jw", "Latin Javanese Arabic"),
        ("su", "Latin Sundanese Arabic"),
        ("tl", "Latin Tagalog"),
        ("ba bg mk ru uk", "Cyrillic"),
        ("be bs sr tt", "Cyrillic Latin"),
        ("az kk tg tk uz", "Cyrillic Latin Arabic"),
        ("mn", "Cyrillic Mongolian Latin"),
        ("ar fa ps ur", "Arabic"),
        ("sd", "Arabic Devanagari"),
        ("pa", "Gurmukhi Arabic"),
        ("hi mr ne", "Devanagari"),
        ("sa", "Devanagari Latin Bengali Grantha Gujarati Kannada Malayalam Sharada Tamil Telugu"),
        ("as bn", "Bengali"),
        ("gu", "Gujarati"),
        ("ta", "Tamil"),
        ("te", "Telugu"),
        ("kn", "Kannada"),
        ("ml", "Malayalam"),
        ("si", "Sinhala"),
        ("th", "Thai"),
        ("lo", "Lao"),
        ("my", "Myanmar"),
        ("km", "Khmer"),
        ("bo", "Tibetan"),
        ("ka", "Georgian"),
        ("hy", "Armenian"),
        ("el", "Greek"),
        ("he", "Hebrew"),
        ("yi", "Hebrew Latin"),
        ("am", "Ethiopic"),
        ("zh yue", "Han Bopomofo"),
        ("ja", "Han Hiragana Katakana"),
        ("ko", "Hangul Han"),
    )
    for language in languages.split()
}

# The first word of a letter's Unicode name, where that is not the name of its script.
_BY_NAME: Final = {"CJK": "Han", "KANGXI": "Han", "CANADIAN": "Canadian syllabics", "NKO": "N'Ko"}
_WIDTHS: Final = ("FULLWIDTH", "HALFWIDTH")  # before the name of the script
_OTHERS: Final = (
    "Adlam Balinese Batak Buginese Chakma Cherokee Coptic Glagolitic Gothic Lepcha Limbu Lisu Meetei Ol Oriya "
    "Osmanya Rejang Saurashtra Syriac Tai Thaana Tifinagh Vai Yi"
)
_KNOWN: Final = frozenset(_OTHERS.split()).union(*_SCRIPTS.values(), _BY_NAME.values())


@dataclass(frozen=True, slots=True)
class Foreign:
    """Letters of a text that are not of its language's scripts."""

    letters: int  # all whose script is known
    foreign: int
    latin: int  # of the foreign ones
    script: str  # that most of the foreign ones are of

    @property
    def is_most(self) -> bool:
        """Whether the text as a whole is out of place."""
        return 2 * self.foreign > self.letters and (self.foreign > self.latin or self.latin > LATIN_ALLOWED)


def scripts_of(language: str) -> frozenset[str]:
    """The scripts of a language by Unicode's names; none where the language is not known here."""
    return _SCRIPTS.get(language, frozenset())


@lru_cache(maxsize=50_000)
def script_of(character: str) -> str | None:
    """The script of a letter; None for what is no letter, or belongs to several scripts."""
    if not unicodedata.category(character).startswith("L"):
        return None
    words = unicodedata.name(character, "").split()
    if words[:1] and words[0] in _WIDTHS:
        words = words[1:]
    script = _BY_NAME.get(words[0], words[0].capitalize()) if words else ""
    return script if script in _KNOWN else None


def foreign(text: str, language: str) -> Foreign:
    """The letters of a text that its language is not written in."""
    own = scripts_of(language)
    found = Counter(script for script in map(script_of, text) if script)
    others = Counter({script: count for script, count in found.items() if own and script not in own})
    script = others.most_common(1)[0][0] if others else ""
    return Foreign(found.total(), others.total(), others["Latin"], script)


def is_misplaced(text: str, language: str) -> bool:
    """Whether most of the text is in letters that its language is not written in."""
    if text.isascii() and ("Latin" in scripts_of(language) or len(text) <= LATIN_ALLOWED):
        return False
    return foreign(text, language).is_most
