from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from whispertune.errors import DataError
from whispertune.score.translation import score_translations

SENTENCES = st.lists(st.sampled_from(["The", "the", "cat", "sat", "on", "a", "mat", "U.S.", "3.5", ".", ",", "é"]))
TEXTS = st.one_of(SENTENCES.map(" ".join), st.text(max_size=20))


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
        assert interval == pytest.approx(tuple(np.quantile(rates, [0.025, 0.975])))
    assert scores.bleu_interval[0] < scores.bleu < scores.bleu_interval[1]


def test_speakers_are_drawn_where_all_are_known() -> None:
    references = [f"the cat number {n} sat on the mat" for n in range(40)]
    hypotheses = [text if n % 20 < 10 else "a dog" for n, text in enumerate(references)]
    speakers = [f"s{n % 20}" for n in range(40)]
    grouped, alone = score_translations(references, hypotheses, speakers), score_translations(references, hypotheses)
    assert grouped.bleu == alone.bleu
    assert grouped.chrf_interval[0] < alone.chrf_interval[0] < alone.chrf_interval[1] < grouped.chrf_interval[1]
    assert score_translations(references, hypotheses, [None, *speakers[1:]]) == alone


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
