"""AffectNet in the three forms in which it goes round.

Mollahosseini, Hasani, Mahoor, "AffectNet: a database for facial expression, valence, and arousal computing in the
wild", IEEE TAC 2017. The validation set is the test split, as in every published AffectNet figure.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import MappingProxyType

import numpy as np
from tqdm import tqdm

from poster_ada.data.labels import one_line, read_labels, read_table, refuse_escape, whole_number
from poster_ada.data.layouts import Dataset
from poster_ada.data.listing import child, pictures_in
from poster_ada.data.splits import FaceSplit
from poster_ada.errors import InputError
from poster_ada.expressions import AFFECTNET_CLASSES

VALID_PER_CLASS = 499  # 500 each; Contempt has 499
TRAIN_COUNTS = (74_874, 134_415, 25_459, 14_090, 6_378, 3_803, 24_882, 3_750)
OTHER_LABELS = (8, 9, 10)  # none, uncertain, no face
PROGRESS_AFTER = 5.0  # seconds
SPLIT_FOLDERS = {"train": ("train_set", "training_set"), "test": ("valid_set", "val_set", "validation_set")}


class AffectNet(Dataset):
    """`{train_set,valid_set}/images/` and `{train,valid}_annotations_{7,8}class.txt` (name, label 0..6 or 0..7).

    `num_classes` chooses between the label files; without it, the 7-class one where both exist.
    """

    layout = "AffectNet"
    family = "affectnet"
    looked_for = ("train_set/ with valid_set/ (AffectNet: *_annotations_{7,8}class.txt, or annotations/*_exp.npy as "
                  "its authors hand it out)")
    channel_order = "RGB"
    variant = MappingProxyType({"token_mixing": False, "balanced": True})
    head_variant = MappingProxyType({"adaface": MappingProxyType({"lr": 2e-6})})
    published_name = "AffectNet"

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        return any(_part(folder, split) is not None for split in SPLIT_FOLDERS)

    def read(self) -> None:
        count = self._count()
        self.class_names = AFFECTNET_CLASSES[:count]
        for split in SPLIT_FOLDERS:
            if (folder := _part(self.root, split)) is not None:
                self._set(split, *self._labels(split, folder, count))
        self.published_counts = {"train": TRAIN_COUNTS[:count]}

    def _count(self) -> int:
        if self.num_classes not in (None, 7, 8):
            raise InputError(f"{self.root} is AffectNet, which has 7 or 8 classes, not {self.num_classes}; ask for one "
                             "of them.")
        return self.num_classes or self._classes_there()

    def _classes_there(self) -> int:
        """How many classes to read where nobody says it."""
        there = [count for count in (7, 8) for split in SPLIT_FOLDERS
                 if (folder := _part(self.root, split)) and _label_file(split, folder, count).is_file()]
        return there[0] if there else 7

    def _labels(self, split: str, folder: Path, count: int) -> tuple[list[str], list[Path], list[int]]:
        path = _label_file(split, folder, count)
        if not path.is_file():
            other = _label_file(split, folder, 15 - count)
            has = f"only {other.name} is there" if other.is_file() else "nor is there annotations/ with *_exp.npy files"
            raise InputError(f"{path} is missing, the label file of AffectNet with {count} classes, {has}; copy it "
                             "there or ask for what is there.")
        rows = read_labels(path, range(count))
        return [row.file for row in rows], [folder / "images" / row.file for row in rows], [row.label for row in rows]

    def _set(self, split: str, files: list[str], paths: list[Path], labels: list[int]) -> None:
        """Make a split of what was read, without the faces that are of none of the classes."""
        kept = [row for row, label in enumerate(labels) if label < len(self.class_names)]
        if len(kept) < len(labels):
            self.leave_out("of another class", len(labels) - len(kept))
        setattr(self, split, FaceSplit([files[row] for row in kept], [paths[row] for row in kept],
                                       np.array([labels[row] for row in kept], np.int64), self.class_names))

    @property
    def is_published(self) -> bool:
        return bool(len(self.test) and (self.test.class_counts >= VALID_PER_CLASS).all() and len(self.train) > 100_000)

    @property
    def name(self) -> str:
        return f"AffectNet, {len(self.class_names)} classes" if self.is_published else self._folder_name()

    def numbering(self) -> list[str]:
        counts = self.train.class_counts
        largest = int(counts.argmax()) if len(self.train) else 1
        if counts[1] < counts[largest]:
            return [f"the largest training class of AffectNet is Happiness, but here it is {self.class_names[largest]} "
                    f"({counts[largest]} faces, Happiness {counts[1]}), so the labels may be numbered in another "
                    "order; compare them with the list in data/README.md."]
        return []


class AffectNetArrays(AffectNet):
    """As its authors hand it out: `{train_set,val_set}/images/17.jpg`, and `annotations/17_exp.npy` for every picture.

    8 classes, or with `num_classes=7` all but Contempt.
    """

    layout = "AffectNet, arrays"

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Also beside label files in text form: those are then read (see `AffectNet`)."""
        parts = [(split, part) for split in SPLIT_FOLDERS if (part := _part(folder, split)) is not None]
        text = any(_label_file(split, part, count).is_file() for split, part in parts for count in (7, 8))
        return not text and any((part / "annotations").is_dir() for _, part in parts)

    def _classes_there(self) -> int:
        return 8

    def _labels(self, split: str, folder: Path, count: int) -> tuple[list[str], list[Path], list[int]]:
        images, annotations = folder / "images", folder / "annotations"
        there, others = pictures_in(images)
        pictures = sorted(there, key=lambda name: (len(name), name))  # 2.jpg before 10.jpg
        self.passed_over += [f"{folder.name}/images/{name}" for name in others]
        labelled = {entry.name for entry in annotations.iterdir()} if annotations.is_dir() else set()
        files, labels = [], []
        for file in tqdm(pictures, f"labels of {split}", leave=False, delay=PROGRESS_AFTER, unit="face"):
            label = annotations / f"{Path(file).stem}_exp.npy"
            if label.name not in labelled:
                raise InputError(f"{label} is missing, the label of images/{file}; restore it or remove the picture.")
            files.append(file)
            labels.append(_read_expression(label))
        known = {Path(file).stem for file in files}
        orphan = next((name for name in sorted(labelled) if name.endswith("_exp.npy")
                       and name.removesuffix("_exp.npy") not in known), None)
        if orphan is not None:
            raise InputError(f"{annotations / orphan} is the label of a picture that is not in {images}; restore the "
                             "picture or remove the label.")
        return files, [images / file for file in files], labels


