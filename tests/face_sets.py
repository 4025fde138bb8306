"""Small face sets written to a folder, for the tests of the data package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def picture(number: int, size: tuple[int, int] = (100, 100)) -> Image.Image:
    """A smooth colour picture, different for every number; `size` is (height, width)."""
    generator = np.random.default_rng(number)
    small = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return small.resize(size[::-1], Image.BICUBIC)


def rafdb(root: Path, train: int = 28, test: int = 14, sizes: tuple[tuple[int, int], ...] = ((100, 100),)) -> Path:
    """RAF-DB's layout with labels 1..7 in turn; `sizes` are used in turn."""
    aligned = root / "Image" / "aligned"
    aligned.mkdir(parents=True)
    (root / "EmoLabel").mkdir()
    lines = []
    names = [f"train_{i:05d}" for i in range(1, train + 1)] + [f"test_{i:04d}" for i in range(1, test + 1)]
    for number, name in enumerate(names):
        picture(number, sizes[number % len(sizes)]).save(aligned / f"{name}_aligned.jpg", quality=95)
        lines.append(f"{name}.jpg {number % 7 + 1}\n")
    (root / "EmoLabel" / "list_patition_label.txt").write_text("".join(lines))
    return root
