"""From a recipe to a dataset: plan, write what is not written yet, finish, push.

    prepared = prepare_dataset(load_recipe(Path("recipe.toml")), Path("dataset"))
    prepared.complete, prepared.splits

    dataset/
      data/train-00000-of-00012.parquet   and so on, as `datasets.load_dataset` takes them
      README.md                           the card
      dropped.jsonl                       rows that were left out, with their reasons
      prepare.json                        recipe, versions, hashes: where it lies, the dataset is whole
      .work/                              while it is made: the plan, finished shards; removed at the end

Called again after an interruption, of whatever kind, it goes on with the shards that are missing. Where too many rows
cannot be used, or splits share audio, dropped.jsonl alone is left beside the work, and says which.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from json import loads
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Problem
from whispertune.data.sources.dataset import MARK
from whispertune.errors import DataError, InputError, Interrupted, WhispertuneError
from whispertune.files import sha256, writing
from whispertune.prepare.dropped import DROPPED, check_bad_shares
from whispertune.prepare.engines import ENGINES, Engine, Tell
from whispertune.prepare.finish import DATA, finish, known_record, work_of
from whispertune.prepare.job import SHARDS, record_path
from whispertune.prepare.plan import Plan, check_same, facts_of, make_plan
from whispertune.prepare.prepared import Prepared
from whispertune.prepare.push import push_dataset
from whispertune.prepare.read import read_everything
from whispertune.prepare.shards import ShardRecord, final_name, left_behind
from whispertune.recipe import Recipe
from whispertune.reporting import Reporter

OURS = (".work", DATA, "README.md", DROPPED, MARK, ".cache", ".git", ".gitattributes")


def prepare_dataset(
    recipe: Recipe,
    out: Path,
    *,
    part: tuple[int, int] = (1, 1),
    engine: str = "local",
    processes: int | None = None,
    push_to: str | None = None,
    public: bool = False,
    reporter: Reporter | None = None,
) -> Prepared:
    """Write a recipe's data as one dataset of Parquet shards.

    `part` (3, 16) does the third of sixteen parts of the shards; whoever finds all of them finished does the rest.
    `push_to` is a repository on the hub, which is private unless `public`.

    Raises:
        DataError: the folder holds a dataset of another recipe or other data, or too many rows cannot be used.
        InputError: the folder holds other things, or cannot be written.
        Interrupted: stopped; the same call goes on.
    """
    started, reporter = time.monotonic(), reporter or Reporter()
    _check_asked(out, part, engine)
    for folder in (out, work_of(out), work_of(out) / SHARDS):
        _sweep(folder)
    with AudioReader() as reader:
        read = read_everything(recipe, reader, reporter.working)
    facts, notes, prepared = facts_of(recipe, read), read.notes, None
    if not (out / MARK).is_file():
        try:
            with writing(out):
                plan = make_plan(recipe, read, work_of(out))
            del read  # a million rows that the jobs read from disk
            made = _made(plan, recipe, out, part, ENGINES[engine], processes or cores(), reporter)
            prepared = replace(made, notes=notes)
        except (WhispertuneError, OSError) as error:
            if isinstance(error, Interrupted) or not (out / MARK).is_file():
                raise
            # Another one was quicker: it has cleared away what this one was working on.
    prepared = prepared or _standing(out, facts)
    if push_to and prepared.complete:
        done = push_dataset(out, push_to, public=public, reporter=reporter)
        prepared = replace(prepared, pushed=done.files, removed=done.removed)
    return replace(prepared, seconds=round(time.monotonic() - started, 3))


def _standing(out: Path, facts: Mapping[str, Any]) -> Prepared:
    """The dataset that is whole already, where it is what was asked for."""
    mark = loads((out / MARK).read_text(encoding="utf-8"))
    check_same(mark, facts, out)
    _check_whole(out, mark["shards"])
    shutil.rmtree(work_of(out), ignore_errors=True)  # of one that was not the quicker
    return Prepared.load(out)


def parse_part(text: str) -> tuple[int, int]:
    """`3/16` -> (3, 16)."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise InputError(f"--shard {text} is no part", fix="write --shard 3/16 for the third of sixteen, from 1/16 on")
    return int(match[1]), int(match[2])


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _made(
    plan: Plan,
    recipe: Recipe,
    out: Path,
    part: tuple[int, int],
    engine: Engine,
    processes: int,
    reporter: Reporter,
) -> Prepared:
    work = work_of(out)
    mine = range(part[0] - 1, len(plan.shards), part[1])
    todo = [number for number in mine if known_record(plan.shards[number], out) is None]
    if len(todo) < len(mine):
        reporter.say(f"{len(mine) - len(todo)} of {len(mine)} shards are finished already")
    watch = _Watch(plan, recipe, out, todo, reporter)
    try:
        with _terminable():
            if todo:
                engine(work, todo, processes, watch.tell)
            with writing(out):
                prepared = finish(plan, out, recipe)
    except KeyboardInterrupt:
        what = f"stopped; {len(_written(plan, work))} of {len(plan.shards)} shards are finished"
        raise Interrupted(what, where=str(out), fix="the same command goes on with the others") from None
    if prepared is not None:
        return prepared
    return Prepared(str(out), False, (), _written(plan, work), len(plan.shards))


