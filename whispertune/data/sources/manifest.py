"""Manifests: a JSONL, CSV or TSV file with a row for each stretch of speech, or a folder that holds one.

    {"file_name": "clips/7.wav", "text": "Good morning.", "language": "en"}
    {"audio_filepath": "talk.flac", "offset": 12.4, "duration": 2.6, "text": "That is the plan.", "lang": "en-US"}

    read_manifest(SourceSpec("clips", language="sv"), audio)    # clips/metadata.jsonl, .csv or .tsv: AudioFolder too
    read_manifest(SourceSpec("train.tsv", columns=(("text", "sentence"),)), audio)

Columns are found by their names, of many that are in use, or named by the recipe; others are left alone. Times are
in seconds; `duration` is how long the stretch is, and without a start that of all the recording. As NeMo means them:
`offset`, and `source_lang` with a `target_lang` that is another: translated speech. Paths are relative to the folder
of the manifest and, as written, stay in it unless the recipe says `outside = true`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Problem, SourceData, SourceSpec
from whispertune.data.sources.cells import mapped
from whispertune.data.sources.columns import RawRows, judge
from whispertune.data.sources.lines import Block, Wanted, read_csv, read_jsonl
from whispertune.data.table import as_table, strings
from whispertune.errors import DataError
from whispertune.languages import code_of, new_targets

if TYPE_CHECKING:
    import pyarrow as pa

METADATA_NAMES = ("metadata.jsonl", "metadata.csv", "metadata.tsv")
METADATA_SUFFIXES = (".jsonl", ".csv", ".tsv")  # and .json, with an object on each line as NeMo writes it

# Names of columns in the order they are looked for, in any case.
_NAMES: dict[str, tuple[str, ...]] = {
    "audio": (
        "file_name", "audio_filepath", "audio_file", "audio_path", "audio", "path", "file", "wav", "filename",
        "file_path", "filepath", "audio_filename", "wav_filename", "wav_path",
    ),
    "text": (
        "text", "sentence", "raw_transcription", "transcription", "transcript", "raw_text", "normalized_text",
        "normalized_transcription", "caption", "utterance",
    ),
    "language": ("source_lang", "language", "lang", "locale"),
    "target": ("target_lang",),
    "speaker": ("speaker", "speaker_id", "client_id", "spk"),
    "task": ("task",),
    "start": ("start", "start_s", "start_time", "offset", "begin"),
    "end": ("end", "end_s", "end_time"),
    "duration": ("duration", "duration_s", "length_s"),
}  # fmt: skip
_TRANSLATIONS = ("translation", "translated_text")  # before the others, where the task is to translate
_TOLD_NAMES = 12
_HEAD_BYTES = 4096
_OTHER_MARKS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def is_manifest(path: Path) -> bool:
    """Whether a folder holds metadata, or a file is of a kind that manifests are."""
    if path.is_dir():
        return any((path / name).is_file() for name in METADATA_NAMES)
    suffix = path.suffix.lower()
    return suffix in METADATA_SUFFIXES or (suffix == ".json" and (_is_json_lines(path) or _is_json_array(path)))


def read_manifest(spec: SourceSpec, audio: AudioReader) -> SourceData:
    """All rows of a manifest; those of one recording in the order of their times."""
    path = manifest_path(spec.path)
    choose = partial(_choose, spec=spec, path=path)
    kinds = {".csv": partial(read_csv, delimiter=","), ".tsv": partial(read_csv, delimiter="\t")}
    read = kinds.get(path.suffix.lower(), read_jsonl)
    if read is read_jsonl and path.is_file() and _is_json_array(path):
        fix = "write each object on a line of its own, without the brackets and commas around them"
        raise DataError("is one JSON array; a manifest has an object on each line", where=str(path), fix=fix)
    blocks = list(read(path, choose))
    data = judge(_raw_rows(blocks, path), spec, audio)
    targets = _joined("target", blocks)
    if targets is None or "translate" not in as_table(data.segments).distinct("tasks"):
        return data
    return replace(data, notes=(*data.notes, *new_targets(targets.unique().to_pylist())))


def manifest_path(location: Path) -> Path:
    """The file that is meant by a folder or by itself."""
    if not location.is_dir():
        return location
    found = [name for name in METADATA_NAMES if (location / name).is_file()]
    if len(found) != 1:
        what = f"holds {' and '.join(found)}" if found else f"holds none of {', '.join(METADATA_NAMES)}"
        raise DataError(what, where=str(location), fix="give the path of the metadata file itself")
    return location / found[0]


def _is_json_lines(path: Path) -> bool:
    with path.open("rb") as file:
        first = next((line for line in file if line.strip()), b"")
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and any(name.lower() in _NAMES["audio"] for name in row)


def _is_json_array(path: Path) -> bool:
    """Whether it is a list of rows, as some tools write it."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES).lower()
    names = (f'"{name}"'.encode() for name in _NAMES["audio"])
    return re.match(rb"(?:\xef\xbb\xbf)?\s*\[\s*\{", head) is not None and any(name in head for name in names)


