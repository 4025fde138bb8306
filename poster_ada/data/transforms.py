"""From decoded faces to what the network sees, in batches and on the model's device.

    eval_input = EvaluationTransform()(images)  # uint8 (B, 3, H, W) RGB -> float32 (B, 3, 112, 112)
    train_input = TrainingTransform()(images, torch.Generator().manual_seed(1))

Published POSTER resizes to 224 x 224 and then drops every second row and column in both streams; the transforms give
that 112 x 112 grid directly, with the same numbers. Published RAF-DB checkpoints expect BGR under RGB statistics.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from poster_ada.channels import CHANNEL_ORDERS
from poster_ada.data.augmentations import (
    ADAFACE_PROBABILITY,
    AUGMENTATIONS,
    CAMERA_PROBABILITY,
    CROP_AREA,
    CROP_RATIO,
    ERASE_AREA,
    ERASE_PROBABILITY,
    ERASE_RATIO,
    JITTER,
    LOW_RESOLUTION_SIDE,
    NOISE_VARIANCE,
    WARP_ANGLE,
    WARP_SCALE,
    WARP_SHIFT,
    WILD_ANGLE,
    WILD_ERASE_AREA,
    WILD_JITTER,
    WILD_SCALE,
    WILD_SHIFT,
)
from poster_ada.data.degrade import SEVERITIES, WORST, degrade
from poster_ada.data.resize import resize_batch, resize_exactly
from poster_ada.errors import InputError

MEAN = (0.485, 0.456, 0.406)  # ImageNet, in RGB order, applied by position even to BGR: the published quirk
STD = (0.229, 0.224, 0.225)
BRIGHTNESS = (0.299, 0.587, 0.114)  # of R, G and B: ITU-R BT.601, as Pillow and OpenCV turn colours grey

# The interpolations that AdaFace's augmentation picks from, as far as torch has them (it has no Lanczos on tensors):
# their names, and whether they smooth.
_INTERPOLATIONS = (("nearest", False), ("bilinear", False), ("bilinear", True), ("bicubic", False), ("bicubic", True))


@dataclass(frozen=True)
class EvaluationTransform:
    """Resize as Pillow does (bilinear, antialiased, 8 bits), keep the streams' grid, normalise.

    image_size: side of the square picture, in pixels; stream_size: side of the grid that both streams see, every
    (image_size // stream_size)-th row and column of it; channel_order: "BGR" (published RAF-DB), "RGB" (AffectNet) or
    "grey" (FER+).
    """

    image_size: int = 224
    stream_size: int = 112
    channel_order: str = "BGR"

    def __post_init__(self) -> None:
        if self.stream_size < 1 or self.image_size % self.stream_size:
            raise InputError(f"image_size {self.image_size} is not a multiple of stream_size {self.stream_size}.")
        if self.channel_order not in CHANNEL_ORDERS:
            raise InputError(f"channel_order is one of {', '.join(CHANNEL_ORDERS)}, not {self.channel_order!r}.")

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) RGB -> float32 (B, 3, stream_size, stream_size)."""
        return self.normalised(resize_exactly(checked(images), self.image_size))

    @property
    def step(self) -> int:
        """Both streams see every `step`-th row and column of the resized picture."""
        return self.image_size // self.stream_size

    def normalised(self, images: Tensor) -> Tensor:
        """uint8 (B, 3, image_size, image_size) RGB -> float32 on the streams' grid, in the network's channel order."""
        grid = images[..., ::self.step, ::self.step]
        if self.channel_order == "BGR":
            grid = grid.flip(1)
        values = grid if grid.is_floating_point() else grid.to(torch.float32).mul_(1 / 255)
        if self.channel_order == "grey":
            values = torch.einsum("bchw,c->bhw", values, values.new_tensor(BRIGHTNESS))[:, None].repeat(1, 3, 1, 1)
        mean, std = (values.new_tensor(numbers).view(3, 1, 1) for numbers in (MEAN, STD))
        return (values - mean).div_(std)


def checked(images: Tensor) -> Tensor:
    """The images themselves. Raises ValueError unless they are uint8 (B, 3, H, W)."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"expected uint8 (B, 3, H, W), got {images.dtype} {tuple(images.shape)}")
    return images


@dataclass(frozen=True)
class AugmentationDraw:
    """Random parameters of a batch of B, on the CPU; `draw[a:b]` are those of a part of it.

    They are drawn for the whole global batch, so that every process can apply its part of the same draw.
    """

    flip: Tensor  # bool (B,)
    noisy: Tensor  # bool (B,)
    noise_seed: Tensor  # int64 (B,)
    erase: Tensor  # int64 (B, 4): top, left, height, width in the image_size picture; height 0 erases nothing
    crop: Tensor  # int64 (B, 4): top, left, height, width in the source picture; the whole picture where not chosen
    low_side: Tensor  # float (B,): side ratio, 1 where not chosen
    interpolation: Tensor  # int64 (B, 2): down and up
    jitter: Tensor  # float (B, 3): factors of brightness, contrast, saturation; 1 where not chosen
    jitter_order: Tensor  # int64 (B, 3)
    warp: Tensor  # float (B, 2, 3): as `draw_similarity` gives them
    fault: Tensor  # int64 (B, 2): kind (by its place in `SEVERITIES`) and severity; severity 0 where not chosen

    def __len__(self) -> int:
        return len(self.flip)

    def __getitem__(self, rows: slice) -> AugmentationDraw:
        return AugmentationDraw(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class TrainingTransform:
    """What `evaluation` does, with augmentation before and after the resize, per picture and independently.

    "published": with probability 1/2 one of {horizontal flip, Gaussian noise of variance 30, rounded to 8 bits}; then a
    random horizontal flip, the resize, normalisation, and RandomErasing to 0 (p 0.5, area 0.02..0.1, ratio 0.3..3.3).
    "adaface": before that, each with probability 0.2, AdaFace's crop pasted in place on black, low resolution, and
    photometric change. "warp": "published" with a small rotation, zoom and shift after the resize. "wild": a random
    flip, a larger rotation, zoom and shift, other contrast and brightness, the resize, normalisation, and RandomErasing
    to 0 (p 0.5, area 0.02..0.25). "camera": "published" after, with probability 1/2, one of `degrade`'s camera faults
    of random severity. "none": no augmentation.
    """

    image_size: int = 224
    stream_size: int = 112
    channel_order: str = "BGR"
    augmentation: str = "published"

    def __post_init__(self) -> None:
        self.evaluation  # noqa: B018 - the sizes are checked there
        if self.augmentation not in AUGMENTATIONS:
            raise InputError(f"augmentation is one of {', '.join(AUGMENTATIONS)}, not {self.augmentation!r}.")

    @property
    def evaluation(self) -> EvaluationTransform:
        """The transform without augmentation."""
        return EvaluationTransform(self.image_size, self.stream_size, self.channel_order)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 (B, 3, H, W) RGB -> float32 (B, 3, stream_size, stream_size); `generator` is a CPU generator."""
        return self.apply(images, self.draw(len(images), images.shape[2], images.shape[3], generator))

    def quality_left(self, draw: AugmentationDraw) -> Tensor:
        """What the augmentation leaves of each picture's quality: float (B,), 1 - severity / 5 of its camera fault."""
        severity = draw.fault[:, 1] if self.augmentation == "camera" else torch.zeros(len(draw))
        return 1 - severity / WORST

    def draw(self, count: int, height: int, width: int, generator: torch.Generator) -> AugmentationDraw:
        """Random parameters for `count` pictures of `height` x `width` pixels."""

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return low + (high - low) * torch.rand(count, *shape, generator=generator)

        def chance(probability: float) -> Tensor:
            return torch.rand(count, generator=generator) < probability

        one_of_two, is_noise, second_flip = chance(0.5), chance(0.5), chance(0.5)
        wild = self.augmentation == "wild"
        erase = _draw_erase(count, self.image_size, generator, WILD_ERASE_AREA if wild else ERASE_AREA)
        noise_seed = torch.randint(2**62, (count,), generator=generator)
        crop = torch.where(chance(ADAFACE_PROBABILITY)[:, None], _draw_crop(count, height, width, generator),
                           torch.tensor([0, 0, height, width]))
        low_side = uniform(*LOW_RESOLUTION_SIDE).where(chance(ADAFACE_PROBABILITY), 1.0)
        interpolation = torch.randint(len(_INTERPOLATIONS), (count, 2), generator=generator)
        jitter = (uniform(1 - WILD_JITTER, 1 + WILD_JITTER, 3) if wild else
                  uniform(1 - JITTER, 1 + JITTER, 3).where(chance(ADAFACE_PROBABILITY)[:, None], 1.0))
        jitter_order = torch.rand(count, 3, generator=generator).argsort(1)
        limits = (WILD_ANGLE, WILD_SCALE, WILD_SHIFT) if wild else (WARP_ANGLE, WARP_SCALE, WARP_SHIFT)
        warp = draw_similarity(count, generator, *limits)
        severity = torch.randint(1, WORST + 1, (count,), generator=generator).where(chance(CAMERA_PROBABILITY), 0)
        fault = torch.stack((torch.randint(len(SEVERITIES), (count,), generator=generator), severity), 1)
        return AugmentationDraw((one_of_two & ~is_noise) ^ second_flip, one_of_two & is_noise, noise_seed, erase, crop,
                                low_side, interpolation, jitter, jitter_order, warp, fault)

    def apply(self, images: Tensor, draw: AugmentationDraw) -> Tensor:
        """Augment uint8 (B, 3, H, W) RGB by `draw` (of length B): float32 as from `__call__`."""
        if self.augmentation == "none":
            return self.evaluation(images)
        resized = resize_batch(self._augment(checked(images), draw), self.image_size)
        if self.augmentation == "warp":
            resized = warped(resized.float(), draw.warp).round_().to(torch.uint8)
        result = self.evaluation.normalised(resized)
        _erase(result, draw.erase, self.evaluation.step)
        return result

    def _augment(self, images: Tensor, draw: AugmentationDraw) -> Tensor:
        images = torch.where(draw.flip.to(images.device)[:, None, None, None], images.flip(3), images)
        if self.augmentation == "wild":
            return _wild(images.float(), draw).round_().to(torch.uint8)
        if self.augmentation == "adaface":
            for index in range(len(images)):
                images[index] = _adaface(images[index], draw[index:index + 1])
        if self.augmentation == "camera":
            for index, (kind, severity) in enumerate(draw.fault.tolist()):
                images[index] = degrade(images[index:index + 1], tuple(SEVERITIES)[kind], severity,
                                        int(draw.noise_seed[index]))[0]
        for index in draw.noisy.nonzero().flatten().tolist():
            seeded = torch.Generator().manual_seed(int(draw.noise_seed[index]))
            noise = torch.randn(images.shape[1:], generator=seeded).to(images.device) * math.sqrt(NOISE_VARIANCE)
            images[index] = (images[index] + noise).round_().clamp_(0, 255)
        return images


def draw_similarity(count: int, generator: torch.Generator, angle: float, scale: float, shift: float) -> Tensor:
    """Random turns by up to `angle` (radians), zooms by 1 +- `scale` and shifts by up to `shift` of the side.

    Returns:
        float (B, 2, 3): A and t of p -> A p + t, where p is in -1..1 from the left and upper edge to the others.
    """
    def uniform(limit: float, *shape: int) -> Tensor:
        return limit * (2 * torch.rand(count, *shape, generator=generator) - 1)

    turn, zoom = uniform(angle), 1 + uniform(scale)
    cos, sin = zoom * turn.cos(), zoom * turn.sin()
    return torch.cat((torch.stack((cos, -sin, sin, cos), -1).view(count, 2, 2), uniform(2 * shift, 2, 1)), -1)


def warped(images: Tensor, similarity: Tensor) -> Tensor:
    """Float images (B, C, H, W) moved by `similarity` (B, 2, 3), bilinear; the edge is repeated beyond itself."""
    # What is at p goes to A p + t, so the new picture reads the old one at the inverse.
    inverse = torch.linalg.inv(similarity[..., :2])
    theta = torch.cat((inverse, -inverse @ similarity[..., 2:]), -1).to(images.device)
    grid = torch.nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _erase(images: Tensor, erase: Tensor, step: int) -> None:
    """Set the rectangles `erase` (B, 4) to 0, in place, as far as every `step`-th row and column sees them."""
    for image, (top, left, height, width) in zip(images, erase.tolist(), strict=True):
        if height:
            rows, columns = (slice(-(-start // step), -(-(start + length) // step))
                             for start, length in ((top, height), (left, width)))
            image[:, rows, columns] = 0.0


def _draw_erase(count: int, size: int, generator: torch.Generator, area_range: tuple[float, float]) -> Tensor:
    """RandomErasing's rectangles (Zhong et al., AAAI 2020; as torchvision draws them): int64 (B, 4)."""
    chosen = torch.rand(count, generator=generator) < ERASE_PROBABILITY
    area = size * size * torch.empty(count).uniform_(*area_range, generator=generator)
    ratio = torch.empty(count).uniform_(*map(math.log, ERASE_RATIO), generator=generator).exp()
    # At most sqrt(0.25 * 3.3) = 0.91 of the side, so a rectangle always fits and no second attempt is needed.
    height, width = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    top = (torch.rand(count, generator=generator) * (size - height + 1)).floor()
    left = (torch.rand(count, generator=generator) * (size - width + 1)).floor()
    return torch.stack([top, left, height * chosen, width], 1).long()


def _draw_crop(count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """RandomResizedCrop's regions, int64 (B, 4): the first of ten attempts that fits the picture, else all of it."""
    area = height * width * torch.empty(count, 10).uniform_(*CROP_AREA, generator=generator)
    ratio = torch.empty(count, 10).uniform_(*map(math.log, CROP_RATIO), generator=generator).exp()
    wide, high = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (wide <= width) & (high <= height) & (wide > 0) & (high > 0)
    first = fits.int().argmax(1, keepdim=True)
    fits, wide, high = (values.gather(1, first).squeeze(1) for values in (fits, wide, high))
    wide, high = wide.where(fits, float(width)), high.where(fits, float(height))
    top = (torch.rand(count, generator=generator) * (height - high + 1)).floor()
    left = (torch.rand(count, generator=generator) * (width - wide + 1)).floor()
    return torch.stack([top, left, high, wide], 1).long()


def _wild(images: Tensor, draw: AugmentationDraw) -> Tensor:
    """Float images (B, 3, H, W) in 0..255, moved by the draw's similarity, then changed in contrast and brightness."""
    images = warped(images, draw.warp)
    brightness, contrast = draw.jitter[:, :2].T[..., None, None, None].to(images.device)
    mean = images.mean((1, 2, 3), keepdim=True)
    return ((images - mean) * contrast + mean * brightness).clamp_(0, 255)


def _adaface(image: Tensor, draw: AugmentationDraw) -> Tensor:
    """AdaFace's three changes to one uint8 (3, H, W) picture, as far as `draw` (of length 1) chose them."""
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as F  # takes a second, and only training needs it

    height, width = image.shape[1:]
    top, left, high, wide = draw.crop[0].tolist()
    if (high, wide) != (height, width):
        inside = image[:, top:top + high, left:left + wide]
        image = torch.zeros_like(image)
        image[:, top:top + high, left:left + wide] = inside
    ratio = float(draw.low_side[0])
    if ratio < 1:
        small = [max(1, round(ratio * height)), max(1, round(ratio * width))]
        for size, choice in zip((small, [height, width]), draw.interpolation[0].tolist(), strict=True):
            mode, antialias = _INTERPOLATIONS[choice]
            image = F.resize(image, size, interpolation=InterpolationMode(mode), antialias=antialias)
    factors = draw.jitter[0].tolist()
    if factors != [1.0, 1.0, 1.0]:
        changes = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)
        for which in draw.jitter_order[0].tolist():
            image = changes[which](image, factors[which])
    return image
