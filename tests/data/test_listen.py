"""What only the audio tells, on files that are silent, clipped, broken or twice the same."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from whispertune.data.audio import SAMPLE_RATE_HZ, AudioReader
from whispertune.data.clean import CleanRules
from whispertune.data.listen import hear, measure
from whispertune.data.segments import Segment, SourceData
from whispertune.data.table import SegmentTable
from whispertune.recipe import Clean

Samples = NDArray[np.float32]


def rules(**changes: Any) -> CleanRules:
    return CleanRules(**Clean(**changes).model_dump())


def noise(seed: int, length_s: float = 1.0, level: float = 0.1) -> Samples:
    samples = np.random.default_rng(seed).normal(0, level, round(length_s * SAMPLE_RATE_HZ))
    return samples.astype(np.float32)


def written(path: Path, samples: Samples, rate_hz: int = SAMPLE_RATE_HZ) -> Segment:
    soundfile.write(path, np.round(samples * 32767).astype(np.int16), rate_hz)  # libsndfile rounds by format
    return Segment(f"rows.csv:{path.name}", path, 0.0, len(samples) / rate_hz, f"says {path.stem}", "en")


def heard(reader: AudioReader, *rows: Segment, **changes: Any) -> SourceData:
    data = hear(SegmentTable.of(rows), rules(**changes), reader, source="here").data
    assert len(data.segments) + len(data.problems) == len(rows)
    return data


def reasons(data: SourceData) -> dict[str, str]:
    return {problem.where.removeprefix("rows.csv:"): problem.kind for problem in data.problems}


def test_no_speech(tmp_path: Path, reader: AudioReader) -> None:
    click = noise(4, level=1e-5)
    click[8000:9600] = noise(5, 0.1, 0.01)
    rows = (
        written(tmp_path / "silent.wav", np.zeros(16_000, np.float32)),
        written(tmp_path / "hum.wav", noise(2, level=0.0005)),
        written(tmp_path / "quiet.wav", noise(3, level=0.002)),
        written(tmp_path / "one word.wav", click),
    )
    data = heard(reader, *rows)
    assert reasons(data) == {"silent.wav": "no speech", "hum.wav": "no speech"}
    assert data.problems[0].detail == "digital silence; clean.min_level_db is -60"
    assert data.problems[1].detail.startswith("its loudest 0.1 s is at -6")
    assert (data.problems[1].seconds, data.problems[1].source) == (1.0, "here")
    assert reasons(heard(reader, *rows, min_level_db=-80)) == {"silent.wav": "no speech"}


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 44_100, 48_000])
def test_clipped(tmp_path: Path, reader: AudioReader, rate_hz: int) -> None:
    time = np.arange(2 * rate_hz) / rate_hz
    voice = np.sin(2 * np.pi * 180 * time) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time))
    rows = (
        written(tmp_path / "clipped.wav", np.clip(4 * voice, -1, 1).astype(np.float32), rate_hz),
        written(tmp_path / "loud.wav", (0.97 * voice).astype(np.float32), rate_hz),
    )
    assert reasons(heard(reader, *rows)) == {"clipped.wav": "clipped"}
    assert reasons(heard(reader, *rows, max_clipped_share=1.0)) == {}


def test_the_same_audio_twice(tmp_path: Path, reader: AudioReader) -> None:
    samples = noise(6)
    padded = np.concatenate([np.zeros(800, np.float32), samples, np.zeros(1600, np.float32)])
    first = replace(written(tmp_path / "first.wav", samples), text="Yes")
    rows = (
        first,
        replace(written(tmp_path / "copy.flac", samples), text="Yes"),
        replace(written(tmp_path / "padded.wav", padded), text="No"),
        replace(first, id="rows.csv:translated", task="translate"),
        written(tmp_path / "shifted.wav", samples[1:]),
        written(tmp_path / "other.wav", noise(7)),
    )
    data = heard(reader, *rows)
    assert reasons(data) == {"copy.flac": "same audio twice", "padded.wav": "same audio, other text"}
    assert data.problems[1].detail == "says 'No'; rows.csv:first.wav has the same audio and says 'Yes'"
    assert reasons(heard(reader, *rows, duplicates=False)) == {}


def test_audio_that_does_not_decode(tmp_path: Path, reader: AudioReader) -> None:
    good = written(tmp_path / "good.wav", noise(8))
    (tmp_path / "bad.wav").write_bytes(b"RIFF no audio at all")
    rows = (replace(good, id="rows.csv:bad.wav", recording=tmp_path / "bad.wav"), replace(good, continues=True))
    data = heard(reader, *rows)
    assert reasons(data) == {"bad.wav": "recording does not decode"}
    assert "bad.wav" in data.problems[0].detail
    assert [segment.continues for segment in data.segments] == [False]


def test_measures_stand_beside_the_rows_that_are_left(tmp_path: Path) -> None:
    levels = [0.1, 0.0, 0.01, 0.05]
    rows = [written(tmp_path / f"{n}.wav", noise(n, level=level)) for n, level in enumerate(levels)] * 30
    rows = [replace(row, id=f"{n}") for n, row in enumerate(rows)]
    seen: list[tuple[int, int]] = []
    with AudioReader(children=2) as reader:
        found = hear(
            SegmentTable.of(rows),
            rules(duplicates=False),
            reader,
            progress=lambda done, total: seen.append((done, total)),
        )
    assert len(found.data.segments) == len(found.measures.level_db) == 90
    assert found.measures.level_db[:3] == pytest.approx([-20, -40, -26], abs=0.3)
    assert [segment.id for segment in found.data.segments[:3]] == ["0", "2", "3"]
    assert len(np.unique(found.measures.audio_hashes)) == 3
    assert seen[-1] == (120, 120)


def test_what_is_measured_of_a_tone() -> None:
    time = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    tone = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    tone[:8000] = 0
    found = measure(tone)
    assert found.peak_db == pytest.approx(-6.02, abs=0.01)
    assert found.loudest_db == pytest.approx(-9.03, abs=0.01)
    assert found.level_db == pytest.approx(-12.04, abs=0.01)
    assert found.clipped_share == 0


def test_nothing_and_silence_are_measured_too() -> None:
    for samples in (np.zeros(0, np.float32), np.zeros(5, np.float32), np.zeros(16_000, np.float32)):
        found = measure(samples)
        assert found.level_db == found.loudest_db == found.peak_db == -math.inf
        assert (math.isnan(found.snr_db), found.audio_hash, found.clipped_share) == (True, "", 0.0)


@pytest.mark.parametrize("snr_db", [0, 10, 20, 30])
def test_the_noise_that_was_added_is_estimated(english_read: Path, snr_db: float) -> None:
    for path in sorted(english_read.glob("*.flac")):
        speech = soundfile.read(path, dtype="float32")[0]
        loud = np.square(speech[: len(speech) // 320 * 320].reshape(-1, 320)).mean(axis=1)
        power = loud[loud > loud.max() / 1000].mean()  # of frames within 30 dB of the loudest
        added = noise(9, len(speech) / SAMPLE_RATE_HZ, math.sqrt(power / 10 ** (snr_db / 10)))
        assert measure(speech + added).snr_db == pytest.approx(snr_db, abs=5)


def test_nothing_is_dropped_of_real_speech(mboshi: Path, reader: AudioReader) -> None:
    rows = [json.loads(line) for line in (mboshi / "dev" / "metadata.jsonl").read_text("utf-8").splitlines()]
    segments = [
        Segment(one["file_name"], mboshi / "dev" / one["file_name"], 0.0, one["duration_s"], one["text"], "ln")
        for one in rows
    ]
    assert heard(reader, *segments).problems == ()


def test_rows_without_text_need_no_speech(tmp_path: Path, reader: AudioReader) -> None:
    silent = [replace(written(tmp_path / f"{n}.wav", noise(n, level=0)), text="") for n in range(2)]
    said = written(tmp_path / "said.wav", noise(3, level=0))
    data = heard(reader, *silent, said)
    assert [each.id for each in data.segments] == [each.id for each in silent]
    assert reasons(data) == {"said.wav": "no speech"}
