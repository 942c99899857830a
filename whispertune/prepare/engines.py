"""Who writes the shards: processes of this machine, or an existing Ray cluster. Both run `job.write_shard`.

    ENGINES["local"](work, [0, 1, 2], processes=2, tell=tell)      # tell(shard, rows, seconds, done)

A Ray cluster needs the dataset's folder and the recordings under the same paths on all its nodes (storage that they
share), and whispertune installed there.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import whispertune
from whispertune.errors import InputError, WhispertuneError
from whispertune.ray_cluster import ray_cluster

Tell = Callable[[int, int, float, bool], None]  # (shard, its rows done, seconds of audio in them, whether it is done)
Engine = Callable[[Path, Sequence[int], int, Tell], None]

# By -c, not by -m: nothing of the caller's folder or main module is imported in there.
_START = "import sys; sys.path.append({root!r}); from whispertune.prepare.worker import main; main()"
_ROOT = str(Path(whispertune.__file__).parents[1])


def run_local(work: Path, shards: Sequence[int], processes: int, tell: Tell) -> None:
    """Write shards with several processes of this machine.

    Raises:
        WhispertuneError: a shard failed, or the process that wrote it died; the others are ended too.
    """
    left = list(reversed(shards))
    answers: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
    with _workers(work, min(processes, len(shards)), answers) as workers:
        busy: dict[int, int] = {}
        for number in range(len(workers)):
            _ask(workers[number], busy, number, left)
        while busy:
            number, line = answers.get()
            if not line:
                raise _died(workers[number], busy.get(number))
            if _told(json.loads(line), tell):
                del busy[number]
                _ask(workers[number], busy, number, left)


def run_ray(work: Path, shards: Sequence[int], processes: int, tell: Tell) -> None:
    """Write shards on the Ray cluster that RAY_ADDRESS names, or on the one that runs here; a CPU a shard.

    Raises:
        InputError: Ray is not installed, or no cluster answers. WhispertuneError: a shard failed.
    """
    with ray_cluster() as ray:
        _on_ray(ray, work, shards, tell)


ENGINES: dict[str, Engine] = {"local": run_local, "ray": run_ray}


def _on_ray(ray: Any, work: Path, shards: Sequence[int], tell: Tell) -> None:
    remote = ray.remote(num_cpus=1, max_retries=2)(_write_remotely)
    place = str(work.absolute())  # a node runs in a folder of its own
    running = {remote.remote(place, number): number for number in shards}
    try:
        while running:
            ready, _ = ray.wait(list(running), num_returns=1)
            number = running.pop(ready[0])
            try:
                rows, seconds = ray.get(ready[0])
            except ray.exceptions.RayError as error:
                cause = getattr(error, "cause", None) or error
                raise WhispertuneError(f"shard {number} failed on the cluster: {cause}", fix=_AGAIN) from None
            tell(number, rows, seconds, True)
    finally:
        for task in running:
            ray.cancel(task, force=True)


def _write_remotely(work: str, number: int) -> tuple[int, float]:
    """`write_shard` as a task of Ray; what comes back is small."""
    from whispertune.prepare.job import write_shard

    if not Path(work).is_dir():
        fix = "put --out on storage that all nodes share"
        raise InputError("this node does not see the folder", where=work, fix=fix)
    record = write_shard(Path(work), number, lambda rows, seconds: None)
    return record.rows, record.seconds


_AGAIN = "what is finished is kept: run the same command again"


@contextmanager
def _workers(
    work: Path, count: int, answers: queue.SimpleQueue[tuple[int, str]]
) -> Iterator[list[subprocess.Popen[str]]]:
    """Running workers; each line that one prints comes to `answers` with its number, and "" at its end."""
    command = [sys.executable, "-P", "-c", _START.format(root=_ROOT), str(work)]
    workers: list[subprocess.Popen[str]] = []
    readers: list[threading.Thread] = []
    try:
        for number in range(count):
            pipe = subprocess.PIPE
            workers.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=None, text=True, encoding="utf-8"))
            readers.append(threading.Thread(target=_forward, args=(workers[-1], number, answers), daemon=True))
            readers[-1].start()
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        for reader in readers:
            reader.join()
        for worker in workers:
            for end in (worker.stdin, worker.stdout):
                with suppress(OSError):  # what was buffered for a dead process
                    if end:
                        end.close()


def _forward(worker: subprocess.Popen[str], number: int, answers: queue.SimpleQueue[tuple[int, str]]) -> None:
    assert worker.stdout is not None
    for line in worker.stdout:
        answers.put((number, line))
    answers.put((number, ""))


def _ask(worker: subprocess.Popen[str], busy: dict[int, int], number: int, left: list[int]) -> None:
    """Give a worker the next shard, where there is one."""
    if not left:
        return
    busy[number] = left.pop()
    assert worker.stdin is not None
    with suppress(BrokenPipeError):  # its end is in the queue
        worker.stdin.write(f"{busy[number]}\n")
        worker.stdin.flush()


def _told(answer: dict[str, Any], tell: Tell) -> bool:
    """Pass on what a worker says; whether it is free again."""
    if "error" in answer:
        kind = InputError if answer["code"] == InputError.exit_code else WhispertuneError
        raise kind(answer["error"], where=answer["where"], fix=answer["fix"] or _AGAIN)
    done = bool(answer.get("done"))
    tell(answer["shard"], answer.get("rows", 0), answer.get("seconds", 0.0), done)
    return done


def _died(worker: subprocess.Popen[str], shard: int | None) -> WhispertuneError:
    code = worker.wait()
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    hint = "; signal 9 is often the system, out of memory: try fewer --processes" if code == -9 else ""
    return WhispertuneError(f"the process that wrote shard {shard} {how}{hint}", fix=_AGAIN)
