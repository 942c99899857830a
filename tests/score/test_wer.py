from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whispertune.errors import DataError
from whispertune.score.normalize import normalizer_named, raw_text
from whispertune.score.statistics import bootstrap_interval
from whispertune.score.wer import (
    Counts,
    Edit,
    Scores,
    align_characters,
    align_words,
    read_utterances,
    score,
    write_utterances,
)

FEW_WORDS = st.lists(st.sampled_from(["a", "b", "Ab", "é", "क्ष", "na"]), max_size=9).map(" ".join)
TEXTS = st.one_of(FEW_WORDS, st.text(max_size=20))


def levenshtein(reference: list[str], hypothesis: list[str]) -> int:
    row = list(range(len(hypothesis) + 1))
    for i, word in enumerate(reference, 1):
        row, above = [i], row
        for j, other in enumerate(hypothesis, 1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (word != other)))
    return row[-1]


@settings(deadline=None)
@given(TEXTS, TEXTS)
def test_counts_are_minimal_and_jiwers(reference: str, hypothesis: str) -> None:
    raw = raw_text(reference), raw_text(hypothesis)
    words, characters = (
        align_words(reference, hypothesis).counts,
        align_characters(reference, hypothesis).counts,
    )
    assert words.errors == levenshtein(raw[0].split(" ") if raw[0] else [], raw[1].split(" ") if raw[1] else [])
    assert characters.errors == levenshtein(list(raw[0]), list(raw[1]))
    assert characters.reference_length == len(raw[0])
    by_jiwer = jiwer.process_words(*raw)
    assert words == Counts(by_jiwer.hits, by_jiwer.substitutions, by_jiwer.deletions, by_jiwer.insertions)
    assert words.rate == pytest.approx(100 * by_jiwer.wer)
    assert words.mer == pytest.approx(100 * by_jiwer.mer)
    assert words.wil == pytest.approx(100 * by_jiwer.wil)
    assert words.hypothesis_length == len(by_jiwer.hypotheses[0])
    assert characters.rate == pytest.approx(100 * jiwer.process_characters(*raw).cer)


def sctk_counts(reference: list[str], hypothesis: list[str]) -> Counts:
    """Counts of an alignment that weighs as sclite does: a substitution 4, an insertion or deletion 3."""
    row = [(3 * n, Counts(insertions=n)) for n in range(len(hypothesis) + 1)]
    for i, word in enumerate(reference, 1):
        row, above = [(3 * i, Counts(deletions=i))], row
        for j, other in enumerate(hypothesis, 1):
            step = Counts(hits=1) if word == other else Counts(substitutions=1)
            ways = (
                (above[j - 1][0] + 4 * step.errors, above[j - 1][1] + step),
                (above[j][0] + 3, above[j][1] + Counts(deletions=1)),
                (row[j - 1][0] + 3, row[j - 1][1] + Counts(insertions=1)),
            )
            row.append(min(ways, key=lambda way: way[0]))
    return row[-1][1]


@settings(deadline=None)
@given(FEW_WORDS, FEW_WORDS)
def test_counts_against_those_with_the_weights_of_sctk(reference: str, hypothesis: str) -> None:
    ours, theirs = align_words(reference, hypothesis).counts, sctk_counts(reference.split(), hypothesis.split())
    assert ours.reference_length == theirs.reference_length
    assert ours.hypothesis_length == theirs.hypothesis_length
    assert ours.errors <= theirs.errors  # fewest errors here, least weight there
    assert 4 * theirs.substitutions + 3 * (theirs.errors - theirs.substitutions) <= (
        4 * ours.substitutions + 3 * (ours.errors - ours.substitutions)
    )


def test_where_the_weights_of_sctk_give_the_same_counts() -> None:
    """The usual errors of recognition: apart, or of one kind."""
    for reference, hypothesis in (
        ("the cat sat on the mat", "the cat sit on mat"),
        ("a b c d", "a b c d e"),
        ("a b c d", "x y c d"),
        ("a b c d", ""),
        ("", "a b"),
    ):
        assert align_words(reference, hypothesis).counts == sctk_counts(reference.split(), hypothesis.split())


