"""Memory that a step gives back is kept for the next one, on CPUs.

keep_freed_memory()     # once, before the first step

glibc hands large blocks back to the system as soon as they are free, and every step then waits for the same pages to
be mapped and zeroed again: 140,000 to 330,000 page faults a step with whisper-base. Without that a step takes 0.6 to
0.8 of the time, and the process a little more memory at its peak.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Final

TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8  # of glibc's mallopt, <malloc.h>
SETTINGS: Final = ((MMAP_MAX, 0), (TRIM_THRESHOLD, 2**31 - 1), (ARENA_MAX, 1))


def keep_freed_memory() -> bool:
    """Ask the C library to keep what is freed; False where it has no such settings (not Linux with glibc)."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return all(mallopt(name, value) == 1 for name, value in SETTINGS)
