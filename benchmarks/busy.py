"""Training `nano` beside other programs: what spinning OpenMP threads cost, and how many threads serve it best.

Every measurement runs in processes of its own, since the environment variable counts only before torch is loaded.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import product

SECONDS = 8.0
NEIGHBOURS = ("calm", "one busy core", "two trainings")
SPINS = {"as torch comes": "", "GOMP_SPINCOUNT 1000": "1000"}
BUSY = "while True: pass"


def busy_rows(model: str = "nano", batch: int = 64, repeats: int = 3) -> list[dict]:
    """Faces per second of one training, for every neighbour, number of threads and kind of waiting, in turn."""
    rates: dict[tuple[str, int, str], list[float]] = {}
    threads = sorted({1, os.cpu_count() or 1})
    for _ in range(repeats):
        for neighbour, count, spin in product(NEIGHBOURS, threads, SPINS):
            rates.setdefault((neighbour, count, spin), []).append(measure(neighbour, count, SPINS[spin], model, batch))
    return [{
        "part": "busy", "model": model, "batch": batch, "way": f"{neighbour}; {count} threads; {spin}",
        "rate": sorted(values)[len(values) // 2], "low": min(values), "high": max(values), "unit": "images/s each",
    } for (neighbour, count, spin), values in rates.items()]


def measure(neighbour: str, threads: int, spin: str, model: str, batch: int) -> float:
    """Mean faces per second of the trainings that run beside `neighbour`."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "GOMP_SPINCOUNT": spin or "default"}
    command = [sys.executable, "-m", "benchmarks.busy", model, str(batch)]
    other = subprocess.Popen([sys.executable, "-c", BUSY]) if neighbour == "one busy core" else None
    trainings = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
                 for _ in range(2 if neighbour == "two trainings" else 1)]
    try:
        rates = [float(training.communicate()[0].split()[-1]) for training in trainings]
    finally:
        if other:
            other.kill()
            other.wait()
    return sum(rates) / len(rates)


def main(model: str, batch: str) -> None:
    """One training for some seconds; prints its faces per second."""
    if os.environ["GOMP_SPINCOUNT"] == "default":
        del os.environ["GOMP_SPINCOUNT"]
    import torch  # before the package, which would set the variable

    from benchmarks.ways import training_step

    step = training_step("default", model, int(batch), torch.device("cpu"))
    step()
    started, faces = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        faces += step()
    print(faces / (time.perf_counter() - started))


if __name__ == "__main__":
    main(*sys.argv[1:])
