"""Peak memory of one way, measured alone in a process of its own.

Prints MiB: on a CPU the process's largest resident set, which includes Python, torch and the weights; on a GPU what
torch allocated.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.ways import prediction, training_step


def peak_memory(part: str, way: str, size: str, batch: int, device: torch.device, folder: Path | None = None) -> float:
    """MiB of `way` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.memory", part, way, size, str(batch), device.type, str(folder or "")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def main(part: str, way: str, size: str, batch: str, device_name: str, folder: str) -> None:
    """Do the work twice and print the peak."""
    device = torch.device(device_name)
    if part == "prediction":
        work = prediction(way, size, int(batch), device, folder=Path(folder))
    else:
        work = training_step(way, size, int(batch), device)
    work()
    work()
    if device.type == "cuda":
        print(torch.cuda.max_memory_allocated() / 2**20)
    else:
        print(peak_resident())


def peak_resident() -> float:
    """MiB. Linux's `getrusage` would also count the process that started this one; Windows has none: NaN."""
    status = Path("/proc/self/status")
    if status.is_file():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) / 2**10
    try:
        import resource
    except ImportError:
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main(*sys.argv[1:])
