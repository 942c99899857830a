"""What a run's evaluations/ says of base and tuned model: their texts, where they count and are whole.

decoded = read_decoded(run.folder / "evaluations")
decoded.tuned, decoded.base, decoded.split      # no texts where the run took back their figures, or a kill cut them off
decoded.notes                                   # which texts are left out, and why
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from whispertune.diagnose.history import METRIC_NAMES, Metric
from whispertune.diagnose.predictions import Split
from whispertune.errors import DataError
from whispertune.score.wer import UtteranceScore, read_utterances


@dataclass(frozen=True, slots=True)
class Decoded:
    """The texts of a run, and what is said of them all."""

    tuned: tuple[UtteranceScore, ...] = ()
    base: tuple[UtteranceScore, ...] = ()
    cut: tuple[UtteranceScore, ...] = ()  # of the tuned model, on clips cut to what is spoken
    split: Split | None = None  # None where nothing says it
    leading: Metric | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Saved:
    """One evaluation: its figures, empty where they do not stand, and its texts."""

    name: str
    figures: Mapping[str, Any]
    texts: tuple[UtteranceScore, ...] = ()
    note: str = ""


def read_decoded(folder: Path) -> Decoded:
    """The texts that count: those whose figures stand; of two that were scored otherwise, the tuned model's on 30 s."""
    tuned, *others = (_read(folder, name) for name in ("tuned", "base", "tuned_fit"))
    base, cut = (each if _scored_alike(tuned.texts, each.texts) else _otherwise(each) for each in others)
    saved = (tuned, base, cut)
    return Decoded(
        tuned=tuned.texts,
        base=base.texts,
        cut=cut.texts,
        split=next((split for each in saved if (split := _split(each.figures))), None),
        leading=next((metric for each in saved if (metric := _leading(each.figures))), None),
        notes=tuple(each.note for each in saved if each.note),
    )


def _read(folder: Path, name: str) -> _Saved:
    """A run writes the figures last and takes them back first: where they do not stand, the texts do not count."""
    figures = _table(folder / f"{name}.json")
    path = folder / f"{name}.jsonl"
    if figures is None or not path.is_file():
        return _Saved(name, figures or {})
    try:
        texts = tuple(read_utterances(path))
    except DataError as error:
        where = Path(error.where or path).name
        return _Saved(name, figures, note=f"the texts of {name}.jsonl are left out: {where} cannot be read")
    rows = figures.get("rows", len(texts))
    if rows != len(texts):
        told = f"the texts of {name}.jsonl are left out: they are {len(texts)}, and {name}.json counts {rows}"
        return _Saved(name, figures, note=told)
    return _Saved(name, figures, texts)


def _table(path: Path) -> Mapping[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _scored_alike(first: Sequence[UtteranceScore], second: Sequence[UtteranceScore]) -> bool:
    """Whether the rows that both have were scored against the same texts, each row once."""
    known = {each.id: each.reference for each in first}
    ids = {each.id for each in second}
    if len(known) < len(first) or len(ids) < len(second):
        return False
    return all(known.get(each.id, each.reference) == each.reference for each in second)


def _otherwise(saved: _Saved) -> _Saved:
    """Without its texts, which cannot be compared."""
    why = "rows stand twice, or were scored against other texts than in tuned.jsonl"
    told = f"the texts of {saved.name}.jsonl are left out: {why}"
    return replace(saved, texts=(), note=saved.note or told)


def _split(figures: Mapping[str, Any]) -> Split | None:
    splits: tuple[Split, ...] = ("dev", "test")
    return next((name for name in splits if name == figures.get("split")), None)


def _leading(figures: Mapping[str, Any]) -> Metric | None:
    return next((name for name in METRIC_NAMES if name == figures.get("leading")), None)
