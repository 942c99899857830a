"""transformers' generate(), on a folder of its own; what every other runtime is held against.

heard = open_transformers(Path("deployed")).hear(clip)
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from whispertune.decode.engines import TransformersEngine, best_device, load_live
from whispertune.model.load import ModelFolder
from whispertune.publish.runtimes.heard import Clip, Heard, Package, on_a_window
from whispertune.windows.features import log_mel

PACKAGE: Final = Package("transformers", "transformers")


class Transformers:
    """A model folder in float32."""

    def __init__(self, folder: ModelFolder) -> None:
        live = load_live(folder)
        live.model.to(best_device())
        self.name = PACKAGE.name
        self.engine = TransformersEngine(live)

    def hear(self, clip: Clip) -> Heard:
        import torch

        mel = log_mel(torch.from_numpy(on_a_window(clip.samples))[None], self.engine.n_mels)
        (tokens,) = self.engine.tokens(mel, clip.language, clip.task)
        vocabulary = self.engine.vocabulary
        return Heard(vocabulary.decode(tokens), tuple(token for token in tokens if token < vocabulary.end))


def open_transformers(folder: Path) -> Transformers:
    """A transformers folder in transformers."""
    return Transformers(ModelFolder(str(folder), folder))
