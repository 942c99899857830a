"""Windows cut to what is spoken, from real files: as long as they say, and the same sound and mel as in a whole one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Segment
from whispertune.data.table import as_table
from whispertune.errors import AudioError
from whispertune.model.load import ModelFolder
from whispertune.recipe import Augment
from whispertune.service.data import read_data
from whispertune.train.feeding.plan import Plan, PlanSettings
from whispertune.train.feeding.splits import TokenCounter
from whispertune.train.feeding.supply import TableSupply
from whispertune.windows.augment import Augmenter, AugmentSettings
from whispertune.windows.batches import LoadedWindow, PlannedWindow, collate, fit_samples, load_window
from whispertune.windows.features import WINDOW_SAMPLES, log_mel
from whispertune.windows.pack import Limits, Piece, Window, join, play_at

RATE_HZ = 16_000


def tone(folder: Path, seconds: float, hertz: float = 440.0, name: str = "tone.flac") -> Path:
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    soundfile.write(folder / name, 0.5 * np.sin(2 * np.pi * hertz * times), RATE_HZ)
    return folder / name


def alone(path: Path, start_s: float, end_s: float, speed: float = 1.0, lead_s: float = 0.0) -> Piece:
    cue = Segment(f"{path.name}:{start_s}", path, start_s, end_s, "hej du", "sv")
    return play_at(Piece(path, start_s - lead_s, end_s, (cue,), 4), speed)


def load(planned: PlannedWindow, base: ModelFolder, reader: AudioReader, **more: object) -> LoadedWindow:
    loaded = load_window(planned, reader, base.vocabulary, **more)  # type: ignore[arg-type]
    assert isinstance(loaded, LoadedWindow)
    return loaded


def heard(loaded: LoadedWindow) -> NDArray[np.float32]:
    assert loaded.audio is not None
    return loaded.audio


@pytest.fixture(scope="module")
def spoken(mboshi: Path, base: ModelFolder, reader: AudioReader) -> TableSupply:
    """Forty real utterances."""
    data = read_data(str(mboshi / "train"), base.vocabulary, base.generation, reader, language="ln", limit_rows=40)
    return TableSupply("train.0", as_table(data.segments), Limits(), TokenCounter(base.vocabulary), seed=0)


@given(st.floats(0.001, 30.0))
def test_lengths_to_cut_to(seconds: float) -> None:
    samples = fit_samples(seconds)
    assert samples % 320 == 0
    assert 16_000 <= samples <= WINDOW_SAMPLES
    assert samples / RATE_HZ >= seconds - 1e-5
    assert samples / RATE_HZ <= max(1.0, 1.25 * seconds, seconds + 0.5)
    assert samples <= fit_samples(seconds + 0.3)


def test_few_lengths_are_in_use() -> None:
    lengths = sorted({fit_samples(ms / 1000) / RATE_HZ for ms in range(1, 30_001)})
    assert lengths == [1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 30]


def test_real_utterances_alone(spoken: TableSupply, base: ModelFolder, reader: AudioReader) -> None:
    plan = Plan([spoken], PlanSettings(step_segments=8, fit_share=1.0), seed=0)
    planned = [each for index in range(plan.total_steps or 0) for each in plan.step(index).windows]
    assert len(planned) == len(spoken.table)
    for each in planned:
        loaded = load(each, base, reader)
        (piece,) = each.window.pieces
        assert isinstance(piece.recording, Path)
        theirs, rate_hz = soundfile.read(piece.recording, dtype="float32")
        assert rate_hz == RATE_HZ
        theirs = theirs[round(piece.start_s * RATE_HZ) : round(piece.end_s * RATE_HZ)]
        audio = heard(loaded)
        np.testing.assert_array_equal(audio[: len(theirs)], theirs)
        assert not audio[len(theirs) :].any()
        assert len(audio) == each.samples == 160 * loaded.frames
        assert len(theirs) <= len(audio) <= max(RATE_HZ, 1.25 * len(theirs) + 320, len(theirs) + RATE_HZ // 2)
        assert loaded.planned is each


def test_the_mel_is_that_of_the_whole_window(spoken: TableSupply, base: ModelFolder, reader: AudioReader) -> None:
    """Also in its last frames, where sound goes up to the end; the floor apart, which is under the loudest bin."""
    plan = Plan([spoken], PlanSettings(step_segments=12, fit_share=1.0), seed=0)
    rng = np.random.default_rng(0)
    clips = [heard(load(each, base, reader)) for each in plan.step(0).windows]
    clips.append(rng.normal(0, 0.1, 3 * RATE_HZ).astype(np.float32))
    for audio in clips:
        whole = np.zeros(WINDOW_SAMPLES, dtype=np.float32)
        whole[: len(audio)] = audio
        short, full = (log_mel(torch.from_numpy(each)[None], 80)[0] for each in (audio, whole))
        assert short.shape == (80, len(audio) // 160)
        torch.testing.assert_close(short, full[:, : short.shape[1]], atol=2e-5, rtol=0)


@pytest.mark.parametrize("speed", [0.9, 1.1])
def test_speed_moves_tempo_and_pitch(speed: float, tmp_path: Path, base: ModelFolder, reader: AudioReader) -> None:
    piece = alone(tone(tmp_path, 6), 1.0, 5.0, speed)
    loaded = load(PlannedWindow(Window((piece,)), True, False, fit=True), base, reader)
    audio = heard(loaded)
    last = np.flatnonzero(np.abs(audio) > 0.05)[-1]
    assert last / RATE_HZ == pytest.approx(4 / speed, abs=0.005)
    spectrum = np.abs(np.fft.rfft(audio[:RATE_HZ] * np.hanning(RATE_HZ)))
    assert spectrum.argmax() == pytest.approx(440 * speed, abs=1)
    assert audio[800 : last - 800].std() == pytest.approx(0.5 / 2**0.5, abs=0.01)
    assert loaded.seconds == pytest.approx(4 / speed)
    names = base.vocabulary.names(loaded.labels.inputs)
    assert "<|0.00|>" in names
    assert f"<|{round(4 / speed / 0.02) * 0.02:.2f}|>" in names


def test_pieces_at_their_speeds_share_a_window(tmp_path: Path, base: ModelFolder, reader: AudioReader) -> None:
    slow, fast = alone(tone(tmp_path, 5), 0.0, 5.0, 0.9), alone(tone(tmp_path, 5, 880, "b.flac"), 0.0, 5.0, 1.1)
    (window,) = join([slow, fast], Limits(), np.random.default_rng(0))
    audio = heard(load(PlannedWindow(window, True, False), base, reader))
    for piece in window.pieces:
        begin = round(piece.offset_s * RATE_HZ) + RATE_HZ
        spectrum = np.abs(np.fft.rfft(audio[begin : begin + RATE_HZ] * np.hanning(RATE_HZ)))
        assert spectrum.argmax() == pytest.approx((440 if piece.speed < 1 else 880) * piece.speed, abs=1)
    assert np.count_nonzero(np.abs(audio) > 1e-3) / RATE_HZ == pytest.approx(5 / 0.9 + 5 / 1.1, abs=0.05)


@pytest.mark.parametrize("timestamps", [True, False])
def test_a_cut_window_is_as_long_as_what_is_heard(
    timestamps: bool, tmp_path: Path, base: ModelFolder, reader: AudioReader
) -> None:
    path = tone(tmp_path, 45)
    piece = alone(path, 1.0, 10.5)
    announced = Segment("b", path, 28.0, 40.0, "sen", "sv")
    window = Window((Piece(path, 1.0, 31.0, piece.segments, 5, announced),))
    loaded = load(PlannedWindow(window, timestamps, False, fit=True), base, reader)
    assert len(heard(loaded)) == (480_000 if timestamps else 10 * RATE_HZ)
    assert loaded.problems == ()


def test_what_does_not_decode_is_named(tmp_path: Path, base: ModelFolder, reader: AudioReader) -> None:
    path = tone(tmp_path, 3)
    path.write_bytes(b"")
    with pytest.raises(AudioError):
        reader.read(path)
    nothing = load_window(PlannedWindow(Window((alone(path, 0, 3),)), True, False, fit=True), reader, base.vocabulary)
    assert [problem.where for problem in nothing] == ["tone.flac:0"]  # type: ignore[union-attr]


def test_samples_and_mel_are_augmented_by_key(tmp_path: Path, base: ModelFolder, reader: AudioReader) -> None:
    asked = Augment(gain_db=12.0, time_masks=2, time_mask_share=0.3)
    augment = Augmenter(AugmentSettings(**asked.model_dump()), 0, reader)
    window = Window((alone(tone(tmp_path, 4), 0.0, 4.0),))
    plain = load(PlannedWindow(window, True, False, fit=True), base, reader)
    one, again, other = (
        load(PlannedWindow(window, True, False, fit=True, key=key), base, reader, augment=augment)
        for key in ((3, 0, 1), (3, 0, 1), (3, 0, 2))
    )
    np.testing.assert_array_equal(heard(one), heard(again))
    assert one.masks == again.masks != other.masks
    levels = [heard(each).std() for each in (plain, one, other)]
    assert len({round(float(level), 3) for level in levels}) == 3
    assert all(0 <= mask.first_frame < mask.end_frame <= 400 for mask in one.masks)
    assert plain.masks == ()
    masked, bare = (collate([each], 80, base.vocabulary.end).mel for each in (one, replace(one, masks=())))
    assert masked is not None
    assert bare is not None
    frames = {frame for mask in one.masks for frame in range(mask.first_frame, mask.end_frame)}
    changed = (masked != bare).any(dim=1)[0].nonzero().flatten().tolist()
    assert set(changed) == frames


def test_windows_of_several_lengths_in_one_batch(tmp_path: Path, base: ModelFolder, reader: AudioReader) -> None:
    path = tone(tmp_path, 10)
    windows = [
        load(PlannedWindow(Window((alone(path, 0.0, end_s),)), True, False, fit=True), base, reader)
        for end_s in (2.0, 5.9, 3.0)
    ]
    batch = collate(windows, 80, base.vocabulary.end)
    assert batch.mel is not None
    assert batch.mel.shape == (3, 80, 600)
    for row, window in enumerate(windows):
        by_itself = collate([window], 80, base.vocabulary.end).mel
        assert by_itself is not None
        torch.testing.assert_close(batch.mel[row, :, : window.frames], by_itself[0], atol=2e-5, rtol=0)
    assert batch.states is None


@dataclass(frozen=True)
class Remembered:
    """Has the states of some windows."""

    states: dict[PlannedWindow, NDArray[np.uint16]]

    def read(self, planned: PlannedWindow) -> NDArray[np.uint16] | None:
        return self.states.get(planned)


def test_states_stand_for_audio(tmp_path: Path, base: ModelFolder, reader: AudioReader) -> None:
    path = tone(tmp_path, 3)
    known = PlannedWindow(Window((alone(path, 0.0, 3.0),)), True, False, fit=True)
    new = PlannedWindow(Window((alone(path, 0.0, 2.0),)), True, False, fit=True)
    values = torch.randn(150, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    store = Remembered({known: values.view(torch.int16).numpy().view(np.uint16)})
    with_audio = load(known, base, reader)
    path.unlink()
    loaded = load(known, base, reader, store=store)
    assert loaded.audio is None
    assert loaded.frames == with_audio.frames == 300
    assert loaded.labels == with_audio.labels
    assert isinstance(load_window(new, reader, base.vocabulary, store=store), tuple)
    batch = collate([loaded, loaded], 80, base.vocabulary.end)
    assert batch.mel is None
    assert batch.states is not None
    assert batch.states.dtype == torch.bfloat16
    assert torch.equal(batch.states, torch.stack([values, values]))
