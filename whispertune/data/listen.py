"""What only the audio tells: rows without speech, clipped rows, the same audio twice, audio that does not decode.

    heard = hear(table, rules, reader, source="talks/")      # all audio is read once
    heard.data.segments, heard.data.problems                 # what is left, and why the others are not
    heard.measures.snr_db                                    # float32 (rows,), of the rows that are left
    measure(samples).loudest_db                              # of one stretch

Energy is all that "no speech" goes by: noise is not told from speech. Rows without text may be without speech.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

from whispertune.data.audio import SAMPLE_RATE_HZ, AudioReader
from whispertune.data.clean import CleanRules, quoted
from whispertune.data.segments import Problem, SourceData
from whispertune.data.sources.rows import Trouble
from whispertune.data.table import SegmentTable
from whispertune.errors import AudioError

# Resampling makes waves of what was flat: of speech clipped in 10.8 % of its samples, runs at 0.98 find 10.0 % at
# 16 kHz, 8.5 % when it came at 44.1 or 48 kHz, 5.9 % at 8 kHz; of the same speech unclipped at full level, none.
FULL_SCALE: Final = 0.98
CLIPPED_RUN_SAMPLES: Final = 3
LOUDEST_SAMPLES: Final = SAMPLE_RATE_HZ // 10  # 0.1 s
FRAME_SAMPLES: Final = SAMPLE_RATE_HZ // 50  # 20 ms
_HOP_SAMPLES: Final = SAMPLE_RATE_HZ // 100  # 10 ms
_NOISE_PERCENTILE, _SPEECH_PERCENTILE = 10, 90  # of the frames' energies
_SILENT_POWER: Final = 1e-9  # -90 dBFS: digital silence with a bit of dither
_NO_SPEECH: Final = "no speech"
_BATCH_ROWS = 64  # a child at a time
_HASH_BYTES = 16

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Measures:
    """What was measured of one stretch. Levels are in dBFS: 0 is full scale, -inf is digital silence.

    The signal-to-noise ratio is estimated from the energies of 20 ms frames: their 10th percentile is taken for
    noise, their 90th for speech and noise (NIST's STNR works on the same histogram). On read and telephone speech
    with white noise added at 0 to 30 dB it says 0 to 4 dB more than that. Digital silence is left out.
    """

    level_db: float
    loudest_db: float  # of the loudest 0.1 s
    peak_db: float
    clipped_share: float
    snr_db: float  # nan where there is nothing to tell it by
    audio_hash: str  # of the 16-bit samples without the digital silence around them; empty where all is silent


@dataclass(frozen=True, eq=False, slots=True)
class MeasureTable:
    """`Measures` as columns (rows,)."""

    level_db: NDArray[np.float32]
    loudest_db: NDArray[np.float32]
    peak_db: NDArray[np.float32]
    clipped_share: NDArray[np.float32]
    snr_db: NDArray[np.float32]
    audio_hashes: NDArray[np.bytes_]

    @classmethod
    def of(cls, rows: Sequence[Measures]) -> MeasureTable:
        return cls(
            level_db=np.array([row.level_db for row in rows], dtype=np.float32),
            loudest_db=np.array([row.loudest_db for row in rows], dtype=np.float32),
            peak_db=np.array([row.peak_db for row in rows], dtype=np.float32),
            clipped_share=np.array([row.clipped_share for row in rows], dtype=np.float32),
            snr_db=np.array([row.snr_db for row in rows], dtype=np.float32),
            audio_hashes=np.array([row.audio_hash for row in rows], dtype=f"S{2 * _HASH_BYTES}"),
        )


@dataclass(frozen=True, slots=True)
class Heard:
    """A set that was listened to: what is left of it, and the measures of its segments, row by row."""

    data: SourceData
    measures: MeasureTable


def hear(
    table: SegmentTable,
    rules: CleanRules,
    reader: AudioReader,
    *,
    source: str = "",
    progress: Progress | None = None,
) -> Heard:
    """The rows whose audio can be used, with what was measured of them; the others are problems."""
    firsts: dict[tuple[str, str, str], int] = {}  # audio, language, task -> the row that has it
    problems: list[Problem] = []
    kept: list[Measures] = []
    keep = np.zeros(len(table), dtype=np.bool_)
    for row, found in enumerate(_measured(table, reader, progress)):
        trouble = audio_trouble(found, rules)
        if trouble and trouble[0] == _NO_SPEECH and not table.texts[row].as_py():
            trouble = None
        if trouble is None and isinstance(found, Measures):
            trouble = _twice(table, row, found, firsts) if rules.duplicates else None
            if trouble is None:
                keep[row] = True
                kept.append(found)
        if trouble:
            seconds = float(table.durations_s[row])
            problems.append(Problem(table.ids[row].as_py(), *trouble, seconds=seconds, source=source))
    return Heard(SourceData(table.where(keep), tuple(problems)), MeasureTable.of(kept))


def measure(samples: NDArray[np.float32]) -> Measures:
    """What is to be known of a stretch of 16 kHz audio, (samples,)."""
    power = np.square(samples, dtype=np.float64)
    return Measures(
        level_db=_db(float(power.mean()) if len(power) else 0.0),
        loudest_db=_db(float(_window_means(power, LOUDEST_SAMPLES).max(initial=0.0))),
        peak_db=_db(float(power.max(initial=0.0))),
        clipped_share=_clipped_share(samples),
        snr_db=_snr_db(_window_means(power, FRAME_SAMPLES)),
        audio_hash=_audio_hash(samples),
    )


def _measured(table: SegmentTable, reader: AudioReader, progress: Progress | None) -> Iterator[Measures | AudioError]:
    """The measures of each row in order; so many rows are decoded side by side as the reader has children."""

    def of_row(row: int) -> Measures | AudioError:
        try:
            start_s, end_s = float(table.start_s[row]), float(table.end_s[row])
            return measure(reader.read(table.recordings[row], start_s, end_s))
        except AudioError as error:
            return error

    batch_rows = _BATCH_ROWS * reader.children
    with ThreadPoolExecutor(reader.children) as pool:
        for first in range(0, len(table), batch_rows):
            rows = range(first, min(first + batch_rows, len(table)))
            yield from pool.map(of_row, rows)
            if progress:
                progress(rows.stop, len(table))


def audio_trouble(found: Measures | AudioError, rules: CleanRules) -> Trouble | None:
    """Why a row cannot be used, by its audio alone."""
    if isinstance(found, AudioError):
        return "recording does not decode", f"{found.where}: {found.what}"
    if found.loudest_db < rules.min_level_db or not found.audio_hash:
        told = "digital silence" if not found.audio_hash else f"its loudest 0.1 s is at {found.loudest_db:.1f} dBFS"
        return _NO_SPEECH, f"{told}; clean.min_level_db is {rules.min_level_db:g}"
    if found.clipped_share > rules.max_clipped_share:
        return "clipped", f"{found.clipped_share:.1%} of it; clean.max_clipped_share is {rules.max_clipped_share:g}"
    return None


def _twice(table: SegmentTable, row: int, found: Measures, firsts: dict[tuple[str, str, str], int]) -> Trouble | None:
    """Whether a row before has this audio; the first one stays. All digital silence is alike."""
    if not found.audio_hash:
        return None
    key = (found.audio_hash, table.languages[row].as_py(), table.tasks[row].as_py())
    first = firsts.setdefault(key, row)
    if first == row:
        return None
    text, other, name = table.texts[row].as_py(), table.texts[first].as_py(), table.ids[first].as_py()
    if text == other:
        return "same audio twice", f"the same audio and text as {name}"
    return "same audio, other text", f"says {quoted(text)}; {name} has the same audio and says {quoted(other)}"


def _window_means(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """The means of windows of `size`, 10 ms apart; of all where they are fewer."""
    if len(values) <= size:
        return values.mean(keepdims=True) if len(values) else values
    sums = np.concatenate([[0.0], np.cumsum(values)])
    starts = np.arange(0, len(values) - size + 1, _HOP_SAMPLES)
    means: NDArray[np.float64] = (sums[starts + size] - sums[starts]) / size
    return np.maximum(means, 0.0)


def _clipped_share(samples: NDArray[np.float32]) -> float:
    """The share of samples in runs at full scale; speech that only touches it makes none."""
    edges = np.flatnonzero(np.diff(np.abs(samples) >= FULL_SCALE, prepend=False, append=False))
    runs = edges[1::2] - edges[::2]
    return float(runs[runs >= CLIPPED_RUN_SAMPLES].sum()) / len(samples) if len(samples) else 0.0


def _snr_db(frames: NDArray[np.float64]) -> float:
    heard = frames[frames > _SILENT_POWER]
    if len(heard) < 2:
        return float("nan")
    noise, speech = np.percentile(heard, [_NOISE_PERCENTILE, _SPEECH_PERCENTILE])
    return _db(float(speech - noise) / float(noise))


def _audio_hash(samples: NDArray[np.float32]) -> str:
    whole = np.clip(np.round(samples * 32768.0), -32768, 32767).astype("<i2")
    heard = np.flatnonzero(whole)
    if not len(heard):
        return ""
    return blake2b(whole[heard[0] : heard[-1] + 1].tobytes(), digest_size=_HASH_BYTES).hexdigest()


def _db(power: float) -> float:
    return 10 * float(np.log10(power)) if power > 0 else float("-inf")
