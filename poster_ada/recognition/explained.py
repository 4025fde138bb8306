"""Why a face was named so: the annotated picture, and every face with the heat of Grad-CAM on both streams."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from poster_ada.explain.gradcam import STREAMS, grad_cam
from poster_ada.model.poster import Poster

PANEL, GAP, TEXT = 160, 8, 14  # pixels


def explained(
    model: Poster, picture: Image.Image | None, faces: Sequence[tuple[np.ndarray, Tensor, int]], titles: Sequence[str]
) -> Image.Image:
    """A page: the picture, if there is one, and below it a line of panels for each face.

    Args:
        model: in `eval()` mode.
        faces: crop uint8 (S, S, 3), the same as the model's input (1, 3, S, S), and the class to explain.
        titles: what stands above each face.
    """
    lines = [_panels(model, title, *face) for title, face in zip(titles, faces, strict=True)]
    wide = (1 + len(STREAMS)) * PANEL + len(STREAMS) * GAP
    high = 0 if picture is None else max(1, round(picture.height * wide / picture.width))
    page = Image.new("RGB", (wide, high + len(lines) * (PANEL + TEXT + 2 * GAP)), "white")
    if picture is not None:
        page.paste(picture.resize((wide, high), Image.Resampling.LANCZOS), (0, 0))
    for number, line in enumerate(lines):
        page.paste(line, (0, high + GAP + number * (PANEL + TEXT + 2 * GAP)))
    return page


def _panels(model: Poster, name: str, crop: np.ndarray, images: Tensor, number: int) -> Image.Image:
    """The crop and its heat on each stream, side by side, with a line of text above each."""
    face = cv2.resize(crop, (PANEL, PANEL), interpolation=cv2.INTER_CUBIC)
    panels = [(name, face)]
    for stream, title in STREAMS.items():
        heat = cv2.resize(grad_cam(model, images, [number], stream)[0], (PANEL, PANEL))
        title += "" if heat.max() > 0 else ": no heat"
        levels = (255 * heat.clip(0, 1)).astype(np.uint8)
        colour = cv2.applyColorMap(levels, cv2.COLORMAP_CIVIDIS)[..., ::-1]
        panels.append((title, (0.5 * face + 0.5 * colour).astype(np.uint8)))
    line = Image.new("RGB", (len(panels) * (PANEL + GAP) - GAP, PANEL + TEXT + GAP // 2), "white")
    draw, font = ImageDraw.Draw(line), ImageFont.load_default(TEXT - 2)
    for place, (title, panel) in enumerate(panels):
        draw.text((place * (PANEL + GAP), 0), title, fill="black", font=font)
        line.paste(Image.fromarray(panel), (place * (PANEL + GAP), TEXT + GAP // 2))
    return line
