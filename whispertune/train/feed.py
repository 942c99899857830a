"""The feed: the windows of the next step are read while this one trains.

with Feed(plan, reader, vocabulary) as feed:
    step = feed.take(0)     # windows with audio and labels; step 1 is being read meanwhile
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import TracebackType

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Problem
from whispertune.train.plan import Plan
from whispertune.windows.batches import LoadedWindow, load_window
from whispertune.windows.tokens import Vocabulary


@dataclass(frozen=True, slots=True)
class LoadedStep:
    """The windows of a step that could be read, and the segments that could not."""

    windows: tuple[LoadedWindow, ...]
    problems: tuple[Problem, ...]
    epoch: float | None  # epochs done when this step is; None where nobody knows how long one is

    @property
    def target_tokens(self) -> int:
        return sum(window.labels.target_tokens for window in self.windows)

    @property
    def segments(self) -> int:
        return sum(len(window.segments) for window in self.windows)

    @property
    def speech_seconds(self) -> float:
        return sum(window.seconds for window in self.windows)

    def parts(self, size: int) -> list[Sequence[LoadedWindow]]:
        """The windows in groups of at most `size`, the shortest labels together: less padding."""
        ordered = sorted(self.windows, key=lambda window: len(window.labels.inputs))
        return [ordered[first : first + size] for first in range(0, len(ordered), size)]


class Feed:
    """Reads planned steps one ahead, in a thread; audio is decoded in the reader's own processes, all at once."""

    def __init__(self, plan: Plan, reader: AudioReader, vocabulary: Vocabulary, *, language_loss: bool) -> None:
        self.plan, self.reader, self.vocabulary, self.language_loss = plan, reader, vocabulary, language_loss
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
        return step.result()

    def _load(self, index: int) -> LoadedStep:
        step = self.plan.step(index)
        windows: list[LoadedWindow] = []
        problems: list[Problem] = list(step.problems)
        load = partial(load_window, reader=self.reader, vocabulary=self.vocabulary, language_loss=self.language_loss)
        for loaded in self._windows.map(load, step.windows):
            if isinstance(loaded, LoadedWindow):
                windows.append(loaded)
                problems += loaded.problems
            else:
                problems += loaded
        return LoadedStep(tuple(windows), tuple(problems), self.plan.epochs_done(index + 1))
