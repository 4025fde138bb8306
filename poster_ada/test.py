"""Test a checkpoint: `python -m poster_ada.test --checkpoint checkpoint/rafdb_best.pth -p`.

Writes predictions.csv, metrics.json and, with `-p`, confusion_matrix.{png,pdf,csv}.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poster_ada.checkpoints.names import SHIPPED, checkpoint_path
from poster_ada.data.named_sets import NAMED_SETS
from poster_ada.devices import DEVICES
from poster_ada.errors import InputError, command
from poster_ada.evaluation.protocol import LABEL_MARGIN_BATCH, PROTOCOLS
from poster_ada.files import sha256_of, write_atomically, write_json_atomically
from poster_ada.flags import CommandParser, add_settings, given_settings
from poster_ada.model.config import PRESETS, PosterConfig, size_name
from poster_ada.model.precision import PRECISIONS, resolve_precision
from poster_ada.training.recipe import TrainConfig

if TYPE_CHECKING:
    import pandas as pd

    from poster_ada.data.layouts import Dataset



def parser() -> CommandParser:
    """The published flags, and this project's."""
    p = CommandParser(
        "test", description="Test a checkpoint, published (.pth) or this project's (.safetensors): size, head, classes "
        "and channel order are read from it. Predictions never see a label.",
        epilog="Example without RAF-DB: python -m poster_ada.test --checkpoint runs/<name>/best.safetensors "
        "--data data/demo -p", other_names={"--modeltype": "--preset"},
    )
    p.add_argument("-c", "--checkpoint", required=True, metavar="FILE", help=".pth, .pth.tar or .safetensors, or "
                   f"what comes with the package: {', '.join(SHIPPED)}")
    p.add_argument("--dataset", choices=tuple(NAMED_SETS), help="published data set: sets the default folder and the "
                   "number of classes (default rafdb)")
    p.add_argument("--data", metavar="ROOT", help="folder of any face set (default: the data set's)")
    p.add_argument("--classes", type=int, metavar="N", help="7 or 8, where a set comes with both")
    p.add_argument("--out", metavar="DIR", help="where to write (default runs/test-<checkpoint>-<data>)")
    p.add_argument("-p", "--plot-cm", action="store_true", help="also save the confusion matrix")
    p.add_argument("--compare", metavar="CSV", help="predictions.csv of another model on the same faces: also print "
                   "the difference in accuracy with its interval and McNemar's exact test")
    p.add_argument("--protocol", choices=PROTOCOLS, default=PROTOCOLS[0], help="label-margin is the report's: the "
                   f"margin is taken off the true class, in batches of {LABEL_MARGIN_BATCH}; this is no accuracy")
    told = p.add_argument_group("what a published margin checkpoint does not hold", "for --protocol label-margin")
    add_settings(told, PosterConfig, ("margin", "norm_source"))
    p.add_argument("--precision", choices=PRECISIONS, default="float32", help="auto: bfloat16 where the "
                   "machine multiplies it natively; half the time, rounding in the third digit (default float32)")
    p.add_argument("--mirror", action="store_true", help="average each face's probabilities with those of its mirror "
                   "image, at twice the cost")
    add_settings(p, TrainConfig, ("val_batch_size",))
    p.add_argument("--workers", type=int, metavar="N", help="processes that decode faces that memory does not hold")
    p.add_argument("--gpu", metavar="0", help="GPU to use, counted among those that CUDA_VISIBLE_DEVICES leaves; of "
                   "several (0,1) the first (default: the first, or the CPU)")
    p.add_argument("--device", choices=DEVICES, default="auto", help="cpu to leave GPUs alone (default auto)")
    p.add_argument("--preset", choices=tuple(PRESETS), metavar="SIZE",
                   help="only compared with what the checkpoint says")
    p.add_argument("--quiet", action="store_true", help="no progress bar, no table")
    unused = p.add_argument_group("accepted because published commands carry them", "they set training, not testing")
    for name in ("batch-size", "optimizer", "lr", "momentum", "epochs"):
        unused.add_argument(f"--{name}", metavar="X", help="no effect here")
    return p


