"""Releases of Common Voice: Scripted and Spontaneous Speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from whispertune.data.audio import AudioReader
from whispertune.data.segments import SourceSpec
from whispertune.data.sources import open_source
from whispertune.data.sources.commonvoice import (
    holds_commonvoice,
    is_commonvoice,
    parse_commonvoice,
    read_commonvoice,
)
from whispertune.errors import DataError

COLUMNS = (
    "client_id path sentence_id sentence sentence_domain up_votes down_votes age gender accents variant locale segment"
)
SPONTANEOUS_COLUMNS = (
    "client_id audio_id audio_file duration_ms prompt_id prompt transcription votes age gender accents variant "
    "language prompt_upvotes prompt_reports is_edited split char_per_sec quality_tags"
)
UNMATCHED = '"' + '""' * 100_000 + "a"  # for minutes of work, where each way to pair the quotes is tried


def noise(path: Path, seed: int) -> None:
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).normal(0, 0.1, 24_000), 24_000)


def row(columns: str, **values: str) -> str:
    return "\t".join(values.get(name, "") for name in columns.split())


def clip(number: int, sentence: str, up: int = 2, down: int = 0, locale: str = "sv-SE", speaker: str = "s1") -> str:
    return row(
        COLUMNS,
        client_id=speaker,
        path=f"common_voice_sv-SE_{number}.mp3",
        sentence=sentence,
        up_votes=str(up),
        down_votes=str(down),
        locale=locale,
    )


def write(file: Path, columns: str, *rows: str, end: str = "\n") -> None:
    header = "\t".join(columns.split())
    file.write_bytes("".join(line + end for line in (header, *rows)).encode())


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """cv-corpus-22.0-2025-06-20/sv-SE with six clips."""
    folder = tmp_path / "cv-corpus-22.0-2025-06-20" / "sv-SE"
    folder.mkdir(parents=True)
    for number in range(1, 7):
        noise(folder / "clips" / f"common_voice_sv-SE_{number}.mp3", number)
    first, second = clip(1, '"Hej," sa hon.'), clip(2, 'Han svarade "nej', speaker="s2")
    write(folder / "train.tsv", COLUMNS, first, second)
    write(folder / "dev.tsv", COLUMNS, clip(3, "Tre."))
    write(folder / "test.tsv", COLUMNS, clip(4, "Fyra."))
    write(folder / "validated.tsv", COLUMNS, second, clip(3, "Tre."), clip(4, "Fyra."), first, clip(5, "Fem."))
    write(folder / "other.tsv", COLUMNS, clip(6, "Sex.", 0, 0), clip(7, "Sju.", 1, 1), clip(8, "Åtta.", 2, 1))
    lengths = [f"common_voice_sv-SE_{number}.mp3\t{990 + number}" for number in range(1, 7)]
    write(folder / "clip_durations.tsv", "clip duration[ms]", *lengths)
    return folder


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_train_is_read_unless_told_otherwise(release: Path, reader: AudioReader, end: str) -> None:
    text = (release / "train.tsv").read_text("utf-8")
    (release / "train.tsv").write_bytes(text.replace("\n", end).encode())
    data = read_commonvoice(SourceSpec(str(release)), reader)
    first, second = data.segments
    assert first.text == '"Hej," sa hon.'
    assert second.text == 'Han svarade "nej'
    assert first.recording == release / "clips" / "common_voice_sv-SE_1.mp3"
    assert (first.language, first.speaker, second.speaker) == ("sv", "s1", "s2")
    assert (first.id, first.start_s) == ("common_voice_sv-SE_1", 0.0)
    assert first.end_s == pytest.approx(1.0, abs=0.1)
    assert data.problems == ()


def test_a_clip_of_several_splits_is_read_once(release: Path, reader: AudioReader) -> None:
    spec = SourceSpec(f"{release.parent}:train+validated+train")
    data = read_commonvoice(spec, reader)
    assert [one.id[-1] for one in data.segments] == ["1", "2", "3", "4", "5"]
    limited = SourceSpec(spec.location, limit_rows=3)
    assert [one.id[-1] for one in read_commonvoice(limited, reader).segments] == ["1", "2", "3"]
    assert len(parse_commonvoice(SourceSpec(f"{release}:validated+train"))) == 1


def test_lengths_are_taken_from_the_release(release: Path) -> None:
    (raw,) = parse_commonvoice(SourceSpec(str(release)))
    assert list(raw.duration_s or ()) == [0.991, 0.992]
    (release / "clip_durations.tsv").write_text("clip\tduration_ms\ncommon_voice_sv-SE_2.mp3\t1500\n")
    (raw,) = parse_commonvoice(SourceSpec(str(release)))
    assert list(raw.duration_s or ()) == [None, 1.5]
    (release / "clip_durations.tsv").write_text("clip\tseconds\n")
    with pytest.raises(DataError, match="does not say the lengths"):
        parse_commonvoice(SourceSpec(str(release)))
    (release / "clip_durations.tsv").unlink()
    (raw,) = parse_commonvoice(SourceSpec(str(release)))
    assert list(raw.duration_s or ()) == [None, None]


def test_votes_count_where_nobody_has_decided(release: Path) -> None:
    (raw,) = parse_commonvoice(SourceSpec(f"{release}:other"))
    assert list(raw.text) == ["Sex.", "Åtta."]
    (problem,) = raw.problems
    assert (problem.where, problem.kind) == (f"{release / 'other.tsv'}:3", "voted down")
    assert problem.detail == "1 for and 1 against"


def test_only_a_sentence_that_is_plainly_quoted_loses_its_quotes(release: Path) -> None:
    sentences = {
        '"""Good-bye,"" said the boy."': '"Good-bye," said the boy.',
        '"Just quoted."': '"Just quoted."',
        'The ""big"" one.': 'The ""big"" one.',
        '"Yes," he said, "no."': '"Yes," he said, "no."',
        '""Twice.""': '""Twice.""',
        '"': '"',
        UNMATCHED: UNMATCHED,
    }
    write(release / "train.tsv", COLUMNS, *(clip(number, text) for number, text in enumerate(sentences)))
    (raw,) = parse_commonvoice(SourceSpec(str(release)))
    assert list(raw.text) == list(sentences.values())


