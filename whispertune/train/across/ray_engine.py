"""Training on a Ray cluster: Ray Train starts a process for each worker, and each runs the same loop.

    result = fine_tune_on_ray(recipe, Run(Path("my-run")), workers=8, reporter=screen)

What the loop tells, its result and its errors come back here, and Ctrl-C goes there: the run saves itself and can be
resumed, here or with another number of workers. The run's folder and the recordings need the same paths on all nodes
(storage that they share), and whispertune has to be installed there.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from whispertune.errors import InputError, TrainingError, WhispertuneError
from whispertune.ray_cluster import ray_cluster
from whispertune.recipe import Recipe
from whispertune.reporting import Reporter
from whispertune.train.across.ranks import GRADIENTS_PATIENCE, RankLostError, portable
from whispertune.train.run import Run
from whispertune.train.signals import StopRequest

if TYPE_CHECKING:
    from whispertune.train.result import TrainingResult

POLL_S: Final = 0.3


def fine_tune_on_ray(
    recipe: Recipe,
    run: Run,
    *,
    workers: int,
    resume: bool = False,
    allow_changes: bool = False,
    reporter: Reporter | None = None,
) -> TrainingResult:
    """Run a recipe with so many workers of the Ray cluster that RAY_ADDRESS names, or of the one that runs here.

    Raises:
        InputError: Ray is not installed, no cluster answers, or it is too small.
        WhispertuneError: as `fine_tune` does.
    """
    with ray_cluster() as ray:
        scaling = _scaling(ray.nodes(), workers)
        line = ray.remote(num_cpus=0)(_Line).remote()
        how = {"resume": resume, "allow_changes": allow_changes}
        job = {"recipe": recipe, "run": Run(run.folder.resolve()), "how": how, "line": line, "cwd": os.getcwd()}
        fit = _Fit(job, scaling)
        with StopRequest() as stop:
            stop.listen()
            told = False
            while fit.is_alive():
                fit.join(POLL_S)
                _pass_on(ray.get(line.take.remote()), reporter or Reporter())
                if stop.requested and not told:
                    told = bool(ray.get(line.stop.remote()))
        _pass_on(ray.get(line.take.remote()), reporter or Reporter())
        result, error = ray.get(line.outcome.remote())
    if error is not None:
        raise error
    if result is None:
        raise _broken(fit.error, run)
    return result  # type: ignore[no-any-return]


class _Line:
    """An actor between this process and the workers: what they tell, how it ended, and whether they are to stop."""

    def __init__(self) -> None:
        self._told: list[tuple[str, tuple[Any, ...]]] = []
        self._result: Any = None
        self._errors: dict[int, WhispertuneError] = {}
        self._stopping = False

    def tell(self, name: str, arguments: tuple[Any, ...]) -> None:
        self._told.append((name, arguments))

    def take(self) -> list[tuple[str, tuple[Any, ...]]]:
        told, self._told = self._told, []
        return told

    def stop(self) -> bool:
        self._stopping = True
        return True

    def stopping(self) -> bool:
        return self._stopping

    def end(self, rank: int, result: Any, error: WhispertuneError | None) -> None:
        if error is not None:
            self._errors[rank] = error
        elif rank == 0:
            self._result = result

    def outcome(self) -> tuple[Any, WhispertuneError | None]:
        """The main worker's result, or the error of the first that has one."""
        first = min(self._errors, default=None)
        return self._result, None if first is None else self._errors[first]


class _Fit(threading.Thread):
    """Ray's own call, which blocks. In the main thread it would take Ctrl-C for itself and kill the workers."""

    def __init__(self, job: dict[str, Any], scaling: dict[str, Any]) -> None:
        super().__init__(name="ray fit", daemon=True)
        self.job, self.scaling = job, scaling
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        storage = tempfile.mkdtemp(prefix="whispertune-ray-")  # what Ray notes for itself; our run has its own folder
        trainer = TorchTrainer(
            _work,
            train_loop_config=self.job,
            scaling_config=ScalingConfig(**self.scaling),
            run_config=RunConfig(name="whispertune", storage_path=storage),
            torch_config=TorchConfig(timeout_s=int(GRADIENTS_PATIENCE.total_seconds())),
        )
        try:
            trainer.fit()
        except Exception as error:
            self.error = error
        finally:
            shutil.rmtree(storage, ignore_errors=True)


