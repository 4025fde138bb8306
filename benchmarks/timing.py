"""Times several ways of doing one thing in turn, so that whatever else the machine does meets all of them."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

Work = Callable[[], int]  # does some work and returns how many images (or files) that was


def alternate(ways: dict[str, Work], repeats: int) -> dict[str, list[float]]:
    """Each way's throughput, per second, in each of `repeats` rounds; one round before them warms up."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, work in ways.items():
            synchronise()
            start = time.perf_counter()
            count = work()
            synchronise()
            if turn:
                rates[name].append(count / (time.perf_counter() - start))
    return rates


def synchronise() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
