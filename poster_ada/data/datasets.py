"""Face sets in the layouts in which they are published, recognised by what lies in their folder.

    faces = open_dataset("data/raf-basic")       # checked in one pass: see poster_ada/data/check.py
    image, label = faces.train[0]                # uint8 (3, H, W) RGB, 0-based label

RAF-DB: Li, Deng, Du, CVPR 2017. AffectNet: Mollahosseini, Hasani, Mahoor, IEEE TAC 2017.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor

from poster_ada.data.emotion_words import expression_of
from poster_ada.data.pictures import Pictures
from poster_ada.errors import InputError
from poster_ada.expressions import AFFECTNET_CLASSES, RAFDB_CLASSES

RAFDB_TRAIN_COUNTS = (1290, 281, 717, 4772, 1982, 705, 2524)
RAFDB_TEST_COUNTS = (329, 74, 160, 1185, 478, 162, 680)
AFFECTNET_VALID_PER_CLASS = 499  # 500 each; Contempt has 499
PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


@dataclass
class FaceSplit:
    """Labelled faces. `len(split)`, and `split[i]` gives a uint8 (3, H, W) RGB tensor and its 0-based label.

    files: N names as in the label file; paths: N files; labels: int64 (N,); class_names: by label.
    quality: float (N,) in 0..1, 1 is best; landmarks: float32 (N, 68, 2), x and y in pixels; identity: (N,), equal for
    pictures of one person. Those three are None where the set does not come with them.
    """

    files: list[str]
    paths: list[Path]
    labels: np.ndarray
    class_names: tuple[str, ...]
    quality: np.ndarray | None = None
    landmarks: np.ndarray | None = None
    identity: np.ndarray | None = None
    pictures: Pictures | None = field(default=None, repr=False)  # shared by subsets
    positions: np.ndarray | None = field(default=None, repr=False)  # of this split's faces in `pictures`

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
        quality, landmarks, identity = (
            None if values is None else values[rows] for values in (self.quality, self.landmarks, self.identity)
        )
        return FaceSplit([self.files[row] for row in rows], [self.paths[row] for row in rows], self.labels[rows],
                         self.class_names, quality, landmarks, identity, self.pictures, self.positions[rows])


class Dataset:
    """A face set with a training and a test split; a subclass reads one layout on disk.

    Raises InputError, with one sentence that names the file, if the layout is broken; with `check` (the default) also
    if any picture is missing, damaged or too small. What is odd but usable is reported as a warning.
    """

    layout: str
    channel_order: str = "BGR"
    class_names: tuple[str, ...]
    train: FaceSplit
    test: FaceSplit

    def __init__(self, root: str | os.PathLike[str], check: bool = True) -> None:
        self.root = Path(root)
        self.read()
        for name, split in (("training", self.train), ("test", self.test)):
            if not len(split):
                raise InputError(f"{self.root} has no {name} faces; a {self.layout} set needs both splits.")
        if check:
            from poster_ada.data.check import check_dataset  # it imports this module

            self.findings = check_dataset(self)
            self.findings.warn()

    def read(self) -> None:
        """Find files and labels: sets `class_names`, `train` and `test`."""
        raise NotImplementedError

    @property
    def is_full_rafdb(self) -> bool:
        """Whether the class counts of both splits are the published ones of RAF-DB basic."""
        return (self.class_names == RAFDB_CLASSES and tuple(self.train.class_counts) == RAFDB_TRAIN_COUNTS
                and tuple(self.test.class_counts) == RAFDB_TEST_COUNTS)

    @property
    def name(self) -> str:
        """What to call the set in a report: a published name only where the published class counts prove it."""
        return "RAF-DB basic" if self.is_full_rafdb else self._folder_name()

    def _folder_name(self) -> str:
        folder = self.root.resolve()
        while folder.name.lower() in ("raf-basic", "basic", "dataset"):
            folder = folder.parent
        looks_published = re.search(r"raf.?db|affect.?net", folder.name, re.IGNORECASE)
        return f"unverified set in {folder.name}/" if looks_published else folder.name or "faces"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {len(self.train)} train, {len(self.test)} test, {self.root})"


class RafDb(Dataset):
    """`EmoLabel/list_patition_label.txt` with lines `train_00001.jpg 5`, and `Image/aligned/train_00001_aligned.jpg`.

    Beside them, where present, for every face: `quality.csv`, `landmarks.csv`, `identity.csv` (see `_side_table`), and
    `sources.csv`, whose source file names tell the person.
    """

    layout = "RAF-DB"
    class_names = RAFDB_CLASSES

    def read(self) -> None:
        rows = _read_labels(self.root / "EmoLabel" / "list_patition_label.txt", range(1, len(RAFDB_CLASSES) + 1))
        for row in rows:
            if not row.file.startswith(("train", "test")):
                raise InputError(f"{row.where}: {row.file!r} starts with neither 'train' nor 'test', so its split is "
                                 "unknown.")
        paths = [self.root / "Image" / "aligned" / f"{Path(row.file).stem}_aligned.jpg" for row in rows]
        faces = FaceSplit([row.file for row in rows], paths, np.array([row.label - 1 for row in rows], np.int64),
                          self.class_names)
        kinds = ("quality", "landmarks", "identity", "sources")
        quality, landmarks, identity, sources = (self._side_table(f"{kind}.csv") for kind in kinds)
        training = np.array([file.startswith("train") for file in faces.files], bool)
        for split, chosen in (("train", training), ("test", ~training)):
            part = faces.subset(chosen)
            part = FaceSplit(part.files, part.paths, part.labels, part.class_names)
            if quality is not None:
                part.quality = _numbers(quality, part.files, ["quality"])[:, 0]
            if landmarks is not None:
                part.landmarks = _numbers(landmarks, part.files, None).astype(np.float32).reshape(len(part), -1, 2)
            if identity is not None:
                part.identity = _column(identity, part.files, "identity")
            elif sources is not None:
                part.identity = np.array([person_in(file) for file in _column(sources, part.files, "source_file")])
            setattr(self, split, part)

    @property
    def name(self) -> str:
        tables = ("quality.csv", "landmarks.csv", "identity.csv", "action_units.csv")
        if all((self.root / table).is_file() for table in tables):
            return "demo faces"
        return super().name

    def _side_table(self, name: str) -> pd.DataFrame | None:
        """A CSV beside the set whose first column names the face, as in the label file or as the picture file."""
        path = self.root / name
        if not path.is_file():
            return None
        try:
            table = pd.read_csv(path, index_col=0, encoding="utf-8-sig")
        except (ValueError, pd.errors.ParserError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is not a table of comma-separated values ({error}); mend or remove it.") from None
        table.index = table.index.astype(str).str.replace("_aligned", "", regex=False)
        table.attrs["path"] = str(path)
        return table


class KaggleRafDb(Dataset):
    """RAF-DB from Kaggle: `DATASET/{train,test}/{1..7}/*.jpg`, and `{train,test}_labels.csv` (`image,label`)."""

    layout = "RAF-DB, Kaggle"
    class_names = RAFDB_CLASSES

    def read(self) -> None:
        for split in ("train", "test"):
            folder = self.root / split
            files = [f"{label}/{file}" for label in range(1, len(RAFDB_CLASSES) + 1)
                     for file in _pictures_in(folder / str(label))]
            labels = np.array([int(file[0]) - 1 for file in files], np.int64)
            tables = [place / f"{split}_labels.csv" for place in (self.root, self.root.parent)]
            table = next((table for table in tables if table.is_file()), None)
            if table is None:
                raise InputError(f"{tables[0]} is missing, the label file that comes with this layout; copy it there.")
            _agree_with_folders(table, folder, files)
            setattr(self, split, FaceSplit(files, [folder / file for file in files], labels, self.class_names))


class ClassFolders(Dataset):
    """`{train,test}/<class name>/*.jpg`, any classes.

    Folders named after RAF-DB's seven expressions (or common words for them: `happy`, `sad`) take RAF-DB's order and
    channel order, the eight of AffectNet take AffectNet's; any others count in alphabetical order, in RGB.
    """

    layout = "class folders"

    def read(self) -> None:
        folders = {split: _folders_in(self.root / split) for split in ("train", "test")}
        expressions = [expression_of(folder) for folder in folders["train"]]
        self.channel_order = "RGB"
        if None in expressions or len(set(expressions)) < len(expressions):
            self.class_names = tuple(folders["train"])
        elif set(expressions) == set(RAFDB_CLASSES):
            self.class_names, self.channel_order = RAFDB_CLASSES, "BGR"
        elif set(expressions) == set(AFFECTNET_CLASSES):
            self.class_names = AFFECTNET_CLASSES
        else:
            self.class_names = tuple(sorted(expressions))
        for split, names in folders.items():
            files, labels = [], []
            for name in names:
                known = [word for word in (name, expression_of(name)) if word in self.class_names]
                if not known:
                    raise InputError(f"{self.root / split / name} is a class that the training split does not have; "
                                     f"it has {', '.join(folders['train'])}.")
                found = [f"{name}/{file}" for file in _pictures_in(self.root / split / name)]
                files += found
                labels += [self.class_names.index(known[0])] * len(found)
            paths = [self.root / split / file for file in files]
            setattr(self, split, FaceSplit(files, paths, np.array(labels, np.int64), self.class_names))


class AffectNet(Dataset):
    """`{train_set,valid_set}/images/` and `{train,valid}_annotations_{7,8}class.txt` (name, label 0..6 or 0..7).

    The validation set is the test split, as in every published AffectNet figure. `num_classes` is 7 or 8.
    """

    layout = "AffectNet"
    channel_order = "RGB"

    def __init__(self, root: str | os.PathLike[str], num_classes: int = 7, check: bool = True) -> None:
        if num_classes not in (7, 8):
            raise InputError(f"AffectNet has 7 or 8 classes, not {num_classes}.")
        self.class_names = AFFECTNET_CLASSES[:num_classes]
        super().__init__(root, check)

    def read(self) -> None:
        for split, folder in (("train", "train_set"), ("test", "valid_set")):
            kind = folder.removesuffix("_set")
            count = len(self.class_names)
            rows = _read_labels(self.root / folder / f"{kind}_annotations_{count}class.txt", range(count))
            files = [row.file for row in rows]
            paths = [self.root / folder / "images" / file for file in files]
            labels = np.array([row.label for row in rows], np.int64)
            setattr(self, split, FaceSplit(files, paths, labels, self.class_names))

    @property
    def name(self) -> str:
        full = (self.test.class_counts >= AFFECTNET_VALID_PER_CLASS).all() and len(self.train) > 100_000
        return f"AffectNet, {len(self.class_names)} classes" if full else self._folder_name()


def open_dataset(root: str | os.PathLike[str], check: bool = True, num_classes: int | None = None) -> Dataset:
    """Recognise the layout of `root` (or of the set's own folder inside it) and open it.

    `num_classes` chooses between the two label files of AffectNet; without it, the 7-class one where both exist.
    Raises InputError saying what was looked for and what is there.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise InputError(f"{root} {what}; give the folder of a face set (data/README.md says how to get one).")
    for folder in (root, *(root / inner for inner in ("raf-basic", "basic", "DATASET", "AffectNet"))):
        if (folder / "EmoLabel").is_dir() or (folder / "Image" / "aligned").is_dir():
            return RafDb(folder, check)
        if (folder / "train_set").is_dir() or (folder / "valid_set").is_dir():
            both = num_classes or next((n for n in (7, 8) if (folder / "train_set" / f"train_annotations_{n}class.txt")
                                        .is_file()), 7)
            return AffectNet(folder, both, check)
        if (folder / "train").is_dir() and (folder / "test").is_dir():
            numbered = set(_folders_in(folder / "train")) <= {str(label) for label in range(1, 8)}
            return (KaggleRafDb if numbered else ClassFolders)(folder, check)
    entries = sorted(entry.name + "/" * entry.is_dir() for entry in root.iterdir() if not entry.name.startswith("."))
    found = ", ".join(entries[:6]) + (f" and {len(entries) - 6} more" if len(entries) > 6 else "") or "nothing"
    raise InputError(
        f"{root} holds no known face set: looked for EmoLabel/ with Image/aligned/ (RAF-DB), train/1..7/ with "
        "test/1..7/ (RAF-DB from Kaggle), train/<class>/ with test/<class>/ (your own) and train_set/ with valid_set/ "
        f"(AffectNet), also in raf-basic/, basic/, DATASET/ and AffectNet/; found {found}.")


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


@dataclass(frozen=True)
class _LabelRow:
    file: str
    label: int
    where: str  # file and line, for messages


def _read_labels(path: Path, allowed: range) -> list[_LabelRow]:
    """Rows `name label` of a label file; Windows line ends and a byte-order mark are harmless."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"the label file {path} is missing; copy it there from the data set's archive.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the label file {path} cannot be read as text ({error}); copy it again.") from None
    rows, seen = [], {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        file, _, word = line.strip().replace("\t", " ").rpartition(" ")
        file = file.strip()
        if not file or not re.fullmatch(r"[+-]?\d+", word):
            raise InputError(f"{where}: expected a file name and a whole number, found {line.strip()[:80]!r}.")
        if int(word) not in allowed:
            raise InputError(f"{where}: label {int(word)} of {file} is not in {allowed.start}..{allowed.stop - 1}.")
        if Path(file).is_absolute() or ".." in Path(file).parts:
            raise InputError(f"{where}: {file!r} leads out of the set's folder; only plain names are read.")
        if file in seen:
            raise InputError(f"{where}: {file} is listed a second time (first in line {seen[file]}); remove one line.")
        seen[file] = number
        rows.append(_LabelRow(file, int(word), where))
    return rows


def _agree_with_folders(table: Path, folder: Path, files: list[str]) -> None:
    """Raise InputError unless a Kaggle label table names exactly the pictures that lie in the numbered folders."""
    try:
        listed = pd.read_csv(table, encoding="utf-8-sig", dtype=str)[["image", "label"]]
    except (KeyError, ValueError, pd.errors.ParserError) as error:
        raise InputError(f"{table} is not a table with the columns image,label ({error}); copy it again.") from None
    in_folder = {file.split("/", 1)[1]: file[0] for file in files}
    for number, (image, label) in enumerate(zip(listed["image"], listed["label"], strict=True), 2):
        if label not in set("1234567"):
            raise InputError(f"{table} line {number}: label {label} of {image} is not in 1..7.")
        if image not in in_folder:
            raise InputError(f"{folder / label / str(image)} is listed in {table} line {number} but missing; restore "
                             "the file or remove the line.")
        if in_folder[image] != label:
            raise InputError(f"{table} line {number} says label {label} for {image}, but it lies in folder "
                             f"{in_folder[image]}; move it or mend the line.")
    unlisted = set(in_folder) - set(listed["image"])
    if unlisted:
        more = f" (nor are {len(unlisted) - 1} more)" if len(unlisted) > 1 else ""
        first = min(unlisted)
        raise InputError(f"{folder / in_folder[first] / first} is not listed in {table}{more}; add or remove it.")


def _folders_in(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _pictures_in(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir()
                  if entry.suffix.lower() in PICTURE_SUFFIXES and not entry.name.startswith("."))


def _rows(table: pd.DataFrame, files: list[str]) -> pd.DataFrame:
    path = table.attrs["path"]
    twice = table.index[table.index.duplicated()]
    if len(twice):
        raise InputError(f"{path} has two rows for {twice[0]}; remove one.")
    missing = [file for file in files if file not in table.index]
    if missing:
        more = f" and {len(missing) - 1} more faces" if len(missing) > 1 else ""
        raise InputError(f"{path} has no row for {missing[0]}{more}; add it or remove the table.")
    return table.loc[files]


def _column(table: pd.DataFrame, files: list[str], name: str) -> np.ndarray:
    if name not in table.columns:
        raise InputError(f"{table.attrs['path']} has no column {name!r}; it has {', '.join(table.columns)}.")
    return _rows(table, files)[name].to_numpy()


def _numbers(table: pd.DataFrame, files: list[str], names: list[str] | None) -> np.ndarray:
    """Number columns (all 136 of the landmarks if `names` is None) for `files`, float64 (N, K)."""
    rows = _rows(table, files)
    columns = [_column(table, files, name) for name in names] if names else [rows[name] for name in rows.columns]
    if names is None and len(columns) != 136:
        raise InputError(f"{table.attrs['path']} has {len(columns)} columns after the file name; 68 points need 136.")
    try:
        values = np.stack(columns, axis=1).astype(np.float64)
    except ValueError as error:
        raise InputError(f"{table.attrs['path']} holds something that is not a number ({error}).") from None
    if not np.isfinite(values).all():
        raise InputError(f"{table.attrs['path']} has an empty or infinite value; fill it in or remove the file.")
    return values
