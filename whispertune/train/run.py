"""A run: the folder that holds everything one fine-tuning made.

my-run/
  run.json           marks the folder; versions, seed, data fingerprints
  resolved.toml      the recipe with every default spelled out
  metrics.jsonl      a line a step, a line an evaluation
  dropped.jsonl      rows that were not used: source, line, reason
  checkpoints/       to resume from
  model/             the best weights, a complete transformers folder
  evaluations/       base and tuned: scores (.json) and utterances (.jsonl)
  result.json        what `train --json` prints
"""

from __future__ import annotations

import json
import platform
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from whispertune.errors import InputError, Interrupted, TrainingError, WhispertuneError
from whispertune.evaluation import Evaluation
from whispertune.model.load import RUN_MARK
from whispertune.recipe import Recipe
from whispertune.recipe_file import recipe_tree, save_recipe
from whispertune.reporting import StepReport
from whispertune.score.wer import Scores, read_utterances, write_utterances

PACKAGES = ("whispertune", "torch", "transformers", "accelerate", "ctranslate2", "numpy")


@dataclass(frozen=True)
class Run:
    """Paths of a run folder, and what is written into it."""

    folder: Path

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def dropped(self) -> Path:
        return self.folder / "dropped.jsonl"

    @property
    def resolved_recipe(self) -> Path:
        return self.folder / "resolved.toml"

    @property
    def result(self) -> Path:
        return self.folder / "result.json"

    def start(self, recipe: Recipe, fingerprints: dict[str, str]) -> None:
        """Make the folder and write what the run is made of.

        Raises:
            InputError: the folder already holds a run's results.
        """
        if self.metrics.exists() or self.checkpoints.exists():
            raise InputError(
                "this run has already begun",
                where=str(self.folder),
                fix="--resume to go on, or --out for another folder",
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in (self.folder / "evaluations", self.model):  # of a start that came to nothing
            shutil.rmtree(left, ignore_errors=True)
        self.dropped.unlink(missing_ok=True)
        save_recipe(recipe, self.resolved_recipe)
        content = {
            "seed": recipe.seed,
            "data_sha256": fingerprints,
            "python": platform.python_version(),
            "versions": {package: version(package) for package in PACKAGES},
        }
        write_json(self.folder / RUN_MARK, content)

    def check_same(self, recipe: Recipe, fingerprints: dict[str, str]) -> None:
        """Raise InputError where a resumed run would not be the same run: another recipe, or other data."""
        if not (self.folder / RUN_MARK).exists() or not self.resolved_recipe.exists():
            raise InputError("no run to resume here", where=str(self.folder), fix="start it without --resume")
        before = tomllib.loads(self.resolved_recipe.read_text(encoding="utf-8"))
        changes = list(_differences(before, recipe_tree(recipe)))
        known = json.loads((self.folder / RUN_MARK).read_text(encoding="utf-8"))["data_sha256"]
        changes += [f"data.{name}: its segments changed" for name in known if known[name] != fingerprints[name]]
        if changes:
            raise InputError(
                "this run began otherwise: " + "; ".join(changes),
                where=str(self.folder),
                fix="resume with the recipe and data it began with, or start anew with --out",
            )

    def interrupted(self, at: str) -> Interrupted:
        """The error of a run that was stopped and can go on."""
        return Interrupted(
            f"stopped ({at}); everything finished is saved",
            where=str(self.folder),
            fix=f"to go on: whispertune train {self.resolved_recipe} --out {self.folder} --resume",
        )

    def broken_off(self, error: WhispertuneError, at: str) -> TrainingError:
        """The error of a run that cannot go on for now; what was done is saved."""
        resume = f"then go on: whispertune train {self.resolved_recipe} --out {self.folder} --resume"
        fix = f"{error.fix}; {resume}" if error.fix else resume
        return TrainingError(f"{error.what} (after {at}, which is saved)", where=error.where, fix=fix)

    def add_step(self, report: StepReport) -> None:
        """Append a training step to metrics.jsonl."""
        self.add_metrics("step", asdict(report))

    def add_metrics(self, kind: str, values: dict[str, Any]) -> None:
        """Append a line to metrics.jsonl; it is on disk when this returns."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, **values}) + "\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """All lines of metrics.jsonl; one that was cut off in the writing is left out."""
        lines = self.metrics.read_text(encoding="utf-8").splitlines() if self.metrics.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def rewind_metrics(self, step: int, evaluated_step: int) -> None:
        """Drop the lines that a resumed run will write again."""
        limits = {"step": step, "evaluation": evaluated_step}
        kept = [line for line in self.read_metrics() if line["step"] <= limits[line["kind"]]]
        temporary = self.metrics.with_name(".metrics.jsonl.partial")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        temporary.replace(self.metrics)

    def read_evaluation(self, name: str) -> Evaluation | None:
        """An evaluation that was saved whole, or None."""
        path = self.folder / "evaluations" / f"{name}.json"
        if not path.exists():
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
        values = {each.name: content[each.name] for each in fields(Scores)}
        return Evaluation(
            scores=Scores(**values | {"wer_interval": tuple(content["wer_interval"])}),
            utterances=tuple(read_utterances(path.with_suffix(".jsonl"))),
            audio_seconds=content["audio_seconds"],
            seconds=content["seconds"],
            engine=content["engine"],
            split=content["split"],
            biased_by_selection=content["biased_by_selection"],
        )

    def save_evaluation(self, name: str, evaluation: Evaluation) -> None:
        """Write evaluations/<name>.json and .jsonl."""
        folder = self.folder / "evaluations"
        folder.mkdir(parents=True, exist_ok=True)
        write_utterances(folder / f"{name}.jsonl", evaluation.utterances)
        write_json(folder / f"{name}.json", evaluation.as_json())  # last: where it stands, both do


def _differences(before: dict[str, Any], after: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key} was {old!r}, is {new!r}"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of it."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def default_folder(recipe_path: Path, name: str, today: date) -> Path:
    """The recipe's own folder where `init` made it a run, else runs/<name>-<date> in the current folder."""
    if (recipe_path.parent / RUN_MARK).exists():
        return recipe_path.parent
    return Path("runs") / f"{name}-{today.isoformat()}"
