"""What a run is trained on, in a line, for run.json and the card: no name of the machine.

machine()      # "AMD EPYC 7763, 2 cores, 8 GB" or "..., 16 cores, 128 GB; 2 x NVIDIA H200"
"""

from __future__ import annotations

import os
import platform
from collections import Counter
from contextlib import suppress
from pathlib import Path


def machine() -> str:
    """Of this process: its processor, cores and memory, and the GPUs that it sees."""
    import torch

    parts = [_processor(), f"{os.cpu_count() or 1} cores"]
    with suppress(AttributeError, ValueError, OSError):  # no such question on Windows
        parts.append(f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9:.0f} GB")
    names = Counter(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    gpus = [f"{count} x {name}" if count > 1 else name for name, count in names.items()]
    return "; ".join([", ".join(part for part in parts if part), *gpus])


def _processor() -> str:
    """As the system names it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
