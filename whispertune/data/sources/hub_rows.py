"""Rows of hub datasets: which columns say what, and each row as a Segment or a Problem.

    columns = choose_columns(dataset.features, spec, origin)        # Columns(audio="audio", text="sentence", ...)
    judged([Row(7, {"sentence": "Hej."}, recording, 9120)], columns, origin, spec, audio)     # [Segment(...)]

Names, types and rates differ from dataset to dataset; here each row becomes one and the same thing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from whispertune.data.audio import AudioInfo, AudioReader
from whispertune.data.captions import clean_text
from whispertune.data.segments import Problem, Recording, Segment, SourceSpec
from whispertune.data.sources.rows import Trouble, language_of, time_trouble
from whispertune.errors import AudioError, DataError
from whispertune.languages import code_of

if TYPE_CHECKING:
    from datasets import Features

TEXTS = (
    "sentence", "raw_transcription", "transcription", "raw_text", "normalized_text", "text", "transcript",
    "normalized_transcription", "txt", "caption", "utterance",
)  # fmt: skip
LANGUAGES = ("language", "locale", "lang")
SPEAKERS = ("speaker_id", "client_id", "speaker")
DURATIONS = ("num_samples", "duration", "audio_duration", "duration_s")
TASKS = ("transcribe", "translate")
_NOBODY = frozenset({"", "none", "null", "nan", "unknown"})
_SAMPLED_ROWS = 50  # one of so many stated durations is compared with the audio
_STATED_TOLERANCE_S = 0.05  # an encoder pads
_RATE_FACTOR = 4  # of bytes a second, from row to row


@dataclass(frozen=True, slots=True)
class Origin:
    """Where rows stand."""

    repo: str
    config: str
    split: str

    def __str__(self) -> str:
        return f"hub:{self.repo}:{self.config}:{self.split}"


@dataclass(frozen=True, slots=True)
class Columns:
    """The column of each thing, None where there is none; `labels` are the names behind numbers."""

    audio: str
    text: str
    language: str | None = None
    speaker: str | None = None
    task: str | None = None
    start: str | None = None
    end: str | None = None
    id: str | None = None
    duration: str | None = None
    per_second: float = 1.0  # of what `duration` holds
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def besides_audio(self) -> list[str]:
        """The columns to fetch with each row."""
        named = (
            self.text, self.language, self.speaker, self.task, self.start, self.end, self.id, self.duration
        )  # fmt: skip
        return list(dict.fromkeys(name for name in named if name is not None))


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it came. `number` counts from 0 in its split; `values` are those of `besides_audio`."""

    number: int | str
    values: dict[str, Any]
    recording: Recording | None
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Parsed:
    """A row that is well-formed; how long its audio is, is not known yet."""

    row: Row
    recording: Recording
    text: str
    language: str
    task: str
    speaker: str | None
    start_s: float
    end_s: float | None
    stated_s: float  # nan where nothing is stated


class _UnusableError(Exception):
    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.trouble: Trouble = (kind, detail)


def choose_columns(features: Features, spec: SourceSpec, origin: Origin) -> Columns:
    """What the columns are for, by the recipe, else by their names and types."""
    from datasets import Audio, ClassLabel

    for ours, theirs in spec.columns:
        if theirs not in features:
            raise _missing(f"there is no column {theirs!r} for {ours}", features, origin)
    duration = spec.column("duration") or _first(DURATIONS, features)
    audio = spec.column("audio") or _audio(features, origin)
    rate_hz = features[audio].sampling_rate if isinstance(features[audio], Audio) else None
    if duration == "num_samples" and not rate_hz:
        duration = None
    labels = ((name, tuple(kind.names)) for name, kind in features.items() if isinstance(kind, ClassLabel))
    return Columns(
        audio=audio,
        text=spec.column("text") or _text(features, spec, origin),
        language=spec.column("language") or _first(LANGUAGES, features),
        speaker=spec.column("speaker") or _first(SPEAKERS, features),
        task=spec.column("task"),
        start=spec.column("start"),
        end=spec.column("end"),
        id=spec.column("id"),
        duration=duration,
        per_second=float(rate_hz) if duration == "num_samples" and rate_hz else 1.0,
        labels=tuple(labels),
    )


