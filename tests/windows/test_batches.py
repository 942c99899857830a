"""Windows from real files: what is heard is what is written, and what is missing is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Segment
from whispertune.model.load import ModelFolder
from whispertune.windows.batches import LoadedWindow, PlannedWindow, collate, load_window
from whispertune.windows.labels import IGNORE
from whispertune.windows.pack import Limits, Window, cut, join, place, play_at

RATE_HZ = 16_000


def recorded(folder: Path, seconds: float, name: str = "a.flac") -> Path:
    """A recording whose sample at time t says t: a slow ramp."""
    ramp = np.linspace(0, 0.9, int(seconds * RATE_HZ), endpoint=False, dtype=np.float32)
    soundfile.write(folder / name, ramp, RATE_HZ)
    return folder / name


def segment(path: Path, start_s: float, end_s: float, row: int, *, continues: bool = False) -> Segment:
    return Segment(f"{path.name}:{row}", path, start_s, end_s, "hej du", "sv", continues=continues)


def windows_of(*segments: Segment) -> list[Window]:
    rng = np.random.default_rng(0)
    return join(cut(segments, Limits(), lambda rows: np.full(len(rows), 2, dtype=np.int32), rng), Limits(), rng)


def load(window: Window, base: ModelFolder, reader: AudioReader, *, timestamps: bool) -> LoadedWindow:
    loaded = load_window(PlannedWindow(window, timestamps, False), reader, base.vocabulary)
    assert isinstance(loaded, LoadedWindow)
    return loaded


def test_audio_stands_where_the_labels_say(tmp_path: Path, base: ModelFolder, reader: AudioReader) -> None:
    path = recorded(tmp_path, 40)
    (window,) = windows_of(segment(path, 4.0, 6.0, 1), segment(path, 20.0, 22.0, 2))
    loaded = load(window, base, reader, timestamps=True)
    assert loaded.audio.shape == (480_000,)
    for piece in window.pieces:
        middle = round((piece.offset_s + 1.0) * RATE_HZ)
        assert loaded.audio[middle] == pytest.approx(0.9 * (piece.start_s + 1.0) / 40, abs=1e-3)
    assert not loaded.audio[4 * RATE_HZ + 400 :].any()


@pytest.mark.parametrize("timestamps", [True, False])
def test_a_cut_cue_is_heard_only_where_it_is_announced(
    timestamps: bool, tmp_path: Path, base: ModelFolder, reader: AudioReader
) -> None:
    path = recorded(tmp_path, 60)
    first, second = segment(path, 1.0, 20.0, 1), segment(path, 25.0, 40.0, 2, continues=True)
    window = next(w for w in windows_of(first, second) if w.pieces[0].cut)
    loaded = load(window, base, reader, timestamps=timestamps)
    heard_s = np.flatnonzero(loaded.audio)[-1] / RATE_HZ
    assert heard_s == pytest.approx(30.0 if timestamps else 19.0, abs=0.01)
    assert (base.vocabulary.timestamp(24.0) in loaded.labels.inputs) == timestamps
    assert loaded.seconds == pytest.approx(heard_s, abs=0.01)


def test_at_another_speed_less_is_heard(tmp_path: Path, base: ModelFolder, reader: AudioReader) -> None:
    (window,) = windows_of(segment(recorded(tmp_path, 12), 1.0, 11.0, 1))
    faster = place([play_at(piece, 1.25) for piece in window.pieces])
    assert load(faster, base, reader, timestamps=True).seconds == pytest.approx(8.0)


def test_a_stretch_that_does_not_decode_stays_silent(tmp_path: Path, base: ModelFolder, reader: AudioReader) -> None:
    good, bad = recorded(tmp_path, 3), recorded(tmp_path, 3, "b.flac")
    (window,) = windows_of(segment(good, 0, 3, 1), segment(bad, 0, 3, 1))
    bad.write_bytes(b"")
    loaded = load(window, base, reader, timestamps=True)
    assert [problem.where for problem in loaded.problems] == ["b.flac:1"]
    assert [each.id for each in loaded.segments] == ["a.flac:1"]
    assert base.vocabulary.decode(loaded.labels.inputs) == " hej du"
    assert 2.9 < np.count_nonzero(loaded.audio) / RATE_HZ <= 3.0
    good.unlink()
    nothing = load_window(PlannedWindow(window, True, False), reader, base.vocabulary)
    assert isinstance(nothing, tuple)
    assert len(nothing) == 2


def test_text_is_not_put_over_audio_that_ends_early(tmp_path: Path, base: ModelFolder, reader: AudioReader) -> None:
    """The header of a cut FLAC still states its whole length."""
    path = recorded(tmp_path, 30)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 3])
    assert reader.probe(path).duration_s == pytest.approx(30)
    whole, broken = segment(path, 0, 3, 1), segment(path, 5, 25, 2)
    (window,) = windows_of(whole, broken)
    loaded = load(window, base, reader, timestamps=True)
    assert [each.id for each in loaded.segments] == ["a.flac:1"]
    (problem,) = loaded.problems
    assert problem.where == "a.flac:2"
    assert "before the speech" in problem.detail


def test_a_batch_is_padded_without_loss(tmp_path: Path, base: ModelFolder, reader: AudioReader) -> None:
    path = recorded(tmp_path, 60)
    one = load(windows_of(segment(path, 0, 3, 1))[0], base, reader, timestamps=True)
    two = load(windows_of(segment(path, 0, 3, 1), segment(path, 10, 13, 2))[0], base, reader, timestamps=True)
    batch = collate([one, two], 80, base.vocabulary.end)
    size = len(one.labels.inputs)
    assert batch.mel.shape == (2, 80, 3000)
    assert batch.inputs.shape == batch.targets.shape == (2, len(two.labels.inputs))
    assert torch.all(batch.targets[0, size:] == IGNORE)
    assert torch.all(batch.inputs[0, size:] == base.vocabulary.end)
