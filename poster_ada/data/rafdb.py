"""RAF-DB, single labels ("basic"), as its authors hand it out and as people keep it.

Li, Deng, Du, "Reliable crowdsourcing and deep locality-preserving learning", CVPR 2017.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from poster_ada.data.formats import is_picture
from poster_ada.data.labels import one_line, read_labels, read_table
from poster_ada.data.layouts import Dataset
from poster_ada.data.listing import child, first, folders_in, pictures_in, split_folders
from poster_ada.data.splits import FaceSplit, person_in
from poster_ada.errors import InputError
from poster_ada.expressions import RAFDB_CLASSES

RAFDB_TRAIN_COUNTS = (1290, 281, 717, 4772, 1982, 705, 2524)
RAFDB_TEST_COUNTS = (329, 74, 160, 1185, 478, 162, 680)
_COUNTS = MappingProxyType({"train": RAFDB_TRAIN_COUNTS, "test": RAFDB_TEST_COUNTS})
_NUMBERS = tuple(str(label) for label in range(1, len(RAFDB_CLASSES) + 1))


class RafDb(Dataset):
    """`EmoLabel/list_patition_label.txt` with lines `train_00001.jpg 5`, and `Image/aligned/train_00001_aligned.jpg`.

    Names with or without `_aligned`, in either place, with any picture suffix, belong together. Beside them, where
    present, for every face: `quality.csv`, `landmarks.csv`, `identity.csv` (see `_side_table`), and `sources.csv`,
    whose source file names tell the person.
    """

    layout = "RAF-DB"
    family = "rafdb"
    looked_for = "EmoLabel/ with Image/aligned/ (RAF-DB)"
    class_names = RAFDB_CLASSES
    published_name, published_counts = "RAF-DB basic", _COUNTS

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        return (folder / "EmoLabel").is_dir() or (folder / "Image" / "aligned").is_dir()

    def read(self) -> None:
        folder = self.root / "EmoLabel"  # the authors' spelling first, then the one it is often mended to
        table = child(folder, "list_patition_label.txt", "list_partition_label.txt")
        rows = read_labels(table or folder / "list_patition_label.txt", range(1, len(RAFDB_CLASSES) + 1))
        seen: dict[str, str] = {}
        for row in rows:
            if not row.file.lower().startswith(("train", "test")):
                raise InputError(f"{row.where}: {row.file!r} starts with neither 'train' nor 'test', so its split is "
                                 "unknown; rename the file.")
            if _bare(row.file) in seen:
                raise InputError(f"{row.where}: {row.file} is listed a second time (first as {seen[_bare(row.file)]}); "
                                 "remove one line.")
            seen[_bare(row.file)] = row.file
        paths = self._pictures([row.file for row in rows])
        faces = FaceSplit([row.file for row in rows], paths, np.array([row.label - 1 for row in rows], np.int64),
                          self.class_names)
        kinds = ("quality", "landmarks", "identity", "sources")
        quality, landmarks, identity, sources = (self._side_table(f"{kind}.csv") for kind in kinds)
        training = np.array([file.lower().startswith("train") for file in faces.files], bool)
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

    def _pictures(self, files: list[str]) -> list[Path]:
        """The picture of each listed name; where there is none, the path at which the authors' archive has it."""
        folder = self.root / "Image" / "aligned"
        pictures, others = pictures_in(folder)
        there: dict[str, list[str]] = {}
        for name in pictures:
            there.setdefault(_bare(name), []).append(name)
        paths, used = [], set()
        for file in files:
            expected = f"{Path(file).stem.removesuffix('_aligned')}_aligned.jpg"
            found = there.get(_bare(file), [])
            if len(found) > 1 and expected not in found:
                raise InputError(f"{folder} holds {found[0]} and {found[1]}, so it is not clear which of them is "
                                 f"{file}; remove one.")
            name = expected if expected in found or not found else found[0]
            used.add(name)
            paths.append(folder / name)
        unlisted = [name for name in pictures if name not in used]
        if unlisted:
            self.notes.append(f"{len(unlisted)} of the pictures in Image/aligned/ are not in the label file and are "
                              f"passed over ({first(unlisted)}).")
        self.passed_over += [f"Image/aligned/{name}" for name in others]
        return paths

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
            raise InputError(f"{path} is not a table of comma-separated values ({one_line(error)}); mend or remove "
                             "it.") from None
        table.index = pd.Index([_bare(str(name)) for name in table.index])
        table.attrs["path"] = str(path)
        return table


