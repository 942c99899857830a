"""A process that writes shards, one after the other, until nobody asks for more.

It is started by `engines.run_local` and speaks JSON lines: a number of a shard in, what happens out:

    > 3
    < {"shard": 3, "rows": 50, "seconds": 171.2}
    < {"shard": 3, "done": true}
    < {"shard": 3, "error": "No space left on device", "where": null, "fix": null, "code": 1}

It ends when its input does, so that nothing goes on behind a caller that was killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from whispertune.errors import WhispertuneError
from whispertune.prepare.job import write_shard


def main() -> None:
    """Serve the work folder named on the command line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the caller, who ends this process
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not get between the answers
    caller = os.getppid()
    threading.Thread(target=_end_with, args=(caller,), daemon=True).start()
    try:
        for line in sys.stdin:
            _serve(Path(sys.argv[1]), int(line), answers)
    except BrokenPipeError:
        os._exit(0)  # the caller has gone: nobody is left to tell


def _end_with(caller: int) -> None:
    """End this process soon after its caller: a row group may be long in coming."""
    import time

    while os.getppid() == caller:
        time.sleep(1.0)
    os._exit(0)


def _serve(work: Path, number: int, answers: TextIO) -> None:
    def tell(**what: Any) -> None:
        answers.write(json.dumps({"shard": number, **what}) + "\n")
        answers.flush()

    try:
        write_shard(work, number, _teller(tell))
        tell(done=True)
    except BrokenPipeError:
        raise
    except WhispertuneError as error:
        tell(error=error.what, where=error.where, fix=error.fix, code=error.exit_code)
    except Exception as error:
        tell(error=f"{type(error).__name__}: {error}", where=None, fix=None, code=1)


def _teller(tell: Callable[..., None]) -> Callable[[int, float], None]:
    return lambda rows, seconds: tell(rows=rows, seconds=seconds)


if __name__ == "__main__":
    main()
