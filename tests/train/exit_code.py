"""`whispertune`, run by a launcher of several processes; each leaves its exit code in a file.

torchrun --nproc-per-node 2 tests/train/exit_code.py <folder> train recipe.toml
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from whispertune.cli import main

if __name__ == "__main__":
    code = main(sys.argv[2:])
    (Path(sys.argv[1]) / f"code-{os.environ['RANK']}").write_text(str(code))
    sys.exit(code)
