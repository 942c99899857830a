from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whispertune.errors import DataError
from whispertune.score.hallucination import (
    COMPRESSION_RATIO,
    HallucinationCounts,
    LengthLimit,
    Sign,
    compression_ratio,
    count_hallucinations,
    longest_runs,
    script_of,
    signs_of,
)
from whispertune.score.wer import UtteranceScore, score

SENTENCE = "we went down to the harbour early in the morning to see the boats come in from the night"
CHORUS = "na na na na na na na na hey hey hey goodbye " * 4
THAI = (
    "ภาษาไทยเป็นภาษาที่มีระดับเสียงของคำแน่นอนหรือวรรณยุกต์เช่นเดียวกับภาษาจีนและออกเสียงแยกคำต่อคำ "
    "เป็นที่ลำบากของชาวต่างชาติเนื่องจากการออกเสียงวรรณยุกต์ที่เป็นเอกลักษณ์ของแต่ละคำ และการสะกดคำที่ซับซ้อน"
)
HINDI = (
    "हिन्दी विश्व की एक प्रमुख भाषा है और भारत की एक राजभाषा है। केन्द्रीय स्तर पर भारत में सह-आधिकारिक भाषा अंग्रेजी है। "
    "यह हिन्दुस्तानी भाषा की एक मानकीकृत रूप है जिसमें संस्कृत के तत्सम तथा तद्भव शब्दों का प्रयोग अधिक है।"
)


def utterance(reference: str, hypothesis: str, name: str = "a") -> UtteranceScore:
    return score([name], [reference], [hypothesis], "en")[1][0]


def kinds(reference: str, hypothesis: str, duration_s: float | None = None) -> set[str]:
    return {sign.kind for sign in signs_of(utterance(reference, hypothesis), duration_s=duration_s)}


@pytest.mark.parametrize(
    ("reference", "hypothesis"),
    [
        (SENTENCE, "so we went, " * 12),
        (SENTENCE, "a" * 100),
        (THAI, "ภาษาไทยเป็น" * 10),
        ("la la la la", "la " * 60),
        ("", "Thank you for watching. " * 8),
    ],
)
def test_compressible(reference: str, hypothesis: str) -> None:
    assert "compressible" in kinds(reference, hypothesis)


@pytest.mark.parametrize(
    ("reference", "hypothesis"),
    [
        (SENTENCE, SENTENCE),
        (CHORUS, CHORUS + "goodbye"),
        ("what", "ha ha ha ha ha ha ha"),  # short
        (THAI, THAI),
        ("", THAI),
        ("", HINDI),
        (SENTENCE, HINDI),
        (
            "the number is",
            "the number is 0046 8 123 456 78 and the other one is 0046 70 999 00 11, in case you need it",
        ),
    ],
)
def test_not_compressible(reference: str, hypothesis: str) -> None:
    assert "compressible" not in kinds(reference, hypothesis)


def test_ratio_of_openai_for_latin_and_below_it_elsewhere() -> None:
    for text in (SENTENCE, CHORUS, "so we went, " * 12):
        theirs = len(text.encode()) / len(zlib.compress(text.encode()))
        assert compression_ratio(text) == pytest.approx(theirs, rel=0.05)
    for text in (THAI, HINDI):  # ordinary sentences, loops by UTF-8
        assert len(text.encode()) / len(zlib.compress(text.encode())) > COMPRESSION_RATIO
        assert compression_ratio(text) < 0.8 * COMPRESSION_RATIO
    assert compression_ratio("") == 0.0


