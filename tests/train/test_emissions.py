"""What a run used up is measured offline, added up over its sessions, and said with how it is known."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from whispertune.errors import Interrupted, RecipeError
from whispertune.model.load import ModelFolder
from whispertune.recipe import Tracking
from whispertune.recipe_file import parse_recipe
from whispertune.reporting import Reporter
from whispertune.train.loop import fine_tune
from whispertune.train.run import Run
from whispertune.train.watching.emissions import FILE, Meter


def test_energy_and_cost_of_two_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "run").mkdir()
    tracking = Tracking(emissions=True, country="SWE", price_per_hour=3600.0)
    with Meter(tracking, tmp_path / "run", print, resumed=False) as meter:
        time.sleep(0.3)
    first = meter.footprint
    assert first.energy_kwh is not None
    assert first.co2_kg is not None
    assert 0 < first.co2_kg < first.energy_kwh  # Sweden's power is mostly without coal: 0.04 kg a kWh
    assert first.cost == pytest.approx(first.seconds)
    assert first.method is not None
    assert "estimated" in first.method  # memory always is
    with Meter(tracking, tmp_path / "run", print, resumed=True) as meter:
        time.sleep(0.1)
    both = meter.footprint
    assert both.seconds > first.seconds
    assert both.energy_kwh is not None
    assert both.energy_kwh > first.energy_kwh
    assert json.loads((tmp_path / "run" / FILE).read_text())["seconds"] == both.seconds
    assert not list((tmp_path / "elsewhere").iterdir())
    assert capfd.readouterr() == ("", "")
    assert "SWE" not in both.told()
    assert "3600" not in both.told()
    assert "EUR" in both.told()


def test_without_a_country_there_is_no_co2(tmp_path: Path) -> None:
    with Meter(Tracking(emissions=True), tmp_path, print, resumed=False) as meter:
        pass
    assert meter.footprint.energy_kwh is not None
    assert meter.footprint.co2_kg is None


def test_what_is_not_asked_for_costs_nothing(tmp_path: Path) -> None:
    with Meter(Tracking(), tmp_path, print, resumed=False) as meter:
        pass
    assert meter.footprint.told() == ""
    assert meter.footprint.as_json()["energy_kwh"] is None


def test_the_time_of_all_sessions_is_known_whatever_is_asked_for(tmp_path: Path) -> None:
    with Meter(Tracking(), tmp_path, print, resumed=False):
        time.sleep(0.2)
    with Meter(Tracking(), tmp_path, print, resumed=True) as meter:
        pass
    assert meter.footprint.seconds > 0.2


def test_a_country_that_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"tracking\.country"):
        Meter(Tracking(emissions=True, country="XXX"), tmp_path, print, resumed=False)


def test_a_run_that_is_stopped_is_measured_too(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Meter(Tracking(price_per_hour=1.0), tmp_path, print, resumed=False):
        raise KeyboardInterrupt
    assert (tmp_path / FILE).exists()


def test_what_cannot_be_written_is_told_and_hides_no_error(tmp_path: Path) -> None:
    said: list[str] = []
    nowhere = tmp_path / "gone"
    with pytest.raises(KeyboardInterrupt), Meter(Tracking(price_per_hour=1.0), nowhere, said.append, resumed=False):
        raise KeyboardInterrupt
    (line,) = said
    assert line.startswith(f"{FILE} could not be written")


def test_a_run_that_ends_before_its_first_step_is_measured_too(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    class Fall(Reporter):
        def evaluating(self, what: str, done: int, total: int) -> None:
            raise Interrupted("the power went out")

    data = {"train": [{"source": str(noises / "train")}], "dev": [{"source": str(noises / "dev")}]}
    asked = {"model": str(tiny.path), "language": "sv", "data": data, "tracking": {"price_per_hour": 1.0}}
    run = Run(tmp_path / "run")
    with pytest.raises(Interrupted):
        fine_tune(parse_recipe(asked), run, reporter=Fall())
    assert json.loads((run.folder / FILE).read_text())["cost"] > 0


def test_one_process_of_many_measures(tmp_path: Path) -> None:
    with Meter(Tracking(emissions=True, price_per_hour=1.0), tmp_path, print, resumed=False, main=False) as meter:
        pass
    assert meter.footprint.energy_kwh is None
    assert not list(tmp_path.iterdir())
