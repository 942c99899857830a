"""The plan of a dataset: which rows go into which shard, known before the first is written, the same every time.

    read = read_everything(recipe, reader)          # the sources, cleaned
    plan = make_plan(recipe, read, work)            # or the one that stands there, where nothing has changed
    claim_policy(plan, work)                        # before rows go: clean.leakage may change until then
    plan.shards[3].name                             # "train-00003-of-00012"

A shard holds at most some four hours of audio and never breaks a chain of rows in two, unless the chain is longer
than half a shard. A source that is streamed gives a shard for each of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whispertune.data.clean import CleanRules
from whispertune.data.segments import Problem, SourceSpec
from whispertune.data.sources.dataset import SPLITS
from whispertune.errors import DataError
from whispertune.files import sync
from whispertune.prepare.read import Everything
from whispertune.prepare.rows import NamedTable, linked, write_rows
from whispertune.prepare.shards import own_name
from whispertune.recipe import Recipe
from whispertune.sources_of import label

SHARD_S = 4 * 3600.0  # about 250 MB
SMALLEST_SHARD_S = 300.0  # small data makes as many shards as cores may want, none smaller than this
SHARDS_WANTED = 8
PLAN = "plan.json"
POLICY = "leakage"  # the one whose rows go: written once, before the first does


@dataclass(frozen=True, slots=True)
class Shard:
    """A job: rows [first, end) of a split, or a shard of a stream."""

    split: str  # as the hub calls it
    number: int  # in its split
    of: int
    first: int = 0
    end: int = 0
    stream: int | None = None  # which of the plan's
    stream_shard: int = 0

    @property
    def name(self) -> str:
        return f"{self.split}-{self.number:05d}-of-{self.of:05d}"


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """A source that is read while its shards are written."""

    spec: SourceSpec
    source: str
    prefix: str  # of ids


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a job needs to know, wherever it runs."""

    facts: dict[str, Any]  # what was asked and what the sources held: equal ones make the same dataset
    rules: CleanRules
    rows_files: dict[str, str]  # of each split, in the work folder
    streams: tuple[StreamPlan, ...]
    shards: tuple[Shard, ...]
    problems: dict[str, tuple[Problem, ...]]  # of each split, found before any audio was read
    planned_rows: dict[str, int]  # of each split, those that cannot be used among them

    @property
    def digest(self) -> str:
        """sha256 of the facts."""
        return digest_of(self.facts)


def make_plan(recipe: Recipe, read: Everything, work: Path) -> Plan:
    """Write the plan of a dataset, or take the one that stands there.

    Raises:
        DataError: the one that stands there is of another recipe or of other data.
    """
    facts = facts_of(recipe, read)
    if (work / PLAN).is_file():
        return _taken_up(work, facts, read.problems)
    work.mkdir(parents=True, exist_ok=True)
    files: dict[str, str] = {}
    shards: list[Shard] = []
    for split, tables in read.tables.items():
        files[split] = f"rows-{split}-{digest_of(facts)[:12]}.arrow"
        temporary = own_name(work / files[split])
        write_rows(temporary, tables, recipe.windows.max_gap_s)
        temporary.replace(work / files[split])
        ranges = list(_ranges(tables, recipe.windows.max_gap_s))
        streamed = [(at, own) for at, each in enumerate(read.streams) for own in range(each.shards)]
        streamed = streamed if split == "train" else []
        of = len(ranges) + len(streamed)
        shards += [Shard(split, number, of, *each) for number, each in enumerate(ranges)]
        for number, (stream, own) in enumerate(streamed, start=len(ranges)):
            shards.append(Shard(split, number, of, stream=stream, stream_shard=own))
    plan = Plan(
        facts=facts,
        rules=read.rules,
        rows_files=files,
        streams=tuple(StreamPlan(each.spec, each.source, each.prefix) for each in read.streams),
        shards=tuple(shards),
        problems=read.problems,
        planned_rows={
            split: sum(len(each.segments) for each in tables) + len(read.problems[split])
            for split, tables in read.tables.items()
        },
    )
    return _publish(plan, work)


def load_plan(work: Path) -> Plan:
    """The plan that stands in a work folder."""
    values = json.loads((work / PLAN).read_text(encoding="utf-8"))
    return Plan(
        facts=values["facts"],
        rules=CleanRules(**values["rules"]),
        rows_files=values["rows_files"],
        streams=tuple(_stream(each) for each in values["streams"]),
        shards=tuple(Shard(**each) for each in values["shards"]),
        problems={split: tuple(Problem(**each) for each in found) for split, found in values["problems"].items()},
        planned_rows=values["planned_rows"],
    )


