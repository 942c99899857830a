"""Whisper's vocabulary: text to ids and back, and every special token by name.

    vocabulary = Vocabulary.from_file(folder / "tokenizer.json")
    vocabulary.encode(" hello", language="en")
    vocabulary.timestamp(2.5)   # the id of <|2.50|>

Bundled and converted tokenizers often lack the 1,501 timestamp tokens, and a look-up by name then gives the
end of text. So timestamps are counted from `<|notimestamps|>`, and a name that is not there raises.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

from whispertune.errors import InputError, ModelError
from whispertune.languages import UNSPACED_LANGUAGES, UNSPACED_SCRIPTS

TIMESTAMP_STEP_S = 0.02
N_TIMESTAMPS = 1501  # 0.00 to 30.00
TASKS = ("transcribe", "translate")
_UNSPACED: Final = re.compile(f"[{UNSPACED_SCRIPTS}]")


def _alphabet() -> dict[str, int]:
    """The characters that stand for bytes in tokenizer.json: a printable one for itself, others from 256 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


BYTES = _alphabet()
FIRST_MERGE = ["Ġ", "t"]  # " t": the space stands for itself as Ġ


def is_timestamp(token: str) -> bool:
    """Whether a token's name reads `<|12.34|>`."""
    return token.startswith("<|") and token.endswith("|>") and token[2:-2].replace(".", "", 1).isdigit()


