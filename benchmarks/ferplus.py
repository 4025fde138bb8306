"""What `mini` learns from FER+, run by run: `python -m benchmarks.ferplus --data data/ferplus`.

Parts: `seeds` (the final recipe), `design` (its parts taken out, other networks, at a third of the length, judged on
validation faces), `cross` (trained on one set, tested on another), `tuned` (going on from FER+ on other faces) and
`small` (POSTER-small from random weights, with both heads: for a GPU, and only where it is asked for). `cross` and
`tuned` take the model that is shipped. Runs are kept in `runs/ferplus/` and the same command goes on; with `--only`,
`--design` and `--seeds` several processes can share the work. Tables go to `results/`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from benchmarks.design import DESIGNS, TrainedLandmarks, compared, costs, markdown, speeds, train_points
from poster_ada.checkpoints.card import model_card
from poster_ada.checkpoints.create import load_checkpoint
from poster_ada.checkpoints.names import SHIPPED
from poster_ada.checkpoints.own import read_own, save_checkpoint
from poster_ada.data.datasets import open_dataset
from poster_ada.data.layouts import Dataset
from poster_ada.data.twins import twins_in_train
from poster_ada.errors import InputError, command
from poster_ada.evaluation.metrics import compute_metrics
from poster_ada.evaluation.predict import predict_split
from poster_ada.files import write_atomically, write_text_atomically
from poster_ada.model.config import HEADS
from poster_ada.model.poster import Poster
from poster_ada.recognition.alignment import measure_template
from poster_ada.recognition.detector import FaceDetector
from poster_ada.training.loop import train
from poster_ada.training.recipe import TrainConfig, fit_recipe, scheduled, train_command
from poster_ada.training.runs import Run, slug

PARTS = ("seeds", "design", "cross", "tuned", "small")
WITHOUT_GPU = PARTS[:-1]
SEEDS = (123, 124, 125)
DESIGN_SEEDS = (1, 2)
THIRD = 17  # epochs
SMALL_SEED, SMALL_RATE = 1, 5e-4  # learning rate: a quarter of `mini`'s, as the network is twenty times as large
RUNS = Path("runs/ferplus")
MODEL = next(iter(SHIPPED))  # what `cross` and `tuned` are about


def scores(predictions: pd.DataFrame, prefix: str = "") -> dict[str, Any]:
    """Accuracy, macro F1 and calibration error in percent, with 95 % intervals over faces."""
    found = compute_metrics(predictions)
    row: dict[str, Any] = {f"{prefix}faces": found["faces"]}
    for name, score in (("accuracy", "accuracy"), ("macro_f1", "macro_f1"), ("ece", "calibration_error")):
        low, high = found["intervals"][score]
        row |= {prefix + name: 100 * found[score], f"{prefix}{name}_low": 100 * low, f"{prefix}{name}_high": 100 * high}
    return row


def both_ways(model: Poster, dataset: Dataset) -> dict[str, Any]:
    """Scores on the test split, on its faces without a twin in training, and with the mirror image averaged."""
    plain = predict_split(model, dataset.test, quiet=True)
    mirrored = predict_split(model, dataset.test, quiet=True, mirror=True)
    row = scores(plain)
    twins = twins_in_train(dataset)
    if twins is not None and twins.any():
        row |= {f"without_twins_{key}": value for key, value in scores(plain[~twins]).items()}
    recall = {f"recall_{name.lower()}": 100 * values["recall"]
              for name, values in compute_metrics(plain, False)["per_class"].items() if values["recall"] is not None}
    return row | scores(mirrored, "mirror_") | recall


def described(run: Run) -> dict[str, Any]:
    """What a table says of a run itself."""
    record, config = run.record, run.config
    return {"seed": config.seed, "epochs": config.epochs, "train_faces": record["train_faces"],
            "best_epoch": record["best_epoch"], "validation_accuracy": 100 * record["selection_accuracy"],
            "temperature": record.get("temperature"), "precision": record["precision"],
            "faces_per_second": record["median_images_per_second"], "commit": record["environment"]["commit"]}


class Ferplus:
    """The sets, and the runs on them."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.data = open_dataset(given.data, num_classes=8)
        self.faces = open_dataset(given.faces) if given.faces else None
        self.demo = open_dataset(given.demo)

    def trained(self, config: TrainConfig, path: Path | None, dataset: Dataset, **how: Any) -> Run:
        print(f"{path or config.preset} seed {config.seed}: {config.epochs} epochs", flush=True)
        return train(config, path, dataset=dataset, device=self.given.device, **how)

    def final(self, seed: int) -> Run:
        """A run of the final recipe, in the folder where `python -m poster_ada.train` has it."""
        return self.trained(fit_recipe(self.data, "mini", seed=seed, compile=self.given.compile), None, self.data)

    def finals(self) -> list[Run]:
        """The runs of the final recipe: those that were named, or one per seed."""
        return [Run(path) for path in self.given.runs] or [self.final(seed) for seed in self.given.seeds or SEEDS]

    def seeds(self) -> Iterator[dict[str, Any]]:
        """The final recipe, once per seed."""
        for run in self.finals():
            yield described(run) | both_ways(run.model("best"), self.data)

    def design(self) -> Iterator[dict[str, Any]]:
        """Every design at one length; the test split stays out of it."""
        wanted = {name: design for name, design in DESIGNS.items() if name in (self.given.design or DESIGNS)}
        if TrainedLandmarks in wanted.values():
            train_points(self.data, self.given.demo, self.given.detector)
        for seed in self.given.seeds or DESIGN_SEEDS:
            for name, design in wanted.items():
                config = fit_recipe(self.data, "mini", epochs=self.given.epochs, seed=seed,
                                    compile=self.given.compile)
                path = RUNS / f"design-{slug(name)}-e{config.epochs}-seed{seed}"
                run = self.trained(config, path, self.data, make=design)
                best = run.log.loc[run.record["best_epoch"] - 1]
                parameters, multiply_adds = costs(design, config.model)
                yield {"design": name, **described(run), "validation_macro_f1": 100 * best["validation_macro_f1"],
                       "parameters": parameters, "multiply_adds": multiply_adds}

    def summarise_design(self, path: Path) -> None:
        """The designs' table, from their runs of this length, and what each design does in a second here."""
        rows = pd.read_csv(path)
        table = compared(rows[rows["epochs"] == self.given.epochs])
        table["faces_per_second"] = speeds(fit_recipe(self.data, "mini").model)
        write_atomically(path.with_name("ferplus_design_summary.csv"), lambda temporary: table.to_csv(temporary))
        print(markdown(table))

    def cross(self) -> Iterator[dict[str, Any]]:
        """Trained on each set by the same recipe, tested on each; classes by name."""
        sets = {"demo": self.demo, "faces": self.faces, "FER+": self.data}
        for trained_on, dataset in sets.items():
            if dataset is None:
                continue
            model = load_checkpoint(MODEL) if dataset is self.data else self.trained(
                fit_recipe(dataset, "mini", channel_order="grey"), RUNS / f"on-{slug(trained_on)}", dataset,
            ).model("best")
            for tested_on, other in sets.items():
                if other is not None:
                    predictions = predict_split(model, other.test, quiet=True)
                    yield {"trained_on": trained_on, "tested_on": tested_on, **scores(predictions)}

    def tuned(self) -> Iterator[dict[str, Any]]:
        """Going on from the shipped model on the other faces, by a short recipe; and those faces untouched."""
        if self.faces is None:
            raise InputError("tuned needs other faces; give --faces ROOT.")
        model = load_checkpoint(MODEL)
        yield {"way": "untouched", **scores(predict_split(model, self.faces.test, quiet=True))}
        for seed in self.given.seeds or SEEDS:
            config = fit_recipe(self.faces, "mini", base=model.config, seed=seed, epochs=20, lr=5e-4, warmup=1.0,
                                average=0.98, checkpoint=MODEL)
            run = self.trained(config, RUNS / f"tuned-seed{seed}", self.faces)
            yield {"way": "tuned", **described(run), **both_ways(run.model("best"), self.faces)}

    def small(self) -> Iterator[dict[str, Any]]:
        """POSTER-small by `mini`'s recipe, at 224 x 224 pixels, both streams from random weights."""
        for seed in self.given.seeds or (SMALL_SEED,):
            for head in self.given.heads:
                choices = scheduled("mini") | {"epochs": self.given.epochs, "lr": SMALL_RATE}
                config = fit_recipe(self.data, "small", seed=seed, head=head, **choices)
                run = self.trained(config, RUNS / f"small-{head}-e{config.epochs}-seed{seed}", self.data)
                yield {"head": head, **described(run), **both_ways(run.model("best"), self.data)}


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    p = argparse.ArgumentParser("python -m benchmarks.ferplus", description=__doc__.splitlines()[0])
    p.add_argument("--data", metavar="ROOT", default="data/ferplus", help="FER+ (default data/ferplus)")
    p.add_argument("--faces", metavar="ROOT", help="other real faces, e.g. from: python -m poster_ada.data fetch faces")
    p.add_argument("--demo", metavar="ROOT", default="data/demo", help="default data/demo")
    p.add_argument("--only", nargs="+", choices=PARTS, default=WITHOUT_GPU, help="default all but small")
    p.add_argument("--seeds", type=int, nargs="+", help="default 123 124 125; of design 1 2; of small 1")
    p.add_argument("--design", nargs="+", choices=tuple(DESIGNS), help="default all")
    p.add_argument("--heads", nargs="+", choices=HEADS, default=("mlp", "adaface"),
                   help="of small (default mlp adaface)")
    p.add_argument("--epochs", type=int, default=THIRD, help="of design and small (default %(default)s, a third of the "
                   "recipe's)")
    p.add_argument("--runs", type=Path, nargs="+", metavar="DIR", default=[], help="finished runs to take as the final "
                   "ones, instead of training them")
    p.add_argument("--compile", action="store_true", help="torch.compile the networks of seeds and design first: "
                   "minutes on a CPU, worth it in long runs in float32")
    p.add_argument("--ship", action="store_true", help="put the best of the seeds into the package, with its card")
    p.add_argument("--detector", metavar="FILE", help="the face detector's file, for --ship and for the design "
                   "whose landmark stream is trained on points, instead of downloading it")
    p.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    p.add_argument("--results", type=Path, metavar="DIR", default=Path("results"))
    return p


