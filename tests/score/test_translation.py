from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from whispertune.data.segments import Segment
from whispertune.errors import DataError
from whispertune.score.translation import (
    LEAST_TO_COMPARE,
    TranslationComparison,
    bleu_figures,
    compare_translations,
    score_translated,
    score_translations,
)
from whispertune.score.wer import score

SENTENCES = st.lists(st.sampled_from(["The", "the", "cat", "sat", "on", "a", "mat", "U.S.", "3.5", ".", ",", "é"]))
TEXTS = st.one_of(SENTENCES.map(" ".join), st.text(max_size=20))


def expanded(values: list[float]) -> tuple[float, float]:
    """The ends of an interval from draws of 30: t with 29 degrees of freedom is 2.0452 in the tables."""
    share = NormalDist().cdf(-np.sqrt(30 / 29) * 2.04523)
    return float(np.quantile(values, share)), float(np.quantile(values, 1 - share))


@settings(deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6))
def test_figures_are_sacrebleus(pairs: list[tuple[str, str]]) -> None:
    references, hypotheses = zip(*pairs, strict=True)
    scores = score_translations(references, hypotheses, samples=5)
    assert scores.bleu == sacrebleu.corpus_bleu(hypotheses, [references]).score
    assert scores.chrf == sacrebleu.corpus_chrf(hypotheses, [references]).score
    assert scores.rows == len(pairs)


def test_signatures_are_kept() -> None:
    scores = score_translations(["The cat sat on the mat."], ["The cat sat on a mat."])
    version = f"version:{sacrebleu.__version__}"
    assert scores.bleu_signature == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|{version}"
    assert scores.chrf_signature == f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|{version}"


def test_intervals_are_those_of_the_utterances_drawn() -> None:
    references = [f"the cat number {n} sat on the mat" for n in range(30)]
    hypotheses = [text if n % 3 else text.replace("cat", "dog") for n, text in enumerate(references)]
    scores = score_translations(references, hypotheses, samples=40, seed=3)
    drawn = np.random.default_rng(3).integers(30, size=(40, 30))
    for metric, interval in (
        (sacrebleu.corpus_bleu, scores.bleu_interval),
        (sacrebleu.corpus_chrf, scores.chrf_interval),
    ):
        rates = [metric([hypotheses[n] for n in rows], [[references[n] for n in rows]]).score for rows in drawn]
        assert interval == pytest.approx(expanded(rates), abs=1e-4)
    assert scores.bleu_interval[0] < scores.bleu < scores.bleu_interval[1]


def test_speakers_are_drawn_where_all_are_known() -> None:
    references = [f"the cat number {n} sat on the mat" for n in range(40)]
    hypotheses = [text if n % 20 < 10 else "a dog" for n, text in enumerate(references)]
    speakers = [f"s{n % 20}" for n in range(40)]
    grouped, alone = score_translations(references, hypotheses, speakers), score_translations(references, hypotheses)
    assert grouped.bleu == alone.bleu
    assert grouped.chrf_interval[0] < alone.chrf_interval[0] < alone.chrf_interval[1] < grouped.chrf_interval[1]
    assert score_translations(references, hypotheses, [None, *speakers[1:]]) == alone


def sentences(rows: int) -> list[str]:
    return [f"the cat number {n} sat down on the mat and slept" for n in range(rows)]


def compared(
    references: list[str], first: list[str], second: list[str], speakers: list[str] | None = None
) -> TranslationComparison:
    return compare_translations(bleu_figures(references, first), bleu_figures(references, second), speakers)


def test_a_difference_is_that_of_both_on_the_same_rows_drawn() -> None:
    references = sentences(30)
    first = [text if n % 3 else text.replace("sat", "lay") for n, text in enumerate(references)]
    second = [text if n % 5 else text.replace("cat", "dog") for n, text in enumerate(references)]
    figures = bleu_figures(references, first), bleu_figures(references, second)
    found = compare_translations(*figures, samples=40, seed=3)
    drawn = np.random.default_rng(3).integers(30, size=(40, 30))
    gained = []
    for rows in drawn:
        said = [[references[n] for n in rows]]
        one, other = (sacrebleu.corpus_bleu([side[n] for n in rows], said).score for side in (first, second))
        gained.append(other - one)
    assert found.interval == pytest.approx(expanded(gained), abs=1e-4)
    assert found.probability_of_improvement == np.mean(np.array(gained) > 0)
    assert found.difference == pytest.approx(
        sacrebleu.corpus_bleu(second, [references]).score - sacrebleu.corpus_bleu(first, [references]).score
    )


def test_the_verdict_is_that_of_the_interval() -> None:
    references = sentences(40)
    bad = [text.replace("cat", "dog") if n % 2 else text for n, text in enumerate(references)]
    better, worse = compared(references, bad, references), compared(references, references, bad)
    assert (better.verdict, worse.verdict) == ("better", "worse")
    assert better.interval[0] > 0
    assert better.difference == pytest.approx(-worse.difference)
    assert (better.probability_of_improvement, worse.probability_of_improvement) == (1.0, 0.0)
    same = compared(references, bad, bad)
    assert (same.verdict, same.difference, same.probability_of_improvement) == ("no difference shown", 0.0, 0.5)


def test_few_rows_show_nothing_however_they_are_drawn() -> None:
    """One system is right and the other is not, on every row."""
    for rows, verdict in ((LEAST_TO_COMPARE - 1, "no difference shown"), (LEAST_TO_COMPARE, "better")):
        references = sentences(rows)
        found = compared(references, [text.replace("cat", "dog") for text in references], references)
        assert found.interval[0] > 0
        assert found.verdict == verdict


def test_equal_translations_are_seldom_told_apart() -> None:
    generator = np.random.default_rng(0)
    references, told_apart = sentences(25), 0
    for _ in range(100):
        wrong = generator.random((2, 25)) < 0.3
        first, second = (
            [text.replace("cat", "dog") if bad else text for text, bad in zip(references, row, strict=True)]
            for row in wrong
        )
        figures = bleu_figures(references, first), bleu_figures(references, second)
        told_apart += compare_translations(*figures, samples=300).verdict != "no difference shown"
    assert told_apart <= 9


def test_speakers_count_for_a_verdict_on_translations() -> None:
    """The second is better for seven speakers and worse for five others, in many rows each."""
    references = sentences(240)
    speakers = [f"s{n % 12}" for n in range(240)]
    first = [text if n % 12 < 5 else text.replace("cat", "dog") for n, text in enumerate(references)]
    second = [text if n % 12 >= 5 else text.replace("cat", "dog") for n, text in enumerate(references)]
    assert compared(references, first, second).verdict == "better"
    assert compared(references, first, second, speakers).verdict == "no difference shown"


def test_only_rows_that_are_translated_are_scored_as_such() -> None:
    references = sentences(3)
    segments = [Segment(f"{n}", Path("a.wav"), 0.0, 1.0, text, "sv") for n, text in enumerate(references)]
    _, utterances = score(["0", "1", "2"], references, references, "en")
    assert score_translated(utterances, segments) is None
    segments[1] = Segment("1", Path("a.wav"), 0.0, 1.0, references[1], "sv", "translate")
    found = score_translated(utterances, segments)
    assert found == score_translations(references[1:2], references[1:2], [None])
    assert found is not None
    assert list(found.as_json()) == [
        *("bleu", "bleu_interval", "bleu_signature", "chrf", "chrf_interval", "chrf_signature"),
    ]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "bleu", "chrf"),
    [("", "", 0, 0), ("", "a b", 0, 0), ("a b", "", 0, 0), ("кот", "cat", 0, 0), ("a b c", "a b c", 0, 100)],
)
def test_degenerate_texts(reference: str, hypothesis: str, bleu: float, chrf: float) -> None:
    scores = score_translations([reference], [hypothesis])
    assert (scores.bleu, scores.chrf) == pytest.approx((bleu, chrf))
    assert scores.bleu_interval == (bleu, bleu)


def test_an_empty_translation_among_others_lowers_the_corpus() -> None:
    references = ["the cat sat on the mat"] * 4
    scores = score_translations(references, [*references[1:], ""])
    assert scores.bleu == pytest.approx(100 * np.exp(1 - 24 / 18))  # all of it right, and a quarter missing


def test_refuses_lists_that_do_not_match() -> None:
    with pytest.raises(DataError, match="1 references and 2 translations"):
        score_translations(["a"], ["a", "b"])
    with pytest.raises(DataError, match="of 2 speakers"):
        score_translations(["a"], ["a"], ["s", "t"])
    with pytest.raises(DataError, match="at least one"):
        score_translations([], [])


def test_scores_and_comparisons_load_no_torch() -> None:
    code = (
        "import sys, whispertune.score.comparison; from whispertune.score.translation import score_translations; "
        "early = 'sacrebleu' in sys.modules; score_translations(['a'], ['a']); "
        "print(early, [m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False []"
