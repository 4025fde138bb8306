"""BatchNorm over the whole batch of all processes, so that one process and many compute the same thing.

Torch synchronises it on GPUs alone. The part for CPUs is here because training in several CPU processes has to equal
training in one, which is how the whole of the multi-process training is tested on machines without a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class SumOverProcesses(torch.autograd.Function):
    """All-reduce whose gradient is summed over the processes too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return SumOverProcesses.forward(ctx, gradient)


class CpuSyncBatchNorm2d(nn.BatchNorm2d):
    """What `torch.nn.SyncBatchNorm` does on GPUs, for CPU processes (equal batches per process)."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        world, dtype = dist.get_world_size(), x.dtype
        x = x.float()  # under autocast it may be narrower; torch's own BatchNorm also sums in float32
        mean = SumOverProcesses.apply(x.mean((0, 2, 3))) / world
        centred = x - mean[:, None, None]
        variance = SumOverProcesses.apply(centred.square().mean((0, 2, 3))) / world
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        with torch.no_grad():
            count = world * x.numel() / x.shape[1]
            self.num_batches_tracked += 1  # type: ignore[operator, assignment]  # it counts, so it is there
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(dtype)


def synchronise(module: nn.Module, device: torch.device) -> nn.Module:
    """Make every BatchNorm2d in `module` see the batch of all processes."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for child in module.modules():
        if type(child) is nn.BatchNorm2d:
            child.__class__ = CpuSyncBatchNorm2d
    return module
