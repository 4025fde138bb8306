"""The study's runs: each row trained and measured once, by whichever process comes first, and kept in one table."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from poster_ada.data.datasets import open_dataset
from poster_ada.data.layouts import Dataset
from poster_ada.data.splits import FaceSplit, split_train_validation
from poster_ada.errors import InputError
from poster_ada.evaluation.degraded import DegradedFaces, correlations_with_quality, degraded_faces, measure_degraded
from poster_ada.evaluation.metrics import compute_metrics
from poster_ada.evaluation.predictions import read_predictions
from poster_ada.files import write_atomically, write_json_atomically
from poster_ada.locks import claimed
from poster_ada.paper.ablation import label_margin_predictions
from poster_ada.paper.study_grid import OF_MARGIN_HEADS, SETTINGS, STAGES, Row
from poster_ada.training.loop import train
from poster_ada.training.recipe import TrainConfig, fit_recipe
from poster_ada.training.runs import Run

DEMO = Path("data/demo")  # where it is there, its known quality is a second check of the norms


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """The settings that the table names, by name; None for those of margin heads where the head is none."""
    values = config.to_dict() | config.model.to_dict()
    margin_head = config.model.head != "mlp"
    return {name: values[name] if margin_head or name not in OF_MARGIN_HEADS else None for name in SETTINGS}


class Study:
    """The grid on one face set and model size, with its finished runs in `folder`."""

    def __init__(
        self, dataset: Dataset, preset: str, folder: Path, epochs: int | None = None, device: str = "auto"
    ) -> None:
        self.dataset, self.preset, self.folder, self.epochs, self.device = dataset, preset, folder, epochs, device
        self.fingerprint = dataset.fingerprint()
        self._degraded: tuple[list[str], DegradedFaces] | None = None
        self._demo: FaceSplit | None = None

    def config(self, row: Row) -> TrainConfig:
        """The training behind a row."""
        choices = {"epochs": self.epochs, "seed": row.seed} | row.choices
        return fit_recipe(self.dataset, self.preset, "study", **choices)

    def result_path(self, row: Row) -> Path:
        return self.folder / f"{row.id}.json"

    def is_done(self, row: Row) -> bool:
        """Whether the row's result is there, and is that of these settings and these faces."""
        path = self.result_path(row)
        if not path.is_file():
            return False
        found = json.loads(path.read_text(encoding="utf-8"))
        wanted = settings_of(self.config(row)) | {"fingerprint": self.fingerprint}
        return all(found.get(name) == value for name, value in wanted.items() if name != "margin" or value is not None)

    def run_row(self, row: Row) -> dict[str, Any] | None:
        """Train and measure a row and keep its result; None where another process has done it or is at it."""
        with claimed(self.folder / f"{row.id}.lock") as ours:
            if not ours or self.is_done(row):
                return None
            result = {"id": row.id, "stage": row.stage, "setting": row.setting} | self.train_and_measure(
                self.config(row), self.folder / row.id, on_validation=row.stage == "search")
            write_json_atomically(self.result_path(row), result)
            return result

    def train_and_measure(self, config: TrainConfig, path: Path, on_validation: bool) -> dict[str, Any]:
        """Train `config` in the folder `path`, and all that the study's table says about it.

        Args:
            on_validation: measure quality on the validation faces, and leave the test faces alone.
        """
        started = time.perf_counter()
        run = train(config, path, device=self.device, quiet=True, dataset=self.dataset)
        record, model = run.record, run.model("best")
        settings = settings_of(config)
        if config.model.head != "mlp":
            settings["margin"] = model.head.margin
        result = settings | {
            "preset": self.preset, "data": self.dataset.name, "fingerprint": self.fingerprint,
            "pretrained": " ".join(record["pretrained_parts"]) or "none", "train_faces": record["train_faces"],
            "validation_faces": record["selection_faces"], "best_epoch": record["best_epoch"],
            "validation_accuracy": 100 * record["selection_accuracy"],
            "measured_on": "validation" if on_validation else "test",
        }
        if on_validation:
            _, split = split_train_validation(self.dataset.train, config.validation_fraction, config.seed)
        else:
            split = self.dataset.test
            result |= scores_on_test(run, self.dataset)
        result |= measure_degraded(model, self.degraded(split, config.model.image_size), self.device)
        if (demo := self.demo_faces()) is not None and demo.class_names == self.dataset.class_names:
            correlations = correlations_with_quality(model, demo, self.device)
            result |= {f"r_{source}_demo": r for source, r in correlations.items()}
        where = record["environment"]
        return result | {"seconds": round(time.perf_counter() - started, 1), "torch": where["torch"],
                         "device": where["device"], "threads": int(where["threads"]), "commit": where["commit"]}

    def degraded(self, split: FaceSplit, image_size: int) -> DegradedFaces:
        """The split's faces, degraded; those of the last split are kept, as the next run mostly asks for the same."""
        if self._degraded is None or self._degraded[0] != split.files:
            self._degraded = (split.files, degraded_faces(split, image_size))
        return self._degraded[1]

    def demo_faces(self) -> FaceSplit | None:
        if self._demo is None and DEMO.is_dir():
            self._demo = open_dataset(DEMO).test
        return self._demo

    def results(self) -> pd.DataFrame:
        """One line per finished run in the folder, in the order of the grid."""
        found = [json.loads(path.read_text(encoding="utf-8")) for path in self.folder.glob("*-seed*.json")]
        order = {"protocol": 0, "search": 1, "confirm": 2}
        return pd.DataFrame(sorted(found, key=lambda line: (order[line["stage"]], line["setting"], line["seed"])))


