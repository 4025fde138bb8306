"""Boxes around faces."""

from __future__ import annotations

Box = tuple[float, float, float, float]  # x, y, width, height


def overlap(a: Box, b: Box) -> float:
    """Intersection over union, 0..1."""
    wide = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    high = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    return wide * high / (a[2] * a[3] + b[2] * b[3] - wide * high)
