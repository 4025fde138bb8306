"""The published training loss, and the one that teaches feature norms what is known about a picture's quality."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def recipe_loss(
    logits: Tensor, targets: Tensor, label_smoothing: float = 0.2, weights: Tensor | None = None,
    spread: Tensor | None = None,
) -> Tensor:
    """The published loss, 2 * label-smoothed cross-entropy + cross-entropy, on (margin) logits (B, C); a scalar.

    Args:
        targets: int64 (B,) labels, or float (B, C) shares of votes, each row summing to 1.
        weights: (B,), what each face counts in the batch's mean; None: 1.
        spread: (C,) summing to 1, how the smoothing's share is spread over the classes; None: evenly.
    """
    logits = logits.float()
    smoothed, smoothing = targets, label_smoothing
    if spread is not None:
        shares = targets if targets.is_floating_point() else F.one_hot(targets, logits.shape[1]).float()
        smoothed, smoothing = torch.lerp(shares, spread.expand_as(shares), label_smoothing), 0.0
    if weights is None:
        return 2 * F.cross_entropy(logits, smoothed, label_smoothing=smoothing) + F.cross_entropy(logits, targets)
    each = 2 * F.cross_entropy(logits, smoothed, label_smoothing=smoothing, reduction="none") + F.cross_entropy(
        logits, targets, reduction="none")
    return (weights * each).mean()


def class_balanced_weights(counts: Tensor, beta: float) -> Tensor:
    """Weights (C,) of classes with `counts` faces, their sum C: (1 - beta) / (1 - beta^n), one over the class's
    effective number of faces (Cui et al. 2019, arXiv 1901.05555)."""
    counts = counts.double().clamp(min=1)
    weights = (1 - beta) / (1 - torch.pow(torch.tensor(beta, dtype=torch.float64), counts))
    return (weights * len(counts) / weights.sum()).float()


def quality_loss(norms: Tensor, quality: Tensor) -> Tensor:
    """1 - Pearson's r of feature norms (B,) and known quality (B,), a scalar in [0, 2]; 1 where quality is constant.

    The logits of a margin head do not depend on the norm, so no other loss tells it anything.
    """
    norms, quality = norms.float(), quality.float()
    return 1 - F.cosine_similarity(norms - norms.mean(), quality - quality.mean(), dim=0)
