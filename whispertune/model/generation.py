"""Generation settings: what a model's folder says about decoding, read and written in one place.

    settings = Generation.from_folder(folder)
    settings = settings.allowing(tokens, first_tokens).speaking("sv", "transcribe")
    settings = tuned_generation(settings, vocabulary, segments)      # both, by what the training text holds
    write_generation(folder, settings, vocabulary)

Whisper's default lists suppress tokens such as `/ : ( ) # _` and quotes. A model that is trained on texts
with them would learn them and never say them, so the tokens of the training text leave the lists.
"""

from __future__ import annotations

import json
import re
import sys
from codecs import getincrementaldecoder
from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whispertune.data.segments import written_in
from whispertune.errors import ModelError
from whispertune.languages import code_of
from whispertune.windows.tokens import TASKS, Vocabulary

if TYPE_CHECKING:
    from whispertune.data.table import SegmentTable

MAX_LENGTH = 448
FIRST_WORD = 24  # characters that hold it
LEAST = {2: 0x80, 3: 0x800, 4: 0x1_0000}  # the first character of so many bytes
SURROGATES = range(0xD800, 0xE000)  # which no text has


@dataclass(frozen=True, slots=True)
class Generation:
    """How a model is to be decoded where nothing else is said."""

    suppress: tuple[int, ...] = ()  # token ids that are never generated
    begin_suppress: tuple[int, ...] = ()  # token ids that never come first
    alignment_heads: tuple[tuple[int, int], ...] = ()  # (layer, head) that word times are read from
    language: str | None = None
    task: str | None = None

    @classmethod
    def from_folder(cls, folder: Path) -> Generation:
        """Read `generation_config.json`, or the same keys of `config.json` in older folders."""
        path = folder / "generation_config.json"
        path = path if path.exists() else folder / "config.json"
        return cls._read(path, "suppress_tokens", "begin_suppress_tokens")

    @classmethod
    def from_ctranslate2(cls, folder: Path) -> Generation:
        """Read a CTranslate2 folder: our exports carry generation_config.json, others only lists in config.json."""
        if (folder / "generation_config.json").exists():
            return cls.from_folder(folder)
        return cls._read(folder / "config.json", "suppress_ids", "suppress_ids_begin")

    @classmethod
    def _read(cls, path: Path, suppress: str, begin_suppress: str) -> Generation:
        """Read a file that has these names for its lists.

        Raises:
            ModelError: it is missing or damaged, or something is no list, number or text that has to be one.
        """
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            language = _text(content.get("language"))
            return cls(
                suppress=_numbers(content.get(suppress)),
                begin_suppress=_numbers(content.get(begin_suppress)),
                alignment_heads=tuple(_pair(each) for each in content.get("alignment_heads") or ()),
                language=code_of(language) or language or None,
                task=_text(content.get("task")) or None,
            )
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            fix = "download or convert the model again"
            raise ModelError(f"no readable generation settings ({error})", where=str(path), fix=fix) from error

    def allowing(self, tokens: Collection[int], first: Collection[int] = ()) -> Generation:
        """The same, with these tokens no longer suppressed, and those of `first` not at the beginning either."""
        return replace(
            self,
            suppress=tuple(token for token in self.suppress if token not in tokens),
            begin_suppress=tuple(token for token in self.begin_suppress if token not in first),
        )

    def speaking(self, language: str | None, task: str | None) -> Generation:
        """The same, for one language and task."""
        return replace(self, language=language, task=task)


def _numbers(value: Any) -> tuple[int, ...]:
    if any(type(each) is not int for each in value or ()):
        raise ValueError(f"{value!r} is no list of whole numbers")
    return tuple(value or ())


def _pair(value: Any) -> tuple[int, int]:
    first, second = _numbers(value)
    return first, second


def _text(value: Any) -> str:
    """Without the signs of a token; some recipes store a language's name: "hindi"."""
    if not isinstance(value, str | None):
        raise ValueError(f"{value!r} is no text")
    return (value or "").strip("<|>")


def tuned_generation(settings: Generation, vocabulary: Vocabulary, segments: SegmentTable) -> Generation:
    """The base model's settings, able to write what the training text holds, for its language and task."""
    tokens, first = _written(vocabulary, settings, segments)
    languages, tasks = segments.distinct("languages"), segments.distinct("tasks")
    return settings.allowing(tokens, first).speaking(
        languages[0] if len(languages) == 1 else None, tasks[0] if len(tasks) == 1 else None
    )


