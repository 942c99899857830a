"""What is known of languages, in one place: Whisper's codes and names, and scripts without spaces.

code_of("sv-SE")  # "sv"; so are "sv_se", "swe" and "Swedish"
nearest("Swedisch")  # ["Swedish (sv)"]
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

# Written without spaces between words: text tokens get no leading space, and CER leads.
UNSPACED_LANGUAGES: Final = frozenset({"zh", "ja", "th", "lo", "my", "km", "yue"})

# Characters of scripts that write words without spaces between them, for the [...] of a regular expression:
# Thai and Lao, Burmese, Khmer, CJK radicals and marks, kana, ideographs, halfwidth kana, rarer ideographs.
UNSPACED_SCRIPTS: Final = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u0edc-\u0edf\u1000-\u103f\u1050-\u108f\uaa60-\uaa7f\u1780-\u17d3"
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3041-\u3096\u3099-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)

# Whisper's codes of languages, in the order of its tokens.
LANGUAGE_NAMES: Final = {
    "en": "English", "zh": "Chinese", "de": "German", "es": "Spanish", "ru": "Russian", "ko": "Korean",
    "fr": "French", "ja": "Japanese", "pt": "Portuguese", "tr": "Turkish", "pl": "Polish", "ca": "Catalan",
    "nl": "Dutch", "ar": "Arabic", "sv": "Swedish", "it": "Italian", "id": "Indonesian", "hi": "Hindi",
    "fi": "Finnish", "vi": "Vietnamese", "he": "Hebrew", "uk": "Ukrainian", "el": "Greek", "ms": "Malay",
    "cs": "Czech", "ro": "Romanian", "da": "Danish", "hu": "Hungarian", "ta": "Tamil", "no": "Norwegian",
    "th": "Thai", "ur": "Urdu", "hr": "Croatian", "bg": "Bulgarian", "lt": "Lithuanian", "la": "Latin", "mi": "Maori",
    "ml": "Malayalam", "cy": "Welsh", "sk": "Slovak", "te": "Telugu", "fa": "Persian", "lv": "Latvian",
    "bn": "Bengali", "sr": "Serbian", "az": "Azerbaijani", "sl": "Slovenian", "kn": "Kannada", "et": "Estonian",
    "mk": "Macedonian", "br": "Breton", "eu": "Basque", "is": "Icelandic", "hy": "Armenian", "ne": "Nepali",
    "mn": "Mongolian", "bs": "Bosnian", "kk": "Kazakh", "sq": "Albanian", "sw": "Swahili", "gl": "Galician",
    "mr": "Marathi", "pa": "Punjabi", "si": "Sinhala", "km": "Khmer", "sn": "Shona", "yo": "Yoruba", "so": "Somali",
    "af": "Afrikaans", "oc": "Occitan", "ka": "Georgian", "be": "Belarusian", "tg": "Tajik", "sd": "Sindhi",
    "gu": "Gujarati", "am": "Amharic", "yi": "Yiddish", "lo": "Lao", "uz": "Uzbek", "fo": "Faroese",
    "ht": "Haitian Creole", "ps": "Pashto", "tk": "Turkmen", "nn": "Nynorsk", "mt": "Maltese", "sa": "Sanskrit",
    "lb": "Luxembourgish", "my": "Burmese", "bo": "Tibetan", "tl": "Tagalog", "mg": "Malagasy", "as": "Assamese",
    "tt": "Tatar", "haw": "Hawaiian", "ln": "Lingala", "ha": "Hausa", "ba": "Bashkir", "jw": "Javanese",
    "su": "Sundanese", "yue": "Cantonese",
}  # fmt: skip

# Codes of ISO 639 and old ones, each with Whisper's.
_OTHER_CODES: Final[dict[str, str]] = dict(
    re.findall(
        r"(\w+) (\w+)",
        """
    eng en, zho zh, chi zh, cmn zh, deu de, ger de, spa es, rus ru, kor ko, fra fr, fre fr, jpn ja, por pt, tur tr,
    pol pl, cat ca, nld nl, dut nl, ara ar, arb ar, swe sv, ita it, ind id, hin hi, fin fi, vie vi, heb he, iw he,
    ukr uk, ell el, gre el, msa ms, may ms, zsm ms, ces cs, cze cs, ron ro, rum ro, mo ro, dan da, hun hu, tam ta,
    nor no, nb no, nob no, tha th, urd ur, hrv hr, bul bg, lit lt, lat la, mri mi, mao mi, mal ml, cym cy, wel cy,
    slk sk, slo sk, tel te, fas fa, per fa, pes fa, lav lv, lvs lv, ben bn, srp sr, aze az, azj az, slv sl, kan kn,
    est et, ekk et, mkd mk, mac mk, bre br, eus eu, baq eu, isl is, ice is, hye hy, arm hy, nep ne, npi ne, mon mn,
    khk mn, bos bs, kaz kk, sqi sq, alb sq, swa sw, swh sw, glg gl, mar mr, pan pa, sin si, khm km, sna sn, yor yo,
    som so, afr af, oci oc, kat ka, geo ka, bel be, tgk tg, snd sd, guj gu, amh am, yid yi, ji yi, lao lo, uzb uz,
    uzn uz, fao fo, hat ht, pus ps, pbt ps, tuk tk, nno nn, mlt mt, san sa, ltz lb, mya my, bur my, bod bo, tib bo,
    tgl tl, fil tl, mlg mg, plt mg, asm as, tat tt, lin ln, hau ha, bak ba, jav jw, jv jw, sun su
        """,
    )
)

_OTHER_NAMES: Final = {
    "myanmar": "my", "haitian": "ht", "mandarin": "zh", "castilian": "es", "flemish": "nl", "valencian": "ca",
    "bokmål": "no", "norwegian nynorsk": "nn", "norwegian bokmål": "no", "moldovan": "ro", "moldavian": "ro",
    "sinhalese": "si", "panjabi": "pa", "pushto": "ps", "filipino": "tl", "farsi": "fa", "letzeburgesch": "lb",
}  # fmt: skip

_CODES_OF_NAMES: Final = {name.lower(): code for code, name in LANGUAGE_NAMES.items()} | _OTHER_NAMES
_TAG: Final = re.compile(r"([a-z]{2,3})([-_]([a-z]{2,4}|\d{3}))*")  # sv, sv-SE, zh-Hant-TW, es_419

_UNSPACED_CHARACTER: Final = re.compile(f"[{UNSPACED_SCRIPTS}]")


def is_unspaced(character: str) -> bool:
    """Whether the character is of a script that writes words without spaces between them."""
    return _UNSPACED_CHARACTER.match(character) is not None


def is_tag(language: str) -> bool:
    """Whether it is written as codes are, of whatever language."""
    return _TAG.fullmatch(language.strip().lower()) is not None


def nearest(language: str) -> list[str]:
    """The names that look most like this one, each with its code."""
    names = {name: f"{name} ({code})" for code, name in LANGUAGE_NAMES.items()}
    return [names[name] for name in get_close_matches(language.strip().title(), names)]


def code_of(language: str) -> str | None:
    """Whisper's code of a language given as a code of two or three letters, a tag or an English name."""
    written = language.strip().lower()
    if written in _CODES_OF_NAMES:
        return _CODES_OF_NAMES[written]
    tag = _TAG.fullmatch(written)
    if tag is None:
        return None
    return tag[1] if tag[1] in LANGUAGE_NAMES else _OTHER_CODES.get(tag[1])


def new_targets(targets: Iterable[str | None]) -> tuple[str, ...]:
    """A note where speech is translated into anything but English, which is all that Whisper learned."""
    codes = sorted({code_of(target) or target for target in targets if target} - {"en"})
    if not codes:
        return ()
    return (f"translation into {', '.join(codes)} is new to Whisper, which learned to translate into English only",)
