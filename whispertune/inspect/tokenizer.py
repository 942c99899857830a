"""The tokenizer of a model by name, without its weights.

tokenizer = find_tokenizer("openai/whisper-small")
tokenizer.vocabulary.count(["hej"], ["sv"])
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from whispertune.model.load import ModelFolder, find_model, from_hub
from whispertune.windows.tokens import Vocabulary

HUB_FILES = ["tokenizer.json", "generation_config.json", "config.json"]


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A model's vocabulary, and what it is set to hear."""

    name: str
    vocabulary: Vocabulary
    language: str | None  # for rows where nothing else says it


def find_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of a folder, a run, a bundled model, or one of the hub.

    Raises:
        ModelError: there is none of that name.
    """
    is_hub = re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not Path(name).expanduser().is_dir()
    folder = ModelFolder(name, from_hub(name, HUB_FILES)) if is_hub else find_model(name)
    english = None if folder.vocabulary.multilingual else "en"
    return Tokenizer(name, folder.vocabulary, folder.generation.language or english)
