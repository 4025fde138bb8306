"""What the check of a face set found, as sentences and as a table."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from poster_ada.data.listing import first

COMPARED = (("train", "test"), ("train", "validation"), ("validation", "test"))


class DataWarning(UserWarning):
    """Something odd in a face set that does not stop it from being used."""


@dataclass(frozen=True)
class Findings:
    """What the check of a set found. Pairs name two files, as `split/file`, with equal pixels."""

    name: str
    layout: str
    label_file: str
    root: str
    published: bool  # whether the class counts are those of the published set `name`
    class_names: tuple[str, ...]
    counts: dict[str, list[int]]  # split -> faces per class
    sizes: dict[str, Counter[tuple[int, int]]]  # split -> how often each (height, width) occurs
    grey_share: dict[str, float]  # split -> 0..1
    within: dict[str, list[tuple[str, str]]]  # split -> equal pictures
    across: list[tuple[str, str]]  # the same picture in two splits
    contradictory: list[tuple[str, str]]  # equal pictures with different labels
    passed_over: list[str]  # files among the pictures that are none
    left_out: dict[str, int]  # why -> how many faces the set's own rules leave out
    notes: list[str]  # sentences of the layout: class counts that contradict the labels' order, unlisted pictures
    near: list[tuple[str, str]] | None = None  # training and test face that are near copies; None: not looked for

    def between(self, one: str, other: str) -> list[tuple[str, str]]:
        """The pairs of `across` between two splits."""
        return [pair for pair in self.across
                if pair[0].startswith(f"{one}/") and pair[1].startswith(f"{other}/")]

    def sentences(self) -> list[str]:
        """One sentence per thing a user should know."""
        notes = list(self.notes)
        for one, other in COMPARED:
            if pairs := self.between(one, other):
                spoilt = f"{other} accuracy comes out too high"
                notes.append(f"{_pictures(pairs)} both in {one} and in {other} (first: {_pair(pairs)}), so {spoilt}.")
        if self.near:
            notes.append(f"{_pictures(self.near)} in test as a near copy of one in train (first: {_pair(self.near)}), "
                         "so test accuracy comes out too high.")
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
        if self.passed_over:
            suffixes = ", ".join(sorted({Path(name).suffix.lower() or "no suffix" for name in self.passed_over}))
            notes.append(f"{len(self.passed_over)} file{'s' * (len(self.passed_over) > 1)} among the pictures "
                         f"({suffixes}) passed over, as Pillow does not read them here ({first(self.passed_over)}).")
        return notes

    def warn(self) -> None:
        """Issue every sentence as a DataWarning."""
        for sentence in self.sentences():
            warnings.warn(f"{self.root}: {sentence}", DataWarning, stacklevel=3)

    def table(self) -> str:
        """The findings as text, one screen."""
        splits = list(self.counts)
        twins = [(one, other) for one, other in COMPARED if one in splits and other in splits]
        width = max(map(len, (*self.class_names, "in validation and test")))
        rows = [("", *splits)]
        rows += [(name, *(str(self.counts[split][label]) for split in splits))
                 for label, name in enumerate(self.class_names)]
        rows += [("all", *(str(sum(self.counts[split])) for split in splits)),
                 ("pixels", *(_sizes(self.sizes[split]) for split in splits)),
                 ("grey", *(f"{self.grey_share[split]:.1%}" for split in splits)),
                 ("duplicates within", *(str(len(self.within[split])) for split in splits))]
        single = [(f"in {one} and {other}", len(self.between(one, other))) for one, other in twins]
        if self.near is not None:
            single.append(("near copies in train", len(self.near)))
        single.append(("contradictory labels", len(self.contradictory)))
        rows += [(what, *[""] * (len(splits) - 1), str(count)) for what, count in single]
        wide = max(12, *(len(cell) + 2 for row in rows for cell in row[1:]))
        known = f"this is the full {self.name} set" if self.published else f"called {self.name!r}"
        labels = f", labels from {self.label_file}" if self.label_file else ""
        head = f"{self.root}: {self.layout} layout{labels}, {known}"
        body = [row[0].ljust(width) + "".join(cell.rjust(wide) for cell in row[1:]) for row in rows]
        notes = [f"note: {sentence}" for sentence in self.sentences()]
        left_out = [f"left out: {count} faces {reason}." for reason, count in self.left_out.items() if count]
        absent = [f"there is no {split} split, so the set cannot be {use}."
                  for split, use in (("train", "trained on"), ("test", "tested on")) if split not in splits]
        remarks = absent + left_out + (notes or ["nothing odd found."])
        return "\n".join([head, "", *(line.rstrip() for line in body), "", *remarks])


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
