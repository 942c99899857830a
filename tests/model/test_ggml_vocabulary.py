"""A tokenizer.json that lies about its ids, where whisper.cpp's list of tokens is made of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.model.openai_checkpoint import random_contents
from whispertune.errors import InputError
from whispertune.model.formats.contents import Contents
from whispertune.model.formats.ggml import write_ggml
from whispertune.model.formats.ggml_vocabulary import END, token_bytes


@pytest.fixture(scope="module")
def narrow() -> Contents:
    return random_contents()


def test_an_end_beyond_all_tokens(narrow: Contents, tmp_path: Path) -> None:
    content: dict[str, Any] = json.loads(narrow.tokenizer_json)
    (entry,) = (each for each in content["added_tokens"] if each["content"] == END)
    for end in (-1, 51_865, 1 << 50):
        entry["id"] = end
        with pytest.raises(ValueError, match=f"is token {end} of 51865"):
            token_bytes(json.dumps(content).encode())
    with pytest.raises(InputError, match="cannot take its tokenizer"):
        write_ggml(replace(narrow, tokenizer_json=json.dumps(content).encode()), tmp_path, "float16")
    assert not list(tmp_path.iterdir())


def test_ids_below_zero_are_no_tokens(narrow: Contents) -> None:
    content = json.loads(narrow.tokenizer_json)
    content["model"]["vocab"]["mine"] = -1
    assert token_bytes(json.dumps(content).encode()) == token_bytes(narrow.tokenizer_json)
