"""Training input per second: the plain published way against this package's loader, alternated in one run.

    python benchmarks/data_pipeline.py data/demo --workers 2 --repeats 5

Plain: a torch DataLoader whose workers, per image, decode, flip or add noise, resize to 224 with Pillow, convert to a
tensor, normalise and erase. Ours: `FaceLoader` with the published augmentation, after its first epoch filled the cache.
Both give the same batches of float32, ours already on the 112 x 112 grid that the network sees.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from poster_ada.data import FaceLoader, FaceSplit, TrainingTransform, open_dataset
from poster_ada.data.transforms import MEAN, STD
from poster_ada.errors import command


class PlainFaces(torch.utils.data.Dataset):
    """Faces as published implementations of POSTER's generation read them: one file at a time, in BGR."""

    def __init__(self, split: FaceSplit) -> None:
        self.split = split
        self.transform = transforms.Compose([
            transforms.ToPILImage(), transforms.RandomHorizontalFlip(), transforms.Resize((224, 224)),
            transforms.ToTensor(), transforms.Normalize(MEAN, STD), transforms.RandomErasing(scale=(0.02, 0.1)),
        ])

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = np.asarray(Image.open(self.split.paths[index]).convert("RGB"))[:, :, ::-1]
        if random.random() > 0.5:
            if random.random() > 0.5:
                image = image[:, ::-1]
            else:
                image = (image + np.random.normal(0, 30**0.5, image.shape)).clip(0, 255).astype(np.uint8)
        return self.transform(np.ascontiguousarray(image)), int(self.split.labels[index])


def images_per_second(loader: Iterable, epochs: int) -> float:
    """Throughput of whole epochs, the start of worker processes left out: they are kept between epochs."""
    count, start = 0, time.perf_counter()
    for _ in range(epochs):
        for images, labels, *_ in loader:
            assert len(images) == len(labels)
            count += len(labels)
    return count / (time.perf_counter() - start)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", help="folder of a face set")
    parser.add_argument("--workers", type=int, default=2, help="processes of the plain way, threads of ours")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=200)
    given = parser.parse_args(argv)
    torch.set_num_threads(given.workers)
    faces = open_dataset(given.root)
    plain = torch.utils.data.DataLoader(PlainFaces(faces.train), given.batch_size, shuffle=True,
                                        num_workers=given.workers, persistent_workers=True)
    ours = FaceLoader(faces.train, TrainingTransform(), given.batch_size, shuffle=True)
    images_per_second(plain, 1), images_per_second(ours, 1)  # start the workers, warm up
    rates = {"plain": [], "ours": []}
    for _ in range(given.repeats):
        rates["plain"].append(images_per_second(plain, 1))
        rates["ours"].append(images_per_second(ours, 4))
    print(f"{faces.name}: {len(faces.train)} faces, {given.workers} workers on {os.cpu_count()} cores, "
          f"median (range) of {given.repeats} alternated repeats")
    for name, values in rates.items():
        print(f"{name:6}{statistics.median(values):8.0f} images/s ({min(values):.0f}..{max(values):.0f})")
    ratios = [ours / plain for plain, ours in zip(rates["plain"], rates["ours"], strict=True)]
    print(f"ratio {statistics.median(ratios):8.1f} ({min(ratios):.1f}..{max(ratios):.1f})")


if __name__ == "__main__":
    main()
