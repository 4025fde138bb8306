"""Any faces, sorted into folders named after their classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from poster_ada.data.labels import expression_of
from poster_ada.data.layouts import Dataset
from poster_ada.data.listing import first, folders_in, pictures_in, split_folders
from poster_ada.data.splits import FaceSplit
from poster_ada.errors import InputError
from poster_ada.expressions import AFFECTNET_CLASSES, RAFDB_CLASSES


class ClassFolders(Dataset):
    """`{train,val,test}/<class name>/*.jpg`, any classes.

    Folders named after RAF-DB's seven expressions (or common words for them: `happy`, `3_sad`) take RAF-DB's order and
    channel order, the eight of AffectNet take AffectNet's, and of these `num_classes=7` leaves out Contempt; any others
    count in alphabetical order, in RGB.
    """

    layout = "class folders"
    looked_for = "train/<class>/ with test/<class>/ (your own)"

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        return any(folders_in(part) for part in split_folders(folder).values())

    def read(self) -> None:
        parts = split_folders(self.root)
        leading = folders_in(next(iter(parts.values())))  # the training split's, where there is one
        expressions = [expression_of(name) for name in leading]
        self.channel_order = "RGB"
        if None in expressions or len(set(expressions)) < len(expressions):
            self.class_names = tuple(leading)
        elif set(expressions) == set(RAFDB_CLASSES):
            self.class_names, self.channel_order = RAFDB_CLASSES, "BGR"
        elif set(expressions) == set(AFFECTNET_CLASSES):
            self.class_names = AFFECTNET_CLASSES[:self.num_classes] if self.num_classes == 7 else AFFECTNET_CLASSES
        else:
            self.class_names = tuple(sorted(filter(None, expressions)))
        if all(name.isdigit() for name in self.class_names):
            self.notes.append("the class folders only have numbers, so nobody can tell what they mean; rename them to "
                              "their classes.")
        without = {"Contempt"} if self.class_names == AFFECTNET_CLASSES[:7] and "Contempt" in expressions else set()
        for split, folder in parts.items():
            files: list[str] = []
            labels: list[int] = []
            for name in folders_in(folder):
                pictures, others = pictures_in(folder / name)
                if expression_of(name) in without:
                    self.leave_out("of another class", len(pictures))
                    continue
                known = [word for word in (name, expression_of(name)) if word in self.class_names]
                if not known:
                    raise InputError(f"{folder / name} is a class that the training split does not have; "
                                     f"it has {', '.join(leading)}; rename or remove the folder.")
                files += [f"{name}/{file}" for file in pictures]
                labels += [self.class_names.index(known[0])] * len(pictures)
                self.passed_over += [f"{folder.name}/{name}/{file}" for file in others]
            loose, _ = pictures_in(folder)
            if loose:
                self.notes.append(f"{len(loose)} of the pictures of {folder.name}/ lie in no class folder and are "
                                  f"passed over ({first(loose)}).")
            setattr(self, split, FaceSplit(files, [folder / file for file in files], np.array(labels, np.int64),
                                           self.class_names))
