"""What a run wrote down of itself, as far as its card tells it: no paths, no texts, no names of people.

facts = read_facts(Run(Path("my-run")))
facts.base_model.hub, facts.tuned.scores.wer, facts.sources[0].label, facts.recipe_toml
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import tomli_w

from whispertune.data.problems import reasons_of
from whispertune.data.segments import Segment
from whispertune.errors import DataError, InputError
from whispertune.evaluation.evaluate import Evaluation
from whispertune.evaluation.retention import SetChange, read_changes
from whispertune.languages import code_of
from whispertune.model.load import RUN_MARK, ModelFolder, find_model
from whispertune.model.naming import public_name
from whispertune.publish.origin import Origin
from whispertune.publish.runtimes.heard import suppresses_blank
from whispertune.recipe import Recipe, SourceTable, kind_and_location
from whispertune.recipe_file import load_recipe
from whispertune.sources_of import label
from whispertune.train.run import Run, read_lines

SPLITS: Final = ("train", "dev", "test")


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """One source of a split; rows and hours where the run wrote them down."""

    split: str
    label: str
    dataset: str | None  # on the hub
    config: str | None  # of it
    language: str | None  # Whisper's code
    task: str  # of rows that name none
    licence: str | None
    rows: int | None = None
    hours: float | None = None


@dataclass(frozen=True, slots=True)
class RunFacts:
    """All that a card is made of."""

    recipe: Recipe
    recipe_toml: str  # every default spelled out, sources by their labels
    chosen_toml: str  # of it, what is no default
    base_model: Origin
    language: str | None  # of all of train, as the model was told; None: it finds out what is spoken
    languages: tuple[str, ...]  # of train, as far as they are known
    sources: tuple[SourceFacts, ...]
    dropped: Mapping[str, int]  # rows that were not used, by reason
    base: Evaluation
    tuned: Evaluation
    tuned_fit: Evaluation | None
    retention: tuple[SetChange, ...]
    result: Mapping[str, Any]  # result.json
    machine: str | None  # what it was trained on
    versions: Mapping[str, str]
    epochs: float | None
    weights: str  # "live", or "average" of several
    suppress_blank: bool  # neither a space nor the end comes first in a text
    task: str  # as the model was told, where train has one alone

    @property
    def by_characters(self) -> bool:
        """Whether the character error rate is the figure to read: most rows that report are written without spaces."""
        return self.tuned.leading == "cer"

    @property
    def more_languages(self) -> bool:
        """Whether train has rows in languages that only these rows name."""
        if any(each.language is None for each in self.sources if each.split == "train"):
            return True
        streamed = any(table.streaming for table in self.recipe.data.train)  # then the model is told none at all
        return self.language is None and len(self.languages) == 1 and not streamed

    def reported(self, rows: Sequence[Segment]) -> frozenset[tuple[str | None, str]]:
        """Languages and tasks of the rows that report: their own where `rows` has them, else the recipe's."""
        ids = {each.id for each in self.tuned.utterances}
        own = frozenset((each.language, each.task) for each in rows if each.id in ids)
        return own or frozenset((each.language, each.task) for each in self.sources if each.split == self.tuned.split)


