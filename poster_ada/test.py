"""Testing: `python -m poster_ada.test --checkpoint checkpoint/rafdb_best.pth -p`.

Writes predictions.csv, metrics.json and, with `-p`, confusion_matrix.{png,pdf,csv}.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from poster_ada.checkpoints.published import load_checkpoint, write_atomically
from poster_ada.data import Dataset, open_dataset
from poster_ada.errors import InputError, command
from poster_ada.evaluation.predict import LABEL_MARGIN_BATCH, PROTOCOLS, predict
from poster_ada.evaluation.metrics import compare, confusion_matrix, metrics
from poster_ada.model.poster import PRESETS, PosterConfig
from poster_ada.model.precision import PRECISIONS, resolve_precision
from poster_ada.evaluation.predictions import read_predictions, write_predictions

DEFAULT_ROOTS = {"rafdb": "data/raf-basic", "affectnet": "data/AffectNet", "affectnet8class": "data/AffectNet"}


def parser() -> argparse.ArgumentParser:
    """The published flags, in both spellings, and this project's."""
    p = argparse.ArgumentParser(
        "python -m poster_ada.test", description="Test a checkpoint, published (.pth) or this project's "
        "(.safetensors): size, head, classes and channel order are read from it. Predictions never see a label.",
        epilog="Example without RAF-DB: python -m poster_ada.test --checkpoint runs/<name>/best.safetensors "
        "--data data/demo -p",
    )
    p.add_argument("-c", "--checkpoint", required=True, metavar="FILE", help=".pth, .pth.tar or .safetensors")
    p.add_argument("--dataset", choices=tuple(DEFAULT_ROOTS), default="rafdb", help="published data set: sets the "
                   "default folder and AffectNet's number of classes (default rafdb)")
    p.add_argument("--data", metavar="ROOT", help="folder of any face set (default data/raf-basic, or data/AffectNet)")
    p.add_argument("--out", metavar="DIR", help="where to write (default runs/test-<checkpoint>)")
    p.add_argument("-p", "--plot_cm", "--plot-cm", action="store_true", help="also save the confusion matrix")
    p.add_argument("--compare", metavar="CSV", help="predictions.csv of another model on the same faces: also print "
                   "the difference in accuracy with its interval and McNemar's exact test")
    p.add_argument("--protocol", choices=PROTOCOLS, default=PROTOCOLS[0], help="label-margin is the report's: the "
                   f"margin is taken off the true class, in batches of {LABEL_MARGIN_BATCH}; this is no accuracy")
    p.add_argument("--precision", choices=PRECISIONS, default="float32", help="auto: bfloat16 where the "
                   "machine multiplies it natively; half the time, rounding in the third digit (default float32)")
    p.add_argument("--val_batch_size", "--val-batch-size", type=int, default=32, help="faces at a time (default 32)")
    p.add_argument("--workers", type=int, help="processes that decode faces, where memory does not hold them all")
    p.add_argument("--gpu", metavar="0", help="GPU to use; of several (0,1) the first (default: the first, or the CPU)")
    p.add_argument("--modeltype", choices=tuple(PRESETS), help="size; only compared with what the checkpoint says")
    p.add_argument("--quiet", action="store_true", help="no progress bar, no table")
    unused = p.add_argument_group("accepted because published commands carry them", "they set training, not testing")
    for name in ("batch_size", "optimizer", "lr", "momentum", "epochs"):
        unused.add_argument(*dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}")), help="no effect here")
    return p


