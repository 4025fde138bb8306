"""Image stream: ArcFace's IR-50 without its last stage (Deng et al. 2019, arXiv 1801.07698, improved residuals)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from poster_ada.model.prelu import PReLU


class Subsample(nn.Module):
    """Every `stride`-th row and column: the published 1x1 max-pool, or average-pool, which is the same thing.

    Unlike a slice's, the gradient keeps the memory layout of `x`.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 1, self.stride) if self.stride > 1 else x


class ImprovedResidualBlock(nn.Module):
    """BN, 3x3 conv, PReLU, 3x3 conv with the stride, BN; the shortcut is a convolution only where the width changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, out_channels, 3, 1, 1, bias=False),
            PReLU(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = (
            Subsample(stride)
            if in_channels == out_channels
            else nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x) + self.shortcut(x)


class ImageStream(nn.Module):
    """Faces to a feature map: (B, 3, S, S) -> (B, widths[-1], S / 8, S / 8).

    Args:
        widths: channels of the stem and of the three stages; published (64, 64, 128, 256).
        blocks: residual blocks per stage, the first of each with stride 2; published (3, 4, 14).
    """

    def __init__(self, widths: Sequence[int] = (64, 64, 128, 256), blocks: Sequence[int] = (3, 4, 14)) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), PReLU(widths[0])
        )
        stages = zip(widths[:-1], widths[1:], blocks, strict=True)
        self.blocks = nn.Sequential(
            *(
                ImprovedResidualBlock(wide if i else narrow, wide, 1 if i else 2)
                for narrow, wide, depth in stages
                for i in range(depth)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.stem(x))
