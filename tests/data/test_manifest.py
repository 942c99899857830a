"""Manifests of each kind: what is used, what is a Problem, what is refused, and how rows hang together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Segment, SourceData, SourceSpec
from whispertune.data.sources.manifest import is_manifest, read_manifest
from whispertune.errors import DataError


def tone(path: Path, duration_s: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.sin(np.arange(round(duration_s * 8000)) / 5)
    soundfile.write(path, samples, 8000)
    return path


def troubles(data: SourceData) -> list[tuple[str, str]]:
    return [(Path(problem.where).name, problem.kind) for problem in data.problems]


def told(segment: Segment) -> tuple[Any, ...]:
    return segment.start_s, segment.end_s, segment.text, segment.continues, round(segment.lead_s, 6)


def jsonl(folder: Path, *rows: dict[str, Any] | str) -> Path:
    written = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "metadata.jsonl").write_text("\n".join(written) + "\n", encoding="utf-8")
    return folder


def row(file_name: str = "long.wav", text: Any = "x", **more: Any) -> dict[str, Any]:
    return {"file_name": file_name, "text": text, **more}


def test_a_folder_with_jsonl(tmp_path: Path, reader: AudioReader) -> None:
    tone(tmp_path / "clips" / "a.wav", 2.0)
    tone(tmp_path / "long.wav", 60.0)
    jsonl(
        tmp_path,
        row("clips/a.wav", " Caf\u0065\u0301  au lait ", language="fr", speaker=7, topic="food"),
        row(text="third", start=9.0, end=12.5),
        row(text="second", start="5", end=8.75),
        "",
        row(text="first", start=1.0, end=5.0, speaker="Bo"),
        row(text="to the end", start=40, end=None, task="translate"),
    )
    data = read_manifest(SourceSpec(str(tmp_path), language="sv"), reader)
    assert data.problems == ()
    assert data.segments[0] == Segment(
        id="metadata.jsonl:1",
        recording=tmp_path / "clips" / "a.wav",
        start_s=0.0,
        end_s=2.0,
        text="Caf\u00e9 au lait",
        language="fr",
        speaker="7",
    )
    assert [told(segment) for segment in data.segments[1:]] == [
        (1.0, 5.0, "first", False, 1.0),
        (5.0, 8.75, "second", True, 0.0),
        (9.0, 12.5, "third", True, 0.25),
        (40.0, 60.0, "to the end", False, 27.5),
    ]
    assert [segment.id for segment in data.segments[1:]] == [f"metadata.jsonl:{line}" for line in (5, 3, 2, 6)]
    assert {segment.language for segment in data.segments[1:]} == {"sv"}
    assert data.segments[4].task == "translate"
    assert data.segments[1].speaker == "Bo"


def test_bad_rows_are_named_and_the_rest_is_used(tmp_path: Path, reader: AudioReader) -> None:
    tone(tmp_path / "set" / "long.wav", 60.0)
    tone(tmp_path / "outside.wav", 1.0)
    (tmp_path / "set" / "text.wav").write_text("no audio")
    (tmp_path / "set" / "empty.wav").touch()
    folder = jsonl(
        tmp_path / "set",
        row(start=1, end=2),
        "{",
        "[1, 2]",
        row("none.wav"),
        row("zero\0.wav"),
        row(text=" \n"),
        row("../outside.wav"),
        row(str(tmp_path / "outside.wav")),
        row(start="soon", end=2),
        row(start=-1, end=2),
        row(start=float("nan"), end=2),
        row(start=4, end=4),
        row(start=5, end=3),
        row(start=59, end=60.3),
        row(start=61),
        row(start=2, end=32.5),
        row(),
        row("text.wav"),
        row("empty.wav"),
        row(task="sing"),
        row(text=["x"]),
        row(start=True, end=2),
        {"text": "no file"},
        row("x" * 5000),
        row(start=58, end=60.15),
    )
    data = read_manifest(SourceSpec(str(folder), language="en"), reader)
    assert [told(segment)[:2] for segment in data.segments] == [(1.0, 2.0), (58.0, 60.0)]
    kinds = (
        ["malformed row"] * 2
        + ["missing file"] * 2
        + ["empty text"]
        + ["path outside of the folder"] * 2
        + ["wrong times"] * 3
        + ["no length"] * 2
        + ["past the end"] * 2
        + ["longer than 30 s"] * 2
        + ["recording does not decode"] * 2
        + ["unknown task", "malformed row", "wrong times", "missing file", "missing file"]
    )
    assert troubles(data) == [(f"metadata.jsonl:{line}", kind) for line, kind in enumerate(kinds, start=2)]
    assert all(problem.where.startswith(str(folder)) and problem.detail for problem in data.problems)


def test_missing_columns_and_languages_are_one_error(tmp_path: Path, reader: AudioReader) -> None:
    tone(tmp_path / "a.wav", 1.0)
    (tmp_path / "metadata.csv").write_text("clip,words\na.wav,x\n")
    with pytest.raises(DataError, match=r"metadata\.csv: has no column .* hold audio and text\n.*clip, words; rename"):
        read_manifest(SourceSpec(str(tmp_path), language="en"), reader)
    (tmp_path / "metadata.csv").unlink()
    jsonl(tmp_path, {"file_name": "a.wav", "words": "x"})
    with pytest.raises(
        DataError, match=r'metadata\.jsonl: has no column .* text\n.*file_name, words;.*text = "\.\.\."'
    ):
        read_manifest(SourceSpec(str(tmp_path), language="en"), reader)
    jsonl(tmp_path, row("a.wav", language="en"), row("a.wav"))
    with pytest.raises(DataError, match=r"metadata\.jsonl:2: nothing says which language(.|\n)*data\.train"):
        read_manifest(SourceSpec(str(tmp_path), origin="data.train"), reader)
    (tmp_path / "metadata.jsonl").write_text("\n")
    with pytest.raises(DataError, match="holds no rows"):
        read_manifest(SourceSpec(str(tmp_path), language="en"), reader)
    (tmp_path / "metadata.csv").touch()
    with pytest.raises(DataError, match=r"holds metadata\.jsonl and metadata\.csv\n.*itself"):
        read_manifest(SourceSpec(str(tmp_path), language="en"), reader)


def test_chains_of_a_folder(tmp_path: Path, reader: AudioReader) -> None:
    """Unusable rows and other languages break a chain; a translation of the same speech does not."""
    tone(tmp_path / "long.wav", 60.0)
    jsonl(
        tmp_path,
        row(text="a", start=1, end=2),
        row(text="A", start=1, end=2, task="translate"),
        row(text="b", start=2.5, end=4.01),
        row(text="B", start=2.5, end=4.01, task="translate"),
        row(text="c, starts early by rounding", start=4, end=5),
        row(text="d, in Swedish", start=6, end=7, language="sv"),
        row(text="e", start=8, end=9),
        row(text="f", start=8.5, end=11),
        row(text="g, too long", start=12, end=50),
        row(text="h", start=51, end=52),
    )
    data = read_manifest(SourceSpec(str(tmp_path), language="en"), reader)
    assert [(*told(segment)[:2], segment.text[:1], *told(segment)[3:]) for segment in data.segments] == [
        (1.0, 2.0, "a", False, 1.0),
        (2.5, 4.01, "b", True, 0.5),
        (4.01, 5.0, "c", True, 0.0),
        (8.0, 9.0, "e", False, 1.0),
        (8.5, 11.0, "f", False, 0.0),
        (51.0, 52.0, "h", False, 1.0),
        (6.0, 7.0, "d", False, 1.0),
        (1.0, 2.0, "A", False, 1.0),
        (2.5, 4.01, "B", True, 0.5),
    ]


def test_a_limit_keeps_the_first_usable_rows(tmp_path: Path, reader: AudioReader) -> None:
    tone(tmp_path / "a.wav", 1.0)
    jsonl(tmp_path, row("a.wav", "1"), row("none.wav", "2"), row("a.wav", "3"), row("none.wav", "4"), row("a.wav", "5"))
    data = read_manifest(SourceSpec(str(tmp_path), language="en", limit_rows=2), reader)
    assert [segment.text for segment in data.segments] == ["1", "3"]
    assert troubles(data) == [("metadata.jsonl:2", "missing file")]


def test_real_speech(mboshi: Path, reader: AudioReader) -> None:
    data = read_manifest(SourceSpec(str(mboshi / "dev"), language="ln"), reader)
    assert len(data.segments) == 250
    assert data.problems == ()
    assert data.seconds / 3600 == pytest.approx(0.22, abs=0.01)


def written(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="")
    return path


def read(path: Path, reader: AudioReader, **more: Any) -> SourceData:
    return read_manifest(SourceSpec(str(path), **{"language": "en", **more}), reader)


def test_columns_are_found_by_their_names(tmp_path: Path, reader: AudioReader) -> None:
    tone(tmp_path / "a.wav", 9.0)
    manifest = written(
        tmp_path / "all.csv",
        "Path,client_id,Sentence,locale,start_time,length_s,up_votes",
        "a.wav,abc,One.,sv-SE,1.5,2,3",
        "./a.wav,abc,Two.,Swedish,4,0.5,0",
        "a.wav,,Three.,xx,5,,1",
    )
    assert is_manifest(manifest)
    data = read(manifest, reader)
    assert data.problems == ()
    assert [(*told(segment), segment.language, segment.speaker) for segment in data.segments] == [
        (5.0, 9.0, "Three.", False, 0.5, "en", None),  # languages are told one behind the other
        (1.5, 3.5, "One.", False, 1.5, "sv", "abc"),
        (4.0, 4.5, "Two.", True, 0.5, "sv", "abc"),
    ]
    assert read(manifest, reader, language=None).segments[2].language == "xx"
    assert {segment.recording for segment in data.segments} == {tmp_path / "a.wav"}


def test_the_recipe_names_columns(tmp_path: Path, reader: AudioReader) -> None:
    tone(tmp_path / "a.wav", 2.0)
    manifest = written(
        tmp_path / "x.jsonl", '{"wav": "a.wav", "text": "no", "corrected_text": "yes", "row": 7, "text_en": "y"}'
    )
    columns = (("text", "corrected_text"), ("id", "row"))
    assert [(one.id, one.text) for one in read(manifest, reader, columns=columns).segments] == [("7", "yes")]
    with pytest.raises(DataError, match=r"x\.jsonl: has no column 'corected' for text\n.*nearest: corrected_text"):
        read(manifest, reader, columns=(("text", "corected"),))
    with pytest.raises(DataError, match=r"has no column 'zzz' for end\n.*the columns are: wav, text, corrected_text"):
        read(manifest, reader, columns=(("end", "zzz"),))


def test_what_is_translated(tmp_path: Path, reader: AudioReader) -> None:
    tone(tmp_path / "a.wav", 2.0)
    manifest = written(tmp_path / "x.jsonl", '{"path": "a.wav", "text": "ja", "translation": "yes"}')
    assert read(manifest, reader).segments[0].text == "ja"
    segment = read(manifest, reader, task="translate").segments[0]
    assert (segment.text, segment.task) == ("yes", "translate")


def test_nemo(tmp_path: Path, reader: AudioReader) -> None:
    tone(tmp_path / "long.wav", 60.0)
    tone(tmp_path / "short.wav", 2.0)
    common = {"audio_filepath": "long.wav", "pnc": "yes", "taskname": "asr"}
    manifest = written(
        tmp_path / "train_manifest.json",
        *(
            json.dumps(one)
            for one in (
                common | {"offset": 3.0, "duration": 2.5, "text": "b", "source_lang": "de", "target_lang": "de"},
                common | {"offset": 0, "duration": 2.5, "text": "a", "source_lang": "de-DE", "target_lang": "de"},
                common | {"offset": 0, "duration": 2.5, "text": "A", "source_lang": "de", "target_lang": "en"},
                common | {"duration": 1.5, "text": "begins it", "source_lang": "fr", "target_lang": None},
                {"audio_filepath": "short.wav", "duration": 1.93, "text": "rounded"},
                {"audio_filepath": "short.wav", "duration": 2.4, "text": "too long"},
                {"audio_filepath": "short.wav", "duration": -1, "text": "wrong"},
            )
        ),
    )
    assert is_manifest(manifest)
    data = read(manifest, reader)
    assert [(*told(one), one.language, one.task) for one in data.segments] == [
        (0.0, 2.5, "a", False, 0.0, "de", "transcribe"),
        (3.0, 5.5, "b", True, 0.5, "de", "transcribe"),
        (0.0, 1.5, "begins it", False, 0.0, "fr", "transcribe"),
        (0.0, 2.5, "A", False, 0.0, "de", "translate"),
        (0.0, 2.0, "rounded", False, 0.0, "en", "transcribe"),
    ]
    assert [(problem.kind, problem.seconds) for problem in data.problems] == [
        ("past the end", 2.4),
        ("wrong times", None),
    ]


def test_tarred_nemo_and_other_json_are_refused(tmp_path: Path, reader: AudioReader) -> None:
    row = '{"audio_filepath": "a.wav", "duration": 2, "text": "x", "shard_id": 0}'
    with pytest.raises(DataError, match=r"t\.json: is of a tarred NeMo dataset(.|\n)*unpack"):
        read(written(tmp_path / "t.json", row), reader)
    for name, array in (("array.json", f"[{row}]"), ("indented.json", json.dumps([json.loads(row)], indent=2))):
        assert is_manifest(written(tmp_path / name, array))  # so that this is told
        with pytest.raises(DataError, match=r"json: is one JSON array(.|\n)*on a line of its own"):
            read(tmp_path / name, reader)
    assert not is_manifest(written(tmp_path / "other.json", '{"version": 1}'))
    assert not is_manifest(tmp_path)


@pytest.mark.parametrize("outside", [False, True])
def test_addresses_are_an_error(tmp_path: Path, reader: AudioReader, outside: bool) -> None:
    tone(tmp_path / "a.wav", 1.0)
    for address in ("https://example.org/a.wav", "s3://bucket/a.wav", "hf://datasets/x/a.wav"):
        jsonl(tmp_path, row("a.wav"), row(address))
        with pytest.raises(DataError, match=rf"metadata\.jsonl:2: '{address}' is an address"):
            read(tmp_path, reader, outside=outside)


def test_paths_that_lead_out(tmp_path: Path, reader: AudioReader) -> None:
    tone(tmp_path / "a.wav", 1.0)
    (tmp_path / "set").mkdir()
    folder = jsonl(tmp_path / "set", row("../a.wav"), row(str(tmp_path / "a.wav")))
    with pytest.raises(DataError, match=r"every row leads out of .*set, the first to '\.\./a\.wav'\n.*outside = true"):
        read(folder, reader)
    allowed = read(folder, reader, outside=True)
    assert [segment.recording for segment in allowed.segments] == [folder / "../a.wav", tmp_path / "a.wav"]
    (folder / "linked.wav").symlink_to(tmp_path / "a.wav")
    jsonl(folder, row("linked.wav"), row("x/../linked.wav"))
    data = read(folder, reader)
    assert [segment.recording for segment in data.segments] == [folder / "linked.wav"]
    assert "outside = true" in data.problems[0].detail


def test_absolute_paths_into_the_folder(tmp_path: Path, reader: AudioReader, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, clip = tmp_path / "set", tone(tmp_path / "set" / "clips" / "a.wav", 3.0)
    tone(tmp_path / "settings" / "b.wav", 1.0)
    names = [str(clip), "clips/a.wav", f"{folder}/x/../clips//a.wav", str(tmp_path / "settings" / "b.wav")]
    names += [f"{folder}/../settings/b.wav", "../set/clips/a.wav"]
    jsonl(folder, *(row(name, f"t{start}", start=start / 4, end=(start + 1) / 4) for start, name in enumerate(names)))
    monkeypatch.chdir(tmp_path)
    for location in (folder, Path("set")):
        data = read(location, reader)
        found = [(one.recording, one.text, one.continues) for one in data.segments]
        clip = location / "clips" / "a.wav"
        assert found == [(clip, "t0", False), (clip, "t1", True), (clip, "t2", True)]
        kind = "path outside of the folder"
        assert troubles(data) == [(f"metadata.jsonl:{line}", kind) for line in (4, 5, 6)]
        details = [problem.detail for problem in data.problems]
        assert ["is absolute, and not below" in detail for detail in details] == [True, True, False]
        assert all("outside = true" in detail for detail in details)


def test_tasks_are_known_by_other_words(tmp_path: Path, reader: AudioReader) -> None:
    tone(tmp_path / "a.wav", 2.0)
    tasks = ("Transcribe", " asr", "ASR", "ast", "s2t_translation", "Translate", "Dance")
    data = read(jsonl(tmp_path, *(row("a.wav", task, task=task) for task in tasks)), reader)
    found = {one.text: one.task for one in data.segments}
    expected = dict.fromkeys(("Transcribe", "asr", "ASR"), "transcribe")
    assert found == expected | dict.fromkeys(("ast", "s2t_translation", "Translate"), "translate")
    assert [problem.detail for problem in data.problems] == ["the task is 'Dance', not one of transcribe, translate"]


@pytest.mark.parametrize(("block_bytes", "part_bytes"), [(200, 200), (200, 4000), (1500, 120)])
def test_many_blocks_are_as_one(
    tmp_path: Path, reader: AudioReader, monkeypatch: pytest.MonkeyPatch, block_bytes: int, part_bytes: int
) -> None:
    """Lines that Arrow takes and lines that it does not, and columns of which the first rows know nothing."""
    tone(tmp_path / "a.wav", 60.0)
    plain = [row("a.wav", f"text {number}", start=number, end=number + 0.5) for number in range(40)]
    lines: list[dict[str, Any] | str] = [
        *plain[:10],
        *(one | {"speaker": "Bo", "lang": "sv"} for one in plain[10:20]),
        *plain[20:22],
        "",
        "{broken",
        '  {"file_name": "a.wav", "text": "half \\ud800", "start": "22.5", "end": 23}',
        row("a.wav", "wrong", start=[1], end=2),
        row("a.wav", ["no text"]),
        row("a.wav", "nan", start=float("nan"), end=2),
        *(one | {"speaker": 12} for one in plain[25:30]),
        *plain[30:],
    ]
    whole = read(jsonl(tmp_path, *lines), reader)
    monkeypatch.setattr("whispertune.data.sources.lines._BLOCK_BYTES", block_bytes)
    monkeypatch.setattr("whispertune.data.sources.lines._PART_BYTES", part_bytes)
    in_blocks = read(tmp_path, reader)
    assert list(in_blocks.segments) == list(whole.segments)
    assert in_blocks.problems == whole.problems
    assert troubles(whole) == [
        ("metadata.jsonl:24", "malformed row"),
        ("metadata.jsonl:26", "wrong times"),
        ("metadata.jsonl:27", "malformed row"),
        ("metadata.jsonl:28", "wrong times"),
    ]
    by_id = {segment.id: segment for segment in whole.segments}
    assert by_id["metadata.jsonl:11"].speaker == "Bo"
    assert by_id["metadata.jsonl:11"].language == "sv"
    assert told(by_id["metadata.jsonl:25"])[:3] == (22.5, 23.0, "half \ufffd")
    assert by_id["metadata.jsonl:29"].speaker == "12"
    assert by_id["metadata.jsonl:43"].text == "text 39"


def test_files_that_are_no_text_say_where(tmp_path: Path, reader: AudioReader) -> None:
    good = json.dumps(row("a.wav")).encode()
    for name, second, what in (("x.jsonl", b"\xff", "is not UTF-8: byte 0xff"), ("x.jsonl", b"\0", "zero bytes")):
        (tmp_path / name).write_bytes(good + b"\n" + second + b"\n")
        with pytest.raises(DataError, match=what):
            read(tmp_path / name, reader)
    (tmp_path / "x.csv").touch()
    with pytest.raises(DataError, match=r"x\.csv: holds no rows"):
        read(tmp_path / "x.csv", reader)
    with pytest.raises(DataError, match=r"none\.csv: cannot be read"):
        read(tmp_path / "none.csv", reader)
    with pytest.raises(DataError, match="holds none of metadata"):
        read(tmp_path, reader)


def test_a_manifest_that_translates_into_another_language_says_so(tmp_path: Path, reader: AudioReader) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000), 16_000)
    row = {"audio_filepath": "a.wav", "text": "Guten Tag", "source_lang": "sv", "target_lang": "de"}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(row) + "\n")
    data = read_manifest(SourceSpec(str(tmp_path / "manifest.jsonl")), reader)
    assert [(segment.task, segment.language) for segment in data.segments] == [("translate", "sv")]
    assert any("translation into de is new to Whisper" in note for note in data.notes)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv"])
def test_an_empty_text_is_kept_where_rows_are_scored_and_a_missing_one_never(
    kind: str, tmp_path: Path, reader: AudioReader
) -> None:
    for name in "abcd":
        tone(tmp_path / f"{name}.wav", 1.0)
    if kind == "jsonl":
        jsonl(tmp_path, row("a.wav", "x"), row("b.wav", ""), row("c.wav", " "), row("d.wav", None))
    else:
        mark = "," if kind == "csv" else "\t"
        lines = ("file_name,text", "a.wav,x", "b.wav,", "c.wav, ", "d.wav")
        (tmp_path / f"metadata.{kind}").write_text("\n".join(lines).replace(",", mark) + "\n")
    data = read_manifest(SourceSpec(str(tmp_path), language="sv"), reader)
    assert [each.text for each in data.segments] == ["x"]
    assert [(each.kind, each.detail) for each in data.problems] == [
        ("empty text", "the text is empty"),
        ("empty text", "the text is empty"),
        ("empty text", "the row has no text"),
    ]
    scored = read_manifest(SourceSpec(str(tmp_path), language="sv", empty_texts=True), reader)
    assert [each.text for each in scored.segments] == ["x", "", ""]
    assert [each.detail for each in scored.problems] == ["the row has no text"]
