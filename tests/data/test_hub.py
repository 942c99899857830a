"""Hub datasets by the real clients from a hub on loopback: the same rows streamed and downloaded, and clear errors."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.hub_client import environment, streamed
from tests.hub_datasets import card, clip, common_voice, encoded, fleurs, noise, parquet, voxpopuli
from tests.hub_server import Hub
from whispertune.data.audio import AudioReader
from whispertune.data.segments import Embedded, Held, Segment, SourceData, SourceSpec
from whispertune.data.sources.hub import read_hub, stream_hub
from whispertune.errors import DataError

Told = tuple[str, str, str, str | None, bytes]


READ = pytest.mark.parametrize("read", [read_hub, streamed], ids=["downloaded", "streamed"])
Read = Callable[[SourceSpec, AudioReader], SourceData]


def told(data: SourceData, reader: AudioReader) -> set[Told]:
    """What the segments say, with what they sound like."""
    return {
        (one.id, one.text, one.language, one.speaker, reader.read(one.recording, one.start_s, one.end_s).tobytes())
        for one in data.segments
    }


@READ
def test_fleurs_takes_the_raw_transcription(hub: Hub, reader: AudioReader, read: Read) -> None:
    hub.add_repo("google/fleurs", fleurs())
    data = read(SourceSpec("google/fleurs:sv_se:train"), reader)
    assert data.problems == ()
    assert sorted(one.text for one in data.segments) == sorted(f"Mening {number}." for number in range(15))
    assert {(one.language, one.speaker, one.task) for one in data.segments} == {("sv", None, "transcribe")}
    fourth = next(one for one in data.segments if one.text == "Mening 3.")
    assert fourth.id == "hub:google/fleurs:sv_se:train:3"
    assert fourth.end_s == 1.0
    np.testing.assert_allclose(reader.read(fourth.recording), noise(3, 1.0), atol=1e-4)


@pytest.mark.parametrize(
    ("repo", "files", "location", "rows"),
    [
        ("google/fleurs", fleurs, "google/fleurs:sv_se:train+validation", 19),
        ("mozilla/cv", common_voice, "mozilla/cv:train", 2),
        ("facebook/voxpopuli", voxpopuli, "facebook/voxpopuli:test", 4),
    ],
)
def test_the_same_rows_streamed_and_downloaded(
    hub: Hub, reader: AudioReader, repo: str, files: Callable[[], dict[str, bytes]], location: str, rows: int
) -> None:
    hub.add_repo(repo, files())
    down, stream = read_hub(SourceSpec(location), reader), streamed(SourceSpec(location), reader)
    assert len(down.segments) == len(stream.segments) == rows
    assert told(down, reader) == told(stream, reader)
    assert set(down.problems) == set(stream.problems)
    assert all(isinstance(one.recording, Embedded) for one in down.segments)
    assert all(isinstance(one.recording, Held) for one in stream.segments)
    assert {one.recording.name for one in down.segments} == {one.recording.name for one in stream.segments}


@READ
def test_rows_that_cannot_be_used_are_problems(hub: Hub, reader: AudioReader, read: Read) -> None:
    hub.add_repo("mozilla/cv", common_voice())
    data = read(SourceSpec("mozilla/cv:sv-SE"), reader)
    assert [(one.text, one.language, one.speaker) for one in data.segments] == [
        ("Läs 0!", "sv", f"{0:064x}"),
        ("Läs 5!", "sv", f"{1:064x}"),
    ]
    assert [(one.where, one.kind) for one in data.problems] == [
        ("hub:mozilla/cv:sv-SE:train:1", "empty text"),
        ("hub:mozilla/cv:sv-SE:train:2", "no audio"),
        ("hub:mozilla/cv:sv-SE:train:3", "recording does not decode"),
        ("hub:mozilla/cv:sv-SE:train:4", "longer than 30 s"),
    ]
    assert data.problems[3].seconds == pytest.approx(30.5, abs=0.1)


@READ
def test_class_labels_are_their_names(hub: Hub, reader: AudioReader, read: Read) -> None:
    hub.add_repo("facebook/voxpopuli", voxpopuli())
    data = read(SourceSpec("facebook/voxpopuli:test"), reader)
    assert {(one.text[:5], one.language, one.speaker) for one in data.segments} == {
        ("Hyvää", "fi", "4398"),
        ("Hyvää", "fi", None),
    }
    normalized = read(SourceSpec("facebook/voxpopuli:default:test", columns=(("text", "normalized_text"),)), reader)
    assert {one.text[:5] for one in normalized.segments} == {"hyvää"}


def test_streaming_fetches_only_what_is_used(hub: Hub, reader: AudioReader) -> None:
    """Of two shards of 30 row groups with a large column that nobody needs: one row group or so."""
    from datasets import Audio, Features, Value

    features = Features({"audio": Audio(16_000), "text": Value("string"), "video": Value("binary")})
    rows = [
        {"audio": clip(n, 3.0), "text": f"t{n}", "video": bytes(np.random.default_rng(n).bytes(400_000))}
        for n in range(60)
    ]
    shards = {f"en/train-0000{n}-of-00002.parquet": parquet(features, rows[30 * n : 30 * n + 30], 1) for n in range(2)}
    hub.add_repo("some/large", {"README.md": card({"en": ("train",)}), **shards})
    stream = stream_hub(SourceSpec("some/large:en", limit_rows=3), reader)
    assert stream.shard_rows == (None,)
    assert [one.text for one in stream.open(0) if isinstance(one, Segment)] == ["t0", "t1", "t2"]
    assert {one.path.rpartition("/")[2] for one in hub.fetched(".parquet")} == {"train-00000-of-00002.parquet"}
    assert hub.sent_bytes(".parquet") < 3 * 97_000 + 3 * 65_536  # three clips, and the footer
    hub.requests.clear()
    stream = stream_hub(SourceSpec("some/large:en"), reader)
    assert stream.shard_rows == (30, 30)
    first = next(stream.open(1, skip=28))
    assert isinstance(first, Segment)
    assert (first.text, first.id) == ("t58", "hub:some/large:en:train:58")
    assert hub.sent_bytes(".parquet") < 97_000 * 2 + 5 * 65_536


def test_a_small_split_is_downloaded_alone_and_nothing_twice(hub: Hub, reader: AudioReader) -> None:
    def fetched() -> list[str]:
        names = sorted(one.path.rpartition("/")[2] for one in hub.fetched(".parquet"))
        hub.requests.clear()
        return names

    shards = ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "validation-00000-of-00001.parquet"]
    hub.add_repo("google/fleurs", fleurs())
    read_hub(SourceSpec("google/fleurs:sv_se:validation"), reader)
    assert fetched() == shards[2:]
    read_hub(SourceSpec("google/fleurs:sv_se:train"), reader)  # most of the configuration, so all of it
    assert fetched() == shards[:2]
    for location in ("google/fleurs:sv_se:train", "google/fleurs:sv_se:validation"):
        read_hub(SourceSpec(location), reader)
    assert fetched() == []


@READ
def test_a_revision(hub: Hub, reader: AudioReader, read: Read) -> None:
    repo = hub.add_repo("google/fleurs", fleurs())
    first = repo.branches["main"]
    swapped = fleurs() | {"sv_se/validation-00000-of-00001.parquet": fleurs()["sv_se/train-00001-of-00002.parquet"]}
    repo.commit(swapped, branch="refs/pr/1")
    assert len(read(SourceSpec("google/fleurs:sv_se:validation@refs/pr/1"), reader).segments) == 7
    for name in ("google/fleurs:sv_se:validation", f"google/fleurs:sv_se:validation@{first}"):
        assert len(read(SourceSpec(name), reader).segments) == 4


@READ
def test_limits(hub: Hub, reader: AudioReader, read: Read) -> None:
    hub.add_repo("mozilla/cv", common_voice())
    hub.add_repo("google/fleurs", fleurs())
    data = read(SourceSpec("mozilla/cv:sv-SE:train", limit_rows=2), reader)
    assert [one.text for one in data.segments] == ["Läs 0!", "Läs 5!"]
    assert len(data.problems) == 4
    assert [one.text for one in read(SourceSpec("mozilla/cv:sv-SE", limit_rows=1), reader).segments] == ["Läs 0!"]
    data = read(SourceSpec("google/fleurs:sv_se:train", limit_hours=5 / 3600), reader)  # 1 + 1.5 + 2 + 1 ...
    assert [one.text for one in data.segments] == ["Mening 0.", "Mening 1.", "Mening 2."]


def test_a_limited_stream_goes_on_where_it_was(hub: Hub, reader: AudioReader) -> None:
    hub.add_repo("mozilla/cv", common_voice())
    stream = stream_hub(SourceSpec("mozilla/cv:sv-SE:train", limit_rows=2), reader)
    whole = list(stream.open(0))
    assert [list(stream.open(0, skip)) for skip in range(7)] == [whole[skip:] for skip in range(7)]


def test_a_shard_goes_on_from_any_row(hub: Hub, reader: AudioReader) -> None:
    hub.add_repo("google/fleurs", fleurs())
    stream = stream_hub(SourceSpec("google/fleurs:sv_se:train+validation"), reader)
    assert stream.shard_rows == (8, 7, 4)
    for shard, rows in enumerate((8, 7, 4)):
        whole = list(stream.open(shard))
        assert len(whole) == rows
        assert all(list(stream.open(shard, skip)) == whole[skip:] for skip in range(rows + 1))


@pytest.mark.parametrize("times", [1, 5, 30])
def test_a_dropped_connection_loses_and_doubles_nothing(hub: Hub, reader: AudioReader, times: int) -> None:
    """The client itself tries six times; what goes on failing is opened again behind the last row that came."""
    hub.add_repo("google/fleurs", fleurs())
    stream = stream_hub(SourceSpec("google/fleurs:sv_se:train"), reader)
    assert stream.shard_rows == (8, 7)
    rows = stream.open(0)
    found = [next(rows)]
    hub.requests.clear()
    hub.drop("train-00000-of-00002.parquet", after_bytes=100, times=times)
    found += rows
    broken = [one for one in hub.requests if one.sent_bytes == 100]
    assert len(broken) == times
    assert [one.text for one in found if isinstance(one, Segment)] == [f"Mening {number}." for number in range(8)]


def test_a_connection_that_goes_on_breaking_is_one_clear_error(
    hub: Hub, reader: AudioReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "STREAMING_READ_MAX_RETRIES", 2)
    hub.add_repo("google/fleurs", fleurs())
    stream = stream_hub(SourceSpec("google/fleurs:sv_se:train"), reader)
    hub.drop(".parquet", after_bytes=100, times=1000)
    with pytest.raises(DataError, match=r"hub:google/fleurs:sv_se:train: the connection broke off 3 times in a row\n"):
        list(stream.open(0))


def test_a_download_is_repeated_where_the_connection_drops(hub: Hub, reader: AudioReader) -> None:
    hub.add_repo("google/fleurs", fleurs())
    hub.drop("train-00000-of-00002.parquet", after_bytes=100_000)
    assert len(read_hub(SourceSpec("google/fleurs:sv_se:train"), reader).segments) == 15
    size = len(hub.files("google/fleurs")["sv_se/train-00000-of-00002.parquet"])
    assert [one.sent_bytes for one in hub.fetched("train-00000-of-00002.parquet")] == [100_000, size]


def test_stated_durations_count_only_where_they_are_right(hub: Hub, reader: AudioReader) -> None:
    from datasets import Audio, Features, Value

    features = Features({"audio": Audio(16_000), "text": Value("string"), "duration": Value("float32")})

    def lengths(*stated_s: float | None) -> list[float]:
        rows = [{"audio": clip(1, 2.0), "text": "x", "duration": stated} for stated in stated_s]
        name = f"some/stated{len(hub.repos)}"
        hub.add_repo(name, {"README.md": card({"en": ("train",)}), "en/train-0.parquet": parquet(features, rows)})
        return [round(one.end_s, 2) for one in read_hub(SourceSpec(f"{name}:en"), reader).segments]

    assert lengths(2.0, 2.01, 2.0) == [2.0, 2.01, 2.0]  # believed to the second digit
    assert lengths(2000.0, 2000.0, 2000.0) == [2.0, 2.0, 2.0]  # milliseconds
    assert lengths(2.0, 20.0, None, 2.0, -1.0) == [2.0, 2.0, 2.0, 2.0, 2.0]


@READ
def test_a_folder_of_audio_files(hub: Hub, reader: AudioReader, read: Read) -> None:
    """Not Parquet: files of their own, which the library streams in its way."""
    rows = [json.dumps({"file_name": f"{n}.wav", "text": f"t{n}"}) for n in range(3)]
    files = {f"train/{n}.wav": encoded(n, 1.0) for n in range(3)}
    hub.add_repo("some/folder", files | {"train/metadata.jsonl": "\n".join(rows).encode()})
    data = read(SourceSpec("some/folder:train", language="en"), reader)
    assert sorted(one.text for one in data.segments) == ["t0", "t1", "t2"]
    for one in data.segments:
        np.testing.assert_allclose(reader.read(one.recording), noise(int(one.text[1:]), 1.0), atol=1e-4)


@READ
def test_a_folder_in_an_archive(hub: Hub, reader: AudioReader, read: Read) -> None:
    """Streamed it is read from the archive; downloaded, the library leaves the archive as it is."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("0.wav", encoded(0, 1.0))
        archive.writestr("metadata.jsonl", json.dumps({"file_name": "0.wav", "text": "t0"}))
    hub.add_repo("some/archive", {"data/train.zip": file.getvalue()})
    data = read(SourceSpec("some/archive", language="en"), reader)
    if read is streamed:
        assert [one.text for one in data.segments] == ["t0"]
        np.testing.assert_allclose(reader.read(data.segments[0].recording), noise(0, 1.0), atol=1e-4)
    else:
        assert [one.kind for one in data.problems] == ["no audio"]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of audio of this machine, as a stranger may write them into a row."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "secret.wav").write_bytes(encoded(1, 1.0))
    monkeypatch.chdir(tmp_path)
    absolute = (tmp_path / "own" / "secret.wav").resolve()
    return [str(absolute), "own/secret.wav", absolute.as_uri()]


