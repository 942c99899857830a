"""Tokenizers and settings for files that carry weights alone: those that lie beside them, else OpenAI's.

    tokenizer_beside(Path("mine.pt"), 51865)        # the tokenizer.json of the same folder, as bytes; None without
    tokenizer_for(51865)                            # that of OpenAI's multilingual models
    default_generation(tokenizer_for(51865))        # what OpenAI's decoders leave out where nothing else is said

OpenAI has three tokenizers, told apart by the number of their tokens, and they are made from those of the bundled
models. large-v3 has Cantonese after the other languages, and every token that follows moved by one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from whispertune.errors import ModelError
from whispertune.model.bundled import bundled_files
from whispertune.model.formats.transformers import complete_tokenizer
from whispertune.model.generation import Generation

ENGLISH, MULTILINGUAL, MULTILINGUAL_V3 = 51_864, 51_865, 51_866  # tokens, timestamps included
BUNDLES: Final = {ENGLISH: "whisper-tiny.en", MULTILINGUAL: "whisper-base", MULTILINGUAL_V3: "whisper-base"}
LAST_LANGUAGE, CANTONESE = "<|su|>", "<|yue|>"
FIX_BESIDE: Final = "put the model's there, or take it away"

# What stands for sounds, speakers and notes rather than for speech; each is left out where it is one token.
SIGNS: Final = [*'"#()*+/:;<=>@[\\]^_`{|}~「」『』']
GROUPS: Final = [
    *("<<", ">>", "<<<", ">>>", "[[", "]]", "{{", "}}", "((", "))", "(((", ")))"),
    *("--", "---", "-(", "-[", "('", '("', "♪♪", "♪♪♪"),
]
NOTES: Final = [*"♩♪♫♬♭♮♯"]  # in more tokens than one the first is left out, which begins such pictures only
BEFORE_WORDS: Final = (" -", " '")  # fine within words
NOT_TEXT: Final = (
    "<|startoftranscript|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|nocaptions|>",  # another name of it
)


def tokenizer_beside(file: Path, n_vocab: int | None = None) -> bytes | None:
    """The tokenizer.json beside a file of weights, complete; None where there is none.

    Args:
        file: of the weights.
        n_vocab: how many tokens it has to have; None: as many as it has.

    Raises:
        ModelError: it cannot be read, or is that of a model with more or fewer tokens.
    """
    from tokenizers import Tokenizer

    path = file.with_name("tokenizer.json")
    if not path.is_file():
        return None
    try:
        content = complete_tokenizer(path.read_bytes())
        tokens = Tokenizer.from_str(content.decode()).get_vocab_size()
    except Exception as error:  # the library has no exceptions of its own
        raise ModelError("no readable tokenizer", where=str(path), fix=FIX_BESIDE) from error
    if n_vocab is not None and tokens != n_vocab:
        raise ModelError(f"{tokens} tokens for a model with {n_vocab}", where=str(path), fix=FIX_BESIDE)
    return content


def generation_beside(file: Path) -> Generation | None:
    """What the generation_config.json beside a file of weights says; None where there is none."""
    there = file.with_name("generation_config.json").is_file()
    return Generation.from_folder(file.parent) if there else None


def tokenizer_for(n_vocab: int) -> bytes:
    """The complete tokenizer.json of OpenAI's models with so many tokens.

    Raises:
        ModelError: OpenAI has no such tokenizer, or the bundled models are not installed.
    """
    fix = "put the model's tokenizer.json beside it"
    if n_vocab not in BUNDLES:
        raise ModelError(f"none of OpenAI's tokenizers has {n_vocab} tokens", fix=fix)
    try:
        bundled = (bundled_files(BUNDLES[n_vocab]) / "tokenizer.json").read_bytes()
    except ModelError as error:
        raise ModelError(
            f"no tokenizer for it: {error.what}", where=error.where, fix=f"{error.fix}, or {fix}"
        ) from error
    content = json.loads(complete_tokenizer(bundled))
    content = _with_cantonese(content) if n_vocab == MULTILINGUAL_V3 else content
    return json.dumps(content, ensure_ascii=False).encode()


def _with_cantonese(content: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer.json's content with one language more."""
    last = next(entry for entry in content["added_tokens"] if entry["content"] == LAST_LANGUAGE)
    new = last["id"] + 1
    moved = [entry | {"id": _moved(entry["id"], new)} for entry in content["added_tokens"]]
    processor = content["post_processor"]
    specials = {
        name: entry | {"ids": [_moved(id_, new) for id_ in entry["ids"]]}
        for name, entry in processor["special_tokens"].items()
    }
    return content | {
        "added_tokens": sorted([*moved, last | {"id": new, "content": CANTONESE}], key=lambda entry: int(entry["id"])),
        "post_processor": processor | {"special_tokens": specials},
    }


def _moved(id_: int, new: int) -> int:
    return id_ + (id_ >= new)


def default_generation(tokenizer_json: bytes) -> Generation:
    """The lists that OpenAI's decoders have for a tokenizer: no signs for noises anywhere, no space or end first."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(tokenizer_json.decode())

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    left_out = {encode(begin)[0] for begin in BEFORE_WORDS}
    for sign in (*SIGNS, *GROUPS, *NOTES):
        for ids in (encode(sign), encode(f" {sign}")):
            if len(ids) == 1 or sign in NOTES:
                left_out.add(ids[0])
    specials = {id_ for name in NOT_TEXT if (id_ := tokenizer.token_to_id(name)) is not None}
    first = (*encode(" "), *tokenizer.encode("<|endoftext|>", add_special_tokens=False).ids)
    return Generation(suppress=tuple(sorted(left_out | specials)), begin_suppress=first)
