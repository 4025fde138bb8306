"""The face sets that a command calls by name: where they lie unless told otherwise, and what has to be there."""

from __future__ import annotations

from typing import NamedTuple


class NamedSet(NamedTuple):
    """A published set: its default folder, its family of layouts, and how many classes its name stands for."""

    root: str
    family: str  # as `Dataset.family`
    num_classes: int


NAMED_SETS = {
    "rafdb": NamedSet("data/raf-basic", "rafdb", 7),
    "affectnet": NamedSet("data/AffectNet", "affectnet", 7),
    "affectnet8class": NamedSet("data/AffectNet", "affectnet", 8),
    "ferplus": NamedSet("data/ferplus", "ferplus", 8),
    "ferplus7class": NamedSet("data/ferplus", "ferplus", 7),
}
