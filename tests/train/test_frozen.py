"""The frozen encoder's cache: the same numbers with it and without, and nothing that was another sound's."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

from tests.supplies import table, talk
from whispertune.data.audio import AudioReader
from whispertune.data.segments import Embedded, Held, Joined, Part, Recording, Segment
from whispertune.data.table import as_table
from whispertune.model.encoder import WhisperEncoder
from whispertune.model.load import ModelFolder
from whispertune.model.loss import SummedLoss
from whispertune.service.data import read_data
from whispertune.train.feeding.feed import Feed
from whispertune.train.feeding.plan import Plan, PlanSettings
from whispertune.train.feeding.splits import TokenCounter
from whispertune.train.feeding.supply import TableSupply
from whispertune.train.states import frozen
from whispertune.train.states.frozen import (
    FrozenPrefix,
    StateCache,
    bits,
    needed_bytes,
    state_bytes,
    weights_key,
    window_key,
)
from whispertune.train.states.state_files import RECORD_BYTES
from whispertune.windows.batches import LoadedWindow, PlannedWindow, collate, collate_lengths, load_window
from whispertune.windows.pack import Limits, Piece, Window

WIDTH = 16  # of the tiny model
GIGABYTE = 10**9
FIXED = PlanSettings(step_segments=8, fit_share=0.5, fixed=True)


@pytest.fixture(scope="module")
def spoken(mboshi: Path, base: ModelFolder, reader: AudioReader) -> TableSupply:
    """Forty real utterances."""
    data = read_data(str(mboshi / "train"), base.vocabulary, base.generation, reader, language="ln", limit_rows=40)
    return TableSupply("train.0", as_table(data.segments), Limits(), TokenCounter(base.vocabulary), seed=0)


@pytest.fixture
def module(tiny: ModelFolder) -> SummedLoss:
    """The tiny model with its whole encoder frozen."""
    return frozen_model(tiny, 3)


def frozen_model(tiny: ModelFolder, layers: int, precision: str = "bfloat16") -> SummedLoss:
    module = SummedLoss(tiny.load(), precision)
    encoder_of(module).frozen_layers = layers
    module.train()
    return module


def encoder_of(module: SummedLoss) -> WhisperEncoder:
    encoder = module.model.model.encoder
    assert isinstance(encoder, WhisperEncoder)
    return encoder


def filler(module: SummedLoss, cache: StateCache | None, precision: str = "bfloat16") -> FrozenPrefix:
    return FrozenPrefix(encoder_of(module), 80, precision, "cpu", cache)


def losses(
    plan: Plan,
    reader: AudioReader,
    tiny: ModelFolder,
    module: SummedLoss,
    cache: StateCache | None,
    frozen: FrozenPrefix | None,
) -> tuple[list[float], list[int]]:
    """Of each step, summed over its parts, and how many of its windows were heard."""
    found, heard = [], []
    with Feed(plan, reader, tiny.vocabulary, language_loss=True, store=cache) as feed, torch.no_grad():
        for index in range(plan.total_steps or 0):
            step = feed.take(index)
            heard.append(sum(window.audio is not None for window in step.windows))
            if frozen is not None:
                step = replace(step, windows=frozen.fill(step.windows))
            parts = [collate_lengths(part, 80, tiny.vocabulary.end) for part in step.parts(60.0)]
            found.append(sum(float(module(*batches)) for batches in parts))
    return found, heard


@pytest.mark.parametrize("layers", [1, 3])
def test_a_run_with_the_cache_sees_what_one_without_it_sees(
    layers: int, tmp_path: Path, spoken: TableSupply, tiny: ModelFolder, reader: AudioReader
) -> None:
    plan = Plan([spoken], FIXED, seed=0, epochs=4)
    module = frozen_model(tiny, layers)
    plain, heard = losses(plan, reader, tiny, module, None, None)
    assert all(heard)
    with StateCache(tmp_path, WIDTH, "w", GIGABYTE) as cache:
        first, heard_first = losses(plan, reader, tiny, module, cache, filler(module, cache))
    assert first == (plain if layers == 3 else pytest.approx(plain, rel=1e-4))  # the last norm is rounded anyway
    assert sum(heard_first) < sum(heard)
    said: list[str] = []
    with StateCache(tmp_path, WIDTH, "w", GIGABYTE, say=said.append) as cache:  # the next run
        again, heard_again = losses(plan, reader, tiny, module, cache, filler(module, cache))
        assert f"{len(cache)} windows are there from earlier runs" in cache.told(1000)
    assert again == first
    assert not any(heard_again)
    assert not said


def test_states_are_those_of_each_window_alone(
    tmp_path: Path, spoken: TableSupply, tiny: ModelFolder, module: SummedLoss, reader: AudioReader
) -> None:
    plan = Plan([spoken], PlanSettings(step_segments=40, fit_share=1.0, fixed=True), seed=0)
    planned = plan.step(0).windows
    with StateCache(tmp_path, WIDTH, "w", GIGABYTE) as cache:
        windows = [load(each, reader, tiny, cache) for each in planned]
        filled = filler(module, cache).fill(windows)
        for before, window in zip(windows, filled, strict=True):
            assert before.audio is not None
            assert before.planned is not None
            assert window.audio is None
            assert window.states is not None
            assert window.labels == before.labels
            mel = collate([before], 80, tiny.vocabulary.end).mel
            assert mel is not None
            np.testing.assert_array_equal(window.states, bits(module.prefix(mel)[0]))
            np.testing.assert_array_equal(window.states, cache.read(before.planned))
            assert window.frames == before.frames


def load(
    planned: PlannedWindow, reader: AudioReader, tiny: ModelFolder, cache: StateCache | None = None
) -> LoadedWindow:
    loaded = load_window(planned, reader, tiny.vocabulary, store=cache)
    assert isinstance(loaded, LoadedWindow)
    return loaded


def test_those_that_have_states_keep_them(
    tmp_path: Path, spoken: TableSupply, tiny: ModelFolder, module: SummedLoss, reader: AudioReader
) -> None:
    planned = Plan([spoken], FIXED, seed=0).step(0).windows
    with StateCache(tmp_path, WIDTH, "w", GIGABYTE) as cache:
        frozen = filler(module, cache)
        frozen.fill([load(planned[0], reader, tiny, cache)])
        mixed = [load(each, reader, tiny, cache) for each in planned]
        assert [window.audio is None for window in mixed] == [True] + [False] * (len(planned) - 1)
        filled = frozen.fill(mixed)
        assert filled[0] is mixed[0]
        assert all(window.states is not None for window in filled)


def test_what_did_not_decode_is_not_kept(
    tmp_path: Path, tiny: ModelFolder, module: SummedLoss, reader: AudioReader
) -> None:
    good, bad = tone(tmp_path / "good.wav"), tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF")
    planned = window_of(piece(good), replace(piece(bad), offset_s=5.0))
    with StateCache(tmp_path, WIDTH, "w", GIGABYTE) as cache:
        loaded = load(planned, reader, tiny, cache)
        assert loaded.problems
        (filled,) = filler(module, cache).fill([loaded])
        assert filled.states is not None
        assert not len(cache)


def test_a_file_that_changes_while_it_is_read_is_not_taken_for_what_it_was(
    tmp_path: Path, tiny: ModelFolder, module: SummedLoss, reader: AudioReader
) -> None:
    path = tone(tmp_path / "a.wav")
    planned = window_of(piece(path))
    with StateCache(tmp_path, WIDTH, "w", GIGABYTE) as cache:
        loaded = load(planned, reader, tiny, cache)
        tone(path, hertz=550)
        filler(module, cache).fill([loaded])
        assert len(cache) == 1
        assert cache.read(planned) is None
        path.unlink()
        assert cache.read(planned) is None


def test_only_what_was_asked_for_is_kept(tmp_path: Path, module: SummedLoss) -> None:
    planned = window_of(piece(tone(tmp_path / "a.wav")))
    with StateCache(tmp_path, WIDTH, "w", GIGABYTE) as cache:
        cache.write(planned, torch.zeros(1500, WIDTH, dtype=torch.bfloat16))
        assert not len(cache)


# --- how windows are known -------------------------------------------------------------------------------------


def tone(path: Path, seconds: float = 4.0, hertz: float = 440.0) -> Path:
    times = np.arange(round(seconds * 16_000)) / 16_000
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * hertz * times), 16_000)
    return path


def piece(recording: Recording, start_s: float = 0.5, end_s: float = 3.0, text: str = "hej") -> Piece:
    return Piece(recording, start_s, end_s, (Segment("a", recording, start_s, end_s, text, "sv"),), 4)


def window_of(*pieces: Piece, timestamps: bool = True, prompted: bool = False, fit: bool = False) -> PlannedWindow:
    return PlannedWindow(Window(pieces), timestamps, prompted, fit)


def container(folder: Path, data: bytes = b"one") -> Path:
    rows = [{"bytes": data, "path": None}, {"bytes": b"two", "path": None}]
    pq.write_table(pa.table({"audio": rows, "other": rows}), folder / "rows.parquet")
    return folder / "rows.parquet"


def test_a_window_is_known_by_what_is_heard(tmp_path: Path) -> None:
    path = tone(tmp_path / "a.wav")
    same = window_key(window_of(piece(path)))
    assert window_key(window_of(piece(path, text="something else"), timestamps=False, prompted=True)) == same
    assert window_key(replace(window_of(piece(path)), key=(3, 0, 1))) == same
    others = [
        window_of(piece(path), fit=True),
        window_of(piece(path, start_s=0.5001)),
        window_of(piece(path, end_s=3.1)),
        window_of(replace(piece(path), offset_s=0.02)),
        window_of(replace(piece(path), speed=1.1)),
        window_of(piece(path), replace(piece(path), offset_s=4.0)),
        window_of(piece(tone(tmp_path / "b.wav"))),
    ]
    assert len({same, *map(window_key, others)}) == 1 + len(others)


def test_a_cue_that_is_only_announced_is_heard_with_timestamps_alone(tmp_path: Path) -> None:
    path = tone(tmp_path / "a.wav")
    straddled = replace(piece(path), end_s=3.9, cut=Segment("b", path, 3.5, 5.0, "du", "sv"))
    with_, without = (window_key(window_of(straddled, timestamps=timestamps)) for timestamps in (True, False))
    assert with_ != without
    assert without == window_key(window_of(piece(path)))


def test_a_file_that_changed_is_another_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tone(tmp_path / "a.wav")
    same, times = window_key(window_of(piece(path))), path.stat().st_mtime_ns
    os.utime(path, ns=(times, times + 1))
    assert window_key(window_of(piece(path))) != same
    os.utime(path, ns=(times, times))
    assert window_key(window_of(piece(path))) == same
    monkeypatch.chdir(tmp_path)
    assert window_key(window_of(piece(Path("a.wav")))) == same
    tone(path, 4.5)
    os.utime(path, ns=(times, times))
    assert window_key(window_of(piece(path))) != same


def test_bytes_and_rows_are_known_by_what_they_hold(tmp_path: Path) -> None:
    held = window_key(window_of(piece(Held("row 1", b"one"))))
    assert window_key(window_of(piece(Held("row 2", b"one")))) == held
    assert window_key(window_of(piece(Held("row 1", b"two")))) != held
    path = container(tmp_path)
    row = Embedded(path, 0, "audio", "clip0")
    known = window_key(window_of(piece(row)))
    assert window_key(window_of(piece(replace(row, name="other name")))) == known
    assert window_key(window_of(piece(replace(row, row=1)))) != known
    assert window_key(window_of(piece(replace(row, column="other")))) != known
    container(tmp_path, b"another one")
    assert window_key(window_of(piece(row))) != known


def test_of_a_joined_recording_the_parts_that_are_heard_count(tmp_path: Path) -> None:
    rows = [Embedded(container(tmp_path), row, "audio", f"clip{row}") for row in (0, 1, 0)]
    parts = tuple(Part(row, 2.0 * at, 2.0 * at + 2) for at, row in enumerate(rows))
    known = window_key(window_of(piece(Joined("talk", parts), 0.5, 3.0)))
    assert window_key(window_of(piece(Joined("renamed", parts[:2]), 0.5, 3.0))) == known
    assert window_key(window_of(piece(Joined("talk", parts[:2]), 0.5, 5.0))) != known
    swapped = (parts[0], replace(parts[1], audio=rows[0]), parts[2])
    assert window_key(window_of(piece(Joined("talk", swapped), 0.5, 3.0))) != known


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda encoder: encoder.layers[0].fc1.weight.data[0, 0].add_(1e-3), False),
        (lambda encoder: encoder.conv1.bias.data[0].add_(1e-3), False),
        (lambda encoder: encoder.layers[1].fc1.weight.data.add_(1.0), True),
        (lambda encoder: encoder.layer_norm.weight.data.add_(1.0), True),
        (lambda encoder: setattr(encoder, "frozen_layers", 2), False),
    ],
)
def test_other_weights_are_another_cache(
    change: Callable[[WhisperEncoder], object], same: bool, tiny: ModelFolder
) -> None:
    encoder = encoder_of(frozen_model(tiny, 1))
    known = weights_key(encoder, "bfloat16", "cpu")
    change(encoder)
    assert (weights_key(encoder, "bfloat16", "cpu") == known) == same


def test_how_it_is_computed_counts(module: SummedLoss) -> None:
    encoder = encoder_of(module)
    keys = {
        weights_key(encoder, precision, device) for precision in ("bfloat16", "float32") for device in ("cpu", "cuda:1")
    }
    assert len(keys) == 4
    assert weights_key(encoder, "float32", "cuda:0") in keys
    known = weights_key(encoder, "float32", "cpu")
    encoder.layer_norm.weight.data[0] += 1
    assert weights_key(encoder, "float32", "cpu") != known


# --- how much is kept ------------------------------------------------------------------------------------------


def test_what_it_will_take_is_known_beforehand(
    tmp_path: Path, spoken: TableSupply, tiny: ModelFolder, module: SummedLoss, reader: AudioReader
) -> None:
    plan = Plan([spoken], FIXED, seed=0, epochs=8)  # by then all windows were shown in both ways
    needed = needed_bytes(plan, WIDTH)
    with StateCache(tmp_path, WIDTH, "w", GIGABYTE) as cache:
        losses(plan, reader, tiny, module, cache, filler(module, cache))
        told = cache.told(needed)
        kept = sum(path.stat().st_size for path in cache.folder.iterdir()) - RECORD_BYTES * len(cache)
    assert kept == pytest.approx(needed, rel=0.1)
    assert f"{needed / 1e9:.2g} GB" in told
    assert str(tmp_path) in told
    assert "computed each time" not in told


@pytest.mark.parametrize("counted", [20_000, 0])
@pytest.mark.parametrize("fit_share", [0.0, 0.5, 1.0])
def test_talks_take_what_is_told_too(counted: int, fit_share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cue that is announced at the end of a window is heard or not, always the same."""
    monkeypatch.setattr(frozen, "COUNTED_ROWS", counted)
    cues = [cue for number in range(20) for cue in talk(f"t{number}", 40)]
    plan = Plan([table(cues)], PlanSettings(step_segments=16, fixed=True, fit_share=fit_share), 0, epochs=20)
    windows = (planned for index in range(plan.total_steps or 0) for planned in plan.step(index).windows)
    samples = {
        tuple((p.segments[0].id, p.heard_end_s(timestamps=w.timestamps), p.offset_s, w.fit) for p in w.window.pieces): (
            w.samples
        )
        for w in windows
    }
    assert needed_bytes(plan, WIDTH) == pytest.approx(state_bytes(samples.values(), WIDTH), rel=0 if counted else 0.05)


