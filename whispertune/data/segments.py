"""Segments: what every source yields and everything after it works with.

Segment(id="talk.vtt:7", recording=Path("talk.mp3"), start_s=12.4, end_s=15.0,
        text="That is the plan.", language="en")
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Embedded:
    """A recording inside an Arrow or Parquet file: the audio bytes of one row."""

    container: Path
    row: int
    column: str
    name: str  # for messages, with a suffix where one is known


@dataclass(frozen=True, slots=True)
class Held:
    """A recording whose bytes came with its row, as in a stream. Two of one name are equal."""

    name: str
    data: bytes = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a `Joined` recording, in an audio file of its own."""

    audio: Embedded
    start_s: float  # in the joined recording
    end_s: float


@dataclass(frozen=True, slots=True)
class Joined:
    """Rows of a prepared dataset that follow each other in one recording, read as that recording."""

    name: str
    parts: tuple[Part, ...]


Recording = Path | Embedded | Held | Joined


def name_of(recording: Recording) -> str:
    """How messages call a recording."""
    return str(recording) if isinstance(recording, Path) else recording.name


def written_in(language: str, task: str) -> str:
    """The language of a row's text; "" for a translation: rows do not say which one it is in."""
    return language if task == "transcribe" else ""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a recording with its text.

    `start_s` and `end_s` are seconds from the start of the recording. `continues` holds where the segment
    right before it in the recording is in the data too, so that the audio between the two may be used.
    `lead_s` is how many seconds before `start_s` are free of other speech (0 where that is not known).
    """

    id: str
    recording: Recording
    start_s: float
    end_s: float
    text: str
    language: str
    task: str = "transcribe"
    speaker: str | None = None
    continues: bool = False
    lead_s: float = 0.0

    @property
    def written_in(self) -> str:
        return written_in(self.language, self.task)

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True)
class Problem:
    """One row that could not be used: where it stands, what kind of trouble, and the particulars."""

    where: str  # file:line or file
    kind: str  # a few words, the same for all rows with this trouble, e.g. "overlapping cue"
    detail: str
    seconds: float | None = None  # of speech that is lost with it, where known
    source: str = ""  # the source it came from, as the recipe writes it


@dataclass(frozen=True, slots=True)
class SourceData:
    """What a source gave: the segments that can be used and the rows that cannot."""

    segments: Sequence[Segment]  # a tuple, or a SegmentTable where there may be millions
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()  # what else a person should know of it, a sentence each

    @property
    def bad_share(self) -> float:
        """Rows that cannot be used / all rows."""
        total = len(self.segments) + len(self.problems)
        return len(self.problems) / total if total else 0.0

    @property
    def seconds(self) -> float:
        from whispertune.data.table import as_table

        return as_table(self.segments).seconds

    def counts(self) -> Counter[str]:
        """Unusable rows by kind."""
        return Counter(problem.kind for problem in self.problems)


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """Where a source is and what the recipe says of all its rows (a row's own value wins)."""

    location: str  # a path, or what stands behind `hub:` and the like
    language: str | None = None
    task: str = "transcribe"
    limit_rows: int | None = None
    limit_hours: float | None = None
    columns: tuple[tuple[str, str], ...] = ()  # ("text", "sentence"): our field, the source's column
    outside: bool = False  # whether paths in it may leave its folder
    empty_texts: bool = False  # whether rows whose text is empty are kept: where they are scored
    whole: bool = False  # whether recordings are used as a whole: then cues count whatever their times
    origin: str = field(default="", compare=False)  # recipe key or flag, for messages

    @property
    def path(self) -> Path:
        return Path(self.location)

    def column(self, name: str) -> str | None:
        """The source's column for one of our fields, where the recipe names it.

        The fields: id, audio, text, language, speaker, task, start, end, duration.
        """
        return dict(self.columns).get(name)