def test_rows_that_cannot_be_used_are_named(release: Path, reader: AudioReader) -> None:
    bad = ("s1\tshort", clip(9, "Borta."), clip(1, " "), clip(2, "Två."), row(COLUMNS, path="../x.mp3", sentence="Ut."))
    write(release / "train.tsv", COLUMNS, *bad)
    data = read_commonvoice(SourceSpec(str(release)), reader)
    assert [one.text for one in data.segments] == ["Två."]
    kinds = {int(problem.where.rpartition(":")[2]): problem.kind for problem in data.problems}
    assert kinds == {2: "malformed row", 3: "missing file", 4: "empty text", 6: "path outside of the folder"}


def test_the_recipe_names_the_language_of_a_locale_that_whisper_lacks(release: Path) -> None:
    write(release / "train.tsv", COLUMNS, clip(1, "Allegra.", locale="rm-vallader"))
    with pytest.raises(DataError, match="no language for the locale 'rm-vallader'"):
        parse_commonvoice(SourceSpec(str(release)))
    (raw,) = parse_commonvoice(SourceSpec(str(release), language="it"))
    assert raw.language is None
    write(release / "train.tsv", COLUMNS, clip(1, "Hej.", locale=""))  # old releases: the folder tells
    (raw,) = parse_commonvoice(SourceSpec(str(release)))
    assert list(raw.language or ()) == ["sv"]


def test_what_is_no_release_is_told(release: Path, tmp_path: Path) -> None:
    archive = tmp_path / "cv-corpus-22.0-2025-06-20-sv-SE.tar.gz"
    archive.write_bytes(b"")
    with pytest.raises(DataError, match=r"unpack it, e\.g\. with: tar -xzf cv-corpus-22\.0-2025-06-20-sv-SE\.tar\.gz"):
        parse_commonvoice(SourceSpec(f"{archive}:train"))
    with pytest.raises(DataError, match="there is no such folder"):
        parse_commonvoice(SourceSpec(f"{tmp_path / 'away'}:train"))
    with pytest.raises(DataError, match="the splits are: dev, other, test, train, validated"):
        parse_commonvoice(SourceSpec(f"{release}:traning"))
    write(release / "reported.tsv", "sentence locale reason")
    with pytest.raises(DataError, match="has no column path"):
        parse_commonvoice(SourceSpec(f"{release}:reported"))
    (release.parent / "da" / "clips").mkdir(parents=True)
    write(release.parent / "da" / "train.tsv", COLUMNS)
    with pytest.raises(DataError, match="holds several releases: da, sv-SE"):
        parse_commonvoice(SourceSpec(str(release.parent)))
    with pytest.raises(DataError, match="holds no release of Common Voice"):
        parse_commonvoice(SourceSpec(str(release / "clips")))


