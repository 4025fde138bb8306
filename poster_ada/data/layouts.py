"""What every layout has in common: three splits, class names, and what the published system does with the set.

A new layout is one subclass of `Dataset`, named in `LAYOUTS` of poster_ada/data/datasets.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from poster_ada.data.findings import Findings
from poster_ada.data.splits import FaceSplit, fingerprint
from poster_ada.errors import InputError

SPLITS = ("train", "validation", "test")
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Dataset:
    """A face set; a subclass reads one layout on disk, and says how to recognise it.

    `train` and `test` are empty where the set does not have them and nobody `needs` them; `validation` is None unless
    the set comes with a split of its own for choosing models. Raises InputError, with one sentence that names the
    file, if the layout is broken, lacks a split that is needed, or does not have `num_classes` classes.
    """

    layout: str  # name of the layout, for messages
    family: str = ""  # which published set this is a form of; empty: any faces
    looked_for: str  # what it is recognised by, for messages
    label_files: Sequence[str] = ()  # those that a user may name instead of the folder, to choose among several
    channel_order: str = "BGR"
    variant: Mapping[str, object] = _NOTHING  # settings of recipe and model that the published system uses on this set
    head_variant: Mapping[str, Mapping[str, object]] = _NOTHING  # more of them, by head
    published_name: str = ""
    published_counts: Mapping[str, Sequence[int]] = _NOTHING  # split -> faces per class of the published set
    class_names: tuple[str, ...]
    train: FaceSplit
    test: FaceSplit
    validation: FaceSplit | None = None
    voted: FaceSplit | None = None  # training faces with votes for a class, those without a majority among them
    _fingerprint: str | None = None
    findings: Findings | None = None  # None: opened without the check

    def __init__(
        self, root: str | os.PathLike[str], num_classes: int | None = None, needs: Sequence[str] = ("train", "test"),
        label_file: str = "",
    ) -> None:
        self.root = self.opened_as = Path(root)  # `open_dataset` puts what it was given in place of the latter
        self.num_classes = num_classes
        self.label_file = label_file  # the one asked for, then the one read; empty where there is no choice
        self.passed_over: list[str] = []  # files that lie among the pictures and are not read, relative to `root`
        self.left_out: dict[str, int] = {}  # why -> how many labelled faces the set's own rules leave out
        self.notes: list[str] = []  # one sentence each, for the check
        self.read()
        if num_classes not in (None, len(self.class_names)):
            raise InputError(f"{self.root} has {len(self.class_names)} classes, not {num_classes} "
                             f"({', '.join(self.class_names)}); ask for the classes that it has.")
        if self.validation is not None and not len(self.validation):
            self.validation = None
        for split in ("train", "test"):
            if not hasattr(self, split):
                setattr(self, split, FaceSplit([], [], np.zeros(0, np.int64), self.class_names))
        lacking = [split for split in needs or SPLITS if split not in self.splits]
        if needs and lacking or len(lacking) == len(SPLITS):
            word = {"train": "training"}.get(lacking[0], lacking[0])
            raise InputError(f"{self.root} has no {word} faces, which are needed here; data/README.md says where a "
                             f"{self.layout} set has them.")

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Whether `folder` looks like this layout, complete or not."""
        raise NotImplementedError

    def read(self) -> None:
        """Find files and labels: sets `class_names` and those of `train`, `validation` and `test` that are there."""
        raise NotImplementedError

    def leave_out(self, reason: str, count: int) -> None:
        """Add to the faces that the set's own rules leave out."""
        self.left_out[reason] = self.left_out.get(reason, 0) + count

    @property
    def splits(self) -> dict[str, FaceSplit]:
        """The splits that have faces, by name, in the order train, validation, test."""
        found = {name: getattr(self, name) for name in SPLITS}
        return {name: split for name, split in found.items() if split is not None and len(split)}

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of the set's content: every file's name, label and size, wherever it lies; as it
        was when somebody first asked."""
        if self._fingerprint is None:
            others = [] if self.validation is None else [self.validation]
            self._fingerprint = fingerprint(self.train, self.test, *others)
        return self._fingerprint

    @property
    def is_published(self) -> bool:
        """Whether the class counts of every split are the published ones."""
        return bool(self.published_counts) and self.published_counts.keys() == self.splits.keys() and all(
            tuple(split.class_counts) == tuple(self.published_counts[name]) for name, split in self.splits.items())

    @property
    def is_full_rafdb(self) -> bool:
        """Whether this is RAF-DB basic, by its class counts."""
        return self.is_published and self.published_name == "RAF-DB basic"

    @property
    def name(self) -> str:
        """What to call the set in a report: a published name only where the published class counts prove it."""
        return self.published_name if self.is_published else self._folder_name()

    def numbering(self) -> list[str]:
        """Sentences about class counts that contradict the published ones, as wrongly numbered labels make them.

        The published shares of the classes, but on other classes: then 0-based, alphabetical or other labels are
        likely. Where the shares are others altogether, nothing can be told.
        """
        sentences = []
        for name, published in self.published_counts.items():
            counts = self.splits[name].class_counts if name in self.splits else np.zeros(1)
            if counts.sum() < ENOUGH_TO_TELL or len(counts) != len(published):
                continue
            here, there = counts / counts.sum(), np.asarray(published) / sum(published)
            swapped = sorted(counts) == sorted(published) and tuple(counts) != tuple(published)
            alike = _distance(np.sort(here), np.sort(there))
            if not swapped and not alike < SAME_SHARES < OTHER_SHARES < _distance(here, there):
                continue
            alphabetical = np.argsort(self.class_names)
            if _distance(here, there[alphabetical]) < SAME_SHARES and tuple(alphabetical) != tuple(range(len(counts))):
                order = "alphabetically"
            elif swapped:  # equal counts show which class is which
                true_names = [self.class_names[list(published).index(int(count))] for count in counts]
                wrong = [f"{given} has the count of {true}" for given, true in
                         zip(self.class_names, true_names, strict=True) if given != true]
                order = f"in another order ({', '.join(wrong)})"
            else:
                order = "in another order"
            sentences.append(f"the class counts of {name} are those of {self.published_name}, but of other classes, so "
                             f"its labels seem to be numbered {order}; renumber them as data/README.md lists them.")
        return sentences

    def _folder_name(self) -> str:
        folder = self.root.resolve()
        while folder.name.lower() in ("raf-basic", "basic", "dataset", "data") and folder.parent.name:
            folder = folder.parent
        looks_published = re.search(r"raf.?db|affect.?net|fer.?(2013|plus|\+)", folder.name, re.IGNORECASE)
        return f"unverified set in {folder.name}/" if looks_published else folder.name or "faces"

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(split)} {name}" for name, split in self.splits.items())
        return f"{type(self).__name__}({self.name!r}, {counts}, {self.root})"


ENOUGH_TO_TELL = 500  # faces of a split; shares of fewer say little
# Total variation distance of class shares: 500 faces drawn from RAF-DB stay below the first.
SAME_SHARES, OTHER_SHARES = 0.08, 0.15


def _distance(p: np.ndarray, q: np.ndarray) -> float:
    """Total variation distance of two distributions, 0..1."""
    return float(np.abs(p - q).sum() / 2)
