"""OpenAI's checkpoints, damaged or meant to do damage: one clear error each, and no memory taken for a lie."""

from __future__ import annotations

import io
import pickle
import re
import struct
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
import pytest
import torch

from tests.model.damage import ROOM_BYTES, little_room
from tests.model.openai_checkpoint import DIMS, assert_same, random_contents
from whispertune.errors import ModelError
from whispertune.model.formats.contents import Contents
from whispertune.model.formats.openai import FILE, read_openai, write_openai

HUGE = 1 << 40


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow checkpoint."""
    folder = tmp_path_factory.mktemp("written")
    write_openai(random_contents(), folder, "float16")
    return folder / FILE


def refused(path: Path) -> str:
    """The message of the one error, which is none of memory that was asked for and not there."""
    with little_room(), pytest.raises(ModelError) as raised:
        read_openai(path)
    assert raised.value.where == str(path)
    assert raised.value.fix
    assert "memory" not in raised.value.what.lower()
    return raised.value.what


def refused_or_same(path: Path, whole: Contents) -> bool:
    """Whether it was refused; if not, it must hold what the whole file does."""
    try:
        again = read_openai(path)
    except ModelError:
        return True
    assert_same(whole, again)
    return False


def records(path: Path) -> dict[str, bytes]:
    with ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(path: Path, content: dict[str, bytes], how: int = ZIP_STORED) -> Path:
    """An archive with right checksums, whatever is in it."""
    with ZipFile(path, "w", how) as archive:
        for name, blob in content.items():
            archive.writestr(name, blob)
    return path


def test_an_archive_rebuilt_is_still_read(written: Path, tmp_path: Path) -> None:
    """So that what the next tests change is what makes the difference."""
    assert not refused_or_same(zipped(tmp_path / FILE, records(written)), read_openai(written))


def test_truncated_files(written: Path, tmp_path: Path) -> None:
    content = written.read_bytes()
    for part in range(20):
        (tmp_path / FILE).write_bytes(content[: len(content) * part // 20])
        refused(tmp_path / FILE)
    (tmp_path / FILE).write_bytes(content[:-1])
    refused(tmp_path / FILE)


def test_flipped_bits_of_weights_and_lists(written: Path, tmp_path: Path) -> None:
    content = written.read_bytes()
    rng = np.random.default_rng(0)
    for name, blob in records(written).items():
        start = content.index(blob) if len(blob) > 16 else 0  # of what is found there and nowhere else
        for _ in range(20 if name.endswith(("data.pkl", "data/0")) else bool(start)):
            flipped = bytearray(content)
            flipped[start + int(rng.integers(len(blob)))] ^= 1 << int(rng.integers(8))
            (tmp_path / FILE).write_bytes(flipped)
            assert re.search("checksum|CRC", refused(tmp_path / FILE))


def test_flipped_bits_of_the_directory(written: Path, tmp_path: Path) -> None:
    """Dates and the like carry nothing; whatever else is flipped is refused."""
    content, whole = written.read_bytes(), read_openai(written)
    rng = np.random.default_rng(1)
    begin = struct.unpack("<I", content[-6:-2])[0] if content[-22:-18] == b"PK\5\6" else content.index(b"PK\1\2")
    hits = 0
    for position in rng.integers(begin, len(content), 40):
        flipped = bytearray(content)
        flipped[position] ^= 1 << int(rng.integers(8))
        (tmp_path / FILE).write_bytes(flipped)
        hits += refused_or_same(tmp_path / FILE, whole)
    assert hits > 10


def test_other_kinds_of_files(written: Path, tmp_path: Path) -> None:
    path = tmp_path / FILE
    refused(path)  # none
    for content in (b"", b"PK", bytes(1000), b"\x80\x02}q\x00."):
        path.write_bytes(content)
        refused(path)
    torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    refused(path)
    path.unlink()
    path.mkdir()
    refused(path)


Lie = Callable[[dict[str, Any], dict[str, torch.Tensor]], Any]
EMBEDDINGS, BIAS = "decoder.token_embedding.weight", "decoder.ln.bias"

DIMS_LIES: list[Lie] = [
    *(lambda dims, state, key=key: dims.update({key: dims[key] + 1}) for key in asdict(DIMS)),
    *(lambda dims, state, key=key: dims.pop(key) for key in asdict(DIMS)),
    *(
        lambda dims, state, value=value: dims.update(n_text_layer=value)
        for value in (0, -1, HUGE, 1.0, "1", None, True)
    ),
    *(lambda dims, state, key=key: dims.update({key: HUGE}) for key in asdict(DIMS)),
    lambda dims, state: dims.update(n_extra=1),
    lambda dims, state: dims.update({1: 1}),
    lambda dims, state: dims.update(n_audio_head=3, n_text_head=3),
]
STATE_LIES: list[Lie] = [
    lambda dims, state: state.pop(EMBEDDINGS),
    lambda dims, state: state.pop("encoder.positional_embedding"),
    lambda dims, state: state.update({"decoder.blocks.1.mlp.0.bias": torch.ones(64)}),
    lambda dims, state: state.update({"proj_out.weight": state[EMBEDDINGS]}),
    lambda dims, state: state.update({BIAS: torch.ones(16, 1)}),
    lambda dims, state: state.update({BIAS: torch.ones(17)}),
    lambda dims, state: state.update({BIAS: torch.ones(0)}),
    lambda dims, state: state.update({BIAS: torch.ones(16, dtype=torch.int8)}),
    lambda dims, state: state.update({BIAS: torch.ones(16, dtype=torch.float64)}),
    lambda dims, state: state.update({BIAS: torch.ones(16).to_sparse()}),
    lambda dims, state: state.update({BIAS: torch.ones(1).expand(16)}),
    lambda dims, state: state.update({BIAS: [0.0] * 16}),
    lambda dims, state: state.update({3: torch.ones(16)}),
    lambda dims, state: state.update({EMBEDDINGS: torch.ones(1, 1).expand(51865, 16)}),
    lambda dims, state: state.update({EMBEDDINGS: torch.ones(16, 51865).T}),
    lambda dims, state: state.clear(),
]


@pytest.mark.parametrize("lies", [DIMS_LIES, STATE_LIES], ids=["dims", "tensors"])
def test_numbers_and_tensors_that_do_not_belong_together(lies: list[Lie], written: Path, tmp_path: Path) -> None:
    for number, lie in enumerate(lies):
        checkpoint = torch.load(written, weights_only=True)
        lie(checkpoint["dims"], checkpoint["model_state_dict"])
        torch.save(checkpoint, tmp_path / f"{number}.pt")
        refused(tmp_path / f"{number}.pt")


@pytest.mark.parametrize("content", [{}, [], 3, {"dims": {}}, {"dims": [], "model_state_dict": []}, {"dims": 1}])
def test_other_contents(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / FILE)
    refused(tmp_path / FILE)


def long(value: int) -> bytes:
    """A number as pickles of protocol 2 hold large ones."""
    return pickle.LONG1 + b"\x06" + value.to_bytes(6, "little")


def test_lists_that_claim_more_than_the_file_has(written: Path, tmp_path: Path) -> None:
    """Numbers of elements, lengths and places in the pickle, of the right checksum, changed to huge ones."""
    content = records(written)
    (name,) = [each for each in content if each.endswith("data.pkl")]
    elements, tokens, width = (
        b"J" + struct.pack("<i", 51865 * 16),
        b"M" + struct.pack("<H", 51865),
        b"K\x10",
    )
    assert all(each in content[name] for each in (elements, tokens, width))
    changes = {
        (elements, long(HUGE)),
        (elements, long(51865 * 16 + 1)),
        (elements, long(51865 * 16 - 1)),
        (elements, b"J" + struct.pack("<i", -1)),
        (tokens, long(HUGE)),
        (tokens, b"J" + struct.pack("<i", -51865)),
        (width, long(HUGE)),
        (width, b"K\x00"),
        (elements, b"N"),
    }
    for before, after in changes:
        forged = content[name].replace(before, after)
        refused(zipped(tmp_path / FILE, content | {name: forged}))


def test_records_that_are_not_as_long_as_listed(written: Path, tmp_path: Path) -> None:
    content = records(written)
    weights = [name for name in content if "/data/" in name]
    for name in weights[:6]:
        rest = {each: blob for each, blob in content.items() if each != name}
        refused(zipped(tmp_path / FILE, rest))
        refused(zipped(tmp_path / FILE, rest | {name: content[name][:-2]}))
        refused(zipped(tmp_path / FILE, rest | {name: content[name] + bytes(2)}))
    refused(zipped(tmp_path / FILE, content, ZIP_DEFLATED))


def test_a_compressed_list_of_much_nothing(written: Path, tmp_path: Path) -> None:
    content = records(written)
    content.pop("model/data/0")
    path, nothing = zipped(tmp_path / FILE, content), bytes(1 << 20)
    with ZipFile(path, "a", ZIP_DEFLATED) as archive, archive.open("model/data/0", "w") as record:
        for _ in range(2 * ROOM_BYTES // len(nothing)):
            record.write(nothing)
    assert path.stat().st_size < 4 << 20
    refused(path)


HOSTILE = {
    "runs a command": b"\x80\x02cposix\nsystem\n(X\x04\x00\x00\x00truetR.",
    "takes memory": b"\x80\x02c__builtin__\nbytearray\n(" + long(HUGE) + b"tR.",
    "another opcode for names": b"\x80\x04\x8c\x05posix\x8c\x06system\x93.",
    "no end": b"\x80\x02}q\x00",
    "nothing": b"",
    "a long text": b"\x80\x02X\xff\xff\xff\x7fa.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles(name: str, written: Path, tmp_path: Path) -> None:
    content = records(written)
    (listed,) = [each for each in content if each.endswith("data.pkl")]
    refused(zipped(tmp_path / FILE, content | {listed: HOSTILE[name]}))


def test_an_archive_in_an_archive(written: Path, tmp_path: Path) -> None:
    """Two lists, of which torch would take the one and we might check the other."""
    inner = io.BytesIO()
    torch.save({}, inner)
    content = records(written)
    refused(zipped(tmp_path / FILE, {"other/data.pkl": b"\x80\x02}."} | content))
    refused(zipped(tmp_path / FILE, {"model/data/x": inner.getvalue()}))
