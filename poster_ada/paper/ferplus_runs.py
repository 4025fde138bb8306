"""The FER+ study's runs: each row of the grid trained and measured once, and added to one table when it is finished."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from poster_ada.checkpoints.create import load_checkpoint
from poster_ada.data.datasets import open_dataset
from poster_ada.data.layouts import Dataset
from poster_ada.data.splits import FaceSplit
from poster_ada.data.twins import twins_in, twins_in_train
from poster_ada.errors import InputError
from poster_ada.evaluation.degraded import DegradedFaces, degraded_faces, measure_degraded
from poster_ada.evaluation.metrics import calibration_error, compute_metrics
from poster_ada.evaluation.predict import predict_split
from poster_ada.evaluation.predictions import class_names_of, probabilities_of, probability_columns, read_predictions
from poster_ada.files import write_atomically
from poster_ada.locks import claimed
from poster_ada.model.config import PRESETS
from poster_ada.paper.ablation import label_margin_predictions
from poster_ada.paper.engine import Engine, can_submit, run_jobs
from poster_ada.paper.ferplus_classes import COSINES, class_cosines
from poster_ada.paper.ferplus_grid import CLASSES, FACES, PREDICTIONS, TABLE, FerplusRow, gamma_of
from poster_ada.paper.ferplus_results import AGREEMENT, FerplusResults, write_arrays, write_faces
from poster_ada.training.loop import train
from poster_ada.training.recipe import TrainConfig, fit_recipe
from poster_ada.training.runs import code_version

OF_MARGIN_HEADS = ("margin", "scale", "scale_rule", "class_vectors", "concentration")
SETTINGS = ("head", *OF_MARGIN_HEADS, "quality_from", "quality_weight", "label_smoothing", "logit_adjustment",
            "class_balance", "augmentation", "epochs", "batch_size", "lr", "gamma", "seed")
GAPS = (0.0, 0.4, 0.5, 0.6)  # in cosine; the published margins and what lies a little above the first
VOTERS = 10
DEGRADED = 600  # faces, each at 26 versions
MEASURED = 2_560  # training faces on which speed is measured before there is a finished run


class FerplusStudy:
    """The grid on one copy of FER+: runs in `folder`, their table and predictions in `results`."""

    def __init__(self, dataset: Dataset, folder: Path, results: Path, device: str = "auto") -> None:
        self.dataset, self.folder, self.results, self.device = dataset, folder, results, device
        self.commit = code_version()  # of the code that this process loaded, whatever is checked out later
        if dataset.validation is None or dataset.test.votes is None or not len(dataset.test):
            raise InputError(f"{dataset.root} is not FER+ with its three splits and votes, which this study is about.")

    def config(self, row: FerplusRow) -> TrainConfig:
        """The training behind a row: `nano`'s schedule in the row's length, for any size of model."""
        base = None if row.preset == "nano" else PRESETS[row.preset]
        config = fit_recipe(self.dataset, "nano", base=base, epochs=row.epochs, gamma=gamma_of(row.epochs),
                            seed=row.seed, **row.choices)
        return replace(config, preset=row.preset)

    def table(self) -> pd.DataFrame:
        """The finished rows; no columns where there are none."""
        path = self.results / TABLE
        if not path.is_file():
            return pd.DataFrame()
        table = pd.read_csv(path)
        known = table.get("class_vectors", pd.Series(None, table.index, object))  # came after the first rows
        return table.assign(class_vectors=known.mask(known.isna() & (table["head"] != "mlp"), "learned"))

    def is_done(self, row: FerplusRow) -> bool:
        """Whether the table has the row, made with these settings on these faces."""
        table = self.table()
        if not len(table) or row.id not in set(table["id"]):
            return False
        found = table.set_index("id").loc[row.id]
        wanted = settings_of(self.config(row)) | {"fingerprint": self.dataset.fingerprint()}
        return all(same(found[name], value) for name, value in wanted.items() if name != "margin" or value is not None)

    def run_row(self, row: FerplusRow, discard: bool = False) -> dict[str, Any] | None:
        """Train and measure a row and add it to the table; None where another process has done it or is at it.

        A row that was stopped goes on at its last epoch. `discard` removes the run's folder once the row is written.
        """
        with claimed(self.folder / f"{row.id}.lock") as mine:
            if not mine or self.is_done(row):
                return None
            path = self.folder / row.id
            result = self.train_and_measure(row, path)
            self.keep(row, path, result)
            if discard:
                shutil.rmtree(path)
            return result

    def train_and_measure(self, row: FerplusRow, path: Path) -> dict[str, Any]:
        """Train a row in the folder `path`, and all that the table says about it; its predictions go beside it."""
        started = time.perf_counter()
        config, data = self.config(row), self.dataset
        run = train(config, path, device=self.device, quiet=True, dataset=data)
        record, model = run.record, run.model("best")
        settings = settings_of(config)
        scale = None
        if config.model.head != "mlp":
            settings["margin"], scale = model.head.margin, float(model.head.current_scale)
        # Both as the head gives them: the run's own tables have its temperature in them.
        model.temperature = 1.0
        free = without_temperature(read_predictions(run.path / "predictions.csv"), record["temperature"])
        chosen_on = predict_split(model, self.validation, self.device, quiet=True)
        flawed = free if scale is None else label_margin_predictions(run, data)
        write_predictions_of(run.path / "predictions.npz", free, chosen_on, flawed, scale, class_cosines(model.head))
        result = {
            "id": row.id, "part": row.part, "setting": row.setting, "set": data.name, "preset": row.preset, **settings,
            "commit": self.commit, **scores(free, flawed, chosen_on, self.twins, scale, record["temperature"]),
            **norm_statistics(free, data.test), **measure_degraded(model, self.degraded, self.device),
            "best_epoch": record["best_epoch"], "train_accuracy": 100 * run.log["train_accuracy"].iloc[-1],
            "final_scale": scale, "fingerprint": record["fingerprint"], "train_faces": record["train_faces"],
            "precision": record["precision"], "faces_per_second": record["median_images_per_second"],
        }
        where = record["environment"]
        return result | {"seconds": round(time.perf_counter() - started, 1), "torch": where["torch"],
                         "device": where["device"], "threads": int(where["threads"])}

    def keep(self, row: FerplusRow, path: Path, result: dict[str, Any]) -> None:
        """Put a finished row into the table, over an older one of the same name, and its predictions beside it."""
        small = self.results / PREDICTIONS / f"{row.id}.npz"
        write_atomically(small, lambda temporary: shutil.copyfile(path / "predictions.npz", temporary))
        self.keep_faces()
        with FileLock(self.folder / "table.lock"):
            old = self.table()
            others = [old[old["id"] != row.id]] if len(old) else []
            table = pd.concat([*others, pd.DataFrame([result])])
            write_atomically(self.results / TABLE, lambda temporary: table.to_csv(temporary, index=False))

    def keep_faces(self) -> None:
        """Put what is true of the faces beside the predictions, where it is not there, or not all of it."""
        if not (self.results / FACES).is_file() or AGREEMENT not in FerplusResults(self.results).faces:
            votes, labels = self.validation.votes, self.validation.labels
            assert votes is not None
            write_faces(self.results, self.dataset.test.labels, labels, self.twins,
                        votes[np.arange(len(labels)), labels], self.dataset.fingerprint())

    def keep_class_cosines(self) -> None:
        """Add the cosines between a head's classes to the predictions of rows that were made before they were kept, and
        whose runs are still there."""
        for run in self.table().get("id", ()):
            checkpoint, small = self.folder / run / "best.safetensors", self.results / PREDICTIONS / f"{run}.npz"
            if not (checkpoint.is_file() and small.is_file()):
                continue
            with np.load(small, allow_pickle=False) as found:
                arrays = dict(found)
            if COSINES not in arrays:
                write_arrays(small, arrays | {COSINES: class_cosines(load_checkpoint(checkpoint).head)})

    @property
    def validation(self) -> FaceSplit:
        assert self.dataset.validation is not None
        return self.dataset.validation

    @cached_property
    def twins(self) -> np.ndarray:
        """bool (N_test,): whether a test face has an equal or near copy among the faces for training or validation."""
        if (self.results / FACES).is_file():
            known = FerplusResults(self.results).faces
            if known["fingerprint"] == self.dataset.fingerprint():
                return known["twin"].astype(bool)
        in_train = twins_in_train(self.dataset)
        assert in_train is not None
        return in_train | twins_in(self.validation, self.dataset.test)

    @cached_property
    def degraded(self) -> DegradedFaces:
        return degraded_faces(self.dataset.test, PRESETS["nano"].image_size, DEGRADED)


def same(found: Any, wanted: Any) -> bool:
    """Whether a cell of the table holds this setting; older pandas read a number's last digit anew."""
    if wanted is None:
        return bool(pd.isna(found))
    return bool(np.isclose(found, wanted, rtol=1e-12)) if isinstance(wanted, float) else bool(found == wanted)


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """The settings that the table names, by name; None for those of margin heads where the head is none."""
    values = asdict(config) | asdict(config.model)
    margin_head = config.model.head != "mlp"
    return {name: values[name] if margin_head or name not in OF_MARGIN_HEADS else None for name in SETTINGS}


