"""Labelled faces of one split, and ways to set a part of them aside."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from poster_ada.data.pictures import Pictures
from poster_ada.errors import InputError


@dataclass
class FaceSplit:
    """Labelled faces. `len(split)`, and `split[i]` gives a uint8 (3, H, W) RGB tensor and its 0-based label.

    files: N names as in the label file; paths: the N files that hold the pictures; labels: int64 (N,); class_names: by
    label. quality: float (N,) in 0..1, 1 is best; landmarks: float32 (N, 68, 2), x and y in pixels; identity: (N,),
    equal for pictures of one person; votes: int64 (N, C), how many annotators chose each class. Those four are None
    where the set does not come with them.
    """

    files: list[str]
    paths: list[Path]
    labels: np.ndarray
    class_names: tuple[str, ...]
    quality: np.ndarray | None = None
    landmarks: np.ndarray | None = None
    identity: np.ndarray | None = None
    votes: np.ndarray | None = None
    # Shared by subsets; of `paths`, unless given.
    pictures: Pictures = field(default=None, repr=False)  # type: ignore[assignment]
    # Of this split's faces in `pictures`; all of them in their order, unless given.
    positions: np.ndarray = field(default=None, repr=False)  # type: ignore

    def __post_init__(self) -> None:
        if self.pictures is None:
            self.pictures = Pictures(self.paths)
        if self.positions is None:
            self.positions = np.arange(len(self.paths))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.pictures[int(self.positions[index])], int(self.labels[index])

    @property
    def class_counts(self) -> np.ndarray:
        """int (C,): how many faces each class has."""
        return np.bincount(self.labels, minlength=len(self.class_names))

    def subset(self, indices: Sequence[int] | np.ndarray) -> FaceSplit:
        """The faces at `indices` (integers, or booleans of length N), in that order, sharing the decoded pictures."""
        rows = np.arange(len(self))[np.asarray(indices)] if len(indices) else np.zeros(0, np.int64)
        quality, landmarks, identity, votes = (
            None if values is None else values[rows]
            for values in (self.quality, self.landmarks, self.identity, self.votes)
        )
        return FaceSplit([self.files[row] for row in rows], [self.paths[row] for row in rows], self.labels[rows],
                         self.class_names, quality, landmarks, identity, votes, self.pictures, self.positions[rows])

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of the split's content: every file's name, label and size."""
        return fingerprint(self)


def fingerprint(*splits: FaceSplit) -> str:
    """Sixteen hexadecimal digits of what the splits hold, in this order, wherever their folder lies."""
    digest = hashlib.sha256()
    for number, split in enumerate(splits):
        if number > 1:  # the first two, train and test, follow each other unmarked, as in runs of version 0.1
            digest.update(b"another split\n")
        for line in _lines(split):
            digest.update(line.encode())
    return digest.hexdigest()[:16]


def _lines(split: FaceSplit) -> Iterator[str]:
    for row, (name, path, label) in enumerate(zip(split.files, split.paths, split.labels, strict=True)):
        try:
            size = path.stat().st_size
        except OSError as error:
            raise InputError(f"{path} is listed but cannot be read ({error.strerror}); restore the file.") from None
        votes = "" if split.votes is None else f" {','.join(map(str, split.votes[row]))}"
        yield f"{name} {label} {size}{votes}\n"


def split_train_validation(split: FaceSplit, fraction: float = 0.1, seed: int = 123) -> tuple[FaceSplit, FaceSplit]:
    """Set aside about `fraction` of every class for choosing models; returns (training, validation), deterministic.

    Where identities are known, all faces of one person fall on one side.
    """
    if not 0 < fraction < 1:
        raise InputError(f"the validation fraction must lie between 0 and 1, not {fraction}.")
    if split.identity is None:
        generator = np.random.default_rng(seed)
        chosen = np.zeros(len(split), bool)
        for label in np.unique(split.labels):
            members = generator.permutation(np.flatnonzero(split.labels == label))
            # At least one, but never all: a class missing on either side could not be learned or judged.
            chosen[members[:min(max(1, round(fraction * len(members))), len(members) - 1)]] = True
    else:
        chosen = disjoint_part(split.labels, split.identity, fraction, seed)
    if chosen.all() or not chosen.any():
        raise InputError(f"{len(split)} faces are too few to set {fraction:.0%} aside for validation.")
    return split.subset(~chosen), split.subset(chosen)


def disjoint_part(labels: np.ndarray, identity: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """bool (N,): about `fraction` of the faces, stratified by label, sharing no identity with the others."""
    from sklearn.model_selection import StratifiedGroupKFold  # takes a second, and only training needs it

    people = len(np.unique(identity))
    if people < 2:
        raise InputError("all faces are of one person, so no part can be set aside that shares nobody with the rest.")
    folds = min(range(2, min(20, people) + 1), key=lambda n: (abs(max(1, round(fraction * n)) / n - fraction), n))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer faces than folds is spread as far as it goes
        parts = list(StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(labels, labels, identity))
    aim = fraction * np.bincount(labels)
    chosen = np.zeros(len(labels), bool)
    for _ in range(max(1, round(fraction * folds))):
        # One person may own most of a class, so folds differ: take the one that brings the counts nearest to the aim.
        def distance(fold: np.ndarray) -> float:
            counts = np.bincount(labels[chosen], minlength=len(aim)) + np.bincount(labels[fold], minlength=len(aim))
            return float(np.abs(counts / aim.clip(1) - 1).sum())  # noqa: B023

        _, best = min((part for part in parts if not chosen[part[1]].any()), key=lambda part: distance(part[1]))
        chosen[best] = True
    return chosen


def person_in(source_file: str) -> str:
    """The person that a numbered picture shows: `Tony_Blair_0035.jpg` -> `Tony_Blair`, `Dileep_32.jpg` -> `Dileep`."""
    stem = source_file.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    return re.sub(r"[_\- ]*\d+[a-z]?$", "", stem) or stem
