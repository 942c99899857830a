"""The language of a row's text, and what leads in sets of several languages."""

from __future__ import annotations

from pathlib import Path

import pytest

from whispertune.data.segments import Segment
from whispertune.score.normalize import label_of, normalizer_named
from whispertune.score.written import characters_lead, normalizers_of, text_language


def spoken(*languages: str, task: str = "transcribe") -> list[Segment]:
    return [Segment(f"{n}", Path("a.wav"), 0.0, 1.0, "text", each, task) for n, each in enumerate(languages)]


def test_translations_are_written_in_english() -> None:
    assert [text_language(each) for each in spoken("ja", "sv", task="translate")] == ["en", "en"]
    assert [text_language(each) for each in spoken("ja", "sv")] == ["ja", "sv"]
    assert label_of(normalizers_of(spoken("ja", task="translate"))) == "whisper-english 1"


def test_each_row_has_the_normalizer_of_its_language() -> None:
    rows = spoken("en", "hi", "Hindi")
    assert [each.name for each in normalizers_of(rows)] == ["whisper-english", "whispertune-indic", "whispertune-indic"]
    assert {each.label for each in normalizers_of(rows, normalizer_named("basic+digits"))} == {
        "whispertune-basic+digits 1"
    }


@pytest.mark.parametrize(
    ("languages", "lead"),
    [
        (("ja", "en", "en"), False),
        (("en", "ja", "zh"), True),
        (("ja", "en"), False),
        (("Japanese",), True),
        (("sv",), False),
    ],
)
def test_what_leads_is_decided_by_most_rows(languages: tuple[str, ...], lead: bool) -> None:
    assert characters_lead(spoken(*languages)) is characters_lead(spoken(*reversed(languages))) is lead
    assert not characters_lead(spoken(*languages, task="translate"))
