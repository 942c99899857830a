from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whispertune.data.captions import Cue, Word
from whispertune.decode.cues import by_sentence, wrap
from whispertune.errors import DataError


def cue(*texts: str, start_s: float = 0.0, word_s: float = 0.3, speaker: str | None = None) -> Cue:
    """Words one after the other, each `word_s` long."""
    words = tuple(
        Word(start_s + index * word_s, start_s + (index + 1) * word_s, text) for index, text in enumerate(texts)
    )
    return Cue(start_s, words[-1].end_s, "".join(texts).strip(), words=words, speaker=speaker)


def spaced(text: str, start_s: float = 0.0, word_s: float = 0.3, speaker: str | None = None) -> Cue:
    return cue(*(f" {word}" for word in text.split()), start_s=start_s, word_s=word_s, speaker=speaker)


def texts(*cues: Cue) -> list[str]:
    return [found.text for found in by_sentence(cues)]


def test_sentences_run_across_cues() -> None:
    found = by_sentence([spaced("So this is"), spaced("the plan. Does it", start_s=0.9), spaced("work?", start_s=1.8)])
    assert [c.text for c in found] == ["So this is the plan.", "Does it work?"]
    assert [c.start_s for c in found] == pytest.approx([0.0, 1.5])
    assert [c.end_s for c in found] == pytest.approx([1.5, 2.1])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dr. Smith is here. Good.", ["Dr. Smith is here.", "Good."]),
        ("It costs 3.5 crowns. Yes!", ["It costs 3.5 crowns.", "Yes!"]),
        ("By J. R. R. Tolkien, e.g. this. Fine.", ["By J. R. R. Tolkien, e.g. this.", "Fine."]),
        ('He said "go." Then (really?) he went…', ['He said "go."', "Then (really?)", "he went…"]),
        ("“Go!” she said.", ["“Go!”", "she said."]),
        ("यह अच्छा है। हाँ।", ["यह अच्छा है।", "हाँ।"]),
        ("كيف حالك؟ بخير", ["كيف حالك؟", "بخير"]),
        ("Wait... What?!", ["Wait...", "What?!"]),
    ],
)
def test_sentence_ends(text: str, expected: list[str]) -> None:
    assert texts(spaced(text)) == expected


def test_unspaced_words_and_punctuation_of_their_own() -> None:
    assert texts(cue("「", "你好", "。", "」", "再见", "！", "圆周率", "3", ".", "1", "4")) == [
        "「你好。」",
        "再见！",
        "圆周率3.14",
    ]
    assert texts(cue(" Hi", ".", '"', " There", " he", " goes")) == ['Hi."', "There he goes"]


def test_pauses_and_speakers_end_a_cue() -> None:
    assert texts(spaced("one two"), spaced("three", start_s=1.59), spaced("four", start_s=2.9)) == [
        "one two three",
        "four",
    ]
    found = by_sentence([spaced("well yes", speaker="a"), spaced("no", start_s=0.6, speaker="b")])
    assert [(c.text, c.speaker) for c in found] == [("well yes", "a"), ("no", "b")]


def test_too_long_is_cut_at_the_comma_near_the_middle() -> None:
    parts = [
        "we took the early train that day,",
        "and nobody knew when the last one would leave the coast",
    ]
    assert texts(spaced(" ".join(parts), word_s=0.2)) == parts


def test_too_long_is_cut_at_the_longest_pause_near_the_middle() -> None:
    found = texts(spaced("a b c d e f g h", word_s=0.5), spaced("i j k l m n", start_s=4.5, word_s=0.5))
    assert found == ["a b c d e f g h", "i j k l m n"]


def test_too_long_is_cut_in_the_middle_else_and_in_no_more_cues_than_needed() -> None:
    assert texts(spaced("a b c d e f g h", word_s=1.0)) == ["a b c d", "e f g h"]
    assert [len(text.split()) for text in texts(spaced(" ".join("a" * 20), word_s=1.0))] == [6, 7, 7]
    assert texts(spaced("a b c d e f g", word_s=1.0, start_s=3.1)) == ["a b c d e f g"]


