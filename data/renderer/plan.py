"""Which face has which number, class, split and identity: RAF-DB's class imbalance, identity-disjoint splits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

SPLITS = {"train": (1534, (1290, 281, 717, 4772, 1982, 705, 2524)), "test": (384, (329, 74, 160, 1185, 478, 162, 680))}


@dataclass(frozen=True)
class Face:
    """One face of the set. number: 1..1918. label: 1..7. identity: a number that belongs to one split only."""

    number: int
    split: str
    index: int
    label: int
    identity: int

    @property
    def file(self) -> str:
        """RAF-DB's name of the picture in the label file."""
        return f"train_{self.index:05d}.jpg" if self.split == "train" else f"test_{self.index:04d}.jpg"

    @property
    def aligned_file(self) -> str:
        """RAF-DB's name of the aligned picture."""
        return self.file.replace(".jpg", "_aligned.jpg")


def class_counts(total: int, published: tuple[int, ...]) -> list[int]:
    """`total` faces shared out in the published proportions, by largest remainder."""
    exact = np.array(published) * total / sum(published)
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact)[: total - counts.sum()]] += 1
    return counts.tolist()


@cache
def faces() -> tuple[Face, ...]:
    """All faces, number 1 first."""
    rng = np.random.default_rng(2017)  # the year of RAF-DB
    out: list[Face] = []
    identity = 0
    for split, (total, published) in SPLITS.items():
        labels = rng.permutation(np.repeat(np.arange(1, 8), class_counts(total, published)))
        left = 0
        for index, label in enumerate(labels, start=1):
            if left == 0:
                identity, left = identity + 1, int(rng.integers(3, 7))
            left -= 1
            out.append(Face(len(out) + 1, split, index, int(label), identity))
    return tuple(out)
