"""The day RAF-DB arrives: `python -m poster_ada.rafdb --data data/raf-basic`.

Checks counts and layout, tests every checkpoint in `checkpoint/` on the whole test split, in BGR and in RGB, and holds
the accuracies against the published ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from poster_ada.data.named_sets import NAMED_SETS
from poster_ada.devices import DEVICES
from poster_ada.errors import InputError, command
from poster_ada.files import write_json_atomically, write_text_atomically
from poster_ada.flags import CommandParser, add_settings, given_settings
from poster_ada.model.precision import PRECISIONS
from poster_ada.training.recipe import TrainConfig


def parser() -> CommandParser:
    """The command's flags."""
    p = CommandParser("rafdb", description="Check RAF-DB, test every published checkpoint on it, and say on one page "
                      "what agrees with the published numbers, what does not, and what to do next.")
    p.add_argument("--data", metavar="ROOT", default=NAMED_SETS["rafdb"].root, help="default %(default)s")
    p.add_argument("--checkpoints", metavar="DIR", default="checkpoint", help="folder of the files to test, .pth, "
                   ".pth.tar or .safetensors (default %(default)s)")
    p.add_argument("--out", metavar="DIR", default="runs/rafdb", help="for verdict.txt and the predictions "
                   "of each file in each channel order (default %(default)s)")
    p.add_argument("--precision", choices=PRECISIONS, default="auto", help="auto: bfloat16 where the machine "
                   "multiplies it natively (default %(default)s)")
    add_settings(p, TrainConfig, ("val_batch_size",))
    p.add_argument("--gpu", metavar="0", help="GPU to use (default: the first, or the CPU)")
    p.add_argument("--device", choices=DEVICES, default="auto", help="cpu to leave GPUs alone (default auto)")
    p.add_argument("--quiet", action="store_true", help="no progress bars")
    return p


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Command line; status 0 only where everything agrees."""
    args = parser().parse_args(argv)
    TrainConfig(**given_settings(argparse.Namespace(val_batch_size=args.val_batch_size), TrainConfig))
    if not Path(args.data).is_dir():
        raise InputError(f"{args.data} is not there; data/README.md says how to ask for RAF-DB, --data names another "
                         "place.")
    from poster_ada.data.check import check_dataset
    from poster_ada.data.datasets import open_dataset
    from poster_ada.data.twins import twins_in_train
    from poster_ada.devices import choose_device
    from poster_ada.model.config import PRESETS
    from poster_ada.model.precision import resolve_precision
    from poster_ada.paper.arrival import all_agrees, checkpoints_in, measure, verdict

    dataset = open_dataset(args.data, check=False, num_classes=7, family="rafdb")
    print(check_dataset(dataset).table() + "\n", flush=True)
    twins = 0 if (found := twins_in_train(dataset)) is None else int(found.sum())
    device = choose_device(args.device, args.gpu)
    tested, failed = [], []
    for path in checkpoints_in(Path(args.checkpoints)):
        print(f"testing {path} ...", flush=True)
        try:
            tested.append(measure(path, dataset, Path(args.out), device, args.val_batch_size or 32, args.precision,
                                  args.quiet))
        except InputError as error:
            failed.append(str(error).rstrip("."))
    dtype = resolve_precision(args.precision, device, PRESETS["large"])
    precision = str(dtype).removeprefix("torch.")
    page = verdict(dataset, tested, failed, args.checkpoints, precision, twins)
    agrees = all_agrees(dataset, tested, failed, precision)
    write_text_atomically(Path(args.out) / "verdict.txt", page + "\n")
    write_json_atomically(Path(args.out) / "verdict.json", {
        "data": dataset.name, "fingerprint": dataset.fingerprint(), "precision": precision, "agrees": agrees,
        "tested": [asdict(each) | {"published": each.published} for each in tested], "failed": failed,
    })
    print(f"\n{page}\n\nThis page and every prediction are in {args.out}.")
    return 0 if agrees else 1


if __name__ == "__main__":
    main()
