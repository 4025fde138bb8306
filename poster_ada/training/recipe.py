"""The published training recipe as one configuration, and its loss."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, replace

import torch.nn.functional as F
from torch import Tensor

from poster_ada.data.transforms import AUGMENTATIONS
from poster_ada.errors import InputError
from poster_ada.model.poster import PRESETS, PosterConfig
from poster_ada.model.precision import PRECISIONS


@dataclass(frozen=True)
class TrainConfig:
    """Every choice of a training run; the defaults are the published ones for RAF-DB.

    Raises:
        InputError: a value is out of its range.
    """

    model: PosterConfig = field(default_factory=PosterConfig)
    preset: str = "large"  # where `model` started from
    data: str = "data/raf-basic"
    pretrained: str = "models/pretrain"  # folder with ir50.pth and mobilefacenet_model_best.pth.tar
    augmentation: str = "published"  # "adaface" is the report's w/DA; see `TrainingTransform` for "warp" and "camera"
    balanced: bool = False  # draw classes equally often (AffectNet)
    validation_fraction: float = 0.1
    select_on: str = "validation"  # "test" is the published way: the best epoch is picked by its test accuracy
    epochs: int = 300
    batch_size: int = 200  # over all processes; the report used 100
    val_batch_size: int = 32
    optimizer: str = "adam"
    lr: float = 4e-5  # 2e-6 for AdaFace on AffectNet
    momentum: float = 0.9  # of SGD only
    gamma: float = 0.98  # of ExponentialLR, per epoch
    rho: float = 0.05  # SAM's radius; 0 trains without SAM
    label_smoothing: float = 0.2
    quality_weight: float = 0.0  # of `quality_loss`, which teaches the norm what "camera" augmentation did to a face
    seed: int = 123
    precision: str = "auto"  # see precision.py
    compile: bool = False

    def __post_init__(self) -> None:
        choices = {
            "select_on": ("validation", "test"), "optimizer": ("adam", "adamw", "sgd"),
            "augmentation": AUGMENTATIONS, "precision": PRECISIONS,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} {getattr(self, name)!r} is unknown; choose one of {', '.join(allowed)}.")
        for name in ("epochs", "batch_size", "val_batch_size", "lr", "gamma"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be above 0.")
        if self.quality_weight < 0 or (self.quality_weight and self.augmentation != "camera"):
            raise InputError(f"quality_weight {self.quality_weight} does not fit: it must not be negative, and only "
                             "augmentation 'camera' knows the quality that it asks for.")
        if not 0 < self.validation_fraction < 1:
            raise InputError(f"validation_fraction is {self.validation_fraction}; it must lie between 0 and 1.")

    @classmethod
    def for_preset(cls, preset: str, **choices) -> TrainConfig:
        """The recipe for a model preset: `TrainConfig.for_preset("nano", data="data/demo", head="adaface", seed=1)`.

        Args:
            preset: `nano`, `small`, `base` or `large`; `nano` has its own schedule, made for random weights.
            choices: fields of `TrainConfig` and of `PosterConfig`. Fields left out keep the preset's values. `head` may
                also name one of `HEAD_RECIPES`, whose settings apply unless they are given here.
        """
        choices = HEAD_RECIPES.get(choices.get("head"), {}) | {
            key: value for key, value in choices.items() if key != "head" or value not in HEAD_RECIPES}
        if preset not in PRESETS:
            raise InputError(f"preset {preset!r} is unknown; choose one of {', '.join(PRESETS)}.")
        own = {f.name for f in fields(cls)} - {"model", "preset"}
        model_choices = {key: value for key, value in choices.items() if key not in own}
        unknown = set(model_choices) - {f.name for f in fields(PosterConfig)}
        if unknown:
            raise InputError(f"there is no setting {', '.join(sorted(unknown))} in the model or the recipe.")
        model = replace(PRESETS[preset], **({"class_names": ()} | model_choices))
        return cls(model=model, preset=preset, **(PRESET_RECIPES.get(preset, {}) | {
            key: value for key, value in choices.items() if key in own
        }))

    def to_dict(self) -> dict:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> TrainConfig:
        """The inverse of `to_dict`. Raises InputError on an unknown field."""
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise InputError(f"the recipe has unknown fields: {', '.join(sorted(unknown))}.")
        return cls(**(values | {"model": PosterConfig.from_dict(values["model"])}))

    def key(self, data: str, pretrained: str) -> str:
        """Eight hexadecimal digits that two runs share only if settings, data and pretrained weights are the same.

        Args:
            data, pretrained: fingerprints of their content, which stand here in place of their paths.
        """
        content = self.to_dict() | {"data": data, "pretrained": pretrained}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


# 300 epochs of SAM at 4e-5 suit a pretrained network. From random weights and 1,400 faces, two minutes teach more with
# larger steps, no second pass, and faces that are moved a little.
PRESET_RECIPES: dict[str, dict] = {
    "nano": dict(data="data/demo", epochs=20, batch_size=64, lr=2e-3, gamma=0.86, rho=0.0, augmentation="warp"),
}

# Heads with settings other than the published ones, by a name that stands for all of them. `adaface-fer` is what the
# study's search on real faces led to (results/study_search.csv, validation faces alone, s among 4, 8, 16): its norm is
# taught quality, and s = 4 suits 7 classes, where 64 suits tens of thousands of people.
HEAD_RECIPES: dict[str, dict] = {
    "adaface-fer": dict(head="adaface", scale=4.0, margin=0.2, concentration=1.0, t_alpha=1.0, norm_source="embedding",
                        quality_weight=3.0, augmentation="camera", label_smoothing=0.0),
}


def recipe_loss(logits: Tensor, labels: Tensor, label_smoothing: float = 0.2) -> Tensor:
    """The published loss, 2 * label-smoothed cross-entropy + cross-entropy, on (margin) logits (B, C); a scalar."""
    logits = logits.float()
    return 2 * F.cross_entropy(logits, labels, label_smoothing=label_smoothing) + F.cross_entropy(logits, labels)


def quality_loss(norms: Tensor, quality: Tensor) -> Tensor:
    """1 - Pearson's r of feature norms (B,) and known quality (B,), a scalar in [0, 2]; 1 where quality is constant.

    The logits of a margin head do not depend on the norm, so no other loss tells it anything.
    """
    norms, quality = norms.float(), quality.float()
    return 1 - F.cosine_similarity(norms - norms.mean(), quality - quality.mean(), dim=0)
