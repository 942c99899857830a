"""The range test of learning rates: what it suggests, how sure it is, its plot, and that it leaves nothing else."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree as Xml

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from whispertune.cli import main
from whispertune.errors import InputError, TrainingError
from whispertune.inspect.rates import draw_range_test
from whispertune.model.load import ModelFolder
from whispertune.recipe import Recipe
from whispertune.train.feeding.feed import LoadedStep
from whispertune.train.learning.find_lr import RangeTest, find_rate, range_test, suggest
from whispertune.train.step import Drawn, Gradients

DEFAULT = 1e-3
RATES = [float(rate) for rate in np.geomspace(1e-6, 1.0, 60)]
SVG = "{http://www.w3.org/2000/svg}"


class Small:
    """A small network that learns a function of random inputs, a batch a step."""

    def __init__(self, break_at: int | None = None, overflows: Sequence[int] = ()) -> None:
        torch.manual_seed(0)
        self.module = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 1))
        self.truth = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1)).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self.module.parameters(), betas=(0.9, 0.98))
        self.break_at, self.overflows, self.rates = break_at, overflows, list[float]()
        self.skipped = 0

    def gradients(self, drawn: Drawn, index: int) -> Gradients:
        inputs = torch.randn(32, 8, generator=torch.Generator().manual_seed(index))
        loss = (self.module(inputs) - 3 - self.truth(inputs)).square().mean()
        loss.backward()
        if index in self.overflows:
            return Gradients(loss.item(), math.inf, overflowed=True)
        return Gradients(math.nan if index == self.break_at or not drawn.target_tokens else loss.item(), 1.0)

    def update(self, rate: float) -> None:
        self.rates.append(rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()

    def skip(self) -> None:
        self.skipped += 1
        self.optimizer.zero_grad()


def _draw(index: int, tokens: int = 1) -> Drawn:
    return Drawn(LoadedStep((), (), None), 1, 1, tokens, 1.0, (), 0.0)


def _unwatched(done: int, total: int) -> None:
    return


def _after(rate: float, steps: int = 60) -> float:
    """The loss after training with a rate that falls to 0."""
    small = Small()
    losses = []
    for index in range(steps):
        losses.append(small.gradients(_draw(index), index).loss)
        small.update(rate * (1 - index / steps))
    return float(np.mean(losses[-5:]))


def test_the_suggestion_trains_better_than_rates_about_it() -> None:
    small, watched = Small(), list[tuple[int, int]]()
    found = range_test(_draw, small, RATES, DEFAULT, lambda done, total: watched.append((done, total)))
    suggestion = found.suggestion
    assert suggestion.sure == "clear"
    assert suggestion.steepest is not None
    assert suggestion.lowest is not None
    assert suggestion.steepest <= suggestion.rate <= suggestion.lowest
    assert suggestion.low <= suggestion.rate <= suggestion.high
    assert _after(suggestion.rate) < min(_after(suggestion.rate / 30), _after(suggestion.rate * 30))
    assert small.rates == RATES[: len(small.rates)]
    assert watched[-1] == (len(found.losses), 60)


def test_it_ends_where_the_loss_is_four_times_the_best() -> None:
    found = range_test(_draw, Small(), [*RATES, 10.0, 100.0, 1000.0], DEFAULT, _unwatched)
    assert found.stopped is not None
    assert "times the best" in found.stopped
    assert len(found.rates) == len(found.losses) == len(found.smoothed) < 63


def test_it_ends_where_the_loss_is_no_number() -> None:
    small = Small(break_at=30)
    found = range_test(_draw, small, RATES, DEFAULT, _unwatched)
    assert found.stopped == f"at {RATES[30]:.1e} the loss was no number any more"
    assert len(found.losses) == len(small.rates) == 30


def test_steps_that_say_nothing_are_left_out() -> None:
    """The first two have no row that can be read, and twice float16 gradients overflow."""
    small = Small(overflows=(3, 20))
    found = range_test(lambda index: _draw(index, tokens=int(index > 1)), small, RATES[:40], DEFAULT, _unwatched)
    left = [rate for index, rate in enumerate(RATES[:40]) if index not in (0, 1, 3, 20)]
    assert found.stopped is None
    assert list(found.rates) == small.rates == left
    assert len(found.losses) == len(found.smoothed) == 36
    assert min(found.losses) > 0
    assert small.skipped == 4


def test_too_few_steps_say_nothing() -> None:
    with pytest.raises(TrainingError, match=r"3 steps say nothing.*no number"):
        range_test(_draw, Small(break_at=3), RATES, DEFAULT, _unwatched)


def _curve(noise: float, seed: int = 0, until: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Falls from 4 to 2 about 1e-4, and rises from 1e-3 on."""
    rates = np.geomspace(1e-6, until, 60)
    at = np.log10(rates)
    losses = 2 + 2 / (1 + np.exp(4 * (at + 4))) + np.maximum(0, at + 3) ** 2
    return rates, losses + np.random.default_rng(seed).normal(0, noise, 60)


@given(st.integers(0, 1000), st.floats(0, 0.15))
def test_corners_of_a_known_curve_are_found(seed: int, noise: float) -> None:
    rates, losses = _curve(noise, seed)
    found = suggest(rates, losses, DEFAULT)
    assert found.sure in ("clear", "rough")
    assert found.steepest is not None
    assert found.lowest is not None
    assert 1e-5 < found.steepest < 5e-4
    assert 3e-4 < found.lowest < 5e-3
    assert found.rate == pytest.approx(math.sqrt(found.steepest * found.lowest))
    assert found.low <= found.rate <= found.high


