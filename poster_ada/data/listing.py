"""What lies in the folders of a face set: its splits, class folders and pictures, in any capitals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from poster_ada.data.formats import is_picture

SPLIT_FOLDERS = {"train": ("train", "training"), "validation": ("val", "valid", "validation"),
                 "test": ("test", "testing")}
_LEFTOVERS = {"thumbs.db", "desktop.ini"}  # of file managers; those that begin with a dot are hidden anyway


def child(folder: Path, *names: str) -> Path | None:
    """The first of `names` that lies in `folder`, in any capitals, or None."""
    if not folder.is_dir():
        return None
    there = {entry.name.lower(): entry for entry in sorted(folder.iterdir(), reverse=True)}
    return next((there[name.lower()] for name in names if name.lower() in there), None)


def folders_in(folder: Path) -> list[str]:
    """Names of the folders in `folder`, sorted; hidden ones do not count."""
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def pictures_in(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the pictures in `folder`, and of the files that are passed over because they are none; both sorted."""
    if not folder.is_dir():
        return [], []
    names = sorted(entry.name for entry in folder.iterdir()
                   if entry.is_file() and not entry.name.startswith(".") and entry.name.lower() not in _LEFTOVERS)
    return [name for name in names if is_picture(name)], [name for name in names if not is_picture(name)]


def split_folders(root: Path, suffix: str = "") -> dict[str, Path]:
    """The folder of each split that is there (`Train/`, or `train_set/` with the suffix `_set`).

    A validation folder stands for the test split where there is no test folder, as in most copies of published sets.
    """
    found = {split: child(root, *(name + suffix for name in names)) for split, names in SPLIT_FOLDERS.items()}
    if found["test"] is None:
        found["test"], found["validation"] = found["validation"], None
    return {split: folder for split, folder in found.items() if folder is not None and folder.is_dir()}


def first(names: Sequence[str]) -> str:
    """`a`, or `a and 4 more`, for messages."""
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")
