"""An evaluation with everything that can be asked for: texts that loop, attack and are wrong here and there.

heard(sentence(rng), 0.3, rng)                                          # "sol hamn stjärna ...": a third is wrong
examination(evaluation(0.5), evaluation(rows=24, folder=tmp_path))      # base, and the model with its clips
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from whispertune.data.segments import Problem, Segment
from whispertune.evaluation.analysis import Levels, analyse
from whispertune.evaluation.evaluate import Evaluation, Hypothesis, evaluation_of
from whispertune.evaluation.examination import Base, Examination, peak_memory_mb
from whispertune.evaluation.noise import CLEAN, TELEPHONE, Condition, Conditioned
from whispertune.evaluation.recordings import Boundaries, CueTimes
from whispertune.evaluation.retention import SetFigures
from whispertune.evaluation.silence import scores_of, silent_clips
from whispertune.evaluation.tokens import Answers
from whispertune.score.entities import EntityScores, KindScores
from whispertune.score.hallucination import LengthLimit
from whispertune.score.meaning import Meaning, MeaningScores
from whispertune.score.wer import Counts

WORDS = ["sol", "måne", "stjärna", "himmel", "hav", "skog", "berg", "dal"]
HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)>"
LOOP = "tack så mycket " * 30
PARTS = [
    *("rates", "cues", "slices", "signs", "terms", "entities", "meaning", "confusions", "tokens", "noise", "silence"),
    "worst",
]


def sentence(rng: np.random.Generator) -> list[str]:
    """All eight words, in some order."""
    return [str(word) for word in rng.permutation(WORDS)]


def heard(words: Sequence[str], share: float, rng: np.random.Generator) -> str:
    """The words, about such a share of them heard as another."""
    wrong = rng.random(len(words)) < share
    return " ".join("hamn" if bad else word for word, bad in zip(words, wrong, strict=True))


def figures(value: float) -> SetFigures:
    """A model on a set of sixty rows, by its word error rate."""
    return SetFigures("wer", value, (value - 1, value + 1), 60, value, value / 2, value, value / 2)


def evaluation(
    share: float = 0.3, rows: int = 60, *, folder: Path = Path("clips"), task: str = "transcribe"
) -> Evaluation:
    """Texts of eight words with errors, of several lengths and speakers; the first one loops, the second attacks."""
    rng = np.random.default_rng(0)
    found = []
    for row in range(rows):
        words = sentence(rng)
        text = heard(words, share * (2 if row % 4 == 0 else 0.5), rng)
        text = LOOP if row == 0 else f"{HOSTILE} {text}" if row == 1 else text
        length_s = 12.0 if row % 4 == 0 else 3.0
        segment = Segment(
            f"{row}", folder / f"{row}.wav", 0.0, length_s, " ".join(words), "sv", task, speaker=f"s{row % 2}"
        )
        found.append(Hypothesis(segment, text))
    return evaluation_of(found, [Problem("99", "audio does not decode", "cut short")], 9.0, "ctranslate2", "full")


def answers(tokens: int = 40) -> Answers:
    rng = np.random.default_rng(0)
    return Answers(
        losses=rng.random(tokens),
        entropies=rng.random(tokens),
        confidences=rng.random(tokens),
        correct=np.arange(tokens) % 3 > 0,
    )


def examination(base: Evaluation, tuned: Evaluation) -> Examination:
    """Of the second, beside the first."""
    levels = Levels()
    for row, segment in enumerate(tuned.segments):
        levels(np.full(100, 10 ** (-row / 20), dtype=np.float32), segment)
    clips = silent_clips()
    return Examination(
        "runs/a<b>",
        "data/<test>",
        tuned,
        analyse(tuned, levels=levels, limit=LengthLimit(400), terms=("hamn", "stjärna", "QLoRA")),
        peak_memory_mb(),
        Base("openai/whisper-small", base),
        tokens=answers().tally([[("sol", 20), (HOSTILE, 20)]]).scores(),
        noise={
            "openai/whisper-small": (Conditioned(CLEAN, base), Conditioned(Condition(10.0, "white"), base)),
            "runs/a<b>": (Conditioned(CLEAN, tuned), Conditioned(TELEPHONE, tuned)),
        },
        silence=scores_of(clips, [HOSTILE, *[""] * (len(clips) - 1)]),
        times=CueTimes(2, 60, 55, Boundaries.of([0.1, 0.7]), Boundaries(0)),
        meaning=MeaningScores("local", 60, 12.5, (Meaning("1", "sol och hav", HOSTILE, 0.5, negated=True),)),
        entities=EntityScores(
            tagger=f"names {HOSTILE}",
            normalizer="basic 1",
            alone=Counts(5, 3, 1, 1),
            left_out=Counts(40, 10, 5, 5),
            alone_normalized=Counts(5, 3, 1, 1),
            left_out_normalized=Counts(),
            kinds=(KindScores("place", 9, 5),),
        ),
    )