def scores_on_test(run: Run, dataset: Dataset) -> dict[str, Any]:
    """What the chosen model does on the test faces, in percent.

    `right` tells, for every test face in the set's order, whether it is classified rightly: bits, packed into
    hexadecimal digits.
    """
    free = read_predictions(run.path / "predictions.csv")
    scores = compute_metrics(free, intervals=False)
    flawed = free if run.config.model.head == "mlp" else label_margin_predictions(run, dataset)
    return {
        "test_faces": len(free), "accuracy": 100 * scores["accuracy"], "macro_f1": 100 * scores["macro_f1"],
        "label_margin_accuracy": 100 * compute_metrics(flawed, False)["accuracy"],
        "right": np.packbits((free["label"] == free["prediction"]).to_numpy()).tobytes().hex(),
    }


def read_results(folder: Path) -> pd.DataFrame:
    """`study.csv` of a folder of results. Raises InputError if it is not there."""
    path = folder / "study.csv"
    if not path.is_file():
        raise InputError(f"there is no {path}; run the study first, or give its folder with --results.")
    text = dict.fromkeys(("id", "setting", "pretrained", "right"), str)
    return pd.read_csv(path, dtype=text)


def write_results(table: pd.DataFrame, folder: Path) -> None:
    """Add these runs to the folder's `study.csv`, over older ones of the same id.

    Raises InputError if that is a study of other faces or of another size.
    """
    path = folder / "study.csv"
    if path.is_file():
        old = read_results(folder)
        for name in ("fingerprint", "preset"):
            if set(old[name]) != set(table[name]):
                raise InputError(f"{path} is a study with another {name} ({old[name].iloc[0]}); choose another folder "
                                 "with --results.")
        table = pd.concat([old[~old["id"].isin(table["id"])], table])
        table = table.sort_values(["stage", "setting", "seed"], key=lambda column: (
            column.map(STAGES.index) if column.name == "stage" else column), kind="stable")
    write_atomically(path, lambda temporary: table.to_csv(temporary, index=False))


def repeat(study: Study, table: pd.DataFrame, row_id: str) -> bool:
    """Train a row of the table again, print every number beside the old one, and say whether all are equal."""
    if row_id not in set(table["id"]):
        raise InputError(f"the table has no row {row_id!r}; --list shows the names.")
    old = table.set_index("id").loc[row_id]
    if old["fingerprint"] != study.fingerprint:
        raise InputError(f"{row_id} was run on other faces (fingerprint {old['fingerprint']}, here "
                         f"{study.fingerprint}); give the same set with --data.")
    choices = {name: old[name].item() if hasattr(old[name], "item") else old[name]
               for name in SETTINGS if pd.notna(old[name])}
    path = study.folder / f"repeat-{row_id}"
    shutil.rmtree(path, ignore_errors=True)
    new = study.train_and_measure(
        fit_recipe(study.dataset, old["preset"], **choices), path, old["measured_on"] == "validation")
    skipped = {"seconds", "torch", "device", "threads", "commit", *SETTINGS}
    numbers = [name for name, value in new.items() if isinstance(value, float) and name not in skipped]
    same = True
    for name in numbers:
        equal = np.isclose(old[name], new[name], rtol=0, atol=1e-6, equal_nan=True)
        same &= bool(equal)
        if not equal or name in ("validation_accuracy", "accuracy"):
            print(f"{name:28} was {old[name]:9.4f}, is {new[name]:9.4f}")
    print(f"{row_id}: " + (f"all {len(numbers)} numbers are the same." if same else
                           "not the same; code or machine may sum in another order: it was made with torch "
                           f"{old['torch']}, {old['device']}, {old['threads']} threads."))
    return same


def run_rows(study: Study, rows: Sequence[Row], results: Path) -> None:
    """Train the rows that are not done and at which no other process is; after every one, write the table."""
    taken = []
    for number, row in enumerate(rows, 1):
        if study.is_done(row) or (result := study.run_row(row)) is None:
            continue
        taken.append(result["seconds"])
        write_results(study.results(), results)
        left = sum(not study.is_done(other) for other in rows) * np.mean(taken) / 60
        score = (f"test {result['accuracy']:.1f} %" if "accuracy" in result else
                 f"validation {result['validation_accuracy']:.1f} %")
        print(f"{number:3d}/{len(rows)}  {row.id:36} {score}  {result['seconds']:.0f} s; {left:.0f} min left",
              flush=True)
    waiting = [row.id for row in rows if not study.is_done(row)]
    if waiting:
        print(f"{len(waiting)} runs are at other processes ({waiting[0]}, ...).", file=sys.stderr)
    if len(table := study.results()):
        write_results(table, results)
