"""The report of an evaluation and what stands in it: analysis, JSON, sections, alignments, and nothing that runs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.examined import LOOP, PARTS, evaluation, examination
from whispertune.data.audio import AudioReader
from whispertune.data.segments import Segment
from whispertune.drawing.page import check_target, write_page
from whispertune.evaluation.analysis import Levels, analyse, sources_of
from whispertune.evaluation.clips import Clip
from whispertune.evaluation.evaluate import Hypothesis, evaluation_of
from whispertune.evaluation.examination import Examination
from whispertune.evaluation.report import MAKER, SLICES, page_of, worst_clips
from whispertune.evaluation.report_texts import RUN_WORDS, alignment
from whispertune.score.wer import score


@pytest.fixture(scope="module")
def examined() -> Examination:
    return examination(evaluation(0.5), evaluation())


@pytest.fixture(scope="module")
def drawn(examined: Examination) -> str:
    clips = [Clip(segment, trouble="not there") for segment in _worst_segments(examined)]
    return page_of(examined, clips)


def _worst_segments(examined: Examination) -> list[Segment]:
    segments = {segment.id: segment for segment in examined.evaluation.segments}
    return [segments[utterance.id] for utterance in examined.analysis.worst]


def test_every_part_is_there_and_named(drawn: str) -> None:
    links = re.findall(r'<a href="#([\w-]+)">', drawn)
    assert links == PARTS
    ids = re.findall(r' id="([\w-]+)"', drawn)
    assert set(links) <= set(ids)
    assert len(ids) == len(set(ids))
    assert drawn.count("<h1>") == 1
    assert "1 more could not be used" in drawn


def test_what_rows_say_stays_text(drawn: str) -> None:
    assert "<script" not in drawn
    assert "<img src=x" not in drawn
    assert "runs/a&lt;b&gt;" in drawn
    assert "data/&lt;test&gt;" in drawn


def test_what_nobody_asked_for_is_left_out(examined: Examination) -> None:
    bare = Examination("m", "d", examined.evaluation, analyse(examined.evaluation))
    links = re.findall(r'<a href="#([\w-]+)">', page_of(bare, [Clip(each) for each in _worst_segments(bare)]))
    assert links == ["rates", "slices", "signs", "confusions", "worst"]
    figures = bare.as_json()
    assert not figures.keys() & {
        *("base", "tokens", "noise", "silence", "cues", "terms_recall", "bleu", "meaning", "entities"),
    }
    assert figures["peak_memory_mb"] is None


def test_a_perfect_evaluation_has_a_report() -> None:
    segments = [Segment(f"{n}", Path("a.wav"), 0.0, 2.0, "sol och hav", "sv") for n in range(3)]
    found = evaluation_of([Hypothesis(each, each.text) for each in segments], [], 1.0, "ctranslate2", "full")
    examined = Examination("m", "d", found, analyse(found))
    drawn = page_of(examined, [])
    assert re.findall(r'<a href="#([\w-]+)">', drawn) == ["rates", "slices", "signs"]
    assert "All rows are alike in duration, source, speech rate, language: no slices." in drawn
    assert examined.as_json()["slices_alike"] == ["duration", "source", "speech rate", "language"]


def test_json_is_json_and_has_what_is_promised(examined: Examination) -> None:
    found = json.loads(json.dumps(examined.as_json()))
    assert (found["model"], found["data"], found["rows"], found["rows_unreadable"]) == (
        "runs/a<b>",
        "data/<test>",
        60,
        1,
    )
    assert found["real_time_factor"] == pytest.approx(9 / examined.evaluation.audio_seconds, abs=1e-4)
    assert 10 < found["peak_memory_mb"] < 100_000
    assert {each["attribute"] for each in found["slices"]} == {"duration", "speaker", "level", "speech rate"}
    assert found["hallucination"]["loops"] == 1
    assert found["hallucination"]["flagged"][0]["id"] == "0"
    assert found["hallucination"]["length_limit"] == 1  # of 400 characters
    assert found["confusions"]["words"][0]["heard"] == "hamn"
    assert found["terms_false_insertions"] > 0
    assert found["base"]["model"] == "openai/whisper-small"
    assert found["base"]["wer"] > found["wer"]
    assert [(each["model"], each["condition"]) for each in found["noise"]] == [
        ("openai/whisper-small", "clean"),
        ("openai/whisper-small", "white 10 dB"),
        ("runs/a<b>", "clean"),
        ("runs/a<b>", "telephone"),
    ]
    assert found["silence"]["clips_with_text"] == 1
    assert found["cues"]["starts"] == {
        "matched": 2,
        "mean_s": 0.4,
        "median_s": 0.4,
        "p90_s": 0.64,
        "within_half_a_second": 50.0,
    }
    assert found["tokens"]["tokens"] == 40


def test_a_slice_that_is_worse_is_said_to_be(examined: Examination, drawn: str) -> None:
    by_name = {each.name: each for each in examined.analysis.slices if each.attribute == "duration"}
    assert by_name["2 to 5 s"].worse is None  # the rest is too few
    assert by_name["10 to 20 s"].rows == 15  # too few for a claim
    assert "too few rows" in drawn
    many = evaluation(rows=400)
    (long,) = [each for each in analyse(many).slices if each.name == "10 to 20 s"]
    assert long.worse


def test_of_many_speakers_those_with_most_rows_are_shown() -> None:
    found = evaluation(rows=SLICES + 30)
    segments = tuple(replace(each, speaker=f"p{min(n, SLICES + 9)}") for n, each in enumerate(found.segments))
    examined = Examination("m", "d", replace(found, segments=segments), analyse(replace(found, segments=segments)))
    drawn = page_of(examined, [Clip(each) for each in _worst_segments(examined)])
    assert drawn.count(">speaker: ") == SLICES
    assert f">speaker: p{SLICES + 9}<" in drawn  # the last has twenty-one of them
    assert "those with the most rows" in drawn


def test_loops_confuse_nothing(examined: Examination) -> None:
    assert all("mycket" not in (each.heard, each.reference) for each in examined.analysis.confusions.pairs)
    assert examined.analysis.worst[0].id == "0"


def test_translations_have_their_own_figures() -> None:
    found = evaluation(task="translate")
    analysis = analyse(found)
    assert analysis.translation is not None
    assert 0 < analysis.translation.chrf < 100
    figures = Examination("m", "d", found, analysis).as_json()
    assert figures["bleu"] == analysis.translation.bleu
    assert figures["chrf_signature"].startswith("nrefs:1")
    clips = [Clip(each) for each in _worst_segments(Examination("m", "d", found, analysis))]
    assert "BLEU, nrefs:1" in page_of(Examination("m", "d", found, analysis), clips)
    mixed = replace(found, segments=(replace(found.segments[0], task="transcribe"), *found.segments[1:]))
    assert analyse(mixed).translation is not None
    assert analyse(mixed).translation.rows == 59  # type: ignore[union-attr]


def test_translations_of_the_base_stand_beside() -> None:
    """Of another share of errors, so that the figures differ."""
    base, found = evaluation(0.8, task="translate"), evaluation(0.2, task="translate")
    examined = replace(examination(base, found), noise={})
    drawn = page_of(examined, [Clip(each) for each in _worst_segments(examined)])
    for name in ("bleu", "chrf"):
        figures = [getattr(analyse(each).translation, name) for each in (base, found)]
        assert figures[0] < figures[1]
        cells = re.findall(r"<td[^>]*>([^<]*)</td>", re.split(f"(?i){name}, nrefs", drawn)[1].partition("</tr>")[0])
        assert [cell.partition(" ")[0] for cell in cells] == [f"{each:.1f}" for each in figures]


def test_levels_are_noted_and_nothing_is_changed() -> None:
    levels = Levels()
    loud, still = (Segment(name, Path("a.wav"), 0, 1, "a", "sv") for name in ("loud", "still"))
    samples = np.full(160, 0.1, dtype=np.float32)
    assert levels(samples, loud) is samples
    levels(np.zeros(160, dtype=np.float32), still)
    levels(np.zeros(0, dtype=np.float32), still)
    assert levels.db == {"loud": pytest.approx(-20.0, abs=1e-3)}


def test_an_alignment_shows_what_was_said_and_written() -> None:
    def shown(reference: str, hypothesis: str, language: str = "sv") -> str:
        _, (utterance,) = score(["a"], [reference], [hypothesis], language)
        return alignment(utterance, language)

    assert shown("en gammal bro", "en gammel bro då") == ("en <del>gammal</del> <ins>gammel</ins> bro <ins>då</ins>")
    assert shown("en gammal bro", "") == "<del>en gammal bro</del>"
    assert shown("a < b", "a > b") == "a <del>&lt;</del> <ins>&gt;</ins> b"
    assert shown("今天天气", "今天好天气", "zh") == "今天<ins>好</ins>天气"
    assert f" … and {90 - 1 - RUN_WORDS} more</ins>" in shown("tack", LOOP)
    assert shown("ja " * 60, "ja " * 60).count("ja") == 60  # what is right is not cut


def test_the_worst_can_be_listened_to(tmp_path: Path) -> None:
    for row in range(4):
        soundfile.write(tmp_path / f"{row}.wav", np.random.default_rng(row).normal(0, 0.1, 48_000), 16_000)
    found = evaluation(rows=4, folder=tmp_path)
    (tmp_path / "1.wav").write_bytes(b"broken")
    examined = Examination("m", "d", found, analyse(found))
    told: list[tuple[int, int]] = []
    with AudioReader() as reader:
        clips = worst_clips(examined, reader, lambda *each: told.append(each))
    assert told == [(n + 1, len(clips)) for n in range(len(clips))]
    assert [clip.segment.id for clip in clips] == [each.id for each in examined.analysis.worst]
    out = tmp_path / "report.html"
    write_page(out, page_of(examined, clips))
    text = out.read_text(encoding="utf-8")
    assert text.count("<audio ") == text.count('src="data:image/png') == len(clips) - 1
    assert text.count("It cannot be played") == 1
    assert "repeated: " in text  # the sign stands on the card of the loop
    check_target(out, MAKER)  # may be written again


def test_rows_come_from_recordings_or_from_folders() -> None:
    def segment(path: str, start_s: float = 0.0) -> Segment:
        return Segment(f"{path} {start_s}", Path(path), start_s, start_s + 1.0, "text", "sv")

    talks = [segment("in/talk.mp3"), segment("in/talk.mp3", 2.0), segment("in/other.mp3")]
    assert sources_of(talks) == ["talk.mp3", "talk.mp3", "other.mp3"]
    clips = [segment("data/radio/clips/1.wav"), segment("data/phone/clips/1.wav")]
    assert sources_of(clips) == ["radio/clips", "phone/clips"]


def test_sources_of_one_name_are_told_apart() -> None:
    def segments(*paths: str) -> list[Segment]:
        return [Segment(f"{n} {path}", Path(path), n, n + 1.0, "text", "sv") for n, path in enumerate(paths)]

    talks = segments("/in/one/audio.wav", "/in/two/audio.wav", "/in/one/audio.wav", "/in/two/other.wav")
    assert sources_of(talks) == ["one/audio.wav", "two/audio.wav", "one/audio.wav", "other.wav"]
    days = segments("/a/1/talk.wav", "/b/1/talk.wav", "/b/2/talk.wav", "/a/1/talk.wav", "talk.wav")
    assert sources_of(days) == ["a/1/talk.wav", "b/1/talk.wav", "2/talk.wav", "a/1/talk.wav", "talk.wav"]
    clips = segments("/x/radio/clips/1.wav", "/y/radio/clips/1.wav", "/x/phone/clips/1.wav")
    assert sources_of(clips) == ["x/radio/clips", "y/radio/clips", "phone/clips"]
