"""Spectrograms as PNG files: a colour map of even steps of lightness, and as much of PNG as it needs.

png = encode_png(levels)        # uint8 (height, width), the top row first: 0 dark, 255 light
"""

from __future__ import annotations

import struct
import zlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

COLOURS = 256
LIGHTNESS = (0.10, 0.97)  # of the darkest and the lightest colour, in Oklab, where equal steps look equal
HUES_DEGREES = (285.0, 460.0)  # from violet by red to yellow
MOST_CHROMA = 0.17
# Oklab to linear sRGB (Ottosson, 2020): first to cone responses, which are cubed, then to red, green and blue.
_TO_CONES = np.array(
    [[1.0, 0.3963377774, 0.2158037573], [1.0, -0.1055613458, -0.0638541728], [1.0, -0.0894841775, -1.2914855480]]
)
_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)
_BITS, _INDEXED = 8, 3  # of the header: bits a pixel, and that they are the index of a colour


def encode_png(levels: NDArray[np.uint8]) -> bytes:
    """An indexed PNG. levels: uint8 (height, width)."""
    height, width = levels.shape
    header = struct.pack(">IIBBBBB", width, height, _BITS, _INDEXED, 0, 0, 0)
    unfiltered = np.zeros((height, 1), dtype=np.uint8)  # the filter of each line: none
    lines = np.concatenate([unfiltered, levels], axis=1).tobytes()
    chunks = ((b"IHDR", header), (b"PLTE", palette().tobytes()), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)


@lru_cache(maxsize=1)
def palette() -> NDArray[np.uint8]:
    """The colours from dark to light, (256, 3) of red, green, blue."""
    at = np.linspace(0.0, 1.0, COLOURS)
    lightness = LIGHTNESS[0] + (LIGHTNESS[1] - LIGHTNESS[0]) * at
    hue = np.radians(HUES_DEGREES[0] + (HUES_DEGREES[1] - HUES_DEGREES[0]) * at)
    chroma = MOST_CHROMA * np.sin(np.pi * at) ** 0.75
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)  # (256, 3)
    linear = np.clip(((lab @ _TO_CONES.T) ** 3) @ _TO_RGB.T, 0.0, 1.0)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)  # sRGB's curve
    colours: NDArray[np.uint8] = np.round(255 * encoded).astype(np.uint8)
    return colours


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
