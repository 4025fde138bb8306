"""PReLU (He et al. 2015, arXiv 1502.01852, eq. 1) with a backward pass that vectorises on CPUs.

It stays beside torch's own because a training step of `nano` takes 1.2 times as long with that (paired, one thread).
Matrix products in place of the fusion's small convolutions won 0 to 3 %, and went.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def channel_products(a: Tensor, b: Tensor) -> Tensor:
    """Sum of a * b per channel, (B, C, ...) twice -> (C,) float32, in one pass over both.

    It is a BatchNorm's gradient of its scale, at mean 0 and variance 1.
    """
    zero, one = a.new_zeros(a.shape[1], dtype=torch.float32), a.new_ones(a.shape[1], dtype=torch.float32)
    only_scale = [False, True, False]
    return torch.ops.aten.native_batch_norm_backward(a, b, one, zero, one, None, None, False, 0.0, only_scale)[1]


def as_rows(x: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """A channels-last map seen as (B * H, W * C) and the slopes of one such row; anything else as it is.

    torch's kernels walk a map's channels in steps of a whole vector register and the rest one by one. Over 16 channels
    in bfloat16, half a register, that took 30 times as long as over a row.
    """
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        b, c, h, w = x.shape
        return x.permute(0, 2, 3, 1).reshape(b * h, w * c), slope.repeat(w)
    return x, slope


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """PReLU without a graph, the same values as torch's."""
    slope = slope.to(x.dtype)  # autocast's activations may be narrower
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.prelu(x, slope)
    rows, slopes = as_rows(x, slope)
    y = F.prelu(rows, slopes)
    return y if rows is x else y.view(x.shape[0], *x.shape[2:], x.shape[1]).permute(0, 3, 1, 2)


class _Prelu(torch.autograd.Function):
    """torch's own backward, and any other that compares and selects, takes 2.5 to 5 times as long on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return prelu(x, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        channels, slope = x.shape[1], weight.to(x.dtype)
        above = torch.ops.aten.threshold_backward(gradient, x, 0)  # the gradient where x > 0, else 0
        rows, slopes = as_rows(gradient, slope)
        if rows is gradient or not x.is_contiguous(memory_format=torch.channels_last):
            slope = slope.view(-1, *(1,) * (x.ndim - 2))
            return above.lerp_(gradient, slope), channel_products(gradient, x.clamp(max=0))
        as_rows(above, slope)[0].lerp_(rows, slopes)
        return above, channel_products(rows, as_rows(x, slope)[0].clamp(max=0)).view(-1, channels).sum(0)


class PReLU(nn.PReLU):
    """`nn.PReLU` with one slope per channel: (B, C, ...) -> the same shape, x above 0 and slope * x below."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and torch.is_grad_enabled():
            return _Prelu.apply(x, self.weight)
        return prelu(x, self.weight)
