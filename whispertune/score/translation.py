"""Translations into English: BLEU and chrF, by sacrebleu.

    scores = score_translations(["The cat sat."], ["A cat sat."])
    scores.bleu, scores.bleu_interval, scores.chrf
    scores.bleu_signature  # "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"

A figure says little without the signature that sacrebleu gives it, so the two are kept together. Texts go in as they
stand, case and punctuation included: no normalizer. The intervals are 95 per cent, by bootstrap over utterances or
speakers, as those of the error rates are. An empty reference or hypothesis matches nothing and counts with its
length; where nothing matches at all, both figures are 0, also for two empty texts. BLEU of less than four words is
0 as well, by its definition: chrF is the one to read of few short texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from whispertune.errors import DataError
from whispertune.score.statistics import interval_of, resampled_sums, speaker_groups


@dataclass(frozen=True, slots=True)
class TranslationScores:
    """A corpus of translations; both figures go from 0 to 100, and more is better."""

    rows: int
    bleu: float
    bleu_interval: tuple[float, float]  # 95 per cent, as is the next
    bleu_signature: str
    chrf: float
    chrf_interval: tuple[float, float]
    chrf_signature: str


def score_translations(
    references: Sequence[str],
    hypotheses: Sequence[str],
    speakers: Sequence[str | None] | None = None,
    *,
    samples: int = 1000,
    seed: int = 0,
) -> TranslationScores:
    """Score translations against one reference each; `speakers` makes the intervals ones over speakers.

    Raises:
        DataError: there are none, or not equally many.
    """
    lengths = {len(references), len(hypotheses), len(references if speakers is None else speakers)}
    if len(lengths) > 1 or not references:
        raise DataError(
            f"cannot score {len(references)} references and {len(hypotheses)} translations"
            + (f" of {len(speakers)} speakers" if speakers is not None else ""),
            fix="give one of each for every utterance, and at least one utterance",
        )
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    found: list[Any] = []
    for metric in (BLEU(force=True), CHRF()):
        # (rows, figures): n-grams matched and there, of each length. The sum of rows is what a corpus is scored by.
        figures = np.array(metric._extract_corpus_statistics(hypotheses, [references]))
        sums = resampled_sums(figures, groups=speaker_groups(speakers), samples=samples, seed=seed)
        interval = interval_of(np.array([_score(metric, each) for each in sums]))
        found += [_score(metric, figures.sum(axis=0)), interval, str(metric.get_signature())]
    return TranslationScores(len(references), *found)


def _score(metric: Any, figures: np.ndarray) -> float:
    return float(metric._compute_score_from_stats(figures.tolist()).score)