def read_facts(run: Run) -> RunFacts:
    """What a finished run wrote down.

    Raises:
        InputError: the folder holds no run that was finished. DataError: one of the run's files is damaged.
    """
    base, tuned = _evaluations(run)
    recipe = load_recipe(run.resolved_recipe)
    mark = _read_object(run.folder / RUN_MARK)
    steps = [row for row in read_lines(run.metrics) if row.get("kind") == "step"]
    told = _labelled(recipe)
    model = find_model(str(run.folder))
    language, task = _language_of_train(model), model.generation.task or recipe.task
    sources = _sources(recipe, mark.get("data") or (), language, task)
    result = _read_object(run.result)
    return RunFacts(
        recipe=recipe,
        recipe_toml=tomli_w.dumps(told.model_dump(mode="json", exclude_none=True)),
        chosen_toml=tomli_w.dumps(told.model_dump(mode="json", exclude_none=True, exclude_defaults=True)),
        base_model=Origin.of(recipe.model),
        language=language,
        languages=tuple(dict.fromkeys(each.language for each in sources if each.split == "train" and each.language)),
        sources=sources,
        dropped=reasons_of(read_lines(run.dropped)),
        base=base,
        tuned=tuned,
        tuned_fit=_evaluation(run, "tuned_fit"),
        retention=read_changes(run.evaluations / "retention.json"),
        result=result,
        machine=mark.get("machine"),
        versions=mark.get("versions") or {},
        epochs=steps[-1].get("epoch") if steps else None,
        weights=str(result.get("best_weights") or "live"),
        suppress_blank=suppresses_blank(model.vocabulary, model.generation),
        task=task,
    )


def _evaluations(run: Run) -> tuple[Evaluation, Evaluation]:
    if not (run.folder / RUN_MARK).exists():
        raise InputError(
            "no run: a card tells how a model was made, which only its run knows",
            where=str(run.folder),
            fix="give the folder of a run; whispertune export writes any model",
        )
    found = [_evaluation(run, name) if run.result.exists() else None for name in ("base", "tuned")]
    if found[0] is None or found[1] is None:
        raise InputError(
            "this run is not finished: there are no figures before and after",
            where=str(run.folder),
            fix=f"go on with it: {run.resume_command}",
        )
    return found[0], found[1]


def _evaluation(run: Run, name: str) -> Evaluation | None:
    try:
        return run.read_evaluation(name)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(run.evaluations / f"{name}.json", error) from error


def _read_object(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"cannot be read ({error!r})", where=str(path), fix="put back what the run wrote, or train again")


def _labelled(recipe: Recipe) -> Recipe:
    """The recipe without what only means something on this machine."""
    data = {
        split: tuple(each.model_copy(update={"source": label(each)}) for each in getattr(recipe.data, split))
        for split in SPLITS
    }
    kept = tuple(
        each if each.source is None else each.model_copy(update={"source": label(each.rows)})
        for each in recipe.retention
    )
    noise = recipe.augment.noise
    augment = recipe.augment.model_copy(update={"noise": Path(noise).name} if noise else {})
    own = {"data": recipe.data.model_copy(update=data), "retention": kept, "augment": augment}
    return recipe.model_copy(update=own | {"model": public_name(recipe.model)})


def _language_of_train(model: ModelFolder) -> str | None:
    """What all rows of train are in, as the model was told; None where they are in several."""
    return model.generation.language if model.vocabulary.multilingual else "en"


def _sources(recipe: Recipe, counted: Any, of_train: str | None, task: str) -> tuple[SourceFacts, ...]:
    """The sources of each split.

    Args:
        recipe: names them.
        counted: what the run counted of them: split, index, rows, seconds.
        of_train: the language of train's rows where the recipe leaves it to them.
        task: of rows that name none.
    """
    known = {(each["split"], each["index"]): each for each in counted}
    otherwise = {"train": of_train}
    return tuple(
        _source(split, table, recipe.language or otherwise.get(split), task, known.get((split, index)))
        for split in SPLITS
        for index, table in enumerate(getattr(recipe.data, split))
    )


def _source(
    split: str, table: SourceTable, language: str | None, task: str, counted: Mapping[str, Any] | None
) -> SourceFacts:
    """`language` and `task`: where the table has none of its own."""
    kind, location = kind_and_location(table.source)
    parts = location.split("@")[0].split(":") if kind == "hub" else []
    written = table.language or language
    return SourceFacts(
        split=split,
        label=label(table),
        dataset=parts[0] if parts else None,
        config=parts[1] if len(parts) == 3 else None,  # repository:configuration:split
        language=(code_of(written) or written) if written else None,
        task=table.task or task,
        licence=table.licence,
        rows=counted["rows"] if counted else None,
        hours=counted["seconds"] / 3600 if counted else None,
    )
