"""What exports are decoded with, by the format they are in.

RUNTIMES["ct2"](Path("deployed"), find_model("my-run")).hear(clip)
RUNTIMES["ggml"].package.check()         # InputError where it is not installed

To add one, write a function that opens a folder, and name it here under the name that its writer has in
`model/export.py`; an adapter is opened with the model that its source was trained from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from whispertune.model.formats.adapter import kept_base
from whispertune.model.load import ModelFolder, find_model
from whispertune.publish.runtimes import faster_whisper, onnx_runtime, openai_whisper, peft, transformers, whisper_cpp
from whispertune.publish.runtimes.heard import Package, Runtime


@dataclass(frozen=True, slots=True)
class Opener:
    """How an export is opened, and what that needs."""

    package: Package
    open: Callable[[Path, ModelFolder], Runtime]  # (export, what it was made of)

    def __call__(self, folder: Path, source: ModelFolder) -> Runtime:
        """An export in its runtime.

        Raises:
            InputError: the runtime is not installed. ModelError: it cannot load the export.
        """
        return self.open(folder, source)


RUNTIMES: Final = {
    "ct2": Opener(faster_whisper.PACKAGE, lambda folder, source: faster_whisper.open_faster_whisper(folder)),
    "transformers": Opener(transformers.PACKAGE, lambda folder, source: transformers.open_transformers(folder)),
    "openai": Opener(openai_whisper.PACKAGE, lambda folder, source: openai_whisper.open_openai(folder)),
    "ggml": Opener(whisper_cpp.PACKAGE, lambda folder, source: whisper_cpp.open_whisper_cpp(folder)),
    "adapter": Opener(peft.PACKAGE, lambda folder, source: peft.open_peft(folder, find_model(kept_base(source.path)))),
    "onnx": Opener(onnx_runtime.PACKAGE, lambda folder, source: onnx_runtime.open_onnx(folder)),
}
