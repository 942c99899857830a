from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scored import scored
from whispertune.errors import DataError, InputError
from whispertune.score.entities import Entity, EntityList, EntityScores, KindScores, load_tagger, score_entities
from whispertune.score.normalize import normalizer_for
from whispertune.score.wer import Counts

NAMES = EntityList(["Anna Berg", "New York", "QLoRA", "東京"], "names")


class Given:
    """The entities that a test says."""

    name = "given"

    def __init__(self, *entities: Sequence[Entity]) -> None:
        self.entities = entities

    def tag(self, texts: Sequence[str]) -> Sequence[Sequence[Entity]]:
        return self.entities


def entities(*texts: tuple[str, str], language: str = "sv") -> EntityScores:
    return score_entities(scored(*texts, language=language), NAMES, normalizer_for(language))


def test_alone_and_left_out() -> None:
    found = entities(
        ("och i dag reste Anna Berg hem", "och dag reste Anna Bergh hem"), ("New York, sade han.", "New York sade han")
    )
    assert found.alone == Counts(hits=2, substitutions=2)  # Berg, and "York," raw
    assert found.left_out == Counts(hits=5, substitutions=1, deletions=1)
    assert found.alone_normalized == Counts(hits=3, substitutions=1)
    assert found.left_out_normalized == Counts(hits=6, deletions=1)
    assert found.kinds == (KindScores("listed", 2, 1),)
    assert found.recall == found.kinds[0].recall == 50.0
    assert found.as_json()["wer_alone_normalized"] == 25.0
    assert (found.tagger, found.normalizer) == ("names", "whispertune-basic 1")


@pytest.mark.parametrize(
    ("said", "heard", "alone", "left_out", "right"),
    [
        ("vi tog QLoRA sist", "vi tog Q Laura sist", 2, 0, 0),  # beside a word of it that is wrong
        ("vi tog QLoRA sist", "vi tog ju QLoRA sist", 0, 1, 1),  # beside one that is right
        ("med Anna Berg", "med Anna och Berg", 1, 0, 0),  # inside
        ("med Anna Berg", "med Anna Berg då du", 0, 2, 1),
        ("med Anna Berg", "med", 2, 0, 0),
        ("med Anna Berg", "", 2, 1, 0),
        ("QLoRA QLoRA", "QLoRA nu QLoRA", 0, 1, 2),  # between two of them is inside of none
        ("", "Anna Berg ringde", 0, 3, 0),  # what was decoded is not tagged
    ],
)
def test_where_errors_count(said: str, heard: str, alone: int, left_out: int, right: int) -> None:
    found = entities((said, heard))
    assert (found.alone.errors, found.left_out.errors) == (alone, left_out)
    assert (found.alone_normalized.errors, found.left_out_normalized.errors) == (alone, left_out)
    assert sum(each.right for each in found.kinds) == right


def test_scripts_without_spaces_by_character() -> None:
    found = entities(("私は東京に住む", "私は東亰に住み"), language="ja")
    assert found.alone == found.alone_normalized == Counts(hits=1, substitutions=1)
    assert found.left_out == found.left_out_normalized == Counts(hits=4, substitutions=1)


def test_words_are_whole_and_count_once() -> None:
    text = "Berlin-Pankow och New York City"
    given = Given([Entity(0, 6, "place"), Entity(7, 13, "part"), Entity(18, 26, "city"), Entity(22, 31, "name")])
    found = score_entities(scored((text, text)), given, normalizer_for("sv"))
    assert found.alone == Counts(hits=4)
    assert found.left_out == Counts(hits=1)
    # The second entity is in the word of the first, of the fourth one word is left.
    assert {each.kind: each.entities for each in found.kinds} == {"place": 1, "city": 1, "name": 1}


def test_no_entities() -> None:
    for found in (entities(("helt utan", "helt utan")), entities(("", ""))):
        assert found.recall is None
        assert found.as_json()["wer_alone"] is None
        assert found.entities == 0


def test_a_tagger_that_counts_otherwise() -> None:
    utterances = scored(("hej du", "hej du"))
    for wrong in (Given(), Given([Entity(4, 7, "name")]), Given([Entity(2, 2, "name")])):
        with pytest.raises(DataError) as raised:
            score_entities(utterances, wrong, normalizer_for("sv"))
        assert raised.value.where == "given"