def ship(study: Ferplus, detector: str | None) -> None:
    """Put the run with the best validation accuracy among the seeds into the package, with its card and its log.

    Weights and temperature stay as they are; what is added is where FER+ has its faces' points. FER+ is grey, and the
    model then sees colours as grey too.
    """
    runs = study.finals()
    run = max(runs, key=lambda run: run.record["selection_accuracy"])
    path, record = run.path / "best.safetensors", run.record
    training = {"command": train_command(run.config, study.data)} | read_own(path)[0]["training"]
    model = load_checkpoint(path)
    model.config = replace(model.config, channel_order="grey")
    model.face_template = measure_template(study.data.train, FaceDetector(detector)).template
    name, target = MODEL, SHIPPED[MODEL]
    save_checkpoint(model, target, training)
    plain, mirrored = (predict_split(model, study.data.test, quiet=True, mirror=mirror) for mirror in (False, True))
    twins, of_mirrored = twins_in_train(study.data), compute_metrics(mirrored, intervals=False)
    assert twins is not None
    accuracy, macro_f1 = (f"{100 * of_mirrored[score]:.1f} %" for score in ("accuracy", "macro_f1"))
    notes = [
        f"The temperature ({model.temperature:.3f}) was fitted on the {record['selection_faces']} validation faces. "
        f"With each picture's mirror image averaged (`--mirror`) the test accuracy is {accuracy}, macro F1 {macro_f1}. "
        f"It is the one of {len(runs)} seeds with the best validation accuracy; all of them are in "
        "results/ferplus_seeds.csv. Photographs are aligned by five points (eyes, nose, mouth corners) to where FER+ "
        "has them."]
    limits = ["FER+ is pictures from web search, mostly of adults in front of the camera; nobody counted age, skin "
              "colour or gender in them."]
    scores = compute_metrics(plain) | {"test_without_twins": compute_metrics(plain[~twins])}
    write_text_atomically(target.with_suffix(".md"), model_card(model, name, training, scores, notes, limits))
    write_atomically(study.given.results / "ferplus_log.csv", lambda temporary: run.log.to_csv(temporary, index=False))
    print(f"{path} is now {target}, {target.stat().st_size / 1e6:.2f} MB")


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    given = parser().parse_args(argv)
    study = Ferplus(given)
    if given.ship:
        ship(study, given.detector)
        return
    for part in given.only:
        path = given.results / f"ferplus_{part}.csv"
        for row in getattr(study, part)():
            add_row(row, path)
            print(pd.Series(row).to_string(), flush=True)
        if part == "design" and not given.design:
            study.summarise_design(path)


def add_row(row: dict[str, Any], path: Path) -> None:
    """Put a row into a table, over an older one of the same name, whoever else writes to it."""
    keys = [key for key in ("design", "way", "head", "trained_on", "tested_on", "epochs", "seed") if key in row]
    table = pd.DataFrame([row])
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if path.is_file():
            old = pd.read_csv(path)
            same = (old.reindex(columns=keys) == table[keys].iloc[0]).all(axis=1)  # numbers as numbers: 1 is 1.0
            table = pd.concat([old[~same], table])
        table = table.sort_values(keys, kind="stable", ignore_index=True)
        write_atomically(path, lambda temporary: table.to_csv(temporary, index=False))


if __name__ == "__main__":
    main()
