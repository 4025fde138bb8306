"""The plain published way against this project's default, in one run and in turn: `python -m benchmarks`.

Writes a table (.csv, .md) and a figure (.pdf, .png) to benchmarks/results/, named after the kind of machine. Parts that
this run leaves out keep the rows of an earlier one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import pandas as pd
import torch

from benchmarks.busy import busy_rows
from benchmarks.data_pipeline import pipelines
from benchmarks.limit import multiply_rate, prediction_operations, step_operations
from benchmarks.memory import peak_memory
from benchmarks.peers import face_by_face, peer_rows
from benchmarks.precision import precision_rows
from benchmarks.profile import time_by_operation
from benchmarks.report import PARTS, WAYS, write_report
from benchmarks.timing import Work, alternate
from benchmarks.ways import model_of, prediction, prediction_ways, predictor, training_step, training_ways
from poster_ada.checkpoints.create import load_checkpoint
from poster_ada.checkpoints.published import export_published, published_name
from poster_ada.data.datasets import open_dataset
from poster_ada.data.loader import FaceLoader
from poster_ada.data.transforms import EvaluationTransform
from poster_ada.errors import InputError, command
from poster_ada.model.config import PRESETS
from poster_ada.model.poster import Poster
from poster_ada.model.precision import multiplies_bfloat16, resolve_precision

RAFDB_TRAINING_FACES = 12_271
QUICK = {"only": ("inference", "training", "data", "checkpoint"), "sizes": ("nano", "large"), "repeats": 2}


class Bench:
    """One run: the machine, its limits and the settings that every part shares."""

    def __init__(self, given: argparse.Namespace, folder: Path) -> None:
        self.given, self.folder = given, folder
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.faces = open_dataset(given.faces, check=False)
        native = [torch.float32, *([torch.bfloat16] if multiplies_bfloat16(self.device) else [])]  # emulated: too slow
        self.rates = {dtype: multiply_rate(dtype, self.device) for dtype in native}

    @property
    def machine(self) -> str:
        """What decides the numbers, without naming a computer."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name().lower().replace(" ", "-")
        return f"cpu-{torch.get_num_threads()}-threads" + ("-bf16" if multiplies_bfloat16(self.device) else "")

    @property
    def table(self) -> str:
        """Name of the files with this run's rows; two rounds do not replace those of a whole run."""
        return self.machine + ("-quick" if self.given.quick else "")

    def rows(self, part: str, size: str, batch: int, ways: dict[str, Work], unit: str = "images/s") -> list[dict]:
        """Time `ways` in turn; one row each, with the gain over the first."""
        rates = alternate(ways, self.given.repeats)
        plain = rates[next(iter(rates))]
        return [{
            "part": part, "model": size, "batch": batch, "way": way, "rate": median(values), "low": min(values),
            "high": max(values), "unit": unit, "gain": median(a / b for a, b in zip(values, plain, strict=True)),
        } for way, values in rates.items()]

    def chosen(self, ways: list[str]) -> list[str]:
        """Those of `ways` that --ways names."""
        return [way for way in ways if way in (self.given.ways or ways)]

    def limited(self, rows: list[dict], operations: int) -> list[dict]:
        """Add the share of what the machine's matrix-multiply rate allows; int8 has no such measured limit."""
        for row in rows:
            if not row["way"].endswith("int8"):
                single = row["way"] == "plain" or row["way"].endswith("float32")
                dtype = torch.float32 if single else resolve_precision("auto", self.device, PRESETS[row["model"]])
                row["share_of_limit"] = row["rate"] * operations / self.rates[dtype]
        return rows

    def with_memory(self, rows: list[dict], part: str, folder: Path | None = None) -> list[dict]:
        """Add each way's peak memory."""
        for row in [] if self.given.quick else rows:
            row["peak_mib"] = peak_memory(part, row["way"], row["model"], row["batch"], self.device, folder)
        return rows

    def inference(self) -> Iterator[list[dict]]:
        for size in self.given.sizes:
            for batch in (1, 32, 200) if self.device.type == "cuda" else (1, 32):
                ways = {
                    way: prediction(way, size, batch, self.device, calibration=self.faces.train, folder=self.folder)
                    for way in self.chosen(prediction_ways(self.device))
                    if not (self.given.quick and way.endswith("int8"))
                }
                operations = prediction_operations(model_of(size, self.device))
                rows = self.limited(self.rows("inference", size, batch, ways), operations)
                del ways
                yield self.with_memory(rows, "prediction", self.folder) if batch == 32 else rows

    def training(self) -> Iterator[list[dict]]:
        if self.device.type == "cuda":
            jobs = [(size, 200) for size in ("small", "large")]
        else:
            jobs = [("nano", 64), ("small", 16)][:1 if self.given.quick else 2]
        for size, batch in jobs:
            chosen = self.chosen(training_ways(self.device))
            ways = {way: training_step(way, size, batch, self.device) for way in chosen}
            rows = self.limited(self.rows("training", size, batch, ways), step_operations(model_of(size, self.device)))
            if self.given.profile:
                self.given.out.mkdir(parents=True, exist_ok=True)
                text = time_by_operation(ways[rows[-1]["way"]], self.device)
                (self.given.out / f"{self.machine}-{size}-step.txt").write_text(
                    f"{size}, {rows[-1]['way']}\n{text}", encoding="utf-8")
            del ways
            for row in rows:
                row["rafdb_epoch_seconds"] = RAFDB_TRAINING_FACES / row["rate"]
            yield self.with_memory(rows, "training")

    def busy(self) -> Iterator[list[dict]]:
        if self.device.type == "cpu":
            yield busy_rows(repeats=min(self.given.repeats, 3))

    def precision(self) -> Iterator[list[dict]]:
        if multiplies_bfloat16(torch.device("cpu")):
            yield precision_rows(self.faces)

    def data(self) -> Iterator[list[dict]]:
        ways = pipelines(self.faces.train, self.device)
        yield self.rows("data", "", min(200, len(self.faces.train)), ways)

    def checkpoint(self) -> Iterator[list[dict]]:
        """Opening a published POSTER-large file: build the network, read, copy; against `load_checkpoint`."""
        path = self.folder / "large.pth"
        export_published(model_of("large", torch.device("cpu")), path)

        def plain() -> int:
            model = Poster()
            tensors = torch.load(path, weights_only=True)["model_state_dict"]
            model.load_state_dict({name: tensors[published_name(name)] for name in model.state_dict()})
            return 1

        yield self.rows("checkpoint", "large", 1, {"plain": plain, "default": lambda: bool(load_checkpoint(path))},
                        unit="files/s")

    def peers(self) -> Iterator[list[dict]]:
        """What people install today beside a checkpoint, on the sets of --peer-sets."""
        if not self.given.peer_sets:
            return
        name = str(self.given.checkpoint or "mini-ferplus")
        model = load_checkpoint(name)
        rows = list(peer_rows(model, name, self.given.peer_sets))
        yield rows + self.rows("peers", "one face at a time", 1, face_by_face(model, name, self.faces.test), "faces/s")

    def agreement(self) -> Iterator[list[dict]]:
        """Predictions on the test faces against the plain way's: share that is equal, largest difference of a logit."""
        checkpoint = self.given.checkpoint
        model = load_checkpoint(checkpoint).to(self.device) if checkpoint else model_of("large", self.device).eval()
        c = model.config
        ways = [way for way in prediction_ways(self.device) if way not in ("compiled", "cuda-graph")]
        folder = self.folder / "agreement"
        predictors = {way: predictor(way, model, self.faces.train, folder) for way in ways}
        logits: dict[str, list[torch.Tensor]] = {way: [] for way in ways}
        transform = EvaluationTransform(c.image_size, c.stream_size, c.channel_order)
        for images, *_ in FaceLoader(self.faces.test, transform, 32, device=self.device):
            with torch.inference_mode():
                for way, predict in predictors.items():
                    logits[way].append(predict(images).float().cpu())
        outputs = {way: torch.cat(values) for way, values in logits.items()}
        yield [{
            "part": "agreement", "model": checkpoint.stem if checkpoint else "large, random", "batch": 32, "way": way,
            "faces": len(values), "agreement": float((values.argmax(1) == outputs["plain"].argmax(1)).double().mean()),
            "largest_difference": float((values - outputs["plain"]).abs().max()),
        } for way, values in outputs.items()]


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    p = argparse.ArgumentParser("python -m benchmarks", description=__doc__.splitlines()[0])
    p.add_argument("--only", nargs="+", choices=PARTS[1:], default=PARTS[1:], help="default all")
    p.add_argument("--quick", action="store_true", help="minutes: nano and large, two rounds, without int8, peak "
                   "memory, busy machines and agreement; to a table of its own, <machine>-quick")
    p.add_argument("--ways", nargs="+", choices=tuple(WAYS), metavar="WAY", help=f"of inference and training: "
                   f"{', '.join(WAYS)} (default all; compiled and cuda-graph take minutes to begin)")
    p.add_argument("--sizes", nargs="+", choices=("nano", "small", "base", "large"), default=("small", "base", "large"),
                   help="for inference (default small base large)")
    p.add_argument("--faces", metavar="ROOT", default="data/demo", help="face set to read, to calibrate int8 on and to "
                   "compare predictions on (default data/demo)")
    p.add_argument("--checkpoint", type=Path, metavar="FILE", help="weights for the agreement (default random "
                   "ones) and the peers (default mini-ferplus)")
    p.add_argument("--peer-sets", type=Path, nargs="+", metavar="ROOT", default=[], help="face sets to compare with "
                   "the package fer on, as data/ferplus (see benchmarks/peers.py for what to install)")
    p.add_argument("--repeats", type=int, default=5, help="rounds, of which the median counts (default 5)")
    p.add_argument("--profile", action="store_true", help="also write what the last way's training step spends time on")
    p.add_argument("--out", type=Path, metavar="DIR", default=Path("benchmarks/results"))
    return p


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    flags = parser()
    given = flags.parse_args(argv)
    if given.quick:
        flags.set_defaults(**QUICK)
        given = flags.parse_args(argv)
    if given.repeats < 1:
        raise InputError(f"--repeats is {given.repeats}; it must be at least 1.")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(given, Path(folder))
        for dtype, rate in bench.rates.items():
            print(f"matrix product, {str(dtype).removeprefix('torch.')}: {rate / 1e9:.0f} GFLOP/s", flush=True)
        rows: list[dict] = [{"part": "limit", "way": str(dtype).removeprefix("torch."), "rate": rate / 1e9,
                             "unit": "GFLOP/s"} for dtype, rate in bench.rates.items()]
        for part in given.only:
            for measured in getattr(bench, part)():
                rows += measured
                print(pd.DataFrame(measured).dropna(axis=1).to_string(index=False, float_format="%.4g"), flush=True)
                write_report(pd.DataFrame(rows), given.out, bench.table)  # now: what follows may be stopped
    print(f"everything is in {given.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
