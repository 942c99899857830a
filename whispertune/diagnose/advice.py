"""Changes held against the recipe: what it has already is said to be so, and not advised again.

    holds(recipe, Change("windows.prompt_share", "0.0", "..."))     # whether nothing would change
    weighed(finding, recipe)                                        # the finding without such changes
    times_as_long(recipe, 0.5, "about where dev was best")          # Change("train.epochs", "1.5", ...)

Where no recipe is known (a log of transformers, metrics.jsonl alone) every change stands as it is.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, Literal

from whispertune.diagnose.finding import Change, Figure, Finding
from whispertune.recipe import Recipe

ALREADY: Final = "already in the recipe"


def holds(recipe: Recipe | None, change: Change) -> bool:
    """Whether the recipe has what is advised, or more of it; never where the change is in words."""
    wanted = _parsed(change.value) if change.key else None
    if recipe is None or wanted is None:
        return False
    has = value_of(recipe, change.key)
    if change.bound == "exactly" or not isinstance(has, int | float):
        return bool(has == wanted)
    return bool(has >= wanted if change.bound == "at least" else has <= wanted)


def value_of(recipe: Recipe, key: str) -> Any:
    """What the recipe says under a key such as `windows.fit_share`."""
    value: Any = recipe
    for name in key.split("."):
        value = getattr(value, name)
    return value


def weighed(finding: Finding, recipe: Recipe | None) -> Finding:
    """The finding as it is advised to this recipe: each change once, and none that the recipe has already."""
    changes = tuple(dict.fromkeys(finding.change))
    held = tuple(each for each in changes if holds(recipe, each))
    if not held:
        return replace(finding, change=changes)
    left = [each for each in (*changes, *finding.otherwise) if not holds(recipe, each)]
    return replace(finding, seen=(*finding.seen, already(recipe, held)), change=tuple(dict.fromkeys(left)))


def already(recipe: Recipe | None, changes: Sequence[Change]) -> Figure:
    """What of the changes the recipe has, as it has it."""
    assert recipe is not None
    told = (f"{key} = {written(value_of(recipe, key))}" for key in dict.fromkeys(each.key for each in changes))
    return Figure(ALREADY, ", ".join(told))


def written(value: object) -> str:
    """As it stands in a recipe, as far as findings speak of it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def times_as_long(recipe: Recipe | None, factor: float, why: str) -> Change:
    """Another length of the run, under the key that the recipe gives it with."""
    if recipe is None:
        return Change("train.epochs", f"{factor:g} times as many", why)
    if recipe.train.steps is not None:
        return Change("train.steps", f"{max(1, round(factor * recipe.train.steps))}", why)
    if recipe.train.hours is not None:
        return Change("train.hours", f"{factor * recipe.train.hours:.3g}", why)
    return Change("train.epochs", f"{factor * recipe.train.epochs:.3g}", why)


def halved(recipe: Recipe | None, key: str, why: str) -> Change:
    """Half of a share; that is 0 already where it is, and so not advised."""
    value = f"{value_of(recipe, key) / 2:.3g}" if recipe else "lower"
    return Change(key, value, why, "at most")


def by_normalised(recipe: Recipe | None, metric: Literal["wer", "cer"], why: str) -> Change:
    """Keep by the normalised rate: of words or of characters as the recipe has it, else as it is read."""
    best = recipe.checkpoints.best if recipe else "auto"
    return Change("checkpoints.best", f'"{metric if best == "auto" else best[:3]}_normalized"', why)


def _parsed(value: str) -> Any:
    """The value of a key; None where it is told in words."""
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return None
