"""Translations into English: BLEU and chrF, by sacrebleu.

    scores = score_translations(["The cat sat."], ["A cat sat."])
    scores.bleu, scores.bleu_interval, scores.chrf
    scores.bleu_signature  # "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"

    base, tuned = bleu_figures(references, of_base), bleu_figures(references, of_tuned)
    compare_translations(base, tuned).verdict  # of the second against the first

A figure says little without the signature that sacrebleu gives it, so the two are kept together. Texts go in as they
stand, case and punctuation included: no normalizer. The intervals are 95 per cent, by bootstrap over utterances or
speakers, as those of the error rates are. An empty reference or hypothesis matches nothing and counts with its
length; where nothing matches at all, both figures are 0, also for two empty texts. BLEU of less than four words is
0 as well, by its definition: chrF is the one to read of few short texts.

Two systems are compared by paired bootstrap of BLEU, after P. Koehn, "Statistical significance tests for machine
translation evaluation", EMNLP 2004: each draw is scored for both, and a difference is shown where its 95 per cent
interval leaves out 0. Of fewer than six rows nothing is shown: of two equal systems one is better on all of five in 6
cases of 100, and no draw of these would say otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from whispertune.data.segments import Segment
from whispertune.errors import DataError
from whispertune.score.comparison import Verdict
from whispertune.score.statistics import Integers, interval_of, resampled_sums, speaker_groups, units_of
from whispertune.score.wer import UtteranceScore

LEAST_TO_COMPARE: Final = 6  # rows, or speakers where those are drawn


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

    def as_json(self) -> dict[str, Any]:
        """The figures under the names that `evaluate --json` and `compare --json` promise."""
        intervals = {name: list(getattr(self, name)) for name in ("bleu_interval", "chrf_interval")}
        return {name: value for name, value in (asdict(self) | intervals).items() if name != "rows"}


@dataclass(frozen=True, slots=True)
class TranslationComparison:
    """A second system against a first one, in points of BLEU."""

    difference: float  # second less first: positive where the second is better
    interval: tuple[float, float]  # 95 per cent, of the difference
    probability_of_improvement: float  # share of the draws in which the second has more BLEU, ties a half
    verdict: Verdict


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
    from sacrebleu.metrics.chrf import CHRF

    found: list[Any] = []
    groups = speaker_groups(speakers)
    for metric in (_bleu(), CHRF()):
        figures = _figures(metric, references, hypotheses)
        sums = resampled_sums(figures, groups=groups, samples=samples, seed=seed)
        interval = interval_of(_scores(metric, sums), units_of(len(figures), groups))
        found += [_score(metric, figures.sum(axis=0)), interval, str(metric.get_signature())]
    return TranslationScores(len(references), *found)


def score_translated(utterances: Sequence[UtteranceScore], segments: Sequence[Segment]) -> TranslationScores | None:
    """The scores of those utterances that are translated, by the task of their segments; None where none is."""
    rows = [pair for pair in zip(utterances, segments, strict=True) if pair[1].task == "translate"]
    if not rows:
        return None
    return score_translations(
        [utterance.reference for utterance, _ in rows],
        [utterance.hypothesis for utterance, _ in rows],
        [segment.speaker for _, segment in rows],
    )


def bleu_figures(references: Sequence[str], hypotheses: Sequence[str]) -> Integers:
    """What BLEU counts of each row: (rows, figures), to be summed up."""
    return _figures(_bleu(), references, hypotheses)


def compare_translations(
    first: Integers,
    second: Integers,
    speakers: Sequence[str | None] | None = None,
    *,
    samples: int = 5000,
    seed: int = 0,
) -> TranslationComparison:
    """Compare two systems by their `bleu_figures` of the same rows, in the same order."""
    metric, groups, half = _bleu(), speaker_groups(speakers), first.shape[1]
    both = np.concatenate([first, second], axis=1)
    sums = resampled_sums(both, groups=groups, samples=samples, seed=seed)
    gained = _scores(metric, sums[:, half:]) - _scores(metric, sums[:, :half])
    units = units_of(len(both), groups)
    low, high = interval_of(gained, units)
    verdict: Verdict = "no difference shown"
    if units >= LEAST_TO_COMPARE and not low <= 0.0 <= high:
        verdict = "better" if low > 0.0 else "worse"
    return TranslationComparison(
        difference=_score(metric, second.sum(axis=0)) - _score(metric, first.sum(axis=0)),
        interval=(low, high),
        probability_of_improvement=float(np.mean(gained > 0) + np.mean(gained == 0) / 2),
        verdict=verdict,
    )


def _bleu() -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(force=True)


def _figures(metric: Any, references: Sequence[str], hypotheses: Sequence[str]) -> Integers:
    """(rows, figures): n-grams matched and there, of each length. The sum of rows is what a corpus is scored by."""
    return np.array(metric._extract_corpus_statistics(hypotheses, [references]))


def _scores(metric: Any, sums: Integers) -> npt.NDArray[np.float64]:
    return np.array([_score(metric, each) for each in sums])


def _score(metric: Any, figures: np.ndarray) -> float:
    return float(metric._compute_score_from_stats(figures.tolist()).score)
