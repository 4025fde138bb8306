"""Where a training step's time goes, by torch's own profiler: what bounds it."""

from __future__ import annotations

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.timing import Work


def time_by_operation(work: Work, device: torch.device, rows: int = 15) -> str:
    """Text table of the operations (on a GPU, kernels) that `work`, run once more after a warm-up, spends most on."""
    work()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities) as record:
        work()
    return record.key_averages().table(
        sort_by=f"self_{device.type}_time_total", row_limit=rows, max_name_column_width=60
    )