def test_a_word_in_two_tokens_stays_whole() -> None:
    parts = cue(" this", " is", " quite", " a", " well", "-known", " and", " long", " story", word_s=1.0)
    assert texts(parts) == ["this is quite a", "well-known and long story"]


def test_cues_do_not_overlap_though_words_do() -> None:
    words = (Word(0.0, 1.2, " One."), Word(1.0, 1.1, " Two."), Word(0.9, 2.0, " Three."))
    found = by_sentence([Cue(0.0, 2.0, "One. Two. Three.", words=words)])
    assert [(c.start_s, c.end_s) for c in found] == [(0.0, 1.0), (1.0, 1.0), (1.0, 2.0)]


def test_cues_without_words_are_refused() -> None:
    with pytest.raises(DataError, match=r"'Hello' at 1\.00 s has no words"):
        by_sentence([Cue(1.0, 2.0, " Hello")])
    assert by_sentence([]) == ()
    assert by_sentence([Cue(1.0, 2.0, "")]) == ()


def test_punctuation_without_words_goes_to_the_word_before() -> None:
    alone = Cue(0.3, 0.4, "。")
    assert texts(cue("はい"), alone, cue("ええ", start_s=0.4)) == ["はい。", "ええ"]
    assert texts(cue("はい", "。"), alone) == texts(cue("はい。"), alone) == ["はい。"]  # it is there already
    assert texts(alone, cue("はい")) == ["はい"]


def as_aligned(*said: str) -> list[Cue]:
    """Cues of a second a character with words as faster-whisper gives them: cut before spaces, also across cues.

    A cue takes words until they have as many characters as it has itself, or there are no more.
    """
    together = "".join(said)
    ends = [0, *(at for at, sign in enumerate(together) if at and sign == " "), len(together)]
    waiting = [Word(start, end, together[start:end]) for start, end in pairwise(ends)]
    cues, begin = [], 0
    for text in said:
        words: list[Word] = []
        while waiting and sum(len(word.text) for word in words) < len(text):
            words.append(waiting.pop(0))
        end = min(begin + len(text), words[-1].end_s) if words else begin + len(text)
        cues.append(Cue(begin, max(end, begin), text.strip(), words=tuple(words)))
        begin += len(text)
    return cues


def test_khmer_without_spaces_keeps_its_cues() -> None:
    given = as_aligned("ខ្ញុំទៅផ្សារ។", "គាត់ទៅសាលា។", "យើងនៅផ្ទះ")
    assert [len(cue.words) for cue in given] == [1, 0, 0]
    found = by_sentence(given, max_duration_s=30)
    assert [(c.start_s, c.end_s, c.text) for c in found] == [(c.start_s, c.end_s, c.text) for c in given]


def test_a_cue_whose_words_are_in_those_before_is_not_said_twice() -> None:
    given = as_aligned("កខ", "គ", "ឃ ង", "ច")
    assert [[word.text for word in cue.words] for cue in given] == [["កខគឃ"], [" ងច"], [], []]
    (found,) = by_sentence(given)
    assert found.text == "កខគឃ ងច"
    alone = Cue(2.0, 3.0, "។")
    assert texts(*as_aligned("កខ", "គ")[:2], alone) == ["កខគ។"]


def test_a_cue_without_words_that_nothing_holds_is_a_word() -> None:
    other = Cue(0.9, 2.0, "there you are")
    assert texts(spaced("Well hello"), other) == ["Well hello there you are"]
    assert texts(other, spaced("well hello", start_s=2.0)) == ["there you are well hello"]
    assert texts(cue("ខ្ញុំ"), Cue(0.3, 1.0, "ទៅ")) == ["ខ្ញុំទៅ"]


@given(st.lists(st.text("កខគ ", min_size=1, max_size=9).filter(str.strip), min_size=1, max_size=8))
def test_unspaced_text_is_neither_lost_nor_doubled(said: list[str]) -> None:
    found = by_sentence(as_aligned(*said))
    assert "".join(c.text for c in found).replace(" ", "") == "".join(said).replace(" ", "")