@pytest.mark.parametrize(
    ("reference", "hypothesis", "evidence"),
    [
        ("thanks", "Thank you. thank you, Thank you! Thank you", "'thank you' 4 times in a row"),
        ("the end", "the the the the the the the the end", "'the' 8 times in a row"),
        ("no no no", "no " * 9, "'no' 9 times in a row"),
        ("", "0 " * 10, "'0' 10 times in a row"),
        ("ครับ", "ขอบคุณครับ" * 4, "'ขอบคุณครับ' 4 times in a row"),
        ("你好", "哈" * 12, "'哈' 12 times in a row"),
        ("one", "and " + "it was a very long day for all of us " * 4, None),
    ],
)
def test_repeated(reference: str, hypothesis: str, evidence: str | None) -> None:
    signs = [sign for sign in signs_of(utterance(reference, hypothesis)) if sign.kind == "repeated"]
    assert len(signs) == 1
    assert evidence in (None, signs[0].evidence)


@pytest.mark.parametrize(
    ("reference", "hypothesis"),
    [
        ("what", "ha ha ha"),
        ("no", "no no no, no no"),
        (CHORUS, CHORUS),
        ("la " * 20, "na " * 25),  # sung, and heard as something else
        ("thank you", "thank you thank you thank you"),
        ("a", "1 000 000 000 000"),
        ("a", "555555555555"),  # Thai laughter, one word
        ("a", "มากมากมากมาก"),
        ("哈哈", "哈哈哈哈哈哈"),
        (THAI, THAI),
        ("", ""),
    ],
)
def test_not_repeated(reference: str, hypothesis: str) -> None:
    assert "repeated" not in kinds(reference, hypothesis)


def test_longest_runs() -> None:
    runs = {length: (phrase, times) for length, phrase, times in longest_runs(list("abababcc"))}
    assert runs[1] == (("c",), 2)
    assert runs[2] == (("a", "b"), 3)
    assert runs[3][1] == 1
    assert list(longest_runs([])) == []


@given(
    st.lists(st.sampled_from("abc"), max_size=4),
    st.permutations("xyz"),
    st.integers(1, 3),
    st.integers(1, 6),
)
def test_a_run_is_found_with_its_length(before: list[str], phrase: list[str], length: int, times: int) -> None:
    tokens = before + phrase[:length] * times
    found = {size: most for size, _, most in longest_runs(tokens)}
    assert found[length] >= times
    assert found[length] == times or before


@pytest.mark.parametrize(
    ("reference", "hypothesis"),
    [
        ("we are here", "we are here and you can also subscribe"),
        ("we are here", "as always many thanks to we are here"),
        ("今天天气很好", "今天天气很好请不吝点赞订阅转发打赏支持明镜与点点栏目"),
    ],
)
def test_burst(reference: str, hypothesis: str) -> None:
    assert kinds(reference, hypothesis) >= {"burst"}


@pytest.mark.parametrize(
    ("reference", "hypothesis"),
    [
        ("we are here", "well now we really are over here today"),
        ("we are here", "they were there"),
        ("we are here and you can also subscribe", "we are here"),
        ("今天天气很好", "今天天气很好很好"),
        ("", "one two three four five six"),  # on silence, and counted there
        ("one two", ""),
    ],
)
def test_no_burst(reference: str, hypothesis: str) -> None:
    assert "burst" not in kinds(reference, hypothesis)


def test_too_many_words() -> None:
    assert "too many words" in kinds("we are here", " ".join(map(str, range(12))))
    assert "too many words" not in kinds("we are here", " ".join(map(str, range(11))))
    assert "too many words" not in kinds("今天", "今天天气很好我们去公园")
    assert "too many words" not in kinds("", " ".join(map(str, range(12))))
    assert "too many words" not in kinds("...", SENTENCE)  # nothing to say how many are many


def test_too_fast() -> None:
    assert "too fast" in kinds("yes", SENTENCE, 1.0)
    assert "too fast" in kinds("ครับ", THAI, 2.0)
    assert "too fast" in kinds("one", "1 2 3 4 5 6 7 8 9 10 11 12 13 14", 1.0)
    assert "too fast" not in kinds("yes", SENTENCE, 4.0)
    assert "too fast" not in kinds("yes", "yes it is", 0.2)
    assert "too fast" not in kinds(SENTENCE, SENTENCE, 1.0)  # the time is wrong, not the text
    assert "too fast" not in kinds("yes", SENTENCE)


