"""OpenAI's checkpoints in and out: its own names and shapes, the same bits."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from tests.exports import stored
from tests.model.openai_checkpoint import DIMS, assert_same, random_contents
from whispertune.errors import InputError, ModelError
from whispertune.model.formats import known_tokenizers
from whispertune.model.formats.contents import Contents
from whispertune.model.formats.known_tokenizers import default_generation, tokenizer_for
from whispertune.model.formats.openai import FILE, Dims, read_openai, rows, write_openai
from whispertune.model.formats.transformers import write_folder
from whispertune.model.generation import Generation, write_generation
from whispertune.model.load import ModelFolder

TOKENS = (51864, 51865, 51866)
RENAMED = {"<|nocaptions|>": "<|nospeech|>", "<|iw|>": "<|he|>"}  # of one meaning
FRAME = ("<|startoftranscript|>", "<|notimestamps|>", "<|endoftext|>")
LEAVES_OPEN = pytest.mark.filterwarnings("ignore:.*tiktoken:ResourceWarning")  # openai-whisper its vocabulary's file


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


def test_and_transformers(contents: Contents) -> None:
    """The other names are transformers', without its tied projection."""
    ours = {row.theirs: row.shape for row in rows(Dims.of(replace(contents.shape, encoder_feed_forward=64)))}
    assert ours.keys() == contents.state.keys()
    assert all(ours[name] == array.shape for name, array in contents.state.items() if "fc" not in name)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_weights_come_back_bit_exact(dtype: str, tmp_path: Path) -> None:
    source = random_contents(dtype=dtype)
    write_openai(source, tmp_path, dtype)
    again = read_openai(tmp_path / FILE)
    assert_same(source, again)
    assert again.generation == source.generation


def test_real_weights_there_and_back_to_transformers(tiny_en: ModelFolder, tmp_path: Path) -> None:
    source = stored(tiny_en)
    assert source.state["model.encoder.conv1.weight"].dtype == np.float16
    write_openai(source, tmp_path, "float16")
    again = read_openai(tmp_path / FILE)
    assert_same(source, again)
    write_folder(tmp_path / "back", again.state, again.shape, again.tokenizer_json, again.generation)
    back = ModelFolder("back", tmp_path / "back")
    assert_same(source, stored(back))
    assert back.vocabulary.specials == tiny_en.vocabulary.specials
    assert back.generation == replace(tiny_en.generation, alignment_heads=())  # the file does not say them


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
    with pytest.raises(ModelError, match="51866 tokens for a model with 51865"):
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


def test_what_openai_whisper_cannot_load_is_not_written(contents: Contents, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="four times"):
        write_openai(contents, tmp_path, "float16")
    source = random_contents()
    with pytest.raises(InputError, match="51870"):
        write_openai(replace(source, shape=replace(source.shape, vocabulary=51870)), tmp_path, "float16")
    assert not list(tmp_path.iterdir())