def test(args: argparse.Namespace) -> None:
    """Predict, score, print and write, as the flags say."""
    TrainConfig(**given_settings(argparse.Namespace(val_batch_size=args.val_batch_size), TrainConfig))
    margin_free = args.protocol == "margin-free"
    if args.compare and not margin_free:
        raise InputError("--compare needs accuracies; leave out --protocol label-margin, which gives none.")
    if args.plot_cm:
        _import_plotting()
    from poster_ada.checkpoints.create import load_checkpoint
    from poster_ada.devices import choose_device
    from poster_ada.evaluation.metrics import compare, compute_metrics
    from poster_ada.evaluation.predict import predict_split
    from poster_ada.evaluation.predictions import class_names_of, read_predictions, write_predictions

    other = read_predictions(args.compare) if args.compare else None
    named = NAMED_SETS[args.dataset or "rafdb"]
    root = Path(args.data or named.root)
    if not root.is_dir() and not args.data:
        raise InputError(f"{root} is not there; data/README.md says how to get it, or test on the demo faces with "
                         "--data data/demo.")
    checkpoint = checkpoint_path(args.checkpoint)
    model = load_checkpoint(checkpoint, margin=args.margin, norm_source=args.norm_source)
    if not margin_free and checkpoint.suffix != ".safetensors" and model.config.head != "mlp":
        print(f"assumed: margin {model.head.margin}, norm source {model.config.norm_source} (a published file does not "
              "say; --margin and --norm-source do).", file=sys.stderr)
    if args.preset not in (None, size := size_name(model.config)):
        raise InputError(f"{checkpoint} is a {size} model, not {args.preset}; leave out --preset or set it to {size}.")
    dataset = open_test_set(root, args.classes or (named.num_classes if args.dataset else None),
                            model.config.num_classes, named.family if args.dataset else None)
    if "grey" not in (both := {dataset.channel_order, model.config.channel_order}) and len(both) > 1:
        print(f"note: {checkpoint} takes {model.config.channel_order} and gets it; {dataset.name} is usually fed in "
              f"{dataset.channel_order}.", file=sys.stderr)
    device = choose_device(args.device, args.gpu)
    if device.type == "cuda" and "," in (args.gpu or ""):
        print(f"--gpu {args.gpu}: testing uses one GPU, the first: {device.index}.", file=sys.stderr)
    predictions = predict_split(model, dataset.test, device, batch_size=args.val_batch_size or 32,
                                precision=args.precision, protocol=args.protocol, mirror=args.mirror,
                                quiet=args.quiet, workers=args.workers)

    if matching := predictions.attrs["matching"]:
        print(f"note: {matching}.", file=sys.stderr)
    scores = compute_metrics(predictions)
    dtype = resolve_precision(args.precision, device, model.config)
    record: dict[str, Any] = {
        "data": dataset.name, "fingerprint": dataset.fingerprint(), "protocol": args.protocol,
        "checkpoint": checkpoint.name, "sha256": sha256_of(checkpoint), "size": size_name(model.config),
        "head": model.config.head, "channel_order": model.config.channel_order,
        "precision": str(dtype).removeprefix("torch."), "mirror": args.mirror, "faces": len(predictions),
        "classes": matching, "temperature": model.temperature,
    }
    alone = without_twins(dataset, predictions)
    if margin_free:
        record |= scores
        if alone is not None:
            record["test_without_twins"] = compute_metrics(alone)
    else:
        record |= {"label_margin_score": scores["accuracy"], "label_margin_macro_f1": scores["macro_f1"],
                   "margin": getattr(model.head, "margin", None), "norm_source": model.config.norm_source,
                   "note": "the margin was taken off the true class: these are no accuracy and no F1 of the classifier"}
    if other is not None:
        record["compared_with"] = compare(predictions, other)

    out = Path(args.out) if args.out else default_folder(checkpoint, dataset, args.protocol)
    write_predictions(predictions, out / "predictions.csv")
    write_json_atomically(out / "metrics.json", record)
    if args.plot_cm:
        save_confusion(predictions, class_names_of(predictions), dataset.name, out, margin_free)

    if margin_free:
        if not args.quiet:
            print(score_table(scores))
        print(f"Test accuracy: {scores['accuracy']:.4f}")
        if alone is not None:
            print(f"Without the test faces that have a twin in training: "
                  f"{record['test_without_twins']['accuracy']:.4f} ({len(alone)} faces)")
    else:
        print(f"Label-margin score: {scores['accuracy']:.4f} (not an accuracy: the margin was taken off the true "
              "class; leave out --protocol for the accuracy)")
    if other is not None:
        print(comparison_line(record["compared_with"], args.compare))
    if not args.quiet:
        print(f"{len(predictions)} test faces of {dataset.name}; everything is in {out}")


