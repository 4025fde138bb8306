"""Several trainings at once, each in a worker process with one thread.

A small network leaves much of a second thread idle: two trainings of `nano` with a thread each do more than one with
two (benchmarks/README.md). A worker is a fresh Python that reads configurations, one line of JSON each, so it starts
the same way from a script, a notebook and on Windows. What it leaves are ordinary runs in `runs/`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import torch
from tqdm import tqdm

from poster_ada.data.datasets import open_dataset
from poster_ada.data.layouts import Dataset
from poster_ada.devices import available_cores, choose_device
from poster_ada.errors import InputError
from poster_ada.training.loop import train
from poster_ada.training.recipe import SCHEDULES, TrainConfig
from poster_ada.training.runs import Run, default_folder

MOST_WORKERS = 4  # each takes 1 GB with nano, 2 with mini
EPOCH_LINE = re.compile(r"epoch +\d+/")  # the training loop's
ANSWER = "\x1e"  # begins a worker's line that is no line of its training's


def train_all(
    configs: Sequence[TrainConfig], dataset: Dataset, device: str = "auto", workers: int | None = None,
    quiet: bool = False,
) -> list[Run]:
    """Train every configuration in the folder that `train` gives it, or take it from there; the runs, in that order.

    Small presets on a CPU train side by side; others one after another, as do those that a worker did not finish.

    Args:
        dataset: the face set of all of them.
        workers: processes; default as many as cores, at most `MOST_WORKERS`. 1 trains in this process.
        quiet: no bar and no lines.

    Raises:
        InputError: as `train`.
    """
    todo = [*{default_folder(config, dataset): config for config in configs if not is_done(config, dataset)}.values()]
    todo.sort(key=lambda config: -config.epochs * config.model.depth)  # a long one begun last would leave cores idle
    count = min(workers or min(available_cores(), MOST_WORKERS), len(todo))
    if count > 1 and all(config.preset in SCHEDULES for config in todo) and choose_device(device).type == "cpu":
        side_by_side(deque(todo), dataset, count, quiet)
    return [train(config, device=device, quiet=quiet, dataset=dataset) for config in configs]


def side_by_side(waiting: deque[TrainConfig], dataset: Dataset, count: int, quiet: bool) -> None:
    """Train as many of `waiting` as `count` workers get done. Raises InputError as the first one that meets one."""
    total, title = sum(config.epochs for config in waiting), f"{len(waiting)} trainings"
    with ExitStack() as stack:
        workers = [stack.enter_context(start_worker(dataset)) for _ in range(count)]
        bar = stack.enter_context(tqdm(total=total, desc=title, unit="epoch", disable=quiet, dynamic_ncols=True))
        pool = stack.enter_context(ThreadPoolExecutor(count))
        try:
            errors = [*pool.map(lambda worker: work_off(worker, waiting, bar.update), workers)]
        finally:
            for worker in workers:
                stop(worker)
    if error := next(filter(None, errors), None):
        raise InputError(error)


def is_done(config: TrainConfig, dataset: Dataset) -> bool:
    """Whether `train` would return at once."""
    run = Run(default_folder(config, dataset))
    return run.finished and len(run.log) == config.epochs


def start_worker(dataset: Dataset) -> subprocess.Popen[str]:
    """A process that trains on this face set, with one thread, in this working folder."""
    package = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(filter(None, (str(package), os.environ.get("PYTHONPATH", ""))))
    root = dataset.root / dataset.label_file if dataset.label_file else dataset.root
    return subprocess.Popen(
        [sys.executable, "-m", "poster_ada.training.side_by_side", str(root), str(len(dataset.class_names)),
         dataset.fingerprint()],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8",
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
    )


def stop(worker: subprocess.Popen[str]) -> None:
    """End a worker, which is idle unless something interrupted this process."""
    worker.kill()
    assert worker.stdin
    with suppress(OSError):  # what a worker that was gone never took
        worker.stdin.close()


def work_off(worker: subprocess.Popen[str], waiting: deque[TrainConfig], epoch_done: Callable[[], object]) -> str:
    """Hand configurations to a worker until none waits or the worker stops; what an InputError said, or nothing."""
    assert worker.stdin and worker.stdout
    while waiting:
        try:
            print(json.dumps(waiting.popleft().to_dict()), file=worker.stdin, flush=True)
        except (IndexError, OSError):  # another thread took the last one; the worker is gone
            break
        for line in worker.stdout:
            if line.startswith(ANSWER):
                break
            if EPOCH_LINE.match(line):
                epoch_done()
        else:
            break  # it stopped: what it was at is trained in the process that asked for it
        if error := json.loads(line.removeprefix(ANSWER)):
            waiting.clear()
            return error
    return ""


def main(root: str, num_classes: str, fingerprint: str) -> None:
    """A worker: trains what comes in, and answers each line with an error's sentence, or an empty one."""
    torch.set_num_threads(1)
    dataset = open_dataset(root, check=False, num_classes=int(num_classes), needs=())
    if dataset.fingerprint() != fingerprint:
        sys.exit("these are other faces")
    for line in sys.stdin:
        try:
            train(TrainConfig.from_dict(json.loads(line)), device="cpu", dataset=dataset)
            answer = ""
        except InputError as error:
            answer = str(error)
        print(ANSWER + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
