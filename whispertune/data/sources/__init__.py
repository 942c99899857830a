"""Sources: where segments come from. A new kind is a function in a file of its own, a line in `SOURCES`, and its name
in `recipe.KINDS`; one that a plain path is to be told as has a line in `_SIGNS` too.

    with AudioReader() as audio:
        data = open_source(SourceSpec("talks", language="sv"), audio)        # SourceData(segments, problems)
        data = open_source(SourceSpec("kaldi:data/train", language="sv"), audio)
        stream = open_stream(SourceSpec("hub:google/fleurs:sv_se"), audio)   # a Stream: nothing is kept

A path without a kind before it is looked at: docs/sources.md says what each kind is and how it is told.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from whispertune.data.audio import AudioReader
from whispertune.data.segments import SourceData, SourceSpec
from whispertune.data.sources.captioned import AUDIO_SUFFIXES, CAPTION_SUFFIXES, has_pair, read_captioned
from whispertune.data.sources.commonvoice import holds_commonvoice, is_commonvoice, read_commonvoice
from whispertune.data.sources.dataset import is_dataset, read_dataset, stream_dataset
from whispertune.data.sources.hub import read_hub, stream_hub
from whispertune.data.sources.kaldi import is_kaldi, read_kaldi
from whispertune.data.sources.labelstudio import is_labelstudio, read_labelstudio
from whispertune.data.sources.lhotse import is_lhotse, read_lhotse
from whispertune.data.sources.ljspeech import is_ljspeech, read_ljspeech
from whispertune.data.sources.manifest import is_manifest, read_manifest
from whispertune.data.sources.paths import files_below
from whispertune.data.streams import Stream
from whispertune.errors import DataError

SOURCES: dict[str, Callable[[SourceSpec, AudioReader], SourceData]] = {
    "hub": read_hub,
    "dataset": read_dataset,
    "commonvoice": read_commonvoice,
    "kaldi": read_kaldi,
    "lhotse": read_lhotse,
    "ljspeech": read_ljspeech,
    "labelstudio": read_labelstudio,
    "manifest": read_manifest,
    "captions": read_captioned,
}
STREAMS: dict[str, Callable[[SourceSpec, AudioReader], Stream]] = {
    "hub": stream_hub,
    "dataset": stream_dataset,
}
_SIGNS: tuple[tuple[str, Callable[[Path], bool]], ...] = (  # how a plain path is told: by itself, then by what it holds
    ("dataset", is_dataset),
    ("commonvoice", is_commonvoice),
    ("kaldi", is_kaldi),
    ("lhotse", is_lhotse),
    ("labelstudio", is_labelstudio),
    ("ljspeech", is_ljspeech),
    ("manifest", is_manifest),
    ("captions", partial(has_pair, below=False)),
    ("commonvoice", holds_commonvoice),
    ("captions", has_pair),
)

_FIX = (
    "give a folder with metadata.jsonl or metadata.csv, recordings with captions of the same name beside them, "
    "or kind:location with one of " + ", ".join(SOURCES)
)


def open_source(spec: SourceSpec, audio: AudioReader) -> SourceData:
    """The segments at a place, whatever kind of source it is; a DataError where it is none."""
    kind, plain = _kind(spec)
    data = SOURCES[kind](plain, audio)
    if not data.segments and not data.problems:
        raise DataError("holds no rows", where=_where(spec), fix=_FIX)
    return data


def open_stream(spec: SourceSpec, audio: AudioReader) -> Stream:
    """The same rows as they come; a DataError where this kind of source cannot be streamed."""
    kind, plain = _kind(spec)
    if kind not in STREAMS:
        fix = f"leave streaming out; it is for {' and '.join(STREAMS)} sources"
        raise DataError(f"a {kind} source is not streamed", where=_where(spec), fix=fix)
    return STREAMS[kind](plain, audio)


def _kind(spec: SourceSpec) -> tuple[str, SourceSpec]:
    """The kind, and the spec without it."""
    kind, separator, location = spec.location.partition(":")
    if separator and kind in SOURCES:
        return kind, replace(spec, location=location)
    return _look(spec), spec


def _look(spec: SourceSpec) -> str:
    path = spec.path
    if not path.exists():
        asked = next((part.partition(":")[0] for part in path.parts if ":" in part), None)
        what = f"there is no such file or folder{f', and no kind of source is called {asked!r}' if asked else ''}"
        raise DataError(what, where=_where(spec), fix=_FIX)
    for kind, applies in _SIGNS:
        if applies(path):
            return kind
    if path.is_dir():
        what = f"holds no metadata and no recording with captions, only {_held(path)}"
    elif path.suffix.lower() in AUDIO_SUFFIXES:
        what = f"no {path.stem}.vtt or other captions ({', '.join(CAPTION_SUFFIXES)}) lie beside it"
    else:
        what = "is neither metadata (.jsonl, .csv, .tsv) nor a recording"
    raise DataError(what, where=_where(spec), fix=_FIX)


def _where(spec: SourceSpec) -> str:
    return f"{spec.origin}: {spec.location}" if spec.origin else spec.location


def _held(folder: Path) -> str:
    """What lies in a folder, by kind of file: `12 .wav, 3 .txt`."""
    names = (name for _, names in files_below(folder) for name in names)
    kinds = Counter(os.path.splitext(name)[1].lower() or "without suffix" for name in names)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5)) or "nothing"
