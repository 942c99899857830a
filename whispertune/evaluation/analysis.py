"""What stands behind a rate: where errors are, what is confused, what was made up, which terms came out right.

    found = analyse(evaluation, levels=levels, limit=length_limit(engine.vocabulary, "sv"), terms=("QLoRA",))
    found.slices, found.confusions.pairs, found.signs.flagged, found.terms.recall, found.worst[0].alignment

`Levels` notes how loud each row is while it is decoded, so that no audio is read twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from whispertune.data.segments import Segment, name_of
from whispertune.decode.engines import MAX_NEW_TOKENS
from whispertune.evaluation.evaluate import Evaluation
from whispertune.score.confusions import Confusion, Confusions, confusions
from whispertune.score.hallucination import Flagged, HallucinationCounts, LengthLimit, count_hallucinations
from whispertune.score.slices import Attributes, Slice, alike, slices, worst_utterances
from whispertune.score.terms import TermScores, score_terms
from whispertune.score.translation import TranslationScores, score_translated
from whispertune.score.wer import UtteranceScore
from whispertune.windows.tokens import Vocabulary

LOOPS: Final = frozenset({"compressible", "repeated"})
FLAGGED: Final = 50  # are named in JSON
WORST: Final = 20
SILENT_POWER: Final = 1e-12  # -120 dBFS; of digital silence there is no level


@dataclass(frozen=True, slots=True)
class Levels:
    """A `Change` that changes nothing, and notes the level of every row that it is given."""

    db: dict[str, float] = field(default_factory=dict)  # id -> dBFS

    def __call__(self, samples: np.ndarray, segment: Segment) -> np.ndarray:
        power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
        if power > SILENT_POWER:
            self.db[segment.id] = 10.0 * float(np.log10(power))
        return samples


@dataclass(frozen=True, slots=True)
class Analysis:
    """All that texts tell of an evaluation besides its rates."""

    slices: tuple[Slice, ...]
    signs: HallucinationCounts
    confusions: Confusions  # of normalised words, without utterances that loop
    worst: tuple[UtteranceScore, ...]
    terms: TermScores | None  # None where nobody named terms
    translation: TranslationScores | None  # None where nothing is translated
    alike: tuple[str, ...] = ()  # attributes that all rows share, which so make no slices

    def as_json(self) -> dict[str, Any]:
        """The figures under the names that `evaluate --json` promises; rates in per cent."""
        return {
            "slices": [_slice_json(each) for each in self.slices],
            "slices_alike": list(self.alike),
            "hallucination": _signs_json(self.signs),
            "confusions": _confusions_json(self.confusions),
            **(_terms_json(self.terms) if self.terms else {}),
            **(self.translation.as_json() if self.translation else {}),
        }


def analyse(
    evaluation: Evaluation,
    *,
    levels: Levels | None = None,
    limit: LengthLimit | None = None,
    terms: Sequence[str] = (),
) -> Analysis:
    """Look at every utterance of an evaluation that still has its segments."""
    utterances, segments = evaluation.utterances, evaluation.segments
    known = levels.db if levels else {}
    attributes = [
        Attributes.of(segment, source=source, level_db=known.get(segment.id))
        for segment, source in zip(segments, sources_of(segments), strict=True)
    ]
    signs = count_hallucinations(utterances, durations_s=[each.duration_s for each in segments], limit=limit)
    looping = {each.id for each in signs.flagged if any(sign.kind in LOOPS for sign in each.signs)}
    pairs = zip(utterances, evaluation.normalizers, strict=True)
    heard = [(each, normalizer) for each, normalizer in pairs if each.id not in looping]
    texts = [each.reference for each in utterances], [each.hypothesis for each in utterances]
    return Analysis(
        slices=slices(utterances, attributes),
        signs=signs,
        confusions=confusions([each for each, _ in heard], normalizer=[normalizer for _, normalizer in heard]),
        worst=worst_utterances(utterances, WORST),
        terms=score_terms(*texts, terms) if terms else None,
        translation=score_translated(utterances, segments),
        alike=alike(utterances, attributes),
    )


def sources_of(segments: Sequence[Segment]) -> list[str]:
    """Where each row comes from: its recording where rows share some, else the folder that holds its file."""
    several = len({each.recording for each in segments}) < len(segments)
    names = [Path(name_of(each.recording)) for each in segments]
    places = names if several else [name.parent for name in names]
    told = _told_apart(set(places), 1 if several else 2)
    return [told[place] for place in places]


def _told_apart(paths: Collection[Path], parts: int) -> dict[Path, str]:
    """Each by so many of its last parts, or by as many more as tell it from the others."""
    alike: defaultdict[str, list[Path]] = defaultdict(list)
    for path in paths:
        alike[Path(*path.parts[-parts:]).as_posix()].append(path)
    told: dict[Path, str] = {}
    for name, found in alike.items():
        told |= {found[0]: name} if len(found) == 1 else _told_apart(found, parts + 1)
    return told


def length_limit(vocabulary: Vocabulary, language: str) -> LengthLimit:
    """Where engines stop a text by force, counted in this vocabulary's tokens."""
    return LengthLimit(MAX_NEW_TOKENS, lambda text: vocabulary.count([text], [language])[0], "tokens")


def _slice_json(found: Slice) -> dict[str, Any]:
    intervals = {name: getattr(found, name) for name in ("wer_interval", "wer_normalized_interval")}
    return asdict(found) | {name: None if pair is None else list(pair) for name, pair in intervals.items()}


def _signs_json(found: HallucinationCounts) -> dict[str, Any]:
    return {
        "rows": found.rows,
        "rows_flagged": len(found.flagged),
        "rate": found.rate,
        "loops": found.loops,
        "bursts": found.bursts,
        "other_script": found.other_script,
        "length_limit": found.at_limit,
        "empty_references": found.empty_references,
        "on_silence": found.on_silence,
        "flagged": [_flagged_json(each) for each in found.flagged[:FLAGGED]],
    }


def _flagged_json(found: Flagged) -> dict[str, Any]:
    return {"id": found.id, "signs": [asdict(sign) for sign in found.signs]}


def _confusions_json(found: Confusions) -> dict[str, Any]:
    kinds = {
        "words": found.pairs,
        "deleted": found.deleted,
        "inserted": found.inserted,
        "characters": found.characters,
    }
    return {name: [_confusion_json(each) for each in rows] for name, rows in kinds.items()}


def _confusion_json(found: Confusion) -> dict[str, Any]:
    return asdict(found) | {"examples": list(found.examples)}


def _terms_json(found: TermScores) -> dict[str, Any]:
    return {
        "terms_recall": found.recall,
        "terms_precision": found.precision,
        "terms_false_insertions": found.false_insertions,
        "terms_near": found.near,
    }
