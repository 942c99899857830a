"""What a run used up: energy and CO2 by codecarbon, offline, and the cost by the price of the machine.

    with Meter(recipe.tracking, run.folder, tell.say, resumed=False) as meter:     # refuses what cannot be measured
        ...
    meter.footprint.energy_kwh, meter.footprint.co2_kg, meter.footprint.cost

Sessions of a resumed run are added up in `footprint.json`, all but one that was killed. Nothing goes over the network.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from whispertune.errors import RecipeError
from whispertune.train.run import write_json

if TYPE_CHECKING:
    from whispertune.recipe import Tracking

FILE = "footprint.json"  # in the run's folder
EVERY_S = 15  # power is looked at
MEASURED = ("Rapl", "Power Gadget", "Windows Emi", "AppleSiliconChip", "Raspberry")  # codecarbon's names of meters


@dataclass(frozen=True, slots=True)
class Footprint:
    """What all sessions of a run used up; None is what was not asked for or cannot be known."""

    seconds: float  # from start to end, evaluations and waiting included
    energy_kwh: float | None = None  # of the main process's machine, all of it
    co2_kg: float | None = None
    cost: float | None = None
    currency: str | None = None
    method: str | None = None  # what of the energy is measured, and what estimated

    def as_json(self) -> dict[str, Any]:
        """The figures under the names that `train --json` promises."""
        return {
            "seconds_all_sessions": round(self.seconds, 2),
            "energy_kwh": self.energy_kwh,
            "energy_method": self.method,
            "co2_kg": self.co2_kg,
            "cost": None if self.cost is None else round(self.cost, 4),
            "currency": self.currency,
        }

    def told(self) -> str:
        """For people; empty where nothing was asked for."""
        parts = []
        if self.energy_kwh is not None:
            parts.append(f"energy {self.energy_kwh:.3g} kWh ({self.method})")
        if self.co2_kg is not None:
            parts.append(f"CO2 {self.co2_kg:.2g} kg, estimated from the country's power mix")
        if self.cost is not None:
            parts.append(f"cost {self.cost:.2f} {self.currency}")
        return "; ".join(parts)


class Meter:
    """Measures one session, and adds it to those before it."""

    def __init__(
        self, tracking: Tracking, folder: Path, say: Callable[[str], None], *, resumed: bool, main: bool = True
    ) -> None:
        """Check that what is asked for can be had; nothing is measured yet, and never on any but the `main` process.

        Raises:
            RecipeError: codecarbon is not installed, or does not know the country.
        """
        if tracking.emissions:
            _check(tracking.country)
        self._tracking, self._path, self._say, self._main = tracking, folder / FILE, say, main
        self._before = _read(self._path) if resumed else None
        self._codecarbon: Any = None
        self._start = time.perf_counter()
        self.footprint = Footprint(0.0)

    def __enter__(self) -> Meter:
        self._start = time.perf_counter()
        if self._tracking.emissions and self._main:
            self._codecarbon = _open(self._tracking.country)
            self._codecarbon.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> Footprint:
        """What was used up so far, written down beside the run; a second call gives the same."""
        if self.footprint.seconds:
            return self.footprint
        seconds = time.perf_counter() - self._start + (self._before.seconds if self._before else 0.0)
        energy_kwh, co2_kg, method = self._used()
        price = self._tracking.price_per_hour
        self.footprint = Footprint(
            seconds,
            _sum(energy_kwh, self._before.energy_kwh if self._before else None),
            _sum(co2_kg, self._before.co2_kg if self._before else None),
            None if price is None else price * seconds / 3600,
            None if price is None else self._tracking.currency,
            method,
        )
        if self._main:
            self._write()
        return self.footprint

    def _write(self) -> None:
        """Where the disk is full, that is told, and whatever else ends the run stays what ends it."""
        try:
            write_json(self._path, asdict(self.footprint))
        except OSError as error:
            self._say(f"{FILE} could not be written ({error}): what this session used up is not in it")

    def _used(self) -> tuple[float | None, float | None, str | None]:
        if self._codecarbon is None:
            return None, None, None
        self._codecarbon.stop()
        found = getattr(self._codecarbon, "final_emissions_data", None)
        if found is None:
            return None, None, "codecarbon could not measure here"
        hardware = " ".join(getattr(self._codecarbon, "_conf", {}).get("hardware", ()))
        co2_kg = float(found.emissions) if self._tracking.country else None
        return float(found.energy_consumed), co2_kg, _method(hardware, bool(found.gpu_count))


def _check(country: str | None) -> None:
    if find_spec("codecarbon") is None:
        raise RecipeError(
            "the package codecarbon is not installed",
            where="tracking.emissions",
            fix='pip install "whispertune[emissions]", or leave it out',
        )
    source = import_module("codecarbon.input").DataSource()
    if country is not None and country not in source.get_global_energy_mix_data():
        fix = "give the ISO code of a country (SWE, COD), or none: energy alone is measured then"
        raise RecipeError(f"no power mix is known of {country!r}", where="tracking.country", fix=fix)


def _open(country: str | None) -> Any:
    codecarbon = import_module("codecarbon")
    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)  # it is told by `method`
    return codecarbon.OfflineEmissionsTracker(
        country_iso_code=country or "USA",  # it wants one; without a country its CO2 is not used
        output_methods=[],
        log_level="critical",
        measure_power_secs=EVERY_S,
        allow_multiple_runs=True,
        tracking_mode="machine",
    )


def _method(hardware: str, gpu: bool) -> str:
    processor = "measured" if any(name in hardware for name in MEASURED) else "estimated from its load and rated power"
    return f"of the whole machine: processor {processor}, {'GPU measured, ' if gpu else ''}memory estimated"


def _sum(now: float | None, before: float | None) -> float | None:
    return None if now is None and before is None else (now or 0.0) + (before or 0.0)


def _read(path: Path) -> Footprint | None:
    try:
        return Footprint(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
