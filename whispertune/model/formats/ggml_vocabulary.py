"""The vocabulary in whisper.cpp's files, which is a list of byte strings and no more, and tokenizer.json.

    tokens = token_bytes(folder.tokenizer_json)     # [b"!", b'"', ...]: the text tokens by id
    tokenizer = tokenizer_from(tokens, 51865)       # tokenizer.json again, with merges and special tokens
    pattern = left_out_pattern(folder.tokenizer_json, folder.generation.suppress)   # "(?:[\\x22\\x23]|...)"

The ids are ranks: a token is what two of lower rank make, so the merges can be found again. The special tokens
follow from the number of all tokens.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from whispertune.languages import LANGUAGE_NAMES
from whispertune.model.formats.known_tokenizers import ENGLISH, MULTILINGUAL, MULTILINGUAL_V3
from whispertune.model.formats.transformers import complete_tokenizer
from whispertune.windows.tokens import BYTES

LEFT_OUT = "suppress_regex.txt"  # beside a model's file
LONGEST_TOKEN_BYTES = 128  # that of Whisper's vocabularies: 64 of one sign
TEXT_TOKENS = {ENGLISH: 50_256, MULTILINGUAL: 50_257, MULTILINGUAL_V3: 50_257}  # all tokens -> those before the end
LANGUAGES = {ENGLISH: 99, MULTILINGUAL: 99, MULTILINGUAL_V3: 100}
END, START, NO_TIMES = "<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"
AFTER_LANGUAGES = ("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nocaptions|>", NO_TIMES)


SIGNS = {byte: sign for sign, byte in BYTES.items()}


def token_bytes(tokenizer_json: bytes) -> list[bytes]:
    """The text tokens of a tokenizer.json by id; an id that no text has (50256 of the multilingual ones) is empty.

    Raises:
        ValueError: it has other ids than Whisper's, or tokens that are no bytes.
    """
    content = json.loads(tokenizer_json)
    ids: dict[str, int] = content["model"]["vocab"]
    added = {entry["content"]: int(entry["id"]) for entry in content["added_tokens"]}
    end = added[END]
    if not 0 <= end < len(ids.keys() | added.keys()):
        raise ValueError(f"its {END} is token {end} of {len(ids.keys() | added.keys())}")
    tokens = [b""] * end
    for name, id_ in ids.items():
        if 0 <= id_ < end:
            if unknown := set(name) - BYTES.keys():
                raise ValueError(f"its token {id_} has {min(unknown)!r}, which is no byte")
            tokens[id_] = bytes(BYTES[sign] for sign in name)
    return tokens


def left_out_pattern(tokenizer_json: bytes, suppress: Sequence[int]) -> str:
    """What whisper.cpp can be told instead of a list of tokens: a regular expression of their texts; "" for none.

    Tokens that are no text are left out, as whisper.cpp never writes them without times.
    """
    tokens = token_bytes(tokenizer_json)
    texts = [tokens[token] for token in suppress if token < len(tokens)]
    return matching_only(texts) if texts else ""


def matching_only(texts: Sequence[bytes]) -> str:
    """A regular expression that matches these byte strings, none of them empty, and nothing else.

    It branches by bytes, as whisper.cpp tries it on each text of its vocabulary for every token that it writes.
    """
    after: dict[int, set[bytes]] = {}
    for text in sorted(texts):
        after.setdefault(text[0], set()).add(text[1:])
    alone = [first for first, rests in after.items() if rests == {b""}]
    branches = ["[" + "".join(map(_byte, alone)) + "]"] if alone else []
    for first, rests in after.items():
        if longer := rests - {b""}:
            branches.append(_byte(first) + matching_only(sorted(longer)) + ("?" if b"" in rests else ""))
    return f"(?:{'|'.join(branches)})"


def _byte(value: int) -> str:
    return f"\\x{value:02x}"


def tokenizer_from(tokens: Sequence[bytes], n_vocab: int) -> bytes:
    """The whole tokenizer.json of text tokens by id, of a model that has `n_vocab` tokens in all.

    Raises:
        ValueError: they are not the tokens of a byte-level vocabulary, each made of two before it.
    """
    specials = [END, START, *(f"<|{code}|>" for code in list(LANGUAGE_NAMES)[: LANGUAGES[n_vocab]]), *AFTER_LANGUAGES]
    ids = {name: len(tokens) + number for number, name in enumerate(specials)}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    names = [_name(token) for token in tokens]
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "fuse_unk": False,
        "vocab": {name: id_ for id_, name in enumerate(names)} | {END: ids[END]},
        "merges": [f"{_name(first)} {_name(second)}" for first, second in _merges(tokens)],
    }
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": id_, "content": name, **flags} for name, id_ in ids.items()],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": _around_text(ids),
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": model,
    }
    return complete_tokenizer(json.dumps(content, ensure_ascii=False).encode())


def _name(token: bytes) -> str:
    return "".join(SIGNS[byte] for byte in token)


def _around_text(ids: dict[str, int]) -> dict[str, Any]:
    """What transformers puts around a text: start, no times, end."""
    text = {"Sequence": {"id": "A", "type_id": 0}}
    single = [*({"SpecialToken": {"id": name, "type_id": 0}} for name in (START, NO_TIMES, END))]
    single.insert(2, text)
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single[:3], {"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": END, "type_id": 1}}],
        "special_tokens": {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in (START, NO_TIMES, END)},
    }


def _merges(tokens: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """The two parts of each token of more than one byte, in the order of the ids."""
    ranks = {token: id_ for id_, token in enumerate(tokens) if token}
    if len(ranks) != sum(map(bool, tokens)) or any(bytes([byte]) not in ranks for byte in range(256)):
        raise ValueError("its tokens are not all different, or not all bytes are among them")
    return [_parts(token, ranks) for token in tokens if len(token) > 1]


def _parts(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """Merge what lies beside each other, lowest rank first, until two parts are left."""
    parts, own = [bytes([byte]) for byte in token], ranks[token]
    while len(parts) > 2:
        rank, place = min((ranks.get(a + b, own), at) for at, (a, b) in enumerate(pairwise(parts)))
        if rank >= own:
            raise ValueError(f"its token {own} is not made of those before it")
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    if any(ranks.get(part, own) >= own for part in parts):
        raise ValueError(f"its token {own} is not made of those before it")
    return parts[0], parts[1]
