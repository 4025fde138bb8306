"""Every choice of the architecture, and the presets; without torch, so that flags can be read at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from math import ceil, prod
from typing import Any

from poster_ada.channels import CHANNEL_ORDERS
from poster_ada.errors import InputError
from poster_ada.expressions import AFFECTNET_CLASSES, RAFDB_CLASSES
from poster_ada.settings import check_settings, setting

HEADS = ("mlp", "adaface", "arcface", "cosface", "ldam")  # the classes are in heads.py
SCALE_RULES = {"fixed": "--scale", "adacos": "AdaCos' dynamic one, set by every training batch",
               "learned": "a weight that starts at --scale"}
CLASS_VECTORS = {"learned": "weights", "simplex": "not learned, all equally far apart"}
NORM_SOURCES = ("embedding", "fused", "pre_norm", "image")
# MobileFaceNet's stages. A row: width, expansion of the first (unskipped) block, of the residual ones, their number,
# first stride.
PUBLISHED_STAGES = ((64, 2, 2, 4, 2), (128, 4, 2, 6, 2), (128, 4, 2, 2, 2))


@dataclass(frozen=True)
class PosterConfig:
    """Every choice of the architecture; the defaults are the published POSTER-large for RAF-DB.

    Raises:
        InputError: a value is out of its range, sizes do not fit together, or `class_names` does not have
            `num_classes` names.
    """

    # Input: RGB statistics are applied to channels in this order. Published RAF-DB checkpoints need BGR, AffectNet RGB,
    # those trained on grey pictures see grey ones alone.
    channel_order: str = setting("BGR", "order of the colour channels, or grey; without it, the face set's own",
                                 choices=CHANNEL_ORDERS)
    image_size: int = setting(224, above=0)
    stream_size: int = setting(112, above=0)  # both streams see every (image_size / stream_size)-th row and column
    # Image stream (IR-50). The published tokens are 1024 consecutive values of the channel-major map, not positions.
    image_widths: tuple[int, ...] = (64, 64, 128, 256)
    image_blocks: tuple[int, ...] = (3, 4, 14)
    spatial_tokens: bool = False
    # Landmark stream (MobileFaceNet).
    landmark_stem: int = setting(64, above=0)
    landmark_stages: tuple[tuple[int, ...], ...] = PUBLISHED_STAGES
    grid: int = setting(7, above=0)  # side of the landmark map: grid * grid tokens per stream
    # Fusion.
    embed_dim: int = setting(512, above=0)
    depth: int = setting(8, above=0)
    num_heads: int = setting(8, above=0)
    mlp_ratio: float = setting(2.0, above=0)
    drop_path_rate: float = setting(0.1, at_least=0, below=1)  # the report's text says 0.01, its code 0.1
    token_mixing: bool = True  # RAF-DB variant; off for AffectNet
    # Head. What a head does not declare among its settings (see heads.py) leaves it as it is.
    num_classes: int = setting(7, at_least=2)
    class_names: tuple[str, ...] = field(default=())
    head: str = setting("mlp", "classification head", choices=HEADS)
    margin: float | None = setting(None, "m of a margin head; without it, its published one: AdaFace 0.4, ArcFace 0.5, "
                                   "CosFace 0.4, LDAM 0.5 for the rarest class", at_least=0, at_most=3)
    scale: float = setting(64.0, "s of a margin head", above=0)
    scale_rule: str = setting("fixed", "what s is in training; " + "; ".join(
        f"{name}: {text}" for name, text in SCALE_RULES.items()), choices=SCALE_RULES)
    class_vectors: str = setting("learned", "what a margin head compares embeddings with; " + "; ".join(
        f"{name}: {text}" for name, text in CLASS_VECTORS.items()), choices=CLASS_VECTORS)
    concentration: float = setting(0.333, "AdaFace's h: the share of a standard deviation of norms that fills q's "
                                   "range", at_least=0)
    t_alpha: float = setting(1.0, "AdaFace: the batch's weight in the norm statistics", above=0, at_most=1)
    norm_source: str = setting("embedding", "feature whose norm stands for quality; image is the report's w/IRf",
                               choices=NORM_SOURCES)
    feature_layer: bool = False  # the report's w/MLP

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.class_names:
            known = {7: RAFDB_CLASSES, 8: AFFECTNET_CLASSES}
            names = known.get(self.num_classes, tuple(f"class {i}" for i in range(self.num_classes)))
            object.__setattr__(self, "class_names", names)
        if len(self.class_names) != self.num_classes:
            raise InputError(f"{len(self.class_names)} class names were given for {self.num_classes} classes.")
        self._check_sizes()

    def _check_sizes(self) -> None:
        if self.image_size % self.stream_size:
            raise InputError(f"image_size {self.image_size} is not a multiple of stream_size {self.stream_size}.")
        if self.embed_dim % (4 * self.num_heads):  # the pyramid's narrowest level has a quarter of the features
            raise InputError(f"embed_dim {self.embed_dim} is not a multiple of 4 * num_heads = {4 * self.num_heads}.")
        if len(self.image_widths) != len(self.image_blocks) + 1 or min(*self.image_widths, *self.image_blocks) < 1:
            raise InputError(f"image_widths {self.image_widths} are not one more than image_blocks {self.image_blocks},"
                             " all above 0.")
        landmark_side = ceil(self.stream_size / (2 * prod(stage[-1] for stage in self.landmark_stages)))
        if landmark_side != self.grid:
            raise InputError(f"the landmark map is {landmark_side} x {landmark_side} at stream_size "
                             f"{self.stream_size}, but grid is {self.grid}.")
        image_side = ceil(self.stream_size / 2 ** len(self.image_blocks))
        if self.spatial_tokens and image_side != self.grid:
            raise InputError(f"the image map is {image_side} x {image_side} at stream_size {self.stream_size}, so its "
                             f"positions are not a grid of {self.grid} x {self.grid} tokens.")
        if self.class_vectors == "simplex" and self.embed_dim < self.num_classes:
            raise InputError(f"a simplex of {self.num_classes} classes does not fit embed_dim {self.embed_dim}.")
        if self.image_widths[-1] * image_side**2 % self.grid**2:
            raise InputError(f"an image map of {self.image_widths[-1]} x {image_side} x {image_side} values cannot be "
                             f"cut into {self.grid**2} tokens.")

    @property
    def token_width(self) -> int:
        """Values in one image token before the projection to `embed_dim`."""
        side = ceil(self.stream_size / 2 ** len(self.image_blocks))
        return self.image_widths[-1] if self.spatial_tokens else self.image_widths[-1] * side**2 // self.grid**2

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PosterConfig:
        """The inverse of `to_dict`, from JSON's lists. Raises InputError on an unknown field."""
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise InputError(f"the model configuration has unknown fields: {', '.join(sorted(unknown))}.")
        return cls(**{key: _frozen(value) for key, value in values.items()})


def _frozen(value: Any) -> Any:
    """Lists, at any depth, as tuples."""
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


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
    # The size for real faces on two CPU cores: three times as wide as nano where it counts.
    "mini": PosterConfig(
        channel_order="grey", image_size=48, stream_size=48, image_widths=(32, 32, 64, 128), image_blocks=(2, 3, 4),
        spatial_tokens=True, landmark_stem=16, landmark_stages=((32, 2, 2, 2, 2), (64, 4, 2, 3, 2)), grid=6,
        embed_dim=96, depth=2, num_heads=4,
    ),
}


def size_name(config: PosterConfig) -> str:
    """The preset that has this size, or the depth of one that has none."""
    size = (config.depth, config.embed_dim)
    return next((name for name, preset in PRESETS.items() if (preset.depth, preset.embed_dim) == size),
                f"depth-{config.depth}")