@settings(deadline=None)
@given(TEXTS, TEXTS)
def test_alignment_holds_both_texts_in_order(reference: str, hypothesis: str) -> None:
    alignment = align_words(reference, hypothesis)
    assert " ".join(word for edit in alignment.edits for word in edit.reference) == raw_text(reference)
    assert " ".join(word for edit in alignment.edits for word in edit.hypothesis) == raw_text(hypothesis)
    sizes = dict.fromkeys("=SDI", 0)
    for edit in alignment.edits:
        assert (edit.kind == "=") == (edit.reference == edit.hypothesis)
        sizes[edit.kind] += max(len(edit.reference), len(edit.hypothesis))
    assert Counts(*sizes.values()) == alignment.counts


@settings(deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6))
def test_a_corpus_sums_its_utterances(pairs: list[tuple[str, str]]) -> None:
    references, hypotheses = zip(*pairs, strict=True)
    scores, utterances = score([str(n) for n in range(len(pairs))], references, hypotheses, "sv")
    alone = [align_words(*pair) for pair in pairs]
    assert [u.words for u in utterances] == [a.counts for a in alone]
    assert [u.alignment for u in utterances] == [a.edits for a in alone]
    assert [u.characters for u in utterances] == [align_characters(*pair).counts for pair in pairs]
    assert scores.wer == sum((a.counts for a in alone), Counts()).rate
    assert scores.wer == pytest.approx(scores.substitutions + scores.deletions + scores.insertions)
    by_jiwer = jiwer.process_words([u.reference for u in utterances], [u.hypothesis for u in utterances])
    assert (scores.mer, scores.wil) == pytest.approx((100 * by_jiwer.mer, 100 * by_jiwer.wil))
    assert scores.wer_merged <= scores.wer
    assert scores.wer_merged_normalized <= scores.wer_normalized
    if any(u.reference for u in utterances):
        assert scores.hits + scores.substitutions + scores.deletions == pytest.approx(100)


def test_raw_and_normalized_side_by_side() -> None:
    scores, (utterance,) = score(["u1"], ["Hej, du gamla!"], ["hej du gamle där"], "sv")
    assert utterance.words == Counts(hits=1, substitutions=2, insertions=1)
    assert utterance.words_normalized == Counts(hits=2, substitutions=1, insertions=1)
    assert utterance.alignment == (
        Edit("S", ("Hej,",), ("hej",)),
        Edit("=", ("du",), ("du",)),
        *utterance.alignment[2:],
    )
    assert scores.wer == 100.0
    assert scores.wer_normalized == pytest.approx(200 / 3)
    assert scores.normalizer == "whispertune-basic 1"
    assert scores.rows == 1


def test_characters_include_the_spaces_between_words() -> None:
    assert align_characters(" ab  c ", "abc").counts == Counts(hits=3, deletions=1)


def test_composed_and_decomposed_text_are_equal_raw() -> None:
    assert align_words("ngá", "nga\u0301").counts == Counts(hits=1)


def test_empty_references_and_hypotheses() -> None:
    assert Counts().rate == 0.0
    assert align_words("", "a b").counts == Counts(insertions=2)
    assert Counts(insertions=2).rate == 200.0
    assert align_words("a b", "").counts.rate == 100.0
    scores, _ = score(["1", "2"], ["", "a b"], ["x", "a b"], "en")
    assert scores.wer == 50.0  # one insertion, two reference words
    assert score(["1"], ["..."], ["!"], "sv")[0].wer_normalized == 0.0


@pytest.mark.parametrize(
    ("reference", "hypothesis", "wer", "mer", "wil", "cer"),
    [
        ("", "", 0, 0, 0, 0),
        ("", "a bc", 200, 100, 100, 400),
        ("a bc", "", 100, 100, 100, 100),
        ("नमस्ते दुनिया", "namaste duniya", 100, 100, 100, 100),  # another script: only the space is equal
        ("дом 12", "dom 12", 50, 50, 75, 50),
        ("你好世界", "你好世", 100, 100, 100, 25),  # one word to a text
    ],
)
def test_degenerate_texts(reference: str, hypothesis: str, wer: float, mer: float, wil: float, cer: float) -> None:
    scores, (utterance,) = score(["u"], [reference], [hypothesis], "sv")
    assert (scores.wer, scores.mer, scores.wil) == (wer, mer, wil)
    assert (utterance.words.rate, utterance.words.mer, utterance.words.wil) == (wer, mer, wil)
    assert scores.cer == pytest.approx(cer)
    assert scores.wer_interval == (wer, wer)