def test(args: argparse.Namespace) -> None:
    """Predict, score, print and write, as the flags say."""
    if args.val_batch_size < 1:
        raise InputError(f"--val-batch-size is {args.val_batch_size}; it must be at least 1.")
    margin_free = args.protocol == "margin-free"
    if args.compare and not margin_free:
        raise InputError("--compare needs accuracies; leave out --protocol label-margin, which gives none.")
    if args.plot_cm:
        _import_plotting()
    other = read_predictions(args.compare) if args.compare else None
    root = Path(args.data or DEFAULT_ROOTS[args.dataset])
    if not root.is_dir() and not args.data:
        raise InputError(f"{root} is not there; data/README.md says how to get it, or test on the demo faces with "
                         "--data data/demo.")
    checkpoint = Path(args.checkpoint)
    model = load_checkpoint(checkpoint)
    classes = model.config.num_classes
    dataset = open_dataset(root, check=False, num_classes=8 if args.dataset == "affectnet8class" or classes == 8 else 7)
    check_fit(model.config, dataset, checkpoint, args.modeltype)
    device = device_for(args.gpu)
    predictions = predict(model, dataset.test, device, args.val_batch_size, args.precision, args.protocol,
                          quiet=args.quiet, workers=args.workers)

    scores = metrics(predictions)
    dtype = resolve_precision(args.precision, torch.device(device), model.config)
    record: dict[str, Any] = {
        "data": dataset.name, "protocol": args.protocol, "checkpoint": checkpoint.name, "sha256": sha256(checkpoint),
        "size": size_name(model.config), "head": model.config.head, "channel_order": model.config.channel_order,
        "precision": str(dtype).removeprefix("torch."),
        "faces": len(predictions),
    }
    if margin_free:
        record |= scores
    else:
        record |= {"label_margin_score": scores["accuracy"], "label_margin_macro_f1": scores["macro_f1"],
                   "note": "the margin was taken off the true class: these are no accuracy and no F1 of the classifier"}
    if other is not None:
        record["compared_with"] = compare(predictions, other)

    out = Path(args.out) if args.out else default_folder(checkpoint, args.protocol)
    write_predictions(predictions, out / "predictions.csv")
    text = json.dumps(record, indent=1) + "\n"
    write_atomically(out / "metrics.json", lambda temporary: temporary.write_text(text))
    if args.plot_cm:
        save_confusion(predictions, model.config.class_names, dataset.name, out, margin_free)

    if margin_free:
        if not args.quiet:
            print(score_table(scores))
        print(f"Test accuracy: {scores['accuracy']:.4f}")
    else:
        print(f"Label-margin score: {scores['accuracy']:.4f} (not an accuracy: the margin was taken off the true "
              "class; leave out --protocol for the accuracy)")
    if other is not None:
        print(comparison_line(record["compared_with"], args.compare))
    if not args.quiet:
        print(f"{len(predictions)} test faces of {dataset.name}; everything is in {out}")


def check_fit(config: PosterConfig, dataset: Dataset, checkpoint: Path, modeltype: str | None) -> None:
    """Raise InputError where the checkpoint does not fit the data or the flags; note an unusual channel order."""
    if modeltype not in (None, size := size_name(config)):
        raise InputError(f"{checkpoint} is a {size} model, not {modeltype}; leave out --modeltype or set it to {size}.")
    if dataset.class_names != config.class_names:
        raise InputError(
            f"{checkpoint} was trained on the classes {', '.join(config.class_names)}, but {dataset.root} has "
            f"{', '.join(dataset.class_names)}; give --data a face set with the checkpoint's classes in its order."
        )
    if dataset.channel_order != config.channel_order:
        print(f"note: {checkpoint} takes {config.channel_order} and gets it; {dataset.name} is usually fed in "
              f"{dataset.channel_order}.", file=sys.stderr)


def size_name(config: PosterConfig) -> str:
    """The preset that has this size, or the depth of one that has none."""
    size = (config.depth, config.embed_dim)
    return next((name for name, preset in PRESETS.items() if (preset.depth, preset.embed_dim) == size),
                f"depth-{config.depth}")


