from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whispertune.errors import DataError
from whispertune.score.terms import Near, TermRow, load_terms, score_terms


def occurrences(text: str, *terms: str, case_sensitive: bool = False) -> list[int]:
    scores = score_terms([text], [""], terms, case_sensitive=case_sensitive)
    return [row.occurrences for row in scores.rows]


@pytest.mark.parametrize(
    ("term", "found", "not_found"),
    [
        ("C++", ["I write C++.", "(c++)", "c++, mostly", "“C++”"], ["C", "C+", "C++17"]),
        ("C", ["in C.", "'c'"], ["C++", "C#", "ABC", "C-3"]),
        ("C#", ["C#, they say", "(C#)"], ["C", "C♯"]),
        (".NET", ["use .NET.", "“.net”"], ["net", "a net."]),
        ("QLoRA", ["QLoRA!", "…qlora…", "so—QLORA—is", "- qlora -"], ["LoRA", "QLoRAs", "q lora"]),
        ("k-means", ["k-means,", "K-Means", "k‑means"], ["means", "k means", "k-means-like"]),
        ("GPT-4", ["GPT-4?", "gpt‐4"], ["GPT", "GPT-4o", "4"]),
        ("GPT", ["GPT."], ["GPT-4"]),
        ("learning rate", ["the Learning  rate.", "learning\nrate"], ["learning rates", "rate learning"]),
        ("R & D", ["our R & D."], ["R D"]),
        ("O'Reilly", ["O’Reilly", "‘O'Reilly’"], ["Reilly"]),
        ("Straße", ["STRASSE", "straße"], ["Strasbourg"]),
        ("ngá", ["nga\u0301!"], ["nga"]),
        ("微调", ["我们使用微调。", "用QLoRA微调"], ["微 小调", "调微"]),
        ("QLoRA", ["用QLoRA微调"], []),
    ],
)
def test_whole_words(term: str, found: list[str], not_found: list[str]) -> None:
    assert [text for text in found if occurrences(text, term) != [1]] == []
    assert [text for text in not_found if occurrences(text, term) != [0]] == []


def test_case_counts_if_asked_for() -> None:
    assert occurrences("Swift and swift", "Swift") == [2]
    assert occurrences("Swift and swift", "Swift", case_sensitive=True) == [1]


def test_longest_first_without_overlap() -> None:
    text = "the new york times in new york, new new york"
    assert occurrences(text, "New York", "New York Times", "new") == [2, 1, 1]
    assert occurrences("a b c d", "a b", "b c d") == [0, 1]
    assert occurrences("la la la", "la la") == [1]


def test_hits_misses_and_false_insertions() -> None:
    scores = score_terms(
        ["LoRA and QLoRA and LoRA", "nothing", "QLoRA"],
        ["lora and Q Laura", "LoRA LoRA", "qlora"],
        ["LoRA", "QLoRA", "Adam"],
    )
    near = (Near("Q Laura", 100 * 8 / 11),)
    assert scores.rows == (TermRow("LoRA", 2, 1, 2), TermRow("QLoRA", 2, 1, 0, near), TermRow("Adam", 0, 0, 0))
    assert (scores.terms, scores.occurrences, scores.hits, scores.false_insertions) == (3, 4, 2, 2)
    assert scores.recall == 50.0
    assert scores.precision == 50.0
    assert [row.term for row in scores.wrong] == ["LoRA", "QLoRA"]


@pytest.mark.parametrize(
    ("term", "reference", "hypothesis", "written"),
    [
        ("QLoRA", "we tune QLoRA.", "we tune Q Laura.", "Q Laura"),
        ("QLoRA", "QLoRA it is", "Q Lo Ra, it is", "Q Lo Ra"),
        ("learning rate", "the learning rate", "the learning great", "learning great"),
        ("k-means", "by k-means", "by K means", "K means"),
        ("GPT-4", "ask GPT-4", "ask “GPT-4o”", "GPT-4o"),
        ("Whispertune", "so Whispertune does", "so whisper tuned does", "whisper tuned"),
        ("機械学習", "機械学習です", "機会学習です", "機会学習"),
    ],
)
def test_near_what_was_missed(term: str, reference: str, hypothesis: str, written: str) -> None:
    scores = score_terms([reference], [hypothesis], [term])
    assert (scores.hits, scores.recall, scores.false_insertions, scores.near) == (0, 0.0, 0, 1)
    assert scores.rows[0].near[0].written == written
    assert 70.0 <= scores.rows[0].near[0].similarity <= 100.0