def test_words_merged_raw_and_normalized() -> None:
    references, hypotheses = ["An ice cream, please", "whitepaper"], ["an icecream please", "white paper"]
    scores, utterances = score(["1", "2"], references, hypotheses, "sv")
    assert [(u.words.errors, u.errors_merged) for u in utterances] == [(3, 3), (2, 0)]  # "cream," is no "cream"
    assert [(u.words_normalized.errors, u.errors_merged_normalized) for u in utterances] == [(2, 0), (2, 0)]
    assert (scores.wer_merged, scores.wer_merged_normalized) == (60.0, 0.0)
    assert (scores.wer, scores.wer_normalized) == (100.0, 80.0)


def test_normalised_words_of_a_script_without_spaces_are_characters() -> None:
    scores, (utterance,) = score(["u"], ["今日は良い天気。"], ["今日は悪い天気"], "ja")
    assert scores.wer == 100.0
    assert utterance.words_normalized == utterance.characters_normalized == Counts(hits=6, substitutions=1)
    assert scores.wer_normalized == scores.cer_normalized == pytest.approx(100 / 7)


def test_interval_is_over_speakers_where_all_are_known() -> None:
    ids = [str(n) for n in range(40)]
    references = ["a b c d"] * 40
    hypotheses = ["a b c d" if n % 20 < 10 else "a x" for n in range(40)]
    speakers = [f"s{n % 20}" for n in range(40)]
    alone = score(ids, references, hypotheses, "en")[0].wer_interval
    grouped = score(ids, references, hypotheses, "en", speakers)[0].wer_interval
    errors = np.array([0 if n % 20 < 10 else 3 for n in range(40)])
    assert alone == bootstrap_interval(errors, np.full(40, 4))
    assert grouped == bootstrap_interval(errors, np.full(40, 4), groups=np.array(speakers))
    assert grouped != alone
    assert score(ids, references, hypotheses, "en", [None, *speakers[1:]])[0].wer_interval == alone


def test_every_rate_has_its_own_interval() -> None:
    references, hypotheses = ["Ja, du bor här.", "nej"] * 20, ["ja du bor här", "nejj"] * 20
    scores, utterances = score([str(n) for n in range(40)], references, hypotheses, "sv")
    for interval, counts, rate in (
        (scores.wer_interval, [u.words for u in utterances], scores.wer),
        (scores.cer_interval, [u.characters for u in utterances], scores.cer),
        (scores.wer_normalized_interval, [u.words_normalized for u in utterances], scores.wer_normalized),
        (scores.cer_normalized_interval, [u.characters_normalized for u in utterances], scores.cer_normalized),
    ):
        errors, lengths = np.array([c.errors for c in counts]), np.array([c.reference_length for c in counts])
        assert interval == bootstrap_interval(errors, lengths)
        assert interval[0] < rate < interval[1]


def test_scores_are_read_as_they_were_saved() -> None:
    scores, _ = score(["1", "2"], ["a b", "c"], ["a", "c d"], "sv")
    saved = json.loads(json.dumps(asdict(scores) | {"seconds": 3}))
    assert Scores.read(saved) == scores
    assert Scores.read({name: value for name, value in saved.items() if name != "mer"}) is None


def test_each_text_is_normalised_by_its_own_language() -> None:
    said, heard = ["Color, please", "सुंदर है", "अल أحمد"], ["colour please", "सदर ह", "अल احمد"]
    scores, utterances = score(["1", "2", "3"], said, heard, ["en", "hi", "ar"])
    assert scores.normalizer == "whisper-english 1, whispertune-arabic 1, whispertune-indic 1"
    assert [each.words_normalized.errors for each in utterances] == [0, 2, 1]
    alone = [score(["1"], said[n : n + 1], heard[n : n + 1], code)[1][0] for n, code in enumerate(("en", "hi", "ar"))]
    assert [replace(each, id="1") for each in utterances] == alone


def test_a_normalizer_that_is_named_is_for_all() -> None:
    said, heard = ["Color أحمد ٣", "أحمد"], ["color احمد 3", "احمد"]
    scores, utterances = score(["1", "2"], said, heard, ["en", "ar"], normalizer=normalizer_named("arabic+alef+digits"))
    assert scores.normalizer == "whispertune-arabic+alef+digits 1"
    assert scores.wer_normalized == 0.0 < scores.wer
    assert [each.words_normalized.hits for each in utterances] == [3, 1]


