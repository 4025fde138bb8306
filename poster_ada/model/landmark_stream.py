"""Landmark stream: MobileFaceNet (Chen et al. 2018, arXiv 1804.07573), trained to find 68 landmarks, then frozen."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from poster_ada.model.config import PUBLISHED_STAGES
from poster_ada.model.prelu import PReLU


class ConvBlock(nn.Module):
    """Convolution, BN and, unless `linear`, PReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, padding: int = 0,
        groups: int = 1, linear: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = nn.Identity() if linear else PReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class InvertedBottleneck(nn.Module):
    """1x1 expansion, 3x3 depthwise, linear 1x1 projection; with a skip where the shape stays."""

    def __init__(self, in_channels: int, out_channels: int, hidden: int, stride: int, skip: bool) -> None:
        super().__init__()
        self.expand = ConvBlock(in_channels, hidden)
        self.depthwise = ConvBlock(hidden, hidden, 3, stride, 1, groups=hidden)
        self.project = ConvBlock(hidden, out_channels, linear=True)
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.skip else y


class LandmarkHead(nn.Module):
    """Global depthwise convolution (GDC), then a linear layer with BN: the 68 (x, y) pairs."""

    def __init__(self, channels: int, grid: int, outputs: int) -> None:
        super().__init__()
        self.depthwise = ConvBlock(channels, channels, grid, groups=channels, linear=True)
        self.linear = nn.Linear(channels, outputs, bias=False)
        self.bn = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.linear(self.depthwise(x).flatten(1)))


class LandmarkStream(nn.Module):
    """Faces to a landmark map, and to landmarks for training and inspection.

    Published: (B, 3, 112, 112) -> map (B, 512, 7, 7), the 49 tokens that the fusion reads, -> landmarks (B, 136).

    Args:
        stem: channels of the stem. Published: 64.
        stages: see `PUBLISHED_STAGES` in config.py.
        out_channels: channels of the map. Published: 512.
        grid: side of the map, for the landmark head. Published: 7.
    """

    def __init__(
        self, stem: int = 64, stages: Sequence[Sequence[int]] = PUBLISHED_STAGES, out_channels: int = 512, grid: int = 7
    ) -> None:
        super().__init__()
        self.frozen = False
        self.stem = nn.Sequential(ConvBlock(3, stem, 3, 2, 1), ConvBlock(stem, stem, 3, 1, 1, groups=stem))
        layers, width = [], stem
        for channels, first_expansion, expansion, depth, stride in stages:
            layers.append(InvertedBottleneck(width, channels, first_expansion * width, stride, skip=False))
            layers += [
                InvertedBottleneck(channels, channels, expansion * channels, 1, skip=True) for _ in range(depth)
            ]
            width = channels
        self.blocks = nn.Sequential(*layers)
        self.to_map = ConvBlock(width, out_channels)
        self.head = LandmarkHead(out_channels, grid, 136)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) -> landmark map (B, out_channels, grid, grid)."""
        return self.to_map(self.blocks(self.stem(x)))

    def landmarks(self, landmark_map: Tensor) -> Tensor:
        """Landmark map -> (B, 136): x and y of 68 points in 300-W order, interleaved, as fractions of the side."""
        return self.head(landmark_map)

    def freeze(self) -> LandmarkStream:
        """Switch off gradients and, unlike the published code, BatchNorm updates under `train()` as well."""
        self.frozen = True
        return self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> LandmarkStream:
        return super().train(mode and not self.frozen)
