"""Random numbers by purpose: the same seed and key give the same numbers, wherever and whenever they are asked for.

keyed_rng(seed, "dropout", step).random()
"""

from __future__ import annotations

import zlib

import numpy as np


def keyed_rng(seed: int, *key: int | str) -> np.random.Generator:
    """A generator for one purpose; nothing that was drawn before has a part in it."""
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key]
    return np.random.default_rng([seed, *words])
