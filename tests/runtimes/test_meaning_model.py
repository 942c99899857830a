"""Scores of meaning by a model of sentence-transformers, whose import alone takes many seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from tests.scored import scored
from whispertune.errors import InputError
from whispertune.score.meaning import load_embedder, score_meaning


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A real model whose words stand at right angles, so that its cosines can be worked out by hand."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    words = ["[UNK]", "do", "not", "take", "it"]
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    module = StaticEmbedding(tokenizer, embedding_weights=np.eye(len(words), dtype=np.float32))
    SentenceTransformer(modules=[module], device="cpu").save(str(tmp_path / "mini"))
    return tmp_path / "mini"


def test_a_model_of_sentence_transformers(saved: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = score_meaning(scored(("do not take it", "do take it"), ("it", "it")), load_embedder(saved), "sv")
    assert found.model == "mini"
    assert found.wrong[0].similarity == pytest.approx(3 / 12**0.5)
    assert capfd.readouterr() == ("", "")  # no bars between a command's own words


def test_code_in_the_folder_is_not_run(saved: Path) -> None:
    """A module that lies in the folder is loaded by other programs, if one lets them."""
    (saved / "module.py").write_text(f"open({str(saved / 'ran')!r}, 'w')\nclass Module: ...\n")
    modules = json.loads((saved / "modules.json").read_text())
    (saved / "modules.json").write_text(json.dumps([modules[0] | {"type": "module.Module"}]))
    with pytest.raises(InputError, match="can load"):
        load_embedder(saved)
    assert not (saved / "ran").exists()


@pytest.mark.parametrize(
    "damage", ["cut short", "other sizes", "no weights", "no tokenizer", "no such type", "no list"]
)
def test_what_it_cannot_load_is_no_traceback(saved: Path, damage: str) -> None:
    weights, tokenizer = (next(saved.rglob(name)) for name in ("model.safetensors", "tokenizer.json"))
    modules = saved / "modules.json"
    match damage:
        case "cut short":
            weights.write_bytes(weights.read_bytes()[:-20])
        case "other sizes":
            save_file({"embedding.weight": np.zeros(5, dtype=np.float32)}, weights)
        case "no weights":
            weights.unlink()
        case "no tokenizer":
            tokenizer.write_text("{}")
        case "no such type":
            modules.write_text(modules.read_text().replace("StaticEmbedding", "NoSuchThing"))
        case "no list":
            modules.write_text("{")
    with pytest.raises(InputError, match="can load") as raised:
        load_embedder(saved)
    assert raised.value.where == str(saved)
