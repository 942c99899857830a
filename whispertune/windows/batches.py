"""Batches: planned windows to tensors.

loaded = load_window(planned, reader, vocabulary)     # audio and labels, broken stretches left out
batch = collate([loaded, ...], n_mels=80, pad=vocabulary.end)
batches = collate_lengths([loaded, ...], n_mels=80, pad=vocabulary.end)    # windows of several lengths
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Protocol

import numpy as np

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Problem, Recording, Segment, name_of
from whispertune.errors import AudioError
from whispertune.windows.features import HOP_SAMPLES, SAMPLE_RATE_HZ, WINDOW_SAMPLES, at_speed, log_mel
from whispertune.windows.labels import IGNORE, Labels, label
from whispertune.windows.pack import GRID_S, SLACK_S, WINDOW_S, Piece, Window
from whispertune.windows.tokens import Vocabulary

if TYPE_CHECKING:
    import torch

    from whispertune.windows.augment import Augmenter, Mask


MISSING_S = 0.3  # codecs and captions are a little out at the end
LEAST_FIT_S = 1.0
FIT_LENGTHS = 4  # an octave
STEP_SAMPLES = round(GRID_S * SAMPLE_RATE_HZ)  # 320: 20 ms, two mel frames, one frame of the encoder


@dataclass(frozen=True, slots=True)
class PlannedWindow:
    """A window and how it is shown this time: with times or without, after previous text or not.

    With `fit` it is cut to about what is spoken in it, else silence fills it up to 30 s.
    """

    window: Window
    timestamps: bool
    prompted: bool
    fit: bool = False
    key: tuple[int, ...] = ()  # (step, rank, row): seeds what is random about how it is shown

    @property
    def samples(self) -> int:
        """How long its audio is, padding included; the plan alone says so."""
        if not self.fit:
            return WINDOW_SAMPLES
        last = self.window.pieces[-1]
        return fit_samples(last.at_s(last.heard_end_s(timestamps=self.timestamps)))


@dataclass(frozen=True, slots=True)
class LoadedWindow:
    """A window with its audio, or what the frozen part of the encoder made of it, and its labels."""

    audio: np.ndarray | None  # float32, (planned.samples,), zeros after the end; None where `states` stand for it
    labels: Labels
    segments: tuple[Segment, ...]
    seconds: float  # of its audio that is heard, padding apart
    problems: tuple[Problem, ...] = ()  # segments whose audio did not decode, left out
    planned: PlannedWindow | None = None
    masks: tuple[Mask, ...] = ()  # SpecAugment
    states: np.ndarray | None = None  # uint16, (frames / 2, width): the bits of bfloat16

    @property
    def frames(self) -> int:
        """Of the mel."""
        if self.audio is not None:
            return len(self.audio) // HOP_SAMPLES
        return 0 if self.states is None else 2 * len(self.states)


@dataclass(frozen=True, slots=True)
class Batch:
    """What the model takes in one forward pass: mel or states."""

    mel: torch.Tensor | None  # float32, (windows, n_mels, frames); 3,000 frames but for windows that are cut
    inputs: torch.Tensor  # int64, (windows, tokens), padded with the end of text
    targets: torch.Tensor  # int64, (windows, tokens), IGNORE where there is no loss
    states: torch.Tensor | None = None  # bfloat16, (windows, frames / 2, width)


class StateStore(Protocol):
    """What the frozen part of an encoder gave for windows that were seen before."""

    def read(self, planned: PlannedWindow) -> np.ndarray | None:
        """uint16, (frames / 2, width): the bits of bfloat16; None where it has none."""


def fit_samples(seconds: float) -> int:
    """How long a window is that is cut to so many seconds of speech: up to a quarter longer.

    A few lengths an octave, half a second apart at least: windows of one length share a batch, and none depends on
    how long the others in it are.
    """
    steps_a_second = FIT_LENGTHS / 2.0 ** max(1, math.floor(math.log2(max(seconds, GRID_S))))
    fitting_s = math.ceil((seconds - SLACK_S) * steps_a_second) / steps_a_second
    return round(min(max(fitting_s, LEAST_FIT_S), WINDOW_S) * SAMPLE_RATE_HZ)


def load_window(
    planned: PlannedWindow,
    reader: AudioReader,
    vocabulary: Vocabulary,
    *,
    language_loss: bool = True,
    augment: Augmenter | None = None,
    store: StateStore | None = None,
) -> LoadedWindow | tuple[Problem, ...]:
    """Read a window's audio, or its states where `store` has them, and spell out its labels.

    A stretch that does not decode stays silent and its text is left out, with a Problem for each of its
    segments. Where nothing is left, the problems alone are returned.
    """
    states = None if store is None else store.read(planned)
    if states is not None:
        return _labelled(planned, planned.window.pieces, vocabulary, language_loss, states=states)
    audio = np.zeros(planned.samples, dtype=np.float32)
    problems: list[Problem] = []
    pieces: list[Piece] = []
    for number, piece in enumerate(planned.window.pieces):
        try:
            samples = _heard(piece, reader, timestamps=planned.timestamps)
        except AudioError as error:
            problems += [Problem(s.id, "audio does not decode", error.what) for s in piece.segments]
            continue
        _place(audio, piece, samples if augment is None else augment.samples(samples, (*planned.key, number)))
        pieces.append(piece)
    if not pieces:
        return tuple(problems)
    loaded = _labelled(planned, tuple(pieces), vocabulary, language_loss, audio=audio)
    masks = () if augment is None else augment.masks(_spans(pieces, loaded.frames), planned.key)
    return replace(loaded, problems=tuple(problems), masks=masks)


def _labelled(
    planned: PlannedWindow,
    pieces: tuple[Piece, ...],
    vocabulary: Vocabulary,
    language_loss: bool,
    *,
    audio: np.ndarray | None = None,
    states: np.ndarray | None = None,
) -> LoadedWindow:
    window = replace(planned.window, pieces=pieces)
    labels = label(
        window,
        vocabulary,
        timestamps=planned.timestamps,
        prompted=planned.prompted,
        language_loss=language_loss,
    )
    heard = ((p.heard_end_s(timestamps=planned.timestamps) - p.start_s) / p.speed for p in pieces)
    return LoadedWindow(audio, labels, window.segments, sum(heard), planned=planned, states=states)


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


def _heard(piece: Piece, reader: AudioReader, *, timestamps: bool) -> np.ndarray:
    """What is to be heard of a piece, at its speed: float32, (samples,)."""
    samples = read_whole(reader, piece.recording, piece.start_s, piece.heard_end_s(timestamps=timestamps))
    return at_speed(samples, piece.speed)


def _place(audio: np.ndarray, piece: Piece, samples: np.ndarray) -> None:
    begin = round(piece.offset_s * SAMPLE_RATE_HZ)
    room = min(len(samples), len(audio) - begin)
    audio[begin : begin + room] = samples[:room]


def _spans(pieces: Sequence[Piece], frames: int) -> list[tuple[int, int]]:
    """Of each segment its first mel frame and the one behind it."""
    frames_a_second = SAMPLE_RATE_HZ // HOP_SAMPLES
    times = [(piece.at_s(s.start_s), piece.at_s(s.end_s)) for piece in pieces for s in piece.segments]
    return [(round(begin * frames_a_second), min(round(end * frames_a_second), frames)) for begin, end in times]


def collate_lengths(windows: Sequence[LoadedWindow], n_mels: int, pad: int, device: str = "cpu") -> list[Batch]:
    """A batch of the windows of each length, in their order; they are ordered by length."""
    return [collate(list(same), n_mels, pad, device) for _, same in groupby(windows, attrgetter("frames"))]


def collate(windows: Sequence[LoadedWindow], n_mels: int, pad: int, device: str = "cpu") -> Batch:
    """Windows to one batch on `device`; inputs are padded with `pad`, targets with IGNORE.

    All have audio, padded with silence to the longest, or all have states of one length.
    """
    inputs, targets = collate_labels([window.labels for window in windows], pad, device)
    states, mel = _states(windows, device), None
    if states is None:
        mel = _mel(windows, n_mels, device)
    return Batch(mel, inputs, targets, states)


def collate_labels(labels: Sequence[Labels], pad: int, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs, padded with `pad`, and targets, padded with IGNORE: int64, (rows, tokens) both."""
    import torch

    length = max(len(each.inputs) for each in labels)
    inputs = torch.full((len(labels), length), pad, dtype=torch.long)
    targets = torch.full((len(labels), length), IGNORE, dtype=torch.long)
    for row, each in enumerate(labels):
        inputs[row, : len(each.inputs)] = torch.tensor(each.inputs)
        targets[row, : len(each.targets)] = torch.tensor(each.targets)
    return inputs.to(device), targets.to(device)


def _states(windows: Sequence[LoadedWindow], device: str) -> torch.Tensor | None:
    import torch

    found = [window.states for window in windows if window.states is not None]
    if not found:
        return None
    bits = np.stack(found)  # fails where the lengths differ
    return torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16).to(device)


def _mel(windows: Sequence[LoadedWindow], n_mels: int, device: str) -> torch.Tensor:
    import torch

    found = [window.audio for window in windows if window.audio is not None]
    longest = max(len(each) for each in found)
    longest = -(-longest // STEP_SAMPLES) * STEP_SAMPLES
    audio = np.zeros((len(found), longest), dtype=np.float32)
    for row, each in enumerate(found):
        audio[row, : len(each)] = each
    mel = log_mel(torch.from_numpy(audio).to(device), n_mels)
    if any(window.masks for window in windows):
        from whispertune.windows.augment import apply_masks

        apply_masks(mel, [window.masks for window in windows])
    return mel
