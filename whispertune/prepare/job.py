"""A job: one shard, from its rows to its file. The same function runs in a local process and on a Ray cluster.

    record = write_shard(work, number, progress)     # reads work/plan.json, writes work/shards/train-00003-of-00012.*

The audio of each row is read, judged, and written as FLAC, together with what is heard before it in the recording:
up to the cue before, or where there is none, up to a second that is free of other speech.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whispertune.data.audio import SAMPLE_RATE_HZ, AudioReader
from whispertune.data.clean import CleanRules, clean_row
from whispertune.data.listen import audio_trouble, measure
from whispertune.data.segments import Problem, Segment
from whispertune.data.sources import open_stream
from whispertune.data.sources.dataset import at_sample
from whispertune.errors import AudioError
from whispertune.files import sync, writing
from whispertune.prepare.plan import Plan, Shard, StreamPlan, load_plan
from whispertune.prepare.rows import LEAD_S, Row, read_rows, recording_name
from whispertune.prepare.shards import (
    HASH_BYTES,
    Samples,
    ShardRecord,
    ShardWriter,
    StoredRow,
    own_name,
    sixteen_bits,
)

MISSING_S = 0.3  # codecs and captions are a little out at the end; so much silence is as good
SHARDS = "shards"
UNHEARD = "00" * HASH_BYTES  # for the hash of audio, where clean.audio is never
PROGRESS_ROWS = 50

Progress = Callable[[int, float], None]  # rows done, seconds of audio written


@dataclass(frozen=True, slots=True)
class _Heard:
    """The audio of a row and what is before it."""

    before_s: float
    samples: Samples
    before: Samples
    floats: NDArray[np.float32]  # the samples as they were read


def shard_path(work: Path, shard: Shard) -> Path:
    """Where a shard lies until the dataset is whole."""
    return work / SHARDS / f"{shard.name}.parquet"


def record_path(work: Path, shard: Shard) -> Path:
    """What is known of a finished shard."""
    return work / SHARDS / f"{shard.name}.json"


def write_shard(work: Path, number: int, progress: Progress) -> ShardRecord:
    """Write the shard of this number in the plan, and its record behind it."""
    plan = load_plan(work)
    shard = plan.shards[number]
    path = shard_path(work, shard)
    path.parent.mkdir(exist_ok=True)
    temporary = own_name(path)
    problems: list[Problem] = []
    with AudioReader() as reader, ShardWriter(temporary) as writer:
        last: Segment | None = None
        for done, row in enumerate(_rows(work, plan, shard, reader), start=1):
            stored = row if isinstance(row, Problem) else _stored(row, last, reader, plan.rules)
            if isinstance(stored, Problem):
                problems.append(stored)
                last = None
            else:
                writer.add(stored)
                last = stored.row.segment
            if done % PROGRESS_ROWS == 0:
                progress(done, writer.seconds)
        record = writer.record(shard.name, tuple(problems))
    with writing(path.parent):
        temporary.replace(path)
        sync(path.parent)
        record.save(record_path(work, shard))
    return record


def _rows(work: Path, plan: Plan, shard: Shard, reader: AudioReader) -> Iterator[Row | Problem]:
    if shard.stream is None:
        yield from read_rows(work / plan.rows_files[shard.split], shard.first, shard.end)
    else:
        yield from _streamed(plan.streams[shard.stream], shard.stream_shard, plan.rules, reader)


def _streamed(planned: StreamPlan, shard: int, rules: CleanRules, reader: AudioReader) -> Iterator[Row | Problem]:
    """Rows of a stream, cleaned one by one."""
    for item in open_stream(planned.spec, reader).open(shard):
        cleaned = clean_row(item, rules, source=planned.source) if isinstance(item, Segment) else item
        if isinstance(cleaned, Problem):
            yield replace(cleaned, source=planned.source)
        else:
            named = replace(cleaned, id=f"{planned.prefix}{cleaned.id}")
            yield Row(named, recording_name(named.recording, Path()), planned.source)


def _stored(row: Row, last: Segment | None, reader: AudioReader, rules: CleanRules) -> StoredRow | Problem:
    """A row as it is written, or why it is not."""
    segment = row.segment
    follows = last if segment.continues else None
    since_s = follows.end_s if follows else max(0.0, segment.start_s - min(segment.lead_s, LEAD_S))
    try:
        heard = _heard(segment, since_s, reader)
    except AudioError:
        follows = None  # the damage may lie before it
        try:
            heard = _heard(segment, segment.start_s, reader)
        except AudioError as error:
            return _problem(row, "recording does not decode", error.what)
    audio_hash = UNHEARD
    if rules.audio != "never":
        measures = measure(heard.floats)
        if trouble := audio_trouble(measures, rules):
            return _problem(row, *trouble)
        audio_hash = measures.audio_hash
    return StoredRow(row, follows is not None, heard.before_s, heard.samples, heard.before, audio_hash)


def _heard(segment: Segment, since_s: float, reader: AudioReader) -> _Heard:
    """Both in one read: what is between them is decoded once."""
    lead = max(0, at_sample(segment.start_s) - at_sample(since_s))
    wanted = at_sample(segment.end_s) - at_sample(segment.start_s)
    read = reader.read(segment.recording, since_s if lead else segment.start_s, segment.end_s)
    samples = sixteen_bits(read)
    missing = lead + wanted - len(samples)
    if missing > MISSING_S * SAMPLE_RATE_HZ:
        what = f"ends {missing / SAMPLE_RATE_HZ:.2f} s before the speech from {segment.start_s:.2f} s"
        raise AudioError(what, where=segment.id)
    if missing > 0:
        samples = np.concatenate([samples, np.zeros(missing, np.int16)])
    before_s = max(0.0, segment.start_s - since_s)
    return _Heard(before_s, samples[lead:], samples[:lead], read[lead:])


def _problem(row: Row, kind: str, detail: str) -> Problem:
    return Problem(row.segment.id, kind, detail, row.segment.duration_s, row.source)
