"""Batches of augmented faces: decoded once, augmented together on the model's device, reproducible under a seed.

    loader = FaceLoader(faces.train, TrainingTransform(), batch_size=200, shuffle=True)
    for images, labels, quality in loader: ...
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from poster_ada.data.pictures import CACHE_BYTES, WORKERS
from poster_ada.data.splits import FaceSplit
from poster_ada.data.transforms import EvaluationTransform, TrainingTransform
from poster_ada.errors import InputError


class Batch(NamedTuple):
    """images float32 (B, 3, S, S), labels int64 (B,), quality float32 (B,), the share of each picture's quality that
    augmentation left (1 without), and votes float32 (B, C), the share of annotators who chose each class (the label
    alone where nobody was counted), all on the loader's device."""

    images: Tensor
    labels: Tensor
    quality: Tensor
    votes: Tensor


class FaceLoader:
    """Iterate a split in batches of `batch_size` faces over all processes; this process gets the part of its `rank`.

    Order and augmentation depend only on (seed, epoch, batch number) and are drawn for the whole batch, so any number
    of workers or processes sees the same samples, and training can resume at any epoch. `balanced` draws with
    replacement, weighting each face by 1 / (count of its class), as published for AffectNet; it implies shuffling.

    Faces are decoded once and kept as uint8 if all of the split's pictures fit into `cache_bytes`; otherwise each batch
    is decoded anew by `workers` processes, and a line on stderr says so. The last batch is smaller unless `drop_last`;
    a rank's part of it may be empty.
    """

    def __init__(
        self,
        split: FaceSplit,
        transform: EvaluationTransform | TrainingTransform,
        batch_size: int,
        *,
        device: str | torch.device = "cpu",
        shuffle: bool = False,
        balanced: bool = False,
        seed: int = 123,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        workers: int = WORKERS,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if not 1 <= world_size <= batch_size or not 0 <= rank < world_size:
            raise InputError(f"a batch of {batch_size} cannot be shared by process {rank} of {world_size}.")
        if not len(split) or (drop_last and len(split) < batch_size):
            raise InputError(f"{len(split)} faces do not fill one batch of {batch_size}; lower the batch size.")
        self.split, self.transform, self.batch_size = split, transform, batch_size
        self.device = torch.device(device)
        self.shuffle, self.balanced, self.seed, self.drop_last = shuffle, balanced, seed, drop_last
        self.rank, self.world_size, self.workers = rank, world_size, workers
        self.epoch = 0
        self.labels = torch.from_numpy(split.labels)
        counted = split.votes if split.votes is not None else np.eye(len(split.class_names))[split.labels]
        self.votes = torch.from_numpy(counted / counted.sum(1, keepdims=True)).float()
        self.cache = split.pictures.at_one_size(transform.image_size, cache_bytes, max(1, workers))
        if self.cache is None:
            print(f"note: {len(split.pictures)} faces do not fit into {cache_bytes / 2**30:.2g} GiB of memory, so they "
                  f"are decoded again in every epoch, with {workers} workers.", file=sys.stderr)

    def __len__(self) -> int:
        """Batches per epoch, the same for every rank."""
        whole, rest = divmod(len(self.split), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order and augmentation the next iteration uses."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        batches = list(self._order().split(self.batch_size))[:len(self)]
        parts = [slice(len(batch) * self.rank // self.world_size, len(batch) * (self.rank + 1) // self.world_size)
                 for batch in batches]
        mine = [batch[part] for batch, part in zip(batches, parts, strict=True)]
        for number, (images, indices) in enumerate(zip(self._pictures(mine), mine, strict=True)):
            images = images.to(self.device, non_blocking=True)
            if isinstance(self.transform, TrainingTransform):
                height, width = images.shape[2:]
                draw = self.transform.draw(len(batches[number]), height, width, self._generator(1 + number))
                images = self.transform.apply(images, draw[parts[number]])
                quality = self.transform.quality_left(draw[parts[number]])
            else:
                images = self.transform(images)
                quality = torch.ones(len(indices))
            yield Batch(images, *(values.to(self.device) for values in (
                self.labels[indices], quality, self.votes[indices])))

    def _generator(self, stream: int) -> torch.Generator:
        """Stream 0 is the epoch's order, stream 1 + n the augmentation of batch n."""
        state = np.random.SeedSequence((self.seed, self.epoch, stream)).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0]))

    def _order(self) -> Tensor:
        if self.balanced:
            counts = torch.bincount(self.labels)
            return torch.multinomial(1.0 / counts[self.labels], len(self.split), replacement=True,
                                     generator=self._generator(0))
        if self.shuffle:
            return torch.randperm(len(self.split), generator=self._generator(0))
        return torch.arange(len(self.split))

    def _pictures(self, batches: list[Tensor]) -> Iterator[Tensor]:
        positions = torch.from_numpy(self.split.positions)
        if self.cache is not None:
            for batch in batches:
                yield self.cache.index_select(0, positions[batch])
        else:
            faces = _Decoded(self.split, self.transform.image_size)
            yield from DataLoader(faces, batch_sampler=[batch.tolist() for batch in batches], num_workers=self.workers,
                                  collate_fn=faces.collate)


class _Decoded(TorchDataset):
    """Decodes faces by index: the map-style data set behind the workers when nothing is cached."""

    def __init__(self, split: FaceSplit, image_size: int) -> None:
        self.pictures, self.positions, self.image_size = split.pictures, split.positions, image_size

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> Tensor:
        return self.pictures.one(int(self.positions[index]), self.image_size)

    def collate(self, images: list[Tensor]) -> Tensor:
        if images:
            return torch.stack(images)
        height, width = self.pictures.sizes[0] if self.pictures.one_size else (self.image_size, self.image_size)
        return torch.empty((0, 3, height, width), dtype=torch.uint8)
