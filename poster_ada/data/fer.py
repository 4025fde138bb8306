"""FER2013 and FER+: 48 x 48 grey faces from web search, with one label each, or with the votes of ten people.

FER2013: Goodfellow et al., "Challenges in representation learning", ICONIP 2013. FER+: Barsoum et al., "Training deep
networks for facial expression recognition with crowd-sourced label distribution", ICMI 2016 (arXiv 1608.01041).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from poster_ada.data.labels import read_table, refuse_escape, whole_number
from poster_ada.data.layouts import Dataset
from poster_ada.data.listing import child
from poster_ada.data.pictures import Pictures
from poster_ada.data.splits import FaceSplit
from poster_ada.errors import InputError
from poster_ada.expressions import AFFECTNET_CLASSES

FER2013_CLASSES = ("Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Neutral")  # labels 0..6
USAGES = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
PIXEL_FILES = ("fer2013.csv", "icml_face_data.csv")
VOTES_FILE = "fer2013new.csv"
FOLDERS = {"train": "FER2013Train", "validation": "FER2013Valid", "test": "FER2013Test"}
VOTES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
# AffectNet's order: the seven classes without Contempt are then the first seven, as in the label files of that set, and
# a head trained on the one fits the other.
CLASSES = AFFECTNET_CLASSES
_COLUMNS = [VOTES.index(name.lower()) for name in CLASSES]  # of the votes, by label
# Faces (train, validation, test) that have a majority, by label file and number of classes.
FERPLUS_TOTALS = {
    ("label.csv", 8): (25_045, 3_191, 3_137), ("label.csv", 7): (24_925, 3_175, 3_122),
    (VOTES_FILE, 8): (25_060, 3_199, 3_153), (VOTES_FILE, 7): (24_941, 3_186, 3_137),
}


class Fer2013(Dataset):
    """`fer2013.csv` (`emotion,pixels,Usage`) or `icml_face_data.csv`, pictures and labels in one table.

    PublicTest is the validation split, PrivateTest the test split. Faces are named by their line in the table.
    """

    layout = "FER2013"
    family = "fer2013"
    looked_for = "fer2013.csv or icml_face_data.csv (FER2013; with fer2013new.csv, FER+)"
    label_files = PIXEL_FILES
    channel_order = "grey"
    class_names = FER2013_CLASSES
    published_name = "FER2013"
    published_counts = MappingProxyType({
        "train": (3995, 436, 4097, 7215, 4830, 3171, 4965), "validation": (467, 56, 496, 895, 653, 415, 607),
        "test": (491, 55, 528, 879, 594, 416, 626)})

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        return child(folder, *PIXEL_FILES) is not None

    def read(self) -> None:
        table = child(self.root, *PIXEL_FILES) or self.root / PIXEL_FILES[0]
        self.label_file = table.name
        faces: dict[str, list[tuple[str, int, np.ndarray]]] = {split: [] for split in USAGES.values()}
        for number, row in read_table(table, ("emotion", "pixels", "Usage")):
            where = f"{table} line {number}"
            label = whole_number(row["emotion"], where, "the emotion")
            if label >= len(self.class_names):
                raise InputError(f"{where}: emotion {label} is not in 0..{len(self.class_names) - 1}; mend the line.")
            faces[_split(row["Usage"], where)].append((f"{table.name}:{number}", label, _pixels(row["pixels"], where)))
        for split, rows in faces.items():
            if rows:
                files, numbers, pixels = zip(*rows, strict=True)
                labels = np.array(numbers, np.int64)
                setattr(self, split, _in_memory(table, list(files), labels, self.class_names, pixels))


class FerPlus(Dataset):
    """FER+ as its official script writes it: `FER2013{Train,Valid,Test}/fer0000000.png` and `label.csv` in each.

    `label.csv` has no header: the picture, its box in quotation marks, ten vote counts. Where it is missing, or where
    `fer2013new.csv` itself is what one opens, the votes of that table above the folders count; for 1,602 pictures the
    two official files disagree. A face keeps the class with more than half of the votes, after counts of one are
    dropped; faces without such a majority, and those with one for "unknown" or "not a face", are left out.
    8 classes, or with `num_classes=7` all but Contempt; `votes` are the raw counts.
    """

    layout = "FER+"
    family = "ferplus"
    looked_for = "FER2013Train/ with FER2013Valid/ and FER2013Test/ (FER+)"
    label_files = (VOTES_FILE,)
    channel_order = "grey"

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        return any((folder / name).is_dir() for name in FOLDERS.values())

    def read(self) -> None:
        _choose_classes(self)
        folders = {split: self.root / name for split, name in FOLDERS.items() if (self.root / name).is_dir()}
        table = next((place / VOTES_FILE for place in (self.root, self.root.parent)
                      if (place / VOTES_FILE).is_file()), None)
        by_folder = all((folder / "label.csv").is_file() for folder in folders.values())
        if self.label_file == VOTES_FILE or not by_folder and table is not None:
            self.label_file, rows = VOTES_FILE, _rows_of_table(table or self.root / VOTES_FILE)
        else:
            self.label_file, rows = "label.csv", _rows_of_folders(folders)
        faces: dict[str, list[tuple[str, np.ndarray]]] = {split: [] for split in folders}
        for _, split, file, votes in rows:
            if file and split in folders:
                faces[split].append((file, votes))
        for split, found in faces.items():
            def faces_of(files: list[str], _: list[int], votes: np.ndarray, folder: Path = folders[split]) -> FaceSplit:
                return FaceSplit(files, [folder / file for file in files], votes.argmax(1), self.class_names,
                                 votes=votes)

            _by_majority(self, split, found, faces_of)

    @property
    def is_published(self) -> bool:
        totals = tuple(len(self.splits.get(split, ())) for split in FOLDERS)
        return totals == FERPLUS_TOTALS.get((self.label_file, len(self.class_names)))

    @property
    def name(self) -> str:
        known = f"FER+ ({self.label_file}), {len(self.class_names)} classes"
        return known if self.is_published else self._folder_name()


class FerPlusTable(FerPlus):
    """FER+ before its script ran: `fer2013.csv` with the pixels and `fer2013new.csv` with the votes, line by line."""

    layout = "FER+, tables"
    looked_for = Fer2013.looked_for

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        return child(folder, *PIXEL_FILES) is not None and child(folder, VOTES_FILE) is not None

    def read(self) -> None:
        _choose_classes(self)
        table = child(self.root, *PIXEL_FILES) or self.root / PIXEL_FILES[0]
        votes_table = child(self.root, VOTES_FILE) or self.root / VOTES_FILE
        self.label_file = votes_table.name
        faces: dict[str, list[tuple[str, np.ndarray]]] = {split: [] for split in USAGES.values()}
        pixels: dict[str, list[np.ndarray]] = {split: [] for split in USAGES.values()}
        rows = _rows_of_table(votes_table)
        number = 0
        for number, row in read_table(table, ("pixels", "Usage")):
            where, split, file, votes = next(rows, ("", "", "", np.zeros(0, np.int64)))
            if split != _split(row["Usage"], f"{table} line {number}"):
                raise InputError(f"{table} line {number} and {where or votes_table} do not belong together (their "
                                 "Usage differs); take both tables as their authors hand them out, in the same order.")
            if file:
                faces[split].append((file, votes))
                pixels[split].append(_pixels(row["pixels"], f"{table} line {number}"))
        if next(rows, None) is not None:
            raise InputError(f"{table} ends after line {number}, before {votes_table} does; copy it again.")
        for split, found in faces.items():
            def faces_of(files: list[str], rows: list[int], votes: np.ndarray, split: str = split) -> FaceSplit:
                return _in_memory(table, files, votes.argmax(1), self.class_names, [pixels[split][row] for row in rows],
                                  votes)

            _by_majority(self, split, found, faces_of)


def majority(votes: np.ndarray) -> np.ndarray:
    """int64 (N,): the column with more than half of a row's votes, -1 where there is none.

    Args:
        votes: int (N, 10), in the order of `VOTES`; counts of one are dropped first, as by the authors' code.
    """
    counted = np.where(votes > 1, votes, 0)
    best = counted.argmax(1)
    return np.where(2 * counted.max(1) > counted.sum(1), best, -1)


def columns_of(num_classes: int) -> list[int]:
    """Places in `VOTES` of the first so many classes, by label."""
    return _COLUMNS[:num_classes]


def raw_votes(root: Path) -> tuple[list[Path], np.ndarray]:
    """Every picture of FER+'s folders with its own ten votes, int (N, 10), as `label.csv` has them; those without a
    majority too."""
    folders = {split: root / name for split, name in FOLDERS.items() if (root / name).is_dir()}
    rows = [(folders[split] / file, votes) for _, split, file, votes in _rows_of_folders(folders)]
    return [path for path, _ in rows], np.array([votes for _, votes in rows], np.int64).reshape(-1, len(VOTES))


def _choose_classes(dataset: Dataset) -> None:
    dataset.class_names = CLASSES[:7] if dataset.num_classes == 7 else CLASSES


def _by_majority(
    dataset: Dataset, split: str, found: Sequence[tuple[str, np.ndarray]],
    faces_of: Callable[[list[str], list[int], np.ndarray], FaceSplit],
) -> None:
    """Set a split of `dataset` to the faces that have a majority for one of its classes; for training, `voted` too.

    Args:
        found: names and votes (10,) of all pictures.
        faces_of: makes a split of names, their places in `found`, and votes by class (M, C), labelled by the leader.
    """
    table = np.array([votes for _, votes in found], np.int64).reshape(-1, len(VOTES))
    columns = columns_of(len(dataset.class_names))
    winner = majority(table)
    wanted = np.isin(winner, columns)
    dataset.leave_out("without a majority", int((winner < 0).sum()))
    dataset.leave_out("for which most chose something else", int((~wanted & (winner >= 0)).sum()))
    others = np.setdiff1d(np.arange(len(VOTES)), columns)
    leads = table[:, columns].max(1) > table[:, others].max(1)
    for name, chosen in ({split: wanted} | ({"voted": leads} if split == "train" else {})).items():
        if rows := np.flatnonzero(chosen).tolist():
            setattr(dataset, name, faces_of([found[row][0] for row in rows], rows, table[rows][:, columns]))


_Row = tuple[str, str, str, np.ndarray]  # where (for messages), split, picture ("" where there is none), votes (10,)


def _rows_of_folders(folders: Mapping[str, Path]) -> Iterator[_Row]:
    for split, folder in folders.items():
        table = folder / "label.csv"
        for number, row in read_table(table, ("file", "box", *VOTES), ("file", "box", *VOTES)):
            where = f"{table} line {number}"
            refuse_escape(row["file"], where)
            yield where, split, row["file"], _votes(row, where)


def _rows_of_table(table: Path) -> Iterator[_Row]:
    for number, row in read_table(table, ("Usage", "Image name", *VOTES)):
        where = f"{table} line {number}"
        refuse_escape(row["Image name"], where)
        yield where, _split(row["Usage"], where), row["Image name"], _votes(row, where)


def _votes(row: Mapping[str, str], where: str) -> np.ndarray:
    return np.array([whole_number(row[name], where, f"the votes for {name}") for name in VOTES], np.int64)


def _split(usage: str, where: str) -> str:
    if usage not in USAGES:
        raise InputError(f"{where}: Usage {usage[:20]!r} is none of {', '.join(USAGES)}; mend the line.")
    return USAGES[usage]


def _pixels(text: str, where: str) -> np.ndarray:
    """Grey levels separated by blanks, row by row: uint8 (S, S)."""
    try:
        values = np.frombuffer(bytes(map(int, text.split())), np.uint8)
    except ValueError:
        raise InputError(f"{where}: the pixels should be whole numbers in 0..255; copy the table again.") from None
    side = math.isqrt(len(values))
    if not side or side * side != len(values):
        raise InputError(f"{where}: {len(values)} pixels do not fill a square; copy the table again.")
    return values.reshape(side, side)


def _in_memory(
    table: Path, files: list[str], labels: np.ndarray, class_names: tuple[str, ...], pixels: Sequence[np.ndarray],
    votes: np.ndarray | None = None,
) -> FaceSplit:
    """A split whose pictures are in memory already; its `paths` all name the table."""
    odd = next((file for file, picture in zip(files, pixels, strict=True) if picture.shape != pixels[0].shape), None)
    if odd is not None:
        raise InputError(f"{table}: {odd} has another size than {files[0]}; copy the table again.")
    paths = [table] * len(files)
    return FaceSplit(files, paths, labels, class_names, votes=votes, pictures=Pictures(paths, np.stack(pixels)))
