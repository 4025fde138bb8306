"""The report's test protocol, kept to reproduce its Table 1: labels reach its logits, so it predicts nothing.

What it counts is never more than the margin-free accuracy of the same model. A margin leaves the other classes'
cosines as they are and only lowers the true class's, c = cos t, so a face that wins by the margin wins without it:

- CosFace: c - m <= c. ArcFace: t + m is the larger angle, and the cosine falls up to pi, where it is clipped.
- AdaFace, f(t) = cos(t - m q) - m (1 + q), q in [-1, 1]. For q <= 0 the angle grows, so cos(t - m q) <= c, and
  m (1 + q) >= 0 is taken off. For q > 0, |cos(t - m q) - cos t| <= m q, so f(t) <= c + m q - m - m q = c - m.
- The clamps change nothing: all cosines of a row are first held e = 0.001 (AdaFace) from -1 and 1, which keeps their
  order. An angle that is then clipped at pi - e has the cosine -1 + 5e-7, below every such c; one that is raised to e
  belongs to t < m q + e, where c + m q > cos t + t - e > 1.04 - e for t >= acos(1 - e), more than any cosine.

Two equal best cosines are a win for neither in this argument; the first one counts in both protocols.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

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
        return head_of_its_batch(model).margin_logits(features.embedding, labels, features.norm)


def head_of_its_batch(model: Poster) -> Any:
    """A copy of the model's head in training mode, whose statistics are those of the batch that it sees."""
    head = copy.deepcopy(model.head).train()
    if hasattr(head, "t_alpha"):
        head.t_alpha = 1.0
    return head
