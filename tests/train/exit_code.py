"""`whispertune`, run by a launcher of several processes; each leaves its exit code in a file.

torchrun --nproc-per-node 2 tests/train/exit_code.py <folder> train recipe.toml
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from whispertune.cli import main


def run(arguments: Sequence[str]) -> int:
    folder, *command = arguments
    code = main(command)
    (Path(folder) / f"code-{os.environ['RANK']}").write_text(str(code))
    return code


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
