"""POSTER (Zheng, Mendieta, Chen 2022, arXiv 2204.04083) with a choice of heads: configuration, presets, model."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from poster_ada.errors import InputError
from poster_ada.expressions import AFFECTNET_CLASSES, RAFDB_CLASSES
from poster_ada.model.fusion import PyramidFusion
from poster_ada.model.heads import HEADS, AdaFaceHead, MarginHead
from poster_ada.model.image_stream import ImageStream
from poster_ada.model.landmark_stream import PUBLISHED_STAGES, LandmarkStream

NORM_SOURCES = ("embedding", "fused", "pre_norm", "image")


@dataclass(frozen=True)
class PosterConfig:
    """Every choice of the architecture; the defaults are the published POSTER-large for RAF-DB.

    Raises:
        InputError: a value is out of its range, or `class_names` does not have `num_classes` names.
    """

    # Input: RGB statistics are applied to channels in this order. Published RAF-DB checkpoints need BGR, AffectNet RGB.
    channel_order: str = "BGR"
    image_size: int = 224
    stream_size: int = 112  # both streams see every (image_size / stream_size)-th row and column
    # Image stream (IR-50). The published tokens are 1024 consecutive values of the channel-major map, not positions.
    image_widths: tuple[int, ...] = (64, 64, 128, 256)
    image_blocks: tuple[int, ...] = (3, 4, 14)
    spatial_tokens: bool = False
    # Landmark stream (MobileFaceNet).
    landmark_stem: int = 64
    landmark_stages: tuple[tuple[int, ...], ...] = PUBLISHED_STAGES
    grid: int = 7  # side of the landmark map: grid * grid tokens per stream
    # Fusion.
    embed_dim: int = 512
    depth: int = 8
    num_heads: int = 8
    mlp_ratio: float = 2.0
    drop_path_rate: float = 0.1  # the report's text says 0.01, its code 0.1
    token_mixing: bool = True  # RAF-DB variant; off for AffectNet
    # Head. None takes the head's published margin: AdaFace 0.4, ArcFace 0.5, CosFace 0.4.
    num_classes: int = 7
    class_names: tuple[str, ...] = field(default=())
    head: str = "mlp"
    margin: float | None = None
    scale: float = 64.0
    concentration: float = 0.333
    t_alpha: float = 1.0
    norm_source: str = "embedding"  # "image" is the report's w/IRf
    feature_layer: bool = False  # the report's w/MLP

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise InputError(f"head {self.head!r} is unknown; choose one of {', '.join(HEADS)}.")
        if self.norm_source not in NORM_SOURCES:
            raise InputError(f"norm source {self.norm_source!r} is unknown; choose one of {', '.join(NORM_SOURCES)}.")
        if self.channel_order not in ("BGR", "RGB"):
            raise InputError(f"channel order {self.channel_order!r} is unknown; choose BGR (RAF-DB) or RGB.")
        if not self.class_names:
            known = {7: RAFDB_CLASSES, 8: AFFECTNET_CLASSES}
            names = known.get(self.num_classes, tuple(f"class {i}" for i in range(self.num_classes)))
            object.__setattr__(self, "class_names", names)
        if len(self.class_names) != self.num_classes:
            raise InputError(f"{len(self.class_names)} class names were given for {self.num_classes} classes.")

    def to_dict(self) -> dict:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> PosterConfig:
        """The inverse of `to_dict`, from JSON's lists. Raises InputError on an unknown field."""
        unknown = set(values) - set(cls.__dataclass_fields__)
        if unknown:
            raise InputError(f"the model configuration has unknown fields: {', '.join(sorted(unknown))}.")
        frozen = lambda v: tuple(map(frozen, v)) if isinstance(v, list | tuple) else v  # noqa: E731
        return cls(**{key: frozen(value) for key, value in values.items()})


PRESETS = {
    "small": PosterConfig(depth=4),
    "base": PosterConfig(depth=6),
    "large": PosterConfig(depth=8),
    # The same architecture for two CPU cores and no download: small faces, narrow streams, tokens that are positions.
    "nano": PosterConfig(
        image_size=48, stream_size=48, image_widths=(16, 16, 32, 64), image_blocks=(1, 1, 2), spatial_tokens=True,
        landmark_stem=16, landmark_stages=((32, 2, 2, 2, 2), (64, 4, 2, 3, 2)), grid=6, embed_dim=64, depth=2,
        num_heads=2, drop_path_rate=0.0,
    ),
}


