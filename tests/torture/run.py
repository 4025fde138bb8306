"""50 trainings killed (SIGKILL) at random moments, each followed by a resume: `make torture`.

Half of the kills come after a random time, half at a random file operation (open, rename, remove), so in the middle of
saving. Every run, when it is through at last, must have the undisturbed run's weights and log, bit for bit.
Needs Linux or macOS.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from face_sets import rafdb  # noqa: E402
from small_runs import same, small, weights  # noqa: E402

from poster_ada.training.loop import train  # noqa: E402
from poster_ada.training.runs import Run  # noqa: E402

FILE_EVENTS = {"open", "os.rename", "os.remove", "os.chmod", "tempfile.mkstemp"}
EPOCHS = 6
CONTEXT = multiprocessing.get_context("fork")  # torch is imported once; the children start at once


def training(faces: Path, folder: Path, kill_at: int) -> None:
    """Train or resume; the `kill_at`-th file operation below `folder` is the last thing this process does."""
    warnings.simplefilter("ignore")
    left = kill_at

    def watch(event: str, args: tuple) -> None:
        nonlocal left
        if event in FILE_EVENTS and str(folder) in str(args[0]):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    if kill_at:
        sys.addaudithook(watch)
    # Drop path, so that what the model draws has to be resumed too; of one block alone its rate would be 0.
    config = small(faces, epochs=EPOCHS, head="adaface", t_alpha=0.1, depth=2, drop_path_rate=0.3)
    train(config, folder, device="cpu", quiet=True)


def start(faces: Path, folder: Path, kill_at: int = 0) -> multiprocessing.Process:
    process = CONTEXT.Process(target=training, args=(faces, folder, kill_at))
    process.start()
    return process


def check(run: Run, undisturbed: Run) -> None:
    """Raise AssertionError unless both runs ended alike."""
    assert run.finished, f"{run.path} did not finish"
    for which in ("best", "last"):
        assert same(weights(run, which), weights(undisturbed, which)), f"{run.path}: other {which} weights"
    logs = [each.log.drop(columns="images_per_second") for each in (run, undisturbed)]
    assert logs[0].equals(logs[1]), f"{run.path}: another log"
    assert not list(run.path.glob(".*.part")), f"{run.path}: half-written files were left"
    assert (run.path / "predictions.csv").read_bytes() == (undisturbed.path / "predictions.csv").read_bytes()


def torture(kills: int, say: Callable[[str], object] = print) -> tuple[int, int]:
    """Kill so often; how many kills hit a working process, and how many runs were finished and compared."""
    chance = random.Random(123)
    with tempfile.TemporaryDirectory() as place:
        faces = rafdb(Path(place) / "faces", train=56, test=21)
        began = time.monotonic()
        start(faces, Path(place) / "undisturbed").join()
        seconds, undisturbed = time.monotonic() - began, Run(Path(place) / "undisturbed")
        done = finished = 0
        while done < kills:
            folder = Path(place) / f"run-{finished}"
            while done < kills:
                by_file = chance.random() < 0.5
                process = start(faces, folder, chance.randint(1, 60) if by_file else 0)
                process.join(None if by_file else chance.uniform(0, seconds))
                if process.is_alive():
                    process.kill()
                    process.join()
                if process.exitcode != -signal.SIGKILL:
                    assert process.exitcode == 0, f"{folder} ended with {process.exitcode}"
                    break
                done += 1
            process = start(faces, folder)
            process.join()
            assert process.exitcode == 0, f"{folder} could not be resumed"
            check(Run(folder), undisturbed)
            finished += 1
            say(f"{done:4} kills, {finished} runs with the undisturbed run's weights")
    return done, finished


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    began = time.monotonic()
    kills, runs = torture(parser.parse_args().kills)
    print(f"{kills} kills, {runs} runs, all with the undisturbed run's weights, in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
