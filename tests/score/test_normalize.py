from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whispertune.languages import UNSPACED_LANGUAGES, is_unspaced
from whispertune.score.normalize import (
    NORMALIZERS,
    basic,
    leads_with_cer,
    normalizer_for,
    raw_text,
)

ZWNJ, ZWJ = "\u200c", "\u200d"

# Letters, marks, apostrophes, joiners and emoji meet more often than among all of Unicode.
TRICKY = st.text("aIİΣşéε'’ʼʻ`.,-!️\u200d\u200c\u00ad\u0301\u0307\u0338\u0d4d നണ്क्ष1 \u2028\n❤<=", max_size=12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("नमस्ते, दुनिया! क्षत्रिय हूँ।", "नमस्ते दुनिया क्षत्रिय हूँ"),
        ("“สวัสดีครับ” ที่นี่ เล่นๆ น้ำ", "สวัสดีครับ ที่นี่ เล่นๆ น้ำ"),
        ("வணக்கம், நண்பர்களே!", "வணக்கம் நண்பர்களே"),
        ("مَرْحَبًا، كيف حالك؟", "مَرْحَبًا كيف حالك"),
        ("Där står ÅSNAN — på Örjans ö.", "där står åsnan på örjans ö"),
        ("Ngá íbvέε atumbú m íkándá.", "ngá íbvέε atumbú m íkándá"),
        ("Obhémbisi otωmbíli láanyiá", "obhémbisi otωmbíli láanyiá"),
        ("L’été, c‘est l'amour!", "l'été c'est l'amour"),
        ("wɛ\u0301'n", "wɛ\u0301'n"),
        (":\ufe00'0", "0"),
        ("the dogs' bowls, 'quoted' and rock 'n' roll", "the dogs bowls quoted and rock n roll"),
        ("пʼять п’ять", "п'ять п'ять"),
        ("ʻOkina Hawaiʻi kʰa", "ʻokina hawai'i kʰa"),
        ("[Applause] (Laughs) 3.5% of $9", "applause laughs 3 5 of 9"),
        ("  so\t\u00a0many \n spaces ", "so many spaces"),
        ("I ❤\ufe0f you 👍🏽 all", "i you all"),
        ("...", ""),
        ("", ""),
    ],
)
def test_golden(text: str, expected: str) -> None:
    assert basic(text) == unicodedata.normalize("NFC", expected)


def test_mboshi_tones_written_with_combining_accents_are_composed_where_unicode_can() -> None:
    decomposed = unicodedata.normalize("NFD", "ngá íbvέε otωmbíli lώ")
    assert decomposed != "ngá íbvέε otωmbíli lώ"
    assert basic(decomposed) == unicodedata.normalize("NFC", "ngá íbvέε otωmbíli lώ")
    assert basic("ɛ\u0301") == "ɛ\u0301"  # no composed form: the accent stays a mark


def test_joiners_do_not_make_another_word() -> None:
    assert basic(f"क्{ZWJ}ष") == basic(f"क्{ZWNJ}ष") == basic("क्ष") == "क्ष"
    assert basic(f"می{ZWNJ}خواهم") == "میخواهم"
    assert basic(f"അവന്{ZWJ}") == basic("അവൻ") == "അവൻ"  # Malayalam chillu, legacy and atomic


def test_registry_and_languages() -> None:
    assert NORMALIZERS["basic"].label == "whispertune-basic 1"
    assert normalizer_for("sv") is NORMALIZERS["basic"]
    assert normalizer_for("sv")("Ja!") == "ja"
    assert all(leads_with_cer(language) for language in UNSPACED_LANGUAGES)
    assert not any(leads_with_cer(language) for language in ("ko", "en", "hi", "ta", "ar", "sv"))


def test_unspaced_characters() -> None:
    assert all(is_unspaced(character) for character in "微カなสກမក𠀋")
    assert not any(is_unspaced(character) for character in "aé한हم5。 -")


def test_raw_text_changes_form_and_spaces_only() -> None:
    assert raw_text("  E\u0301t,\u00a0 OUI!\n") == "Ét, OUI!"


@settings(deadline=None)
@given(st.one_of(st.text(), TRICKY))
def test_idempotent(text: str) -> None:
    assert basic(basic(text)) == basic(text)
    assert raw_text(raw_text(text)) == raw_text(text)


@settings(deadline=None)
@given(st.one_of(st.text(), TRICKY))
def test_form(text: str) -> None:
    normalized = basic(text)
    assert unicodedata.is_normalized("NFC", normalized)
    assert normalized == normalized.lower() == " ".join(normalized.split())
    assert not [c for c in normalized if c != "'" and unicodedata.category(c)[0] in "PS"]


@settings(deadline=None)
@given(st.one_of(st.text(), TRICKY, st.characters(categories=["L"])))
def test_a_text_with_letters_is_never_emptied(text: str) -> None:
    assert basic(text) or not [c for c in text if unicodedata.category(c)[0] == "L"]


def test_marks_and_modifier_letters_survive_on_letters() -> None:
    """Every such character of Unicode, between two letters, comes out again (or as its composition)."""
    lost = []
    for code in range(0x110000):
        character = chr(code)
        if unicodedata.category(character) in ("Mn", "Mc", "Me", "Lm") and character not in "ʼʻ":
            text = f"n{character}n"
            if basic(text) != unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower()):
                lost.append(hex(code))
    assert lost == []
