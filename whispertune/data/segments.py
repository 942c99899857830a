"""Segments: what every source yields and everything after it works with.

Segment(id="talk.vtt:7", recording=Path("talk.mp3"), start_s=12.4, end_s=15.0,
        text="That is the plan.", language="en")
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a recording with its text.

    `start_s` and `end_s` are seconds from the start of the recording. `continues` holds where the segment
    right before it in the recording is in the data too, so that the audio between the two may be used.
    `lead_s` is how many seconds before `start_s` are free of other speech (0 where that is not known).
    """

    id: str
    recording: Path
    start_s: float
    end_s: float
    text: str
    language: str
    task: str = "transcribe"
    speaker: str | None = None
    continues: bool = False
    lead_s: float = 0.0

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True)
class Problem:
    """One row that could not be used: where it stands, what kind of trouble, and the particulars."""

    where: str  # file:line or file
    kind: str  # a few words, the same for all rows with this trouble, e.g. "overlapping cue"
    detail: str


@dataclass(frozen=True, slots=True)
class SourceData:
    """What a source gave: the segments that can be used and the rows that cannot."""

    segments: tuple[Segment, ...]
    problems: tuple[Problem, ...] = ()

    @property
    def bad_share(self) -> float:
        """Rows that cannot be used / all rows."""
        total = len(self.segments) + len(self.problems)
        return len(self.problems) / total if total else 0.0

    @property
    def seconds(self) -> float:
        return sum(segment.duration_s for segment in self.segments)

    def counts(self) -> Counter[str]:
        """Unusable rows by kind."""
        return Counter(problem.kind for problem in self.problems)


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """Where a source is and what the recipe says of all its rows (a row's own value wins)."""

    location: Path
    language: str | None = None
    task: str = "transcribe"
    limit_rows: int | None = None
    origin: str = field(default="", compare=False)  # recipe key or flag, for messages