def test_a_list_finds_whole_words_longer_ones_first() -> None:
    known = EntityList(["york", "New York", "O'Brien", "हिन्दी", "--"], "names")
    text = "NEW-YORK and York, not Yorkshire; O’Brien's, o’brien! हिन्दी हिन्दीभाषी"
    assert [text[each.start : each.end] for each in sorted(known.tag([text])[0], key=lambda each: each.start)] == [
        "NEW-YORK",
        "York,",
        "o’brien!",
        "हिन्दी",
    ]


def test_a_file_of_names(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("# cities\nNew York  # twice\n\nParis\n", encoding="utf-8")
    tagger = load_tagger(str(tmp_path / "names.txt"))
    assert tagger.name == "names.txt"
    assert [[each.kind for each in found] for found in tagger.tag(["from paris to new york", "home"])] == [
        ["listed", "listed"],
        [],
    ]
    with pytest.raises(DataError, match="cannot be read"):
        load_tagger(str(tmp_path / "none.txt"))


def test_a_pipeline_of_spacy(tmp_path: Path) -> None:
    import spacy

    pipeline = spacy.blank("sv")
    pipeline.add_pipe("entity_ruler").add_patterns(  # type: ignore[attr-defined]
        [{"label": "PER", "pattern": "Anna Berg"}, {"label": "LOC", "pattern": "Umeå"}]
    )
    pipeline.to_disk(tmp_path / "names")
    tagger = load_tagger(f"spacy:{tmp_path / 'names'}")
    assert tagger.name == f"spacy:sv_pipeline {pipeline.meta['version']}"
    assert [
        [(each.start, each.end, each.kind) for each in found] for found in tagger.tag(["hej", "Anna Berg i Umeå"])
    ] == [
        [],
        [(0, 9, "PER"), (12, 16, "LOC")],
    ]
    found = score_entities(scored(("Anna Berg i Umeå", "Anna Borg i Umeå")), tagger, normalizer_for("sv"))
    assert (found.alone.errors, found.left_out.errors) == (1, 0)
    assert {each.kind: (each.right, each.entities) for each in found.kinds} == {"PER": (0, 1), "LOC": (1, 1)}


@pytest.mark.parametrize("content", [None, "[nlp]\n", "not a config"])
def test_what_spacy_cannot_load_is_no_traceback(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "meta.json").write_text("{}")
        (tmp_path / "config.cfg").write_text(content)
    with pytest.raises(InputError, match="spaCy cannot load this pipeline") as raised:
        load_tagger(f"spacy:{tmp_path}")
    assert raised.value.where == f"spacy:{tmp_path}"


def test_where_spacy_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(InputError, match="not installed") as raised:
        load_tagger("spacy:en_core_web_md")
    assert raised.value.fix == 'pip install "whispertune[entities]"'


WORD = st.sampled_from(["Anna", "Berg", "new", "York", "qlora,", "hej", "—", "東京", "行"])
TEXT = st.lists(WORD, max_size=8).map(" ".join)


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5))
def test_both_sides_are_the_whole(texts: list[tuple[str, str]]) -> None:
    """The errors of entities and of the rest are those that the set has."""
    utterances = scored(*texts)
    found = score_entities(utterances, NAMES, normalizer_for("ja"))
    whole = score_entities(utterances, EntityList([], "none"), normalizer_for("ja"))
    assert found.alone + found.left_out == whole.left_out
    assert found.alone_normalized + found.left_out_normalized == whole.left_out_normalized


def test_each_text_has_its_own_normalizer() -> None:
    utterances = scored(("har Color kommit", "har Colour kommit"), ("har Color kommit", "har Colour kommit"))
    tagger = EntityList(["Color"], "names")
    found = score_entities(utterances, tagger, [normalizer_for("sv"), normalizer_for("en")])
    assert found.alone_normalized == Counts(hits=1, substitutions=1)
    assert found.normalizer == "whisper-english 1, whispertune-basic 1"


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5))
def test_the_whole_is_what_the_error_rate_counts(texts: list[tuple[str, str]]) -> None:
    latin = str.maketrans({"東": "To ", "京": "kyo", "行": "gå"})
    utterances = scored(*[(said.translate(latin), heard.translate(latin)) for said, heard in texts])
    found = score_entities(utterances, NAMES, normalizer_for("sv"))
    assert found.alone + found.left_out == sum((each.words for each in utterances), Counts())
    assert found.alone_normalized + found.left_out_normalized == sum(
        (each.words_normalized for each in utterances), Counts()
    )