def suffix_of(path: str | None) -> str:
    """`.mp3` of what a row says of its file; nothing where it says nothing."""
    return PurePath(path).suffix.lower() if path else ""


def judged(
    rows: Sequence[Row],
    columns: Columns,
    origin: Origin,
    spec: SourceSpec,
    audio: AudioReader,
    trust: bool = False,
    taken: set[str] | None = None,
) -> list[Segment | Problem]:
    """Each row as what it came to. With `trust`, durations that rows state count where samples of them are right.

    With the ids `taken` by earlier rows, which grow by those of these, a row with one of them is a Problem.
    """
    parsed = [_parsed(row, columns, origin, spec) for row in rows]
    good = [one for one in parsed if isinstance(one, _Parsed)]
    lengths = iter(_lengths(good, audio, trust))
    return [_segment(one, next(lengths), columns, origin, taken) if isinstance(one, _Parsed) else one for one in parsed]


def limited(items: Iterable[Segment | Problem], spec: SourceSpec) -> Iterator[Segment | Problem]:
    """The items up to the recipe's limit; nothing behind it is asked for."""
    rows, seconds = 0, 0.0
    for item in items:
        if isinstance(item, Segment):
            rows, seconds = rows + 1, seconds + item.duration_s
            if spec.limit_hours is not None and seconds > spec.limit_hours * 3600:
                return
        yield item
        if rows == spec.limit_rows:
            return


def _first(names: Sequence[str], features: Features) -> str | None:
    return next((name for name in names if name in features), None)


def _missing(what: str, features: Features, origin: Origin) -> DataError:
    fix = f'the columns are: {", ".join(features)}; name the right one in the recipe: columns = {{ text = "..." }}'
    return DataError(what, where=str(origin), fix=fix)


def _audio(features: Features, origin: Origin) -> str:
    from datasets import Audio

    found = [name for name, kind in features.items() if isinstance(kind, Audio)]
    found += [name for name, kind in features.items() if isinstance(kind, dict) and "bytes" in kind]
    if not found:
        raise _missing("no column holds audio", features, origin)
    return "audio" if "audio" in found else found[0]


def _text(features: Features, spec: SourceSpec, origin: Origin) -> str:
    if spec.task == "translate":
        if "translation" in features:
            return "translation"
        raise _missing("nothing says which column holds the translated text", features, origin)
    if {"raw_transcription", "transcription"} <= set(features):
        return "raw_transcription"  # FLEURS: cased and punctuated, as Whisper was trained
    found = _first(TEXTS, features)
    if found is None:
        raise _missing("no column is known to hold the text", features, origin)
    return found


def _parsed(row: Row, columns: Columns, origin: Origin, spec: SourceSpec) -> _Parsed | Problem:
    where = f"{origin}:{row.number}"
    try:
        text = clean_text(_string(row, columns.text, columns))
        task = _string(row, columns.task, columns).strip() or spec.task
        speaker = clean_text(_string(row, columns.speaker, columns))
        if row.recording is None:
            raise _UnusableError("no audio", f"{columns.audio} is empty")
        if not text and (not spec.empty_texts or row.values.get(columns.text) is None):
            raise _UnusableError("empty text", f"{columns.text} is empty")
        if task not in TASKS:
            raise _UnusableError("unknown task", f"the task is {task!r}, not one of {', '.join(TASKS)}")
        return _Parsed(
            row=row,
            recording=row.recording,
            text=text,
            language=_language(_string(row, columns.language, columns).strip(), origin, spec, where),
            task=task,
            speaker=None if speaker.lower() in _NOBODY else speaker,
            start_s=_seconds(row, columns.start) or 0.0,
            end_s=_seconds(row, columns.end),
            stated_s=_stated_s(row, columns),
        )
    except _UnusableError as error:
        return Problem(where, *error.trouble)


