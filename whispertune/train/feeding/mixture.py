"""From the data of a run to its plan: each source of the recipe's train becomes a supply.

plan = make_plan(recipe, splits, limits, vocabulary, count_tokens)
plan.step(0)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from whispertune.data.clean import CleanRules, clean_row
from whispertune.data.leakage import letters_that_count, text_keys
from whispertune.data.segments import Problem, Segment
from whispertune.data.streams import ShuffledStream
from whispertune.data.table import strings
from whispertune.errors import InputError
from whispertune.recipe import Recipe
from whispertune.train.feeding.plan import JOIN_BLOCK, Plan, PlanSettings
from whispertune.train.feeding.splits import Splits
from whispertune.train.feeding.supply import Row, StreamSupply, Supply, TableSupply, Watch
from whispertune.windows.pack import CountTokens, Limits
from whispertune.windows.tokens import Vocabulary


def make_plan(
    recipe: Recipe,
    splits: Splits,
    limits: Limits,
    vocabulary: Vocabulary,
    count_tokens: CountTokens,
    rank: int = 0,
    ranks: int = 1,
    *,
    fixed: bool = False,
    packing: Watch | None = None,
) -> Plan:
    """The steps of a run; with `fixed`, of the same windows in every epoch.

    Where whole epochs are packed beforehand, `packing` is told how far that is.

    Raises:
        RecipeError: the length of a source would have to be known and is not, or its windows cannot be fixed.
    """
    supplies: dict[int, Supply] = {}
    for index, table in splits.parts.items():
        name = f"train.{index}"
        supplies[index] = TableSupply(name, table, limits, count_tokens, recipe.seed, rank=rank, ranks=ranks)
    for each in splits.streams:
        shuffled = ShuffledStream(each.stream, recipe.seed, rank=rank, ranks=ranks)
        judge = stream_judge(recipe, splits, vocabulary, each.index)
        supplies[each.index] = StreamSupply(f"train.{each.index}", shuffled, limits, count_tokens, judge)
    order = sorted(supplies)
    return Plan(
        [supplies[index] for index in order],
        replace(plan_settings(recipe, limits), fixed=fixed),
        recipe.seed,
        weights=[recipe.data.train[index].weight for index in order],
        temperature=recipe.data.temperature,
        epochs=recipe.train.epochs if recipe.train.hours is None else None,
        steps=recipe.train.steps,
        rank=rank,
        ranks=ranks,
        packing=packing,
    )


def count_windows(recipe: Recipe, splits: Splits, limits: Limits, count_tokens: CountTokens, most: int) -> float:
    """How many windows the tables of train pack into in one pass, told by packing about `most` of their segments."""
    supplies = [
        TableSupply(f"train.{index}", table, limits, count_tokens, recipe.seed) for index, table in splits.parts.items()
    ]
    together = recipe.train.segments_a_step or JOIN_BLOCK  # so that no more is packed than is counted
    settings = replace(plan_settings(recipe, limits), step_segments=together, step_windows=None, fit_share=0.0)
    plan = Plan(supplies, settings, recipe.seed)
    windows = segments = index = 0
    while segments < min(len(splits.train.segments), most):
        step = plan.step(index)
        windows += len(step.windows)
        segments += sum(len(planned.window.segments) for planned in step.windows) + len(step.problems)
        index += 1
    return windows * len(splits.train.segments) / max(1, segments)


def plan_settings(recipe: Recipe, limits: Limits) -> PlanSettings:
    """What the recipe says of steps and windows."""
    return PlanSettings(
        step_segments=recipe.train.segments_a_step,
        step_windows=recipe.train.step_windows,
        timestamps_share=recipe.windows.timestamps_share,
        prompt_share=recipe.windows.prompt_share,
        fit_share=recipe.windows.fit_share,
        speeds=recipe.augment.speed,
        limits=limits,
    )


def stream_judge(recipe: Recipe, splits: Splits, vocabulary: Vocabulary, index: int) -> Callable[[Row], Row]:
    """Of each row of a stream: what is left of it. Its text must not be in dev or test, its language in the model."""
    rules = CleanRules(**recipe.clean.model_dump())
    source = recipe.data.train[index].source
    prefix = f"{index}/" if len(recipe.data.train) > 1 else ""
    elsewhere = _texts_of_dev_and_test(splits) if rules.leakage != "allow" else set()

    def judge(row: Row) -> Row:
        if isinstance(row, Problem):
            return replace(row, where=prefix + row.where, source=source)
        try:
            vocabulary.check_language(row.language)
            vocabulary.check_task(row.task)
        except InputError as error:
            return Problem(prefix + row.id, "not in the model", error.what, row.duration_s, source)
        named = replace(row, id=prefix + row.id, continues=False, lead_s=0.0)
        cleaned = clean_row(named, rules, source=source)
        if isinstance(cleaned, Segment) and elsewhere and _leaks(cleaned, elsewhere):
            return Problem(cleaned.id, "also in dev", "its text is in dev or test", cleaned.duration_s, source)
        return cleaned

    return judge


def _leaks(segment: Segment, elsewhere: set[str]) -> bool:
    key = str(text_keys(strings([segment.text]))[0].as_py())
    return len(key) >= letters_that_count(segment.language, segment.task) and key in elsewhere


def _texts_of_dev_and_test(splits: Splits) -> set[str]:
    found: set[str] = set()
    for data in (splits.dev, splits.test):
        found.update(text_keys(strings([segment.text for segment in data.segments])).to_pylist())
    return found
