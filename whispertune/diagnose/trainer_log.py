"""What transformers' Trainer logged of its evaluations: one set's figures by step, whichever sets there are.

    log = read_evaluations(content["log_history"], content)
    log.figures[400]["wer"]          # 22.0
    log.sets, log.judged             # ("cv", "fleurs"), "cv"; ("",), "" where eval_dataset was no dict

With a dict for `eval_dataset` it writes `eval_cv_loss`, `eval_cv_wer`, a line a set, all under one step. Figures of two
sets make no curve, so one is judged: the set that selected the checkpoint, where the state says so; else the first
that has an error rate.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

PREFIX: Final = "eval_"
FIGURES: Final = ("loss", "wer", "cer")
RATES: Final = ("wer", "cer")
TIMES: Final = ("runtime", "samples_per_second", "steps_per_second")  # written of every set
FIGURE: Final = re.compile(rf"{PREFIX}(?:(.+)_)?({'|'.join((*FIGURES, *TIMES))})")

Figures = dict[int, dict[str, Any]]  # by step, by name, as they were logged


@dataclass(frozen=True, slots=True)
class Evaluations:
    """The evaluations of the set that is judged."""

    figures: Mapping[int, Mapping[str, Any]]  # by step: loss, wer, cer, as they were logged
    sets: tuple[str, ...]  # in the order they were seen; "" is one without a name
    judged: str


def read_evaluations(lines: Iterable[Mapping[str, Any]], state: Mapping[str, Any]) -> Evaluations:
    """The lines of a step together; of a figure that is there twice, the later one."""
    found: dict[str, Figures] = {}
    for line in lines:
        if isinstance(line.get("step"), int):
            for name, figure, value in _figures(line):
                found.setdefault(name, {}).setdefault(line["step"], {})[figure] = value
    sets = {name: figures for name, figures in found.items() if _is_set(name, figures, found)}
    hints = (_named(sets, state), _selecting(sets, state), _first(sets))
    judged = next((name for name in hints if name is not None), "")
    return Evaluations(sets.get(judged, {}), tuple(sets), judged)


def _figures(line: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Set, figure and value: ("cv", "wer", 22.0)."""
    for key, value in line.items():
        if match := FIGURE.fullmatch(key):
            yield match[1] or "", match[2], value


def _is_set(name: str, figures: Figures, found: Mapping[str, Figures]) -> bool:
    """A set has times or a loss; what stands before `_wer` alone may be of the figure: `eval_ortho_wer`."""
    known = {figure for each in figures.values() for figure in each}
    return not name or bool(known - set(RATES)) or "" not in found


def _named(sets: Mapping[str, Figures], state: Mapping[str, Any]) -> str | None:
    """The set of metric_for_best_model, where somebody kept that in the state: `eval_cv_wer`, `cv_wer`."""
    metric = str(state.get("metric_for_best_model") or "").removeprefix(PREFIX)
    match = FIGURE.fullmatch(PREFIX + metric)
    name = (match[1] or "") if match else None
    return name if name in sets else None


def _selecting(sets: Mapping[str, Figures], state: Mapping[str, Any]) -> str | None:
    """The only set that ever had the figure that the best checkpoint was kept for."""
    best = state.get("best_metric")
    if not isinstance(best, int | float):
        return None
    step = _best_step(state)
    holding = [
        name
        for name, figures in sets.items()
        for at, each in figures.items()
        if step in (None, at) and best in (each.get(figure) for figure in FIGURES)
    ]
    return holding[0] if len(set(holding)) == 1 else None


def _best_step(state: Mapping[str, Any]) -> int | None:
    """Newer versions write the step, all of them the folder."""
    if isinstance(step := state.get("best_global_step"), int):
        return step
    match = re.search(r"checkpoint-(\d+)/*$", str(state.get("best_model_checkpoint") or ""))
    return int(match[1]) if match else None


def _first(sets: Mapping[str, Figures]) -> str | None:
    rated = [name for name in sets if any(set(RATES) & set(each) for each in sets[name].values())]
    return next(iter([*rated, *sets]), None)


def told(sets: Sequence[str], judged: str) -> str:
    """Which sets there are, and which is judged, in words."""
    if len(sets) == 1:
        return f"the log has one evaluation set, {judged}"
    names = ", ".join(name or "one without a name" for name in sets)
    return f"the log has {len(sets)} evaluation sets: {names}; judged is {judged or 'the one without a name'} alone"
