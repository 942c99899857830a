"""A run: the folder that holds everything one fine-tuning made.

my-run/
  run.json           marks the folder; versions, seed, data fingerprints
  run.lock           held by the process that trains here
  resolved.toml      the recipe with every default spelled out
  metrics.jsonl      a line a step, a line an evaluation
  dropped.jsonl      rows that were not used: source, line, reason
  skipped.jsonl      steps without a finite loss, with the ids of their segments
  checkpoints/       to resume from
  averages/          evaluated weights, where they are to be averaged
  model/             the best weights, a complete transformers folder
  evaluations/       base and tuned: scores (.json) and utterances (.jsonl)
  result.json        what `train --json` prints
"""

from __future__ import annotations

import glob
import json
import os
import platform
import shlex
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from whispertune.errors import InputError, Interrupted, TrainingError, WhispertuneError
from whispertune.evaluation.evaluate import Evaluation, TeacherForced
from whispertune.files import finite, json_text, replace_text
from whispertune.model.load import RUN_MARK
from whispertune.recipe import Recipe
from whispertune.recipe_file import recipe_tree, save_recipe
from whispertune.reporting import StepReport
from whispertune.score.wer import Scores, read_utterances, write_utterances
from whispertune.train.keeping.changes import Change, changes_between
from whispertune.train.keeping.placing import recover
from whispertune.train.watching.machine import machine

