"""Recordings that are no files: rows of Arrow and Parquet files, bytes that came with a row, and joined ones."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from whispertune.data import embedded
from whispertune.data.audio import SAMPLE_RATE_HZ, AudioInfo, AudioReader
from whispertune.data.segments import Embedded, Held, Joined, Part
from whispertune.errors import AudioError

NAMES = ("a.wav", "stereo.flac", "a.mp3", "a.ogg", "a.opus", "a.m4a", "a.webm")
Bytes = Sequence[bytes | None]
Write = Callable[[Path, Bytes], None]


def as_structs(rows: Bytes) -> pa.Array:
    return pa.array([{"bytes": row, "path": f"{number}.x"} for number, row in enumerate(rows)])


def write_stream(path: Path, rows: Bytes) -> None:
    table = pa.table({"text": ["words"] * len(rows), "audio": as_structs(rows)})
    with pa.ipc.new_stream(path, table.schema) as sink:
        sink.write_table(table, max_chunksize=2)


def write_file(path: Path, rows: Bytes) -> None:
    table = pa.table({"audio": pa.array(rows, pa.large_binary()), "text": ["words"] * len(rows)})
    with pa.ipc.new_file(path, table.schema) as sink:
        sink.write_table(table, max_chunksize=3)


def write_parquet(path: Path, rows: Bytes) -> None:
    pq.write_table(pa.table({"audio": as_structs(rows), "text": ["words"] * len(rows)}), path, row_group_size=2)


def write_plain_parquet(path: Path, rows: Bytes) -> None:
    pq.write_table(pa.table({"audio": pa.array(rows, pa.binary())}), path)


def write_datasets(path: Path, rows: Bytes) -> None:
    """As the `datasets` library caches what it downloads."""
    from datasets import Audio, Features, Value
    from datasets.arrow_writer import ArrowWriter

    with ArrowWriter(path=str(path), features=Features({"audio": Audio(decode=False), "text": Value("string")})) as to:
        for row in rows:
            to.write({"audio": {"bytes": row, "path": None}, "text": "words"})
        to.finalize()


WRITERS = (write_stream, write_file, write_parquet, write_plain_parquet, write_datasets)


def rows_of(container: Path, count: int) -> list[Embedded]:
    return [Embedded(container, row, "audio", f"row {row}.x") for row in range(count)]


def wav(samples: np.ndarray, rate_hz: int = SAMPLE_RATE_HZ) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="WAV")
    return file.getvalue()


@pytest.mark.parametrize("write", WRITERS)
def test_a_row_is_read_as_the_file_that_it_holds(
    recordings: Path, reader: AudioReader, tmp_path: Path, write: Write
) -> None:
    write(tmp_path / "container", [(recordings / name).read_bytes() for name in NAMES])
    rows = rows_of(tmp_path / "container", len(NAMES))
    files = [recordings / name for name in NAMES]
    assert reader.probe_many(rows) == reader.probe_many(files)
    for row, file in zip(reversed(rows), reversed(files), strict=True):
        np.testing.assert_allclose(reader.read(row), reader.read(file), atol=1e-5)
        np.testing.assert_allclose(reader.read(row, 12.25, 14.0), reader.read(file, 12.25, 14.0), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_held_bytes_are_read_as_the_file_that_they_come_from(recordings: Path, reader: AudioReader, name: str) -> None:
    held = Held(name, (recordings / name).read_bytes())
    assert reader.probe(held) == reader.probe(recordings / name)
    for stretch in ((3.0, 7.5), (0.0, None)):  # AAC differs a little with what was decoded before
        np.testing.assert_allclose(reader.read(held, *stretch), reader.read(recordings / name, *stretch), atol=1e-5)


def test_pieces_in_any_order_between_other_recordings(recordings: Path, reader: AudioReader, tmp_path: Path) -> None:
    write_parquet(tmp_path / "x.parquet", [(recordings / name).read_bytes() for name in ("a.mp3", "a.m4a", "a.wav")])
    rows = rows_of(tmp_path / "x.parquet", 3)
    whole = [reader.read(row) for row in rows]
    rng = np.random.default_rng(3)
    for _ in range(30):
        row, start_s = int(rng.integers(3)), float(rng.uniform(0, 17))
        part = reader.read(rows[row], start_s, start_s + 1)
        begin = round(start_s * SAMPLE_RATE_HZ)
        np.testing.assert_allclose(part, whole[row][begin : begin + len(part)], atol=1e-3)


def test_held_bytes_of_one_name_are_not_mixed_up(reader: AudioReader) -> None:
    for level in (0.25, 0.5, 0.25):
        assert reader.read(Held("same", wav(np.full(1600, level)))) == pytest.approx(level, abs=1e-3)


def test_a_container_that_changes_is_opened_again(reader: AudioReader, tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    for length in (1600, 3200):
        write_stream(tmp_path / "new", [wav(np.zeros(length))])
        os.replace(tmp_path / "new", path)
        assert len(reader.read(Embedded(path, 0, "audio", "x"))) == length


def test_each_row_that_gives_no_audio_is_named(recordings: Path, tmp_path: Path, reader: AudioReader) -> None:
    path = tmp_path / "rows.parquet"
    write_parquet(path, [None, b"", b"This is no audio. " * 99, b"#EXTM3U\n/etc/passwd", wav(np.zeros(1600))])
    (tmp_path / "broken.parquet").write_bytes(path.read_bytes()[:-20])
    (tmp_path / "words.arrow").write_text("These are words.")
    said: dict[Embedded | Held, str] = {
        Embedded(path, 0, "audio", "null.wav"): "holds no audio, at most a path",
        Embedded(path, 1, "audio", "empty.wav"): "the recording is empty",
        Embedded(path, 2, "audio", "text.wav"): "is not audio",
        Embedded(path, 3, "audio", "list.m3u"): "is not audio",
        Embedded(path, 5, "audio", "behind.wav"): "it has 5 rows",
        Embedded(path, -1, "audio", "before.wav"): "it has 5 rows",
        Embedded(path, 0, "sound", "column.wav"): "no column sound, only audio, text",
        Embedded(path, 0, "text", "words.wav"): "column text holds string",
        Embedded(tmp_path / "none.parquet", 0, "audio", "none.wav"): "is not there",
        Embedded(tmp_path / "broken.parquet", 4, "audio", "cut.wav"): "row 4 of .* cannot be read",
        Embedded(tmp_path / "words.arrow", 0, "audio", "arrow.wav"): "row 0 of .* cannot be read",
        Held("held.mp3", b"This is no audio."): "is not audio",
    }
    reader.read(recordings / "a.wav", 0, 1)
    pid = reader.pid
    for recording, what in said.items():
        with pytest.raises(AudioError, match=what) as caught:
            reader.read(recording)
        assert caught.value.where == recording.name
    found = reader.probe_many([*said, Embedded(path, 4, "audio", "good.wav"), recordings / "a.wav"])
    assert [str(one.where) for one in found[: len(said)] if isinstance(one, AudioError)] == [r.name for r in said]
    assert found[len(said) :] == [AudioInfo(0.1, 16_000, 1), AudioInfo(20.0, 16_000, 1)]
    assert reader.pid == pid  # none of it hurt the decoder


@pytest.mark.parametrize("dictionary", [True, False])
def test_a_row_group_that_unpacks_to_far_more_than_its_file_is_an_error(
    dictionary: bool, tmp_path: Path, reader: AudioReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "GROUP_LIMIT_BYTES", 4 << 20)
    path, levels = tmp_path / "x.parquet", [np.zeros(130_000)] * 28
    pq.write_table(
        pa.table({"audio": as_structs([wav(each) for each in levels])}),
        path,
        compression="zstd",
        use_dictionary=dictionary,
        dictionary_pagesize_limit=1 << 30,
    )
    assert path.stat().st_size < 20_000
    with pytest.raises(AudioError, match=r"row 3 of .* \(its row group unpacks to more than 4 MiB") as caught:
        reader.read(Embedded(path, 3, "audio", "x.wav"))
    assert caught.value.where == "x.wav"
    monkeypatch.setattr(embedded, "GROUP_LIMIT_BYTES", 8 << 20)
    assert len(reader.read(Embedded(path, 3, "audio", "x.wav"))) == 130_000


def test_bytes_that_kill_the_decoder_cost_one_recording(recordings: Path) -> None:
    data = (recordings / "a.wav").read_bytes()
    with AudioReader(time_limit_s=0.5) as reader:
        reader.read(Held("first", data))
        assert reader.pid is not None
        os.kill(reader.pid, signal.SIGSTOP)  # more than a pipe holds: not even the request gets through
        with pytest.raises(AudioError, match=r"kept the decoder busy for more than 0\.5 s") as caught:
            reader.read(Held("second", data * 10))
        assert caught.value.where == "second"
        found = reader.probe_many([Held("third", data), recordings / "a.wav"])
        assert found == [AudioInfo(20.0, 16_000, 1)] * 2
        assert len(reader.read(Held("first", data), 0, 1)) == SAMPLE_RATE_HZ


def test_more_bytes_than_any_pipe_holds(tmp_path: Path, reader: AudioReader) -> None:
    levels = [0.1, 0.2, 0.3]
    write_stream(tmp_path / "long.arrow", [wav(np.full(600 * SAMPLE_RATE_HZ, level)) for level in levels])  # 19 MB each
    rows = rows_of(tmp_path / "long.arrow", 3)
    assert reader.probe_many(rows * 3) == [AudioInfo(600.0, 16_000, 1)] * 9
    for row, level in zip(rows, levels, strict=True):
        samples = reader.read(row)
        assert len(samples) == 600 * SAMPLE_RATE_HZ
        np.testing.assert_allclose(samples, level, atol=1e-4)


@pytest.fixture
def joined(tmp_path: Path) -> Joined:
    """Seconds 1 to 2.5 and 4 to 5 of a recording, in levels of 0.1 and 0.2."""
    write_parquet(tmp_path / "parts.parquet", [wav(np.full(24_000, 0.1)), wav(np.full(16_000, 0.2))])
    first, second = rows_of(tmp_path / "parts.parquet", 2)
    return Joined("talk", (Part(first, 1.0, 2.5), Part(second, 4.0, 5.0)))


def test_parts_are_read_at_their_places_with_silence_between(reader: AudioReader, joined: Joined) -> None:
    whole = np.zeros(5 * SAMPLE_RATE_HZ, np.float32)
    whole[16_000:40_000], whole[64_000:80_000] = 0.1, 0.2
    assert reader.probe(joined) == AudioInfo(5.0, 16_000, 1)
    np.testing.assert_allclose(reader.read(joined), whole, atol=1e-4)
    for start_s, end_s in ((0.0, 0.5), (0.5, 1.5), (2.0, 4.25), (2.6, 3.9), (4.5, 5.0), (1.00003, 4.99997)):
        part = whole[round(start_s * SAMPLE_RATE_HZ) : round(end_s * SAMPLE_RATE_HZ)]
        np.testing.assert_allclose(reader.read(joined, start_s, end_s), part, atol=1e-4)
    assert len(reader.read(joined, 4.5, 9.0)) == SAMPLE_RATE_HZ // 2  # less, as of a file
    for start_s, stop_s in ((5.0, 6.0), (3.0, 3.0), (-1.0, 1.0)):
        with pytest.raises(AudioError, match="there is no audio from") as caught:
            reader.read(joined, start_s, stop_s)
        assert caught.value.where == "talk"


def test_a_part_that_is_shorter_than_its_row_says_is_an_error(reader: AudioReader, joined: Joined) -> None:
    first, second = joined.parts
    wrong = Joined("talk", (Part(first.audio, 0.0, 1.75), second))
    assert len(reader.read(wrong, 0.0, 1.5)) == 24_000
    with pytest.raises(AudioError, match=r"is 0\.25 s shorter than its row says") as caught:
        reader.read(wrong)
    assert caught.value.where == first.audio.name
