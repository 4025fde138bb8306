"""Open a face set in the layout in which it lies there, recognised by what is in its folder, and check it.

    faces = open_dataset("data/raf-basic")       # checked in one pass: see poster_ada/data/check.py
    image, label = faces.train[0]                # uint8 (3, H, W) RGB, 0-based label
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from poster_ada.data.affectnet import AffectNet, AffectNetArrays, AffectNetLists
from poster_ada.data.check import check_dataset
from poster_ada.data.fer import Fer2013, FerPlus, FerPlusTable
from poster_ada.data.folders import ClassFolders
from poster_ada.data.layouts import Dataset
from poster_ada.data.rafdb import NumberedFolders, RafDb
from poster_ada.errors import InputError

# The first that recognises a folder opens it, so special layouts stand before general ones.
LAYOUTS: tuple[type[Dataset], ...] = (
    RafDb, AffectNetArrays, AffectNet, AffectNetLists, FerPlus, FerPlusTable, Fer2013, NumberedFolders, ClassFolders)
INNER = ("raf-basic", "basic", "dataset", "affectnet", "fer2013", "data")  # folders in which archives hold their set


def open_dataset(
    root: str | os.PathLike[str], check: bool = True, num_classes: int | None = None,
    needs: Sequence[str] = ("train", "test"), family: str | None = None,
) -> Dataset:
    """Recognise the layout of `root` (or of the set's own folder inside it) and open it.

    Args:
        root: the set's folder, or one of its label files where it has several (`fer2013new.csv`).
        check: decode every picture, refuse a set with a broken one, and warn of what is odd; kept as `.findings`.
        num_classes: exactly so many; chooses where a set can be read with 7 or 8 classes (AffectNet, FER+). Without it
            AffectNet's 7-class label files are preferred, and everything else gives all the classes it has.
        family: "rafdb", "affectnet", "fer2013" or "ferplus" refuses a form of another of these; class folders are
            always welcome.
        needs: splits that must have faces, of "train", "validation" and "test"; `()` takes what is there.

    Raises:
        InputError: no known layout (the message says what was looked for and what is there), or a broken set.
    """
    root = Path(root).expanduser()
    if not root.exists():
        raise InputError(f"{root} does not exist; give the folder of a face set (data/README.md says how to get one).")
    folder, label_file = (root, "") if root.is_dir() else (root.parent, root.name)
    layouts = [layout for layout in LAYOUTS if not label_file or label_file.lower() in layout.label_files]
    for place in (folder, *_inner_folders(folder)):
        for layout in layouts:
            if layout.recognises(place):
                if family and layout.family not in ("", family):
                    raise InputError(f"{place} holds the layout {layout.layout}, but {family} was asked for; give the "
                                     "folder of that set, or ask for this one.")
                dataset = layout(place, num_classes, needs, label_file.lower())
                dataset.opened_as = root
                if check:
                    dataset.findings = check_dataset(dataset)
                    dataset.findings.warn()
                return dataset
    if label_file:
        raise InputError(f"{root} is a file and none of the label files that open a set; give the folder of a face set "
                         "(data/README.md says how to get one).")
    raise InputError(_not_recognised(root))


def _inner_folders(folder: Path) -> list[Path]:
    there = {entry.name.lower(): entry for entry in sorted(folder.iterdir()) if entry.is_dir()}
    return [there[name] for name in INNER if name in there]


def _not_recognised(root: Path) -> str:
    entries = sorted(entry.name + "/" * entry.is_dir() for entry in root.iterdir() if not entry.name.startswith("."))
    found = ", ".join(entries[:6]) + (f" and {len(entries) - 6} more" if len(entries) > 6 else "") or "nothing"
    looked_for = dict.fromkeys(layout.looked_for for layout in LAYOUTS)
    return (f"{root} holds no known face set: looked for {', '.join(looked_for)}, also in "
            f"{', '.join(f'{name}/' for name in INNER)}; found {found}; data/README.md lists every layout.")
