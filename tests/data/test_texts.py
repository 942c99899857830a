"""Texts by policy: what each changes, what it leaves alone, and what must never be lost."""

from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whispertune.data.segments import Segment
from whispertune.data.table import SegmentTable
from whispertune.data.texts import TextPolicy, has_markup, rewrite, rewrite_all

KEEP = TextPolicy(markup="keep", case="keep", punctuation="keep", replace=())
STRIP = TextPolicy(markup="strip", case="lower", punctuation="strip", replace=())
MARKUP = TextPolicy(markup="strip", case="keep", punctuation="keep", replace=())
LOWER = TextPolicy(markup="keep", case="lower", punctuation="keep", replace=())
PUNCTUATION = TextPolicy(markup="keep", case="keep", punctuation="strip", replace=())

# Letters, marks, punctuation and markup of many scripts, so that they meet.
TEXTS = st.text(
    st.one_of(
        st.sampled_from("abIİßéɛ'’-.,:!?*()[]{}<>/ \t0123"),
        st.sampled_from("\u0301\u0308\u093f\u094d\u0e31\u05b8\u200d\u200cनमกสთაբանո՞՛ごが、。ー་བོ״"),
        st.characters(codec="utf-8"),
    ),
    max_size=40,
)


@pytest.mark.parametrize(
    "text", ["", " Two  spaces ", "[laughs] <i>He</i> said: “No”…\tB", "İ", "नमस्ते, दुनिया!", "♪ la ♪"]
)
def test_keep_changes_nothing(text: str) -> None:
    assert rewrite(text, "tr", KEEP) == text


def test_nfc_always() -> None:
    assert rewrite("re\u0301sume\u0301", "fr", KEEP) == "résumé"


@pytest.mark.parametrize(
    ("text", "stripped"),
    [
        ("<i>Hello</i> <v Anna>there", "Hello there"),
        ("un<b>believ</b>able", "unbelievable"),
        ("one<br>two", "one two"),
        ("<00:00:01.000>one <|en|>two", "one two"),
        ("Yes [laughs], I know", "Yes, I know"),
        ("Oui [rires] !", "Oui !"),
        ("[a [b]] c", "c"),
        ("(applause) Thank you. (door opens)", "Thank you."),
        ("（拍手）そうです", "そうです"),
        ("{\\an8}Up here", "Up here"),
        ("*cough* sorry", "sorry"),
        ("♪ la la ♪", "la la"),
        ("[music]", ""),
    ],
)
def test_markup_is_taken_out(text: str, stripped: str) -> None:
    assert has_markup(text)
    assert rewrite(text, "en", MARKUP) == stripped


@pytest.mark.parametrize(
    "text", ["a < 3 and b > c", "page(s)", "2*3*4", "C♯", "He (who was never one to talk) left.", "I <3 it"]
)
def test_what_is_no_markup_stays(text: str) -> None:
    assert not has_markup(text)
    assert rewrite(text, "en", MARKUP) == text


@pytest.mark.parametrize(
    ("text", "stripped"),
    [
        ("Don’t “quote” the dogs' well-known rock’n’roll -- un- …", "Don’t quote the dogs well-known rock’n’roll un"),
        ("At 10:30, 3.5 of 3,000.", "At 10:30 3.5 of 3,000"),
        ("50% R&D, a@b", "50% R&D a@b"),
        ("नमस्ते, दुनिया!", "नमस्ते दुनिया"),
        ("はい、そうです。", "はい そうです"),
        ("ինչո՞ւ, այո՛", "ինչու այո"),
        ("צה״ל, שלום.", "צה״ל שלום"),
        ("Paral·lel.", "Paral·lel"),
        ("བཀྲ་ཤིས།", "བཀྲ་ཤིས"),
        ("mā’ohi ʻōlelo…", "mā’ohi ʻōlelo"),
    ],
)
def test_punctuation_is_taken_out_but_not_of_words_and_numbers(text: str, stripped: str) -> None:
    assert rewrite(text, "en", PUNCTUATION) == stripped


def test_case_is_lowered_as_the_language_does() -> None:
    assert rewrite("ISPARTA İzmir", "tr", LOWER) == "ısparta izmir"
    assert rewrite("ISPARTA ΟΔΟΣ", "en", LOWER) == "isparta οδος"


def test_replacements_take_the_longest_and_work_once() -> None:
    policy = TextPolicy("keep", "keep", "keep", (("a", "b"), ("b", "a"), ("ab", "X"), ("e\u0301", "e"), ("[uh]", "uh")))
    assert rewrite("ab a b é [uh]", "en", policy) == "X b a e uh"
    both = TextPolicy("strip", "keep", "strip", (("&", "and"), ("[uh]", "uh")))
    assert rewrite("you & me, [uh] [sigh]", "en", both) == "you and me uh"


@given(TEXTS, st.sampled_from(["en", "tr", "hi", "hy"]))
def test_policies_are_idempotent_and_write_nfc(text: str, language: str) -> None:
    for policy in (KEEP, MARKUP, LOWER, PUNCTUATION, STRIP):
        once = rewrite(text, language, policy)
        assert unicodedata.is_normalized("NFC", once)
        assert rewrite(once, language, policy) == once


@given(TEXTS)
def test_letters_marks_and_digits_are_never_lost_with_punctuation(text: str) -> None:
    def kept(text: str) -> Counter[str]:
        return Counter(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c)[0] in "LMN")

    assert kept(rewrite(text, "en", PUNCTUATION)) == kept(text)


def table(*texts: str, task: str = "transcribe") -> SegmentTable:
    return SegmentTable.of(Segment(f"a:{n}", Path("a.wav"), 0, 1, text, "tr", task) for n, text in enumerate(texts))


def test_changes_are_counted_by_kind() -> None:
    rows = table("[laughs] Yes.", "no", "e\u0301", "Oh", "ah!")
    texts, notes = rewrite_all(rows, STRIP)
    assert texts.to_pylist() == ["yes", "no", "é", "oh", "ah"]
    assert notes == (
        "text written in Unicode NFC in 1 row",
        "markup taken out in 1 row",
        "case lowered in 2 rows",
        "punctuation taken out in 2 rows",
    )


def test_nothing_is_told_where_nothing_changes() -> None:
    rows = table("no", "ah")
    assert rewrite_all(rows, STRIP) == (rows.texts, ())


def test_a_translation_is_not_in_the_language_that_is_spoken() -> None:
    assert rewrite_all(table("IT IS"), STRIP)[0].to_pylist() == ["ıt ıs"]
    assert rewrite_all(table("IT IS", task="translate"), STRIP)[0].to_pylist() == ["it is"]