def without_temperature(predictions: pd.DataFrame, temperature: float) -> pd.DataFrame:
    """The table with the probabilities of the logits themselves, where it has those of the logits over T."""
    logits = temperature * np.log(np.maximum(probabilities_of(predictions), np.finfo(float).tiny))
    shares = np.exp(logits - logits.max(1, keepdims=True))
    table = predictions.copy()
    table[probability_columns(class_names_of(predictions))] = shares / shares.sum(1, keepdims=True)
    return table


def logit_gaps(predictions: pd.DataFrame) -> np.ndarray:
    """float (N,): the true class's logit less the largest of the others; negative where the prediction is wrong."""
    logits = np.log(np.maximum(probabilities_of(predictions), np.finfo(float).tiny))
    labels = pd.Index(class_names_of(predictions)).get_indexer(predictions["label"])
    rows = np.arange(len(labels))
    true = logits[rows, labels]
    logits[rows, labels] = -np.inf
    return true - logits.max(1)


def scores(
    free: pd.DataFrame, flawed: pd.DataFrame, validation: pd.DataFrame, twins: np.ndarray, scale: float | None,
    temperature: float,
) -> dict[str, Any]:
    """What the chosen model does on test faces, and on those that chose it; in percent, calibration errors too.

    Args:
        free, validation: margin-free predictions, without temperature.
        flawed: what the label-margin protocol counts on the test faces.
        scale: s, for gaps in cosine; None where the head has no cosine.
    """
    all_faces, alone, chosen_on, counted = (compute_metrics(table, intervals=False)
                                            for table in (free, free[~twins], validation, flawed))
    calibrated = without_temperature(free, 1 / temperature)
    gaps = logit_gaps(free) / (scale or 1.0)
    return {
        "test_faces": len(free), "accuracy": 100 * all_faces["accuracy"], "macro_f1": 100 * all_faces["macro_f1"],
        "faces_without_twins": int((~twins).sum()), "accuracy_without_twins": 100 * alone["accuracy"],
        "macro_f1_without_twins": 100 * alone["macro_f1"],
        "label_margin_accuracy": 100 * counted["accuracy"], "label_margin_macro_f1": 100 * counted["macro_f1"],
        "ece": 100 * all_faces["calibration_error"], "ece_calibrated": 100 * calibration_error(calibrated),
        "temperature": temperature,
        **{f"recall_{name.lower()}": percent(of["recall"]) for name, of in all_faces["per_class"].items()},
        "validation_accuracy": 100 * chosen_on["accuracy"], "validation_macro_f1": 100 * chosen_on["macro_f1"],
        **{f"validation_recall_{name.lower()}": percent(of["recall"]) for name, of in chosen_on["per_class"].items()},
        **{f"gap_above_{gap:g}": 100 * float((gaps > gap).mean()) if scale else None for gap in GAPS},
        "median_gap": float(np.median(gaps)) if scale else None,
    }


