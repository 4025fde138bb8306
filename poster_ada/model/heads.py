"""Classification heads. Calling one gives margin-free logits; only `margin_logits` takes labels, and only to train.

A head is one class here and its name among `HEADS` in config.py. It declares how reports call and colour it, and which
fields of `PosterConfig` are its own.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any, ClassVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from poster_ada.model.config import PosterConfig
from poster_ada.palette import BLUE, GREEN, PURPLE, SKY_BLUE, VERMILION


class Head:
    """What every head declares; a subclass with a `name` is found by it."""

    name: ClassVar[str]
    title: ClassVar[str]  # in figures and tables
    colour: ClassVar[str]
    settings: ClassVar[tuple[str, ...]] = ()  # the fields of PosterConfig that it takes, beside the two sizes
    classes: ClassVar[dict[str, type[Head]]] = {}

    def __init_subclass__(cls) -> None:
        if "name" in vars(cls):
            Head.classes[cls.name] = cls

    def margin_logits(self, embedding: Tensor, labels: Tensor, norms: Tensor) -> Tensor:
        """Training logits (B, C): see `MarginHead.margin_logits`."""
        raise NotImplementedError

    def count_classes(self, counts: Tensor) -> None:
        """Learn how many training faces each class has, (C,), before training; most heads do not ask."""


class MlpHead(Head, nn.Linear):
    """The published POSTER head: one linear layer, (B, dim) -> logits (B, C)."""

    name, title, colour = "mlp", "MLP", BLUE

    def margin_logits(self, embedding: Tensor, labels: Tensor, norms: Tensor) -> Tensor:
        """The plain logits: this head has no margin, so labels and norms change nothing."""
        return self(embedding)


class MarginHead(Head, nn.Module):
    """Logits s * cos(theta) between the embedding and each class direction, in float32.

    Args:
        dim, num_classes: sizes of `kernel` (dim, C), whose columns are used at unit length.
        margin: m, see the subclasses.
        scale: s, the logits' range is [-s, s]. Published 64.
        scale_rule: "fixed" keeps s; "learned" starts there and learns log s; "adacos" starts at `adacos_scale` and sets
            it by every training batch, from its median angle (AdaCos' dynamic scale: Zhang et al. 2019, arXiv
            1905.00292).
        class_vectors: "learned", or "simplex": fixed at random, all equally far apart, so that rare classes cannot come
            to lie together (Yang et al. 2022, arXiv 2203.09081, eq. 1).
    """

    settings: ClassVar[tuple[str, ...]] = ("margin", "scale", "scale_rule", "class_vectors")
    cos_eps = 1e-4  # cosines stay this far from +-1, where acos has no gradient
    default_margin: ClassVar[float]

    def __init__(
        self, dim: int, num_classes: int, margin: float | None = None, scale: float = 64.0, scale_rule: str = "fixed",
        class_vectors: str = "learned",
    ) -> None:
        super().__init__()
        self.margin = self.default_margin if margin is None else margin
        self.scale = scale
        self.scale_rule = scale_rule
        self.kernel = nn.Parameter(F.normalize(torch.empty(dim, num_classes).uniform_(-1, 1), dim=0))
        if class_vectors == "simplex":
            self.kernel = nn.Parameter(simplex(dim, num_classes), requires_grad=False)
        self.batch_scale: Tensor
        if scale_rule == "learned":
            self.log_scale = nn.Parameter(torch.tensor([math.log(scale)]))
        elif scale_rule == "adacos":
            self.register_buffer("batch_scale", torch.tensor([adacos_scale(num_classes)]))

    def cosine(self, embedding: Tensor) -> Tensor:
        """(B, dim) -> cosines (B, C) in [-1, 1]."""
        device = embedding.device.type
        with nullcontext() if device == "meta" else torch.autocast(device, enabled=False):  # autocast knows no meta
            return F.normalize(embedding.float(), dim=1) @ F.normalize(self.kernel.float(), dim=0)

    @property
    def current_scale(self) -> float | Tensor:
        """s as it is now: a number where it is fixed, else (1,)."""
        rules = {"learned": lambda: self.log_scale.float().exp(), "adacos": lambda: self.batch_scale}
        return rules[self.scale_rule]() if self.scale_rule in rules else self.scale

    @torch.no_grad()
    def set_batch_scale(self, cos: Tensor, labels: Tensor) -> None:
        """AdaCos' dynamic s from the cosines (B, C) of a training batch."""
        true = cos.gather(1, labels[:, None])
        others = (self.batch_scale * cos).exp().sum(1, keepdim=True) - (self.batch_scale * true).exp()
        angle = true.clamp(-1, 1).acos().median().clamp(max=math.pi / 4)
        self.batch_scale.copy_(others.mean().log() / angle.cos())

    def forward(self, embedding: Tensor) -> Tensor:
        return self.current_scale * self.cosine(embedding)

    def margin_logits(self, embedding: Tensor, labels: Tensor, norms: Tensor) -> Tensor:
        """Training logits: the true class's is lowered by the margin.

        Args:
            embedding: (B, dim).
            labels: (B,) int64 in [0, C).
            norms: (B,), the feature norms that stand for image quality; no gradient flows through them.
        """
        cos = self.cosine(embedding).clamp(-1 + self.cos_eps, 1 - self.cos_eps)
        if self.training and self.scale_rule == "adacos":
            self.set_batch_scale(cos, labels)
        return self.current_scale * self.lowered(cos, labels, norms.detach().float())

    def lowered(self, cos: Tensor, labels: Tensor, norms: Tensor) -> Tensor:
        """Cosines (B, C) after the margin."""
        target = self.target_cosine(cos.gather(1, labels[:, None]), norms[:, None])
        return cos.scatter(1, labels[:, None], target)

    def target_cosine(self, cos: Tensor, norms: Tensor) -> Tensor:
        """The true class's cosine (B, 1) after the margin."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"dim={self.kernel.shape[0]}, classes={self.kernel.shape[1]}, m={self.margin}, s={self.scale}"


def simplex(dim: int, num_classes: int) -> Tensor:
    """(dim, C): columns of length 1 in a random subspace, any two at a cosine of -1 / (C - 1)."""
    axes = torch.linalg.qr(torch.randn(dim, num_classes))[0]
    return F.normalize(axes @ (torch.eye(num_classes) - 1 / num_classes), dim=0)


def adacos_scale(num_classes: int) -> float:
    """AdaCos' fixed s, sqrt(2) log(C - 1): 2.5 for 7 classes (Zhang et al. 2019, arXiv 1905.00292)."""
    return math.sqrt(2) * math.log(num_classes - 1)


