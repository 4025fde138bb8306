"""A detector that finds what it is told to, and where the real one's file would lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from poster_ada.recognition.closer import view_of
from poster_ada.recognition.detector import FILE, Detection, cached_detector

TEMPLATE = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.77), (0.65, 0.77))
CHECKOUT = Path(__file__).parents[1]
SHEET = CHECKOUT / "figures" / "demo_contact_sheet.png"


class Scripted:
    """Finds these boxes (x, y, width, height) in every picture, with points where the template has them."""

    def __init__(self, *boxes: tuple[float, float, float, float]) -> None:
        self.boxes, self.sides = boxes, ()

    def detect(self, image: np.ndarray) -> list[Detection]:
        return [Detection(box, np.array(box[:2]) + np.array(TEMPLATE) * np.array(box[2:]), 0.9) for box in self.boxes]

    def detect_once(self, image: np.ndarray) -> list[Detection]:
        """The second look confirms the first."""
        side = image.shape[0]
        return [Detection((0, 0, side, side), np.array(view_of(TEMPLATE)) * side, 0.9)]

    def detect_close_up(self, image: np.ndarray) -> list[Detection]:
        return []

    def face_score(self, image: np.ndarray) -> float:
        return 0.9 if self.boxes else 0.1


def detector_file() -> Path | None:
    """The YuNet file, which is not ours to publish, where somebody has it."""
    places = (CHECKOUT.parent / "shared" / "detector" / FILE, cached_detector())
    return next((path for path in places if path.is_file()), None)