# ----------------------------------------------------------------------------------------------------- columns


def _choose(seen: Sequence[str], spec: SourceSpec, path: Path) -> list[Wanted]:
    """The column of each field. A column that the first rows lack may still come, where a row need not have it."""
    if "shard_id" in seen:
        fix = "unpack the tar files, and give the manifest they were made from"
        raise DataError("is of a tarred NeMo dataset, whose recordings lie in tar files", where=str(path), fix=fix)
    wanted = [Wanted(field, (name,)) for field, name in spec.columns]
    for field, name in spec.columns:
        if name not in seen:
            near = get_close_matches(name, seen, n=3)
            hint = f"the nearest: {', '.join(near)}" if near else f"the columns are: {_told(seen)}"
            fix = f"{hint}; set it right in columns of {spec.origin or 'the source'}"
            raise DataError(f"has no column {name!r} for {field}", where=str(path), fix=fix)
    by_name = {name.lower(): name for name in seen}
    named = {field for field, _ in spec.columns}
    missing: list[str] = []
    for field, names in _NAMES.items():
        known = (*_TRANSLATIONS, *names) if field == "text" and spec.task == "translate" else names
        found = next((by_name[name] for name in known if name in by_name), None)
        if field in named:
            continue
        if found is None and field in ("audio", "text"):
            missing.append(field)
        wanted.append(Wanted(field, names if found is None else (found,)))
    if missing:
        mark = next((mark for mark in _OTHER_MARKS if len(seen) == 1 and mark in seen[0]), None)
        if mark:
            fix = "save it with commas (.csv) or tabs (.tsv) between them"
            what = f"has {_OTHER_MARKS[mark]} between its columns, which its name does not say"
            raise DataError(what, where=str(path), fix=fix)
        named_so = ", ".join(f'{field} = "..."' for field in missing)
        fix = f"the columns are: {_told(seen)}; rename them, or name them: columns = {{ {named_so} }}"
        raise DataError(f"has no column that is known to hold {' and '.join(missing)}", where=str(path), fix=fix)
    twice = next((one.names[0] for one in wanted if seen.count(one.names[0]) > 1), None)
    if twice:
        fix = "rename the one that is not meant"
        raise DataError(f"has several columns {twice!r}", where=str(path), fix=fix)
    return wanted


def _told(names: Sequence[str]) -> str:
    more = f" and {len(names) - _TOLD_NAMES} more" if len(names) > _TOLD_NAMES else ""
    return ", ".join(names[:_TOLD_NAMES]) + more


# -------------------------------------------------------------------------------------------------------- rows


def _raw_rows(blocks: Sequence[Block], path: Path) -> RawRows:
    lines = np.concatenate([block.lines for block in blocks] or [np.zeros(0, dtype=np.int64)])
    columns = {field: _joined(field, blocks) for field in ("id", *_NAMES)}
    problems: list[Problem] = [problem for block in blocks for problem in block.problems]
    return RawRows(
        file=path,
        root=path.parent,
        lines=lines,
        audio=_or_nothing(columns["audio"], len(lines)),
        text=_or_nothing(columns["text"], len(lines)),
        start_s=columns["start"],
        end_s=columns["end"],
        duration_s=columns["duration"],
        language=columns["language"],
        speaker=columns["speaker"],
        task=_tasks(columns["task"], columns["language"], columns["target"], len(lines)),
        ids=columns["id"],
        problems=tuple(problems),
    )


def _joined(field: str, blocks: Sequence[Block]) -> pa.Array | None:
    """The column of all blocks; numbers become text where some of them are text."""
    import pyarrow as pa

    parts = [block.column(field) for block in blocks]
    kinds = {part.type for part in parts if part is not None}
    if not kinds:
        return None
    kind = kinds.pop() if len(kinds) == 1 else pa.large_string()
    filled = (
        pa.nulls(len(block.lines), kind) if part is None else part.cast(kind)
        for block, part in zip(blocks, parts, strict=True)
    )
    return pa.concat_arrays(list(filled))


def _or_nothing(column: pa.Array | None, rows: int) -> pa.Array:
    return strings([None] * rows) if column is None else column


def _tasks(tasks: pa.Array | None, spoken: pa.Array | None, target: pa.Array | None, rows: int) -> pa.Array | None:
    """What rows say the task is, or the language spoken and that of the text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if spoken is None or target is None:
        return tasks
    codes = [
        mapped(column, rows, lambda own: code_of(own) or own, None).dictionary_decode() for column in (spoken, target)
    ]
    names = (pa.scalar(name, pa.large_string()) for name in ("transcribe", "translate"))
    by_language = pc.if_else(pc.equal(*codes), *names)  # null where one of the two is
    return by_language if tasks is None else pc.coalesce(tasks, by_language)
