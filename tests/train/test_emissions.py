"""What a run used up is measured offline, added up over its sessions, and said with how it is known."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from whispertune.errors import RecipeError
from whispertune.recipe import Tracking
from whispertune.train.watching.emissions import FILE, Meter


def test_energy_and_cost_of_two_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "run").mkdir()
    tracking = Tracking(emissions=True, country="SWE", price_per_hour=3600.0)
    with Meter(tracking, tmp_path / "run", resumed=False) as meter:
        time.sleep(0.3)
    first = meter.footprint
    assert first.energy_kwh is not None
    assert first.co2_kg is not None
    assert 0 < first.co2_kg < first.energy_kwh  # Sweden's power is mostly without coal: 0.04 kg a kWh
    assert first.cost == pytest.approx(first.seconds)
    assert first.method is not None
    assert "estimated" in first.method  # memory always is
    with Meter(tracking, tmp_path / "run", resumed=True) as meter:
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
    with Meter(Tracking(emissions=True), tmp_path, resumed=False) as meter:
        pass
    assert meter.footprint.energy_kwh is not None
    assert meter.footprint.co2_kg is None


def test_what_is_not_asked_for_costs_nothing(tmp_path: Path) -> None:
    with Meter(Tracking(), tmp_path, resumed=False) as meter:
        pass
    assert meter.footprint.told() == ""
    assert meter.footprint.as_json()["energy_kwh"] is None
    assert not list(tmp_path.iterdir())


def test_a_country_that_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"tracking\.country"):
        Meter(Tracking(emissions=True, country="XXX"), tmp_path, resumed=False)


def test_a_run_that_is_stopped_is_measured_too(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Meter(Tracking(price_per_hour=1.0), tmp_path, resumed=False):
        raise KeyboardInterrupt
    assert (tmp_path / FILE).exists()


def test_one_process_of_many_measures(tmp_path: Path) -> None:
    with Meter(Tracking(emissions=True, price_per_hour=1.0), tmp_path, resumed=False, main=False) as meter:
        pass
    assert meter.footprint.energy_kwh is None
    assert not list(tmp_path.iterdir())
