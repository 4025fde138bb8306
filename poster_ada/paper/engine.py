"""Jobs side by side: on this machine or on SLURM by way of submitit, or one after another where that is not installed.

    for done in run_jobs([RowJob(...), ...], Path("runs/jobs"), Engine(workers=2)):
        print(done)

A job is a function without arguments that can be pickled. It is called in a process of its own, which has one thread of
each kind where several work on one machine: two trainings with a thread each are faster than one with two.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from poster_ada.errors import InputError

CLUSTERS = ("local", "slurm")
POLL = 1.0  # seconds
EXTRA = 'python -m pip install "poster-ada[study]"'


@dataclass(frozen=True)
class Engine:
    """Where jobs run.

    Args:
        cluster: `local` (this machine) or `slurm`.
        workers: jobs at a time.
        partition: of SLURM; its default where None.
        minutes: after which a job is stopped; SLURM queues it again, and it goes on.
        gpus: of each job; where None, one if this machine has any, and none on SLURM. Jobs here take turns at them.
    """

    cluster: str = "local"
    workers: int = 2
    partition: str | None = None
    minutes: int = 24 * 60
    gpus: int | None = None

    def __post_init__(self) -> None:
        if self.workers < 1 or self.minutes < 1 or (self.gpus or 0) < 0:
            raise InputError("--workers and --time are at least 1, --gpus at least 0.")
        if self.cluster == "slurm" and not can_submit():
            raise InputError(f"--cluster slurm needs submitit; install it: {EXTRA}.")


def can_submit() -> bool:
    """Whether submitit can start processes here; it does not on Windows."""
    return os.name == "posix" and find_spec("submitit") is not None


def run_jobs(jobs: Sequence[Callable[[], Any]], folder: Path, engine: Engine) -> Iterator[Any]:
    """What each job returns, as they finish; submission files and logs go to `folder`.

    Raises InputError, naming its log, where a job failed; jobs that were started are then stopped.
    """
    if engine.cluster == "local" and (engine.workers == 1 or not can_submit()):
        yield from (job() for job in jobs)
        return
    executor, waiting = _executor(folder, engine), list(jobs)
    running: list[Any] = []
    try:
        while waiting or running:
            while waiting and len(running) < engine.workers:
                with _one_thread(engine):
                    running.append(_submit(executor, waiting.pop(0), len(jobs) - len(waiting), engine))
            for job in [job for job in running if job.done()]:
                yield _result(job)
                running.remove(job)
            time.sleep(POLL if running else 0)
    finally:
        for job in running:
            job.cancel()


def _executor(folder: Path, engine: Engine) -> Any:
    import submitit

    folder.mkdir(parents=True, exist_ok=True)
    if engine.cluster == "local":
        return submitit.LocalExecutor(folder.absolute())
    executor = submitit.AutoExecutor(folder.absolute(), cluster="slurm")
    partition = {"slurm_partition": engine.partition} if engine.partition else {}
    executor.update_parameters(name="poster-ada", timeout_min=engine.minutes, gpus_per_node=engine.gpus or 0,
                               cpus_per_task=1, **partition)
    return executor


def _submit(executor: Any, job: Callable[[], Any], number: int, engine: Engine) -> Any:
    if engine.cluster == "local":
        import torch

        there = torch.cuda.device_count()
        wanted = min(1, there) if engine.gpus is None else engine.gpus
        if wanted > there:
            raise InputError(f"--gpus {wanted}: this machine has {there}.")
        turn = [(number * wanted + place) % there for place in range(wanted)]
        executor.update_parameters(timeout_min=engine.minutes, gpus_per_node=wanted, visible_gpus=turn)
    return executor.submit(job)


def _result(job: Any) -> Any:
    error = job.exception()
    if error is None:
        return job.result()
    told = str(error).split("-" * 22)  # the job's traceback between two rules, or two lines where it was stopped
    said = told[1].strip().splitlines()[-1] if len(told) > 2 else " ".join(told[0].strip().splitlines()[:2])
    raise InputError(f"a run failed, see {job.paths.stderr}: {said}")


@contextmanager
def _one_thread(engine: Engine) -> Iterator[None]:
    """Give processes that are started here one thread, unless the user said how many."""
    given = os.environ.get("OMP_NUM_THREADS")
    if given is None and engine.workers > 1:
        os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if given is None:
            os.environ.pop("OMP_NUM_THREADS", None)
