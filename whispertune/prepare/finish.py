"""The last step, done by whoever finds all shards finished: what only all of them together can tell, and the card.

    prepared = finish(plan, out, recipe)       # None while shards are missing

Rows with the audio and text of a row before them go, and audio of dev and test that is in train: where that is an
error, dropped.jsonl names it, and the same recipe with another clean.leakage goes on from here. Shards then move to
data/, and prepare.json, written last, says that the dataset is whole. Nothing here depends on who does it or
when: two that do it at once write the same, file by file, under names of their own that they then rename.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whispertune.data.segments import Problem
from whispertune.data.sources.dataset import MARK, SPLITS
from whispertune.data.texts import rows_of
from whispertune.errors import DataError
from whispertune.files import sha256, sync
from whispertune.prepare.card import card
from whispertune.prepare.dropped import DROPPED, NAMES, check_bad_shares, write_dropped
from whispertune.prepare.job import record_path, shard_path
from whispertune.prepare.plan import Plan, Shard, check_policy, check_same, claim_policy
from whispertune.prepare.prepared import Prepared, SplitCount
from whispertune.prepare.shards import (
    HASH_BYTES,
    ShardRecord,
    SourceCount,
    is_whole,
    open_parquet,
    own_name,
    write_whole,
)
from whispertune.recipe import Recipe

DATA = "data"
EXAMPLES = 3
PACKAGES = ("whispertune", "pyarrow", "soundfile", "numpy")

Hashes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class _Finished:
    """A shard and its record, with the rows of it that are to go."""

    shard: Shard
    record: ShardRecord
    dropped: dict[int, Problem]
    left_out: tuple[Problem, ...] = ()  # the same, with their ids


def finish(plan: Plan, out: Path, recipe: Recipe) -> Prepared | None:
    """Make the dataset whole, where all shards are finished; else None.

    Raises:
        DataError: too many rows cannot be used, audio of dev or test is in train, or another process has finished
            it, or is about to, with another `clean.leakage`.
    """
    work = work_of(out)
    try:
        records = [ShardRecord.load(record_path(work, shard)) for shard in plan.shards]
        if not all(records):
            return _of_another(plan, out) if (out / MARK).is_file() else None
        check_policy(plan, work)
        found = [_Finished(s, r, {}) for s, r in zip(plan.shards, records, strict=True) if r is not None]
        if plan.rules.audio != "never":
            _find_same_audio(found, plan.rules.duplicates)
            _find_leakage(found, plan.rules.leakage, work)
        found = [replace(each, left_out=_left_out(each, out)) for each in found]
        problems = _problems(plan, found)
        if plan.rules.leakage == "error":
            _check_leakage(found, problems, out)
        check_bad_shares(problems, _rows(problems, found), recipe.data.max_bad_share, out)
        claim_policy(plan, work)
        final = [_published(each, out) for each in found]
        sync(out / DATA)
        return _told(plan, final, problems, out)
    except FileNotFoundError:
        if (out / MARK).is_file():
            return _of_another(plan, out)  # who was quicker, and cleared the work folder away
        raise


def _of_another(plan: Plan, out: Path) -> Prepared:
    """What another process has finished, where it was asked for the same."""
    check_same(json.loads((out / MARK).read_text(encoding="utf-8")), plan.facts, out)
    return Prepared.load(out)


def work_of(out: Path) -> Path:
    """Where a dataset is made."""
    return out / ".work"


def known_record(plan_shard: Shard, out: Path) -> ShardRecord | None:
    """The record of a shard that is finished and whole, wherever it has come to; else None."""
    work = work_of(out)
    record = ShardRecord.load(record_path(work, plan_shard))
    if record is None:
        return None
    final = ShardRecord.load(_final_record_path(work, plan_shard))
    published = out / DATA / f"{plan_shard.name}.parquet"
    places = [(shard_path(work, plan_shard), record), (published, record), (published, final)]
    return record if any(known and is_whole(path, known) for path, known in places) else None


def _final_record_path(work: Path, shard: Shard) -> Path:
    return record_path(work, shard).with_suffix(".final.json")


def _find_same_audio(found: Sequence[_Finished], duplicates: bool) -> None:
    """Of rows of a split with the same audio, language and task all but the first are to go."""
    if not duplicates:
        return
    for split in {each.shard.split for each in found}:
        of_it = [each for each in found if each.shard.split == split]
        heard = np.stack([_column(of_it, "audio_hashes"), _column(of_it, "kind_hashes")], axis=1)
        texts = _column(of_it, "text_hashes")
        _, firsts, groups = np.unique(heard, axis=0, return_index=True, return_inverse=True)
        first = firsts[groups.ravel()]  # of each row: the first one with its audio
        for row in np.flatnonzero(first != np.arange(len(heard))):
            same = texts[row] == texts[first[row]]
            kind = "same audio twice" if same else "same audio, other text"
            _drop(of_it, int(row), kind, f"the same audio as row {first[row]} of {split}")


def _find_leakage(found: Sequence[_Finished], leakage: str, work: Path) -> None:
    """Rows whose audio is in a split that is to measure them: they go from the one that is trained or chosen on."""
    splits = {name: [each for each in found if each.shard.split == name] for name in SPLITS.values()}
    for name, other in combinations(splits, 2) if leakage != "allow" else ():
        if not splits[name] or not splits[other]:
            continue
        mine, theirs = _column(splits[name], "audio_hashes"), _column(splits[other], "audio_hashes")
        kinds, firsts = np.unique(theirs, return_index=True)
        leaked = np.flatnonzero(np.isin(mine, kinds))
        twins = firsts[np.searchsorted(kinds, mine[leaked])]
        # Only an error names them: with "drop" another process may move these shards at the same time.
        ids = _ids(splits[other], twins, work) if leakage == "error" else {}
        for row, twin in zip(leaked.tolist(), twins.tolist(), strict=True):
            same = f"the same audio as {ids[twin]} of" if ids else "the same audio is in"
            _drop(splits[name], row, _leaked(other), f"{same} {NAMES[other]}")


def _leaked(other: str) -> str:
    """The kind of problem of a row whose audio is in this split too."""
    return f"also in {NAMES[other]}"


def _ids(of_split: Sequence[_Finished], rows: NDArray[np.int64], work: Path) -> dict[int, str]:
    """The ids of some rows of a split."""
    import pyarrow.parquet as pq

    ids: dict[int, str] = {}
    first = 0
    for each in of_split:
        end = first + each.record.rows
        wanted = np.unique(rows[(rows >= first) & (rows < end)])
        if len(wanted):
            column = pq.read_table(shard_path(work, each.shard), columns=["id"])["id"]
            ids |= zip(wanted.tolist(), column.take(wanted - first).to_pylist(), strict=True)
        first = end
    return ids


def _check_leakage(found: Sequence[_Finished], problems: Mapping[str, Sequence[Problem]], out: Path) -> None:
    """Raise where rows are to go for their audio in another split, and write down which."""
    for name, other in combinations(SPLITS.values(), 2):
        of_split = [problem for each in found if each.shard.split == name for problem in each.left_out]
        leaks = [problem for problem in of_split if problem.kind == _leaked(other)]
        if not leaks:
            continue
        write_dropped(out, problems)
        examples = "".join(f"\n    {leak.where} of {NAMES[name]}: {leak.detail}" for leak in leaks[:EXAMPLES])
        raise DataError(
            f"the audio of {rows_of(len(leaks))} of {NAMES[name]} is in {NAMES[other]} too{examples}",
            where="clean.leakage",
            fix=f"take it out of one of them ({out / DROPPED} names all that were found), or set clean.leakage to "
            f'"drop" (from {NAMES[name]}) or "allow": then no row is listened to again',
        )


def _column(of_split: Sequence[_Finished], name: str) -> Hashes:
    """Hashes of all rows of a split."""
    whole = bytes.fromhex("".join(getattr(each.record, name) for each in of_split))
    return np.frombuffer(whole, dtype=f">u{HASH_BYTES}").astype(np.uint64)


def _drop(of_split: Sequence[_Finished], row: int, kind: str, detail: str) -> None:
    for each in of_split:
        if row < each.record.rows:
            where = f"{each.shard.name}.parquet row {row}"
            each.dropped.setdefault(row, Problem(where, kind, detail))
            return
        row -= each.record.rows


def _left_out(each: _Finished, out: Path) -> tuple[Problem, ...]:
    """The rows of a shard that go, with their ids. Another process may have taken them out a moment ago."""
    import pyarrow.parquet as pq

    if not each.dropped:
        return ()
    rows = sorted(each.dropped)
    try:
        table = pq.read_table(shard_path(work_of(out), each.shard), columns=["id", "source", "duration_s"])
    except FileNotFoundError:
        final = ShardRecord.load(_final_record_path(work_of(out), each.shard))
        if final is None:
            raise
        return final.problems
    return tuple(
        replace(each.dropped[row], where=told["id"], source=told["source"], seconds=told["duration_s"])
        for row, told in zip(rows, table.take(rows).to_pylist(), strict=True)
    )


def _problems(plan: Plan, found: Sequence[_Finished]) -> dict[str, list[Problem]]:
    """Of each split: found in its texts, in its audio, and among all of them."""
    problems = {split: list(of_split) for split, of_split in plan.problems.items()}
    for each in found:
        problems[each.shard.split] += each.record.problems
    for each in found:
        problems[each.shard.split] += each.left_out
    return problems


def _rows(problems: Mapping[str, Sequence[Problem]], found: Sequence[_Finished]) -> dict[str, int]:
    """Of each split, those that are left out among them."""
    rows = {split: len(of_split) for split, of_split in problems.items()}
    for each in found:
        rows[each.shard.split] += each.record.rows - len(each.left_out)
    return rows


def _published(each: _Finished, out: Path) -> tuple[Shard, ShardRecord]:
    """Move a shard to its place, without the rows that go. Another process may have done so a moment ago."""
    work = work_of(out)
    staged, target = shard_path(work, each.shard), out / DATA / f"{each.shard.name}.parquet"
    target.parent.mkdir(exist_ok=True)
    try:
        if not each.dropped:
            staged.replace(target)
        else:
            _write_final(each, staged, target, work)
    except FileNotFoundError:
        if not target.exists():
            raise
    if not each.dropped:
        return each.shard, each.record
    final = ShardRecord.load(_final_record_path(work, each.shard))
    if final is None:
        raise FileNotFoundError(target)  # cleared away
    return each.shard, final


def _write_final(each: _Finished, staged: Path, target: Path, work: Path) -> None:
    temporary = own_name(staged)
    _copy_without(staged, temporary, each.dropped)
    final = replace(each.record, **_counted(temporary), problems=each.left_out)
    final.save(_final_record_path(work, each.shard))
    temporary.replace(target)
    staged.unlink(missing_ok=True)


def _copy_without(source: Path, target: Path, dropped: Mapping[int, Problem]) -> None:
    """Copy a shard without some rows. A row behind one continues nothing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    at, behind_gap = 0, False
    with pq.ParquetFile(source) as file, open_parquet(target) as writer:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            gone = [at + row in dropped for row in range(len(table))]
            before_gone = [behind_gap, *gone[:-1]]
            continues = [old and not cut for old, cut in zip(table["continues"].to_pylist(), before_gone, strict=True)]
            place = table.schema.get_field_index("continues")
            table = table.set_column(place, table.schema.field(place), pa.array(continues))
            kept = table.filter(pa.array([not each_gone for each_gone in gone]))
            if len(kept):
                writer.write_table(kept, row_group_size=len(kept))
            at, behind_gap = at + len(table), gone[-1]
    sync(target)


