"""Mixed weights as a model folder that says what it was made of.

write_mixed(Path("mean"), contents, Mark(("full",), "merged"), {"models": ["run-1", "run-2"], "weights": [0.5, 0.5]})
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from whispertune.decode.context import Mark
from whispertune.files import replace_text, writing
from whispertune.model.formats.contents import Contents
from whispertune.model.formats.transformers import write_folder
from whispertune.model.load import MARK
from whispertune.publish.origin import BASE, Origin
from whispertune.train.keeping.placing import publish


def write_mixed(
    out: Path, contents: Contents, mark: Mark, origin: Mapping[str, Any], base: Origin | None = None
) -> None:
    """Write a model folder, whole or not at all; one that is there is replaced.

    Args:
        origin: what it was mixed of, and how, as its mark tells it.
        base: where that came from, with licences; None where the run tells that it lies in.

    Raises:
        InputError: it cannot be written.
    """
    target = out.resolve()
    temporary = target.with_name(f".{target.name}.partial")
    try:
        with writing(out):
            shutil.rmtree(temporary, ignore_errors=True)
            write_folder(temporary, contents.state, contents.shape, contents.tokenizer_json, contents.generation)
            told = asdict(mark) | {"origin": dict(origin)} | ({BASE: asdict(base)} if base else {})
            replace_text(temporary / MARK, json.dumps(told, ensure_ascii=False) + "\n")
            publish(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
