"""The feed: steps read ahead, and their windows in groups for one forward pass each."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whispertune.data.audio import AudioReader
from whispertune.data.table import as_table
from whispertune.model.load import ModelFolder
from whispertune.recipe import Augment
from whispertune.service.data import read_data
from whispertune.train.feeding.feed import Feed, LoadedStep
from whispertune.train.feeding.plan import Plan, PlanSettings
from whispertune.train.feeding.splits import TokenCounter
from whispertune.train.feeding.supply import TableSupply
from whispertune.windows.augment import Augmenter, AugmentSettings
from whispertune.windows.batches import LoadedWindow, fit_samples
from whispertune.windows.labels import Labels
from whispertune.windows.pack import Limits


def loaded(seconds: float, tokens: int, cached: bool = False) -> LoadedWindow:
    """A window of zeros."""
    samples = fit_samples(seconds)
    labels = Labels((0,) * tokens, (0,) * tokens)
    if cached:
        return LoadedWindow(None, labels, (), seconds, states=np.zeros((samples // 320, 1), dtype=np.uint16))
    return LoadedWindow(np.zeros(samples, dtype=np.float32), labels, (), seconds)


windows = st.tuples(st.sampled_from([0.7, 2.2, 2.4, 3.0, 6.5, 30.0]), st.integers(3, 200), st.booleans())


@given(st.lists(windows, max_size=24), st.sampled_from([10.0, 30.0, 61.0, 120.0]), st.booleans())
def test_parts_hold_each_window_once_within_their_capacity(
    drawn: list[tuple[float, int, bool]], seconds: float, mixed: bool
) -> None:
    step = LoadedStep(tuple(loaded(*each) for each in drawn), (), None)
    parts = step.parts(seconds, mixed=mixed)

    def kind(window: LoadedWindow) -> tuple[object, ...]:
        return (window.states is None, *(() if mixed else (window.frames,)))

    assert sorted(id(window) for part in parts for window in part) == sorted(id(window) for window in step.windows)
    for part in parts:
        assert len({kind(window) for window in part}) == 1
        assert len(part) == 1 or sum(window.frames for window in part) <= 100 * seconds
        shapes = [(window.frames, len(window.labels.inputs)) for window in part]
        assert shapes == sorted(shapes)
    for part, after in pairwise(parts):  # no more parts than have to be
        fits = sum(window.frames for window in (*part, after[0])) <= 100 * seconds
        assert not (fits and kind(part[0]) == kind(after[0]))


def test_whole_windows_are_counted_as_30_s() -> None:
    step = LoadedStep(tuple(loaded(30.0, tokens) for tokens in (9, 5, 200, 7, 50)), (), None)
    parts = step.parts(120.0)
    assert [[len(window.labels.inputs) for window in part] for part in parts] == [[5, 7, 9, 50], [200]]
    assert [len(part) for part in step.parts(1.0)] == [1] * 5


@pytest.mark.parametrize("fit_share", [0.0, 1.0])
def test_what_is_read_ahead_is_the_plan(fit_share: float, mboshi: Path, base: ModelFolder, reader: AudioReader) -> None:
    data = read_data(str(mboshi / "train"), base.vocabulary, base.generation, reader, language="ln", limit_rows=24)
    supply = TableSupply("train.0", as_table(data.segments), Limits(), TokenCounter(base.vocabulary), seed=0)
    asked = PlanSettings(step_segments=8, fit_share=fit_share, speeds=(0.9, 1.0, 1.1))
    plan = Plan([supply], asked, seed=0)
    augment = Augmenter(AugmentSettings(**Augment(time_masks=1).model_dump()), 0, reader)
    with Feed(plan, reader, base.vocabulary, language_loss=True, augment=augment) as feed:
        steps = [feed.take(index) for index in range(plan.total_steps or 0)]
        again = feed.take(1)
    for index, step in enumerate(steps):
        assert tuple(window.planned for window in step.windows) == plan.step(index).windows
        assert step.segments == 8
        assert step.waited_seconds >= 0
        assert any(window.masks for window in step.windows)
    assert steps[0].waited_seconds > 0
    for one, other in zip(steps[1].windows, again.windows, strict=True):
        assert one.audio is not None
        np.testing.assert_array_equal(one.audio, other.audio)
        assert (one.labels, one.masks) == (other.labels, other.masks)
