"""Faces in a photograph, by the YuNet detector (Wu, Peng, Yu, "YuNet: A Tiny Millisecond-level Face Detector", 2023)
through OpenCV. Its file is fetched once, from its author's repository, and checked by its SHA-256.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from poster_ada.data.archive import download
from poster_ada.errors import InputError
from poster_ada.files import sha256_of
from poster_ada.recognition.boxes import Box, overlap
from poster_ada.recognition.cache import FILE, cached_detector

SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
ADDRESSES = (
    "https://raw.githubusercontent.com/ShiqiYu/libfacedetection.train/master/onnx/yunet_s_640_640.onnx",
    "https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/face_detection_yunet/" + FILE,
)
# Chosen on validation and training faces pasted into pictures of 640 x 480: seen at both sizes, 95 to 99 % of those of
# 60 to 100 pixels are found, where it is 79 to 91 % at the smaller one alone; 7 % of the pictures have a false one.
LEAST_SCORE, LOWEST_SCORE = 0.7, 0.3  # of faces that are found; of what is looked at at all
SIDES, MOST_ENLARGED = (640, 1600), 2.0  # pixels of the longer side that a photograph is scaled to
SMALLEST = 8  # pixels of the shorter side, below which there is nothing to see and OpenCV fails
SAME_FACE = 0.3  # intersection over union of two boxes
CLOSE_UP_SIDE, CLOSE_UP_BORDER = 160, 0.25  # where nothing is found: a picture that one face fills, with a border


@dataclass(frozen=True)
class Detection:
    """A face: box (x, y, width, height) and points (5, 2) in the picture's pixels, score in 0..1.

    The points are right eye, left eye, nose tip, right and left mouth corner, right as the person has it.
    """

    box: Box
    points: np.ndarray
    score: float


def find_detector(given: str | Path | None = None, addresses: tuple[str, ...] = ADDRESSES) -> Path:
    """The detector's file: the one given, the one kept from an earlier download, or a fresh download.

    Raises:
        InputError: it is not there, or not the file that it should be.
    """
    path = Path(given) if given else cached_detector()
    if given and not path.is_file():
        raise InputError(f"there is no detector file {path}; leave out --detector to download it, or take faces that "
                         "are cut out already with --crop none.")
    if not path.is_file():
        for address in addresses:
            try:
                download(address, path, "--detector")
                break
            except InputError:
                continue
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise InputError(f"the face detector cannot be kept in {path.parent} ({error.strerror}); fetch "
                                 f"{addresses[0]} elsewhere and give the file with --detector.") from None
        else:
            raise InputError(f"the face detector could not be downloaded; fetch {addresses[0]} elsewhere and give the "
                             "file with --detector, or take faces that are cut out already with --crop none.")
    if (found := sha256_of(path)) != SHA256:
        if not given:
            path.unlink()  # so that the next run fetches it again
        raise InputError(f"{path} is not the YuNet detector of March 2023 (its SHA-256 starts with {found[:12]}, not "
                         f"{SHA256[:12]}); " + ("give the right file." if given else "run the same command again."))
    return path


class FaceDetector:
    """Finds faces: `FaceDetector().detect(image)`.

    Args:
        path: the detector's file; without it the kept or downloaded one.
        least_score: faces with a lower score are left out.
        sides: at which sizes it looks; the first alone takes a sixth of the time, and is what videos get.
    """

    def __init__(
        self, path: str | Path | None = None, least_score: float = LEAST_SCORE, sides: Sequence[int] = SIDES
    ) -> None:
        logging = cv2.utils.logging
        before = logging.setLogLevel(logging.LOG_LEVEL_ERROR)  # OpenCV 5 warns of a choice that nobody made
        self.least_score, self.sides = least_score, tuple(sides)
        self._network = cv2.FaceDetectorYN.create(str(find_detector(path)), "", (320, 320), score_threshold=least_score)
        logging.setLogLevel(before)

    def detect(self, image: np.ndarray) -> list[Detection]:
        """Faces in uint8 (H, W, 3) RGB, the largest first.

        Where there is none, it is looked for once more as a close-up: smaller, with a border around.
        """
        height, width = image.shape[:2]
        scales = {min(side / max(height, width), MOST_ENLARGED) for side in self.sides}
        found = [face for scale in sorted(scales) if min(height, width) * scale >= SMALLEST
                 for face in self._detect(image, scale, 0)]
        distinct: list[Detection] = []
        for face in sorted(found, key=lambda face: -face.score):
            if all(overlap(face.box, other.box) < SAME_FACE for other in distinct):
                distinct.append(face)
        return sorted(distinct, key=lambda face: -face.box[2] * face.box[3]) or self.detect_close_up(image)

    def face_score(self, image: np.ndarray) -> float:
        """How much a picture that should be a face, uint8 (H, W, 3) RGB, looks like one: 0..1."""
        self._network.setScoreThreshold(LOWEST_SCORE)
        found = self.detect_close_up(image)
        self._network.setScoreThreshold(self.least_score)
        return max((face.score for face in found), default=0.0)

    def detect_once(self, image: np.ndarray) -> list[Detection]:
        """As `detect`, at the picture's own size alone, in no order."""
        return self._detect(image, 1, 0)

    def detect_close_up(self, image: np.ndarray) -> list[Detection]:
        """As `detect_once`, of the picture made small, with a border around."""
        scale = CLOSE_UP_SIDE / max(image.shape[:2])
        if min(image.shape[:2]) * scale < SMALLEST:
            return []
        return self._detect(image, scale, round(CLOSE_UP_SIDE * CLOSE_UP_BORDER))

    def _detect(self, image: np.ndarray, scale: float, border: int) -> list[Detection]:
        height, width = image.shape[:2]
        size = max(1, round(width * scale)), max(1, round(height * scale))
        seen = image if scale == 1 else cv2.resize(
            image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        if border:
            seen = cv2.copyMakeBorder(seen, border, border, border, border, cv2.BORDER_REPLICATE)
        self._network.setInputSize((seen.shape[1], seen.shape[0]))
        _, rows = self._network.detect(cv2.cvtColor(seen, cv2.COLOR_RGB2BGR))
        found = []
        for row in rows if rows is not None else ():
            x, y, wide, high = (float(value) / scale for value in (row[0] - border, row[1] - border, row[2], row[3]))
            found.append(Detection((x, y, wide, high), (row[4:14].reshape(5, 2) - border) / scale, float(row[14])))
        return found
