"""Decoding and packing, against soundfile, PyAV and `datasets` with WhisperFeatureExtractor, side by side.

    python -m benchmarks.data --audio DIR --out data.json

Speech in DIR (searched for WAV, FLAC and MP3; noise that swells and fades where none is given) is cut into clips
and written as every kind of file that is measured. All sides read the same bytes; they take turns, several times
over, and the medians of the ratios are printed. What counts is CPU seconds, of all processes that take part: hours
of audio in such a second are what one core decodes. Machines differ and are shared: quote the ratios.

Decoding: ours is reading into packed windows of 30 s (the audio of `load_window`, without and with its labels);
soundfile and PyAV decode in the same process and keep nothing. Features: ours is packing, `load_window` and
`collate`; theirs is `Dataset.map`, one row at a time as in the common notebook, with bytes decoded by soundfile,
and the same without storing what comes out.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from whispertune.data.audio import SAMPLE_RATE_HZ, AudioReader
from whispertune.data.segments import Embedded, Recording, Segment
from whispertune.model.load import find_model
from whispertune.windows.batches import LoadedWindow, PlannedWindow, collate, load_window, read_whole
from whispertune.windows.features import WINDOW_SAMPLES
from whispertune.windows.pack import Limits, Window, cut, join
from whispertune.windows.tokens import Vocabulary

TEXT = "the plan is to meet at nine and to leave at ten"
KINDS = (("wav", 16_000), ("flac", 16_000), ("mp3", 16_000), ("mp3", 48_000))
Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Spent:
    """What one pass took."""

    cpu_s: float
    wall_s: float


@dataclass(frozen=True)
class Case:
    """Passes over the same audio: ours, and the one that it is measured against."""

    name: str
    hours: float
    ours: Callable[[], None]
    peer_name: str
    peer: Callable[[], None]


class Clock:
    """CPU seconds of this process and of the reader's."""

    def __init__(self, reader: AudioReader) -> None:
        self.reader = reader

    def spent(self, work: Callable[[], None]) -> Spent:
        cpu_s, wall_s = self._cpu_s(), time.perf_counter()
        work()
        return Spent(self._cpu_s() - cpu_s, time.perf_counter() - wall_s)

    def _cpu_s(self) -> float:
        children = (time.clock_gettime((~pid << 3) | 2) for pid in self.reader.pids)  # Linux: that process's clock
        return time.process_time() + sum(children)


def speech(folder: Path | None, seconds: float) -> Samples:
    """16 kHz mono, as long as asked for: files one after the other, again from the first where they are few."""
    if folder is None:
        rng = np.random.default_rng(0)
        swell = np.abs(np.sin(np.arange(round(seconds * SAMPLE_RATE_HZ)) * (2 * np.pi * 2 / SAMPLE_RATE_HZ)))
        noise: Samples = (rng.normal(0, 0.05, len(swell)) * swell).astype(np.float32)
        return noise
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".wav", ".flac", ".mp3"))
    parts: list[Samples] = []
    for path in paths:
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        parts.append(soxr.resample(samples.mean(axis=1), rate_hz, SAMPLE_RATE_HZ))
        if sum(map(len, parts)) > seconds * SAMPLE_RATE_HZ:
            break
    repeated: Samples = np.resize(np.concatenate(parts, dtype=np.float32), round(seconds * SAMPLE_RATE_HZ))
    return repeated


def write(path: Path, samples: Samples, rate_hz: int) -> Path:
    if rate_hz != SAMPLE_RATE_HZ:
        samples = soxr.resample(samples, SAMPLE_RATE_HZ, rate_hz)
    soundfile.write(path, samples, rate_hz)
    return path


def segment(recording: Recording, start_s: float, end_s: float) -> Segment:
    return Segment(f"{recording}:{start_s}", recording, start_s, end_s, TEXT, "en")


def one_file_each(folder: Path, audio: Samples, clip_s: float, kind: str, rate_hz: int) -> list[Segment]:
    size = round(clip_s * SAMPLE_RATE_HZ)
    clips = enumerate(audio[start : start + size] for start in range(0, len(audio) - size + 1, size))
    paths = [write(folder / f"{clip_s:g}-{rate_hz}-{number}.{kind}", clip, rate_hz) for number, clip in clips]
    return [segment(path, 0.0, clip_s) for path in paths]


def of_one_file(folder: Path, audio: Samples, clip_s: float, kind: str, rate_hz: int) -> list[Segment]:
    """In random order, as training asks for them."""
    path = write(folder / f"long-{rate_hz}.{kind}", audio, rate_hz)
    starts = np.random.default_rng(0).permutation(int(len(audio) / SAMPLE_RATE_HZ / clip_s)) * clip_s
    return [segment(path, start, start + clip_s) for start in starts.tolist()]


