"""How sure an error rate is: bootstrap intervals.

    errors, lengths = np.array([1, 0, 4]), np.array([9, 7, 11])  # (utterances,) each
    low, high = bootstrap_interval(errors, lengths)  # per cent

Utterances are drawn with replacement and the corpus rate is computed anew from each draw, after M. Bisani
and H. Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004. Errors
of one speaker hang together, so with enough speakers whole speakers are drawn instead, which gives the wider
and more honest interval for a speaker not heard yet.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from whispertune.errors import DataError

MIN_GROUPS: Final = 10  # fewer speakers say nothing about how speakers differ
_DRAWS_AT_ONCE: Final = 2_000_000  # 16 MB of indices


def bootstrap_interval(
    errors: npt.NDArray[np.integer],
    lengths: npt.NDArray[np.integer],
    *,
    groups: npt.NDArray[np.generic] | None = None,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """The percentile bootstrap interval, in per cent, of the rate 100 * sum(errors) / sum(lengths).

    `errors` and `lengths` are one figure an utterance, `groups` its speaker. Speakers are drawn where
    `groups` names at least 10 of them, else utterances. With a single utterance to draw from, or without
    errors, both ends are the rate itself: that is no sign of certainty. A draw whose references are all
    empty counts 100 per error, as `Counts.rate` does.
    """
    # errors, lengths, groups  # (utterances,)
    if not len(errors) or len(errors) != len(lengths) or (groups is not None and len(groups) != len(errors)):
        raise DataError(
            f"an interval needs as many error counts as lengths and groups, and at least one: {len(errors)}, "
            f"{len(lengths)}, {'none' if groups is None else len(groups)}"
        )
    if groups is not None:
        errors, lengths = _sum_by_group(errors, lengths, groups)
    rates = _resampled_rates(np.asarray(errors), np.asarray(lengths), samples, seed)  # (samples,)
    low, high = np.quantile(rates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _sum_by_group(
    errors: npt.NDArray[np.integer], lengths: npt.NDArray[np.integer], groups: npt.NDArray[np.generic]
) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]:
    names, index = np.unique(groups, return_inverse=True)  # index  # (utterances,)
    if len(names) < MIN_GROUPS:
        return errors, lengths
    errors_of_group, lengths_of_group = np.zeros((2, len(names)), dtype=np.int64)
    np.add.at(errors_of_group, index, errors)
    np.add.at(lengths_of_group, index, lengths)
    return errors_of_group, lengths_of_group


def _resampled_rates(
    errors: npt.NDArray[np.integer], lengths: npt.NDArray[np.integer], samples: int, seed: int
) -> npt.NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    at_once = max(1, _DRAWS_AT_ONCE // len(errors))
    rates = []
    for first in range(0, samples, at_once):
        drawn = generator.integers(len(errors), size=(min(at_once, samples - first), len(errors)))
        rates.append(100.0 * errors[drawn].sum(axis=1) / np.maximum(1, lengths[drawn].sum(axis=1)))
    return np.concatenate(rates)
