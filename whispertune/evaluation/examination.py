"""All that `evaluate` found of one model: rates, what stands behind them, and what else was asked for.

found = Examination("my-run", "data/test", evaluation, analyse(evaluation), peak_memory_mb=peak_memory_mb())
found.as_json()                # what `evaluate --json` prints
found.evaluations              # {"openai/whisper-small": base, "my-run": evaluation}, where there is a base
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from whispertune.evaluation.analysis import Analysis
from whispertune.evaluation.evaluate import Evaluation
from whispertune.evaluation.noise import Conditioned
from whispertune.evaluation.recordings import CueTimes
from whispertune.evaluation.silence import SilenceScores
from whispertune.evaluation.tokens import TokenScores
from whispertune.score.entities import EntityScores
from whispertune.score.meaning import MeaningScores
from whispertune.score.translation import score_translated


@dataclass(frozen=True, slots=True)
class Base:
    """Another model on the same rows, to stand beside."""

    name: str
    evaluation: Evaluation

    def as_json(self) -> dict[str, Any]:
        """Its rates, and BLEU and chrF of what is translated, under the names that `evaluate --json` promises."""
        translation = score_translated(self.evaluation.utterances, self.evaluation.segments)
        return {
            "model": self.name,
            **self.evaluation.as_json(),
            **(translation.as_json() if translation else {}),
        }


@dataclass(frozen=True, slots=True)
class Examination:
    """One model on one set; what nobody asked for is None or empty."""

    model: str
    data: str
    evaluation: Evaluation
    analysis: Analysis
    peak_memory_mb: float | None = None  # of this process until the rows were decoded; None where it is not known
    base: Base | None = None
    tokens: TokenScores | None = None
    noise: Mapping[str, tuple[Conditioned, ...]] = field(default_factory=dict)  # by model
    silence: SilenceScores | None = None
    times: CueTimes | None = None  # of whole recordings
    meaning: MeaningScores | None = None
    entities: EntityScores | None = None

    @property
    def evaluations(self) -> dict[str, Evaluation]:
        """By model, the base first."""
        beside = {self.base.name: self.base.evaluation} if self.base else {}
        return beside | {self.model: self.evaluation}

    @property
    def real_time_factor(self) -> float:
        """Seconds of decoding a second of audio."""
        return self.evaluation.seconds / max(self.evaluation.audio_seconds, 1e-9)

    def as_json(self) -> dict[str, Any]:
        """The figures under the names that `evaluate --json` promises; rates in per cent."""
        return {
            "model": self.model,
            "data": self.data,
            **self.evaluation.as_json(),
            "real_time_factor": round(self.real_time_factor, 4),
            "peak_memory_mb": None if self.peak_memory_mb is None else round(self.peak_memory_mb, 1),
            **self.analysis.as_json(),
            **({"base": self.base.as_json()} if self.base else {}),
            **({"tokens": self.tokens.as_json()} if self.tokens else {}),
            **({"noise": self._noise_json()} if self.noise else {}),
            **({"silence": self.silence.as_json()} if self.silence else {}),
            **({"cues": self.times.as_json()} if self.times else {}),
            **({"meaning": self.meaning.as_json()} if self.meaning else {}),
            **({"entities": self.entities.as_json()} if self.entities else {}),
        }

    def _noise_json(self) -> list[dict[str, Any]]:
        return [{"model": model, **each.as_json()} for model, found in self.noise.items() for each in found]


def peak_memory_mb() -> float | None:
    """The most memory that was resident of this process so far, in millions of bytes; GPUs and children apart."""
    try:
        import resource
    except ImportError:  # Windows has none
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6