@READ
def test_rows_of_parquet_do_not_name_files_of_this_machine(
    hub: Hub, reader: AudioReader, read: Read, elsewhere: list[str]
) -> None:
    from datasets import Audio, Features, Value

    rows = [{"audio": {"bytes": None, "path": path}, "text": "x"} for path in elsewhere]
    rows.append({"audio": clip(1, 1.0), "text": "good"})
    shard = parquet(Features({"audio": Audio(16_000), "text": Value("string")}), rows)
    hub.add_repo("some/stranger", {"README.md": card({"en": ("train",)}), "en/train-0.parquet": shard})
    data = read(SourceSpec("some/stranger:en"), reader)
    assert [one.text for one in data.segments] == ["good"]
    assert [one.kind for one in data.problems] == ["no audio"] * 3


@READ
@pytest.mark.parametrize("name", ["train-0.jsonl", "metadata.jsonl"])  # rows, and what describes a folder of audio
def test_rows_of_json_do_not_name_files_of_this_machine(
    hub: Hub, reader: AudioReader, read: Read, elsewhere: list[str], name: str
) -> None:
    paths = [*elsewhere, f"{hub.url}/evil.wav", f"{elsewhere[0]}::hf://datasets/some/stranger@main/en/a.wav"]
    rows = [{"sound": {"bytes": None, "path": path}, "text": "x", "file_name": "a.wav"} for path in paths]
    content = "\n".join(map(json.dumps, rows)).encode()
    files = {f"en/{name}": content} | ({"en/a.wav": encoded(2, 1.0)} if name == "metadata.jsonl" else {})
    hub.add_repo("some/stranger", {"README.md": card({"en": ("train",)}).replace(b"train-*", b"*")} | files)
    data = read(SourceSpec("some/stranger:en", columns=(("audio", "sound"),)), reader)
    assert len(data.segments) == 0
    assert [one.kind for one in data.problems] == ["no audio"] * 5
    assert not hub.fetched("evil.wav")


