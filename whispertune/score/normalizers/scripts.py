"""Normalizers for scripts that spell the same word in several ways: Indic, Arabic, and scripts without spaces.

    indic("ज़्यादा।")  # "ज़्यादा", however its nukta was typed; no mark goes
    arabic("مَرْحَبًا")  # "مرحبا": vowel signs, which most text leaves out, and tatweel go
    arabic("أَحمد إلى", alef=True)  # "احمد الى"
    characters("ＡＢＣを 使う。")  # "abcを使う": no width and no space that is not heard
    by_character("用qlora微调")  # "用 qlora 微 调": what a word error rate over characters counts

Each is `basic` and more, leaves other scripts to `basic`, and applied twice does what it does once. Numbers
are left alone: `ascii_digits` is for who asks.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from whispertune.languages import UNSPACED_SCRIPTS
from whispertune.score.normalizers.basic import basic

_ZWJ: Final = "\u200d"

# Spellings in which a joiner makes another letter, so that they must be read before joiners go.
_WITH_JOINER: Final = {
    "ত্" + _ZWJ: "ৎ",  # Bengali khanda ta from before Unicode 4.1
    "र्" + _ZWJ: "ऱ्",  # Marathi eyelash ra: दऱ्या is another word than दर्या
}
# Sequences that look the same as others and are typed in their place.
_SAME_IN_INDIC: Final = {
    "ൻ്റ": "ന്റ",  # Malayalam nta
    "ஶ்ரீ": "ஸ்ரீ",  # Tamil sri
}
_INDIC_BLOCKS: Final = (0x0900, 0x0980, 0x0A00, 0x0A80, 0x0B00, 0x0C80)  # of the scripts with a nukta
_NUKTAS: Final = "".join(chr(b + 0x3C) for b in _INDIC_BLOCKS)
# Nuktas among vowel signs, nasal signs and viramas, all of which they should stand before.
_LATE_NUKTA: Final = tuple(
    re.compile(
        f"[{chr(b + 1)}-{chr(b + 3)}{chr(b + 0x3C)}{chr(b + 0x3E)}-{chr(b + 0x4D)}{chr(b + 0x55)}-{chr(b + 0x57)}]+"
    )
    for b in _INDIC_BLOCKS
)

_TATWEEL: Final = "\u0640"
# Harakat, tanwin, shadda and sukun; small alef and inverted damma; honorifics and Quranic signs.
_VOWEL_SIGNS: Final = re.compile(
    "[\u0610-\u061a\u064b-\u0652\u0656\u0657\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed]"
)
_PRESENTATION_FORMS: Final = re.compile("[\ufb50-\ufdfb\ufe70-\ufefc]")
_MARKS: Final = "[\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed]*"
_ALEF: Final = re.compile(f"[اٱٲٳ]({_MARKS})")
_HAMZA_CARRIER: Final = re.compile(f"([ويى])({_MARKS})")
_MADDA_AND_HAMZA: Final = dict.fromkeys(map(ord, "\u0653\u0654\u0655"))
_HAMZA: Final = dict.fromkeys(map(ord, "\u0654\u0655"))

_UNSPACED: Final = UNSPACED_SCRIPTS + "\u17d7"  # the Khmer sign of repetition stands behind punctuation there
_CHARACTER: Final = re.compile(f"[{_UNSPACED}]")
_SPACE_BESIDE_CHARACTER: Final = re.compile(f" (?=[{_UNSPACED}])|(?<=[{_UNSPACED}]) ")
_SELECTORS: Final = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")  # which glyph of an ideograph
_DOUBLE_SARA_E: Final = "เเ"  # two letters typed for the one of แ
# Thai and Lao tones and vowels above a letter, in whatever order they were typed: the vowel goes first.
_TONES_AND_VOWELS: Final = re.compile("[\u0e48-\u0e4b\u0e31\u0e34-\u0e37\u0ec8-\u0ecb\u0eb1\u0eb4-\u0eb7\u0ebb]{2,}")
_TONES: Final = re.compile("[\u0e48-\u0e4b\u0ec8-\u0ecb]")
# Thai and Lao am, typed as its two parts, with a tone before, between, or none.
_AM_IN_PARTS: Final = (
    (re.compile("\u0e4d([\u0e48-\u0e4b]?)\u0e32"), "ำ"),
    (re.compile("\u0ecd([\u0ec8-\u0ecb]?)\u0eb2"), "ຳ"),
)


def indic(text: str) -> str:
    """`basic`, with one spelling for a nukta (composed, decomposed or typed late), khanda ta, eyelash ra, nta, sri.

    Danda and double danda are punctuation, joiners go as in `basic`, which knows the Malayalam chillu.
    """
    text = unicodedata.normalize("NFC", text)
    for old, new in _WITH_JOINER.items():
        text = text.replace(old, new)
    text = basic(text)
    text = _nukta_first(text)
    for old, new in _SAME_IN_INDIC.items():
        text = text.replace(old, new)
    return unicodedata.normalize("NFC", text)


def _nukta_first(text: str) -> str:
    def ordered(signs: re.Match[str]) -> str:
        return "".join(sorted(signs[0], key=lambda sign: sign not in _NUKTAS))

    for signs in _LATE_NUKTA:
        text = signs.sub(ordered, text)
    return text


def arabic(
    text: str, *, keep_vowels: bool = False, keep_tatweel: bool = False, alef: bool = False, hamza: bool = False
) -> str:
    """`basic` without vowel signs and tatweel; ligatures and positional forms written out in letters.

    Letters stay what they are, those of Persian, Urdu, Pashto and Sindhi among them. `alef` writes آ أ إ ٱ as ا,
    `hamza` writes ؤ ئ as و ي.
    """
    text = _PRESENTATION_FORMS.sub(lambda form: unicodedata.normalize("NFKC", form[0]), text)
    text = text if keep_vowels else _VOWEL_SIGNS.sub("", text)
    text = text if keep_tatweel else text.replace(_TATWEEL, "")
    text = basic(text)
    if alef or hamza:
        text = unicodedata.normalize("NFD", text)
        text = _ALEF.sub(lambda found: "ا" + found[1].translate(_MADDA_AND_HAMZA), text) if alef else text
        text = _HAMZA_CARRIER.sub(lambda found: found[1] + found[2].translate(_HAMZA), text) if hamza else text
    return unicodedata.normalize("NFC", text)


def characters(text: str) -> str:
    """`basic` with full and half width forms made one, and without spaces beside a script that has none.

    Of Unicode's compatibility forms only the widths are folded: ①, ½ and ㎏ stay. Iteration marks stay (々 ๆ ៗ).
    Thai and Lao vowels that are typed in another order or in parts get one order. The choice of glyph
    (variation selectors) goes. Traditional and simplified, kana and kanji stay different.
    """
    text = _SELECTORS.sub("", unicodedata.normalize("NFC", text))
    text = basic("".join(_of_one_width(character) for character in text))
    text = _SPACE_BESIDE_CHARACTER.sub("", text)
    text = unicodedata.normalize("NFC", text).replace(_DOUBLE_SARA_E, "แ")
    text = _TONES_AND_VOWELS.sub(lambda run: _TONES.sub("", run[0]) + "".join(_TONES.findall(run[0])), text)
    for parts, am in _AM_IN_PARTS:
        text = parts.sub(rf"\1{am}", text)
    return unicodedata.normalize("NFC", text)


def by_character(text: str) -> str:
    """Spaces around every character of a script without spaces; words of other scripts stay whole."""
    return " ".join(_CHARACTER.sub(r" \g<0> ", text).split())


def ascii_digits(text: str) -> str:
    """The decimal digits of every script as 0 to 9."""
    return "".join(str(unicodedata.decimal(c)) if unicodedata.category(c) == "Nd" else c for c in text)


def _of_one_width(character: str) -> str:
    tag, _, code = unicodedata.decomposition(character).partition(" ")
    return chr(int(code, 16)) if tag in ("<wide>", "<narrow>") else character
