"""Datasets that go to the hub, come from it as streams, and are made of other datasets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.hub_server import Hub
from tests.prepare.conftest import clips, long_manifest, recipe_of, talk
from whispertune.cli.prepare import prepare
from whispertune.data.audio import AudioReader
from whispertune.data.segments import SourceSpec
from whispertune.data.sources.dataset import read_dataset
from whispertune.data.table import as_table
from whispertune.errors import InputError, WhispertuneError
from whispertune.prepare.push import push_dataset
from whispertune.prepare.run import prepare_dataset
from whispertune.recipe_file import parse_recipe, save_recipe
from whispertune.reporting import Reporter

BESIDE = {"README.md", "dropped.jsonl", "prepare.json"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of train, one of validation."""
    folder = tmp_path_factory.mktemp("push")
    clips(folder / "dev", 3, 1.5, seed=50)
    prepare_dataset(recipe_of(long_manifest(folder / "train", 10), folder / "dev"), folder / "dataset", processes=2)
    return folder / "dataset"


def files_of(dataset: Path) -> dict[str, bytes]:
    shards = {f"data/{path.name}": path.read_bytes() for path in (dataset / "data").iterdir()}
    return shards | {name: (dataset / name).read_bytes() for name in BESIDE}


def uploads(hub: Hub) -> int:
    return sum(one.method == "PUT" and one.path.startswith("/lfs/") for one in hub.requests)


def test_a_pushed_dataset_is_private_and_loads(dataset: Path, hub: Hub) -> None:
    from datasets import load_dataset

    pushed = push_dataset(dataset, "me/mine", public=False, reporter=Reporter()).files
    assert hub.repos["datasets", "me/mine"].private
    there = hub.files("me/mine")
    assert {name: content for name, content in there.items() if name in pushed} == files_of(dataset)
    assert set(pushed) == set(files_of(dataset))
    found = load_dataset("me/mine")
    assert {name: len(rows) for name, rows in found.items()} == {"train": 60, "validation": 3}


def test_what_is_there_is_not_sent_again(dataset: Path, hub: Hub) -> None:
    """After a push that broke off behind its first shard, and after a whole one."""
    shard = "data/train-00000-of-00002.parquet"
    begun = {shard: (dataset / shard).read_bytes(), ".gitattributes": b"*.parquet filter=lfs\n"}
    hub.add_repo("me/mine", begun, private=True)
    push_dataset(dataset, "me/mine", public=False, reporter=Reporter())
    assert uploads(hub) == 2
    assert set(hub.files("me/mine")) == {*files_of(dataset), ".gitattributes"}
    assert push_dataset(dataset, "me/mine", public=False, reporter=Reporter()).removed == ()
    assert uploads(hub) == 2


def test_shards_of_an_earlier_dataset_go_and_nothing_else(dataset: Path, hub: Hub) -> None:
    stale = "data/train-00005-of-00009.parquet"
    mine = {"interviews/train-00000-of-00001.parquet": b"mine", "data/notes.parquet": b"mine", "raw.csv": b"mine"}
    hub.add_repo("me/mine", {**files_of(dataset), **mine, stale: b"of an earlier dataset"}, private=True)
    assert push_dataset(dataset, "me/mine", public=False, reporter=Reporter()).removed == (stale,)
    assert hub.files("me/mine") == files_of(dataset) | mine


@pytest.mark.parametrize(
    "theirs",
    [
        {"README.md": b"---\n---\nmy own card", "interviews/train-0.parquet": b"1", "raw.csv": b"2", "talk.wav": b"3"},
        {"data/train-00000-of-00002.parquet": b"another's, by the name that the hub's library gives"},
        {"prepare.json": b'["another\'s"]'},
    ],
)
def test_what_others_put_there_is_left_alone(theirs: dict[str, bytes], dataset: Path, hub: Hub) -> None:
    hub.add_repo("me/corpus", theirs, private=True)
    with pytest.raises(InputError, match=r"me/corpus: the repository holds other files \([\s\S]*of its own"):
        push_dataset(dataset, "me/corpus", public=False, reporter=Reporter())
    assert hub.files("me/corpus") == theirs
    assert uploads(hub) == 0


def test_public_only_when_asked_for(dataset: Path, hub: Hub) -> None:
    hub.add_repo("me/open", {})
    with pytest.raises(InputError, match=r"is there already and is public[\s\S]*--public"):
        push_dataset(dataset, "me/open", public=False, reporter=Reporter())
    push_dataset(dataset, "me/open", public=True, reporter=Reporter())
    assert not hub.repos["datasets", "me/open"].private


