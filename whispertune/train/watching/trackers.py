"""Who else is told of a run: TensorBoard, W&B, MLflow, trackio, through Accelerate's trackers.

    with Trackers(recipe.tracking.to, "whispertune", recipe.name, run.folder, reporter.say) as trackers:
        trackers.start(recipe_tree(recipe), step=0)
        trackers.step(report)
        trackers.evaluated(report.step, evaluation)

metrics.jsonl has all of it anyway, so a tracker that fails is left out, which is said once, and the run goes on.
To add one, write a function `(Place) -> GeneralTracker` and name it in `TRACKERS`.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from whispertune.errors import RecipeError
from whispertune.evaluation.evaluate import Evaluation
from whispertune.reporting import StepReport
from whispertune.train.run import write_json

Values = dict[str, bool | int | float | str]

IDS = "tracking.json"  # in the run's folder: by which ids trackers know the run
WITH_IDS = ("mlflow",)  # trackers that give runs ids of their own
OF_A_STEP = ("loss", "learning_rate", "grad_norm", "epoch", "speech_seconds", "seconds", "hours_per_hour")
OF_THE_RUN = ("unreadable", "skipped", "waiting_share", "evaluating_share")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run is told of."""

    project: str
    name: str  # of the run
    folder: Path
    id: str | None  # of the run, the same after a resume; None where the tracker gives one, and none is known
    step: int  # steps done so far


class Trackers:
    """All trackers that a recipe names; silent on every process but the main one."""

    def __init__(
        self, to: Sequence[str], project: str, name: str, folder: Path, say: Callable[[str], None], *, main: bool = True
    ) -> None:
        """Check that the packages are there; nothing is opened yet.

        Raises:
            RecipeError: one of them is not installed.
        """
        for each in to:
            if find_spec(each) is None:
                raise RecipeError(
                    f"the package {each} is not installed",
                    where="tracking.to",
                    fix=f'pip install "whispertune[{each}]", or leave it out',
                )
        self._names = tuple(to) if main else ()
        self._project, self._name, self._folder, self._say = project, name, folder, say
        self._open: dict[str, Any] = {}

    def start(self, recipe: Mapping[str, Any], step: int) -> None:
        """Open all of them, and tell them the recipe where the run begins (`step` 0) instead of going on."""
        if not self._names:
            return
        from accelerate import PartialState

        PartialState()  # Accelerate's trackers ask it which process they are in
        ids = _ids(self._folder) if step else {}
        for name in self._names:
            made = None if name in WITH_IDS else uuid.uuid4().hex[:12]
            place = Place(self._project, self._name, self._folder, ids.get(name, made), step)
            known = self._try(name, partial(self._begin, name, place, recipe)) or place.id
            ids |= {name: known} if known else {}
        try:
            write_json(self._folder / IDS, ids)
        except OSError as error:
            self._say(f"{IDS} could not be written ({error}): after a resume trackers may take it for another run")

    def step(self, report: StepReport) -> None:
        """Tell of a step."""
        told = asdict(report)
        known = {name: told[name] for name in OF_A_STEP if told[name] is not None and math.isfinite(told[name])}
        values: Values = {f"train/{name}": value for name, value in known.items()}
        values |= {f"run/{name}": told[name] for name in OF_THE_RUN}
        self._log(values, report.step)

    def evaluated(self, step: int, evaluation: Evaluation, what: str = "dev") -> None:
        """Tell of an evaluation; `what` stands before its figures: dev/wer."""
        scores = evaluation.scores
        rates = {
            "wer": scores.wer,
            "cer": scores.cer,
            "wer_normalized": scores.wer_normalized,
            "cer_normalized": scores.cer_normalized,
            "substitutions": scores.substitutions,
            "deletions": scores.deletions,
            "insertions": scores.insertions,
            "seconds": evaluation.seconds,
            **(asdict(evaluation.teacher_forced) if evaluation.teacher_forced else {}),
        }
        self._log({f"{what}/{name}": value for name, value in rates.items()}, step)

    def __enter__(self) -> Trackers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    def end(self) -> None:
        """Close all of them; what they keep is complete then."""
        for name, tracker in list(self._open.items()):
            self._try(name, tracker.finish)
        self._open.clear()

    def _begin(self, name: str, place: Place, recipe: Mapping[str, Any]) -> str | None:
        tracker = TRACKERS[name](place)
        tracker.start()
        self._open[name] = tracker
        if not place.step or place.id is None:
            tracker.store_init_configuration(flat(recipe))
        return tracker.tracker.info.run_id if name in WITH_IDS else place.id

    def _log(self, values: Values, step: int) -> None:
        for name, tracker in list(self._open.items()):
            self._try(name, partial(tracker.log, values, step=step))

    def _try(self, name: str, call: Callable[[], Any]) -> Any:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
                return call()
        except Exception as error:  # a library's, of any kind: telling others is not worth a run
            self._open.pop(name, None)
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            self._say(f"{name} does not work and is told no more ({reason}); metrics.jsonl has all of it")
            return None


def flat(tree: Mapping[str, Any], prefix: str = "") -> Values:
    """Nested tables as one, keys with dots; what is no plain value becomes text."""
    values: Values = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            values |= flat(value, f"{prefix}{key}.")
        else:
            values[f"{prefix}{key}"] = value if isinstance(value, bool | int | float | str) else json.dumps(value)
    return values


def _ids(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / IDS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _tensorboard(place: Place) -> Any:
    from accelerate.tracking import TensorBoardTracker

    # Steps that a resumed run does again replace those that were written after its checkpoint.
    return TensorBoardTracker("tensorboard", place.folder, purge_step=place.step + 1 if place.step else None)


def _wandb(place: Place) -> Any:
    from accelerate.tracking import WandBTracker

    wandb = import_module("wandb")
    # Without a key it would ask for one, and without a network wait for minutes: what is written offline goes up
    # later by `wandb sync`.
    try:
        mode = os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False) else "offline")
    except wandb.errors.Error:
        mode = "offline"
    settings = wandb.Settings(console="off")  # which would take over what the bars are drawn on
    return WandBTracker(
        place.project, name=place.name, id=place.id, resume="allow", dir=place.folder, mode=mode, settings=settings
    )


def _mlflow(place: Place) -> Any:
    from accelerate.tracking import MLflowTracker

    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # of 7, a server that is gone stops training
    return MLflowTracker(place.project, run_id=place.id, run_name=place.name)


def _trackio(place: Place) -> Any:
    from accelerate.tracking import TrackioTracker

    class Tracker(TrackioTracker):  # type: ignore[misc, unused-ignore]
        def finish(self) -> None:  # of the run alone would be finished again at exit, with a message on stdout
            import_module("trackio").finish()

    return Tracker(place.project, name=f"{place.name}-{place.id}", resume="allow")


TRACKERS: dict[str, Callable[[Place], Any]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "trackio": _trackio,
}
