"""The published training loss, and the one that teaches feature norms what is known about a picture's quality."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def recipe_loss(logits: Tensor, targets: Tensor, label_smoothing: float = 0.2) -> Tensor:
    """The published loss, 2 * label-smoothed cross-entropy + cross-entropy, on (margin) logits (B, C); a scalar.

    Args:
        targets: int64 (B,) labels, or float (B, C) shares of votes, each row summing to 1.
    """
    logits = logits.float()
    return 2 * F.cross_entropy(logits, targets, label_smoothing=label_smoothing) + F.cross_entropy(logits, targets)


def quality_loss(norms: Tensor, quality: Tensor) -> Tensor:
    """1 - Pearson's r of feature norms (B,) and known quality (B,), a scalar in [0, 2]; 1 where quality is constant.

    The logits of a margin head do not depend on the norm, so no other loss tells it anything.
    """
    norms, quality = norms.float(), quality.float()
    return 1 - F.cosine_similarity(norms - norms.mean(), quality - quality.mean(), dim=0)