class AffectNetLists(AffectNet):
    """The older form: `training.csv`, `validation.csv` and folders of pictures, `Manually_Annotated_Images/1/ab.jpg`.

    8 classes, or with `num_classes=7` all but Contempt. Pictures are read whole; the tables' face boxes are not used.
    """

    layout = "AffectNet, lists"
    looked_for = "training.csv with validation.csv (AffectNet of 2017)"
    columns = ("subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks",
               "expression", "valence", "arousal")

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        return bool(cls._lists(folder))

    @staticmethod
    def _lists(folder: Path) -> dict[str, Path]:
        inner = child(folder, "Manually_Annotated_file_lists")
        places = [folder] if inner is None else [folder, inner]
        found = {split: next((place / name for place in places if (place / name).is_file()), None)
                 for split, name in (("train", "training.csv"), ("test", "validation.csv"))}
        return {split: path for split, path in found.items() if path is not None}

    def _classes_there(self) -> int:
        return 8

    def read(self) -> None:
        self.class_names = AFFECTNET_CLASSES[:self._count()]
        for split, table in self._lists(self.root).items():
            files, labels = [], []
            for number, row in read_table(table, ("subDirectory_filePath", "expression"), self.columns):
                where, file = f"{table} line {number}", row["subDirectory_filePath"]
                refuse_escape(file, where)
                label = whole_number(row["expression"], where, "the expression")
                if label not in (*range(len(AFFECTNET_CLASSES)), *OTHER_LABELS):
                    raise InputError(f"{where}: expression {label} of {file} is not in 0..10; mend the line.")
                files.append(file)
                labels.append(label)
            pictures = self._picture_folder(files)
            self._set(split, files, [pictures / file for file in files], labels)
        self.published_counts = {"train": TRAIN_COUNTS[:len(self.class_names)]}

    def _picture_folder(self, files: list[str]) -> Path:
        """Where the first listed picture lies; the authors' folder where it lies nowhere."""
        named = (self.root / "Manually_Annotated_Images",
                 self.root / "Manually_Annotated" / "Manually_Annotated_Images",
                 self.root / "Manually_Annotated", self.root / "images", self.root)
        return next((place for place in named if files and os.path.isfile(place / files[0])), named[0])


def _part(root: Path, split: str) -> Path | None:
    found = child(root, *SPLIT_FOLDERS[split])
    return found if found is not None and found.is_dir() else None


def _label_file(split: str, folder: Path, count: int) -> Path:
    names = [f"{kind}_annotations_{count}class.txt" for kind in
             (("train",) if split == "train" else ("valid", "val", "validation"))]
    return child(folder, *names) or folder / names[0]


def _read_expression(path: Path) -> int:
    """The label in one of the authors' small arrays, which hold it as text (`'1'`) or as a number."""
    try:
        value = np.load(path, allow_pickle=False).item()
        label = int(value)
        if isinstance(value, float) and value != label:
            raise ValueError(f"it holds {value}")
    except Exception as error:  # numpy's parser lets errors of a dozen kinds through, SystemError among them
        raise InputError(f"{path} does not hold one expression ({one_line(error)}); copy it again from "
                         "AffectNet's archive.") from None
    if label not in (*range(len(AFFECTNET_CLASSES)), *OTHER_LABELS):
        raise InputError(f"{path} holds expression {label}, which is not in 0..10; copy it again.")
    return label
