"""Train a model: `python -m poster_ada.train`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poster_ada.data.named_sets import NAMED_SETS
from poster_ada.devices import DEVICES, gpu_numbers, visible_to_children
from poster_ada.errors import InputError, command
from poster_ada.flags import CommandParser, add_settings, given_settings
from poster_ada.model.config import HEADS, PRESETS, PosterConfig, size_name
from poster_ada.training.recipe import HEAD_RECIPES, SCHEDULES, VARIANTS, TrainConfig, fit_recipe

if TYPE_CHECKING:
    from poster_ada.data.layouts import Dataset

DEMO = "data/demo"


def parser() -> CommandParser:
    """The published flags, and this project's."""
    presets = {preset: schedules["full"] for preset, schedules in SCHEDULES.items()}
    p = CommandParser(
        "train", description="Train POSTER with a choice of heads. Without flags: the published recipe for "
        "POSTER-large on RAF-DB. Everything goes to runs/<name>/; the same command twice trains once.",
        epilog="Try it without any download: python -m poster_ada.train --demo",
        other_names={"--modeltype": "--preset", "--run": "--run-dir"},
    )
    data = p.add_argument_group("data")
    data.add_argument("--demo", action="store_true", help="train the nano preset on the demo faces (a minute or two)")
    data.add_argument("--dataset", choices=tuple(NAMED_SETS), help="published data set: its folder, and with it the "
                      "variant, learning rate and sampling that were published for it (default rafdb)")
    data.add_argument("--data", metavar="ROOT", help="folder of any face set (default: the data set's)")
    data.add_argument("--classes", type=int, metavar="N", help="7 or 8, where a set comes with both")
    add_settings(data, TrainConfig, ("augmentation", "balanced", "select_on", "validation_fraction"), presets)
    data.add_argument("--workers", type=int, metavar="N", help="processes that decode faces that memory does not hold")
    model = p.add_argument_group("model")
    model.add_argument("--preset", choices=tuple(PRESETS), metavar="SIZE",
                       help=f"{', '.join(PRESETS)} (default large; nano with --demo)")
    model.add_argument("--head", choices=(*HEADS, *HEAD_RECIPES), help="adaface is the published setting, adaface-fer "
                       "the one that this project's study found (default mlp)")
    add_settings(model, PosterConfig, (
        "margin", "scale", "scale_rule", "class_vectors", "concentration", "t_alpha", "norm_source", "channel_order"))
    model.add_argument("--variant", choices=tuple(VARIANTS), help="the report's w/MLP, w/IRf or w/DA")
    add_settings(model, TrainConfig, ("checkpoint", "pretrained"))
    recipe = p.add_argument_group("recipe")
    add_settings(recipe, TrainConfig, (
        "epochs", "batch_size", "val_batch_size", "lr", "decay", "gamma", "warmup", "optimizer", "momentum",
        "weight_decay", "rho", "clip_norm", "average", "targets", "label_smoothing", "logit_adjustment",
        "class_balance", "quality_weight", "quality_from", "seed"), presets)
    machine = p.add_argument_group("machine and output")
    machine.add_argument("--gpu", metavar="0,1", help="GPUs to use, one process each, counted among those that "
                         "CUDA_VISIBLE_DEVICES leaves (default: the first, or the CPU)")
    machine.add_argument("--device", choices=DEVICES, default="auto", help="cpu to leave GPUs alone (default auto)")
    add_settings(machine, TrainConfig, ("precision", "compile"))
    machine.add_argument("--run-dir", metavar="DIR", help="folder of the run (default runs/<name from the settings>); "
                         "--run is understood too, but not under torchrun, which takes it for a flag of its own")
    machine.add_argument("--resume", action="store_true", help="go on with the unfinished run in that folder, or from "
                         "a finished one with fewer epochs")
    machine.add_argument("--quiet", action="store_true", help="no progress bar, no epoch lines")
    return p


def open_named_set(name: str | None, root: str | None, num_classes: int | None) -> Dataset:
    """The set that --dataset, --data and --classes name together.

    Raises:
        InputError: it is not there, or what is there is not what was named.
    """
    named = NAMED_SETS[name or "rafdb"]
    place = Path(root or named.root)
    if not place.is_dir() and not root:
        raise InputError(f"{place} is not there; data/README.md says how to get it. To try without any download: "
                         "python -m poster_ada.train --demo")
    from poster_ada.data.datasets import open_dataset

    if name is None:
        return open_dataset(place, num_classes=num_classes, needs=("train",))
    return open_dataset(place, num_classes=num_classes or named.num_classes, needs=("train",), family=named.family)


def configure(args: argparse.Namespace) -> tuple[TrainConfig, Dataset]:
    """Flags to a configuration that fits the data, and the opened data."""
    given: dict[str, Any] = given_settings(args, TrainConfig, PosterConfig)
    preset = given.pop("preset", None) or ("nano" if args.demo else "large")
    root = given.pop("data", None)
    TrainConfig.for_preset(preset, **given)  # a value out of range is told before faces are read
    base = None
    if args.checkpoint:
        from poster_ada.checkpoints.create import load_checkpoint

        base = load_checkpoint(args.checkpoint).config
        if args.preset not in (None, preset := size_name(base)):
            raise InputError(f"{args.checkpoint} is a {preset} model, not {args.preset}; leave out --preset.")
    if args.demo and not root and not Path(DEMO).is_dir():
        raise InputError(f"{DEMO} is not here: the demo faces come with the project's git clone, not with the package; "
                         "run this command inside a clone, or give a face set with --data.")
    dataset = open_named_set(args.dataset, root or (DEMO if args.demo else None), args.classes)
    return fit_recipe(dataset, preset, base=base, **(VARIANTS.get(args.variant, {}) | given)), dataset


def launch(gpus: list[int], argv: Sequence[str]) -> int:
    """Start this command once per GPU and wait for all."""
    words = [("--run-dir" + word.removeprefix("--run") if word == "--run" or word.startswith("--run=") else word)
             for word in argv]  # torchrun reads the whole line first, and takes --run for the start of one of its own
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={len(gpus)}",
         "-m", "poster_ada.train", *words],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": visible_to_children(gpus)}, check=False,
    ).returncode


@command
def main(argv: Sequence[str] | None = None) -> int | None:
    """Command line."""
    argv = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(argv)
    gpus = gpu_numbers(args.gpu) if args.gpu else []
    if "LOCAL_RANK" in os.environ:
        args.gpu = None  # the launcher has dealt them out
    elif len(gpus) > 1 and args.device != "cpu":
        from poster_ada.devices import choose_device

        if choose_device(args.device, args.gpu).type == "cuda":
            return launch(gpus, argv)
        args.gpu = None
    config, dataset = configure(args)
    from poster_ada.data.pictures import WORKERS
    from poster_ada.training.loop import result_lines, train
    from poster_ada.training.runs import Run, default_folder

    folder = Path(args.run_dir) if args.run_dir else default_folder(config, dataset)
    already = Run(folder).finished and len(Run(folder).log) == config.epochs
    run = train(config, args.run_dir, device=args.device, gpu=args.gpu, resume=args.resume, quiet=args.quiet,
                dataset=dataset, workers=args.workers or WORKERS)
    if already and not args.quiet:
        print(f"this run was finished before.\n{result_lines(run)}")
    return None


if __name__ == "__main__":
    main()
