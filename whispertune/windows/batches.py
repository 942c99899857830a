"""Batches: planned windows to tensors.

loaded = load_window(planned, reader, vocabulary)     # audio and labels, broken stretches left out
batch = collate([loaded, ...], n_mels=80, pad=vocabulary.end)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Problem, Recording, Segment, name_of
from whispertune.errors import AudioError
from whispertune.windows.features import SAMPLE_RATE_HZ, WINDOW_SAMPLES, log_mel
from whispertune.windows.labels import IGNORE, Labels, label
from whispertune.windows.pack import Piece, Window
from whispertune.windows.tokens import Vocabulary

if TYPE_CHECKING:
    import torch


MISSING_S = 0.3  # codecs and captions are a little out at the end


@dataclass(frozen=True, slots=True)
class PlannedWindow:
    """A window and how it is shown this time: with times or without, after previous text or not."""

    window: Window
    timestamps: bool
    prompted: bool


@dataclass(frozen=True, slots=True)
class LoadedWindow:
    """A window with its audio (480,000 samples, zeros after the end) and its labels."""

    audio: np.ndarray  # float32, (480_000,)
    labels: Labels
    segments: tuple[Segment, ...]
    seconds: float  # of speech, padding apart
    problems: tuple[Problem, ...] = ()  # segments whose audio did not decode, left out


@dataclass(frozen=True, slots=True)
class Batch:
    """What the model takes in one forward pass."""

    mel: torch.Tensor  # float32, (windows, n_mels, 3_000)
    inputs: torch.Tensor  # int64, (windows, tokens), padded with the end of text
    targets: torch.Tensor  # int64, (windows, tokens), IGNORE where there is no loss


def load_window(
    planned: PlannedWindow, reader: AudioReader, vocabulary: Vocabulary, *, language_loss: bool = True
) -> LoadedWindow | tuple[Problem, ...]:
    """Read a window's audio and spell out its labels.

    A stretch that does not decode stays silent and its text is left out, with a Problem for each of its
    segments. Where nothing is left, the problems alone are returned.
    """
    audio = np.zeros(WINDOW_SAMPLES, dtype=np.float32)
    problems: list[Problem] = []
    pieces: list[Piece] = []
    for piece in planned.window.pieces:
        try:
            _place_audio(audio, piece, reader, timestamps=planned.timestamps)
            pieces.append(piece)
        except AudioError as error:
            problems += [Problem(s.id, "audio does not decode", error.what) for s in piece.segments]
    if not pieces:
        return tuple(problems)
    window = replace(planned.window, pieces=tuple(pieces))
    labels = label(
        window,
        vocabulary,
        timestamps=planned.timestamps,
        prompted=planned.prompted,
        language_loss=language_loss,
    )
    return LoadedWindow(audio, labels, window.segments, window.duration_s, tuple(problems))


def read_whole(reader: AudioReader, recording: Recording, start_s: float, end_s: float) -> np.ndarray:
    """A stretch of a recording, all of it: float32, (samples,).

    Raises:
        AudioError: it does not decode, or the recording ends before the stretch does (its header said more):
            text over silence would teach a model to invent.
    """
    samples = reader.read(recording, start_s, end_s)
    missing_s = end_s - start_s - len(samples) / SAMPLE_RATE_HZ
    if missing_s > MISSING_S:
        raise AudioError(f"ends {missing_s:.2f} s before the speech from {start_s:.2f} s", where=name_of(recording))
    return samples


def _place_audio(audio: np.ndarray, piece: Piece, reader: AudioReader, *, timestamps: bool) -> None:
    # Without timestamps nothing may be heard that is not written: what follows the last whole cue is silence.
    end_s = piece.end_s if timestamps else piece.written_end_s
    samples = read_whole(reader, piece.recording, piece.start_s, end_s)
    begin = round(piece.offset_s * SAMPLE_RATE_HZ)
    room = min(len(samples), WINDOW_SAMPLES - begin)
    audio[begin : begin + room] = samples[:room]


def collate(windows: Sequence[LoadedWindow], n_mels: int, pad: int, device: str = "cpu") -> Batch:
    """Windows to one batch on `device`; inputs are padded with `pad`, targets with IGNORE."""
    import torch

    audio = torch.from_numpy(np.stack([window.audio for window in windows])).to(device)
    length = max(len(window.labels.inputs) for window in windows)
    inputs = torch.full((len(windows), length), pad, dtype=torch.long)
    targets = torch.full((len(windows), length), IGNORE, dtype=torch.long)
    for row, window in enumerate(windows):
        size = len(window.labels.inputs)
        inputs[row, :size] = torch.tensor(window.labels.inputs)
        targets[row, :size] = torch.tensor(window.labels.targets)
    return Batch(log_mel(audio, n_mels), inputs.to(device), targets.to(device))
