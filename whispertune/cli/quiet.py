"""The libraries' notes on their own internals are not for our users; ours say what matters."""

from __future__ import annotations

import logging
import os


def quieten() -> None:
    """Errors only from transformers, the hub client, CTranslate2 and others; call it before they load."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("CT2_VERBOSE", "-1")
    for name in ("faster_whisper", "bitsandbytes"):
        logging.getLogger(name).setLevel(logging.ERROR)
