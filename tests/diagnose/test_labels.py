"""Family 7: texts that are written otherwise than they are decoded, and rows that look wrong."""

from __future__ import annotations

from whispertune.diagnose.findings.labels import code_switching, labels, many_dropped, numbers, suspicious_rows
from whispertune.diagnose.predictions import Predictions
from whispertune.score.wer import UtteranceScore, score

SAID = "den gamla bron byggdes av sten"
WRITTEN = "Den gamla bron, byggdes av sten."


def scored(pairs: list[tuple[str, str]], language: str = "sv") -> tuple[UtteranceScore, ...]:
    references, texts = zip(*pairs, strict=True)
    return tuple(score([f"row-{n}" for n in range(len(pairs))], references, texts, language)[1])


def keys(utterances: tuple[UtteranceScore, ...]) -> set[str]:
    return {each.key for each in labels(Predictions(tuned=utterances, language="sv"))}


def test_case_and_punctuation_on_one_side_alone() -> None:
    assert keys(scored([(SAID, WRITTEN)] * 20)) == {"case-unlike", "punctuation-unlike"}
    assert keys(scored([(WRITTEN, SAID)] * 20)) == {"case-unlike", "punctuation-unlike"}
    assert keys(scored([(SAID, SAID.capitalize())] * 20)) == {"case-unlike"}
    found = labels(Predictions(tuned=scored([(SAID, WRITTEN)] * 20)))
    assert [each.severity for each in found] == ["high", "high"]
    assert found[0].change[0].key == "clean.case"


def test_the_split_that_was_decoded_is_named() -> None:
    for split in ("dev", "test"):
        found = labels(Predictions(tuned=scored([(SAID, WRITTEN)] * 20), split=split))
        assert all(f"the texts of train and of {split} are" in each.means for each in found)


def test_texts_that_are_written_alike_have_no_finding() -> None:
    assert keys(scored([(WRITTEN, WRITTEN)] * 20)) == set()
    assert keys(scored([(WRITTEN, WRITTEN.replace("gamla", "gamle"))] * 20)) == set()
    assert keys(scored([(SAID, WRITTEN)] * 3)) == set()  # too few
    mostly_wrong = [(SAID, "Helt andra ord skrevs det här.")] * 20  # capitals are not what is wrong
    assert "case-unlike" not in keys(scored(mostly_wrong))


def test_scripts_without_spaces_have_no_case() -> None:
    thai = scored([("สวัสดีครับผมชื่อสมชาย", "สวัสดีครับผมชื่อสมชัย")] * 20, "th")
    assert labels(Predictions(tuned=thai, language="th")) == []


def test_numbers_in_figures_and_in_words() -> None:
    unlike = scored([("det kostar 25 kronor", "det kostar tjugofem kronor")] * 6 + [(SAID, SAID)] * 10)
    found = numbers(unlike)
    assert found is not None
    assert found.seen[1].value == 6
    assert "references" in found.seen[1].name
    assert numbers(scored([("det kostar 25 kronor", "det kostar 24 kronor")] * 20)) is None
    assert numbers(scored([(SAID, SAID)] * 20)) is None


def test_the_normaliser_of_english_reads_numbers_in_words() -> None:
    unlike = scored([("it costs 25 pounds", "it costs twenty five pounds")] * 6, "en")
    assert all(each.words_normalized.errors == 0 for each in unlike)
    found = numbers(unlike)
    assert found is not None
    assert "no normaliser but that of English" in found.means


def test_words_in_a_second_script_that_go_wrong() -> None:
    plain, mixed = "यह एक पुराना पुल है", "यह एक software company है"
    wrong = scored([(plain, plain)] * 16 + [(mixed, "यह एक सॉफ्टवेयर कंपनी है")] * 4, "hi")
    found = code_switching(wrong)
    assert found is not None
    assert found.seen[0].value == 4
    assert code_switching(scored([(plain, plain)] * 16 + [(mixed, mixed)] * 4, "hi")) is None
    assert code_switching(scored([(plain, "वह")] * 20, "hi")) is None


def test_kanji_and_kana_are_one_script() -> None:
    pairs = [("私は学生です", "私は学生")] * 10 + [("テレビを見ます", "見ま")] * 10
    assert code_switching(scored(pairs, "ja")) is None


def test_rows_of_which_nothing_is_right_among_good_ones() -> None:
    pairs = [(SAID, SAID)] * 30 + [("helt annan text i filen", "zzz qqq")] * 2
    found = suspicious_rows(scored(pairs))
    assert found is not None
    assert found.sure == "possible"
    assert found.seen[2].value == "row-30, row-31"
    assert suspicious_rows(scored([(SAID, SAID)] * 30)) is None
    assert suspicious_rows(scored([(SAID, "zzz qqq")] * 30)) is None  # the model is bad, not the rows


def test_many_rows_that_could_not_be_used() -> None:
    found = many_dropped({"no text": 20, "too short": 5}, 200)
    assert found is not None
    assert [each.value for each in found.seen] == [25, 200, 20, 5]
    assert many_dropped({"no text": 2}, 200) is None
    assert many_dropped({}, None) is None
