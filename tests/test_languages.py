"""Whisper's codes of languages, and how others write them."""

from __future__ import annotations

import pytest
from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

from whispertune.languages import LANGUAGE_NAMES, code_of, is_tag, nearest


def test_the_codes_are_those_of_whisper() -> None:
    assert list(LANGUAGE_NAMES) == list(LANGUAGES)
    assert {name: code_of(name) for name in TO_LANGUAGE_CODE} == TO_LANGUAGE_CODE
    assert all(code_of(code) == code and code_of(name) == code for code, name in LANGUAGE_NAMES.items())


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("sv-SE", "sv"),
        ("sv_se", "sv"),
        ("swe", "sv"),
        (" Swedish ", "sv"),
        ("cmn_hans_cn", "zh"),
        ("zh-Hant-TW", "zh"),
        ("yue_hant_hk", "yue"),
        ("es_419", "es"),
        ("nb-NO", "no"),
        ("fil_ph", "tl"),
        ("jv_id", "jw"),
        ("iw", "he"),
        ("en_accented", None),
        ("default", None),
        ("all", None),
        ("train", None),
        ("mdw", None),
        ("", None),
    ],
)
def test_what_datasets_write(written: str, code: str | None) -> None:
    assert code_of(written) == code


def test_what_is_written_like_a_code_and_what_like_a_name() -> None:
    assert all(map(is_tag, ("mdw", "xx", "SV-se", " sv ")))
    assert not any(map(is_tag, ("Swedish", "svenska", "", "s")))
    assert nearest(" swedisch")[0] == "Swedish (sv)"
    assert nearest("haitian creol") == ["Haitian Creole (ht)"]
    assert nearest("qqq") == []
