"""Where the face detector's file is kept; known without OpenCV, for `--help`."""

from __future__ import annotations

from pathlib import Path

from platformdirs import user_cache_path

FILE = "face_detection_yunet_2023mar.onnx"


def cached_detector() -> Path:
    """Where the detector's file is kept."""
    return user_cache_path("poster-ada") / FILE
