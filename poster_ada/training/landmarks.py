"""Train the landmark stream of `nano` or `mini`: `python -m poster_ada.landmarks`.

The published sizes use a MobileFaceNet trained elsewhere on 300-W style landmarks. The small ones need one of their
own, so that their frozen stream means something without any download; the weights come with the package and this
command remakes them. `nano` learns the 68 exact points of the demo faces; `mini` learns those and, on real faces, the
five points that a face detector finds there.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor
from tqdm import trange

from poster_ada.checkpoints.pretrained import LANDMARKS, landmark_fields
from poster_ada.data.datasets import open_dataset
from poster_ada.data.splits import FaceSplit, split_train_validation
from poster_ada.data.transforms import EvaluationTransform, draw_similarity, warped
from poster_ada.errors import InputError
from poster_ada.files import write_atomically
from poster_ada.model.config import PRESETS, PosterConfig
from poster_ada.model.landmark_stream import LandmarkStream

# Where each of the 300-W points lands when the face is mirrored.
MIRROR = torch.tensor([
    *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1),
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
])
OUTER_EYE_CORNERS = (36, 45)
# Of the five points that a detector gives, right and left as the person has them: the 300-W points they are means of.
FIVE = (range(36, 42), range(42, 48), (30,), (48,), (54,))
MIRROR_FIVE = torch.tensor([1, 0, 2, 4, 3])
REAL_SHARE = 0.75  # of each batch, where there are real faces


class RealPoints(NamedTuple):
    """Real faces and their five points: images float (N, 3, S, S), normalised, and points (N, 5, 2) as fractions of the
    side; the same of faces that judge."""

    name: str
    images: Tensor
    points: Tensor
    held_out_images: Tensor
    held_out_points: Tensor


def normalised_mean_error(predicted: Tensor, true: Tensor) -> Tensor:
    """Mean distance of 68 points over the distance of the outer eye corners (300-W), per face: (N, 68, 2) -> (N,)."""
    left, right = OUTER_EYE_CORNERS
    return (predicted - true).norm(dim=-1).mean(-1) / (true[:, left] - true[:, right]).norm(dim=-1)


def five_points(landmarks: Tensor) -> Tensor:
    """(N, 68, 2) -> (N, 5, 2): eye centres, nose tip and mouth corners, as a detector gives them."""
    return torch.stack([landmarks[:, list(points)].mean(1) for points in FIVE], 1)


def five_point_error(predicted: Tensor, true: Tensor) -> Tensor:
    """Mean distance of five points over the distance of the eyes, per face: (N, 68, 2) and (N, 5, 2) -> (N,)."""
    return (five_points(predicted) - true).norm(dim=-1).mean(-1) / (true[:, 0] - true[:, 1]).norm(dim=-1)


def warp(
    images: Tensor, points: Tensor, generator: torch.Generator, mirror: Tensor = MIRROR, shift: float = 0.06
) -> tuple[Tensor, Tensor]:
    """Mirror half of the faces, rotate by up to 15 degrees, scale by 0.85..1.15, shift by up to 6 %; grey and dim some.

    Args:
        images: float (B, 3, S, S), normalised.
        points: (B, P, 2) as fractions of the side.
        mirror: (P,), where each point lands when the face is mirrored.
    """
    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    batch = len(images)
    mirrored = uniform(batch) < 0.5
    images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    flipped = points[:, mirror] * torch.tensor([-1.0, 1.0]) + torch.tensor([1.0, 0.0])
    points = torch.where(mirrored[:, None, None], flipped, points) * 2 - 1
    similarity = draw_similarity(batch, generator, math.radians(15), 0.15, shift)
    images = warped(images, similarity)
    points = (points @ similarity[..., :2].mT + similarity[:, None, :, 2] + 1) / 2
    grey = images.mean(1, keepdim=True).expand_as(images)
    images = torch.where((uniform(batch) < 0.3)[:, None, None, None], grey, images)
    gain, offset = 0.6 + 0.8 * uniform(batch, 1, 1, 1), uniform(batch, 1, 1, 1) - 0.5
    return images * gain + offset, points


def pictures_and_points(split: FaceSplit, config: PosterConfig) -> tuple[Tensor, Tensor]:
    """All faces on the streams' grid (N, 3, S, S) and their points (N, 68, 2) as fractions of the side."""
    if split.landmarks is None:
        raise InputError("the set has no landmarks.csv, which training the landmark stream needs; use data/demo.")
    transform = EvaluationTransform(config.image_size, config.stream_size, config.channel_order)
    images = torch.stack([split[i][0] for i in range(len(split))])
    return transform(images), torch.from_numpy(split.landmarks) / images.shape[-1]


