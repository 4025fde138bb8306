"""A copy of a model that only predicts, and does it as fast as PyTorch can without changing what is computed."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from poster_ada.model.landmark_stream import ConvBlock
from poster_ada.model.poster import Features, Poster
from poster_ada.model.precision import resolve_precision

CPU_CHUNK_BYTES = 13 * 2**20  # of first feature maps: small enough to stay in a CPU's shared cache


def fold_batch_norms(module: nn.Module) -> None:
    """Merge each BatchNorm that follows a convolution into it, in place; exact but for rounding.

    A BatchNorm before a padded convolution stays: the padding is added after it, so it has no exact place in there.
    """
    parts: list[Any] = list(module.modules())
    for part in parts:
        names = list(dict(part.named_children())) if isinstance(part, nn.Sequential | ConvBlock) else []
        for first, second in pairwise(names):
            conv, norm = getattr(part, first), getattr(part, second)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(part, first, fuse_conv_bn_eval(conv, norm))
                setattr(part, second, nn.Identity())


class Float32Output(nn.Module):
    """Hand the results of `inner` on in float32."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(x.float() for x in self.inner(*inputs))


class FastPoster(Poster):
    """What `prediction_copy` returns: a `Poster` for prediction alone, with the same calls and results."""

    def __init__(self, model: Poster, dtype: torch.dtype) -> None:
        nn.Module.__init__(self)  # the parts are copied, so none is made here
        self.config = model.config
        self.dtype = dtype
        self.temperature, self.face_template = model.temperature, model.face_template
        for name, part in copy.deepcopy(model).eval().requires_grad_(False).named_children():
            self.add_module(name, part)
        fold_batch_norms(self)
        heavy = (self.image_stream, self.landmark_stream, self.to_tokens, self.fusion)
        for part in (module for root in heavy for module in root.modules()):
            # Statistics and affine of the remaining BatchNorms stay in float32 and cost nothing there.
            if not isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d):
                for parameter in part.parameters(recurse=False):
                    parameter.data = parameter.data.to(dtype)
        for stream in (self.image_stream, self.landmark_stream):
            stream.to(memory_format=torch.channels_last)
        self.add_module("fusion", Float32Output(self.fusion))
        self.training = False

    def train(self, mode: bool = True) -> FastPoster:
        """Stays in evaluation mode: folded BatchNorms have nothing left to train."""
        return super().train(False)

    def __repr__(self) -> str:
        return f"FastPoster(depth {self.config.depth}, {self.config.head} head, {self.dtype})"

    def to_streams(self, images: Tensor) -> Tensor:
        """The pixels that both streams see, in the streams' precision and memory layout."""
        return self.downsample(images).to(self.dtype, memory_format=torch.channels_last)

    def landmark_map(self, images: Tensor) -> Tensor:
        return super().landmark_map(self.to_streams(images))

    def forward_features(self, images: Tensor, landmark_map: Tensor | None = None) -> Features:
        """As `Poster.forward_features`; on a CPU a few images at a time, whose maps then stay in its cache."""
        size = len(images)
        if images.device.type == "cpu":
            bytes_per_image = self.config.stream_size**2 * self.config.image_widths[0] * self.dtype.itemsize
            size = max(1, CPU_CHUNK_BYTES // bytes_per_image)
        maps = [None] * len(images) if landmark_map is None else landmark_map.to(self.dtype).split(size)
        parts = [
            super(FastPoster, self).forward_features(self.to_streams(chunk), known)
            for chunk, known in zip(images.split(size), maps, strict=False)
        ]
        return Features(*map(torch.cat, zip(*parts, strict=True)))


def prediction_copy(model: Poster, precision: str = "auto") -> FastPoster:
    """A ready-to-predict copy of `model`: BatchNorms folded, convolutions channels-last, both streams and the fusion in
    `precision`; squeeze-excitation, head and feature norm always in float32. The model itself is left as it is.

    Args:
        model: on the device that will predict.
        precision: `float32` agrees with the model to 1e-4; `bfloat16` keeps 8 bits of each value; `auto` is bfloat16
            where the device multiplies it natively and the model gains from it, else float32.

    Raises:
        InputError: the precision is unknown.
    """
    return FastPoster(model, resolve_precision(precision, next(model.parameters()).device, model.config))
