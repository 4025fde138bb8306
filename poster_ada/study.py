"""Compare AdaFace's head with others, run by run: `python -m poster_ada.study --set ferplus --data data/ferplus`.

Two studies: `ferplus`, on FER+ (poster_ada/paper/ferplus_grid.py), and `photographs`, the first, smaller one, on any
set of real faces (poster_ada/paper/study_grid.py). Start the command several times on one folder, on many machines or,
with CUDA_VISIBLE_DEVICES, on many GPUs: each run is done once, by whichever process locks it first.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from poster_ada.devices import DEVICES
from poster_ada.errors import InputError, command
from poster_ada.flags import CommandParser
from poster_ada.model.config import PRESETS
from poster_ada.paper import ferplus_grid
from poster_ada.paper.study_grid import SEEDS, STAGES, grid

PARTS = {"photographs": STAGES, "ferplus": ferplus_grid.PARTS}  # of each study, by its set


def parser() -> CommandParser:
    """Command line."""
    p = CommandParser(
        "study", description="Compare AdaFace's head with others on real faces, over many runs. Finished runs are "
        "kept, stopped ones go on at their last epoch, and several processes may share a folder.",
        epilog="The FER+ study on two cores: start this twice, each with OMP_NUM_THREADS=1: "
        "python -m poster_ada.study --set ferplus --data data/ferplus --part published",
        other_names={"--stage": "--part"})
    p.add_argument("--set", choices=tuple(PARTS), default="photographs", help="which study (default photographs: any "
                   "set of real faces, e.g. from: python -m poster_ada.data fetch faces)")
    p.add_argument("--data", metavar="ROOT", help="the faces (ferplus: default data/ferplus)")
    p.add_argument("--part", nargs="+", metavar="PART", help="; ".join(
        f"{name}: {', '.join(parts)}" for name, parts in PARTS.items()) + " (default all)")
    p.add_argument("--only", metavar="TEXT", help="only runs whose name contains this")
    p.add_argument("--seeds", type=int, nargs="+", help="photographs: of protocol and confirm (default 1 to 5); "
                   "ferplus: only these of the grid's")
    p.add_argument("--preset", choices=tuple(PRESETS), help="model size of photographs (default nano)")
    p.add_argument("--epochs", type=int, help="of photographs (default: nano 10, else the preset's)")
    p.add_argument("--device", choices=DEVICES, default="auto", help="cpu to leave GPUs alone (default auto)")
    p.add_argument("--folder", metavar="DIR", help="runs (default runs/study-<data>[-<preset>])")
    p.add_argument("--results", metavar="DIR", default="results", help="tables and figures (default results)")
    p.add_argument("--discard", action="store_true", help="ferplus: remove a run's folder once its row is written")
    action = p.add_mutually_exclusive_group()
    action.add_argument("--list", action="store_true", help="name the runs and say which are done")
    action.add_argument("--plan", action="store_true", help="ferplus: runs, faces and hours, from a measured speed")
    action.add_argument("--repeat", metavar="RUN", help="train one run of the table again and compare")
    action.add_argument("--summary", action="store_true", help="make tables and figures from the table, without runs")
    p.add_argument("--workers", type=int, default=2, metavar="N", help="processes that --plan reckons with (default 2)")
    return p


@command
def main(argv: Sequence[str] | None = None) -> int | None:
    """Command line."""
    args = parser().parse_args(argv)
    if unknown := set(args.part or ()) - set(PARTS[args.set]):
        raise InputError(f"the study {args.set} has no part {', '.join(sorted(unknown))}; choose of "
                         f"{', '.join(PARTS[args.set])}.")
    return ferplus(args) if args.set == "ferplus" else photographs(args)


def photographs(args: argparse.Namespace) -> int | None:
    """The study on one small set of real faces."""
    results = Path(args.results)
    if args.plan or args.discard:
        raise InputError("--plan and --discard are for --set ferplus.")
    if args.summary:
        from poster_ada.paper.study_runs import read_results
        from poster_ada.paper.study_summary import write_summary

        write_summary(read_results(results), results)
        return None
    if args.data is None:
        raise InputError("no faces were named; give --data ROOT, e.g. data/faces from: "
                         "python -m poster_ada.data fetch faces.")
    rows = [row for row in grid(args.seeds or SEEDS) if row.stage in (args.part or STAGES)
            and (args.only or "") in row.id]
    if not rows:
        raise InputError(f"no run of these stages has {args.only!r} in its name; --list shows the names.")
    from poster_ada.data.datasets import open_dataset
    from poster_ada.paper.study_runs import Study, read_results, repeat, run_rows
    from poster_ada.training.runs import slug

    dataset, preset = open_dataset(args.data), args.preset or "nano"
    folder = Path(args.folder or f"runs/study-{slug(dataset.name)}-{preset}")
    study = Study(dataset, preset, folder, args.epochs, args.device)
    if args.repeat:
        return 0 if repeat(study, read_results(results), args.repeat) else 1
    if args.list:
        for row in rows:
            choices = ", ".join(f"{name} {value}" for name, value in row.choices.items())
            print(f"{'done' if study.is_done(row) else '-':4}  {row.id:36} {choices}")
        return None
    run_rows(study, rows, results)
    return None


def ferplus(args: argparse.Namespace) -> int | None:
    """The study on FER+."""
    if args.preset or args.epochs:
        raise InputError("--preset and --epochs are for --set photographs; the FER+ study's grid sets them.")
    if args.summary:
        raise InputError("--summary is for --set photographs as yet.")
    rows = [row for row in ferplus_grid.grid() if row.part in (args.part or ferplus_grid.PARTS)
            and (args.only or "") in row.id and (not args.seeds or row.seed in args.seeds)]
    named = {row.id: row for row in ferplus_grid.grid()}
    if not rows or args.repeat and args.repeat not in named:
        raise InputError(f"the grid has no such run as {args.repeat or args.only!r}; --list shows the names.")
    from poster_ada.data.datasets import open_dataset
    from poster_ada.paper.ferplus_runs import FerplusStudy, plan, repeat, run_rows
    from poster_ada.training.runs import slug

    dataset = open_dataset(args.data or "data/ferplus", num_classes=ferplus_grid.CLASSES, family="ferplus",
                           needs=("train", "validation", "test"))
    folder = Path(args.folder or f"runs/study-{slug(dataset.name)}")
    study = FerplusStudy(dataset, folder, Path(args.results), args.device)
    if args.repeat:
        return 0 if repeat(study, named[args.repeat]) else 1
    if args.plan:
        print(plan(study, rows, args.workers).to_string(index=False, float_format="%.1f", na_rep=""))
    elif args.list:
        for row in rows:
            choices = ", ".join(f"{name} {value}" for name, value in row.choices.items())
            print(f"{'done' if study.is_done(row) else '-':4}  {row.id:44} {choices}")
    else:
        run_rows(study, rows, args.discard)
    return None


if __name__ == "__main__":
    main()
