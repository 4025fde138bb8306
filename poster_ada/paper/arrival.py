"""The day RAF-DB arrives: published checkpoints on the whole test split, held against the published numbers.

The verdict is one page: what agrees, what does not, what to do next.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from poster_ada.channels import COLOUR_ORDERS
from poster_ada.checkpoints.create import load_checkpoint
from poster_ada.checkpoints.names import RAFDB_FILE
from poster_ada.data.layouts import Dataset
from poster_ada.errors import InputError
from poster_ada.evaluation.predict import predict_with_embeddings
from poster_ada.evaluation.predictions import write_predictions
from poster_ada.evaluation.protocol import LABEL_MARGIN_BATCH, head_of_its_batch
from poster_ada.model.config import size_name
from poster_ada.model.poster import Poster
from poster_ada.paper.reported import published_log, reported_results

SUFFIXES = (".pth", ".pth.tar", ".pt", ".safetensors")
SAME = {"float32": 0.1, "bfloat16": 0.3}  # points: 3 and 9 of RAF-DB's 3,068 test faces may fall the other way
MARGINS = (0.4, 0.75)  # of the report; a published file does not say which it had
EPOCH_SECONDS, EPOCHS = 73, 300  # published, POSTER-l, batch 200 on two RTX 3090
MULTIPLY_ADDS = {"small": 6.79, "base": 7.33, "large": 7.86}  # 1e9 per face: hours of other sizes go by these


@dataclass(frozen=True)
class Measured:
    """What one checkpoint does on the test split; accuracies in percent."""

    name: str
    size: str
    head: str
    channel_order: str  # that the file asks for
    accuracy: dict[str, float]  # by channel order, margin-free
    label_margin: dict[float, float]  # by margin, the report's count
    seconds: float

    @property
    def published(self) -> dict[str, float]:
        """What was published for such a file, in percent, by where it stands."""
        rows = [row for row in reported_results()["table_1"]
                if (row["size"], row["head"], row["variant"]) == (self.size, self.head, None)]
        report = {f"report, m = {row['margin']}" if row["margin"] else "report": row["accuracy"] for row in rows}
        if (self.size, self.head) == ("large", "mlp"):
            return {"log's best": 100 * float(published_log()["val_accuracy"].max())} | report
        return report

    def agreeing(self, tolerance: float) -> list[str]:
        """The published numbers that this file meets: AdaFace's by the report's count, all others by accuracy."""
        if self.label_margin:
            return [where for where, value in self.published.items() for margin, score in self.label_margin.items()
                    if where.endswith(f"m = {margin}") and abs(score - value) <= tolerance]
        own = self.accuracy[self.channel_order]
        return [where for where, value in self.published.items() if abs(own - value) <= tolerance]


def label_margin_score(model: Poster, table: pd.DataFrame, embeddings: np.ndarray, margin: float) -> float:
    """The report's count in percent, from what the head saw: see `label_margin_logits`."""
    head = head_of_its_batch(model).cpu()
    head.margin = margin
    names = list(model.config.class_names)
    labels = torch.tensor([names.index(label) for label in table["label"]])
    norms, right = torch.tensor(table["norm"].to_numpy(), dtype=torch.float32), 0
    with torch.no_grad():
        for part in torch.arange(len(table)).split(LABEL_MARGIN_BATCH):
            logits = head.margin_logits(torch.from_numpy(embeddings)[part], labels[part], norms[part])
            right += int((logits.argmax(1) == labels[part]).sum())
    return 100 * right / len(table)


def measure(
    path: Path, dataset: Dataset, out: Path, device: torch.device, batch_size: int, precision: str, quiet: bool
) -> Measured:
    """Test one checkpoint in both channel orders, and keep its predictions in `out`.

    Raises:
        InputError: it cannot be opened or has other classes.
    """
    start, model = time.monotonic(), load_checkpoint(path)
    own = model.config
    if own.class_names != dataset.class_names:
        raise InputError(f"{path} has other classes than RAF-DB ({', '.join(own.class_names)}); test it with "
                         "python -m poster_ada.test.")
    accuracy, label_margin = {}, {}
    for order in COLOUR_ORDERS:
        model.config = replace(own, channel_order=order)
        table, embeddings = predict_with_embeddings(
            model, dataset.test, device, batch_size=batch_size, precision=precision, quiet=quiet)
        write_predictions(table, out / f"{path.name}-{order}" / "predictions.csv")
        accuracy[order] = 100 * float((table["label"] == table["prediction"]).mean())
        if order == own.channel_order and hasattr(model.head, "t_alpha"):
            label_margin = {margin: label_margin_score(model, table, embeddings, margin) for margin in MARGINS}
    return Measured(path.name, size_name(own), own.head, own.channel_order, accuracy, label_margin,
                  time.monotonic() - start)