def facts_of(recipe: Recipe, read: Everything) -> dict[str, Any]:
    """What the dataset depends on, as JSON keeps it; paths without the folders of this machine."""
    from whispertune import __version__

    left_out = {"weight", "streaming", "count", "source", "outside"}
    data = {
        name: [
            table.model_dump(mode="json", exclude=left_out - {"streaming"}) | {"source": label(table)}
            for table in getattr(recipe.data, name)
        ]
        for name in SPLITS
    }
    asked = {
        "whispertune": __version__,
        "language": recipe.language,
        "task": recipe.task,
        "windows": {"max_gap_s": recipe.windows.max_gap_s},
        "clean": recipe.clean.model_dump(mode="json"),
        "data": data,
    }
    held = {each.origin: asdict(each.held) for each in read.sources}
    facts: dict[str, Any] = json.loads(json.dumps({"recipe": asked, "sources": held}))
    return facts


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], out: Path) -> None:
    """Raise where a dataset that was begun is of another recipe or of other data, and say what differs."""
    changed = [*_changes(before["recipe"], now["recipe"]), *_changes(before["sources"], now["sources"])]
    if not changed:
        return
    changed.sort(key=len)  # digests, which say the least, come last
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    raise DataError(
        f"holds a dataset of another recipe or of other data: {'; '.join(changed[:3])}{more}",
        where=str(out),
        fix="give another --out, or remove this folder to begin anew",
    )


def digest_of(facts: Mapping[str, Any]) -> str:
    """sha256 of facts."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _changes(before: Any, now: Any, key: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted({*before, *now}):
            yield from _changes(before.get(name), now.get(name), f"{key}.{name}" if key else name)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for index, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from _changes(old, new, f"{key}.{index}")
    elif before != now:
        told = [f"{len(value)} tables" if isinstance(value, list) else json.dumps(value) for value in (before, now)]
        yield f"{key} was {told[0]}, is {told[1]}"


def _publish(plan: Plan, work: Path) -> Plan:
    """Write the plan; where another process was quicker, its plan is the one."""
    if _write_first(work / PLAN, json.dumps(asdict(plan))):
        return plan
    return _taken_up(work, plan.facts, plan.problems)


def _taken_up(work: Path, facts: Mapping[str, Any], problems: Mapping[str, Sequence[Problem]]) -> Plan:
    """The plan that stands there. What is done about leaks in the audio may be asked anew: shards are the same."""
    plan = load_plan(work)
    if plan.problems == problems:  # no row was planned, or left out, for another policy
        plan = _with_policy(plan, facts["recipe"]["clean"]["leakage"])
    check_same(plan.facts, facts, work.parent)
    check_policy(plan, work)
    return plan


def _with_policy(plan: Plan, leakage: str) -> Plan:
    asked = plan.facts["recipe"]
    recipe = asked | {"clean": asked["clean"] | {"leakage": leakage}}
    return replace(plan, facts=plan.facts | {"recipe": recipe}, rules=replace(plan.rules, leakage=leakage))


def claim_policy(plan: Plan, work: Path) -> None:
    """Bind the dataset to what is done about leaks: shards that lost rows by it do not get them back.

    Raises:
        DataError: it is bound to another policy.
    """
    check_policy(plan, work)
    _write_first(work / POLICY, plan.rules.leakage)
    check_policy(plan, work)


def check_policy(plan: Plan, work: Path) -> None:
    """Raise where the dataset is bound to another policy than the plan's."""
    if (work / POLICY).is_file():
        claimed = (work / POLICY).read_text(encoding="utf-8")
        check_same(_with_policy(plan, claimed).facts, plan.facts, work.parent)


def _write_first(path: Path, content: str) -> bool:
    """Write a file whole; False where another process was quicker, whose file stays."""
    temporary = own_name(path)
    try:
        temporary.write_text(content, encoding="utf-8")
        sync(temporary)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)
    return True


def _ranges(tables: Sequence[NamedTable], max_gap_s: float) -> Iterator[tuple[int, int]]:
    """Rows of each shard, of about equal length."""
    follows = np.concatenate([np.zeros(0, np.bool_), *(linked(each.segments, max_gap_s) for each in tables)])
    until_s = np.cumsum(np.concatenate([np.zeros(0), *(each.segments.durations_s for each in tables)]))
    if not len(follows):
        return
    total_s = float(until_s[-1])
    count = max(1, -int(-total_s // SHARD_S), min(SHARDS_WANTED, int(total_s / SMALLEST_SHARD_S)))
    bounds = {0, len(follows)}
    for number in range(1, count):
        wanted = int(np.searchsorted(until_s, total_s * number / count))
        bounds.add(_chain_start(follows, until_s, wanted, total_s / count / 2))
    edges = sorted(bounds)
    yield from pairwise(edges)


def _chain_start(follows: NDArray[np.bool_], until_s: NDArray[np.float64], row: int, within_s: float) -> int:
    """The next row from `row` on that begins a chain; `row` itself where that is too far."""
    behind = int(np.searchsorted(until_s, until_s[row] + within_s)) + 1
    starts = np.flatnonzero(~follows[row:behind])
    return row + int(starts[0]) if len(starts) else row


def _stream(values: dict[str, Any]) -> StreamPlan:
    columns = tuple((ours, theirs) for ours, theirs in values["spec"]["columns"])
    return StreamPlan(SourceSpec(**(values["spec"] | {"columns": columns})), values["source"], values["prefix"])