def percent(share: float | None) -> float | None:
    """A share as a percentage, where it is known."""
    return None if share is None else 100 * share


def norm_statistics(predictions: pd.DataFrame, split: FaceSplit) -> dict[str, float]:
    """What the norm follows on the split's faces.

    Returns:
        `norm_mean`, `norm_std`; `norm_class_share`: of the norm's variance, that between true classes, in percent;
        `r_norm_agreement`: Pearson's r of the norm and the share of the ten voters who chose the label;
        `r_norm_agreement_within`: the same with each class's mean taken off both.
    """
    assert split.votes is not None
    norm = predictions["norm"].to_numpy(float)
    agreement = split.votes[np.arange(len(split)), split.labels] / VOTERS
    def within(values: np.ndarray) -> np.ndarray:
        return values - pd.Series(values).groupby(split.labels).transform("mean").to_numpy()

    return {
        "norm_mean": float(norm.mean()), "norm_std": float(norm.std()),
        "norm_class_share": 100 * float(1 - within(norm).var() / norm.var()),
        "r_norm_agreement": float(np.corrcoef(norm, agreement)[0, 1]),
        "r_norm_agreement_within": float(np.corrcoef(within(norm), within(agreement))[0, 1]),
    }


def write_predictions_of(
    path: Path, free: pd.DataFrame, validation: pd.DataFrame, flawed: pd.DataFrame, scale: float | None,
    cosines: np.ndarray,
) -> None:
    """What the analysis needs of every face, in the split's order, small: predictions as class numbers (uint8), `gap`
    (in cosine where the head has one, else of logits), `confidence` and `norm` of the test faces (float16), and whether
    each counts as right by the label-margin protocol; and of the head the cosines between its classes."""
    codes = pd.Index(class_names_of(free))
    arrays = {
        "prediction": codes.get_indexer(free["prediction"]).astype(np.uint8),
        "validation_prediction": codes.get_indexer(validation["prediction"]).astype(np.uint8),
        "gap": (logit_gaps(free) / (scale or 1.0)).astype(np.float16),
        "confidence": probabilities_of(free).max(1).astype(np.float16),
        "norm": free["norm"].to_numpy(np.float16),
        "label_margin_right": np.packbits((flawed["label"] == flawed["prediction"]).to_numpy()), COSINES: cosines,
    }
    write_arrays(path, arrays)