def test_noise_makes_it_less_sure() -> None:
    quiet, loud = suggest(*_curve(0.02), DEFAULT), suggest(*_curve(0.6, seed=3), DEFAULT)
    assert quiet.sure == "clear"
    assert loud.high / loud.low > quiet.high / quiet.low


def test_a_loss_that_still_falls_asks_for_higher_rates() -> None:
    found = suggest(*_curve(0.02, until=1e-4), DEFAULT)
    assert (found.sure, found.lowest) == ("rough", None)
    assert "--highest" in found.why


@given(st.integers(0, 1000))
def test_a_loss_that_does_not_fall_suggests_the_default(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = suggest(np.geomspace(1e-6, 1e-2, 60), 2 + 1e-3 * np.arange(60) + rng.normal(0, 1e-4, 60), DEFAULT)
    assert (found.rate, found.sure, found.steepest) == (DEFAULT, "none", None)


def _made(curve: tuple[np.ndarray, np.ndarray], default: float = DEFAULT) -> RangeTest:
    rates, losses = curve
    tuple_of: Callable[[np.ndarray], tuple[float, ...]] = lambda values: tuple(values.tolist())  # noqa: E731
    return RangeTest(tuple_of(rates), tuple_of(losses), tuple_of(losses), suggest(rates, losses, default), default)


def test_the_plot_shows_every_loss_and_both_rates() -> None:
    found = _made(_curve(0.02))
    drawing = Xml.fromstring(draw_range_test(found))
    words = [text.text for text in drawing.iter(f"{SVG}text")]
    assert f"suggested {found.suggestion.rate:.1e}" in words
    assert "default 1.0e-03" in words
    assert {"10⁻⁶", "10⁻³", "learning rate", "loss, nats a token"} <= set(words)
    marks = [line for line in drawing.iter(f"{SVG}line") if line.get("class") == "suggestion"]
    share = (math.log10(found.suggestion.rate) + 6) / 6
    assert float(marks[0].get("x1", 0)) == pytest.approx(60 + share * 560, abs=0.1)
    dots = list(drawing.iter(f"{SVG}circle"))
    assert 0 < len(dots) < 60  # what diverges is above the frame
    assert all(72 <= float(dot.get("cy", 0)) <= 320 for dot in dots)


def test_nothing_is_marked_as_suggested_where_nothing_is() -> None:
    flat = np.geomspace(1e-6, 1e-2, 60), np.linspace(2.0, 2.1, 60)
    drawn = draw_range_test(_made(flat))
    assert "default 1.0e-03" in drawn
    assert "suggested " not in "".join(text.text or "" for text in Xml.fromstring(drawn).iter(f"{SVG}text"))


@pytest.fixture
def recipe(tiny: ModelFolder, noises: Path, tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(
        f'name = "noisy"\nmodel = "{tiny.path}"\nlanguage = "sv"\n'
        f'[[data.train]]\nsource = "{noises / "train"}"\n[[data.dev]]\nsource = "{noises / "dev"}"\n'
        '[train]\nstep_segments = 3\nprecision = "float32"\n'
    )
    return path


def test_the_command_trains_plots_and_leaves_nothing_else(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["find-lr", str(recipe), "train.learning_rate=1e-3", "--steps", "12", "--highest", "0.1", "--json"]
    assert main(arguments) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["default"] == 1e-3
    assert told["rates"][0] == pytest.approx(1e-3 / 30)
    assert told["rates"][-1] == pytest.approx(0.1)
    assert len(told["losses"]) == 12
    assert told["losses"][-1] < told["losses"][0]
    assert told["suggestion"]["sure"] in ("clear", "rough", "none")
    assert told["plot"] == "noisy-find-lr.svg"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["noisy-find-lr.svg", "recipe.toml"]
    assert Xml.fromstring((tmp_path / "noisy-find-lr.svg").read_text()).tag == f"{SVG}svg"


def test_the_command_says_what_to_do_next(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = ["train.method=lora", 'data.dev.0.language="sv"']
    assert main(["find-lr", str(recipe), *overrides, "--steps", "10", "--out", "plots/my.svg"]) == 0
    told = capsys.readouterr().out
    assert "plot: plots/my.svg" in told
    assert (tmp_path / "plots" / "my.svg").exists()
    (line,) = [line for line in told.splitlines() if line.startswith("next:")]
    *command, rate = shlex.split(line.removeprefix("next:"))
    assert command == ["whispertune", "train", str(recipe), *overrides]
    assert rate.startswith("train.learning_rate=")
    assert "The default is 3.8e-04." in told  # of adapters


def test_where_there_can_be_no_plot_nothing_is_trained(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["find-lr", str(recipe), "--out", str(recipe / "my.svg")]) == 2
    assert "no folder for the plot" in capsys.readouterr().err


def test_the_highest_rate_is_above_the_lowest(tiny: ModelFolder, noises: Path) -> None:
    recipe = Recipe(
        model=str(tiny.path),
        language="sv",
        data={"train": [{"source": str(noises / "train")}], "dev": [{"source": str(noises / "dev")}]},
    )
    with pytest.raises(InputError, match="not above the lowest"):
        find_rate(recipe, lowest=1e-3, highest=1e-4)
