"""A batch in small chunks over the CPU's cores: temporaries stay in the cache, and no operation waits for all cores.

Torch would spread each of the many small operations over all cores and wait for the slowest, which is slow, and
collapses when another program keeps a core busy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from threadpoolctl import threadpool_limits

T = TypeVar("T")


def in_chunks(process: Callable[[slice], None], count: int, chunk: int) -> None:
    """Call `process(slice)` for consecutive chunks of 0..count-1, in as many threads as torch may use."""
    chunk = max(chunk, 1)
    slices = [slice(start, min(start + chunk, count)) for start in range(0, count, chunk)]
    if torch.get_num_threads() == 1:
        for rows in slices:
            process(rows)
    else:
        inference = torch.is_inference_mode_enabled()  # a thread starts outside it

        def run(rows: slice) -> None:
            with torch.inference_mode(inference):
                process(rows)

        list(_pool(torch.get_num_threads()).map(run, slices))


def on_one_core(function: Callable[..., T], *arguments: Any) -> T:
    """`function(*arguments)`, computed by one of those threads."""
    return _pool(torch.get_num_threads()).submit(function, *arguments).result()


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "chunk", initializer=_one_core_each)


def _one_core_each() -> None:
    torch.get_num_threads()  # torch sets up a thread's core count at its first call, and would undo the limit later
    threadpool_limits(1, user_api="openmp")
