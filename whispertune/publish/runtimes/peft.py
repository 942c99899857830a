"""peft, on an adapter folder and the model that it belongs to.

heard = open_peft(Path("deployed"), find_model("openai/whisper-small")).hear(clip)
"""

from __future__ import annotations

import warnings
from pathlib import Path

from whispertune.decode.engines import LiveModel, TransformersEngine, best_device
from whispertune.model.formats.adapter import base_name
from whispertune.model.generation import Generation
from whispertune.model.load import ModelFolder, find_model
from whispertune.publish.runtimes.heard import version_of
from whispertune.publish.runtimes.transformers import Transformers
from whispertune.windows.tokens import Vocabulary


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
        self.name = version_of("peft")
        self.engine = TransformersEngine(live)


def open_peft(folder: Path, base: ModelFolder | None = None) -> Peft:
    """An adapter in peft.

    Args:
        folder: of the adapter, with a tokenizer and generation settings.
        base: the model that it stands beside; where it is not given, what the adapter names.
    """
    return Peft(folder, base or find_model(base_name(folder)))