def test_refuses_lists_that_do_not_match() -> None:
    with pytest.raises(DataError, match="in 2 languages"):
        score(["1"], ["a"], ["a"], ["en", "sv"])
    with pytest.raises(DataError, match="1 ids, 2 references"):
        score(["1"], ["a", "b"], ["a"], "en")
    with pytest.raises(DataError, match="2 speakers"):
        score(["1"], ["a"], ["a"], "en", ["x", "y"])
    with pytest.raises(DataError, match="at least one"):
        score([], [], [], "en")


@settings(deadline=None)
@given(pairs=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_utterances_survive_the_file(pairs: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("scores") / "utterances.jsonl"
    references, hypotheses = zip(*pairs, strict=True)
    _, utterances = score([f"talk.vtt:{n}" for n in range(len(pairs))], references, hypotheses, "mdw")
    write_utterances(path, utterances)
    assert read_utterances(path) == utterances


def test_the_file_is_readable_by_people(tmp_path: Path) -> None:
    path = tmp_path / "utterances.jsonl"
    write_utterances(path, score(["u"], ["lώ ngá"], ["lώ"], "mdw")[1])
    assert '"lώ ngá"' in path.read_text(encoding="utf-8")
    row = json.loads(path.read_text(encoding="utf-8"))
    assert row["alignment"] == [["=", ["lώ"], ["lώ"]], ["D", ["ngá"], []]]
    assert row["words"] == {"hits": 1, "substitutions": 0, "deletions": 1, "insertions": 0}


@pytest.mark.parametrize("line", ["{", "[]", '{"id": "x"}', "null"])
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "utterances.jsonl"
    write_utterances(path, score(["u"], ["a"], ["a"], "en")[1])
    with path.open("a", encoding="utf-8") as lines:
        lines.write(line + "\n")
    with pytest.raises(DataError, match=r"utterances\.jsonl:2: not a scored utterance"):
        read_utterances(path)


def test_lines_of_before_merged_words_were_counted_are_read(tmp_path: Path) -> None:
    path = tmp_path / "utterances.jsonl"
    write_utterances(path, score(["u"], ["a b"], ["ab"], "sv")[1])
    row = json.loads(path.read_text(encoding="utf-8"))
    assert (row.pop("errors_merged"), row.pop("errors_merged_normalized")) == (0, 0)
    path.write_text(json.dumps(row), encoding="utf-8")
    (utterance,) = read_utterances(path)
    assert (utterance.words.errors, utterance.errors_merged, utterance.errors_merged_normalized) == (2, None, None)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "raw", "normalized"),
    [
        ("Ett, två tre", "ett två fyra", (200 / 3, 500 / 12), (100 / 3, 300 / 11)),
        ("", "en två", (200.0, 600.0), (200.0, 600.0)),  # as of the corpus: 100 for every insertion
        ("", "", (0.0, 0.0), (0.0, 0.0)),
        ("en", "", (100.0, 100.0), (100.0, 100.0)),
    ],
)
def test_each_utterance_has_its_rates_in_the_file(
    reference: str, hypothesis: str, raw: tuple[float, float], normalized: tuple[float, float], tmp_path: Path
) -> None:
    path = tmp_path / "utterances.jsonl"
    scores, utterances = score(["u"], [reference], [hypothesis], "sv")
    write_utterances(path, utterances)
    row = json.loads(path.read_text(encoding="utf-8"))
    assert (row["wer"], row["cer"]) == pytest.approx(raw)
    assert (row["wer_normalized"], row["cer_normalized"]) == pytest.approx(normalized)
    assert all(row[name] == getattr(scores, name) for name in ("wer", "cer", "wer_normalized", "cer_normalized"))
    assert read_utterances(path) == utterances


def test_lines_of_before_rates_were_written_are_read(tmp_path: Path) -> None:
    path = tmp_path / "utterances.jsonl"
    _, utterances = score(["u"], ["a b"], ["a c"], "sv")
    write_utterances(path, utterances)
    row = json.loads(path.read_text(encoding="utf-8"))
    for name in ("wer", "cer", "wer_normalized", "cer_normalized"):
        del row[name]
    path.write_text(json.dumps(row), encoding="utf-8")
    assert read_utterances(path) == utterances


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jsonl"):
        read_utterances(tmp_path / "gone.jsonl")