def _work(job: dict[str, Any]) -> None:
    """What each worker does: the loop, as any process of several does it."""
    import ray
    from ray.train import get_context

    from whispertune.train.loop import fine_tune

    line, rank, stop = job["line"], get_context().get_world_rank(), StopRequest()
    with suppress(OSError):  # relative paths mean what they mean where the command was given
        os.chdir(job["cwd"])
    threading.Thread(target=_watch, args=(line, stop), daemon=True).start()
    reporter = _forwarding(line) if rank == 0 else Reporter()
    try:
        result = fine_tune(job["recipe"], job["run"], **job["how"], reporter=reporter, stop=stop)
    except WhispertuneError as error:
        if not isinstance(error, RankLostError):
            ray.get(line.end.remote(rank, None, portable(error, rank)))
        raise  # so that Ray ends the others
    ray.get(line.end.remote(rank, result if rank == 0 else None, None))


def _watch(line: Any, stop: StopRequest) -> None:
    """Workers run in threads, where Python allows no signal handlers: the line says when to stop."""
    import ray

    with suppress(ray.exceptions.RayError):  # the line has gone: so has the run
        while not ray.get(line.stopping.remote()):
            threading.Event().wait(POLL_S)
        stop.requested = True


def _forwarding(line: Any) -> Reporter:
    """A reporter whose every word goes down the line."""
    reporter = Reporter()
    for name in vars(Reporter):
        if not name.startswith("_"):
            setattr(reporter, name, partial(_send, line, name))
    return reporter


def _send(line: Any, name: str, *arguments: Any) -> None:
    line.tell.remote(name, arguments)


def _pass_on(told: Sequence[tuple[str, tuple[Any, ...]]], reporter: Reporter) -> None:
    for name, arguments in told:
        getattr(reporter, name)(*arguments)


def _scaling(nodes: Sequence[dict[str, Any]], workers: int) -> dict[str, Any]:
    """A GPU a worker where there are GPUs, and as many CPUs as all of them can have.

    Raises:
        InputError: so many workers have no room; Ray itself would wait for ever.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    gpus = sum(int(each.get("GPU", 0)) for each in alive)
    if 0 < gpus < workers:
        raise InputError(f"the cluster has {gpus} GPUs for {workers} workers", fix=f"--workers {gpus}")
    counts = [(int(each.get("CPU", 0)), int(each.get("GPU", 0)) if gpus else workers) for each in alive]
    for cpus in range(max(cpus for cpus, _ in counts), 0, -1):
        if sum(min(have // cpus, most) for have, most in counts) >= workers:
            return {"num_workers": workers, "use_gpu": bool(gpus), "resources_per_worker": {"CPU": cpus}}
    total = sum(cpus for cpus, _ in counts)
    raise InputError(f"the cluster has {total} CPUs for {workers} workers", fix=f"--workers {max(1, total)}")


def _broken(error: Exception | None, run: Run) -> TrainingError:
    """What is left to say of a run whose workers did not: of those that failed, the first that failed by itself."""
    failures: dict[int, Any] = getattr(error, "worker_failures", None) or {0: error}
    rank = min(failures, key=lambda rank: (isinstance(failures[rank], RankLostError), rank))
    line = next(iter(str(failures[rank]).strip().splitlines()), "")
    return TrainingError(
        f"worker {rank} failed: {type(failures[rank]).__name__}: {line}",
        where=str(run.folder),
        fix="what was saved is kept: --resume goes on",
    )
