"""Files of torch.save, damaged or meant to do damage: one clear error each, and no memory taken for a lie.

What they hold (a whole checkpoint, a model's weights, an adapter) differs; what reads them is one.
"""

from __future__ import annotations

import io
import json
import pickletools
import re
import shutil
import struct
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch

from tests.model.archives import HOSTILE, HUGE, KINDS, MODEL, Kind, list_of, number, records, zipped
from tests.model.damage import ROOM_BYTES, error_of, flipped, little_room
from whispertune.errors import ModelError
from whispertune.model.formats.pickles import read_pickle, read_tensors
from whispertune.model.formats.weights import read_weights
from whispertune.model.load import ModelFolder
from whispertune.model.parameters import merged_state

# peft 0.21 asks transformers 5.23 by a name that is going.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

NUMBERS = ("BININT", "BININT1", "BININT2")


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest, tiny: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Kind:
    return KINDS[request.param](tiny, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def good(kind: Kind) -> bytes:
    return kind.path.read_bytes()


@pytest.fixture(scope="module")
def whole(kind: Kind, good: bytes) -> dict[str, np.ndarray]:
    kind.path.write_bytes(good)
    return {name: np.array(array) for name, array in kind.read().items()}


@pytest.fixture(scope="module")
def content(kind: Kind, good: bytes) -> dict[str, bytes]:
    kind.path.write_bytes(good)
    return records(kind.path)


def refused(kind: Kind) -> str:
    """The message of the one error."""
    error = error_of(kind.read)
    assert error is not None
    assert str(error.where).startswith(str(kind.path.parent))
    return error.what


def refused_or_same(kind: Kind, whole: dict[str, np.ndarray]) -> bool:
    """Whether it was refused; if not, it must hold what the whole file does."""
    found: list[Mapping[str, np.ndarray]] = []
    if error_of(lambda: found.append(kind.read())):
        return True
    (again,) = found
    assert again.keys() == whole.keys()
    assert all(np.array_equal(again[name], array) for name, array in whole.items())
    return False


def test_what_limits_memory_sees_all_of_it() -> None:
    for take in (lambda: torch.ones(1 << 28), lambda: np.ones(1 << 28), lambda: bytearray(1 << 30)):
        with little_room(), pytest.raises((MemoryError, RuntimeError)):
            take()


def test_an_archive_rebuilt_is_still_read(kind: Kind, content: dict[str, bytes], whole: dict[str, np.ndarray]) -> None:
    """In little room, so that what the next tests change is what makes the difference."""
    zipped(kind.path, content)
    assert not refused_or_same(kind, whole)


def test_truncated_files(kind: Kind, good: bytes) -> None:
    for length in (*(len(good) * part // 20 for part in range(20)), len(good) - 1):
        kind.path.write_bytes(good[:length])
        refused(kind)


def test_flipped_bits_of_weights_and_lists(kind: Kind, good: bytes, content: dict[str, bytes]) -> None:
    random = np.random.default_rng(0)
    for name, blob in content.items():
        start = good.index(blob) if len(blob) > 16 else 0  # of what is found there and nowhere else
        for _ in range(20 if name.endswith(("data.pkl", "data/0")) else bool(start)):
            kind.path.write_bytes(flipped(good, start + int(random.integers(len(blob))), int(random.integers(8))))
            assert re.search("checksum|CRC", refused(kind))


def test_flipped_bits_of_the_directory(kind: Kind, good: bytes, whole: dict[str, np.ndarray]) -> None:
    """Dates and the like carry nothing; whatever else is flipped is refused."""
    random = np.random.default_rng(1)
    begin = struct.unpack("<I", good[-6:-2])[0] if good[-22:-18] == b"PK\5\6" else good.index(b"PK\1\2")
    hits = 0
    for position in random.integers(begin, len(good), 40):
        kind.path.write_bytes(flipped(good, int(position), int(random.integers(8))))
        hits += refused_or_same(kind, whole)
    assert hits > 10


def test_other_kinds_of_files(kind: Kind) -> None:
    for other in (b"", b"PK", bytes(1000), b"\x93NUMPY"):
        kind.path.write_bytes(other)
        refused(kind)
    torch.save({"a": torch.ones(2)}, kind.path, _use_new_zipfile_serialization=False)
    error = error_of(kind.read)
    assert error is not None
    assert "before 1.6" in error.what
    assert "save it again" in str(error.fix)


def test_lists_that_claim_other_sizes(kind: Kind, content: dict[str, bytes], whole: dict[str, np.ndarray]) -> None:
    """A number in the pickle, with the right checksum: what is not refused is of no use to anybody."""
    name = list_of(content)
    found = [(operation.name, at) for operation, _, at in pickletools.genops(content[name])]
    ends = {at: end for (_, at), (_, end) in pairwise(found)}
    places = [at for what, at in found if what in NUMBERS]
    random = np.random.default_rng(0)
    hits = 0
    for at in random.choice(places, 24, replace=False).tolist():
        for lie in (number(HUGE), b"J" + struct.pack("<i", -1), b"N", b"K\x00"):
            if lie != content[name][at : ends[at]]:
                zipped(kind.path, content | {name: content[name][:at] + lie + content[name][ends[at] :]})
                hits += refused_or_same(kind, whole)
    assert hits > 40


def test_records_that_are_not_as_long_as_listed(kind: Kind, content: dict[str, bytes]) -> None:
    for name in [each for each in content if "/data/" in each][:6]:
        rest = {each: blob for each, blob in content.items() if each != name}
        for changed in ({}, {name: content[name][:-2]}, {name: content[name] + bytes(2)}):
            zipped(kind.path, rest | changed)
            refused(kind)
    zipped(kind.path, content, ZIP_DEFLATED)
    assert "compressed" in refused(kind)


def test_a_compressed_list_of_much_nothing(kind: Kind, content: dict[str, bytes]) -> None:
    name = next(each for each in content if each.endswith("/data/0"))
    zipped(kind.path, {each: blob for each, blob in content.items() if each != name})
    nothing = bytes(1 << 20)
    with ZipFile(kind.path, "a", ZIP_DEFLATED) as archive, archive.open(name, "w") as record:
        for _ in range(2 * ROOM_BYTES // len(nothing)):
            record.write(nothing)
    refused(kind)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles(name: str, kind: Kind, content: dict[str, bytes]) -> None:
    zipped(kind.path, content | {list_of(content): HOSTILE[name]})
    refused(kind)


def test_an_archive_in_an_archive(kind: Kind, content: dict[str, bytes]) -> None:
    """Two lists, of which others would take the one and we might check the other."""
    inner = io.BytesIO()
    torch.save({}, inner)
    zipped(kind.path, {"other/data.pkl": b"\x80\x02}."} | content)
    refused(kind)
    zipped(kind.path, {"model/data/x": inner.getvalue()})
    refused(kind)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_records_of_one_name(kind: Kind, content: dict[str, bytes]) -> None:
    zipped(kind.path, content)
    with ZipFile(kind.path, "a") as archive:
        archive.writestr(list_of(content), b"\x80\x02}.")
    assert "two records" in refused(kind)


def test_numbers_of_other_machines(kind: Kind, content: dict[str, bytes]) -> None:
    (name,) = [each for each in content if each.endswith("byteorder")]
    zipped(kind.path, content | {name: b"big"})
    assert "highest byte first" in refused(kind)


# --- what is read -----------------------------------------------------------------------------------------------------


def test_views_of_a_storage_are_read_as_they_are(tmp_path: Path) -> None:
    numbers = torch.arange(24.0).reshape(4, 6)
    state = {"all": numbers, "turned": numbers.T, "part": numbers[1:3, ::2], "one": torch.tensor(3.0)}
    state |= {"half": numbers.half(), "short": numbers.bfloat16(), "kept": torch.nn.Parameter(torch.ones(2))}
    torch.save(state, tmp_path / "a.bin")
    found = read_tensors(tmp_path / "a.bin")
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(found[name].tensor(), tensor)
        assert found[name].tensor().dtype == tensor.dtype
        expected = tensor.detach().float() if tensor.dtype == torch.bfloat16 else tensor.detach()
        assert np.array_equal(found[name].array(), expected.numpy())


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(1).expand(1000),
        torch.ones(16).as_strided((4, 4), (1, 1)),
        torch.ones(0),
        torch.ones(2, dtype=torch.int64),
        torch.ones(2).to_sparse(),
    ],
)
def test_tensors_that_are_no_weights(tensor: torch.Tensor, tmp_path: Path) -> None:
    torch.save({"a": tensor}, tmp_path / "a.bin")
    assert error_of(lambda: read_tensors(tmp_path / "a.bin"))


def test_one_storage_is_not_made_many(tmp_path: Path) -> None:
    """Two names may share one, as tied weights do; a hundred may not."""
    tensor = torch.ones(1000)
    torch.save({"a": tensor, "b": tensor}, tmp_path / "a.bin")
    assert len(read_tensors(tmp_path / "a.bin")) == 2
    for copied in (tensor, tensor.view(-1)):  # listed once, or again and again
        names = {str(name): copied if name % 2 else copied.view(-1) for name in range(100)}
        torch.save(names, tmp_path / "a.bin")
        assert error_of(lambda: read_tensors(tmp_path / "a.bin"))


def test_what_else_a_checkpoint_says(tmp_path: Path) -> None:
    told: dict[str, Any] = {
        "step": 3,
        "rate": 1e-5,
        "names": ["a", ("b", None)],
        "done": True,
        "by": {1: -1, 2: 1 << 40},
    }
    torch.save(told, tmp_path / "a.pt")
    assert read_pickle(tmp_path / "a.pt") == told
    with pytest.raises(ModelError, match="other things than tensors"):
        read_tensors(tmp_path / "a.pt")


# --- model folders ----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tiny: ModelFolder, tmp_path: Path) -> Path:
    """The tiny model, pickled."""
    return KINDS["model"](tiny, tmp_path).path.parent


def test_a_pickled_model_is_the_same_model(folder: Path, tiny: ModelFolder) -> None:
    model, expected = ModelFolder("pickled", folder).load(), merged_state(tiny.load())
    state = merged_state(model)
    assert all(np.array_equal(state[name], array) for name, array in expected.items())
    assert model.proj_out.weight is model.model.decoder.embed_tokens.weight


def in_parts(folder: Path) -> dict[str, str]:
    """Divide the pickle of a folder in two; what the index says is where."""
    state = torch.load(folder / MODEL, weights_only=True)
    (folder / MODEL).unlink()
    where = {name: f"pytorch_model-0000{number % 2 + 1}-of-00002.bin" for number, name in enumerate(state)}
    for part in set(where.values()):
        torch.save({name: value.clone() for name, value in state.items() if where[name] == part}, folder / part)
    (folder / f"{MODEL}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return where


def test_one_in_parts_too(folder: Path, tiny: ModelFolder) -> None:
    where = in_parts(folder)
    state = merged_state(ModelFolder("pickled", folder).load())
    assert all(np.array_equal(state[name], array) for name, array in merged_state(tiny.load()).items())
    part = folder / min(where.values())
    good = part.read_bytes()
    part.write_bytes(flipped(good, len(good) // 2, 3))
    error = error_of(ModelFolder("pickled", folder).load)
    assert error is not None
    assert error.where == str(part)
    part.unlink()
    assert error_of(ModelFolder("pickled", folder).load)


@pytest.mark.parametrize(
    ("name", "message"),
    [("../a.bin", "another folder"), ("model.safetensors", "another kind"), ("/a.bin", "another folder")],
)
def test_an_index_that_leads_elsewhere(name: str, message: str, folder: Path, tiny: ModelFolder) -> None:
    where = in_parts(folder)
    (folder / f"{MODEL}.index.json").write_text(json.dumps({"weight_map": where | {"a": name}}))
    with pytest.raises(ModelError, match=message):
        read_weights(folder, tiny.shape)


def test_a_flipped_weight_is_not_loaded(folder: Path) -> None:
    good = (folder / MODEL).read_bytes()
    (folder / MODEL).write_bytes(flipped(good, len(good) // 2, 0))
    with pytest.raises(ModelError, match=r"checksum|CRC"):
        ModelFolder("pickled", folder).load()


@pytest.mark.parametrize(
    "lie", [{"encoder_layers": 3000}, {"d_model": 1 << 20}, {"decoder_ffn_dim": 1 << 30}, {"vocab_size": 1 << 40}]
)
def test_a_config_that_lies_of_pickles(lie: dict[str, int], folder: Path) -> None:
    """It costs neither time nor memory."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | lie))
    begin = time.monotonic()
    assert error_of(ModelFolder("pickled", folder).load)
    assert time.monotonic() - begin < 5


def test_code_is_refused_with_one_line(folder: Path) -> None:
    content = records(folder / MODEL)
    zipped(folder / MODEL, content | {list_of(content): HOSTILE["runs a command"]})
    with pytest.raises(ModelError, match=r"its pickle wants posix\.system") as raised:
        ModelFolder("pickled", folder).load()
    assert len(str(raised.value).splitlines()) == 2
    assert "weights_only=False" not in str(raised.value)


def test_safetensors_come_first(folder: Path, tiny: ModelFolder) -> None:
    shutil.copyfile(tiny.path / "model.safetensors", folder / "model.safetensors")
    (folder / MODEL).write_bytes(b"harmful")
    assert ModelFolder("both", folder).load()


def test_a_folder_without_weights(folder: Path) -> None:
    (folder / MODEL).unlink()
    with pytest.raises(ModelError, match=r"no weights in this folder(.|\n)*model\.safetensors or pytorch_model\.bin"):
        ModelFolder("none", folder).load()


def test_transformers_opens_no_other_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that config.json names, nor one that lies there, nor by torch.load."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"transformers_weights": "other.safetensors"}))
    (folder / ".metadata").write_bytes(b"a pickle")
    (folder / "__0_0.distcp").write_bytes(b"more")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was called"))
    assert ModelFolder("pickled", folder).load()