def packed(segments: Sequence[Segment], vocabulary: Vocabulary) -> list[Window]:
    def count(rows: Sequence[Segment]) -> NDArray[np.int32]:
        return np.array(vocabulary.count([row.text for row in rows], [row.language for row in rows]), np.int32)

    rng, limits = np.random.default_rng(0), Limits()
    return join(cut(segments, limits, count, rng), limits, rng)


def read_windows(reader: AudioReader, windows: Sequence[Window]) -> None:
    """The audio of packed windows and no labels."""
    for window in windows:
        audio = np.zeros(WINDOW_SAMPLES, dtype=np.float32)
        for piece in window.pieces:
            samples = read_whole(reader, piece.recording, piece.start_s, piece.end_s)
            begin = round(piece.offset_s * SAMPLE_RATE_HZ)
            audio[begin:][: len(samples)] = samples[: WINDOW_SAMPLES - begin]


def load_windows(reader: AudioReader, windows: Sequence[Window], vocabulary: Vocabulary) -> Iterator[LoadedWindow]:
    for window in windows:
        loaded = load_window(PlannedWindow(window, True, False), reader, vocabulary)
        assert isinstance(loaded, LoadedWindow)
        assert not loaded.problems
        yield loaded


def to_batches(reader: AudioReader, segments: Sequence[Segment], vocabulary: Vocabulary) -> None:
    """Rows to features and labels, four windows a batch."""
    loaded: list[LoadedWindow] = []
    for window in load_windows(reader, packed(segments, vocabulary), vocabulary):
        loaded.append(window)
        if len(loaded) == 4:
            collate(loaded, 80, vocabulary.end)
            loaded = []
    if loaded:
        collate(loaded, 80, vocabulary.end)


def label_windows(reader: AudioReader, windows: Sequence[Window], vocabulary: Vocabulary) -> None:
    for _ in load_windows(reader, windows, vocabulary):
        pass


def soundfile_files(segments: Sequence[Segment]) -> None:
    for each in segments:
        samples, rate_hz = soundfile.read(each.recording, dtype="float32")
        if rate_hz != SAMPLE_RATE_HZ:
            soxr.resample(samples, rate_hz, SAMPLE_RATE_HZ)


def soundfile_stretches(segments: Sequence[Segment]) -> None:
    with soundfile.SoundFile(segments[0].recording) as file:
        for each in segments:
            file.seek(round(each.start_s * file.samplerate))
            samples = file.read(round(each.duration_s * file.samplerate), dtype="float32")
            if file.samplerate != SAMPLE_RATE_HZ:
                soxr.resample(samples, file.samplerate, SAMPLE_RATE_HZ)


def pyav_files(segments: Sequence[Segment]) -> None:
    import av

    for each in segments:
        with av.open(str(each.recording)) as container:
            np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)


def decoding_cases(
    options: argparse.Namespace, folder: Path, reader: AudioReader, vocabulary: Vocabulary
) -> Iterator[Case]:
    audio = speech(options.audio, options.minutes * 60)
    hours, clip_s = len(audio) / SAMPLE_RATE_HZ / 3600, options.clip_s
    for kind, rate_hz in KINDS:
        peer = "soundfile" if rate_hz == SAMPLE_RATE_HZ else "soundfile + soxr"
        name = f"{kind} {rate_hz // 1000} kHz, {clip_s:g} s"
        clips = one_file_each(folder, audio, clip_s, kind, rate_hz)
        windows = packed(clips, vocabulary)
        audio_only = partial(read_windows, reader, windows)
        yield Case(f"{name} a file", hours, audio_only, peer, partial(soundfile_files, clips))
        if rate_hz == SAMPLE_RATE_HZ:
            yield Case(f"{name} a file", hours, audio_only, "PyAV", partial(pyav_files, clips))
            labelled = partial(label_windows, reader, windows, vocabulary)
            yield Case(f"{name} a file, and labels", hours, labelled, peer, partial(soundfile_files, clips))
        stretches = of_one_file(folder, audio, clip_s, kind, rate_hz)
        audio_only = partial(read_windows, reader, packed(stretches, vocabulary))
        yield Case(f"{name} of a long file", hours, audio_only, peer, partial(soundfile_stretches, stretches))


def make_dataset(folder: Path, clips: Sequence[Segment]) -> tuple[Any, list[Segment]]:
    """The clips as a dataset on disk, and as rows of its Arrow file for us."""
    import datasets

    datasets.disable_progress_bars()
    rows = [{"bytes": Path(str(each.recording)).read_bytes(), "path": str(each.recording)} for each in clips]
    made = datasets.Dataset.from_dict({"audio": rows, "sentence": [TEXT] * len(rows)})
    made.cast_column("audio", datasets.Audio(decode=False)).save_to_disk(folder)
    found = datasets.load_from_disk(folder)
    (container,) = [Path(each["filename"]) for each in found.cache_files]
    ours = [Embedded(container, row, "audio", f"row {row}") for row in range(len(rows))]
    return found, [segment(each, 0.0, clip.duration_s) for each, clip in zip(ours, clips, strict=True)]


