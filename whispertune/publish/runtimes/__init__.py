"""What exports are decoded with, by the format they are in.

RUNTIMES["ct2"](Path("deployed"), find_model("my-run")).hear(clip)

To add one, write a function that opens a folder, and name it here under the name that its writer has in
`model/export.py`; an adapter is opened with the model that its source was trained from.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from whispertune.model.formats.adapter import kept_base
from whispertune.model.load import ModelFolder, find_model
from whispertune.publish.runtimes.faster_whisper import open_faster_whisper
from whispertune.publish.runtimes.heard import Runtime
from whispertune.publish.runtimes.onnx_runtime import open_onnx
from whispertune.publish.runtimes.openai_whisper import open_openai
from whispertune.publish.runtimes.peft import open_peft
from whispertune.publish.runtimes.transformers import open_transformers
from whispertune.publish.runtimes.whisper_cpp import open_whisper_cpp

RUNTIMES: Final[dict[str, Callable[[Path, ModelFolder], Runtime]]] = {
    "ct2": lambda folder, source: open_faster_whisper(folder),
    "transformers": lambda folder, source: open_transformers(folder),
    "openai": lambda folder, source: open_openai(folder),
    "ggml": lambda folder, source: open_whisper_cpp(folder),
    "adapter": lambda folder, source: open_peft(folder, find_model(kept_base(source.path))),
    "onnx": lambda folder, source: open_onnx(folder),
}
