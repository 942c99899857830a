"""From the data of a run to its plan: each source of the recipe's train becomes a supply.

plan = make_plan(recipe, splits, limits, count_tokens)
plan.step(0)
"""

from __future__ import annotations

from whispertune.data.clean import CleanRules, clean_row
from whispertune.data.segments import Problem, Segment
from whispertune.data.streams import ShuffledStream
from whispertune.recipe import Recipe
from whispertune.train.plan import Plan, PlanSettings
from whispertune.train.splits import Splits
from whispertune.train.supply import StreamSupply, Supply, TableSupply
from whispertune.windows.pack import CountTokens, Limits


def make_plan(
    recipe: Recipe, splits: Splits, limits: Limits, count_tokens: CountTokens, rank: int = 0, ranks: int = 1
) -> Plan:
    """The steps of a run.

    Raises:
        RecipeError: the length of a source would have to be known and is not.
    """
    settings = recipe.train
    rules = CleanRules(**recipe.clean.model_dump())

    def judge(segment: Segment) -> Segment | Problem:
        return clean_row(segment, rules)

    supplies: dict[int, Supply] = {}
    for index, table in splits.parts.items():
        if len(table):
            supplies[index] = TableSupply(f"train.{index}", table, limits, count_tokens, recipe.seed)
    for each in splits.streams:
        shuffled = ShuffledStream(each.stream, recipe.seed, rank=rank, ranks=ranks)
        name = f"train.{each.index}"
        supplies[each.index] = StreamSupply(name, shuffled, limits, count_tokens, judge, ranks)
    order = sorted(supplies)
    return Plan(
        [supplies[index] for index in order],
        PlanSettings(
            step_segments=settings.segments_a_step,
            step_windows=settings.step_windows,
            timestamps_share=recipe.windows.timestamps_share,
            prompt_share=recipe.windows.prompt_share,
            limits=limits,
        ),
        recipe.seed,
        weights=[recipe.data.train[index].weight for index in order],
        temperature=recipe.data.temperature,
        epochs=settings.epochs if settings.hours is None else None,
        steps=settings.steps,
        rank=rank,
        ranks=ranks,
    )
