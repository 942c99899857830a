from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scored import scored
from whispertune.errors import InputError
from whispertune.languages import LANGUAGE_NAMES
from whispertune.score.meaning import NEGATIONS, load_embedder, score_meaning
from whispertune.score.normalize import normalizer_for

WEIGHTY = {"dose": 3.0}


class Bags:
    """Counts of words, some of which weigh more: an embedding whose cosines can be worked out by hand."""

    name = "bags"

    def __init__(self) -> None:
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.texts += texts
        words = sorted({word for text in texts for word in text.lower().split()})
        rows = [[text.lower().split().count(word) * WEIGHTY.get(word, 1.0) for word in words] for text in texts]
        return np.array(rows, dtype=np.float32)


def test_a_word_that_weighs_more_costs_more() -> None:
    found = score_meaning(
        scored(("the dose is it", "the dose is in"), ("the dose is it", "the is it"), ("all right", "all right")),
        Bags(),
        "sv",
    )
    assert [each.id for each in found.wrong] == ["u1", "u0"]
    kept, dropped = 11 / 12, 3 / (12 * 3) ** 0.5  # cosines of (1, 3, 1, 1, ...) with what was heard
    assert [each.similarity for each in found.wrong] == pytest.approx([dropped, kept])
    assert found.lost == pytest.approx(100 * (2 - dropped - kept) / 3)
    assert found.lost_where_wrong == pytest.approx(100 * (2 - dropped - kept) / 2)
    assert found.rows == 3
    assert found.model == "bags"


@pytest.mark.parametrize(
    ("said", "heard", "language", "negated"),
    [
        ("do not take it", "do take it", "en", True),
        ("Don't take it.", "do take it", "English", True),
        ("Don't take it.", "do not take in", "en", False),  # n't is a not
        ("take no more", "take not more", "en", False),
        ("nimm das", "nimm das nicht", "de-DE", True),
        ("on ne sait pas", "on sait pas ça", "fr", False),  # the ne is not said
        ("यह नहीं है", "यह है", "hi", True),
        ("do not take it", "do take it", "ln", False),  # not known there
    ],
)
def test_a_negation_dropped_or_added_loses_all(said: str, heard: str, language: str, negated: bool) -> None:
    found = score_meaning(scored((said, heard), ("a b", "a b"), language=language), Bags(), language)
    assert [each.negated for each in found.wrong] == [negated]
    assert (found.lost == 50.0) == negated
    assert found.as_json()["rows_negated"] == negated


def test_each_text_has_the_negations_of_its_language() -> None:
    utterances = scored(("kör inte nu", "kör nu"), ("do not take it", "do take it"), ("en not", "en"))
    found = score_meaning(utterances, Bags(), ["sv", "en", "sv"])
    assert {each.id: each.negated for each in found.wrong} == {"u0": True, "u1": True, "u2": False}


def test_words_that_negate_are_as_the_normaliser_leaves_them() -> None:
    assert NEGATIONS.keys() <= LANGUAGE_NAMES.keys()
    for language, words in NEGATIONS.items():
        assert {normalizer_for(language)(word) for word in words} == words


def test_only_what_is_wrong_is_embedded() -> None:
    bags = Bags()
    found = score_meaning(scored(("Hej, du!", "hej du"), ("en två", "en tre"), ("fyra", ""), ("", "fem")), bags, "sv")
    assert bags.texts == ["en två", "en tre"]  # case and punctuation are no errors, empty texts no sentences
    assert {each.id: each.similarity for each in found.wrong} == pytest.approx({"u1": 0.5, "u2": 0.0, "u3": 0.0})


def test_nothing_wrong_and_nothing_at_all() -> None:
    for utterances in ([], scored(("hej", "hej"), ("", ""))):
        found = score_meaning(utterances, Bags(), "sv")
        assert (found.lost, found.wrong, found.lost_where_wrong) == (0.0, (), None)
        assert found.as_json()["meaning_lost_where_wrong"] is None


def test_opposite_vectors_lose_all_and_no_more() -> None:
    class Opposite:
        name = "opposite"

        def embed(self, texts: Sequence[str]) -> np.ndarray:
            return np.array([[1.0]] * (len(texts) // 2) + [[-1.0]] * (len(texts) // 2), dtype=np.float32)

    assert score_meaning(scored(("yes", "no")), Opposite(), "sv").lost == 100.0


WORDS = st.lists(st.sampled_from(["do", "not", "take", "dose", "it"]), max_size=5).map(" ".join)


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=6))
def test_between_nothing_and_all(texts: list[tuple[str, str]]) -> None:
    utterances = scored(*texts)
    found = score_meaning(utterances, Bags(), "en")
    assert -1e-9 <= found.lost <= 100 + 1e-9
    assert len(found.wrong) == sum(said != heard for said, heard in texts)
    assert [each.lost for each in found.wrong] == sorted((each.lost for each in found.wrong), reverse=True)
    assert all(each.lost >= 1.0 - each.similarity for each in found.wrong)
    assert [each["id"] for each in found.as_json(most=2)["worst"]] == [each.id for each in found.wrong[:2]]


def test_a_folder_of_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no modules\.json") as raised:
        load_embedder(tmp_path)
    assert raised.value.where == str(tmp_path)


def test_where_the_package_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "modules.json").write_text("[]")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(InputError, match="not installed") as raised:
        load_embedder(tmp_path)
    assert raised.value.fix == 'pip install "whispertune[meaning]"'
