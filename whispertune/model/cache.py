"""The cache folder: what is converted once is found again.

    folder = filled(cache_folder() / "bundled-whisper-base", fill)   # fill(folder) runs the first time only

It lies in `$WHISPERTUNE_CACHE`, else `$XDG_CACHE_HOME/whispertune`, else `~/.cache/whispertune`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_folder() -> Path:
    """Where converted models are kept; may not exist yet."""
    if own := os.environ.get("WHISPERTUNE_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "whispertune"


def filled(folder: Path, fill: Callable[[Path], None]) -> Path:
    """`folder`, made by `fill` where it is not there yet: whole or not at all, also with several processes."""
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        fill(temporary)
        temporary.rename(folder)
    except OSError:
        if not folder.exists():  # another process may have been first
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder
