"""Faces drawn into their picture."""

from __future__ import annotations

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from poster_ada.palette import BLUE, NEUTRAL_COLOUR

LEAST_TEXT, TEXT_SHARE = 11, 0.022  # pixels, and of the picture's longer side


def annotated(image: np.ndarray, faces: pd.DataFrame) -> Image.Image:
    """uint8 (H, W, 3) with a box, the expression and its probability for every row of a recogniser's table.

    Faces that are not sure have a grey box and a question mark; of several faces each has its number.
    """
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    size = max(LEAST_TEXT, round(TEXT_SHARE * max(picture.size)))
    font, line = ImageFont.load_default(size), max(2, size // 6)
    shown = faces[faces["face"] > 0]
    doubts = [isinstance(doubt, str) and doubt != "" for doubt in shown.get("doubt", [""] * len(shown))]
    for face, unsure in zip(shown.itertuples(), doubts, strict=True):
        box = (face.x, face.y, face.x + face.width - 1, face.y + face.height - 1)
        if face.width > 2 * line and face.height > 2 * line:
            draw.rectangle(box, outline=NEUTRAL_COLOUR if unsure else BLUE, width=line)
    for face, unsure in zip(shown.itertuples(), doubts, strict=True):  # after all boxes, which would cover them
        number = f"{face.face} " if len(shown) > 1 else ""
        text = f"{number}{face.prediction}{'?' if unsure else ''} {face.confidence:.0%}"
        left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
        wide, high = right - left + 2 * line, bottom - top + 2 * line
        x = min(max(0.0, face.x), max(0, picture.width - wide))
        above = face.y - high
        y = above if above >= 0 else min(max(0.0, face.y), max(0, picture.height - high))
        draw.rectangle((x, y, x + wide, y + high), fill=NEUTRAL_COLOUR if unsure else BLUE)
        draw.text((x + line - left, y + line - top), text, font=font, fill="white")
    return picture
