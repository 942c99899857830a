"""Sources of plans without audio: loose utterances, talks and streams, and what a plan shows of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whispertune.data.segments import Held, Problem, Segment
from whispertune.data.streams import ShuffledStream
from whispertune.data.table import SegmentTable
from whispertune.train.feeding.plan import Plan, PlanSettings, Step
from whispertune.train.feeding.supply import StreamSupply, Supply, TableSupply
from whispertune.windows.pack import Limits

BY_SEGMENTS, BLOCK = PlanSettings(step_segments=4), 5


def count_words(segments: Sequence[Segment]) -> NDArray[np.int32]:
    return np.array([len(segment.text.split()) for segment in segments], dtype=np.int32)


def loose(count: int, name: str = "") -> list[Segment]:
    return [Segment(f"{name}{n}", Path(f"{name}{n}.wav"), 0.0, 2 + n % 3, "a b", "ln") for n in range(count)]


def talk(name: str, cues: int) -> list[Segment]:
    """A captioned recording of cues of 7 s with pauses of 1 s: four go into a window."""
    return [
        Segment(f"{name}:{n}", Path(name), 8.0 * n, 8.0 * n + 7, "a b c", "ln", continues=n > 0, lead_s=1.0)
        for n in range(cues)
    ]


def table(segments: Sequence[Segment], name: str = "t", seed: int = 0, rank: int = 0, ranks: int = 1) -> TableSupply:
    return TableSupply(name, SegmentTable.of(segments), Limits(), count_words, seed, rank=rank, ranks=ranks)


@dataclass(frozen=True)
class Rows:
    """A stream of rows in memory; every seventh cannot be used."""

    sizes: tuple[int, ...]
    known: bool = True
    name: str = "s"

    @property
    def shard_rows(self) -> tuple[int | None, ...]:
        return self.sizes if self.known else tuple(None for _ in self.sizes)

    def open(self, shard: int, skip: int = 0) -> Iterator[Segment | Problem]:
        for row in range(skip, self.sizes[shard]):
            name = f"{self.name}{shard}.{row}"
            if row % 7 == 6:
                yield Problem(name, "empty text", "the text is empty")
            else:
                yield Segment(name, Held(name, b""), 0.0, 3.0, "a b", "ln")


def stream(rows: Rows, seed: int = 0, rank: int = 0, ranks: int = 1) -> StreamSupply:
    shuffled = ShuffledStream(rows, seed, rank=rank, ranks=ranks, block_rows=BLOCK)
    return StreamSupply(rows.name, shuffled, Limits(), count_words)


def ids(step: Step) -> list[str]:
    """What a step shows and what it drops, in its order."""
    return [s.id for planned in step.windows for s in planned.window.segments] + [p.where for p in step.problems]


def whole(plan: Plan) -> list[Step]:
    assert plan.total_steps is not None
    return [plan.step(index) for index in range(plan.total_steps)]


def shown(plan: Plan) -> Counter[str]:
    return Counter(each for step in whole(plan) for each in ids(step))


def mix(kind: str, rank: int = 0, ranks: int = 1) -> list[Supply]:
    talks = table(talk("b", 30) + talk("c", 9), "b", 0, rank, ranks)
    supplies: dict[str, list[Supply]] = {
        "tables": [table(loose(23, "a"), "a", 0, rank, ranks), talks],
        "stream": [stream(Rows((9, 14, 3)), 0, rank, ranks)],
        "stream and tables": [talks, stream(Rows((9, 14, 3)), 0, rank, ranks), table(loose(11), "t", 0, rank, ranks)],
        "two streams": [stream(Rows((9, 14)), 0, rank, ranks), stream(Rows((8, 4, 6), name="q"), 0, rank, ranks)],
        "unknown length": [stream(Rows((9, 14, 3), known=False), 0, rank, ranks)],
    }
    return supplies[kind]


KINDS = ["tables", "stream", "stream and tables", "two streams", "unknown length"]