class Features(NamedTuple):
    """What the head reads: `embedding` (B, dim) and the feature norm (B,) that stands for image quality."""

    embedding: Tensor
    norm: Tensor


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

    def __init__(self, config: PosterConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or PosterConfig()
        side = c.stream_size // 8
        self.image_stream = ImageStream(c.image_widths, c.image_blocks)
        self.landmark_stream = LandmarkStream(c.landmark_stem, c.landmark_stages, c.embed_dim, c.grid).freeze()
        values = c.image_widths[-1] * side * side  # values in the image map
        self.to_tokens = nn.Linear(c.image_widths[-1] if c.spatial_tokens else values // c.grid**2, c.embed_dim)
        self.fusion = PyramidFusion(
            c.grid**2, c.embed_dim, c.depth, c.num_heads, c.mlp_ratio, c.drop_path_rate, c.token_mixing
        )
        self.squeeze_excitation = SqueezeExcitation(c.embed_dim)
        self.feature_layer = nn.Linear(c.embed_dim, c.embed_dim) if c.feature_layer else nn.Identity()
        margin = dict(margin=c.margin, scale=c.scale) if issubclass(HEADS[c.head], MarginHead) else {}
        adaface = dict(concentration=c.concentration, t_alpha=c.t_alpha) if c.head == "adaface" else {}
        self.head = HEADS[c.head](c.embed_dim, c.num_classes, **margin, **adaface)

    @classmethod
    def from_preset(cls, name: str, pretrained: str | Path | None = "models/pretrain", **overrides) -> Poster:
        """A model ready to train: `Poster.from_preset("small", head="adaface", margin=0.75)`.

        Args:
            name: `nano`, `small`, `base` or `large`.
            pretrained: folder with the published IR-50 and MobileFaceNet; where they are absent, the published sizes
                start from random weights and say so once. `nano` brings its own landmark stream. None: all random.
            overrides: fields of `PosterConfig`.
        """
        from poster_ada.checkpoints.published import load_pretrained_parts  # which reads models, and so needs this class first

        if name not in PRESETS:
            raise InputError(f"preset {name!r} is unknown; choose one of {', '.join(PRESETS)}.")
        model = cls(replace(PRESETS[name], **({"class_names": ()} | overrides)))
        if pretrained is not None:
            load_pretrained_parts(model, Path(pretrained))
        return model

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

    def norm_carriers(self, images: Tensor, landmark_map: Tensor | None = None) -> dict[str, Tensor]:
        """The features (B, dim) whose norms could stand for image quality, by name in `NORM_SOURCES`.

        "embedding" follows the squeeze-excitation, "fused" the last LayerNorm, "pre_norm" comes before it, and "image"
        is the image stream's mean token. Arguments as in `forward_features`.
        """
        if landmark_map is None:
            landmark_map = self.landmark_map(images)
        image = self.image_tokens(images)
        fused, pre_norm = self.fusion(image, rearrange(landmark_map, "b c h w -> b (h w) c"))
        return {"embedding": self.squeeze_excitation(fused), "fused": fused, "pre_norm": pre_norm,
                "image": image.mean(1)}

    def forward_features(self, images: Tensor, landmark_map: Tensor | None = None) -> Features:
        """Everything before the head.

        Args:
            images: (B, 3, image_size, image_size), or already (B, 3, stream_size, stream_size), normalised.
            landmark_map: from `landmark_map(images)`, where it is at hand already.
        """
        carriers = self.norm_carriers(images, landmark_map)
        norm = carriers[self.config.norm_source].float().norm(dim=1)
        return Features(self.feature_layer(carriers["embedding"]), norm)

    def forward(self, images: Tensor) -> Tensor:
        """Images to margin-free logits (B, C); for margin heads s * cos."""
        return self.head(self.forward_features(images).embedding)

    def margin_logits(self, images: Tensor, labels: Tensor, landmark_map: Tensor | None = None) -> Tensor:
        """Training logits (B, C), the true class's lowered by the margin. Never predict with these.

        Args:
            images, landmark_map: as in `forward_features`.
            labels: (B,) int64 in [0, C).
        """
        features = self.forward_features(images, landmark_map)
        return self.head.margin_logits(features.embedding, labels, features.norm)

    def __repr__(self) -> str:
        from poster_ada.model.summary import summary  # the table needs the model, not the other way round

        return summary(self)


@torch.no_grad()
def label_margin_protocol_logits(model: Poster, images: Tensor, labels: Tensor) -> Tensor:
    """The report's flawed test-time logits: the margin is taken off the TRUE class, q comes from this batch alone.

    The argmax of these is not a prediction and their accuracy is not the classifier's; this exists to reproduce the
    report's Table 1 (batches of 32). The model and its buffers are left as they are.
    """
    training, t_alpha = model.training, getattr(model.head, "t_alpha", None)
    saved = {name: value.clone() for name, value in model.head.named_buffers()}
    features = model.eval().forward_features(images)
    try:
        if isinstance(model.head, AdaFaceHead):
            model.head.train().t_alpha = 1.0
        return model.head.margin_logits(features.embedding, labels, features.norm)
    finally:
        if saved:
            model.head.load_state_dict(saved, strict=False)
            model.head.t_alpha = t_alpha
        model.train(training)
