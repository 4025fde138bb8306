"""POSTER (Zheng, Mendieta, Chen 2022, arXiv 2204.04083) with a choice of heads."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from poster_ada.errors import InputError
from poster_ada.model.config import PosterConfig
from poster_ada.model.fusion import PyramidFusion
from poster_ada.model.heads import make_head
from poster_ada.model.image_stream import ImageStream
from poster_ada.model.landmark_stream import LandmarkStream
from poster_ada.model.summary import summary_table


class Features(NamedTuple):
    """What the head reads: `embedding` (B, dim) and the feature norm (B,) that stands for image quality."""

    embedding: Tensor
    norm: Tensor


class FusedStreams(NamedTuple):
    """Along the main road: the image stream's mean token, the fused vector before the last LayerNorm, and after it.

    All (B, dim).
    """

    image: Tensor
    pre_norm: Tensor
    fused: Tensor


# Right eye, left eye, nose tip, right and left mouth corner, right as the person has it: x and y in shares of the side.
FaceTemplate = tuple[tuple[float, float], ...]
FACE_POINTS = 5


class SqueezeExcitation(nn.Module):
    """Gate each feature by the others (Hu et al. 2018, arXiv 1709.01507): (B, dim) -> (B, dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, dim)
        self.linear2 = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.linear2(torch.relu(self.linear1(x))))


class Poster(nn.Module):
    """Image stream and frozen landmark stream, fused, to expression logits.

    `model(images)` predicts: it takes no labels, so none can reach a prediction. `margin_logits(images, labels)` is
    for training only.
    """

    provenance: Mapping[str, Any] = MappingProxyType({})  # how its weights came about, as far as their file says

    def __init__(self, config: PosterConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or PosterConfig()
        self.image_stream = ImageStream(c.image_widths, c.image_blocks)
        self.landmark_stream = LandmarkStream(c.landmark_stem, c.landmark_stages, c.embed_dim, c.grid).freeze()
        self.to_tokens = nn.Linear(c.token_width, c.embed_dim)
        self.fusion = PyramidFusion(
            c.grid**2, c.embed_dim, c.depth, c.num_heads, c.mlp_ratio, c.drop_path_rate, c.token_mixing
        )
        self.squeeze_excitation = SqueezeExcitation(c.embed_dim)
        self.feature_layer = nn.Linear(c.embed_dim, c.embed_dim) if c.feature_layer else nn.Identity()
        self.head = make_head(c)
        self.temperature = 1.0  # what the logits are divided by, so that their softmax means what it says (Guo et al.)
        self.face_template: FaceTemplate | None = None  # where this model expects a face's points, if anybody measured

    def forward(self, images: Tensor) -> Tensor:
        """Images to margin-free logits (B, C); for margin heads s * cos. Both over the temperature."""
        return self.forward_head(self.forward_features(images))

    def forward_features(self, images: Tensor, landmark_map: Tensor | None = None) -> Features:
        """Everything before the head.

        Args:
            images: (B, 3, image_size, image_size), or already (B, 3, stream_size, stream_size), normalised.
            landmark_map: from `landmark_map(images)`, where it is at hand already.
        """
        streams = self.fuse_streams(images, landmark_map)
        embedding = self.squeeze_excitation(streams.fused)
        source = self.config.norm_source
        norm = (embedding if source == "embedding" else getattr(streams, source)).float().norm(dim=1)
        return Features(self.feature_layer(embedding), norm)

    def forward_head(self, features: Features) -> Tensor:
        """Features to margin-free logits (B, C), over the temperature (Guo et al. 2017, arXiv 1706.04599, eq. 9)."""
        logits = self.head(features.embedding)
        return logits if self.temperature == 1 else logits / self.temperature

    def margin_logits(self, images: Tensor, labels: Tensor, landmark_map: Tensor | None = None) -> Tensor:
        """Training logits (B, C), the true class's lowered by the margin. Never predict with these.

        Args:
            images, landmark_map: as in `forward_features`.
            labels: (B,) int64 in [0, C).
        """
        features = self.forward_features(images, landmark_map)
        return self.head.margin_logits(features.embedding, labels, features.norm)

    def fuse_streams(self, images: Tensor, landmark_map: Tensor | None = None) -> FusedStreams:
        """Both streams and their fusion; arguments as in `forward_features`."""
        if landmark_map is None:
            landmark_map = self.landmark_map(images)
        image = self.image_tokens(images)
        fused, pre_norm = self.fusion(image, rearrange(landmark_map, "b c h w -> b (h w) c"))
        return FusedStreams(image.mean(1), pre_norm, fused)

    def downsample(self, images: Tensor) -> Tensor:
        """Nearest interpolation to the streams' grid; images already on that grid pass through."""
        step = images.shape[-1] // self.config.stream_size
        if images.shape[-2:] != (step * self.config.stream_size,) * 2 or step == 0:
            raise InputError(
                f"images are {tuple(images.shape[-2:])}; this model takes {self.config.image_size} x "
                f"{self.config.image_size} or {self.config.stream_size} x {self.config.stream_size} pixels."
            )
        return images[..., ::step, ::step]

    def landmark_map(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, dim, grid, grid). Frozen: no graph in training; outside it, images may ask for one."""
        with torch.no_grad() if self.training else nullcontext():
            return self.landmark_stream(self.downsample(images))

    def image_tokens(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, N, dim)."""
        x = self.image_stream(self.downsample(images))
        if x.requires_grad and x.is_contiguous(memory_format=torch.channels_last):
            # The reordering below would hand the stream's gradients back in another layout, which is slow all the way.
            x.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))
        if self.config.spatial_tokens:
            return self.to_tokens(rearrange(x, "b c h w -> b (h w) c"))
        # The published memory view: the channel-major buffer cut into N pieces.
        return self.to_tokens(rearrange(x, "b c h w -> b (c h w)").unflatten(1, (self.config.grid**2, -1)))

    @classmethod
    def from_preset(cls, name: str, *_: object, **__: object) -> Poster:
        """Version 0.1's way to a model; raises AttributeError with today's."""
        raise AttributeError(f"since version 0.2 a model is made by poster_ada.create_model({name!r}, ...)")

    def without_memory(self) -> Poster:
        """The same architecture on torch's meta device, in `eval()` mode: shapes and costs, nothing allocated."""
        with torch.device("meta"):
            return Poster(self.config).eval()

    def __repr__(self) -> str:
        return summary_table(self)