@READ
def test_a_web_dataset(hub: Hub, reader: AudioReader, read: Read) -> None:
    """Archives whose files of one name make a row; several are several shards."""
    shards = {}
    for shard in range(2):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as archive:
            for n in (2 * shard, 2 * shard + 1):
                for suffix, content in (("flac", encoded(n, 1.0, "FLAC")), ("txt", f"t{n}".encode())):
                    entry = tarfile.TarInfo(f"{n}.{suffix}")
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
        shards[f"data/train-{shard}.tar"] = file.getvalue()
    hub.add_repo("some/web", shards)
    data = read(SourceSpec("some/web", language="en"), reader)
    assert sorted(one.text for one in data.segments) == ["t0", "t1", "t2", "t3"]
    assert len({one.id for one in data.segments}) == 4
    for one in data.segments:
        np.testing.assert_allclose(reader.read(one.recording), noise(int(one.text[1:]), 1.0), atol=1e-3)


def test_another_process_with_nothing_but_the_environment(hub: Hub, tmp_path: Path) -> None:
    """HF_ENDPOINT, HF_HOME and HF_TOKEN are enough, and nothing is printed beside what we print."""
    hub.add_repo("me/own", fleurs(), private=True)
    code = """
from whispertune.data.audio import AudioReader
from whispertune.data.segments import SourceSpec
from whispertune.data.sources.hub import read_hub, stream_hub
spec = SourceSpec("me/own:sv_se:train+validation")
with AudioReader() as audio:
    texts = [one.text for one in read_hub(spec, audio).segments]
    stream = stream_hub(spec, audio)
    print(sorted(texts) == sorted(one.text for shard in range(3) for one in stream.open(shard)), len(texts))
"""
    command = [sys.executable, "-W", "error", "-c", code]
    run = subprocess.run(
        command, env=environment(hub, tmp_path / "fresh", hub.token), capture_output=True, text=True, check=False
    )
    assert (run.stdout, run.stderr) == ("True 19\n", "")
    assert (tmp_path / "fresh" / "datasets").is_dir()


def test_what_is_pushed_comes_back(hub: Hub, reader: AudioReader, tmp_path: Path) -> None:
    from huggingface_hub import HfApi

    for name, content in fleurs().items():
        (tmp_path / "made" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "made" / name).write_bytes(content)
    api = HfApi(token=hub.token)
    api.create_repo("me/pushed", repo_type="dataset", private=True)
    api.upload_folder(repo_id="me/pushed", folder_path=tmp_path / "made", repo_type="dataset")
    assert hub.files("me/pushed") == fleurs()
    assert hub.repos["datasets", "me/pushed"].private
    hub.repos["datasets", "me/pushed"].private = False
    assert len(streamed(SourceSpec("me/pushed:sv_se:train"), reader).segments) == 15
