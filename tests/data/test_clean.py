"""Cleaning: every reason shown by a row that goes for it and one that stays."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from whispertune.data.clean import CleanRules, clean, clean_row
from whispertune.data.problems import check_share
from whispertune.data.scripts import foreign, is_misplaced, scripts_of
from whispertune.data.segments import Problem, Segment, SourceData
from whispertune.data.table import SegmentTable, as_table
from whispertune.languages import LANGUAGE_NAMES
from whispertune.recipe import Clean


def rules(**changes: Any) -> CleanRules:
    return CleanRules(**Clean(**changes).model_dump())


def row(number: int, text: str, length_s: float = 3.0, language: str = "en", **more: Any) -> Segment:
    return Segment(f"rows.tsv:{number}", Path(f"{number}.wav"), 0.0, length_s, text, language, **more)


def dropped(*rows: Segment, **changes: Any) -> dict[str, str]:
    """Reasons by row id."""
    data = clean(SourceData(rows), rules(**changes), source="here")
    assert len(data.segments) + len(data.problems) == len(rows)
    assert all(problem.source == "here" for problem in data.problems)
    return {problem.where: problem.kind for problem in data.problems}


@pytest.mark.parametrize("text", ["", "  ", "...", "?!", "♪"])
def test_no_text(text: str) -> None:
    assert dropped(row(1, text), row(2, "5"), row(3, "é"), row(4, "हाँ", language="hi")) == {"rows.tsv:1": "no text"}


def test_text_that_is_nothing_but_noise_goes_as_asked_once_it_is_stripped() -> None:
    rows = (row(1, "[laughs]"), row(2, "[laughs] yes"), row(3, "♪ ..."), row(4, "..."))
    assert dropped(*rows) == {"rows.tsv:3": "no text", "rows.tsv:4": "no text"}
    left = {"rows.tsv:1": "nothing but markup", "rows.tsv:3": "nothing but markup", "rows.tsv:4": "no text"}
    assert dropped(*rows, markup="strip") == left
    assert dropped(*rows, markup="drop") == {"rows.tsv:4": "no text"} | dict.fromkeys(
        ("rows.tsv:1", "rows.tsv:2", "rows.tsv:3"), "markup"
    )
    streamed = (clean_row(each, rules(markup="strip")) for each in rows)
    assert {each.where: each.kind for each in streamed if isinstance(each, Problem)} == left
    data = clean(SourceData(rows[:2]), rules(markup="strip"), source="here")
    check_share(data, 0.0, "train")  # half of the rows, and none of them bad
    assert data.problems[0].detail == "nothing is left of '[laughs]'; clean.markup is strip"


def test_rows_that_came_without_text_stay_where_they_are_scored() -> None:
    rows = [*(row(n, "a" * 10) for n in range(30)), *(row(n, "") for n in range(30, 33)), row(33, "[laughs]")]
    data = clean(SourceData(rows), rules(markup="strip", max_same_text=50), source="here", empty_texts=True)
    assert [each.id for each in data.segments] == [f"rows.tsv:{n}" for n in range(33)]
    assert data.counts() == {"nothing but markup": 1}


def test_markup_can_drop_a_row() -> None:
    rows = (row(1, "[laughs] yes"), row(2, "yes"), row(3, "(applause)"), row(4, "2*3*4"), row(5, "page(s)"))
    assert dropped(*rows, markup="drop") == {"rows.tsv:1": "markup", "rows.tsv:3": "markup"}


def test_too_short_and_too_long() -> None:
    rows = (row(1, "a", 0.19), row(2, "b", 0.2), row(3, "c", 30.0), row(4, "d", 30.01))
    assert dropped(*rows) == {"rows.tsv:1": "too short", "rows.tsv:4": "longer than 30 s"}
    assert dropped(row(1, "a", 0.05), min_s=0.05) == {}


def test_other_scripts() -> None:
    rows = (
        row(1, "Привет, как дела?"),
        row(2, "привет", language="sr"),
        row(3, "zdravo", language="sr"),
        row(4, "ngá wó láakώngώsώ εω", language="ln"),
        row(5, "今日は iPhone", language="ja"),
        row(6, "This is not Japanese", language="ja"),
        row(7, "WhatsApp", language="ja"),
        row(8, "This is its translation", language="ja", task="translate"),
        row(9, "2024", language="ja"),
        row(10, "что такое iPhone", language="ru"),
        row(11, "Anything", language="xx"),
    )
    assert dropped(*rows) == {"rows.tsv:1": "other script", "rows.tsv:6": "other script"}
    assert dropped(*rows, script=False) == {}


def test_the_letters_of_another_script_are_named() -> None:
    (problem,) = clean(SourceData((row(1, "Привет, ok"),)), rules(), source="").problems
    assert problem.detail == "6 of its 8 letters are not of the scripts of en, most of them Cyrillic: 'Привет, ok'"
    assert problem.seconds == 3.0


def test_every_language_of_whisper_has_its_scripts() -> None:
    assert all(map(scripts_of, LANGUAGE_NAMES))


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("ja", "ﾃﾚﾋﾞをーーーみる"),
        ("ko", "안녕하세요 世界"),
        ("zh", "你好，世界〇"),
        ("yue", "你好呀"),
        ("pa", "ਸਤ ਸ੍ਰੀ ਅਕਾਲ"),
        ("pa", "ست سری اکال"),
        ("uz", "O‘zbek tilida so‘z"),
        ("uz", "Ўзбек тили"),
        ("haw", "ʻōlelo Hawaiʻi"),
        ("am", "ሰላም"),
        ("my", "မင်္ဂလာပါ"),
        ("km", "សួស្តី"),
        ("lo", "ສະບາຍດີ"),
        ("th", "สวัสดี"),
        ("bo", "བཀྲ་ཤིས་"),
        ("he", "שָׁלוֹם"),
        ("yi", "שלום"),
        ("ka", "გამარჯობა"),
        ("hy", "Բարեւ"),
        ("el", "Γειά σου"),
        ("si", "ආයුබෝවන්"),
        ("ta", "வணக்கம்"),
        ("te", "నమస్కారం"),
        ("kn", "ನಮಸ್ಕಾರ"),
        ("ml", "നമസ്കാരം"),
        ("gu", "નમસ્તે"),
        ("bn", "নমস্কার"),
        ("as", "নমস্কাৰ"),
        ("hi", "नमस्ते"),
        ("mn", "Сайн уу"),
        ("vi", "Xin chào các bạn ơi"),
    ],
)
def test_languages_are_at_home_in_their_scripts(language: str, text: str) -> None:
    assert foreign(text, language).foreign == 0
    assert not is_misplaced(text, language)
    assert is_misplaced(text, "ka") == (language != "ka")


def test_rates_out_of_range() -> None:
    usual = [row(n, "a" * 40 + f"{n}", 3.0) for n in range(1, 30)]  # 14 characters a second
    odd = (
        row(50, "b" * 250, 3.0),  # 83 a second
        row(51, "yes", 8.0),
        row(52, "no", 0.4),
        row(53, "no", 3.4),  # silence around a short answer
        row(54, "thank you so much indeed", 0.4),  # 60, and times are rounded
        row(55, "b" * 120, 3.0),
    )
    expected = dict.fromkeys(("rows.tsv:50", "rows.tsv:51"), "characters a second out of range")
    assert dropped(*usual, *odd) == expected
    assert dropped(*usual, *odd, max_rate_factor=30) == {}
    assert dropped(*usual[:13], *odd) == {}  # too few to know what is usual


def test_rates_are_judged_by_language_and_task() -> None:
    swedish = [row(n, "a" * 42, 3.0, "sv") for n in range(30)]
    chinese = [row(100 + n, "你好" * 2, 6.0, "zh") for n in range(30)]
    translated = [replace(one, id=f"t{one.id}", text="b" * 9, task="translate") for one in swedish]
    assert dropped(*swedish, *chinese, *translated) == {}
    assert len(dropped(*swedish, row(1, "你好" * 2, 18.0, "sv"), script=False)) == 1


def test_duplicates() -> None:
    first = row(1, "Good morning.")
    rows = (
        first,
        replace(first, id="rows.tsv:2"),
        replace(first, id="rows.tsv:3", text="Good evening."),
        replace(first, id="rows.tsv:4", start_s=0.5),
        replace(first, id="rows.tsv:5", recording=Path("other.wav")),
        replace(first, id="rows.tsv:6", task="translate"),
    )
    assert dropped(*rows) == {"rows.tsv:2": "duplicate"}
    assert dropped(*rows, duplicates=False) == {}


def test_one_text_too_often() -> None:
    rows = [row(n, ("yes", "no", "yes", "maybe")[n % 4]) for n in range(12)]
    assert dropped(*rows) == {}
    assert dropped(*rows, max_same_text=4) == dict.fromkeys(("rows.tsv:8", "rows.tsv:10"), "one text too often")


def test_a_row_has_its_first_reason_and_its_chain_ends() -> None:
    talk = [
        Segment(f"talk.vtt:{n}", Path("talk.wav"), n, n + 1.0, text, "en", continues=n > 0)
        for n, text in enumerate(("One.", "...", "Three.", "Four."))
    ]
    data = clean(SourceData(tuple(talk), (Problem("talk.vtt:9", "x", "y"),), ("before",)), rules(), source="talk")
    assert [(segment.id, segment.continues) for segment in data.segments] == [
        ("talk.vtt:0", False),
        ("talk.vtt:2", False),
        ("talk.vtt:3", True),
    ]
    assert [problem.where for problem in data.problems] == ["talk.vtt:9", "talk.vtt:1"]
    assert data.notes == ("before",)


def test_rewritten_texts_are_told() -> None:
    data = clean(SourceData((row(1, "Yes!"), row(2, "no"))), rules(case="lower", punctuation="strip"), source="")
    assert [segment.text for segment in data.segments] == ["yes", "no"]
    assert data.notes == ("case lowered in 1 row", "punctuation taken out in 1 row")


def test_an_empty_set() -> None:
    data = clean(SourceData(()), rules(max_same_text=1), source="")
    assert (len(data.segments), data.problems, data.notes) == (0, (), ())


TEXTS = st.text(st.sampled_from("aZé.,[]()ωΩпр今ー १ा!♪"), max_size=12)
ROWS = st.lists(
    st.builds(
        row,
        st.integers(0, 10**6),
        TEXTS,
        st.sampled_from([0.1, 0.2, 1.0, 30.0, 31.0]),
        st.sampled_from(["en", "ja", "sr", "hi"]),
        task=st.sampled_from(["transcribe", "translate"]),
    ),
    max_size=12,
)


@given(ROWS, st.sampled_from(["keep", "strip", "drop"]), st.booleans())
@example([row(1, "Ωा", language="hi"), row(2, "ーーωー", language="ja")], "keep", True)  # marks and common letters
def test_rows_of_a_stream_are_judged_as_those_of_a_set(rows: list[Segment], markup: str, script: bool) -> None:
    asked = rules(markup=markup, script=script, case="lower", duplicates=False)
    data = clean(SourceData(tuple(rows)), asked, source="s")
    one_by_one = [clean_row(each, asked, source="s") for each in rows]
    assert list(data.problems) == [found for found in one_by_one if isinstance(found, Problem)]
    assert list(data.segments) == [found for found in one_by_one if isinstance(found, Segment)]


def folder(path: Path, language: str) -> SegmentTable:
    rows = [json.loads(line) for line in (path / "metadata.jsonl").read_text("utf-8").splitlines()]
    return SegmentTable.of(
        Segment(f"{path.name}:{n}", path / one["file_name"], 0.0, one["duration_s"], one["text"], language)
        for n, one in enumerate(rows, start=1)
        if one["duration_s"] <= 30
    )


@pytest.mark.parametrize(
    ("name", "language", "rows"),
    [
        ("mboshi/train", "ln", 1500),
        ("mboshi/dev", "ln", 250),
        ("english_prompts", "en", 117),
        ("english_read", "en", 3),
    ],
)
def test_nothing_is_dropped_of_real_speech(shared: Path, name: str, language: str, rows: int) -> None:
    """Mboshi has Greek letters, and one-word answers with a second of silence; prompts last from 0.4 s."""
    data = clean(SourceData(folder(shared / "data" / name, language)), rules(), source=name)
    assert [problem.detail for problem in data.problems] == []
    assert len(as_table(data.segments)) == rows
    assert data.notes == ()
