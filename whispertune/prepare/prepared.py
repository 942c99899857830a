"""What `prepare` has made, or has made so far.

prepared = Prepared.load(Path("dataset"))     # of one that is whole
prepared.as_json()
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from whispertune.data.sources.dataset import MARK


@dataclass(frozen=True, slots=True)
class SplitCount:
    """A split of a dataset."""

    split: str
    rows: int
    hours: float
    shards: int
    dropped: dict[str, int]  # rows by kind


@dataclass(frozen=True, slots=True)
class Prepared:
    """A dataset: whole, or waiting for shards that others write."""

    out: str
    complete: bool
    splits: tuple[SplitCount, ...]
    written: tuple[str, ...]  # shards that are finished
    shards: int
    seconds: float = 0.0  # wall time of this call
    pushed: tuple[str, ...] = ()  # files that stand on the hub
    removed: tuple[str, ...] = ()  # shards of an earlier dataset that stood there
    notes: tuple[str, ...] = ()

    @classmethod
    def load(cls, out: Path) -> Prepared:
        """Of a dataset that is whole."""
        mark = json.loads((out / MARK).read_text(encoding="utf-8"))
        names = tuple(Path(each["file"]).stem for each in mark["shards"])
        return cls(str(out), True, tuple(SplitCount(**each) for each in mark["splits"]), names, len(names))

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)