@dataclass(frozen=True)
class RowJob:
    """One row as a process of its own runs it: opens the faces, trains and measures. Stopped, it goes on at the last
    finished epoch when it is called again."""

    row: FerplusRow
    data: Path
    fingerprint: str
    folder: Path
    results: Path
    device: str = "auto"
    discard: bool = False

    def __call__(self) -> dict[str, Any] | None:
        dataset = open_dataset(self.data, num_classes=CLASSES, family="ferplus", needs=("train", "validation", "test"))
        if dataset.fingerprint() != self.fingerprint:
            raise InputError(f"{self.data} holds other faces than the study was started on; was it changed since, or "
                             "opened by one of its label files? Name the folder with --data.")
        return FerplusStudy(dataset, self.folder, self.results, self.device).run_row(self.row, self.discard)

    def checkpoint(self) -> Any:
        """What submitit queues when a job is preempted or its time is up."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def run_rows(
    study: FerplusStudy, rows: Sequence[FerplusRow], discard: bool = False, engine: Engine | None = None
) -> None:
    """Train the rows that are not done, on an engine or else one after another here; say after each what it gave."""
    left = [row for row in rows if not study.is_done(row)]
    if engine is None or engine.cluster == "local" and (engine.workers == 1 or not can_submit()):
        found: Iterable[dict[str, Any] | None] = (study.run_row(row, discard) for row in left)
    else:
        study.keep_faces()  # so that no job looks for twins again
        jobs = [RowJob(row, study.dataset.root.absolute(), study.dataset.fingerprint(), study.folder.absolute(),
                       study.results.absolute(), study.device, discard) for row in left]
        found = run_jobs(jobs, study.folder / "jobs", engine)
    for number, result in enumerate(found, len(rows) - len(left) + 1):
        if result is not None:
            print(f"{number:3d}/{len(rows)}  {result['id']:44} "
                  f"validation {result['validation_accuracy']:.1f} % (F1 {result['validation_macro_f1']:.1f})  "
                  f"test {result['accuracy']:.1f} % (F1 {result['macro_f1']:.1f})  "
                  f"{result['faces_per_second']:.0f} faces/s  {result['seconds'] / 60:.1f} min", flush=True)


def repeat(study: FerplusStudy, row: FerplusRow) -> bool:
    """Train a row of the table again, print every number beside the old one, and say whether all are equal."""
    table = study.table()
    if not len(table) or row.id not in set(table["id"]):
        raise InputError(f"{study.results / TABLE} has no row {row.id!r} to compare with; run it first.")
    old = table.set_index("id").loc[row.id]
    if old["fingerprint"] != study.dataset.fingerprint():
        raise InputError(f"{row.id} was run on other faces (fingerprint {old['fingerprint']}, here "
                         f"{study.dataset.fingerprint()}); give the same set with --data.")
    path = study.folder / f"repeat-{row.id}"
    shutil.rmtree(path, ignore_errors=True)
    new = study.train_and_measure(row, path)
    skipped = {"seconds", "faces_per_second", *SETTINGS}
    numbers = [name for name, value in new.items() if isinstance(value, float) and name not in skipped]
    different = [name for name in numbers if not np.isclose(old[name], new[name], rtol=0, atol=1e-6, equal_nan=True)]
    for name in dict.fromkeys(["accuracy", "macro_f1", *different]):
        print(f"{name:28} was {old[name]:9.4f}, is {new[name]:9.4f}")
    print(f"{row.id}: " + ("not the same; code or machine may sum in another order: it was made with commit "
                           f"{old['commit'][:7]}, torch {old['torch']}, {old['device']}, {old['threads']} threads."
                           if different else f"all {len(numbers)} numbers are the same."))
    return not different


def measured_speed(study: FerplusStudy, preset: str) -> float:
    """Training faces per second on this machine now: the median of the table's finished runs of this size, else of one
    short epoch."""
    table = study.table()
    if len(table) and (same := table["preset"] == preset).any():
        return float(table.loc[same, "faces_per_second"].median())
    short = copy(study.dataset)
    short._fingerprint = None
    short.train, short.validation, short.test = (
        split.subset(np.arange(min(most, len(split)))) for split, most in (
            (short.train, MEASURED), (study.validation, 100), (short.test, 0)))
    config = study.config(FerplusRow("speed", "mlp", 0, epochs=1, preset=preset))
    with tempfile.TemporaryDirectory() as folder:
        return float(train(config, folder, device=study.device, quiet=True, dataset=short)
                     .record["median_images_per_second"])


def plan(study: FerplusStudy, rows: Sequence[FerplusRow], workers: int) -> pd.DataFrame:
    """Runs, faces and hours by part, for `workers` side by side, each as fast as `measured_speed` says."""
    speed = {preset: measured_speed(study, preset) for preset in dict.fromkeys(row.preset for row in rows)}
    lines = []
    for part in dict.fromkeys(row.part for row in rows):
        own = [row for row in rows if row.part == part]
        left = [row for row in own if not study.is_done(row)]
        faces = sum(row.epochs for row in left) * len(study.dataset.train)
        lines.append({"part": part, "runs": len(own), "done": len(own) - len(left), "million_faces_left": faces / 1e6,
                      "faces_per_second": speed[own[0].preset],
                      "hours": sum(row.epochs * len(study.dataset.train) / speed[row.preset] for row in left)
                      / 3600 / workers})
    table = pd.DataFrame(lines)
    table.loc["all"] = {"part": "all", **table[["runs", "done", "million_faces_left", "hours"]].sum()}
    return table