def checkpoints_in(folder: Path) -> list[Path]:
    """The files to test, by name."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name.endswith(SUFFIXES))


def training_lines(root: str) -> list[str]:
    """The training commands, with the hours to expect."""
    def line(preset: str, flags: str, what: str) -> str:
        hours = EPOCH_SECONDS * EPOCHS / 3600 * MULTIPLY_ADDS[preset] / MULTIPLY_ADDS["large"]
        return (f"  {math.ceil(hours)} h  python -m poster_ada.train --data {root} --gpu 0,1 --batch-size 200 "
                f"--preset {preset}{flags}\n       {what}")

    quoted = f'"{root}"' if " " in root else root
    return [
        "Train (hours on two RTX 3090, from the published 73 s an epoch x 300, other sizes by multiply-adds;\n"
        "one such GPU takes about twice as long: leave out --gpu 0,1):",
        *(text.replace(f"--data {root}", f"--data {quoted}") for text in (
            line("large", " --select-on test", "POSTER-l as published, the best epoch chosen on the test split"),
            line("small", " --head mlp", "POSTER-s, the best epoch chosen on a validation split"),
            line("small", " --head adaface", "POSTER-Ada-s, m = 0.4"),
            line("small", " --head adaface --margin 0.75", "POSTER-Ada-s, m = 0.75"),
            line("small", " --head adaface-fer", "the setting that this project's study found"),
        )),
        f"then the whole report on these faces: python -m poster_ada.report --data {quoted} --preset small",
    ]


def all_agrees(dataset: Dataset, tested: Sequence[Measured], failed: Sequence[str], precision: str) -> bool:
    """Whether this is RAF-DB, at least one file was tested, and every one meets a number published for it."""
    return bool(dataset.is_full_rafdb and tested and not failed
                and all(each.agreeing(SAME[precision]) for each in tested))


def verdict(dataset: Dataset, tested: Sequence[Measured], failed: Sequence[str], folder: str, precision: str,
            twins: int) -> str:
    """The page."""
    tolerance = SAME[precision]
    good, bad, todo = [], list(failed), []
    counts = ", ".join(f"{len(split)} {name}" for name, split in dataset.splits.items())
    if dataset.is_full_rafdb:
        good.append(f"the set is RAF-DB basic by its class counts ({counts}; layout {dataset.layout})")
    else:
        bad.append(f"the set is not RAF-DB basic by its class counts ({counts}; 12,271 train and 3,068 test were "
                   "published), so no accuracy on it says anything about the published ones")
        todo.append(f"run python -m poster_ada.data check {dataset.root}, and mend the copy or ask the authors for it")
    if twins:
        bad.append(f"{twins} test faces have an equal picture or near copy in train")
        todo.append("report the accuracy without them too: python -m poster_ada.test prints it")
    lines = [f"{'file':30} {'size':6}{'head':9}{'BGR':>7}{'RGB':>7}  {'label-margin':30} published"]
    for each in tested:
        counted = ", ".join(f"{score:.2f} (m = {margin})" for margin, score in each.label_margin.items()) or "-"
        published = ", ".join(f"{value:.2f} ({where})" for where, value in each.published.items()) or "nothing"
        in_both = "".join(f"{each.accuracy[order]:7.2f}" for order in ("BGR", "RGB"))
        lines.append(f"{each.name[:30]:30} {each.size:6}{each.head:9}{in_both}  {counted:30} {published}")
        best = max(each.accuracy, key=lambda order: each.accuracy[order])
        if where := each.agreeing(tolerance):
            good.append(f"{each.name}: {', '.join(where)}, within {tolerance} points")
        elif not each.published:
            bad.append(f"{each.name}: nothing was published for {each.size} with {each.head}; its accuracy is "
                       f"{each.accuracy[each.channel_order]:.2f}")
        else:
            bad.append(f"{each.name}: none of its published numbers, within {tolerance} points")
            if max(each.accuracy.values()) < 50 and dataset.is_full_rafdb:
                todo.append(f"{each.name} is far from trained on these faces: fetch it again, and compare a few labels "
                            "with their pictures")
            elif best == each.channel_order:
                todo.append(f"{each.name}: compare with --precision float32, then see whether it is the published file")
        if best != each.channel_order:
            todo.append(f"{each.name} asks for {each.channel_order} but is better in {best}: it was trained so; tell "
                        "whoever made it")
        if each.label_margin and each.accuracy[each.channel_order] >= max(each.label_margin.values()):
            good.append(f"{each.name}: margin-free {each.accuracy[each.channel_order]:.2f} is no less than either "
                        "label-margin count, as it must be")
    if not any(each.name == RAFDB_FILE for each in tested):
        todo.append(f"fetch the published POSTER-l ({folder}/{RAFDB_FILE}) with python -m poster_ada.download rafdb, "
                    "and run this again")
    seconds = sum(each.seconds for each in tested)
    return "\n".join([
        f"RAF-DB verdict: {dataset.root}, {len(dataset.test)} test faces, {precision}, {seconds / 60:.1f} minutes of "
        "testing; accuracies in percent", "", *(lines if tested else [f"no checkpoint was tested ({folder}/)"]), "",
        "Agrees:", *(f"  + {line}" for line in good or ["nothing"]), "Does not:",
        *(f"  - {line}" for line in bad or ["nothing"]), "Next:",
        *(f"  {number}. {line}" for number, line in enumerate(todo or ["train"], 1)), "",
        *training_lines(str(dataset.root)),
    ])
