"""One step: what all ranks drew for it, forwards and backwards part by part, then one update.

drawn = draw(feed, ranks, index)                     # counted over all ranks
gradients = stepper.gradients(drawn, index)
if gradients.finite:
    stepper.update(rate)
else:
    stepper.skip()
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from whispertune.data.segments import Problem
from whispertune.model.load import ModelFolder
from whispertune.train.across.ranks import Ranks
from whispertune.train.across.wrapped import Wrapped, blank_batch
from whispertune.train.feeding.feed import Feed, LoadedStep
from whispertune.train.learning.micro import MicroBatch
from whispertune.train.states.frozen import FrozenPrefix
from whispertune.windows.batches import Batch, LoadedWindow, collate_lengths

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Drawn:
    """A step as it was drawn: this rank's share of it, and the counts of all shares together."""

    share: LoadedStep
    windows: int
    segments: int
    target_tokens: int
    speech_seconds: float
    problems: tuple[Problem, ...]
    waited_seconds: float  # of the rank that waited longest

    def ids(self, ranks: Ranks) -> tuple[str, ...]:
        """Of the segments of all ranks; every one of them has to call."""
        mine = [segment.id for window in self.share.windows for segment in window.segments]
        return tuple(chain.from_iterable(ranks.gather(mine)))

    @property
    def epoch(self) -> float | None:
        return self.share.epoch


@dataclass(frozen=True, slots=True)
class Gradients:
    """What a step's parts came to: the mean loss of its target tokens, and the norm before clipping."""

    loss: float  # nan where no row could be read: nothing is learned then
    norm: float
    overflowed: bool = False  # float16 gradients did, by their scale, which says nothing of the data: it is halved

    @property
    def finite(self) -> bool:
        return math.isfinite(self.loss) and math.isfinite(self.norm)


def draw(feed: Feed, ranks: Ranks, index: int) -> Drawn:
    """Read this rank's share of a step and count those of all.

    Raises:
        WhispertuneError: of any rank, on all of them.
    """
    share = ranks.together(lambda: feed.take(index))
    mine = (len(share.windows), share.segments, share.target_tokens, share.speech_seconds, share.waited_seconds)
    windows, segments, tokens, seconds, waited = zip(*ranks.gather(mine), strict=True)
    problems = tuple(chain.from_iterable(ranks.gather(share.problems)))
    return Drawn(share, sum(windows), sum(segments), sum(tokens), sum(seconds), problems, max(waited))


class Stepper:
    """Gradients and updates of one model in training."""

    def __init__(
        self,
        wrapped: Wrapped,
        optimizer: torch.optim.Optimizer,
        folder: ModelFolder,
        micro: MicroBatch,
        *,
        seed: int,
        max_grad_norm: float,
        frozen: FrozenPrefix | None = None,
        mixed: bool = True,
    ) -> None:
        self.wrapped, self.optimizer, self.folder, self.micro = wrapped, optimizer, folder, micro
        self.seed, self.max_grad_norm, self.frozen = seed, max_grad_norm, frozen
        self.mixed = mixed

    def gradients(self, drawn: Drawn, index: int) -> Gradients:
        """Of the mean loss over the target tokens of all ranks, clipped, and ready for one update.

        Raises:
            TrainingError: memory runs out with the smallest batch.
        """
        self.wrapped.inner.train()
        if self.frozen is not None:  # states in place of audio
            share = replace(drawn.share, windows=self.frozen.fill(drawn.share.windows))
            drawn = replace(drawn, share=share)
        loss = self.micro.run(lambda seconds: self._summed(drawn, index, seconds), undo=self.optimizer.zero_grad)
        (total,) = self.wrapped.ranks.sum(loss)
        norm = self.wrapped.clip(self.optimizer, self.max_grad_norm)
        scaled = self.wrapped.scaler.is_enabled() and self.wrapped.scaler.get_scale() >= 1
        overflowed = scaled and math.isfinite(total) and not math.isfinite(norm)
        return Gradients(total if drawn.target_tokens else math.nan, norm, overflowed)

    def update(self, rate: float) -> None:
        """One step of the optimizer with this learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        self.wrapped.update(self.optimizer)
        self.optimizer.zero_grad()

    def skip(self) -> None:
        """Drop the gradients; weights and the optimizer's state stay as they are."""
        self.wrapped.skip()
        self.optimizer.zero_grad()

    def _summed(self, drawn: Drawn, index: int, seconds: float) -> float:
        """All parts of this rank's share, forwards and backwards; its share of the mean loss."""
        ranks, losses = self.wrapped.ranks, []
        ranks.seed_dropout(self.seed, index)
        for part, last in ranks.rounds(drawn.share.parts(seconds, mixed=self.mixed)):
            batches = self._batches(part)
            with self.wrapped.exchanging(last):
                loss = self.wrapped(*batches)
                loss = loss * bool(part) / max(1, drawn.target_tokens)
                self.wrapped.backward(loss)
            losses.append(loss.detach())
        return float(sum(losses))

    def _batches(self, part: Sequence[LoadedWindow]) -> list[Batch]:
        shape, device = self.folder.shape, self.wrapped.ranks.device
        if not part:
            return [blank_batch(shape.n_mels, device)]
        end = self.folder.vocabulary.end
        return collate_lengths(part, shape.n_mels, end, str(device))
