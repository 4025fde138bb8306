"""Videos and cameras through OpenCV, without the lines that it and FFmpeg print about what cannot be opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import cv2

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # quiet; read when the first video is opened


@contextmanager
def silence() -> Iterator[None]:
    """Without OpenCV's own lines."""
    logging = cv2.utils.logging
    before = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(before)


@contextmanager
def opened(source: str | int) -> Iterator[cv2.VideoCapture]:
    """A video file or a camera's number, to be read; released afterwards. It may not be open: ask `isOpened()`."""
    with silence():
        capture = cv2.VideoCapture(source)
    try:
        yield capture
    finally:
        capture.release()
