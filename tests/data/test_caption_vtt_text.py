"""Text within the cues of VTT: ruby and voices."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from whispertune.data.captions import Cue, read_captions


def read(folder: Path, text: str) -> Cue:
    path = folder / "a.vtt"
    path.write_text(f"WEBVTT\n\n00:01.000 --> 00:02.000\n{text}\n", encoding="utf-8")
    (cue,) = read_captions(path).cues
    return cue


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("<ruby>漢字<rt>かんじ</rt></ruby>", "漢字"),
        ("これは<ruby>漢<rt>かん</rt>字<rt.small>じ</rt></ruby>です", "これは漢字です"),
        ("<ruby>漢字<rp>(</rp><rt>かんじ</rt><rp>)</rp></ruby>だ", "漢字だ"),
        ("<ruby>漢字<rp>(<rt>かんじ<rp>)</ruby>だ", "漢字だ"),
        ("<ruby>漢字<rt>かん<i>じ</i></ruby>だ", "漢字だ"),
        ("<ruby>漢字<rt>かん\nじ</rt></ruby>だ", "漢字だ"),
        ("<ruby>漢字<rt>1 < 2</rt></ruby>だ", "漢字だ"),
        ("漢字<rt>だ", "漢字だ"),  # ends nowhere: nothing is lost
        ("&lt;rt>a&lt;/rt> <rtx>b</rtx>", "<rt>a</rt> b"),
    ],
)
def test_what_stands_over_a_word_is_not_said(tmp_path: Path, written: str, said: str) -> None:
    assert read(tmp_path, written).text == said


@pytest.mark.parametrize(
    ("written", "said", "speaker"),
    [
        ("<v Ann>Hi<v Bob>Ho", "Hi Ho", None),
        ("<v Ann>Hi.</v><v.loud Ann>Ho.</v>", "Hi. Ho.", "Ann"),
        ("<v>Hi<v>Ho", "Hi Ho", None),
        ("<v Ann>Hi</v>, <i>you</i>rs", "Hi, yours", "Ann"),
        ("<video>a</video>b", "ab", None),
    ],
)
def test_voices_are_words_of_their_own(tmp_path: Path, written: str, said: str, speaker: str | None) -> None:
    assert read(tmp_path, written) == Cue(1.0, 2.0, said, speaker=speaker)


@pytest.mark.parametrize("part", ["<rt>", "<rt", "<rt>a", "<rt><", "<rp></rt ", "<ruby><rt>", "</rt", "<v", "<v "])
def test_tags_without_an_end_take_no_long_time(tmp_path: Path, part: str) -> None:
    began = time.perf_counter()
    read(tmp_path, part * 50_000)
    assert time.perf_counter() - began < 5
