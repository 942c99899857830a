from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scored import scored
from whispertune.score.confusions import Confusion, Confusions, confusions
from whispertune.score.normalize import normalizer_for


def test_words() -> None:
    found = confusions(
        scored(
            ("den gamla bron", "den gamle bron"),
            ("gamla bron", "gamle bro"),
            ("en gamla", "gamle"),
            ("en till", "till"),
            ("gamla", "gamla då"),
        )
    )
    assert found.pairs == (
        Confusion("gamla", "gamle", 3, 4, ("u0", "u1", "u2")),
        Confusion("bron", "bro", 1, 2, ("u1",)),
    )
    assert found.deleted == (Confusion("en", "", 2, 2, ("u2", "u3")),)
    assert found.inserted == (Confusion("", "då", 1, 0, ("u4",)),)
    assert found.characters == (
        Confusion("a", "e", 3, 8, ("u0", "u1", "u2")),
        Confusion("n", "", 1, 5, ("u1",)),
    )


def test_errors_in_a_row_are_paired_by_what_looks_alike() -> None:
    found = confusions(scored(("den stora vita hunden", "stor vit hund"), ("ja", "ja det hade vi här")))
    assert {(each.reference, each.heard) for each in found.pairs} == {
        ("stora", "stor"),
        ("vita", "vit"),
        ("hunden", "hund"),
    }
    assert [each.reference for each in found.deleted] == ["den"]
    assert len(found.inserted) == 4
    more = confusions(scored(("stor vit hund", "den stora vita hunden ju")))
    assert [each.heard for each in more.inserted] == ["den", "ju"]


def test_the_most_frequent_only_with_few_examples() -> None:
    found = confusions(scored(*[("a b", "x b")] * 5, ("a b", "a y")), most=1)
    assert found.pairs == (Confusion("a", "x", 5, 6, ("u0", "u1", "u2")),)
    twice = confusions(scored(("a b a b", "x b x b")))
    assert twice.pairs == (Confusion("a", "x", 2, 2, ("u0",)),)  # an example is named once


def test_normalised_texts_have_no_case_and_no_punctuation() -> None:
    said = scored(("Hej, du där.", "hej du här"))
    assert [each.reference for each in confusions(said).pairs] == ["Hej,", "där."]
    assert [each.reference for each in confusions(said, normalizer=normalizer_for("sv")).pairs] == ["där"]


def test_marks_are_characters_and_survive() -> None:
    said = scored(("हिन्दी में", "हिन्दि में"), ("ngá εbɔ", "ngâ ebo"), language="hi")
    found = {(each.reference, each.heard) for each in confusions(said, normalizer=normalizer_for("hi")).characters}
    assert found == {("ी", "ि"), ("á", "â"), ("ε", "e"), ("ɔ", "o")}


def test_scripts_without_spaces_by_character() -> None:
    said = scored(("今天天气很好", "今天天汽很好"), language="zh")
    found = confusions(said, normalizer=normalizer_for("zh"))
    assert found.pairs == found.characters == (Confusion("气", "汽", 1, 1, ("u0",)),)
    assert confusions(said).characters == found.characters


def test_nothing_wrong() -> None:
    nothing = Confusions((), (), (), ())
    assert confusions([]) == confusions([], normalizer=normalizer_for("sv")) == nothing
    assert confusions(scored(("a", "a"), ("", ""))) == nothing


TEXT = st.lists(st.sampled_from(["ab", "ac", "b", "abc"]), max_size=6).map(" ".join)


@settings(deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6))
def test_every_error_is_counted_once(texts: list[tuple[str, str]]) -> None:
    said = scored(*texts)
    found = confusions(said, most=10_000)
    assert sum(each.count for each in found.pairs) == sum(each.words.substitutions for each in said)
    assert sum(each.count for each in found.deleted) == sum(each.words.deletions for each in said)
    assert sum(each.count for each in found.inserted) == sum(each.words.insertions for each in said)
    words = Counter(word for reference, _ in texts for word in reference.split())
    letters = Counter(reference_letter for reference, _ in texts for reference_letter in reference)
    assert all(each.count <= each.occurrences == words[each.reference] for each in found.pairs + found.deleted)
    assert all(each.count <= each.occurrences == letters[each.reference] for each in found.characters if each.reference)
