"""What differs between the recipe that a run began with and the one it is to go on with.

for change in changes_between(recipe_tree(before), recipe_tree(after)):
    change.key, str(change)      # train.dropout, "train.dropout was 0.1, is 0.2"
    change.free, change.fixed    # may always be, may never be
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any, Final

CACHE: Final = "train.cache_gb"  # how much does not matter, but whether at all: only then windows stay the same

# Keys that do not change what is trained.
FREE: Final = (
    "name",
    "licence",
    "data.*.licence",
    "tracking.*",
    "checkpoints.keep",
    "checkpoints.every_steps",
    "checkpoints.full_disk",
    "evaluation.batch",
    "evaluation.share",  # how many rows that comes to was found out at the first evaluation
    "evaluation.retention_subset",
    "retention*",
    "soften.*",
    "train.micro_windows",
    CACHE,
    "train.max_skipped_steps",
    "data.max_bad_share",
)

# Keys that say which weights there are and what is kept of each: a checkpoint fits no others.
FIXED: Final = (
    "model",
    "train.method",
    "train.freeze*",
    "train.lora.rank",
    "train.lora.targets*",
    "train.lora.dora",
    "train.base_bits",
    "train.optimizer",
)


@dataclass(frozen=True, slots=True)
class Change:
    """A key whose value changed; None stands for a key that is not there."""

    key: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.key} was {self.before!r}, is {self.after!r}"

    @property
    def free(self) -> bool:
        if self.key == CACHE and bool(self.before) != bool(self.after):
            return False
        return any(fnmatch(self.key, pattern) for pattern in FREE)

    @property
    def fixed(self) -> bool:
        return any(fnmatch(self.key, pattern) for pattern in FIXED)


def changes_between(before: Any, after: Any, key: str = "") -> Iterator[Change]:
    """Every key that differs, deep in tables and in lists of the same length."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted(before.keys() | after.keys()):
            yield from changes_between(before.get(name), after.get(name), f"{key}.{name}" if key else name)
    elif _rows(before) and _rows(after) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from changes_between(old, new, f"{key}.{index}")
    elif before != after:
        yield Change(key, before, after)


def _rows(value: Any) -> bool:
    """Whether it is a list of tables."""
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)
