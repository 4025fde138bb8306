"""Is AdaFace really worse? A grid of runs that anyone can repeat: `python -m poster_ada.study --data ROOT`.

Three stages: `protocol` (the published heads), `search` (settings of AdaFace's head, judged on validation faces alone)
and `confirm` (the chosen setting, and MLP under the same recipe, on the test faces). Start it several times on one
folder, on many machines or, with CUDA_VISIBLE_DEVICES, on many GPUs: each run is done once, by whoever claims it first.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from poster_ada.paper.ablation import config_for, label_margin_predictions
from poster_ada.checkpoints.published import write_atomically
from poster_ada.claims import claimed
from poster_ada.data import Dataset, FaceSplit, open_dataset, split_train_validation
from poster_ada.errors import InputError, command
from poster_ada.evaluation.metrics import metrics
from poster_ada.model.poster import PRESETS
from poster_ada.evaluation.predictions import read_predictions
from poster_ada.evaluation.degraded import DegradedFaces, correlations_with_quality, degraded_faces, measure_quality
from poster_ada.training.recipe import HEAD_RECIPES, TrainConfig
from poster_ada.training.runs import Run, environment, fingerprint
from poster_ada.training.loop import train

STAGES = ("protocol", "search", "confirm")
CHOSEN = "adaface-fer"  # of recipe.HEAD_RECIPES: what the search led to
SEEDS = (1, 2, 3, 4, 5)
DEMO = Path("data/demo")  # where it is there, its known quality is a second check of the norms
# A run on two cores in a minute: few epochs without SAM's second pass, the learning rate falling quickly. With half as
# many, s = 64 is still behind for want of steps.
SHORT_SCHEDULE = {"nano": {"epochs": 10, "gamma": 0.75, "rho": 0.0, "augmentation": "published"}}
OF_MARGIN_HEADS = ("margin", "scale", "concentration", "t_alpha", "norm_source", "quality_weight")
SETTINGS = ("head", *OF_MARGIN_HEADS, "augmentation", "label_smoothing", "validation_fraction", "epochs", "batch_size",
            "lr", "gamma", "rho", "seed")
# The search's levels. Its seeds are not those of the other stages, so that the confirmation is a fresh draw.
SEARCH: dict[str, tuple] = {
    "concentration": (0.333, 1.0), "scale": (4.0, 8.0, 16.0), "margin": (0.1, 0.2, 0.4), "t_alpha": (0.01, 0.1, 1.0),
    "norm_source": ("embedding", "pre_norm", "image"), "quality_weight": (0.0, 1.0, 3.0),
    "label_smoothing": (0.0, 0.1, 0.2), "seed": (11, 12, 13),
}
# The usual tenth of the training faces is too few to tell settings apart; the norm can only learn from faces that
# are not all of one quality.
SEARCH_FIXED = {"head": "adaface", "augmentation": "camera", "validation_fraction": 0.25}
# Taguchi's L18: every pair of columns holds every pair of levels equally often, so that each factor's effect is a mean
# over 18 runs in which the others are balanced, where the full grid would take 4374.
L18 = ("00000000", "00111111", "00222222", "01001122", "01112200", "01220011", "02010212", "02121020", "02202101",
       "10022110", "10100221", "10211002", "11012021", "11120102", "11201210", "12021201", "12102012", "12210120")


@dataclass(frozen=True)
class Row:
    """One run of the grid: a setting's name and what in it differs from the preset's published recipe."""

    stage: str
    setting: str
    seed: int
    choices: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.stage}-{self.setting}-seed{self.seed}"


def grid(seeds: Sequence[int] = SEEDS) -> list[Row]:
    """Every run, in the order in which they are done; `seeds` are those of `protocol` and `confirm`."""
    published = {"mlp": {"head": "mlp"}} | {
        f"adaface-m{margin}": {"head": "adaface", "margin": margin} for margin in (0.4, 0.75)
    }
    rows = [Row("protocol", name, seed, choices) for seed in seeds for name, choices in published.items()]
    for number, levels in enumerate(L18, 1):
        choices = {name: values[int(level)] for (name, values), level in zip(SEARCH.items(), levels, strict=True)}
        seed = choices.pop("seed")
        rows.append(Row("search", f"{number:02d}", seed, SEARCH_FIXED | choices))
    rows[len(rows) - len(L18):] = sorted(rows[-len(L18):], key=lambda row: row.seed)  # one validation split at a time
    if CHOSEN in HEAD_RECIPES:
        # MLP under every choice that is not the head's own, so that the head alone makes the difference.
        chosen = HEAD_RECIPES[CHOSEN]
        same = {key: value for key, value in chosen.items() if key not in OF_MARGIN_HEADS} | {"head": "mlp"}
        compared = {CHOSEN: chosen, "mlp-same-recipe": same}
        rows += [Row("confirm", name, seed, choices) for seed in seeds for name, choices in compared.items()]
    return rows


class Study:
    """The grid on one face set and model size, with its finished runs in `folder`."""

    def __init__(
        self, dataset: Dataset, preset: str, folder: Path, epochs: int | None = None, device: str | None = None
    ) -> None:
        self.dataset, self.preset, self.folder, self.epochs, self.device = dataset, preset, folder, epochs, device
        self.fingerprint = fingerprint(dataset)
        self._degraded: tuple[list[str], DegradedFaces] | None = None
        self._demo: FaceSplit | None = None

    def config(self, row: Row) -> TrainConfig:
        """The training behind a row."""
        schedule = SHORT_SCHEDULE.get(self.preset, {}) | ({} if self.epochs is None else {"epochs": self.epochs})
        return config_for(self.dataset, self.preset, **(schedule | {"seed": row.seed} | row.choices))

    def result_path(self, row: Row) -> Path:
        return self.folder / f"{row.id}.json"

    def do(self, row: Row) -> dict[str, Any] | None:
        """Train and measure a row and keep its result; None where another process has done it or is at it."""
        with claimed(self.folder / f"{row.id}.claim", signs_of_life=self.folder / row.id) as mine:
            if not mine or self.result_path(row).is_file():
                return None
            result = {"id": row.id, "stage": row.stage, "setting": row.setting} | self.run(
                self.config(row), self.folder / row.id, on_validation=row.stage == "search")
            text = json.dumps(result, indent=1) + "\n"
            write_atomically(self.result_path(row), lambda temporary: temporary.write_text(text))
            return result

    def run(self, config: TrainConfig, path: Path, on_validation: bool) -> dict[str, Any]:
        """Train `config` in the folder `path`, and all that the study's table says about it.

        Args:
            on_validation: measure quality on the validation faces, and leave the test faces alone.
        """
        started = time.perf_counter()
        run = train(config, path, device=self.device, quiet=True, dataset=self.dataset)
        record, model = run.record, run.model("best")
        values = config.to_dict() | config.model.to_dict()
        margin_head = config.model.head != "mlp"
        settings = {name: values[name] if margin_head or name not in OF_MARGIN_HEADS else None for name in SETTINGS}
        if margin_head:
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
            result |= test_scores(run, self.dataset)
        result |= measure_quality(model, self.degraded(split, config.model.image_size), self.device)
        if (demo := self.demo_faces()) is not None and demo.class_names == self.dataset.class_names:
            correlations = correlations_with_quality(model, demo, self.device)
            result |= {f"r_{source}_demo": r for source, r in correlations.items()}
        where = environment()
        return result | {"seconds": round(time.perf_counter() - started, 1), "torch": where["torch"],
                         "device": where["device"], "threads": int(where["threads"])}

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
        found = [json.loads(path.read_text()) for path in self.folder.glob("*-seed*.json")]
        order = {"protocol": 0, "search": 1, "confirm": 2}
        return pd.DataFrame(sorted(found, key=lambda line: (order[line["stage"]], line["setting"], line["seed"])))


def test_scores(run: Run, dataset: Dataset) -> dict[str, Any]:
    """What the chosen model does on the test faces, in percent.

    `right` tells, for every test face in the set's order, whether it is classified rightly: bits, packed into
    hexadecimal digits.
    """
    free = read_predictions(run.path / "predictions.csv")
    scores = metrics(free, intervals=False)
    flawed = free if run.config.model.head == "mlp" else label_margin_predictions(run, dataset)
    return {
        "test_faces": len(free), "accuracy": 100 * scores["accuracy"], "macro_f1": 100 * scores["macro_f1"],
        "label_margin_accuracy": 100 * metrics(flawed, False)["accuracy"],
        "right": np.packbits((free["label"] == free["prediction"]).to_numpy()).tobytes().hex(),
    }


test_scores.__test__ = False  # pytest takes the name for a test's


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
    new = study.run(config_for(study.dataset, old["preset"], **choices), path, old["measured_on"] == "validation")
    skipped = {"seconds", "torch", "device", "threads", *SETTINGS}
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


def parser() -> argparse.ArgumentParser:
    """Command line."""
    p = argparse.ArgumentParser(
        "python -m poster_ada.study", description="Compare AdaFace's head with MLP on a set of real faces, over many "
        "runs. Finished runs are kept, and the same command goes on; several processes may share a folder.")
    p.add_argument("--data", metavar="ROOT", help="face set, e.g. from: python -m poster_ada.data fetch faces")
    p.add_argument("--preset", choices=tuple(PRESETS), default="nano", help="model size (default nano)")
    p.add_argument("--stage", choices=STAGES, nargs="+", default=STAGES, help="which part (default all)")
    p.add_argument("--only", metavar="TEXT", help="only runs whose name contains this")
    p.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="of protocol and confirm (default 1 to 5)")
    p.add_argument("--epochs", type=int, help="default: nano 10, else the preset's")
    p.add_argument("--device", help="cpu to leave GPUs alone")
    p.add_argument("--folder", metavar="DIR", help="runs and claims (default runs/study-<data>-<preset>)")
    p.add_argument("--results", metavar="DIR", default="results", help="tables and figures (default results)")
    action = p.add_mutually_exclusive_group()
    action.add_argument("--list", action="store_true", help="name the runs and say which are done")
    action.add_argument("--repeat", metavar="RUN", help="train one run of the table again and compare")
    action.add_argument("--summary", action="store_true", help="make tables and figures from the table, without runs")
    return p


@command
def main(argv: Sequence[str] | None = None) -> int | None:
    """Command line."""
    args = parser().parse_args(argv)
    results = Path(args.results)
    if args.summary:
        from poster_ada.paper.study_summary import write_summary  # which needs matplotlib, and runs do not

        write_summary(read_results(results), results)
        return None
    if args.data is None:
        raise InputError("no faces were named; give --data ROOT, e.g. data/faces from: "
                         "python -m poster_ada.data fetch faces.")
    dataset = open_dataset(args.data)
    folder = Path(args.folder or f"runs/study-{dataset.name.replace(' ', '-').replace('/', '')}-{args.preset}")
    study = Study(dataset, args.preset, folder, args.epochs, args.device)
    if args.repeat:
        return 0 if repeat(study, read_results(results), args.repeat) else 1
    rows = [row for row in grid(args.seeds) if row.stage in args.stage and (args.only or "") in row.id]
    if not rows:
        raise InputError(f"no run of these stages has {args.only!r} in its name; --list shows the names.")
    if args.list:
        for row in rows:
            choices = ", ".join(f"{name} {value}" for name, value in row.choices.items())
            print(f"{'done' if study.result_path(row).is_file() else '-':4}  {row.id:36} {choices}")
        return None
    work(study, rows, results)
    return None


def work(study: Study, rows: Sequence[Row], results: Path) -> None:
    """Do what is not done or claimed yet; after every run, write the table."""
    taken = []
    for number, row in enumerate(rows, 1):
        if study.result_path(row).is_file() or (result := study.do(row)) is None:
            continue
        taken.append(result["seconds"])
        write_results(study.results(), results)
        left = sum(not study.result_path(other).is_file() for other in rows) * np.mean(taken) / 60
        score = (f"test {result['accuracy']:.1f} %" if "accuracy" in result else
                 f"validation {result['validation_accuracy']:.1f} %")
        print(f"{number:3d}/{len(rows)}  {row.id:36} {score}  {result['seconds']:.0f} s; {left:.0f} min left",
              flush=True)
    waiting = [row.id for row in rows if not study.result_path(row).is_file()]
    if waiting:
        print(f"{len(waiting)} runs are at other processes ({waiting[0]}, ...).", file=sys.stderr)
    if len(table := study.results()):
        write_results(table, results)


if __name__ == "__main__":
    main()