def _string(row: Row, column: str | None, columns: Columns) -> str:
    value = None if column is None else row.values.get(column)
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        names = dict(columns.labels).get(column or "")
        if names is None:
            return str(value)
        return names[value] if 0 <= value < len(names) else ""  # -1: not labelled
    if isinstance(value, str):
        return value
    raise _UnusableError("malformed row", f"{column} is {type(value).__name__}, not text")


def _seconds(row: Row, column: str | None) -> float | None:
    value = None if column is None else row.values.get(column)
    if value is None:
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise _UnusableError("wrong times", f"{column} is {value!r}, not seconds")
    return seconds


def _stated_s(row: Row, columns: Columns) -> float:
    try:
        return (_seconds(row, columns.duration) or math.nan) / columns.per_second
    except _UnusableError:
        return math.nan  # the audio itself says it


def _language(own: str, origin: Origin, spec: SourceSpec, where: str) -> str:
    """The row's own where Whisper knows it, else the recipe's, else that in the name of the configuration."""
    code = code_of(own) or spec.language or code_of(origin.config)
    if own and not code:
        fix = 'set language = "..." to the code of a related language that it can borrow, e.g. language = "sv"'
        raise DataError(f"Whisper knows no language {own!r}", where=where, fix=fix)
    return language_of(code, spec, where)


def _lengths(rows: Sequence[_Parsed], audio: AudioReader, trust: bool) -> list[float | AudioError]:
    """How long the audio of each row is."""
    found: list[float | AudioError | None] = [None] * len(rows)
    if trust:
        stated_s = np.array([row.stated_s for row in rows])
        sampled = np.flatnonzero(np.isfinite(stated_s))[::_SAMPLED_ROWS]
        _probe(rows, sampled, found, audio)
        if all(_agrees(found[row], stated_s[row]) for row in sampled):
            for row in _alike(rows, stated_s):
                found[row] = float(stated_s[row]) if found[row] is None else found[row]
    _probe(rows, np.array([row for row, length in enumerate(found) if length is None], dtype=np.int64), found, audio)
    return [length for length in found if length is not None]


def _probe(
    rows: Sequence[_Parsed], chosen: NDArray[np.int64], found: list[float | AudioError | None], audio: AudioReader
) -> None:
    infos: list[AudioInfo | AudioError] = audio.probe_many([rows[row].recording for row in chosen])
    for row, info in zip(chosen, infos, strict=True):
        found[row] = info.duration_s if isinstance(info, AudioInfo) else info


def _agrees(found: float | AudioError | None, stated_s: float) -> bool:
    return isinstance(found, float) and abs(found - stated_s) <= _STATED_TOLERANCE_S


def _alike(rows: Sequence[_Parsed], stated_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """The rows whose audio has about as many bytes for each stated second as that of the others."""
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = np.array([row.row.size_bytes for row in rows]) / stated_s
    usual = np.median(rates[np.isfinite(rates)]) if np.isfinite(rates).any() else 0.0
    return np.flatnonzero((rates > usual / _RATE_FACTOR) & (rates < usual * _RATE_FACTOR))


def _segment(
    row: _Parsed, length: float | AudioError, columns: Columns, origin: Origin, taken: set[str] | None
) -> Segment | Problem:
    where = f"{origin}:{row.row.number}"
    if isinstance(length, AudioError):
        return Problem(where, "recording does not decode", length.what)
    end_s = length if row.end_s is None else row.end_s
    if trouble := time_trouble(row.start_s, end_s, length):
        return Problem(where, *trouble, seconds=max(0.0, min(end_s, length) - row.start_s))
    named = row.row.values.get(columns.id) if columns.id else None
    if named is not None and taken is not None:
        if str(named) in taken:
            detail = f"another row has the id {str(named)!r}"
            return Problem(where, "given twice", detail, seconds=min(end_s, length) - row.start_s)
        taken.add(str(named))
    return Segment(
        id=where if named is None else str(named),
        recording=row.recording,
        start_s=row.start_s,
        end_s=min(end_s, length),
        text=row.text,
        language=row.language,
        task=row.task,
        speaker=row.speaker,
    )
