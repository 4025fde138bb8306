"""Names and published numbers of the training augmentations; without torch, so that flags can be read at once."""

from __future__ import annotations

import math

AUGMENTATIONS = {
    "published": "flips, noise, erased rectangles",
    "adaface": "the report's w/DA: published after crops, low resolution and photometric changes",
    "warp": "published, with small turns, zooms and shifts",
    "wild": "flips, larger turns, zooms and shifts, contrast, brightness, larger erased rectangles",
    "camera": "published after one camera fault of known severity: blur, low resolution, noise, JPEG or darkness",
    "none": "nothing",
}

NOISE_VARIANCE = 30.0  # on 0..255
ERASE_PROBABILITY = 0.5
ERASE_AREA = (0.02, 0.1)  # share of the picture
ERASE_RATIO = (0.3, 3.3)  # height / width

ADAFACE_PROBABILITY = 0.2  # for each of crop, low resolution, photometric: Kim, Jain, Liu, CVPR 2022, section 4.1
CROP_AREA = (0.2, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)  # width / height
LOW_RESOLUTION_SIDE = (0.2, 1.0)
JITTER = 0.5  # brightness, contrast and saturation factors lie within 1 +- this

# For small networks that start from random weights: faces in the wild are not aligned to the pixel.
WARP_ANGLE, WARP_SCALE, WARP_SHIFT = math.radians(8), 0.08, 0.04  # up to, either way; the shift in shares of the side

# For small networks and tens of thousands of faces from web search.
WILD_ANGLE, WILD_SCALE, WILD_SHIFT = math.radians(20), 0.18, 0.15
WILD_JITTER = 0.3  # contrast and brightness factors lie within 1 +- this
WILD_ERASE_AREA = (0.02, 0.25)

CAMERA_PROBABILITY = 0.5  # of one camera fault, of any kind and severity