def device_for(gpu: str | None) -> str:
    """`--gpu` to a torch device; says so where it cannot be followed."""
    if gpu is not None and not all(part.strip().isdecimal() for part in gpu.split(",")):
        raise InputError(f"--gpu {gpu} is not a list of GPU numbers such as 0 or 0,1.")
    if not torch.cuda.is_available():
        if gpu is not None:
            print(f"--gpu {gpu}: torch sees no GPU here; testing on the CPU.", file=sys.stderr)
        return "cpu"
    first, *rest = (int(part) for part in (gpu or "0").split(","))
    if first >= torch.cuda.device_count():
        raise InputError(f"there is no GPU {first}; torch sees {torch.cuda.device_count()}, counted from 0.")
    if rest:
        print(f"--gpu {gpu}: testing uses one GPU, the first: {first}.", file=sys.stderr)
    return f"cuda:{first}"


def default_folder(checkpoint: Path, protocol: str) -> Path:
    """`runs/test-<checkpoint>`; a run's `best.safetensors` goes by the run's name."""
    stem = checkpoint.stem
    if stem in ("best", "last"):
        stem = f"{checkpoint.resolve().parent.name}-{stem}"
    return Path("runs") / (f"test-{stem}" if protocol == "margin-free" else f"test-{stem}-{protocol}")


def sha256(path: Path) -> str:
    """Of the file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def score_table(scores: dict[str, Any]) -> str:
    """Scores of every class and of all faces, as text."""
    show = lambda value: "    -    " if value is None else f"{value:9.4f}"  # noqa: E731
    width = max(12, *map(len, scores["per_class"]))
    lines = [f"{'':{width}}    faces precision   recall       F1"]
    lines += [f"{name:{width}}{row['support']:9d} {show(row['precision'])}{show(row['recall'])}{show(row['f1'])}"
              for name, row in scores["per_class"].items()]
    if scores["absent_classes"]:
        lines.append(f"without test faces, and so left out of the means: {', '.join(scores['absent_classes'])}")
    for name in ("accuracy", "mean class accuracy", "macro F1"):
        key = name.lower().replace(" ", "_")
        low, high = scores["intervals"][key]
        lines.append(f"{name:20}{scores[key]:.4f}  (95 % interval {low:.4f} to {high:.4f})")
    return "\n".join([*lines, f"{'calibration error':20}{scores['calibration_error']:.4f}"])


def comparison_line(result: dict[str, Any], other: str) -> str:
    """One line on the difference to the other table."""
    low, high = result["interval"]
    return (f"against {other}: {result['accuracy_a']:.4f} and {result['accuracy_b']:.4f}, difference "
            f"{result['difference']:+.4f} (95 % interval {low:+.4f} to {high:+.4f}); right only here "
            f"{result['only_a_right']}, only there {result['only_b_right']}, McNemar p = {result['p_value']:.3g}")


def save_confusion(
    predictions: pd.DataFrame, class_names: Sequence[str], data: str, out: Path, margin_free: bool = True
) -> None:
    """Write the row-normalised confusion matrix as confusion_matrix.{csv,png,pdf}."""
    figures = _import_plotting()
    from matplotlib import pyplot as plt

    matrix = confusion_matrix(predictions, normalise=True)
    table = pd.DataFrame(matrix, pd.Index(class_names, name="true"), class_names)
    write_atomically(out / "confusion_matrix.csv", lambda temporary: table.to_csv(temporary, float_format="%.6f"))
    figures.apply_style()
    fig, axis = plt.subplots(figsize=(figures.COLUMN_WIDTH, figures.COLUMN_WIDTH))
    figures.draw_confusion(axis, np.asarray(matrix), class_names)
    axis.set_title(data if margin_free else f"{data}; label-margin protocol: not predictions")
    for kind in ("png", "pdf"):
        write_atomically(out / f"confusion_matrix.{kind}",
                         lambda temporary, kind=kind: fig.savefig(temporary, format=kind))
    plt.close(fig)


def _import_plotting() -> Any:
    try:
        import matplotlib

        matplotlib.use("Agg")  # a test needs no screen
        from poster_ada import figures
    except ImportError as error:
        raise InputError(f"-p needs {error.name}: pip install 'poster-ada[notebooks]', or leave out -p.") from None
    return figures


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    test(parser().parse_args(argv))


if __name__ == "__main__":
    main()