WORDS = st.one_of(
    st.sampled_from([" a", " the", " Dr.", " end.", " so,", " J.", "-known", '"', " 3", ".", "5", " “No!”", " x" * 3]),
    st.sampled_from(["微", "调", "。", "、", "」", "「", "カー", "ครับ", " ", " क्या", "है।"]),
    st.integers(1, 130).map(lambda length: " " + "m" * length),
)
TIMED = st.tuples(WORDS, st.sampled_from([0.0, 0.1, 0.5, 1.4]), st.sampled_from([0.0, 0.2, 0.9, 8.0]))


@st.composite
def decoded(draw: st.DrawFn) -> list[Cue]:
    now_s, cues = 0.0, []
    for timed in draw(st.lists(st.lists(TIMED, min_size=1, max_size=15), max_size=6)):
        words = []
        for text, pause_s, length_s in timed:
            start_s = round(now_s + pause_s, 2)
            now_s = round(start_s + length_s, 2)
            words.append(Word(start_s, now_s, text))
        speaker = draw(st.sampled_from([None, "a", "b"]))
        text = "".join(word.text for word in words)
        cues.append(Cue(words[0].start_s, now_s, text.strip(), words=tuple(words), speaker=speaker))
    return cues


@settings(deadline=None)
@given(decoded())
def test_no_word_is_lost_or_doubled(cues: list[Cue]) -> None:
    given_words = [(word, c.speaker) for c in cues for word in c.words if word.text.strip()]
    found = by_sentence(cues)
    assert [(word, c.speaker) for c in found for word in c.words if word.text.strip()] == given_words
    assert all(c.text == "".join(word.text for word in c.words).strip() for c in found)
    assert all(c.text for c in found)


@settings(deadline=None)
@given(decoded())
def test_times_are_in_order(cues: list[Cue]) -> None:
    found = by_sentence(cues)
    assert all(c.start_s <= c.end_s for c in found)
    assert all(left.end_s <= right.start_s for left, right in pairwise(found))
    assert all((c.start_s, c.end_s) == (c.words[0].start_s, c.words[-1].end_s) for c in found)


@settings(deadline=None)
@given(decoded(), st.sampled_from([3.0, 7.0]), st.integers(8, 42), st.integers(1, 3))
def test_limits_are_kept(cues: list[Cue], duration_s: float, characters: int, lines: int) -> None:
    for found in by_sentence(cues, max_duration_s=duration_s, max_line_characters=characters, max_lines=lines):
        if len(found.words) > 1:
            assert found.end_s - found.start_s <= duration_s + 1e-6
            assert len(found.text) <= characters * lines
            shown = wrap(found.text, characters, lines).split("\n")
            assert len(shown) <= lines
            assert all(len(line) <= characters or " " not in line for line in shown)


@pytest.mark.parametrize(
    ("text", "characters", "lines", "expected"),
    [
        ("short", 42, 2, "short"),
        ("", 42, 2, ""),
        (
            "the quick brown fox jumps over the lazy dog",
            42,
            2,
            "the quick brown fox\njumps over the lazy dog",
        ),
        ("one\ntwo   three", 42, 2, "one two three"),
        ("aaa bbb ccc ddd", 3, 2, "aaa bbb\nccc ddd"),
        ("微调模型使用语音，很好。", 8, 2, "微调模型使用\n语音，很好。"),
        ("これはカード「です」", 6, 2, "これはカー\nド「です」"),
        ("เราเล่นน้ำ", 6, 2, "เราเล่\nนน้ำ"),
        ("a" * 50, 42, 2, "a" * 50),
    ],
)
def test_wrap(text: str, characters: int, lines: int, expected: str) -> None:
    assert wrap(text, characters, lines) == expected


@settings(deadline=None)
@given(st.lists(WORDS, max_size=30).map("".join), st.integers(1, 42), st.integers(1, 4))
def test_wrap_loses_nothing_and_keeps_the_lines(text: str, characters: int, lines: int) -> None:
    shown = wrap(text, characters, lines)
    assert "".join(shown.split()) == "".join(text.split())
    assert len(shown.split("\n")) <= lines
    assert all(line == line.strip() for line in shown.split("\n"))
    spaced_breaks = shown.replace("\n", " ").split()
    assert len(spaced_breaks) >= len(text.split())  # no two words run together