class CosFaceHead(MarginHead):
    """cos(theta) - m (Wang et al. 2018, arXiv 1801.09414, eq. 4)."""

    name, title, colour = "cosface", "CosFace", PURPLE
    default_margin = 0.4

    def target_cosine(self, cos: Tensor, norms: Tensor) -> Tensor:
        return cos - self.margin


class LdamHead(MarginHead):
    """cos(theta) - m_y, where a class of n faces has a margin of n^(-1/4), times what gives the rarest one m (Cao et
    al. 2019, arXiv 1906.07413)."""

    name, title, colour = "ldam", "LDAM", SKY_BLUE
    default_margin = 0.5

    def __init__(self, dim: int, num_classes: int, *choices: Any, **named: Any) -> None:
        super().__init__(dim, num_classes, *choices, **named)
        self.class_margins: Tensor
        self.register_buffer("class_margins", torch.full((num_classes,), float(self.margin)))

    def count_classes(self, counts: Tensor) -> None:
        counts = counts.float().clamp(min=1)
        self.class_margins.copy_(self.margin * (counts / counts.min()) ** -0.25)

    def lowered(self, cos: Tensor, labels: Tensor, norms: Tensor) -> Tensor:
        return cos - F.one_hot(labels, len(self.class_margins)) * self.class_margins


class ArcFaceHead(MarginHead):
    """cos(theta + m) (Deng et al. 2019, arXiv 1801.07698, eq. 3)."""

    name, title, colour = "arcface", "ArcFace", GREEN
    default_margin = 0.5

    def target_cosine(self, cos: Tensor, norms: Tensor) -> Tensor:
        return (cos.acos() + self.margin).clamp(self.cos_eps, math.pi - self.cos_eps).cos()


class AdaFaceHead(MarginHead):
    """cos(theta - m q) - (m + m q), quality q from the feature norm (Kim et al. 2022, arXiv 2204.00964, eq. 5-9).

    q is the norm, standardised by the mean and standard deviation of norms, times h, clipped to [-1, 1].

    Args:
        concentration: h, the share of a standard deviation that fills q's range. Published 0.333.
        t_alpha: weight of the batch in the running mean and standard deviation; published here 1.0 (the batch alone),
            AdaFace's own default is 0.01.
    """

    name, title, colour = "adaface", "AdaFace", VERMILION
    settings = (*MarginHead.settings, "concentration", "t_alpha")
    cos_eps = 1e-3
    default_margin = 0.4

    def __init__(
        self, dim: int, num_classes: int, margin: float | None = None, scale: float = 64.0, scale_rule: str = "fixed",
        concentration: float = 0.333, t_alpha: float = 1.0, class_vectors: str = "learned",
    ) -> None:
        super().__init__(dim, num_classes, margin, scale, scale_rule, class_vectors)
        self.concentration = concentration
        self.t_alpha = t_alpha
        self.batch_mean: Tensor
        self.batch_std: Tensor
        self.register_buffer("batch_mean", torch.full((1,), 20.0))
        self.register_buffer("batch_std", torch.full((1,), 100.0))

    def quality_indicator(self, norms: Tensor) -> Tensor:
        """Norms (B,) or (B, 1) -> q of the same shape in [-1, 1], against `batch_mean` and `batch_std`."""
        safe = norms.clamp(0.001, 100)
        return ((safe - self.batch_mean) / (self.batch_std + 1e-3) * self.concentration).clamp(-1, 1)

    @torch.no_grad()
    def update_statistics(self, norms: Tensor) -> None:
        """Blend the mean and (unbiased) standard deviation of these norms into the running ones."""
        safe = norms.clamp(0.001, 100)
        if dist.is_initialized() and dist.get_world_size() > 1:  # the batch is that of all processes
            parts = [torch.empty_like(safe) for _ in range(dist.get_world_size())]
            dist.all_gather(parts, safe.contiguous())
            safe = torch.cat(parts)
        self.batch_mean.lerp_(safe.mean().reshape(1), self.t_alpha)
        if safe.numel() > 1:  # one sample has no spread: keep the last one
            self.batch_std.lerp_(safe.std().reshape(1), self.t_alpha)

    def target_cosine(self, cos: Tensor, norms: Tensor) -> Tensor:
        if self.training:
            self.update_statistics(norms)
        m, q = self.margin, self.quality_indicator(norms)
        return (cos.acos() - m * q).clamp(1e-3, math.pi - 1e-3).cos() - (m + m * q)



def make_head(config: PosterConfig) -> Any:
    """The head that a configuration names, with the settings that are its own."""
    kind: Any = Head.classes[config.head]
    return kind(config.embed_dim, config.num_classes, **{name: getattr(config, name) for name in kind.settings})