@pytest.mark.parametrize("whose", ["nobody", "stranger"])
def test_no_right_to_write_is_one_clear_line(
    whose: str, dataset: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    if whose == "stranger":
        monkeypatch.setenv("HF_TOKEN", hub.stranger_token)
    with pytest.raises(InputError, match=r"(?s)me/mine: the hub does not let us write there.*hf auth login"):
        push_dataset(dataset, "me/mine", public=False, reporter=Reporter())


def test_a_hub_that_is_not_there(dataset: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the port of discard, which nobody serves
    with pytest.raises(WhispertuneError, match=r"(?s)the hub failed.*run the same command again") as raised:
        push_dataset(dataset, "me/mine", public=False, reporter=Reporter())
    assert raised.value.exit_code == 1


def test_a_connection_that_breaks_in_the_middle(dataset: Path, hub: Hub) -> None:
    hub.break_uploads(after=1)
    with pytest.raises(WhispertuneError, match=r"(?s)the hub failed.*run the same command again"):
        push_dataset(dataset, "me/broken", public=False, reporter=Reporter())
    hub.mend_uploads()
    push_dataset(dataset, "me/broken", public=False, reporter=Reporter())
    assert files_of(dataset).items() <= hub.files("me/broken").items()


def streamed(source: str, **more: object) -> dict[str, object]:
    return {"source": source, "streaming": True} | more


def test_a_stream_from_the_hub_makes_a_shard_of_each_of_its_own(dataset: Path, tmp_path: Path, hub: Hub) -> None:
    hub.add_repo("me/mine", files_of(dataset), private=True)
    recipe = parse_recipe({"model": "none", "data": {"train": [streamed("hub:me/mine:train", language="sv")]}})
    summary = prepare_dataset(recipe, tmp_path / "out", processes=2)
    assert summary.splits[0].shards == 2
    assert texts(tmp_path / "out", "train") == texts(dataset, "train")


def texts(dataset: Path, split: str) -> list[str]:
    files = sorted((dataset / "data").glob(f"{split}-*"))
    return [text for file in files for text in pq.read_table(file, columns=["text"])["text"].to_pylist()]


def table_of(dataset: Path) -> list[dict[str, object]]:
    own = ("id", "source", "recording")
    files = sorted((dataset / "data").glob("train-*"))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    return [{name: value for name, value in row.items() if name not in own} for row in rows]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("streaming", [False, True])
def test_a_dataset_of_a_dataset_is_the_same(streaming: bool, talks: Path, tmp_path: Path) -> None:
    """Audio, what is before it, chains and times; streamed too."""
    prepare_dataset(recipe_of(talks), tmp_path / "one")
    source = {"source": f"dataset:{tmp_path / 'one'}:train", "streaming": streaming}
    again = parse_recipe({"model": "none", "data": {"train": [source]}})
    prepare_dataset(again, tmp_path / "two")
    assert table_of(tmp_path / "two") == table_of(tmp_path / "one")


@pytest.mark.usefixtures("here")
def test_a_stream_with_a_limit_is_one_shard(dataset: Path, tmp_path: Path) -> None:
    recipe = parse_recipe({"model": "none", "data": {"train": [streamed(f"dataset:{dataset}:train", limit_rows=35)]}})
    (split,) = prepare_dataset(recipe, tmp_path / "out").splits
    assert (split.rows, split.shards) == (35, 1)
    assert texts(tmp_path / "out", "train") == texts(dataset, "train")[:35]


@pytest.mark.usefixtures("here")
def test_streams_stand_beside_other_sources(dataset: Path, tmp_path: Path, reader: AudioReader) -> None:
    talk(tmp_path / "talks", "a", [(1.0, 3.0), (3.5, 5.5), (6.0, 8.0)], 9.0, seed=20)
    data = {"train": [streamed(f"dataset:{dataset}:train"), {"source": str(tmp_path / "talks")}]}
    recipe = parse_recipe({"model": "none", "language": "sv", "data": data})
    (split,) = prepare_dataset(recipe, tmp_path / "out", processes=2).splits
    assert (split.rows, split.shards) == (63, 3)
    table = as_table(read_dataset(SourceSpec(str(tmp_path / "out")), reader).segments)
    assert table.ids.to_pylist()[:3] == ["1/a.vtt:3", "1/a.vtt:6", "1/a.vtt:9"]
    assert np.flatnonzero(table.continues).tolist() == [1, 2]


@pytest.mark.usefixtures("here")
def test_the_command(talks: Path, tmp_path: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    save_recipe(recipe_of(talks), tmp_path / "recipe.toml")
    stale = "data/train-00001-of-00002.parquet"
    mark = json.dumps({"digest": "", "splits": [], "shards": []}).encode()
    hub.add_repo("me/talks", {"prepare.json": mark, stale: b"of an earlier dataset"}, private=True)
    prepare(tmp_path / "recipe.toml", ["clean.case=lower"], out=tmp_path / "out", push="me/talks")
    told = capsys.readouterr().out
    assert "train: 24 rows, 0.02 h in 1 shards" in told
    assert "pushed to me/talks (private):\n  data/train-00000-of-00001.parquet\n  README.md" in told
    assert f"removed there, of an earlier dataset: {stale}" in told
    assert all(text == text.lower() for text in texts(tmp_path / "out", "train"))
    prepare(tmp_path / "recipe.toml", ["clean.case=lower"], out=tmp_path / "out", json=True)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["complete"], found["splits"][0]["rows"]) == (True, 24)
    with pytest.raises(InputError, match="--public says who may see"):
        prepare(tmp_path / "recipe.toml", out=tmp_path / "out", public=True)
