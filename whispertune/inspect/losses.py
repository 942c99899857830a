"""How hard each text is to believe with its audio, and with silence in its place, by a model's own account.

    live = load_live(find_model("bundled:whisper-base"))
    losses, problems = text_losses(segments, live, reader)
    losses[0].heard, losses[0].unheard     # nats a token, by the sound and without it

Several segments share a 30 s window: the encoder runs once for all of them, and the texts before a text show the
model a language that it does not know. A text is read off a window's labels by its place between two timestamps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from whispertune.data.audio import AudioReader
from whispertune.data.keyed import keyed_rng
from whispertune.data.segments import Problem, Segment
from whispertune.data.table import SegmentTable, as_table, strings
from whispertune.data.texts import written_languages
from whispertune.decode.engines import LiveModel
from whispertune.model.loss import resolve_precision
from whispertune.windows.batches import Batch, LoadedWindow, PlannedWindow, collate, load_window
from whispertune.windows.features import WINDOW_SAMPLES, log_mel
from whispertune.windows.labels import IGNORE
from whispertune.windows.pack import CountTokens, Cutter, Limits, Window, fits, join
from whispertune.windows.tokens import Vocabulary

if TYPE_CHECKING:
    import torch

BLOCK_PIECES = 256  # packed together: windows are full, and no list of all windows is held
BATCH_WINDOWS = 4
LEAST_LOSS = 0.1  # nats a token; a text that goes without saying has no share to explain

Progress = Callable[[int, int], None]  # (rows done, rows in all)


@dataclass(frozen=True, slots=True)
class TextLoss:
    """A segment, and the mean loss of its text tokens and of the timestamp that ends them, in nats."""

    segment: Segment
    heard: float  # with its audio
    unheard: float  # with silence in place of all audio

    @property
    def gain(self) -> float:
        """By how much the audio lowers the loss of a token; 0 or less where it does not help."""
        return self.unheard - self.heard

    @property
    def unexplained(self) -> float:
        """The share of the loss that the audio leaves: about 1 where it has nothing to do with the text."""
        return self.heard / max(self.unheard, LEAST_LOSS)


def text_losses(
    segments: Sequence[Segment], live: LiveModel, reader: AudioReader, progress: Progress | None = None
) -> tuple[list[TextLoss], list[Problem]]:
    """The losses of all segments that can be read, in the order given, and the others as problems."""
    given, model = as_table(segments), _Model(live)
    table = replace(given, ids=strings(str(row) for row in range(len(given))))  # those given may be equal
    fitting = fits(table, Limits(), _counter(live.vocabulary))
    problems = [_too_long(table[int(row)]) for row in np.flatnonzero(~fitting)]
    found: dict[int, TextLoss] = {}
    for batch in _batches(table.where(fitting), live.vocabulary, reader, problems):
        found |= {int(loss.segment.id): loss for loss in model.losses(batch)}
        if progress:
            progress(len(found) + len(problems), len(table))
    losses = [replace(loss, segment=given[row]) for row, loss in sorted(found.items())]
    return losses, [replace(each, where=given.ids[int(each.where)].as_py()) for each in problems]


class _Model:
    """A model that says how likely each text of a window is."""

    def __init__(self, live: LiveModel) -> None:
        import torch

        self.model, self.vocabulary, self.n_mels = live.model.eval(), live.vocabulary, live.shape.n_mels
        self.device = str(live.model.device)
        self.in_bfloat16 = resolve_precision("auto", self.device) == "bfloat16"
        with self._quick():
            silence = log_mel(torch.zeros(1, WINDOW_SAMPLES, device=self.device), self.n_mels)
            self.silent = self.model.model.encoder(silence).last_hidden_state  # (1, 1_500, width)

    def losses(self, windows: Sequence[LoadedWindow]) -> Iterator[TextLoss]:
        """Of each text of the windows."""
        batch = collate(windows, self.n_mels, self.vocabulary.end, self.device)
        with self._quick():
            states = self.model.model.encoder(batch.mel).last_hidden_state  # (windows, 1_500, width)
            heard = self._of_tokens(batch, states)
            unheard = self._of_tokens(batch, self.silent.expand(len(windows), -1, -1))
        for row, window in enumerate(windows):
            for segment, tokens in _spans(window, self.vocabulary):
                yield TextLoss(segment, float(heard[row, tokens].mean()), float(unheard[row, tokens].mean()))

    def _of_tokens(self, batch: Batch, states: torch.Tensor) -> NDArray[np.float32]:
        """Losses of all targets: (windows, tokens), 0 where there is none."""
        import torch
        from torch.nn import functional as F

        hidden = self.model.model.decoder(
            input_ids=batch.inputs, encoder_hidden_states=states, use_cache=False
        ).last_hidden_state
        wanted = batch.targets != IGNORE
        losses = torch.zeros(batch.targets.shape, device=hidden.device)
        logits = self.model.proj_out(hidden[wanted])  # (targets, vocabulary)
        losses[wanted] = F.cross_entropy(logits.float(), batch.targets[wanted], reduction="none")
        return losses.cpu().numpy()

    @contextmanager
    def _quick(self) -> Iterator[None]:
        import torch

        with (
            torch.inference_mode(),
            torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16, enabled=self.in_bfloat16),
        ):
            yield


def _batches(
    table: SegmentTable, vocabulary: Vocabulary, reader: AudioReader, problems: list[Problem]
) -> Iterator[list[LoadedWindow]]:
    """The windows of the table, a few at a time; what cannot be read is added to the problems."""
    batch: list[LoadedWindow] = []
    for found in _loaded(table, vocabulary, reader):
        if isinstance(found, Problem):
            problems.append(found)
            continue
        batch.append(found)
        if len(batch) == BATCH_WINDOWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _loaded(table: SegmentTable, vocabulary: Vocabulary, reader: AudioReader) -> Iterator[LoadedWindow | Problem]:
    """Windows with their audio. Where a stretch of several segments does not decode, each is tried by itself."""
    for window in _windows(table, vocabulary):
        planned = PlannedWindow(window, timestamps=True, prompted=False)
        loaded = load_window(planned, reader, vocabulary, language_loss=False)
        if isinstance(loaded, LoadedWindow):
            yield loaded
        failed = loaded.problems if isinstance(loaded, LoadedWindow) else loaded
        chained = {s.id: s for piece in window.pieces if len(piece.segments) > 1 for s in piece.segments}
        yield from (problem for problem in failed if problem.where not in chained)
        loose = [replace(chained[p.where], continues=False, lead_s=0.0) for p in failed if p.where in chained]
        if loose:
            yield from _loaded(SegmentTable.of(loose), vocabulary, reader)


def _windows(table: SegmentTable, vocabulary: Vocabulary) -> Iterator[Window]:
    """All segments in windows, in random company: neighbours in a file are often of one kind."""
    rng = keyed_rng(0, "losses")
    cutter = Cutter(table, Limits(), _counter(vocabulary))
    cuts = cutter.cut(rng)
    order = rng.permutation(len(cuts)).tolist()
    for first in range(0, len(order), BLOCK_PIECES):
        yield from join([cutter.piece(cuts, at) for at in order[first : first + BLOCK_PIECES]], Limits(), rng)


def _counter(vocabulary: Vocabulary) -> CountTokens:
    def count(segments: Sequence[Segment]) -> NDArray[np.int32]:
        table = as_table(segments)
        return np.array(vocabulary.count(table.texts.to_pylist(), written_languages(table)), dtype=np.int32)

    return count


def _spans(window: LoadedWindow, vocabulary: Vocabulary) -> Iterator[tuple[Segment, slice]]:
    """Where among the targets each text stands, the timestamp that ends it included."""
    targets = window.labels.targets
    at = next(place for place, target in enumerate(targets) if target > vocabulary.no_timestamps)
    for segment in window.segments:
        end = at + 1 + len(vocabulary.encode(segment.text, segment.written_in)) + 1
        yield segment, slice(at + 1, end)
        at = end


def _too_long(segment: Segment) -> Problem:
    return Problem(segment.id, "too long for one window", f"{segment.duration_s:.1f} s, {len(segment.text)} characters")
