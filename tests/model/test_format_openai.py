"""OpenAI's checkpoints in and out: its own names and shapes, the same bits, and one error for every damage."""

from __future__ import annotations

import io
import json
import pickle
import re
import shutil
import struct
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from whispertune.errors import InputError, ModelError
from whispertune.model.formats import known_tokenizers
from whispertune.model.formats.contents import Contents
from whispertune.model.formats.known_tokenizers import default_generation, tokenizer_for
from whispertune.model.formats.openai import FILE, Dims, read_openai, rows, write_openai
from whispertune.model.formats.transformers import write_folder
from whispertune.model.generation import Generation, write_generation
from whispertune.model.load import ModelFolder

DIMS = Dims(80, 1500, 16, 2, 2, 51865, 448, 16, 4, 1)
TOKENS = (51864, 51865, 51866)
RENAMED = {"<|nocaptions|>": "<|nospeech|>", "<|iw|>": "<|he|>"}  # of one meaning
FRAME = ("<|startoftranscript|>", "<|notimestamps|>", "<|endoftext|>")
HUGE = 1 << 40
LEAVES_OPEN = pytest.mark.filterwarnings("ignore:.*tiktoken:ResourceWarning")  # openai-whisper its vocabulary's file
ALLOWED_BYTES = 1 << 28  # of address space, for what damaged files of 2 MB may ask for


def random_contents(dims: Dims = DIMS, dtype: str = "float16") -> Contents:
    """A Whisper of noise."""
    rng = np.random.default_rng(0)
    state = {row.theirs: rng.normal(0, 0.1, row.shape).astype(dtype) for row in rows(dims)}
    tokenizer = tokenizer_for(dims.n_vocab)
    return Contents(state, dims.shape, tokenizer, default_generation(tokenizer))


def contents_of(folder: ModelFolder) -> Contents:
    """What a transformers folder holds."""
    state = load_file(folder.path / "model.safetensors")
    return Contents(state, folder.shape, folder.tokenizer_json, folder.generation)


def assert_same(one: Contents, other: Contents) -> None:
    assert one.shape == other.shape
    assert one.state.keys() == other.state.keys()
    for name, array in one.state.items():
        assert array.dtype == other.state[name].dtype, name
        assert np.array_equal(array, other.state[name]), name


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow checkpoint."""
    folder = tmp_path_factory.mktemp("written")
    write_openai(random_contents(), folder, "float16")
    return folder / FILE


def test_the_tables_are_openais() -> None:
    """Every tensor of the package's own module, by name and shape, of an encoder and a decoder that differ."""
    from whisper.model import ModelDimensions, Whisper

    dims = replace(DIMS, n_audio_layer=3, n_mels=128, n_vocab=51866)
    theirs = {name: tuple(value.shape) for name, value in Whisper(ModelDimensions(**asdict(dims))).state_dict().items()}
    assert {row.ours: row.shape for row in rows(dims)} == theirs


def test_and_transformers(tiny: ModelFolder) -> None:
    """The other names are transformers', without its tied projection."""
    state = load_file(tiny.path / "model.safetensors")
    ours = {row.theirs: row.shape for row in rows(Dims.of(replace(tiny.shape, encoder_feed_forward=64)))}
    assert ours.keys() == state.keys()
    assert all(ours[name] == array.shape for name, array in state.items() if "fc" not in name)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_weights_come_back_bit_exact(dtype: str, tmp_path: Path) -> None:
    source = random_contents(dtype=dtype)
    write_openai(source, tmp_path, dtype)
    again = read_openai(tmp_path / FILE)
    assert_same(source, again)
    assert again.generation == source.generation


def test_real_weights_there_and_back_to_transformers(base: ModelFolder, tmp_path: Path) -> None:
    source = contents_of(base)
    assert source.state["model.encoder.conv1.weight"].dtype == np.float16
    write_openai(source, tmp_path, "float16")
    again = read_openai(tmp_path / FILE)
    assert_same(source, again)
    write_folder(tmp_path / "back", again.state, again.shape, again.tokenizer_json, again.generation)
    back = ModelFolder("back", tmp_path / "back")
    assert_same(source, contents_of(back))
    assert back.vocabulary.specials.keys() == base.vocabulary.specials.keys()
    assert back.generation == replace(base.generation, alignment_heads=())  # the file does not say them


def test_precision_is_what_is_asked_for(tmp_path: Path) -> None:
    source = random_contents(dtype="float32")
    write_openai(source, tmp_path, "float16")
    again = read_openai(tmp_path / FILE)
    for name, array in source.state.items():
        assert np.array_equal(array.astype(np.float16), again.state[name])


