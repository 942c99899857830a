"""peft, on an adapter folder and the model that it belongs to.

heard = open_peft(Path("deployed"), find_model("openai/whisper-small")).hear(clip)
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Final

from whispertune.decode.engines import LiveModel, TransformersEngine, best_device
from whispertune.model.generation import Generation
from whispertune.model.load import ModelFolder
from whispertune.publish.runtimes.heard import Package
from whispertune.publish.runtimes.transformers import Transformers
from whispertune.windows.tokens import Vocabulary

PACKAGE: Final = Package("peft", "peft")


class Peft(Transformers):
    """An adapter as PeftModel loads it, not merged, in float32."""

    def __init__(self, folder: Path, base: ModelFolder) -> None:
        from peft import PeftModel

        with warnings.catch_warnings():  # peft 0.21 asks transformers 5.23 by a name that is going
            warnings.simplefilter("ignore", FutureWarning)
            adapted = PeftModel.from_pretrained(base.load(), str(folder))
        model = adapted.base_model.model.to(best_device())
        vocabulary = Vocabulary.from_file(folder / "tokenizer.json")
        tokenizer_json = (folder / "tokenizer.json").read_bytes()
        live = LiveModel(model, base.shape, vocabulary, tokenizer_json, Generation.from_folder(folder))
        self.name = PACKAGE.name
        self.engine = TransformersEngine(live)


def open_peft(folder: Path, base: ModelFolder) -> Peft:
    """An adapter, its tokenizer and its generation settings, beside the model that it was trained from."""
    return Peft(folder, base)