def open_test_set(root: Path, asked: int | None, of_model: int, family: str | None) -> Dataset:
    """The set to test on: with the classes that were asked for, else as many as the model has where the set can be
    read so, else all. Raises InputError as `open_dataset`."""
    from poster_ada.data.datasets import open_dataset

    how: dict[str, Any] = {"check": False, "needs": ("test",), "family": family}
    if asked or of_model in (7, 8):
        try:
            return open_dataset(root, num_classes=asked or of_model, **how)
        except InputError:
            if asked:
                raise
    return open_dataset(root, **how)


def without_twins(dataset: Dataset, predictions: pd.DataFrame) -> pd.DataFrame | None:
    """The predictions of faces without an equal picture or near copy in training, or None where all or none have one,
    or nobody looked."""
    from poster_ada.data.twins import twins_in_train

    if (twins := twins_in_train(dataset)) is None:
        return None
    kept = predictions[predictions["file"].isin([file for file, twin in zip(dataset.test.files, twins, strict=True)
                                                 if not twin])]
    return kept if 0 < len(kept) < len(predictions) else None


def default_folder(checkpoint: Path, dataset: Dataset, protocol: str) -> Path:
    """`runs/test-<checkpoint>-<data>`; a run's `best.safetensors` goes by the run's name.

    Where that folder holds a test of other faces that are called the same, the set's fingerprint tells them apart.
    """
    from poster_ada.training.runs import slug

    stem = checkpoint.stem
    if stem in ("best", "last"):
        stem = f"{checkpoint.resolve().parent.name}-{stem}"
    folder = Path("runs") / "-".join(
        ["test", stem, slug(dataset.name), *([] if protocol == "margin-free" else [protocol])])
    try:
        there = json.loads((folder / "metrics.json").read_text(encoding="utf-8")).get("fingerprint")
    except (OSError, ValueError):
        return folder
    return folder if there == dataset.fingerprint() else folder.with_name(f"{folder.name}-{dataset.fingerprint()[:6]}")


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
    import numpy as np
    import pandas as pd
    from matplotlib import pyplot as plt

    from poster_ada.evaluation.metrics import confusion_matrix

    matrix = confusion_matrix(predictions, normalise=True)
    table = pd.DataFrame(matrix, pd.Index(class_names, name="true"), class_names)
    write_atomically(out / "confusion_matrix.csv", lambda temporary: table.to_csv(temporary, float_format="%.6f"))
    figures.apply_style()
    fig, axis = plt.subplots(figsize=(figures.COLUMN_WIDTH, figures.COLUMN_WIDTH))
    figures.draw_confusion(axis, np.asarray(matrix), class_names)
    axis.set_title(data if margin_free else f"{data}; label-margin protocol: not predictions")
    for kind in ("png", "pdf"):
        write_atomically(out / f"confusion_matrix.{kind}", partial(fig.savefig, format=kind))
    plt.close(fig)


def _import_plotting() -> Any:
    try:
        import matplotlib

        matplotlib.use("Agg")  # a test needs no screen
        from poster_ada.paper import figures
    except ImportError as error:
        raise InputError(f"-p needs {error.name}: pip install 'poster-ada[notebooks]', or leave out -p.") from None
    return figures


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    test(parser().parse_args(argv))


if __name__ == "__main__":
    main()
