"""The FER+ study's rows with every face behind them: the table, and each run's predictions beside the true labels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from poster_ada.errors import InputError
from poster_ada.evaluation.hierarchical import confusions, draw_faces
from poster_ada.expressions import AFFECTNET_CLASSES
from poster_ada.files import write_atomically
from poster_ada.paper.ferplus_grid import CLASSES, FACES, PREDICTIONS, SEARCHED, TABLE
from poster_ada.paper.study_summary import NAMES

CLASS_NAMES = AFFECTNET_CLASSES[:CLASSES]
AGREEMENT = "validation_agreement"
KEY = ["part", "setting", "epochs", "preset"]  # of runs that differ by their seed alone
SETTING_NAMES = NAMES | {
    "cosface": "CosFace, m = 0.4", "arcface": "ArcFace, m = 0.5", "ldam": "LDAM",
    "logit-adjustment": "logit adjustment",
    "class-balanced-0.999": "class-balanced, 0.999", "class-balanced-0.9999": "class-balanced, 0.9999",
    "adaface-simplex": "AdaFace, fixed simplex"}


def setting_name(setting: str) -> str:
    """In words; settings of the search that change one thing keep their names."""
    if found := re.fullmatch(r"scale-([\d.]+)-margin-([\d.]+)-smoothing-([\d.]+)", setting):
        return "AdaFace, s = {}, m = {}, smoothing {}".format(*found.groups())
    return SETTING_NAMES.get(setting, setting)


@dataclass(frozen=True)
class FerplusResults:
    """The finished rows in a folder of results."""

    folder: Path

    @property
    def has_rows(self) -> bool:
        return (self.folder / TABLE).is_file()

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per run. Raises InputError where there are none, or where they are of two sets of faces."""
        path = self.folder / TABLE
        if not self.has_rows:
            raise InputError(f"there is no {path}; run the study first, or give its folder with --results.")
        table = pd.read_csv(path)
        faces = self.faces["fingerprint"].item()
        if odd := set(table["fingerprint"]) - {faces}:
            raise InputError(f"{path} has rows of other faces (fingerprint {odd.pop()}) than {FACES} ({faces}).")
        return table

    @cached_property
    def faces(self) -> dict[str, np.ndarray]:
        """`label` and `validation_label` (class numbers), `twin` (0 or 1), `validation_agreement` (votes for the label,
        of at most ten), and the set's `fingerprint`."""
        path = self.folder / FACES
        if not path.is_file():
            raise InputError(f"there is no {path} with the faces' true labels; give FER+ itself with --data.")
        with np.load(path, allow_pickle=False) as found:
            return dict(found)

    def of(self, key: Sequence[object]) -> pd.DataFrame:
        """The rows of one part, setting, length and size, by seed."""
        own = self.table[(self.table[KEY] == list(key)).all(axis=1)]
        return own.set_index("seed").sort_index()

    def predictions(self, run: str) -> dict[str, np.ndarray]:
        """What a run left of every face, see `write_predictions_of`."""
        path = self.folder / PREDICTIONS / f"{run}.npz"
        if not path.is_file():
            raise InputError(f"{path} is missing; copy it beside the table, or take its row out.")
        with np.load(path, allow_pickle=False) as found:
            return dict(found)

    @cached_property
    def _draws(self) -> dict[str, np.ndarray]:
        return {prefix: draw_faces(len(self.faces[f"{prefix}label"])) for prefix in ("", "validation_")}

    @cached_property
    def _counted(self) -> dict[str, np.ndarray]:
        return {}

    def confusions(self, rows: pd.DataFrame) -> np.ndarray:
        """(S, R + 1, C, C) of rows, on the faces that their part is judged on."""
        counts = []
        for run, part in zip(rows["id"], rows["part"], strict=True):
            if run not in self._counted:
                prefix = "validation_" if part in SEARCHED else ""
                said = self.predictions(run)[f"{prefix}prediction"][None]
                self._counted[run] = confusions(self.faces[f"{prefix}label"], said, CLASSES, self._draws[prefix])[0]
            counts.append(self._counted[run])
        return np.stack(counts)


def write_faces(
    results: Path, labels: np.ndarray, validation: np.ndarray, twins: np.ndarray, agreement: np.ndarray,
    fingerprint: str,
) -> None:
    """Put what is true of the faces beside the predictions."""
    write_arrays(results / FACES, {
        "label": labels.astype(np.uint8), "twin": twins.astype(np.uint8),
        "validation_label": validation.astype(np.uint8), AGREEMENT: agreement.astype(np.uint8),
        "fingerprint": np.array(fingerprint)})


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """An npz file, whole or not at all."""
    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # a name would get the suffix .npz
            np.savez_compressed(file, allow_pickle=False, **arrays)

    write_atomically(path, write)
