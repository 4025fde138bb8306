"""The report's test protocol, kept to reproduce its Table 1: labels reach its logits, so it predicts nothing."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # flags name the protocols, and are read before torch is loaded
    from torch import Tensor

    from poster_ada.model.poster import Poster

PROTOCOLS = ("margin-free", "label-margin")
LABEL_MARGIN_BATCH = 32  # the report's; AdaFace's q depends on it


def label_margin_logits(model: Poster, images: Tensor, labels: Tensor) -> Tensor:
    """The report's flawed test-time logits: the margin is taken off the TRUE class, q comes from this batch alone.

    The argmax of these is not a prediction and their accuracy is not the classifier's. The model, its mode and its
    buffers are left as they are.

    Args:
        images: (B, 3, S, S), as for the model.
        labels: (B,) int64 in [0, C).
    """
    import torch

    training = model.training
    with torch.no_grad():
        features = model.eval().forward_features(images)
        model.train(training)
        head = copy.deepcopy(model.head).train()
        if hasattr(head, "t_alpha"):
            head.t_alpha = 1.0
        return head.margin_logits(features.embedding, labels, features.norm)