def _written(plan: Plan, work: Path) -> tuple[str, ...]:
    """The shards that have a record, by whomever."""
    return tuple(shard.name for shard in plan.shards if record_path(work, shard).is_file())


class _Watch:
    """Shows how far the jobs are, and ends them where too many rows cannot be used."""

    def __init__(self, plan: Plan, recipe: Recipe, out: Path, todo: Sequence[int], reporter: Reporter) -> None:
        self.plan, self.recipe, self.out, self.reporter = plan, recipe, out, reporter
        self._rows = dict.fromkeys(todo, 0)
        self._total = sum(self._planned(number) for number in todo)
        self._problems: dict[str, list[Problem]] = {split: list(found) for split, found in plan.problems.items()}
        self.tell: Tell = self._tell

    def _planned(self, number: int) -> int:
        """Rows of a shard; those of a stream are not known and count as one."""
        shard = self.plan.shards[number]
        return max(1, shard.end - shard.first)

    def _tell(self, number: int, rows: int, seconds: float, done: bool) -> None:
        self._rows[number] = self._planned(number) if done else min(rows, self._planned(number))
        self.reporter.working("writing", sum(self._rows.values()), self._total)
        if done:
            self._check(number)

    def _check(self, number: int) -> None:
        shard = self.plan.shards[number]
        record = ShardRecord.load(record_path(work_of(self.out), shard))
        if record is None or self.plan.streams:
            return
        self._problems[shard.split] += record.problems
        check_bad_shares(self._problems, self.plan.planned_rows, self.recipe.data.max_bad_share, self.out)


def _check_asked(out: Path, part: tuple[int, int], engine: str) -> None:
    if engine not in ENGINES:
        raise InputError(f"no engine {engine!r}", where="--engine", fix=f"one of {', '.join(ENGINES)}")
    if not 1 <= part[0] <= part[1]:
        raise InputError(f"there is no part {part[0]} of {part[1]}", where="--shard", fix="parts count from 1")
    if out.exists() and not out.is_dir():
        raise InputError("is no folder", where=str(out), fix="give another --out")
    foreign = [path.name for path in out.iterdir() if final_name(path) not in OURS] if out.is_dir() else []
    if foreign:
        what = f"holds other things already ({', '.join(sorted(foreign)[:3])})"
        raise InputError(what, where=str(out), fix="give --out a folder of its own")
    # In this order: another process may finish meanwhile, and its mark is there before its work folder is not.
    stale = (out / DATA).is_dir() and any((out / DATA).iterdir())
    if stale and not work_of(out).is_dir() and not (out / MARK).is_file():
        what = f"has {DATA}/ but no {MARK}: its shards would stand among new ones"
        raise InputError(what, where=str(out), fix="remove this folder, or give another --out")


def _check_whole(out: Path, shards: Sequence[dict[str, object]]) -> None:
    """Raise where a finished dataset is not what was written."""
    for each in shards:
        path = out / str(each["file"])
        if not path.is_file() or path.stat().st_size != each["bytes"] or sha256(path) != each["sha256"]:
            fix = f"remove {out} and run this again to write all of it anew"
            raise DataError("is not what was written", where=str(path), fix=fix)


def _sweep(folder: Path) -> None:
    """Remove what processes of this machine left half written when they were killed."""
    for path in folder.glob(".*.partial") if folder.is_dir() else ():
        if left_behind(path):
            path.unlink(missing_ok=True)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM, which schedulers send, stops as Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # elsewhere Python allows no handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        with suppress(TypeError):  # a handler that was not set from Python
            signal.signal(signal.SIGTERM, before)
