"""One pass over a face set that finds what would spoil training or its numbers, before hours are spent on it."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass

from poster_ada.data.datasets import Dataset, FaceSplit
from poster_ada.data.pictures import WORKERS
from poster_ada.errors import InputError

SMALLEST_SIDE = 16  # pixels; the smallest faces of the published sets are several times larger


class DataWarning(UserWarning):
    """Something odd in a face set that does not stop it from being used."""


@dataclass(frozen=True)
class Findings:
    """What the check of a set found. Pairs name two files, as `split/file`, with equal pixels."""

    name: str
    layout: str
    root: str
    full_rafdb: bool
    class_names: tuple[str, ...]
    counts: dict[str, list[int]]  # split -> faces per class
    sizes: dict[str, Counter[tuple[int, int]]]  # split -> how often each (height, width) occurs
    grey_share: dict[str, float]  # split -> 0..1
    within: dict[str, list[tuple[str, str]]]  # split -> equal pictures
    across: list[tuple[str, str]]  # the same picture in train and in test
    contradictory: list[tuple[str, str]]  # equal pictures with different labels

    def sentences(self) -> list[str]:
        """One sentence per thing a user should know."""
        notes = []
        if self.across:
            notes.append(f"{_pictures(self.across)} both in train and in test (first: {_pair(self.across)}), so test "
                         "accuracy comes out too high.")
        if self.contradictory:
            notes.append(f"{_pictures(self.contradictory)} there with two different labels (first: "
                         f"{_pair(self.contradictory)}).")
        for split, pairs in self.within.items():
            if pairs:
                notes.append(f"{_pictures(pairs)} there more than once in {split} (first: {_pair(pairs)}).")
        for split, counts in self.counts.items():
            empty = [name for name, count in zip(self.class_names, counts, strict=True) if not count]
            if empty:
                notes.append(f"{split} has no face of {', '.join(empty)}.")
        return notes

    def warn(self) -> None:
        """Issue every sentence as a DataWarning."""
        for sentence in self.sentences():
            warnings.warn(f"{self.root}: {sentence}", DataWarning, stacklevel=4)

    def table(self) -> str:
        """The findings as text, one screen."""
        splits = list(self.counts)
        width = max(map(len, (*self.class_names, "contradictory labels")))
        rows = [("", *splits)]
        rows += [(name, *(str(self.counts[split][label]) for split in splits))
                 for label, name in enumerate(self.class_names)]
        rows += [("all", *(str(sum(self.counts[split])) for split in splits)),
                 ("pixels", *(_sizes(self.sizes[split]) for split in splits)),
                 ("grey", *(f"{self.grey_share[split]:.1%}" for split in splits)),
                 ("duplicates within", *(str(len(self.within[split])) for split in splits)),
                 ("in train and test", "", str(len(self.across))),
                 ("contradictory labels", "", str(len(self.contradictory)))]
        wide = max(12, *(len(cell) + 2 for row in rows for cell in row[1:]))
        known = "this is the full RAF-DB basic set" if self.full_rafdb else f"called {self.name!r}"
        head = f"{self.root}: {self.layout} layout, {known}"
        body = [row[0].ljust(width) + "".join(cell.rjust(wide) for cell in row[1:]) for row in rows]
        notes = [f"note: {sentence}" for sentence in self.sentences()]
        return "\n".join([head, "", *(line.rstrip() for line in body), "", *(notes or ["nothing odd found."])])


def check_dataset(dataset: Dataset, workers: int = WORKERS) -> Findings:
    """Find every listed file, decode every picture (kept for the loader if they fit in memory), compare their pixels.

    Raises InputError naming the first file that is missing, damaged or too small.
    """
    splits = {"train": dataset.train, "test": dataset.test}
    for split in splits.values():
        missing = [path for path in split.paths if not path.is_file()]
        if missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise InputError(f"{missing[0]}{more} is listed but missing; restore it or take it out of the label file.")
    places = defaultdict(list)  # pixels -> (split, file, label) wherever they occur
    for name, split in splits.items():
        survey = split.pictures.read_all(workers=workers, title=f"checking {name}")
        _refuse_tiny(split)
        for file, label, digest in zip(split.files, split.labels.tolist(), survey.digests, strict=True):
            places[digest].append((name, file, label))
    within, across, contradictory = {name: [] for name in splits}, [], []
    for same in places.values():
        name, file, label = same[0]
        for other_name, other_file, other_label in same[1:]:
            pair = (f"{name}/{file}", f"{other_name}/{other_file}")
            (within[name] if name == other_name else across).append(pair)
            if label != other_label:
                contradictory.append(pair)
    return Findings(
        dataset.name, dataset.layout, str(dataset.root), dataset.is_full_rafdb, dataset.class_names,
        {name: split.class_counts.tolist() for name, split in splits.items()},
        {name: Counter(map(tuple, split.pictures.survey.sizes.tolist())) for name, split in splits.items()},
        {name: float(split.pictures.survey.grey.mean()) for name, split in splits.items()},
        within, across, contradictory)


def _refuse_tiny(split: FaceSplit) -> None:
    sizes = split.pictures.survey.sizes
    for path, (height, width) in zip(split.paths, sizes, strict=True):
        if min(height, width) < SMALLEST_SIDE:
            raise InputError(f"{path} is {width} x {height} pixels, too small to show a face (at least {SMALLEST_SIDE} "
                             "on a side); replace or remove it.")


def _pictures(pairs: list[tuple[str, str]]) -> str:
    return "1 picture is" if len(pairs) == 1 else f"{len(pairs)} pictures are"


def _pair(pairs: list[tuple[str, str]]) -> str:
    return " = ".join(pairs[0])


def _sizes(sizes: Counter[tuple[int, int]]) -> str:
    if len(sizes) == 1:
        (height, width), = sizes
        return f"{width}x{height}"
    heights, widths = zip(*sizes, strict=True)
    return f"{min(widths)}..{max(widths)} x {min(heights)}..{max(heights)}"
