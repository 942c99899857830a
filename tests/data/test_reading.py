"""What the corpus sources share, and that nothing in a file brings them down."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from whispertune.data.audio import AudioReader
from whispertune.data.segments import SourceSpec
from whispertune.data.sources.commonvoice import read_commonvoice
from whispertune.data.sources.kaldi import read_kaldi
from whispertune.data.sources.labelstudio import read_labelstudio
from whispertune.data.sources.lhotse import read_lhotse
from whispertune.data.sources.reading import text_lines
from whispertune.errors import DataError

LINES = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r")), min_size=1)
KEYS = [
    "id", "type", "start", "end", "duration", "channel", "channels", "supervisions", "recording", "sources",
    "source", "recording_id", "text", "language", "speaker", "transforms", "name", "annotations", "result", "value",
    "data", "audio", "labels", "from_name", "updated_at", "was_cancelled", "annotation_id", "transcription", "label",
]  # fmt: skip
VALUES = [
    "MonoCut", "MultiCut", "MixedCut", "file", "command", "labels", "textarea", "transcription", "a.wav", "../a.wav",
    "a", "1", "Speed", "/data/upload/3/a.wav", "/data/local-files/?d=a.wav", "2024-03-09T22:16:08Z",
]  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers(-2, 2) | st.floats() | st.sampled_from(VALUES) | st.just(10**400)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=25,
)
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000), 8000)
    return tmp_path


def read_or_refuse(read: Any, spec: SourceSpec, reader: AudioReader) -> None:
    """Either it is read, its segments lying in the recording, or it is refused with a place."""
    try:
        data = read(spec, reader)
    except DataError as error:
        assert error.where  # noqa: PT017
        return
    assert all(0 <= one.start_s < one.end_s <= 2.0 and one.text for one in data.segments)
    assert all(problem.where.startswith(spec.location) and problem.kind for problem in data.problems)


@given(lines=LINES, end=st.sampled_from(["\n", "\r\n"]), last=st.booleans(), suffix=st.sampled_from(["", ".gz"]))
@FUZZ
def test_lines_are_those_of_the_file(tmp_path: Path, lines: list[str], end: str, last: bool, suffix: str) -> None:
    lines = [*lines, "x"]  # without an end, an empty last line is none
    data = (end.join(lines) + (end if last else "")).encode()
    path = tmp_path / f"lines{suffix}"
    path.write_bytes(gzip.compress(data) if suffix else data)
    first = lines[0].removeprefix("\ufeff")
    assert list(text_lines(path)) == list(enumerate([first, *lines[1:]], start=1))


@given(rows=st.lists(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=10), min_size=1, max_size=3))
@FUZZ
def test_any_json_is_read_or_refused_as_cuts(corpus: Path, reader: AudioReader, rows: list[dict[str, Any]]) -> None:
    head = {"id": "c", "type": "MonoCut", "start": 0.0}
    recording = {"sources": [{"type": "file", "channels": [0], "source": "a.wav"}]}
    supervision = {"id": "s", "start": 0.0, "duration": 1.0, "text": "Hej."}
    cuts = [head | {"recording": recording, "supervisions": [supervision | row, row]} | row for row in rows]
    lines = "\n".join(json.dumps(cut) for cut in [*cuts, *rows])
    (corpus / "cuts.jsonl").write_text(lines, "utf-8")
    read_or_refuse(read_lhotse, SourceSpec(str(corpus / "cuts.jsonl"), language="sv"), reader)


@given(rows=st.lists(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=10), min_size=1, max_size=3))
@FUZZ
def test_any_json_is_read_or_refused_as_tasks(corpus: Path, reader: AudioReader, rows: list[dict[str, Any]]) -> None:
    result = {"id": "r", "type": "textarea", "from_name": "transcription", "value": {"text": ["Hej."]}}
    tasks = [
        {"id": 1, "data": {"audio": "a.wav"}, "annotations": [{"result": [result, result | row, row]}]} | row
        for row in rows
    ]
    for content in (tasks, [{"annotation_id": 1, "audio": "a.wav", "transcription": "Hej."} | row for row in rows]):
        (corpus / "export.json").write_text(json.dumps(content), "utf-8")
        read_or_refuse(read_labelstudio, SourceSpec(str(corpus / "export.json"), language="sv"), reader)


@given(
    text=st.text(st.sampled_from('ab01. \t\r\n|":-'), max_size=60),
    file=st.sampled_from(["wav.scp", "text", "segments"]),
)
@FUZZ
def test_any_text_is_read_or_refused_as_kaldi(corpus: Path, reader: AudioReader, text: str, file: str) -> None:
    for name, written in {"wav.scp": "a a.wav\n", "text": "a Hej.\n", "segments": "a a 0 1\n"}.items():
        (corpus / name).write_bytes((text if name == file else written).encode())
    read_or_refuse(read_kaldi, SourceSpec(str(corpus), language="sv"), reader)


@given(text=st.text(st.sampled_from('ab01. \t\r\n"+'), max_size=60))
@FUZZ
def test_any_text_is_read_or_refused_as_common_voice(corpus: Path, reader: AudioReader, text: str) -> None:
    (corpus / "clips").mkdir(exist_ok=True)
    (corpus / "train.tsv").write_bytes(f"path\tsentence\tclient_id\na\tHej.\t1\n{text}".encode())
    read_or_refuse(read_commonvoice, SourceSpec(str(corpus), language="sv"), reader)
