"""Exports of Label Studio: JSON and JSON-MIN."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from whispertune.data.audio import AudioReader
from whispertune.data.segments import SourceSpec
from whispertune.data.sources.labelstudio import is_labelstudio, parse_labelstudio, read_labelstudio
from whispertune.errors import DataError

Json = dict[str, Any]
UPLOADED = "/data/upload/3/1f0c2d3e-talk.wav"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    sound(tmp_path / "1f0c2d3e-talk.wav")
    return tmp_path


def sound(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 8000 * 4), 8000)


def label(name: str, start_s: float, end_s: float, *labels: str, **more: Any) -> Json:
    value = {"start": start_s, "end": end_s, "channel": 0, "labels": list(labels)} | more
    return result(name, "labels", "labels", value)


def text(name: str, start_s: float | None, end_s: float | None, *texts: str, control: str = "transcription") -> Json:
    times = {} if start_s is None else {"start": start_s, "end": end_s, "channel": 0}
    return result(name, "textarea", control, times | {"text": list(texts)})


def result(name: str, kind: str, control: str, value: Json) -> Json:
    where = {"original_length": 4.0, "from_name": control, "to_name": "audio", "origin": "manual"}
    return {"id": name, "type": kind, "value": value} | where


def annotation(*results: Json, updated_at: str = "2024-03-09T22:16:08.728378Z", cancelled: bool = False) -> Json:
    times = {"created_at": "2024-03-09T22:16:08.728353Z", "updated_at": updated_at}
    return {"id": 1001, "completed_by": 1, "was_cancelled": cancelled, "result": list(results)} | times


def task(name: int, *annotations: Json, audio: Any = UPLOADED) -> Json:
    return {"id": name, "annotations": list(annotations), "predictions": [], "data": {"audio": audio}}


def write(folder: Path, *tasks: Json, indent: int | None = None, **more: Any) -> SourceSpec:
    (folder / "export.json").write_text(json.dumps(tasks, ensure_ascii=False, indent=indent), "utf-8")
    return SourceSpec(str(folder / "export.json"), language="sv", **more)


def test_regions_with_text_are_rows(corpus: Path, reader: AudioReader) -> None:
    results = (
        label("a", 0.5, 1.5, "Anna", "loud"),
        text("a", 0.5, 1.5, "Hej", "på dig."),
        text("b", 1.5, 2.5, "Ja."),
        {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"},
        result("whole", "choices", "quality", {"choices": ["good"]}),
    )
    data = read_labelstudio(write(corpus, task(17, annotation(*results))), reader)
    assert [(one.id, one.start_s, one.end_s, one.text, one.speaker) for one in data.segments] == [
        ("17/a", 0.5, 1.5, "Hej på dig.", "Anna"),
        ("17/b", 1.5, 2.5, "Ja.", None),
    ]
    assert {(one.recording, one.language) for one in data.segments} == {(corpus / "1f0c2d3e-talk.wav", "sv")}
    assert data.problems == ()


def test_a_text_without_region_is_of_the_whole_recording(corpus: Path, reader: AudioReader) -> None:
    results = (text("x", None, None, "Allt som sägs."), label("a", 0.5, 1.5, "Anna"))
    data = read_labelstudio(write(corpus, task(17, annotation(*results))), reader)
    assert [(one.id, one.start_s, one.end_s, one.text) for one in data.segments] == [("17", 0.0, 4.0, "Allt som sägs.")]


def test_the_annotation_changed_last_counts(corpus: Path) -> None:
    annotations = (
        annotation(text("a", 0, 1, "first"), updated_at="2024-03-09T22:16:08Z"),
        annotation(text("a", 0, 1, "last"), updated_at="2024-03-09T22:16:08.5Z"),
        annotation(text("a", 0, 1, "earlier"), updated_at="2024-03-09T23:16:08+02:00"),
        annotation(text("a", 0, 1, "cancelled"), updated_at="2025-01-01T00:00:00Z", cancelled=True),
    )
    assert list(parse_labelstudio(write(corpus, task(17, *annotations))).text) == ["last"]


def test_what_cannot_be_used_is_named(corpus: Path, reader: AudioReader) -> None:
    tasks = (
        task(1, annotation(text("a", 0, 1, "Hej."), label("b", 1, 2, "Noise"), text("c", 3, 9, "För sent."))),
        task(2),
        task(3, annotation(text("a", 0, 1, "Hej."), cancelled=True)),
        task(4, annotation(result("x", "choices", "quality", {"choices": ["good"]}))),
        task(5, annotation(label("b", 1, 2, "Anna", channel=1), text("a", 0, 1, "Hej."))),
        task(6, annotation(text("a", 0, 1, "Hej.")), audio="/data/upload/3/gone.wav"),
        task(7, annotation(text("a", 0, 1, "Hej.")), audio=None),
    )
    data = read_labelstudio(write(corpus, *tasks), reader)
    assert [one.id for one in data.segments] == ["1/a"]
    assert {problem.where for problem in data.problems} == {f"{corpus / 'export.json'}:1"}
    assert {(problem.detail.partition(":")[0], problem.kind) for problem in data.problems} == {
        ("task 1/b", "empty text"),
        ("task 1/c", "past the end"),
        ("task 2", "not annotated"),
        ("task 3", "cancelled annotation"),
        ("task 4", "no text"),
        ("task 5", "one channel of several"),
        ("task 6/a", "missing file"),
        ("task 7", "malformed row"),
    }


def test_lines_are_told_where_there_are_several(corpus: Path) -> None:
    raw = parse_labelstudio(write(corpus, task(1), task(2, annotation(text("a", 0, 1, "Hej."))), indent=1))
    lines = (corpus / "export.json").read_text().split("\n")
    assert raw.problems[0].where.endswith(":2")
    assert lines[raw.lines[0] : raw.lines[0] + 1] == ['  "id": 2,']


@pytest.mark.parametrize(
    ("audio", "place"),
    [
        ("/data/upload/3/1f0c2d3e-tal%20k.wav", "upload/3/1f0c2d3e-tal k.wav"),
        ("/data/upload/3/1f0c2d3e-tal%20k.wav", "3/1f0c2d3e-tal k.wav"),
        ("upload/3/1f0c2d3e-tal k.wav", "1f0c2d3e-tal k.wav"),
        ("/data/upload/3/1f0c2d3e-tal%20k.wav", "tal k.wav"),
        ("/data/local-files/?d=calls/a%2Bb/talk.wav", "calls/a+b/talk.wav"),
        ("/data/local-files?d=calls%5Cb/talk.wav", "b/talk.wav"),
        ("calls/talk.wav", "calls/talk.wav"),
    ],
)
def test_paths_of_the_server_are_found_in_the_folder(
    tmp_path: Path, reader: AudioReader, audio: str, place: str
) -> None:
    sound(tmp_path / place)
    data = read_labelstudio(write(tmp_path, task(1, annotation(text("a", 0, 1, "Hej.")), audio=audio)), reader)
    assert [one.recording for one in data.segments] == [tmp_path / place]


def test_reasons_are_kept_where_no_task_can_be_used(corpus: Path, reader: AudioReader) -> None:
    cancelled = task(2, annotation(text("a", 0, 1, "Hej."), cancelled=True), audio="/data/upload/3/gone.wav")
    unlabelled = task(1, annotation(text("a", 0, 1, "Hej."), label("b", 1, 2, "Anna", channel=1)))
    data = read_labelstudio(write(corpus, unlabelled, cancelled), reader)
    assert len(data.segments) == 0
    assert [problem.kind for problem in data.problems] == ["one channel of several", "cancelled annotation"]


def test_a_name_that_is_too_long_is_of_no_file(corpus: Path, reader: AudioReader) -> None:
    tasks = [task(1, annotation(text("a", 0, 1, "Hej.")), audio=f"/data/upload/3/{'x' * 5000}.wav")]
    data = read_labelstudio(write(corpus, *tasks, task(2, annotation(text("a", 0, 1, "Hej.")))), reader)
    assert [one.id for one in data.segments] == ["2/a"]
    assert [problem.kind for problem in data.problems] == ["missing file"]


def test_paths_do_not_lead_out_of_the_folder(corpus: Path, reader: AudioReader) -> None:
    audio = f"/data/local-files/?d=../{corpus.name}/1f0c2d3e-talk.wav"
    tasks = (task(1, annotation(text("a", 0, 1, "Hej."))), task(2, annotation(text("a", 0, 1, "Hej.")), audio=audio))
    data = read_labelstudio(write(corpus, *tasks), reader)
    assert [one.id for one in data.segments] == ["1/a"]
    assert [problem.kind for problem in data.problems] == ["path outside of the folder"]


def test_two_tasks_do_not_share_a_file_by_chance(tmp_path: Path) -> None:
    sound(tmp_path / "talk.wav")
    names = ("/data/upload/3/1f0c2d3e-talk.wav", "/data/upload/3/00000000-talk.wav")
    tasks = [task(number, annotation(text("a", 0, 1, "Hej.")), audio=name) for number, name in enumerate(names)]
    raw = parse_labelstudio(write(tmp_path, *tasks))
    assert list(raw.audio) == []
    assert [problem.kind for problem in raw.problems] == ["ambiguous path"] * 2


@pytest.mark.parametrize(
    "audio", ["https://example.org/a.wav", "s3://bucket/a.wav", "http://localhost:8080/data/a.wav"]
)
def test_urls_are_refused(corpus: Path, audio: str) -> None:
    spec = write(corpus, task(1, annotation(text("a", 0, 1, "Hej.")), audio=audio))
    with pytest.raises(DataError, match="is a URL, not a file") as caught:
        parse_labelstudio(spec)
    assert caught.value.where == f"{corpus / 'export.json'}:1"


def test_the_recipe_names_text_area_and_key(corpus: Path) -> None:
    both = (text("a", 0, 1, "Hej."), text("a", 0, 1, "tydligt", control="comment"))
    row = task(1, annotation(*both)) | {"data": {"recording": UPLOADED}}
    columns = (("audio", "recording"), ("text", "transcription"))
    assert list(parse_labelstudio(write(corpus, row, columns=columns)).text) == ["Hej."]
    with pytest.raises(DataError, match=r"has several text areas(.|\n)*are: comment, transcription"):
        parse_labelstudio(write(corpus, row, columns=columns[:1]))
    with pytest.raises(DataError, match="has no text area 'words'"):
        parse_labelstudio(write(corpus, row, columns=(*columns[:1], ("text", "words"))))
    with pytest.raises(DataError, match=r"the task has no 'audio'(.|\n)*there are: recording"):
        parse_labelstudio(write(corpus, row, columns=columns[1:]))
    with pytest.raises(DataError, match="has no text area None"):
        parse_labelstudio(write(corpus, task(1, annotation(label("a", 0, 1, "Anna")))))


def record(name: int, **more: Any) -> Json:
    times = {"created_at": "2024-03-09T22:16:08Z", "updated_at": "2024-03-09T22:16:08Z"}
    return {"audio": UPLOADED, "id": name, "annotator": 1, "annotation_id": 5, "lead_time": 3.5} | times | more


def test_json_min(corpus: Path, reader: AudioReader) -> None:
    regions = [{"start": 0.5, "end": 1.5, "channel": 0, "labels": ["Anna"]}, {"start": 2, "end": 3, "labels": ["Bo"]}]
    records = (
        record(1, label=regions, transcription=["Hej.", {"start": 2, "end": 3, "text": ["Ja,", "ja."]}]),
        record(2, transcription="Allt."),
        record(3, label=regions, transcription="Vems?"),
        record(4, label=regions[:1], transcription="ny", updated_at="2024-03-10T00:00:00Z"),
        record(4, label=regions[:1], transcription="gammal"),
        record(5),
    )
    data = read_labelstudio(write(corpus, *records), reader)
    assert sorted((one.id, one.start_s, one.end_s, one.text, one.speaker) for one in data.segments) == [
        ("1/0", 0.5, 1.5, "Hej.", "Anna"),
        ("1/1", 2.0, 3.0, "Ja, ja.", "Bo"),
        ("2", 0.0, 4.0, "Allt.", None),
        ("4/0", 0.5, 1.5, "ny", "Anna"),
    ]
    assert [(problem.kind, problem.detail.partition(";")[0]) for problem in data.problems] == [
        ("texts and regions differ", "task 3: 1 texts for 2 regions"),
        ("no text", "task 5: the annotation holds no text"),
    ]


@pytest.mark.parametrize("content", ["{}", "[{}]", "[1]", "[]", '[{"annotations": []} {}]', "[", "[" * 100_000])
def test_what_is_no_export_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "export.json").write_text(content)
    with pytest.raises(DataError, match="export the project as JSON") as caught:
        parse_labelstudio(SourceSpec(str(tmp_path / "export.json")))
    assert str(caught.value).startswith(str(tmp_path / "export.json"))


def test_exports_are_known_by_their_start(corpus: Path) -> None:
    assert not is_labelstudio(corpus)
    with pytest.raises(DataError, match="holds no export of Label Studio"):
        parse_labelstudio(SourceSpec(str(corpus)))
    write(corpus, task(1, annotation(text("a", 0, 1, "Hej."))), indent=2)
    (corpus / "talk.json").write_text('[{"start": 0.0, "end": 1.0, "text": "Hej."}]')
    assert is_labelstudio(corpus)
    assert is_labelstudio(corpus / "export.json")
    assert not is_labelstudio(corpus / "talk.json")
    assert list(parse_labelstudio(SourceSpec(str(corpus))).text) == ["Hej."]
    write(corpus, record(1, transcription="Hej."))
    assert is_labelstudio(corpus)