class NumberedFolders(Dataset):
    """RAF-DB as on Kaggle: `DATASET/{train,test}/{1..7}/*.jpg`, often with `{train,test}_labels.csv` (`image,label`).

    The label files, where they are, must agree with the folders.
    """

    layout = "RAF-DB, Kaggle"
    family = "rafdb"
    looked_for = "train/1..7/ with test/1..7/ (RAF-DB from Kaggle)"
    class_names = RAFDB_CLASSES
    published_name, published_counts = "RAF-DB basic", _COUNTS

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        inside = {name for part in split_folders(folder).values() for name in folders_in(part)}
        return bool(inside) and inside <= set(_NUMBERS)

    def read(self) -> None:
        for split, folder in split_folders(self.root).items():
            files: list[str] = []
            for number in _NUMBERS:
                pictures, others = pictures_in(folder / number)
                files += [f"{number}/{name}" for name in pictures]
                self.passed_over += [f"{folder.name}/{number}/{name}" for name in others]
            labels = np.array([int(file[0]) - 1 for file in files], np.int64)
            names = dict.fromkeys((f"{folder.name}_labels.csv", f"{split}_labels.csv"))
            tables = [table for place in (self.root, self.root.parent) if (table := child(place, *names)) is not None]
            if tables:
                _agree_with_folders(tables[0], folder, files)
            setattr(self, split, FaceSplit(files, [folder / file for file in files], labels, self.class_names))


@lru_cache(1 << 16)  # each name is looked up a dozen times
def _bare(file: str) -> str:
    """What two names of one face share: `test_0001_aligned.JPG` and `test_0001.png` are both `test_0001`."""
    stem = Path(file).stem if is_picture(file) else file
    return stem.lower().removesuffix("_aligned")


def _agree_with_folders(table: Path, folder: Path, files: list[str]) -> None:
    """Raise InputError unless a Kaggle label table names exactly the pictures that lie in the numbered folders."""
    in_folder: dict[str, str] = {}
    for file in files:
        twice = in_folder.setdefault(_bare(file[2:]), file)
        if twice != file:
            raise InputError(f"{folder / twice} and {folder / file} are one name in {table}; remove one of them.")
    listed = set()
    for number, row in read_table(table, ("image", "label")):
        image, label = row["image"], row["label"]
        listed.add(_bare(image))
        if label not in _NUMBERS:
            raise InputError(f"{table} line {number}: label {label} of {image} is not in 1..7; mend the line.")
        if _bare(image) not in in_folder:
            raise InputError(f"{folder / label / image} is listed in {table} line {number} but missing; restore "
                             "the file or remove the line.")
        if (there := in_folder[_bare(image)][0]) != label:
            raise InputError(f"{table} line {number} says label {label} for {image}, but it lies in folder {there}; "
                             "move it or mend the line.")
    unlisted = sorted(file for name, file in in_folder.items() if name not in listed)
    if unlisted:
        more = f" (nor are {len(unlisted) - 1} more)" if len(unlisted) > 1 else ""
        raise InputError(f"{folder / unlisted[0]} is not listed in {table}{more}; add or remove it.")


def _rows(table: pd.DataFrame, files: list[str]) -> pd.DataFrame:
    path = table.attrs["path"]
    twice = table.index[table.index.duplicated()]
    if len(twice):
        raise InputError(f"{path} has two rows for {twice[0]}; remove one.")
    missing = [file for file in files if _bare(file) not in table.index]
    if missing:
        more = f" and {len(missing) - 1} more faces" if len(missing) > 1 else ""
        raise InputError(f"{path} has no row for {missing[0]}{more}; add it or remove the table.")
    return table.loc[[_bare(file) for file in files]]


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
        raise InputError(f"{table.attrs['path']} holds something that is not a number ({one_line(error)}); "
                         "mend it.") from None
    if not np.isfinite(values).all():
        raise InputError(f"{table.attrs['path']} has an empty or infinite value; fill it in or remove the file.")
    return values
