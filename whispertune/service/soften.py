"""Give back what fine-tuning forgot: mixtures of a run's base and tuned weights, measured, and the best one kept.

found = soften(Path("my-run"), retention=[parse_retention("english=data/english:en")])
found.trade_off.chosen.share     # 0.6: the weights in my-run/softened/, a model folder like any other
found.trade_off.told()

A mixture is scored on the run's dev rows, never on test, which is left to say how good the chosen one is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from whispertune.data.audio import AudioReader
from whispertune.data.clean import CleanRules, clean
from whispertune.data.leakage import check_apart
from whispertune.data.listen import hear
from whispertune.data.problems import summary
from whispertune.data.segments import SourceData
from whispertune.data.table import as_table
from whispertune.decode.context import Mark
from whispertune.drawing.page import check_target, write_page
from whispertune.errors import DataError, InputError, ModelError, WhispertuneError
from whispertune.evaluation.mixtures import Mixtures
from whispertune.evaluation.retention import RetentionSet
from whispertune.evaluation.tradeoff import MAKER, TARGET, Point, TradeOff, page_of
from whispertune.files import json_text, replace_text, writing
from whispertune.languages import code_of
from whispertune.model.formats.contents import Contents
from whispertune.model.load import RUN_MARK, ModelFolder, find_model, run_model
from whispertune.model.merge import check_mixable
from whispertune.model.naming import public_name
from whispertune.recipe import Recipe, RetentionTable, place_of
from whispertune.recipe_file import load_recipe
from whispertune.reporting import Reporter
from whispertune.service.mixed import write_mixed
from whispertune.train.feeding.splits import LISTEN_HOURS, read_sources
from whispertune.train.measuring.dev import FIT_TOLERANCE
from whispertune.train.measuring.retention import kept_apart, read_set
from whispertune.train.run import Run

MODEL, FIGURES, PAGE = "softened", "soften.json", "soften.html"  # what is written
WEIGHTS: Final = "softened"  # what the model says of itself
SILENCE: Final = "silence"


@dataclass(frozen=True, slots=True)
class Softened:
    """What became of a run."""

    run: Path
    base: str
    trade_off: TradeOff
    page: Path
    model: Path | None = None  # the chosen mixture; None where none was
    contexts: tuple[str, ...] = ()  # on which it may be decoded

    def as_json(self) -> dict[str, Any]:
        """What `soften --json` prints, and soften.json holds."""
        return {
            "run": str(self.run),
            "base": self.base,
            "model": str(self.model) if self.model else None,
            "contexts": list(self.contexts),
            **self.trade_off.as_json(),
        }


def soften(
    run: Path,
    *,
    lambdas: Sequence[float] | None = None,
    retention: Sequence[RetentionTable] = (),
    out: Path | None = None,
    limit_rows: int | None = None,
    reporter: Reporter | None = None,
) -> Softened:
    """Score mixtures of a run's base and tuned weights, and write the one that the recipe's rule picks.

    Args:
        lambdas: shares of the way from base to tuned, instead of the recipe's; both ends are always measured.
        retention: sets besides those of the recipe, or in place of those that have the same name.
        out: where the model, the figures and the page go, instead of the run's folder.
        limit_rows: of each set, always the same ones.

    Raises:
        InputError: this is no run, its base model is not there, there is no retention set, or a file cannot be written.
    """
    tell, folder = reporter or Reporter(), out or run
    recipe, base, tuned = _open(run)
    shares = _shares(recipe.soften.lambdas if lambdas is None else lambdas)
    tables = _tables(recipe.retention, retention)
    _check_folder(folder)
    with AudioReader() as reader:
        sets = [read_set(each, f"retention, {each.name}", recipe, tuned.vocabulary, reader) for each in tables]
        sets = _unlearned(sets, recipe, tuned, reader, tell)
        target = _dev(recipe, tuned, reader, tell)
        for note in (note for each in sets for note in each.notes):
            tell.say(note)
        if limit_rows:
            target, *sets = [each.subset(limit_rows, recipe.seed) for each in (target, *sets)]
        mixtures = Mixtures(base, tuned, recipe, _engine_kind(run, recipe), reader, tell)
        points = tuple(mixtures.point(share, target, sets) for share in shares)
        found = TradeOff(points, recipe.soften.max_retention_loss)
        result = Softened(run, base.name, found, folder / PAGE)
        if found.chosen is not None:
            contexts = _contexts(mixtures, found.chosen, target)
            state = mixtures.state(found.chosen.share)
            contents = Contents(state, tuned.shape, tuned.tokenizer_json, tuned.generation)
            write_mixed(folder / MODEL, contents, Mark(contexts, WEIGHTS), _origin(result, found.chosen))
            result = replace(result, model=folder / MODEL, contexts=contexts)
        elif (folder / MODEL).exists():
            tell.say(f"{folder / MODEL} is of an earlier time, and left as it is")
    with writing(folder / FIGURES):
        replace_text(folder / FIGURES, json_text(result.as_json(), indent=2) + "\n")
    write_page(result.page, page_of(found, run.resolve().name))
    return result


def parse_retention(text: str) -> RetentionTable:
    """`name=path` or `name=path:language`; `name=silence` where no file is called so.

    What stands behind the last colon is a language where it is one, and the path before it is there.

    Raises:
        InputError: it is written otherwise.
    """
    fix = "--retention english=data/english:en"
    name, separator, source = (part.strip() for part in text.partition("="))
    if not (name and separator and source):
        raise InputError(f"not a retention set: {text!r}", where="--retention", fix=fix)
    given: dict[str, Any] = {"source": source}
    rest, _, language = source.rpartition(":")
    place = place_of(rest) if rest and code_of(language) else None
    if source == SILENCE and not Path(source).exists():
        given = {"silence": True}
    elif place is not None and place.exists():
        given = {"source": rest, "language": language}
    try:
        return RetentionTable(name=name, **given)
    except ValueError as error:
        message = "a name is made of letters, digits, spaces and _ . -"
        raise InputError(f"{message}: {name!r}", where="--retention", fix=fix) from error


def _open(run: Path) -> tuple[Recipe, ModelFolder, ModelFolder]:
    """The recipe, base and tuned model of a run."""
    resolved = Run(run).resolved_recipe
    if not (run / RUN_MARK).is_file() or not resolved.is_file():
        raise InputError("this is no run that was trained", where=str(run), fix="give the folder that train made")
    tuned = ModelFolder(str(run), run_model(run))
    recipe = load_recipe(resolved)
    base = find_model(recipe.model)
    check_mixable(base, tuned)
    return recipe, base, tuned


def _shares(lambdas: Iterable[float]) -> list[float]:
    """By rising share, with both ends."""
    given = list(lambdas)
    if wrong := [each for each in given if not 0 <= each <= 1]:
        raise InputError(f"lambda {wrong[0]:g} is not between base (0) and tuned (1)", where="--lambdas")
    return sorted({0.0, *given, 1.0})


def _tables(recipe: Sequence[RetentionTable], given: Sequence[RetentionTable]) -> list[RetentionTable]:
    """All retention sets, by name; those of the command line count."""
    tables = {each.name: each for each in (*recipe, *given)}
    if not tables:
        raise InputError(
            "no retention set: nothing says what is to be kept",
            where="--retention",
            fix="--retention english=data/english:en, or [[retention]] in the recipe",
        )
    return list(tables.values())


def _check_folder(folder: Path) -> None:
    """Raise InputError where something else than an earlier softening lies in the place of what will be written."""
    check_target(folder / PAGE, MAKER)
    model = folder / MODEL
    try:
        ours = not model.exists() or Mark.read(model).weights == WEIGHTS
    except ModelError:
        ours = False
    if not ours:
        raise InputError("is there already, and no softened model", where=str(model), fix="--out for another folder")


def _engine_kind(run: Path, recipe: Recipe) -> str:
    """The engine that decoded in this run, where it was found that another one has to."""
    known = Run(run).read_evaluation("base")
    return known.engine if known else recipe.evaluation.engine


def _unlearned(
    sets: Sequence[RetentionSet], recipe: Recipe, tuned: ModelFolder, reader: AudioReader, tell: Reporter
) -> list[RetentionSet]:
    """The sets without what the run was trained on, by its rule; where that cannot be looked for, it is told.

    Raises:
        DataError: one shares rows with train, and the rule is error.
    """
    if all(each.silent for each in sets):
        return list(sets)
    if any(table.streaming for table in recipe.data.train):
        tell.say("rows that train streams were not looked for in the retention sets")
    try:
        train = _split("train", recipe, tuned, reader).segments
    except WhispertuneError as error:
        tell.say(f"train cannot be read any more, so its rows were not looked for in the retention sets: {error.what}")
        return list(sets)
    return [kept_apart(each, train, recipe.clean.leakage, f"retention, {each.name}") for each in sets]


def _split(name: str, recipe: Recipe, tuned: ModelFolder, reader: AudioReader) -> SourceData:
    """The rows of a split that lie on the disk."""
    return read_sources(
        [table for table in getattr(recipe.data, name) if not table.streaming],
        tuned.vocabulary,
        reader,
        language=recipe.language,
        task=recipe.task,
        origin=f"data.{name}",
        scored=name != "train",
    )


def _dev(recipe: Recipe, tuned: ModelFolder, reader: AudioReader, tell: Reporter) -> RetentionSet:
    """The rows that selected the run's weights, cleaned as they were then; those that are dropped are told."""
    data = _split("dev", recipe, tuned, reader)
    rules = CleanRules(**recipe.clean.model_dump())
    data = clean(data, rules, source="data.dev", empty_texts=True)
    if rules.audio == "all" or (rules.audio == "auto" and data.seconds / 3600 <= LISTEN_HOURS):
        progress = partial(tell.working, "listening to dev")
        heard = hear(as_table(data.segments), rules, reader, progress=progress).data
        data = replace(heard, problems=(*data.problems, *heard.problems), notes=data.notes)
    if recipe.data.test:
        splits = {"dev": as_table(data.segments), "test": as_table(_split("test", recipe, tuned, reader).segments)}
        apart = check_apart(splits, rules.leakage)
        data = replace(data, segments=apart.splits["dev"], problems=(*data.problems, *apart.problems["dev"]))
    tell.say(summary(data, TARGET))
    if not data.segments:
        raise DataError("no usable segments", where="data.dev", fix="the sources of the run have to be there still")
    return RetentionSet(TARGET, tuple(data.segments), normalizer=recipe.evaluation.named_normalizer)


def _contexts(mixtures: Mixtures, chosen: Point, target: RetentionSet) -> tuple[str, ...]:
    """On what a mixture may be decoded: clips cut to what is spoken where the tuned model may, if it still can."""
    if "fit" not in Mark.read(mixtures.tuned.path).contexts:
        return ("full",)
    cut = mixtures.on_cut_clips(chosen.share, target)
    return ("full", "fit") if cut.value <= chosen.target.value + FIT_TOLERANCE else ("full",)


def _origin(result: Softened, chosen: Point) -> dict[str, Any]:
    """What a softened model was made of."""
    return {
        "base": public_name(result.base),
        "tuned": public_name(str(result.run)),
        "lambda": chosen.share,
        "rule": result.trade_off.rule,
    }
