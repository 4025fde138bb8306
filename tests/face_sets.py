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
    (root / "EmoLabel" / "list_patition_label.txt").write_text("".join(lines), encoding="utf-8")
    return root


def folders(root: Path, layout: dict[str, int], suffix: str = ".png") -> Path:
    """So many pictures in each folder, `{"train/happy": 3}`; all different."""
    number = 0
    for folder, count in layout.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            picture(number, (48, 48)).save(root / folder / f"{index}{suffix}")
            number += 1
    return root


VOTES = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
# What ten people chose, in the order above, and what the majority rule makes of it (None: left out).
BALLOTS = (((0, 10, 0, 0, 0, 0, 0, 0, 0, 0), "Happiness"), ((6, 0, 0, 4, 0, 0, 0, 0, 0, 0), "Neutral"),
           ((5, 0, 0, 5, 0, 0, 0, 0, 0, 0), None),  # half is no majority
           ((5, 0, 1, 1, 1, 0, 1, 1, 0, 0), "Neutral"),  # counts of one are dropped first
           ((0, 0, 0, 0, 0, 0, 0, 9, 1, 0), "Contempt"), ((0, 0, 2, 0, 0, 0, 0, 0, 8, 0), None),
           ((0, 0, 0, 0, 0, 0, 0, 0, 0, 10), None), ((0, 0, 0, 0, 0, 0, 7, 0, 3, 0), "Fear"),
           ((1, 1, 1, 1, 1, 1, 1, 1, 1, 1), None))


def ferplus(root: Path) -> Path:
    """FER+ as its script writes it, the same ballots in each split, grey pictures of 48 x 48."""
    number = 0
    for split in ("FER2013Train", "FER2013Valid", "FER2013Test"):
        (root / split).mkdir(parents=True)
        lines = []
        for votes, _ in BALLOTS:
            picture(number, (48, 48)).convert("L").save(root / split / f"fer{number:07d}.png")
            lines.append(f'fer{number:07d}.png,"(0, 0, 48, 48)",{",".join(map(str, votes))}\n')
            number += 1
        (root / split / "label.csv").write_text("".join(lines), encoding="utf-8")
    return root


def fer2013(path: Path, header: str = "emotion,pixels,Usage", per_split: int = 7) -> Path:
    """The table of FER2013: labels 0..6 in turn, columns in the order of the header."""
    lines, number = [header], 0
    for usage in ("Training", "PublicTest", "PrivateTest"):
        for _ in range(per_split):
            grey = np.asarray(picture(number, (48, 48)).convert("L"))
            fields = {"emotion": str(number % 7), "pixels": " ".join(map(str, grey.ravel())), "Usage": usage}
            lines.append(",".join(fields[name.strip()] for name in header.split(",")))
            number += 1
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
