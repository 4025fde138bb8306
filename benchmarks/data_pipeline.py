"""Training input: a DataLoader over single pictures against this package's loader, on the same faces.

Plain: workers that, per image, decode, flip or add noise, resize to 224 with Pillow, convert to a tensor, normalise and
erase. Default: `FaceLoader` with the published augmentation, after its first epoch filled the cache. Both give batches
of float32, the default already on the 112 x 112 grid that the network sees.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from benchmarks.plain import PlainFaces
from benchmarks.timing import Work
from poster_ada.data.loader import FaceLoader
from poster_ada.data.splits import FaceSplit
from poster_ada.data.transforms import TrainingTransform

BATCH = 200


def epoch(loader: Iterable) -> int:
    """Read every batch once; returns the number of faces."""
    return sum(len(batch[0]) for batch in loader)


def pipelines(split: FaceSplit, device: torch.device) -> dict[str, Work]:
    """`plain` with a worker per core, kept between epochs; `default` with a thread per core, four epochs a time."""
    threads = torch.get_num_threads()
    batch = min(BATCH, len(split))
    plain = torch.utils.data.DataLoader(
        PlainFaces(split), batch, shuffle=True, num_workers=threads, persistent_workers=True
    )
    ours = FaceLoader(split, TrainingTransform(), batch, device=device, shuffle=True)
    return {"plain": lambda: epoch(plain), "default": lambda: sum(epoch(ours) for _ in range(4))}