def test_bfloat16_is_read_as_float32(written: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(written, weights_only=True)
    state = {name: value.to(torch.bfloat16) for name, value in checkpoint["model_state_dict"].items()}
    torch.save(checkpoint | {"model_state_dict": state}, tmp_path / FILE)
    again = read_openai(tmp_path / FILE)
    for row in rows(DIMS):
        assert again.state[row.theirs].dtype == np.float32
        assert np.array_equal(again.state[row.theirs], state[row.ours].float().numpy())


def test_parameters_as_a_trainer_saves_them(written: Path, tmp_path: Path) -> None:
    """From a module, with what torch adds to its state, and trainable."""
    from whisper.model import ModelDimensions, Whisper

    module = Whisper(ModelDimensions(**asdict(DIMS)))
    module.load_state_dict(torch.load(written, weights_only=True)["model_state_dict"])
    kept = module.state_dict(keep_vars=True)
    torch.save({"dims": module.dims.__dict__, "model_state_dict": kept}, tmp_path / FILE)
    state = read_openai(tmp_path / FILE).state
    assert np.array_equal(state["model.decoder.layer_norm.bias"], module.decoder.ln.bias.detach().numpy())


def test_what_lies_beside_is_taken(written: Path, base: ModelFolder, tmp_path: Path) -> None:
    shutil.copy(written, tmp_path / "mine.pt")
    content = json.loads(base.tokenizer_json)
    next(each for each in content["added_tokens"] if each["id"] == 50357)["content"] = "<|mine|>"
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    settings = Generation(suppress=(7, 8), alignment_heads=((0, 3),), language="sv", task="transcribe")
    write_generation(tmp_path, settings, base.vocabulary)
    again = read_openai(tmp_path / "mine.pt")
    assert again.generation == settings
    assert Tokenizer.from_str(again.tokenizer_json.decode()).token_to_id("<|mine|>") is not None


def test_a_tokenizer_of_another_model_is_refused(written: Path, tmp_path: Path) -> None:
    shutil.copy(written, tmp_path / FILE)
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_for(51866))
    with pytest.raises(ModelError, match=r"51866 tokens, and model\.pt 51865"):
        read_openai(tmp_path / FILE)
    (tmp_path / "tokenizer.json").write_bytes(b'{"added_tokens": []}')
    with pytest.raises(ModelError, match="no readable tokenizer"):
        read_openai(tmp_path / FILE)


def test_without_the_bundled_models_it_asks_for_a_tokenizer(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> Path:
        raise ModelError("the package is not installed", fix="install it")

    monkeypatch.setattr(known_tokenizers, "bundled_files", missing)
    with pytest.raises(ModelError, match=r"install it, or put the model's tokenizer\.json beside it") as raised:
        read_openai(written)
    assert raised.value.where == str(written)


@LEAVES_OPEN
@pytest.mark.parametrize("n_vocab", TOKENS)
def test_tokenizers_are_openais(n_vocab: int) -> None:
    encoding = openai_tokenizer(n_vocab).encoding
    content = json.loads(tokenizer_for(n_vocab))
    names = {RENAMED.get(entry["content"], entry["content"]): entry["id"] for entry in content["added_tokens"]}
    assert not names.items() ^ encoding._special_tokens.items()
    tokenizer = Tokenizer.from_str(tokenizer_for(n_vocab).decode())
    assert tokenizer.get_vocab_size() == n_vocab == encoding.n_vocab
    assert tokenizer.encode("").ids == [encoding._special_tokens[name] for name in FRAME]
    for text in (
        " the quick brown fox's 42 jumps",
        " Þetta er íslenska",
        "日本語の文章です。",
        " नमस्ते\u200d दुनिया",
        "  \n a",
    ):
        assert tokenizer.encode(text, add_special_tokens=False).ids == encoding.encode(text)


@LEAVES_OPEN
@pytest.mark.parametrize("n_vocab", TOKENS)
def test_lists_are_those_of_openais_decoder(n_vocab: int) -> None:
    theirs = openai_tokenizer(n_vocab)
    special = {theirs.sot, theirs.translate, theirs.transcribe, theirs.sot_lm, theirs.sot_prev, theirs.no_speech}
    generation = default_generation(tokenizer_for(n_vocab))
    assert generation.suppress == tuple(sorted(special | set(theirs.non_speech_tokens)))
    assert generation.begin_suppress == (*theirs.encode(" "), theirs.eot)


def openai_tokenizer(n_vocab: int) -> Any:
    from whisper.tokenizer import get_tokenizer

    return get_tokenizer(n_vocab > 51864, num_languages=n_vocab - 51765 - (n_vocab > 51864))


def test_and_those_of_the_bundled_models(base: ModelFolder, tiny_en: ModelFolder) -> None:
    for folder in (base, tiny_en):
        ours = default_generation(tokenizer_for(folder.shape.vocabulary))
        assert ours == replace(folder.generation, alignment_heads=())


def test_what_openai_whisper_cannot_load_is_not_written(tiny: ModelFolder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="four times"):
        write_openai(contents_of(tiny), tmp_path, "float16")
    source = random_contents()
    with pytest.raises(InputError, match="int8"):
        write_openai(source, tmp_path, "int8")
    with pytest.raises(InputError, match="51870"):
        write_openai(replace(source, shape=replace(source.shape, vocabulary=51870)), tmp_path, "float16")
    assert not list(tmp_path.iterdir())


# What is wrong with a file: `refused` holds every one of them against the same promise.


def refused(path: Path) -> str:
    """The message of the one error; the address space is not taken for what the file only claims to hold."""
    before = address_space_bytes()
    with pytest.raises(ModelError) as raised:
        read_openai(path)
    assert raised.value.where == str(path)
    assert raised.value.fix
    assert address_space_bytes() - before < ALLOWED_BYTES
    return raised.value.what


def address_space_bytes() -> int:
    """The most that this process ever had; 0 where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmPeak")), 0)


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
    refused(zipped(tmp_path / FILE, records(written) | {"model/data/0": bytes(1 << 27)}, ZIP_DEFLATED))


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
