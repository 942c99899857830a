"""Corpora in the form of LJSpeech: metadata.csv and a folder wavs/, one clip a line.

    LJ001-0001|Printed in 1455, it was|Printed in fourteen fifty-five, it was      # wavs/LJ001-0001.wav

The fields are the id, the text as written, and the text with numbers and abbreviations spelled out (some corpora
leave the third out). There is no header, `|` separates, nothing is quoted. The text as written is taken, as Whisper
was trained; `columns = { text = "normalized" }` takes the other. Nothing in it tells speaker or language.
"""

from __future__ import annotations

import os
from pathlib import Path

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Problem, SourceData, SourceSpec
from whispertune.data.sources.columns import RawRows, judge
from whispertune.data.sources.reading import check_columns, text_lines
from whispertune.errors import DataError

_NAME = "metadata.csv"
_TEXTS = {"raw": 1, "normalized": 2}  # which field
_FIX = "lines are: id|text|text spelled out"


def read_ljspeech(spec: SourceSpec, audio: AudioReader) -> SourceData:
    """All clips of metadata.csv."""
    return judge(parse_ljspeech(spec), spec, audio)


def is_ljspeech(path: Path) -> bool:
    """Whether a folder, or the metadata.csv in it, has the first of its lines in this form, with its clip."""
    file = _metadata(path)
    if file.name != _NAME or not file.is_file() or not (file.parent / "wavs").is_dir():
        return False
    try:
        first = next((line for _, line in text_lines(file) if line.strip()), "")
    except DataError:
        return False
    clip, bar, _ = first.partition("|")
    return bool(bar) and os.path.isfile(file.parent / _audio(clip))


def parse_ljspeech(spec: SourceSpec) -> RawRows:
    """The lines as rows; nothing but their form is checked."""
    file = _metadata(spec.path)
    if not file.is_file():
        raise DataError(f"holds no {_NAME}", where=str(spec.path), fix="give the folder that holds it beside wavs/")
    index = _text_index(spec)
    numbers: list[int] = []
    clips: list[str] = []
    texts: list[str] = []
    problems: list[Problem] = []
    for number, line in text_lines(file):
        fields = line.split("|")
        if not line.strip():
            continue
        if not index < len(fields) <= 3 or not fields[0].strip():
            problems.append(Problem(f"{file}:{number}", "malformed row", f"has {len(fields)} fields; {_FIX}"))
            continue
        numbers.append(number)
        clips.append(fields[0].strip())
        texts.append(fields[index])
    audio = [_audio(clip) for clip in clips]
    return RawRows(file, file.parent, numbers, audio, texts, ids=clips, problems=tuple(problems))


def _metadata(location: Path) -> Path:
    return location / _NAME if location.is_dir() else location


def _text_index(spec: SourceSpec) -> int:
    check_columns(spec, "text")
    name = spec.column("text") or "raw"
    if name not in _TEXTS:
        fix = 'the texts are called "raw" and "normalized"'
        raise DataError(f"there is no text {name!r} here", where=spec.origin or spec.location, fix=fix)
    return _TEXTS[name]


def _audio(clip: str) -> str:
    return f"wavs/{clip}.wav"
