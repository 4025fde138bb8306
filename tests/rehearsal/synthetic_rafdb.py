"""RAF-DB's exact layout, size and class counts, filled with pictures of nobody, to rehearse the day it arrives.

    python tests/rehearsal/synthetic_rafdb.py data/rehearsal/raf-basic
    python -m poster_ada.rafdb --data data/rehearsal/raf-basic
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from poster_ada.paper.reported import reported_results

SEED = 123


def write_synthetic_rafdb(root: Path) -> Path:
    """12,271 training and 3,068 test pictures of 100 x 100 with the published class counts, in mixed order."""
    generator = np.random.default_rng(SEED)
    aligned = root / "Image" / "aligned"
    aligned.mkdir(parents=True)
    (root / "EmoLabel").mkdir()
    lines = []
    for split, counts in reported_results()["class_counts"].items():
        labels = generator.permutation(np.repeat(np.arange(1, 8), list(counts.values())))
        for number, label in enumerate(labels, 1):
            name = f"{split}_{number:0{5 if split == 'train' else 4}d}"
            blobs = generator.integers(0, 256, (10, 10, 3), dtype=np.uint8)
            blobs[0, :label] = 255  # something that a model could learn
            picture = Image.fromarray(blobs).resize((100, 100), Image.Resampling.BILINEAR)
            picture.save(aligned / f"{name}_aligned.jpg", quality=90)
            lines.append(f"{name}.jpg {label}\n")
    (root / "EmoLabel" / "list_patition_label.txt").write_text("".join(lines), encoding="utf-8")
    return root


if __name__ == "__main__":
    write_synthetic_rafdb(Path(sys.argv[1]))
