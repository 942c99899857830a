"""Basic: case and punctuation go, every letter and mark stays. What the other normalizers stand on.

    basic("नमस्ते, दुनिया!")  # "नमस्ते दुनिया"
    raw_text("  Hej,\u00a0du! ")  # "Hej, du!", what raw scores compare

Combining marks and modifier letters are never stripped: they are vowels in Indic scripts and Thai, tones in
many African languages.
"""

from __future__ import annotations

import unicodedata
from typing import Final

_TYPOGRAPHIC_APOSTROPHES: Final = "\u2019\u2018\u201b\uff07\u00b4\u0060"
# Two apostrophes are letters (category Lm): Ukrainian or Navajo ʼ, Hawaiian or Uzbek ʻ. Inside a word they
# are the same as ', because people type all of them; at its edge they stay, as every modifier letter does.
_LETTER_APOSTROPHES: Final = "\u02bc\u02bb"
_TO_APOSTROPHE: Final = str.maketrans(dict.fromkeys(_TYPOGRAPHIC_APOSTROPHES, "'"))

_ZWJ: Final = "\u200d"
# Malayalam from before Unicode 5.1 spells these six consonants with a joiner, today they are one character.
_CHILLU: Final = {"ണ്": "ൺ", "ന്": "ൻ", "ര്": "ർ", "ല്": "ൽ", "ള്": "ൾ", "ക്": "ൿ"}


def raw_text(text: str) -> str:
    """The text as raw scores see it: Unicode NFC, stripped, every run of whitespace one space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def unify_apostrophes(text: str) -> str:
    """Typographic apostrophes and the accents typed in their place become '."""
    return text.translate(_TO_APOSTROPHE)


def basic(text: str) -> str:
    """NFC, lower case, punctuation and symbols (categories P and S) to spaces, whitespace collapsed.

    Apostrophes inside words are kept, all as '. Joiners (ZWJ, ZWNJ) and other format characters shape the
    writing and are not heard: they are dropped, so that a word spelt with and without one is the same word.
    """
    text = _without_format_characters(unicodedata.normalize("NFC", text))
    # Dropping a joiner or lowering İ can leave a letter and a mark side by side that NFC writes as one.
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())
    return " ".join(_without_punctuation(unify_apostrophes(text)).split())


def _without_format_characters(text: str) -> str:
    if text.isascii():
        return text
    for legacy, chillu in _CHILLU.items():
        text = text.replace(legacy + _ZWJ, chillu)
    return "".join(character for character in text if unicodedata.category(character) != "Cf")


def _without_punctuation(text: str) -> str:
    kept: list[str] = []
    after_symbol = False
    for index, character in enumerate(text):
        if character == "'" or character in _LETTER_APOSTROPHES:
            inside = index > 0 and _in_word(text[index - 1]) and _in_word(text[index + 1 : index + 2])
            after_symbol = character == "'" and not inside
            kept.append("'" if inside else " " if after_symbol else character)
        elif unicodedata.category(character)[0] in "PS":
            after_symbol = True
            kept.append(" ")
        elif not (after_symbol and _is_variation_selector(character)):  # it belongs to the emoji before it
            after_symbol = False
            kept.append(character)
    return "".join(kept)


def _in_word(character: str) -> bool:
    if not character or character in _LETTER_APOSTROPHES or _is_variation_selector(character):
        return False
    return unicodedata.category(character)[0] in "LMN"


def _is_variation_selector(character: str) -> bool:
    return "\ufe00" <= character <= "\ufe0f"