@pytest.fixture
def spontaneous(tmp_path: Path) -> Path:
    folder = tmp_path / "sps-corpus-3.0-2026-03-09-sv-SE"
    folder.mkdir()
    texts = {1: '"""Hej"" [disfluency] sa hon."', 2: 'Han sa "nej".', 3: UNMATCHED, 4: ""}
    splits = {1: "train", 2: "train", 3: "dev", 4: "unassigned"}
    rows = []
    for number, text in texts.items():
        name = f"spontaneous-speech-sv-SE-{number}.mp3"
        noise(folder / "audios" / name, number)
        values = {"client_id": f"s{number}", "audio_file": name, "duration_ms": "1000", "language": "Swedish"}
        rows.append(row(SPONTANEOUS_COLUMNS, transcription=text, split=splits[number], **values))
    write(folder / "ss-corpus-sv-SE.tsv", SPONTANEOUS_COLUMNS, *rows, "short")
    write(folder / "ss-reported-audios-sv-SE.tsv", "client_id audio_id")
    return folder


def test_spontaneous_speech(spontaneous: Path, reader: AudioReader) -> None:
    data = read_commonvoice(SourceSpec(f"{spontaneous}:train+dev"), reader)
    assert [(one.text, one.speaker, one.language) for one in data.segments] == [
        ('"Hej" [disfluency] sa hon.', "s1", "sv"),
        ('Han sa "nej".', "s2", "sv"),
        (UNMATCHED, "s3", "sv"),
    ]
    assert [problem.where.rpartition(":")[2] for problem in data.problems] == ["6"]
    (raw,) = parse_commonvoice(SourceSpec(f"{spontaneous}:unassigned"))
    assert (list(raw.lines), list(raw.text), list(raw.duration_s or ())) == ([5], [None], [1.0])


def test_releases_are_known_by_their_files(release: Path, spontaneous: Path, tmp_path: Path) -> None:
    assert is_commonvoice(release)
    assert is_commonvoice(spontaneous)
    assert all(map(holds_commonvoice, (release, release.parent, tmp_path)))
    assert not any(map(is_commonvoice, (release.parent, release / "clips", release / "train.tsv")))
    write(release / "validated.tsv", "path text", "common_voice_sv-SE_1.mp3\tHej.")
    for split in ("train", "dev", "test", "other"):
        (release / f"{split}.tsv").unlink()
    assert not is_commonvoice(release)  # somebody's own: its columns say so
    assert not holds_commonvoice(release.parent)


def test_what_a_folder_is_itself_counts_before_what_lies_in_it(
    release: Path, tmp_path: Path, reader: AudioReader
) -> None:
    def ids(location: Path) -> list[str]:
        return [each.id for each in open_source(SourceSpec(str(location), language="sv"), reader).segments]

    assert ids(tmp_path) == ["common_voice_sv-SE_1", "common_voice_sv-SE_2"]
    noise(tmp_path / "own.wav", 7)
    (tmp_path / "own.vtt").write_text("WEBVTT\n\n00:00.100 --> 00:00.900\nHej.\n")
    assert ids(tmp_path) == ["own.vtt:3"]
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "own.wav", "text": "Hej."}\n')
    assert ids(tmp_path) == ["metadata.jsonl:1"]
    noise(tmp_path / "clips" / "a.wav", 8)
    (tmp_path / "train.tsv").write_text("file_name\ttext\nclips/a.wav\tHej.\n")  # as a release has them, by name alone
    assert ids(tmp_path) == ["metadata.jsonl:1"]