@pytest.mark.parametrize(
    ("terms", "references", "hypotheses"),
    [
        (["QLoRA"], ["QLoRA"], ["qlora"]),  # a hit
        (["QLoRA"], ["QLoRA", "a"], ["a", "Q Laura"]),  # in another utterance
        (["QLoRA"], ["a"], ["Q Laura"]),  # not said
        (["Adam"], ["Adam has atoms"], ["item has atoms"]),  # not like it
        (["lora"], ["lora on a loran"], ["so on a loran"]),  # like it, and said
        (["lora", "loran"], ["lora"], ["loran"]),  # a term, counted as false insertion
        (["C"], ["in C"], ["in see"]),
        (["C"], ["in C"], [""]),
    ],
)
def test_not_near(terms: list[str], references: list[str], hypotheses: list[str]) -> None:
    assert score_terms(references, hypotheses, terms).near == 0


def test_no_word_is_near_twice_and_no_miss_has_two() -> None:
    assert score_terms(["LoRA and LoRA"], ["Lorar then"], ["LoRA"]).near == 1
    assert score_terms(["LoRA then"], ["Lorar Lorah"], ["LoRA"]).near == 1
    rows = score_terms(["Marian met Mariana"], ["Mariann met Maryana"], ["Marian", "Mariana"]).rows
    assert [[near.written for near in row.near] for row in rows] == [["Mariann"], ["Maryana"]]


def test_case_is_near_where_it_counts() -> None:
    scores = score_terms(["in Swift"], ["in swift"], ["Swift"], case_sensitive=True)
    assert (scores.hits, scores.rows[0].near) == (0, (Near("swift", 80.0),))


def test_no_rate_without_occurrences() -> None:
    scores = score_terms(["a"], ["a"], ["Adam"])
    assert scores.recall is None
    assert scores.precision is None


def test_terms_that_are_equal_count_once() -> None:
    assert score_terms(["lora"], ["lora"], ["LoRA", "lora"]).rows == (TermRow("LoRA", 1, 1, 0),)


def test_refuses_lists_that_do_not_match() -> None:
    with pytest.raises(DataError, match="1 references with 0 hypotheses"):
        score_terms(["a"], [], ["a"])


TEXT = st.lists(st.sampled_from(["a", "b", "C++", "c,", "(a", "微", "-"]), max_size=8).map(" ".join)


@settings(deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), max_size=4), st.lists(TEXT, max_size=4))
def test_balance(pairs: list[tuple[str, str]], terms: list[str]) -> None:
    references, hypotheses = [r for r, _ in pairs], [h for _, h in pairs]
    there, back = score_terms(references, hypotheses, terms), score_terms(hypotheses, references, terms)
    assert there.hits == back.hits
    assert there.occurrences - there.hits == back.false_insertions
    assert all(len(row.near) <= row.misses for row in there.rows)
    perfect = score_terms(references, references, terms)
    assert perfect.hits == perfect.occurrences == there.occurrences
    assert perfect.wrong == ()
    assert perfect.near == 0


def test_load_terms(tmp_path: Path) -> None:
    path = tmp_path / "terms.txt"
    path.write_bytes("\ufeff# our words\r\nQLoRA\r\n\r\n  learning   rate  # two words\nC#\nQLoRA\nC++\n".encode())
    assert load_terms(path) == ("QLoRA", "learning rate", "C#", "C++")


@pytest.mark.parametrize("content", [b"", b"# nothing\n \n", b"\xff\xfeQ"])
def test_load_terms_refuses(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "terms.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"terms\.txt"):
        load_terms(tmp_path / "terms.txt")
    with pytest.raises(DataError, match=r"missing\.txt"):
        load_terms(tmp_path / "missing.txt")