def mean_error(stream: LandmarkStream, images: Tensor, points: Tensor) -> float:
    """Mean normalised mean error, as a fraction."""
    with torch.inference_mode():
        predicted = torch.cat([stream.landmarks(stream(part)) for part in images.split(256)])
    return normalised_mean_error(predicted.unflatten(1, (68, 2)), points).mean().item()


def real_error(stream: LandmarkStream, real: RealPoints) -> float:
    """Mean `five_point_error` on the faces that judge, as a fraction."""
    with torch.inference_mode():
        predicted = torch.cat([stream.landmarks(stream(part)) for part in real.held_out_images.split(256)])
    return five_point_error(predicted.unflatten(1, (68, 2)), real.held_out_points).mean().item()


def train_landmarks(
    data: str | Path = "data/demo", out: str | Path = LANDMARKS["nano"], epochs: int = 100, batch_size: int = 64,
    lr: float = 4e-3, seed: int = 123, quiet: bool = False, preset: str = "nano", real: RealPoints | None = None,
) -> dict[str, Any]:
    """Train, keep the epoch with the lowest error on a validation split, write its weights; returns the record.

    Args:
        real: faces of which five points are known; an epoch is then one pass over them, with faces of `data` beside.

    Raises:
        InputError: the set has no landmarks.
    """
    config = PRESETS[preset]
    dataset = open_dataset(data)
    training, validation = split_train_validation(dataset.train, 0.1, seed)
    (images, points), held_out = pictures_and_points(training, config), pictures_and_points(validation, config)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    stream = LandmarkStream(config.landmark_stem, config.landmark_stages, config.embed_dim, config.grid)
    stream.head.bn.bias.data = points.mean(0).flatten()  # start from the average face
    stream.head.bn.weight.data = points.std(0).flatten()
    optimizer = torch.optim.AdamW(stream.parameters(), lr, fused=True)
    of_real = round(REAL_SHARE * batch_size) if real else 0
    steps = len(real.images) // of_real if real else len(images) // batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, epochs * steps)
    best, weights = math.inf, {}
    with trange(epochs * steps, unit="step", desc="landmarks", disable=quiet, dynamic_ncols=True) as bar:
        for epoch in range(epochs):
            stream.train()
            order = torch.randperm(len(real.images if real else images), generator=generator)
            for rows in order[: steps * (of_real or batch_size)].split(of_real or batch_size):
                if real:
                    real_faces = warp(real.images[rows], real.points[rows], generator, MIRROR_FIVE, shift=0.12)
                    rows = torch.randint(len(images), (batch_size - of_real,), generator=generator)
                faces, target = warp(images[rows], points[rows], generator)
                if not real:
                    predicted = stream.landmarks(stream(faces)).unflatten(1, (68, 2))
                    loss = normalised_mean_error(predicted, target).mean()
                else:
                    grey = faces.mean(1, keepdim=True).expand_as(faces)  # as the real ones are
                    both = torch.cat((real_faces[0], grey))
                    predicted = stream.landmarks(stream(both)).unflatten(1, (68, 2))
                    loss = torch.cat((five_point_error(predicted[:of_real], real_faces[1]),
                                      normalised_mean_error(predicted[of_real:], target))).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.update()
            error = mean_error(stream.eval(), *held_out)
            if real:
                error = (error + real_error(stream, real)) / 2
            if error < best:
                best, weights = error, {key: value.clone() for key, value in stream.state_dict().items()}
            bar.set_postfix(validation_error=f"{100 * error:.2f} %", epoch=epoch + 1)
    stream.load_state_dict(weights)
    test_images, test_points = pictures_and_points(dataset.test, config)
    mean_face = normalised_mean_error(points.mean(0, keepdim=True), test_points).mean().item()
    record = {
        "data": dataset.name, "channel_order": config.channel_order, "epochs": epochs, "seed": seed,
        "validation_nme": round(best, 5), "test_nme": round(mean_error(stream, test_images, test_points), 5),
        "mean_face_nme": round(mean_face, 5),
    }
    if real:
        true = real.held_out_points
        average = (real.points.mean(0) - true).norm(dim=-1).mean(-1) / (true[:, 0] - true[:, 1]).norm(dim=-1)
        record |= {"real_faces": real.name, "real_error": round(real_error(stream, real), 5),
                   "real_mean_face_error": round(average.mean().item(), 5)}
    header = {"poster_ada": json.dumps({"model": landmark_fields(config), "training": record})}
    content = save({key: value.contiguous() for key, value in weights.items()}, header)
    write_atomically(out, lambda temporary: temporary.write_bytes(content))
    return record
