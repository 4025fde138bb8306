"""What feature norms know about image quality, and what bad quality does to accuracy: on faces degraded on purpose.

    faces = degraded_faces(dataset.test)
    measure_degraded(model, faces)      # {"r_pre_norm_blur": 0.61, ..., "accuracy_blur_3": 48.2, ...}
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from poster_ada.data.degrade import SEVERITIES, WORST, degrade
from poster_ada.data.splits import FaceSplit
from poster_ada.data.transforms import EvaluationTransform
from poster_ada.devices import choose_device
from poster_ada.evaluation.predict import prepared
from poster_ada.model.config import NORM_SOURCES
from poster_ada.model.poster import Poster

FACES = 150  # at most, evenly over the split: each is looked at 26 times
BATCH = 64
SEED = 123  # of the degradations' noise


@dataclass(frozen=True)
class DegradedFaces:
    """Versions of the same N faces: uint8 (N, 3, H, W) by (kind, severity), ("none", 0) as they are; labels (N,)."""

    versions: dict[tuple[str, int], Tensor]
    labels: np.ndarray


def evenly_chosen(count: int, most: int | None = None) -> np.ndarray:
    """Places of at most `most` (by default `FACES`) of `count` faces, evenly spread: int, rising."""
    return np.unique(np.linspace(0, count - 1, min(most or FACES, count)).round().astype(int))


def degraded_faces(split: FaceSplit, image_size: int, most: int | None = None) -> DegradedFaces:
    """Every kind of `data.degrade` at every severity, of at most `most` (by default `FACES`) faces evenly spread.

    Args:
        image_size: side to which faces of different sizes are brought first, in pixels.
    """
    chosen = evenly_chosen(len(split), most)
    clean = torch.stack([split.pictures.one(int(position), image_size) for position in split.positions[chosen]])
    versions = {("none", 0): clean} | {
        (kind, severity): degrade(clean, kind, severity, SEED)
        for kind in SEVERITIES for severity in range(1, WORST + 1)
    }
    return DegradedFaces(versions, split.labels[chosen])


def norms_by_source(model: Poster, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Margin-free logits (B, C), and the norm (B,) of every feature that could stand for image quality.

    "embedding" follows the squeeze-excitation, "fused" the last LayerNorm, "pre_norm" comes before it, and "image" is
    the image stream's mean token.
    """
    streams = model.fuse_streams(images)
    embedding = model.squeeze_excitation(streams.fused)
    norms = {"embedding": embedding, **streams._asdict()}
    return model.head(model.feature_layer(embedding)), {
        source: norms[source].float().norm(dim=1) for source in NORM_SOURCES}


@torch.no_grad()
def predictions_and_norms(
    model: Poster, images: Tensor, device: str | torch.device
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Margin-free predictions int (N,) and norms float (N,) by source, from one pass over uint8 (N, 3, H, W)."""
    c, device = model.config, choose_device(device)
    transform = EvaluationTransform(c.image_size, c.stream_size, c.channel_order)
    predictions: list[Tensor] = []
    norms: dict[str, list[Tensor]] = {source: [] for source in NORM_SOURCES}
    with prepared(model, device, "float32", "margin-free") as ready:
        for chunk in images.split(BATCH):
            logits, seen = norms_by_source(
                ready, transform(chunk.to(device)).to(memory_format=torch.channels_last))
            predictions.append(logits.argmax(1).cpu())
            for source, values in seen.items():
                norms[source].append(values.cpu())
    return torch.cat(predictions).numpy(), {source: torch.cat(parts).numpy() for source, parts in norms.items()}


def measure_degraded(
    model: Poster, faces: DegradedFaces, device: str | torch.device = "auto"
) -> dict[str, float]:
    """Accuracy at every severity, and how each norm correlates with quality.

    Returns:
        `accuracy_<kind>_<severity>` in percent; `r_<source>_<kind>`: Pearson's r, over faces and severities 0..5, of
        the norm and the quality 1 - severity / 5; `r_<source>_all`: the same over all kinds at once, the faces as they
        are counted once. Norms differ between faces too, so r stays below 1 even for a norm that falls with every step.
    """
    seen = {version: predictions_and_norms(model, images, device) for version, images in faces.versions.items()}
    result = {f"accuracy_{kind}_{severity}": 100 * float((predicted == faces.labels).mean())
              for (kind, severity), (predicted, _) in seen.items() if severity}
    clean = [("none", 0)]
    for source in NORM_SOURCES:
        kinds = {kind: clean + [version for version in seen if version[0] == kind] for kind in SEVERITIES}
        for kind, versions in (kinds | {"all": list(seen)}).items():
            quality = np.concatenate([np.full(len(faces.labels), 1 - severity / WORST) for _, severity in versions])
            norms = np.concatenate([seen[version][1][source] for version in versions])
            result[f"r_{source}_{kind}"] = float(np.corrcoef(norms, quality)[0, 1])
    return result


def correlations_with_quality(
    model: Poster, split: FaceSplit, device: str | torch.device = "auto"
) -> dict[str, float]:
    """Pearson's r of each norm and the quality that comes with the faces, by source."""
    pictures = torch.stack([split.pictures.one(int(at), model.config.image_size) for at in split.positions])
    _, norms = predictions_and_norms(model, pictures, device)
    return {source: float(np.corrcoef(values, split.quality)[0, 1]) for source, values in norms.items()}
