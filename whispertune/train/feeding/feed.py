"""The feed: the windows of the next step are read while this one trains.

with Feed(plan, reader, vocabulary, language_loss=True) as feed:
    step = feed.take(0)     # windows with audio and labels; step 1 is being read meanwhile
    step.parts(120.0)       # these in groups for one forward pass each
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from types import TracebackType
from typing import TYPE_CHECKING

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Problem
from whispertune.train.feeding.plan import Plan
from whispertune.windows.batches import LoadedWindow, StateStore, load_window
from whispertune.windows.features import HOP_SAMPLES, SAMPLE_RATE_HZ
from whispertune.windows.tokens import Vocabulary

if TYPE_CHECKING:
    from whispertune.windows.augment import Augmenter


@dataclass(frozen=True, slots=True)
class LoadedStep:
    """The windows of a step that could be read, and the segments that could not."""

    windows: tuple[LoadedWindow, ...]
    problems: tuple[Problem, ...]
    epoch: float | None  # epochs done when this step is; None where nobody knows how long one is
    waited_seconds: float = 0.0  # for its audio to be read, with nothing else to do

    @property
    def target_tokens(self) -> int:
        return sum(window.labels.target_tokens for window in self.windows)

    @property
    def segments(self) -> int:
        return sum(len(window.segments) for window in self.windows)

    @property
    def speech_seconds(self) -> float:
        return sum(window.seconds for window in self.windows)

    def parts(self, seconds: float, *, mixed: bool = True) -> list[Sequence[LoadedWindow]]:
        """The windows in groups that last `seconds` together at most, of at least one window each, by length.

        What the model gives for a window does not depend on the others in its group, since none is padded to their
        length. The shortest labels of a length stand together: less padding.

        Args:
            mixed: whether windows of several lengths may share a group.
        """
        found: list[Sequence[LoadedWindow]] = []
        ordered = sorted(self.windows, key=lambda window: (_shape(window), len(window.labels.inputs)))
        for _, alike in groupby(ordered, key=lambda window: _shape(window)[: 1 if mixed else 2]):
            part: list[LoadedWindow] = []
            for window in alike:
                frames = window.frames + sum(each.frames for each in part)
                if part and frames > seconds * SAMPLE_RATE_HZ // HOP_SAMPLES:
                    found.append(part)
                    part = []
                part.append(window)
            found.append(part)
        return found


def _shape(window: LoadedWindow) -> tuple[bool, int]:
    return window.states is not None, window.frames


class Feed:
    """Reads planned steps one ahead, in a thread; audio is decoded in the reader's own processes, all at once."""

    def __init__(
        self,
        plan: Plan,
        reader: AudioReader,
        vocabulary: Vocabulary,
        *,
        language_loss: bool,
        augment: Augmenter | None = None,
        store: StateStore | None = None,
    ) -> None:
        self.plan = plan
        self._load_window = partial(
            load_window,
            reader=reader,
            vocabulary=vocabulary,
            language_loss=language_loss,
            augment=augment,
            store=store,
        )
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="feed")
        self._windows = ThreadPoolExecutor(max_workers=reader.children, thread_name_prefix="window")
        self._ahead: dict[int, Future[LoadedStep]] = {}

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._windows.shutdown(wait=True, cancel_futures=True)

    def take(self, index: int) -> LoadedStep:
        """The step's windows; waits where they are not read yet, and starts on the next step."""
        step = self._ahead.pop(index, None) or self._pool.submit(self._load, index)
        if self.plan.total_steps is None or index + 1 < self.plan.total_steps:
            self._ahead = {index + 1: self._pool.submit(self._load, index + 1)}
        began = time.perf_counter()
        loaded = step.result()
        return replace(loaded, waited_seconds=time.perf_counter() - began)

    def _load(self, index: int) -> LoadedStep:
        step = self.plan.step(index)
        windows: list[LoadedWindow] = []
        problems: list[Problem] = list(step.problems)
        for loaded in self._windows.map(self._load_window, step.windows):
            if isinstance(loaded, LoadedWindow):
                windows.append(loaded)
                problems += loaded.problems
            else:
                problems += loaded
        return LoadedStep(tuple(windows), tuple(problems), self.plan.epochs_done(index + 1))
