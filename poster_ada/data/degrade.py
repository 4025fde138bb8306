"""Camera faults of known strength, for studying what image quality does to recognition and to feature norms.

    worse = degrade(images, "blur", severity=3)     # uint8 (B, 3, H, W) in and out

Severity runs from 0 (unchanged) to 5 (barely readable on an aligned face of 100 x 100 pixels):

| kind | 1 | 2 | 3 | 4 | 5 | parameter |
|---|---|---|---|---|---|---|
| blur | 0.8 | 1.4 | 2.2 | 3.2 | 4.5 | sigma of a Gaussian, in pixels of a 100-pixel face |
| downscale | 0.6 | 0.4 | 0.28 | 0.2 | 0.14 | side ratio, down by area and up bilinearly |
| noise | 6 | 12 | 20 | 32 | 48 | standard deviation of Gaussian noise, on 0..255 |
| jpeg | 40 | 22 | 12 | 7 | 4 | JPEG quality setting, 1..100 |
| darkness | 0.6 | 0.38 | 0.24 | 0.14 | 0.08 | share of the light that reaches the sensor, plus shot noise |
"""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from poster_ada.errors import InputError

SEVERITIES = {
    "blur": (0.8, 1.4, 2.2, 3.2, 4.5),
    "downscale": (0.6, 0.4, 0.28, 0.2, 0.14),
    "noise": (6.0, 12.0, 20.0, 32.0, 48.0),
    "jpeg": (40, 22, 12, 7, 4),
    "darkness": (0.6, 0.38, 0.24, 0.14, 0.08),
}
WORST = 5  # severity; 0 is the picture as it is
FULL_WELL = 1000.0  # photons of a fully lit pixel: sets how noisy the dark becomes


def degrade(images: Tensor, kind: str, severity: int, seed: int = 123) -> Tensor:
    """Degrade uint8 (B, 3, H, W) RGB faces; the same seed gives the same noise for the same batch.

    `kind` is a key of `SEVERITIES`, `severity` 0..5; 0 returns the images unchanged. Raises InputError otherwise.
    """
    if kind not in SEVERITIES or severity not in range(WORST + 1):
        raise InputError(f"cannot degrade by {kind!r} {severity}: kinds are {', '.join(SEVERITIES)}, severities 0..5.")
    if severity == 0 or not len(images):
        return images
    strength = SEVERITIES[kind][severity - 1]
    height, width = images.shape[2:]
    generator = torch.Generator().manual_seed(seed)
    if kind == "blur":
        sigma = strength * max(height, width) / 100
        # The kernel may not be longer than reflection at the border allows.
        reach = max(1, min(round(3 * sigma), min(height, width) - 1))
        from torchvision.transforms.v2 import functional as F  # takes a second, and prediction does without

        return F.gaussian_blur(images, [2 * reach + 1] * 2, [sigma] * 2)
    if kind == "downscale":
        small = [max(1, round(strength * height)), max(1, round(strength * width))]
        low = torch.nn.functional.interpolate(images.float(), small, mode="area")
        high = torch.nn.functional.interpolate(low, (height, width), mode="bilinear", align_corners=False)
        return _to_8_bits(high)
    if kind == "jpeg":
        return torch.stack([_through_jpeg(image, int(strength)) for image in images.cpu()]).to(images.device)
    values = images.float().cpu()
    if kind == "noise":
        noisy = values + strength * torch.randn(values.shape, generator=generator)
    else:
        photons = values / 255 * strength * FULL_WELL
        noisy = torch.poisson(photons, generator=generator) / FULL_WELL * 255
    return _to_8_bits(noisy).to(images.device)


def _through_jpeg(image: Tensor, quality: int) -> Tensor:
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)


def _to_8_bits(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)