def _counted(path: Path) -> dict[str, Any]:
    """What a record says of a file that was copied in part."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["source", "language", "duration_s"])
    sources: dict[str, list[float]] = defaultdict(list)
    for source, seconds in zip(table["source"].to_pylist(), table["duration_s"].to_pylist(), strict=True):
        sources[source].append(seconds)
    return {
        "sha256": sha256(path),
        "bytes": path.stat().st_size,
        "rows": len(table),
        "seconds": sum(sum(each) for each in sources.values()),
        "languages": tuple(sorted(set(table["language"].to_pylist()))),
        "sources": tuple(SourceCount(name, len(each), sum(each)) for name, each in sources.items()),
        "audio_hashes": "",
        "kind_hashes": "",
        "text_hashes": "",
    }


def _told(
    plan: Plan, final: Sequence[tuple[Shard, ShardRecord]], problems: Mapping[str, Sequence[Problem]], out: Path
) -> Prepared:
    """Write what stands beside the shards; prepare.json last."""
    splits = tuple(_counts(split, problems[split], final) for split in problems)
    records = [record for _, record in final]
    prepared = Prepared(str(out), True, splits, tuple(record.name for record in records), len(final))
    write_dropped(out, problems)
    write_whole(out / "README.md", card(out.resolve().name, splits, records).encode())
    mark = {
        "digest": plan.digest,
        "versions": {name: version(name) for name in PACKAGES},
        **plan.facts,
        "splits": [asdict(each) for each in splits],
        "shards": [
            {"file": f"{DATA}/{each.name}.parquet", "sha256": each.sha256, "bytes": each.bytes}
            | {"rows": each.rows, "hours": round(each.seconds / 3600, 6)}
            for each in records
        ],
    }
    write_whole(out / MARK, (json.dumps(mark, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))
    sync(out)
    shutil.rmtree(work_of(out), ignore_errors=True)
    return prepared


def _counts(split: str, problems: Sequence[Problem], final: Sequence[tuple[Shard, ShardRecord]]) -> SplitCount:
    records = [record for shard, record in final if shard.split == split]
    kinds = Counter(problem.kind for problem in problems)
    return SplitCount(
        split=split,
        rows=sum(record.rows for record in records),
        hours=round(sum(record.seconds for record in records) / 3600, 6),
        shards=len(records),
        dropped=dict(kinds.most_common()),
    )