@dataclass(frozen=True)
class Script:
    """What the notebooks do with a row."""

    dataset: Any
    extractor: Any
    tokenizer: Any

    def prepare(self, row: dict[str, Any]) -> dict[str, Any]:
        samples, rate_hz = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="float32")
        features = self.extractor(samples, sampling_rate=rate_hz).input_features[0]
        return {"input_features": features, "labels": self.tokenizer(row["sentence"]).input_ids}

    def map(self) -> None:
        columns = self.dataset.column_names
        self.dataset.map(self.prepare, remove_columns=columns, load_from_cache_file=False, keep_in_memory=True)

    def go_through(self) -> None:
        """As it would be with a transform: nothing is stored."""
        for row in self.dataset:
            self.prepare(row)


def feature_cases(
    options: argparse.Namespace, folder: Path, reader: AudioReader, vocabulary: Vocabulary, model: Path
) -> Iterator[Case]:
    from transformers import WhisperFeatureExtractor, WhisperTokenizerFast

    extractor, tokenizer = WhisperFeatureExtractor(), WhisperTokenizerFast.from_pretrained(model)
    audio = speech(options.audio, options.feature_minutes * 60)
    for kind in ("wav", "flac", "mp3"):
        for clip_s in (options.clip_s, 30.0):
            clips = one_file_each(folder, audio, clip_s, kind, SAMPLE_RATE_HZ)
            dataset, rows = make_dataset(folder / f"{kind}-{clip_s:g}", clips)
            script = Script(dataset, extractor, tokenizer)
            ours = partial(to_batches, reader, rows, vocabulary)
            hours = sum(row.duration_s for row in rows) / 3600
            name = f"{kind} 16 kHz, rows of {clip_s:g} s to features"
            yield Case(name, hours, ours, "datasets, map", script.map)
            yield Case(name, hours, ours, "datasets, row by row, nothing stored", script.go_through)


@contextmanager
def hushed() -> Iterator[None]:
    """libmpg123 complains where a seek lands between frames that lean on each other; writing it would cost time."""
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def compare(case: Case, clock: Clock, repeats: int) -> dict[str, Any]:
    """The two sides in turn; one pass each before, for what is only slow once."""
    case.ours()
    case.peer()
    pairs = [(clock.spent(case.ours), clock.spent(case.peer)) for _ in range(repeats)]
    return {
        "case": case.name,
        "peer": case.peer_name,
        "ours_hours_per_cpu_s": case.hours / median(ours.cpu_s for ours, _ in pairs),
        "peer_hours_per_cpu_s": case.hours / median(peer.cpu_s for _, peer in pairs),
        "times_as_fast_per_core": median(peer.cpu_s / ours.cpu_s for ours, peer in pairs),
        "times_as_fast_by_the_clock": median(peer.wall_s / ours.wall_s for ours, peer in pairs),
    }


def show(found: dict[str, Any]) -> None:
    print(
        f"{found['case']:44} {found['ours_hours_per_cpu_s']:7.2f} {found['peer_hours_per_cpu_s']:7.2f}"
        f" {found['times_as_fast_per_core']:6.2f} {found['times_as_fast_by_the_clock']:6.2f}  {found['peer']}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, help="a folder of speech; noise where none is given")
    parser.add_argument("--model", default="bundled:whisper-base", help="whose tokens the labels are")
    parser.add_argument("--clip-s", type=float, default=3.0, help="length of an utterance")
    parser.add_argument("--minutes", type=float, default=20.0, help="audio in a pass of decoding")
    parser.add_argument("--feature-minutes", type=float, default=3.0, help="audio in a pass of features")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="all numbers as JSON")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)  # a core each, on both sides
    model = find_model(options.model)
    print(f"{'hours of audio a CPU second':44} {'ours':>7} {'theirs':>7} {'ratio':>6} {'clock':>6}  against")
    with tempfile.TemporaryDirectory() as folder, AudioReader() as reader:
        place, vocabulary = Path(folder), model.vocabulary
        cases = chain(
            decoding_cases(options, place, reader, vocabulary),
            feature_cases(options, place, reader, vocabulary, model.path),
        )
        results = []
        for case in cases:
            with hushed():
                results.append(compare(case, Clock(reader), options.repeats))
            show(results[-1])
    if options.out:
        machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
        options.out.write_text(json.dumps({"machine": machine, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