@pytest.mark.parametrize(
    ("reference", "hypothesis"),
    [
        ("मैं घर जा रहा हूँ", "main ghar ja raha hoon"),
        ("det är bra så", "это хорошо"),
        ("สวัสดีครับ", "Hello everyone"),
        ("hello everyone", "你好大家早上好"),
    ],
)
def test_other_script(reference: str, hypothesis: str) -> None:
    assert "other script" in kinds(reference, hypothesis)


@pytest.mark.parametrize(
    ("reference", "hypothesis"),
    [
        ("मैं weekend पर shopping करने mall जाऊँगा", "main weekend par shopping karne"),  # mixed in the reference
        ("ओके", "OK"),  # too short to say
        ("ありがとうございます", "有難う御座居ます"),
        ("カタカナ", "片仮名文字"),
        ("twelve hundred", "1200"),
        ("twelve hundred", ""),
        ("wa ngá εbɔlɔ ω", "wa nga ebolo o"),
        ("ＡＢＣＤＥ", "abcde"),
        ("", "Привет"),
    ],
)
def test_no_other_script(reference: str, hypothesis: str) -> None:
    assert "other script" not in kinds(reference, hypothesis)


def test_script_of() -> None:
    assert script_of("Привет, world, как дела") == "CYRILLIC"
    assert script_of("ab вг") is None  # a half each
    assert script_of("12, 3!") is None


def test_on_silence() -> None:
    assert signs_of(utterance("  ", "Thank you.")) == (Sign("on silence", "'Thank you.'"),)
    assert kinds("", "5") == {"on silence"}
    assert kinds("", " ... ") == set()
    assert kinds("you", "Thank you.") == set()


def test_length_limit() -> None:
    said = utterance("one two three", "one two three")
    assert signs_of(said, limit=LengthLimit(13)) == (Sign("length limit", "13 characters, the limit is 13"),)
    assert signs_of(said, limit=LengthLimit(14)) == ()
    words = LengthLimit(3, lambda text: len(text.split()), "words")
    assert signs_of(said, limit=words) == (Sign("length limit", "3 words, the limit is 3"),)


def test_counts() -> None:
    utterances = [
        utterance(SENTENCE, SENTENCE, "fine"),
        utterance("thanks", "thank you " * 20, "loop"),
        utterance("", "Thank you.", "silence"),
        utterance("", "", "silent"),
        utterance("hello everyone", "你好大家早上好", "script"),
    ]
    counts = count_hallucinations(utterances, durations_s=[5.0, None, 2.0, 2.0, 2.0])
    assert (counts.rows, counts.empty_references) == (5, 2)
    assert (counts.loops, counts.bursts, counts.other_script, counts.on_silence) == (1, 1, 1, 1)
    assert [each.id for each in counts.flagged] == ["loop", "silence", "script"]
    assert counts.rate == pytest.approx(60.0)
    assert counts.loop_rate == counts.burst_rate == counts.script_rate == pytest.approx(20.0)
    assert counts.silence_rate == 50.0
    assert counts.at_limit is None
    assert counts.limit_rate is None
    limited = count_hallucinations(utterances, limit=LengthLimit(100))
    assert limited.at_limit == 1
    assert limited.limit_rate == pytest.approx(20.0)


def test_nothing_to_count() -> None:
    counts = count_hallucinations([])
    assert counts == HallucinationCounts(0, 0, 0, 0, 0, None, 0, ())
    assert (counts.rate, counts.silence_rate) == (0.0, None)
    with pytest.raises(DataError, match="1 utterances, but 2 durations"):
        count_hallucinations([utterance("a", "a")], durations_s=[1.0, 2.0])
