"""The face sets that a command calls by name: where they lie unless told otherwise, and what has to be there."""

from __future__ import annotations

from typing import NamedTuple


class NamedSet(NamedTuple):
    """A published set: its default folder, how many classes its name stands for, and the layouts that hold it."""

    root: str
    num_classes: int
    layouts: tuple[str, ...]  # what `Dataset.layout` starts with


NAMED_SETS = {
    "rafdb": NamedSet("data/raf-basic", 7, ("RAF-DB",)),
    "affectnet": NamedSet("data/AffectNet", 7, ("AffectNet",)),
    "affectnet8class": NamedSet("data/AffectNet", 8, ("AffectNet",)),
}