def _written(vocabulary: Vocabulary, settings: Generation, segments: SegmentTable) -> tuple[set[int], set[int]]:
    """Tokens of the texts that decoding would suppress, anywhere and at the beginning.

    Only texts that hold a character of a suppressed token are encoded; of the others, the different first words.
    """
    import pyarrow.compute as pc

    text_tokens = (token for token in settings.suppress if token < vocabulary.end)
    signs = "".join(sorted({_signs(vocabulary.bytes_of(token)) for token in text_tokens}))
    tokens: set[int] = set()
    first: set[int] = set()
    for spoken, task in product(segments.distinct("languages"), segments.distinct("tasks")):
        language = written_in(spoken, task)
        texts = segments.texts.filter(pc.and_(pc.equal(segments.languages, spoken), pc.equal(segments.tasks, task)))
        begins = pc.list_element(pc.utf8_split_whitespace(pc.utf8_slice_codeunits(texts, 0, FIRST_WORD)), 0)
        first.update(vocabulary.encode(begin, language)[0] for begin in begins.unique().to_pylist())
        suspects = texts.filter(pc.match_substring_regex(texts, f"[{signs}]")) if signs else texts[:0]
        for text in suspects.unique().to_pylist():
            if tokens.issuperset(settings.suppress):
                break
            tokens.update(vocabulary.encode(text, language))
    return tokens, first


def _signs(token: bytes) -> str:
    """What a token writes, for a regular expression's [...]: of a character's first bytes all that begin with them."""
    decoder = getincrementaldecoder("utf-8")("ignore")
    whole, (begun, _) = decoder.decode(token), decoder.getstate()
    signs = "".join(re.escape(sign) for sign in sorted(set(whole.strip())))
    if not begun:
        return signs
    length = 2 + (begun[0] >= 0xE0) + (begun[0] >= 0xF0)
    value = begun[0] & 0x7F >> length
    for byte in begun[1:]:
        value = value << 6 | byte & 0x3F
    open_bits = 6 * (length - len(begun))
    first, last = max(value << open_bits, LEAST[length]), min((value + 1 << open_bits) - 1, sys.maxunicode)
    return signs if first in SURROGATES else f"{signs}{chr(first)}-{chr(0xD7FF if last in SURROGATES else last)}"


def generation_values(settings: Generation, vocabulary: Vocabulary) -> dict[str, Any]:
    """All that transformers' GenerationConfig of a Whisper has to hold."""
    content: dict[str, Any] = {
        "bos_token_id": vocabulary.end,
        "decoder_start_token_id": vocabulary.start,
        "eos_token_id": vocabulary.end,
        "pad_token_id": vocabulary.end,
        "prev_sot_token_id": vocabulary.previous,
        "no_timestamps_token_id": vocabulary.no_timestamps,
        "max_initial_timestamp_index": 50,
        "max_length": MAX_LENGTH,
        "return_timestamps": False,
        "is_multilingual": vocabulary.multilingual,
        "suppress_tokens": list(settings.suppress),
        "begin_suppress_tokens": list(settings.begin_suppress),
    }
    if settings.alignment_heads:
        content["alignment_heads"] = [list(head) for head in settings.alignment_heads]
    if vocabulary.multilingual:
        content["lang_to_id"] = {f"<|{code}|>": id_ for code, id_ in vocabulary.languages.items()}
        content["task_to_id"] = {task: vocabulary.id(f"<|{task}|>") for task in TASKS}
        content |= {k: v for k, v in (("language", settings.language), ("task", settings.task)) if v}
    return content


def write_generation(folder: Path, settings: Generation, vocabulary: Vocabulary) -> None:
    """Write a complete `generation_config.json` for transformers."""
    content = json.dumps(generation_values(settings, vocabulary), indent=2)
    (folder / "generation_config.json").write_text(content + "\n", encoding="utf-8")


def ctranslate2_config(settings: Generation, vocabulary: Vocabulary, layers: int, heads: int) -> bytes:
    """The content of CTranslate2's `config.json`.

    Args:
        settings: of the model; where they name no heads to read word times from, all of the later layers are read.
        vocabulary: of the model.
        layers: of the decoder.
        heads: of each of them.
    """
    later = product(range(layers // 2, layers), range(heads))
    content = {
        "suppress_ids": list(settings.suppress),
        "suppress_ids_begin": list(settings.begin_suppress),
        "lang_ids": sorted(vocabulary.languages.values()),
        "alignment_heads": [list(head) for head in settings.alignment_heads or later],
    }
    return (json.dumps(content, indent=2) + "\n").encode()