DATE = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"  # as a pattern of file names
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
    def averages(self) -> Path:
        """Weights that are to be averaged at the end."""
        return self.folder / "averages"

    @property
    def evaluations(self) -> Path:
        """Scores (.json) and utterances (.jsonl); where the .json stands, both do."""
        return self.folder / "evaluations"

    @property
    def dropped(self) -> Path:
        return self.folder / "dropped.jsonl"

    @property
    def skipped(self) -> Path:
        return self.folder / "skipped.jsonl"

    @property
    def resolved_recipe(self) -> Path:
        return self.folder / "resolved.toml"

    @property
    def result(self) -> Path:
        return self.folder / "result.json"

    @property
    def resume_command(self) -> str:
        """What goes on with this run, for a shell."""
        resume = ["whispertune", "train", str(self.resolved_recipe), "--out", str(self.folder), "--resume"]
        return shlex.join(resume)

    def start(self, recipe: Recipe, fingerprints: dict[str, str], counted: Sequence[dict[str, Any]] = ()) -> None:
        """Make the folder and write what the run is made of; `counted`: rows and seconds of each source.

        Raises:
            InputError: the folder already holds a run's results, or what no run wrote under the names of some.
        """
        if any(path.exists() for path in (self.metrics, self.checkpoints, self.model, self.result)):
            raise InputError(
                "this run has already begun",
                where=str(self.folder),
                fix="--resume to go on, or --out for another folder",
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self._clear()
        self._save_recipe(recipe)
        content = {
            "seed": recipe.seed,
            "data_sha256": fingerprints,
            "data": list(counted),
            "machine": machine(),
            "python": platform.python_version(),
            "versions": {package: version(package) for package in PACKAGES},
        }
        write_json(self.folder / RUN_MARK, content)

    def _clear(self) -> None:
        """Remove what a start that came to nothing has left; what is there without one is somebody else's."""
        left = (self.evaluations, self.averages, self.dropped, self.skipped)
        there = [path for path in left if path.exists()]
        if there and "data_sha256" not in self._read_mark():
            raise InputError(
                f"this folder holds {', '.join(path.name for path in there)}, and no run that wrote it",
                where=str(self.folder),
                fix="--out for another folder, or move it away",
            )
        for path in there:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()

    @property
    def has_begun(self) -> bool:
        """Whether a run began here, which may go on."""
        return "data_sha256" in self._read_mark() and self.resolved_recipe.exists()

    def is_of(self, recipe: Recipe) -> bool:
        """Whether the run that began here trains what this recipe says."""
        return all(change.free for change in self._changes(recipe))

    def check_same(self, recipe: Recipe, fingerprints: dict[str, str], *, allow: bool = False) -> tuple[str, ...]:
        """What changed since the run began or was last resumed, for `note_changes`.

        Where that is more than what changes no figure, those of the base model are forgotten, and measured anew.

        Raises:
            InputError: there is no run; or it would not be the same run, which `allow` allows where it can be.
        """
        if not self.has_begun:
            raise InputError("no run to resume here", where=str(self.folder), fix="start it without --resume")
        changes = self._changes(recipe)
        known = self._read_mark()["data_sha256"]
        data = [f"data.{name}: its segments changed" for name in known if known[name] != fingerprints.get(name)]
        if never := [str(change) for change in changes if change.fixed]:
            fix = "resume with the recipe it began with, or start anew with --out"
            raise self._began_otherwise(never, fix + ": a checkpoint fits no other weights")
        told = [str(change) for change in changes if not change.free] + data
        if told and not allow:
            fix = "resume with the recipe and data it began with, start anew with --out, or go on with --allow-changes"
            raise self._began_otherwise(told, fix)
        if told:
            self._forget("base")
        return (*map(str, changes), *data)

    def reopen(self) -> None:
        """Remove what a run that had ended says of its model: it goes on, and soon has another."""
        self.result.unlink(missing_ok=True)
        (self.evaluations / "retention.json").unlink(missing_ok=True)
        folder = self.evaluations / "retention"
        of_sets = {path.stem for kind in ("json", "jsonl") for path in folder.glob(f"*.tuned.{kind}")}
        for name in ("tuned", "tuned_fit", *(f"retention/{each}" for each in of_sets)):
            self._forget(name)

    def note_changes(
        self,
        recipe: Recipe,
        fingerprints: dict[str, str],
        changes: Sequence[str],
        step: int,
        counted: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Write down what changed after `step`: in run.json; the recipe so far stays as resolved-<step>.toml."""
        if not changes:
            return
        kept = self.folder / f"resolved-{step}.toml"
        if not kept.exists():
            shutil.copyfile(self.resolved_recipe, kept)
        mark = self._read_mark()
        entry = {"step": step, "changed": list(changes), "recipe_before": kept.name}
        if mark.get("changes", [])[-1:] != [entry]:  # else it was noted by a run that was killed right here
            mark["changes"] = [*mark.get("changes", []), entry]
        write_json(self.folder / RUN_MARK, mark | {"data_sha256": fingerprints, "data": list(counted)})
        self._save_recipe(recipe)  # last: where it is the new one, all is written down

    def recover(self) -> None:
        """Put right what a killed process left half done; only one process of a run calls it, at the start."""
        recover(self.folder, self.model.name)
        recover(self.checkpoints)

    def interrupted(self, at: str, *, saved: bool = True) -> Interrupted:
        """The error of a run that was stopped and can go on; not all is `saved` where the disk was full."""
        kept = "everything finished is saved" if saved else "what came after the last checkpoint will be done again"
        return Interrupted(f"stopped ({at}); {kept}", where=str(self.folder), fix=f"to go on: {self.resume_command}")

    def broken_off(self, error: WhispertuneError, at: str) -> TrainingError:
        """The error of a run that cannot go on for now; what was done is saved."""
        resume = f"then go on: {self.resume_command}"
        fix = f"{error.fix}; {resume}" if error.fix else resume
        return TrainingError(f"{error.what} (after {at}, which is saved)", where=error.where, fix=fix)

    def add_step(self, report: StepReport) -> None:
        """Append a training step to metrics.jsonl."""
        self.add_metrics("step", asdict(report))

    def add_metrics(self, kind: str, values: dict[str, Any]) -> None:
        """Append a line to metrics.jsonl, whole or not at all; numbers that are not finite become null."""
        append_line(self.metrics, json.dumps(finite({"kind": kind, **values})))

    def read_metrics(self) -> list[dict[str, Any]]:
        """All lines of metrics.jsonl; one that was cut off in the writing is left out."""
        return read_lines(self.metrics)

    def rewind_metrics(self, step: int, evaluated_step: int) -> None:
        """Drop the lines that a resumed run will write again, in metrics.jsonl and skipped.jsonl."""
        limits = {"evaluation": evaluated_step, "retention": evaluated_step}
        for path in (self.metrics, self.skipped):
            lines = read_lines(path)
            kept = [line for line in lines if line.get("step", 0) <= limits.get(line.get("kind", ""), step)]
            if path.exists():
                replace_text(path, "".join(json.dumps(line) + "\n" for line in kept))

    def _changes(self, recipe: Recipe) -> list[Change]:
        """Between the recipe that the run has, and another."""
        before = tomllib.loads(self.resolved_recipe.read_text(encoding="utf-8"))
        return list(changes_between(before, recipe_tree(recipe)))

    def _save_recipe(self, recipe: Recipe) -> None:
        temporary = self.resolved_recipe.with_name(f".{self.resolved_recipe.name}.partial")
        save_recipe(recipe, temporary)
        temporary.replace(self.resolved_recipe)

    def _read_mark(self) -> dict[str, Any]:
        """run.json; empty where there is none, or `init` has made the folder and nothing else has happened."""
        path = self.folder / RUN_MARK
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

    def _began_otherwise(self, changes: Sequence[str], fix: str) -> InputError:
        return InputError("this run began otherwise: " + "; ".join(changes), where=str(self.folder), fix=fix)

    def read_evaluation(self, name: str) -> Evaluation | None:
        """An evaluation that was saved whole, or None."""
        path = self.evaluations / f"{name}.json"
        if not path.exists():
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
        scores = Scores.read(content)
        if scores is None:  # of an earlier version: decoded again
            return None
        return Evaluation(
            scores=scores,
            utterances=tuple(read_utterances(path.with_suffix(".jsonl"))),
            audio_seconds=content["audio_seconds"],
            seconds=content["seconds"],
            engine=content["engine"],
            split=content["split"],
            context=content.get("context", "full"),
            biased_by_selection=content["biased_by_selection"],
            teacher_forced=TeacherForced.read(content),
            leads=content.get("leading"),
        )

    def save_evaluation(self, name: str, evaluation: Evaluation) -> None:
        """Write evaluations/<name>.json and .jsonl."""
        path = self.evaluations / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        write_utterances(path.with_suffix(".jsonl"), evaluation.utterances)
        write_json(path, evaluation.as_json())

    def _forget(self, name: str) -> None:
        """Remove an evaluation, its texts last: without them its figures would not stand."""
        path = self.evaluations / f"{name}.json"
        for gone in (path, path.with_suffix(".jsonl")):
            gone.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of it; what is not finite is null."""
    replace_text(path, json_text(content, indent=2) + "\n")


def append_line(path: Path, line: str) -> None:
    """Append a line, whole or not at all.

    Raises:
        OSError: it could not be written, as where the disk is full; the file is as long as it was.
    """
    with path.open("ab", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        rest = (line + "\n").encode()
        try:
            while rest:  # a disk that is nearly full takes a part, then says so
                rest = rest[file.write(rest) :]
        except OSError:
            file.truncate(before)
            raise


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file of lines; what a kill or a full disk cut off is left out."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    found = []
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [row for row in found if isinstance(row, dict)]


def default_folder(recipe_path: Path, recipe: Recipe, today: date) -> Path:
    """The recipe's own folder where `init` made it a run, else runs/<name>-<date> in the current folder."""
    if (recipe_path.parent / RUN_MARK).exists():
        return recipe_path.parent
    return Path("runs") / f"{recipe.name}-{today.isoformat()}"


def folder_to_resume(recipe_path: Path, recipe: Recipe, today: date) -> Path:
    """The default folder, or where another day's newest run of the same recipe lies.

    Raises:
        InputError: runs of this name began on other days, none of them with this recipe.
    """
    folder = default_folder(recipe_path, recipe, today)
    if folder == recipe_path.parent:
        return folder
    found = [path for path in folder.parent.glob(f"{glob.escape(recipe.name)}-{DATE}") if Run(path).has_begun]
    newest = sorted(found, reverse=True)
    if same := [path for path in newest if Run(path).is_of(recipe)]:
        return same[0]
    if newest and folder not in newest:
        fix = f"if it is to go on with {newest[0]}: --out {shlex.quote(str(newest[0]))}; else start it without --resume"
        raise InputError("no run here began with this recipe", where=str(folder.parent), fix=fix)
    return folder
