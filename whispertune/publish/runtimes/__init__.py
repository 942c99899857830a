"""What exports are decoded with, by the format they are in.

RUNTIMES["ct2"](Path("deployed")).hear(clip)

To add one, write a function that opens a folder and name it here, under the name that its writer has in
`model/export.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from whispertune.publish.runtimes.faster_whisper import open_faster_whisper
from whispertune.publish.runtimes.heard import Runtime
from whispertune.publish.runtimes.transformers import open_transformers

RUNTIMES: Final[dict[str, Callable[[Path], Runtime]]] = {
    "ct2": open_faster_whisper,
    "transformers": open_transformers,
}
