"""Sources: where segments come from. A new kind is a function and a line in `SOURCES`.

    with AudioReader() as audio:
        data = open_source(SourceSpec(Path("talks"), language="sv"), audio)    # SourceData(segments, problems)

`folder` is a folder with metadata.jsonl or metadata.csv; `captions` are recordings with .vtt or .srt beside them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from whispertune.data.audio import AudioReader
from whispertune.data.segments import SourceData, SourceSpec
from whispertune.data.sources.captioned import AUDIO_SUFFIXES, has_pair, read_captioned
from whispertune.data.sources.folder import METADATA_NAMES, METADATA_SUFFIXES, read_folder
from whispertune.errors import DataError

SOURCES: dict[str, Callable[[SourceSpec, AudioReader], SourceData]] = {
    "folder": read_folder,
    "captions": read_captioned,
}

_FIX = "give a folder with metadata.jsonl or metadata.csv, or recordings with .vtt or .srt of the same name beside"


def open_source(spec: SourceSpec, audio: AudioReader) -> SourceData:
    """The segments at a place, whatever kind of source it is; a DataError where it is none."""
    return SOURCES[_kind(spec)](spec, audio)


def _kind(spec: SourceSpec) -> str:
    location = spec.location
    where = f"{spec.origin}: {location}" if spec.origin else str(location)
    if location.is_dir():
        if any((location / name).is_file() for name in METADATA_NAMES):
            return "folder"
        if has_pair(location):
            return "captions"
        raise DataError(
            f"holds no metadata and no recording with captions, only {_held(location)}", where=where, fix=_FIX
        )
    if not location.is_file():
        raise DataError("there is no such file or folder", where=where, fix=_FIX)
    if location.suffix.lower() in METADATA_SUFFIXES:
        return "folder"
    if location.suffix.lower() not in AUDIO_SUFFIXES:
        raise DataError("is neither metadata (.jsonl, .csv) nor a recording", where=where, fix=_FIX)
    if not has_pair(location):
        raise DataError(f"no {location.stem}.vtt or {location.stem}.srt lies beside it", where=where, fix=_FIX)
    return "captions"


def _held(folder: Path) -> str:
    """What lies in a folder, by kind of file: `12 .wav, 3 .txt`."""
    names = (name for _, _, names in os.walk(folder) for name in names)
    kinds = Counter(os.path.splitext(name)[1].lower() or "without suffix" for name in names)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5)) or "nothing"