def test_what_does_not_fit_is_computed_each_time(
    tmp_path: Path, spoken: TableSupply, tiny: ModelFolder, module: SummedLoss, reader: AudioReader
) -> None:
    plan = Plan([spoken], replace(FIXED, fit_share=0.0), seed=0, epochs=2)
    without, heard = losses(plan, reader, tiny, module, None, filler(module, None))
    needed, said = needed_bytes(plan, WIDTH), list[str]()
    other = tmp_path / "other"
    other.mkdir()
    (other / "0.states").write_bytes(bytes(1000))
    with StateCache(tmp_path, WIDTH, "w", needed // 2 + 1000, say=said.append) as cache:
        assert "about 50 % of it; the rest is computed each time" in cache.told(needed)
        cached, heard_now = losses(plan, reader, tiny, module, cache, filler(module, cache))
        assert 0 < len(cache) < sum(heard) // 2
        assert sum(heard_now) == sum(heard) - len(cache)
    assert cached == without
    assert len(said) == 1
    assert sum(path.stat().st_size for path in tmp_path.glob("*/*")) <= needed // 2 + 1000


def test_ranks_share_what_may_be_kept_and_what_is_there(tmp_path: Path) -> None:
    planned = [window_of(piece(tone(tmp_path / f"{hertz}.wav", hertz=hertz))) for hertz in (300, 400, 500)]
    states = torch.ones(1500, WIDTH, dtype=torch.bfloat16)
    room = 2 * 2 * (1500 * WIDTH * 2 + RECORD_BYTES)  # for two windows on each of two ranks
    with (
        StateCache(tmp_path / "s", WIDTH, "w", room, rank=0, ranks=2) as first,
        StateCache(tmp_path / "s", WIDTH, "w", room, rank=1, ranks=2) as second,
    ):
        for each in planned:
            assert first.read(each) is None
            first.write(each, states)
        assert [second.read(each) is not None for each in planned] == [True, True, False]
        second.write(planned[2], states)
        assert first.read(planned[2]) is not None