def with_all_merges(content: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer.json's content with the merge of its first token of two characters, which some conversions lost.

    OpenAI's ranks begin with " t". Without that merge, " the" is written in two tokens where Whisper has one.
    """
    model = content["model"]
    merges = [each.split(" ") if isinstance(each, str) else each for each in model["merges"]]
    known = {first + second for first, second in merges}
    lost = [FIRST_MERGE] if "".join(FIRST_MERGE) in model["vocab"] and "".join(FIRST_MERGE) not in known else []
    return content | {"model": model | {"merges": [*lost, *merges]}}


@dataclass(frozen=True)
class Vocabulary:
    """The ids of one Whisper tokenizer. Build it with `from_file`."""

    tokenizer: Any = field(repr=False)  # tokenizers.Tokenizer in which special tokens are plain text
    specials: dict[str, int] = field(repr=False)  # the name of each special token -> id

    @classmethod
    def from_file(cls, path: Path) -> Vocabulary:
        """Read a `tokenizer.json`.

        Raises:
            ModelError: the file is missing or is not a Whisper tokenizer.
        """
        try:
            return _parsed(path.read_bytes())
        except Exception as error:  # the library has no exceptions of its own
            raise ModelError(
                f"no readable tokenizer ({_shortened(error)})",
                where=str(path),
                fix="the folder needs Whisper's tokenizer.json",
            ) from error

    def id(self, name: str) -> int:
        """The id of a special token such as `<|endoftext|>`; raises ModelError where there is none."""
        if name not in self.specials:
            raise ModelError(f"the tokenizer has no token {name}", fix="use the tokenizer.json of the model")
        return self.specials[name]

    def bytes_of(self, token: int) -> bytes:
        """What a text token writes; it may be the first bytes of a character, or the last ones."""
        return bytes(BYTES[sign] for sign in self.tokenizer.id_to_token(token))

    @cached_property
    def end(self) -> int:
        return self.id("<|endoftext|>")

    @cached_property
    def start(self) -> int:
        return self.id("<|startoftranscript|>")

    @cached_property
    def previous(self) -> int:
        return self.id("<|startofprev|>")

    @cached_property
    def no_timestamps(self) -> int:
        return self.id("<|notimestamps|>")

    @cached_property
    def multilingual(self) -> bool:
        """English-only models have the language ids too, but one text token fewer before them."""
        return self.end >= 50257

    @cached_property
    def languages(self) -> dict[str, int]:
        """Language code -> token id, in the order of the ids (which lie between start and translate)."""
        first, last = self.start + 1, self.id("<|translate|>")
        found = {name[2:-2]: id_ for name, id_ in self.specials.items() if first <= id_ < last}
        return dict(sorted(found.items(), key=lambda item: item[1]))

    @property
    def size(self) -> int:
        """How many ids the vocabulary has, timestamps included."""
        return self.no_timestamps + 1 + N_TIMESTAMPS

    def timestamp(self, time_s: float) -> int:
        """The id of the timestamp nearest to `time_s`, seconds from the start of the window, 0 to 30."""
        index = round(time_s / TIMESTAMP_STEP_S)
        if not 0 <= index < N_TIMESTAMPS:
            raise ValueError(f"{time_s} s is outside of the window of 30 s")
        return self.no_timestamps + 1 + index

    def check_language(self, language: str, where: str | None = None) -> None:
        """Raise InputError where the model has no token for this language."""
        if not self.multilingual:
            if language != "en":
                raise InputError(
                    f"an English-only model cannot take the language {language!r}",
                    where=where,
                    fix="use a multilingual model (whisper-base rather than whisper-base.en)",
                )
            return
        if language not in self.languages:
            near = get_close_matches(language.lower(), self.languages, n=3, cutoff=0.3)
            hint = f"the nearest: {', '.join(near)}; " if near else ""
            raise InputError(
                f"Whisper has no language token {language!r}",
                where=where,
                fix=f"{hint}for a language it does not know, borrow the code of a related one",
            )

    def check_task(self, task: str, where: str | None = None) -> None:
        """Raise InputError for a task that the model does not have."""
        if task not in TASKS:
            raise InputError(f"unknown task {task!r}", where=where, fix="transcribe or translate")
        if task != "transcribe" and not self.multilingual:
            raise InputError("an English-only model does not translate", where=where, fix="use a multilingual model")

    def prefix(self, language: str, task: str, *, timestamps: bool) -> list[int]:
        """What decoding is told before the text: start, language, task, and whether times are wanted."""
        self.check_language(language)
        self.check_task(task)
        ids = [self.start]
        if self.multilingual:
            ids += [self.languages[language], self.id(f"<|{task}|>")]
        return ids if timestamps else [*ids, self.no_timestamps]

    def encode(self, text: str, language: str) -> list[int]:
        """Text tokens alone; the text starts with one space, except in languages written without them.

        The language is that of the text. Where it is "", as of translations, the script of the text tells.
        """
        return list(self.tokenizer.encode(_spaced(text, language), add_special_tokens=False).ids)

    def count(self, texts: Sequence[str], languages: Sequence[str]) -> list[int]:
        """How many tokens each text takes, many at once."""
        spaced = [_spaced(text, language) for text, language in zip(texts, languages, strict=True)]
        if len(spaced) == 1:  # no threads for one
            return [len(self.tokenizer.encode(spaced[0], add_special_tokens=False).ids)]
        return [len(found.ids) for found in self.tokenizer.encode_batch_fast(spaced, add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text among `ids`: whatever is special or a timestamp is left out."""
        return str(self.tokenizer.decode([id_ for id_ in ids if id_ < self.end]))

    def names(self, ids: Sequence[int]) -> list[str]:
        """How people read the ids: `<|en|>`, `<|2.50|>`, ` text` (for messages and tests)."""
        by_id = {id_: name for name, id_ in self.specials.items()}
        first = self.no_timestamps + 1
        return [
            f"<|{(id_ - first) * TIMESTAMP_STEP_S:.2f}|>" if id_ >= first else by_id.get(id_) or self.decode([id_])
            for id_ in ids
        ]


@lru_cache(maxsize=4)  # half a second each, and every part of a command asks for its model's
def _parsed(tokenizer_json: bytes) -> Vocabulary:
    from tokenizers import Tokenizer

    content = with_all_merges(json.loads(tokenizer_json))
    added = {entry["content"]: int(entry["id"]) for entry in content["added_tokens"]}
    # Timestamps are no special tokens to the library: left in, "<|0.00|>" in a text would become one.
    content["added_tokens"] = [e for e in content["added_tokens"] if not is_timestamp(e["content"])]
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.no_truncation()  # whoever saved it may have left both on: labels would be cut, or filled up
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # "<|endoftext|>" in a text stays text
    return Vocabulary(tokenizer, {name: id_ for name, id_ in added.items() if not is_timestamp(name)})


def _shortened(error: Exception) -> str:
    """What went wrong in a line; the library quotes all that it was given."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def _spaced(text: str, language: str) -> str:
    text = unicodedata.normalize("NFC", text.strip())
    unspaced = language in UNSPACED_LANGUAGES if language else _is_unspaced(text)
    return text if unspaced else f" {text}"


def _is_unspaced(text: str) -> bool:
    """Whether most of its letters are of scripts that write words without spaces between them."""
    return 2 * len(_UNSPACED.findall(text)) > sum(map(str.isalnum, text))
