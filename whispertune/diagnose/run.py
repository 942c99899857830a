"""The diagnosis of a run: what is known of it is gathered, every family of findings is asked, the worst stands first.

found = diagnose(Path("my-run"))                 # or a trainer_state.json of transformers
for finding in found.findings: print(finding.means)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from whispertune.diagnose.advice import weighed
from whispertune.diagnose.decoded import Decoded, read_decoded
from whispertune.diagnose.finding import Figure, Finding, sorted_findings
from whispertune.diagnose.findings.clips import CUT_CLIPS
from whispertune.diagnose.findings.confidence import over_confidence
from whispertune.diagnose.findings.fitting import fitting
from whispertune.diagnose.findings.forgetting import forgetting
from whispertune.diagnose.findings.labels import labels
from whispertune.diagnose.findings.mismatch import CONTEXT, decoding_unlike_training
from whispertune.diagnose.findings.outputs import outputs
from whispertune.diagnose.findings.variety import Facts, variety
from whispertune.diagnose.history import METRICS, History, Metric, read_history
from whispertune.diagnose.predictions import Predictions
from whispertune.diagnose.rows import Rows, bad_by_reason, facts_of, read_rows, rows_used
from whispertune.evaluation.retention import Retained, read_retained
from whispertune.languages import code_of
from whispertune.recipe import Recipe
from whispertune.recipe_file import load_recipe
from whispertune.score.normalize import leads_with_cer
from whispertune.score.written import TRANSLATED_INTO
from whispertune.train.run import Run, read_lines


@dataclass(frozen=True, slots=True)
class Material:
    """All that is known of a run; what is missing leaves its findings out."""

    history: History
    predictions: Predictions = field(default_factory=Predictions)
    recipe: Recipe | None = None
    facts: Facts = field(default_factory=Facts)
    dropped: dict[str, int] = field(default_factory=dict)
    used: int | None = None  # rows, of all splits
    retained: tuple[Retained, ...] = ()
    notes: tuple[str, ...] = ()  # what is left out

    @property
    def judged(self) -> History:
        """The history, with all notes, by its leading figure: CER where the recipe, the run or the language says so."""
        best = self.recipe.checkpoints.best if self.recipe else "auto"
        by_language: Metric = "cer" if leads_with_cer(self.predictions.language or "") else "wer"
        leading = "cer" if best.startswith("cer") else self.history.leading or by_language
        return replace(self.history, leading=leading, besides=(*self.history.besides, *self.notes))


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a run shows, most important first."""

    name: str
    material: Material
    findings: tuple[Finding, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """What could not be looked at, in words."""
        material = self.material
        parts = {
            "training losses": bool(material.history.steps),
            "evaluations of generated text": any(
                each.wer is not None or each.cer is not None for each in material.history.evaluations
            ),
            "dev loss": bool(material.history.measured("loss")),
            "texts of the tuned model": bool(material.predictions.texts),
            "texts of the base model": bool(material.predictions.base),
            "the recipe": material.recipe is not None,
            "the rows themselves (speakers, lengths)": material.facts.train_rows is not None,
            "retention sets": bool(material.retained),
        }
        return tuple(name for name, known in parts.items() if not known)

    def as_json(self) -> dict[str, Any]:
        """Under the names that `diagnose --json` promises."""
        best = self.material.judged.best()
        return {
            "run": self.name,
            "steps": self.material.history.last_step,
            "best_step": best.step if best else None,
            "findings": [each.as_json() for each in self.findings],
            "not_known": list(self.missing),
            "notes": list(self.material.judged.notes),
        }


def diagnose(path: Path, retained: Sequence[Retained] = ()) -> Diagnosis:
    """Read a run, or a log of transformers' Trainer, and say what it shows.

    Raises:
        InputError: it is neither, or what is there cannot be read.
    """
    material = gather(path, retained)
    return Diagnosis(str(path), material, findings_of(material))


def gather(path: Path, retained: Sequence[Retained] = ()) -> Material:
    """What a run wrote down; of other logs, the curves alone."""
    history = read_history(path)
    run = Run(path.parent if path.name == METRICS else path)
    if history.writer == "transformers" or not run.resolved_recipe.is_file():
        return Material(history, retained=tuple(retained))
    recipe = load_recipe(run.resolved_recipe)
    decoded = read_decoded(run.evaluations)
    rows = read_rows(recipe, decoded.split)
    dropped = read_lines(run.dropped)
    return Material(
        history,
        _predictions(decoded, history, recipe, rows),
        recipe,
        facts_of(rows),
        bad_by_reason(dropped),
        rows_used(run, recipe),
        tuple(retained) or read_retained(run.evaluations / "retention.json"),
        decoded.notes,
    )


def _predictions(decoded: Decoded, history: History, recipe: Recipe, rows: Rows) -> Predictions:
    return Predictions(
        tuned=decoded.tuned,
        base=decoded.base,
        cut=decoded.cut,
        language=_written_in(recipe),
        durations_s=rows.durations_s,
        speakers=rows.speakers,
        split=rows.split,
        leads=decoded.leading or history.leading,
    )


def _written_in(recipe: Recipe) -> str | None:
    """The language of the texts."""
    if recipe.task == "translate":
        return TRANSLATED_INTO
    return code_of(recipe.language) if recipe.language else None


def findings_of(material: Material) -> tuple[Finding, ...]:
    """All families, one after the other; none advises what the recipe has already."""
    history, predictions, recipe = material.judged, material.predictions, material.recipe
    certainty = over_confidence(history, recipe)
    unlike = decoding_unlike_training(history, predictions, predictions.language, recipe)
    found = [each for each in (certainty, unlike) if each is not None]
    found += fitting(history, recipe)
    found += variety(history, predictions, material.facts, recipe)
    found += outputs(predictions, recipe)
    found += forgetting(material.retained)
    found += labels(predictions, material.dropped, material.used, recipe)
    if unlike is not None and Figure("cause", CONTEXT) in unlike.seen:
        found = [each for each in found if each.key != CUT_CLIPS]  # which is said already
    return sorted_findings(weighed(each, recipe) for each in found)
