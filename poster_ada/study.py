"""Compare AdaFace's head with others, run by run: `python -m poster_ada.study --set ferplus --data data/ferplus`.

Two studies: `ferplus`, on FER+ (poster_ada/paper/ferplus_grid.py), and `photographs`, the first, smaller one, on any
set of real faces (poster_ada/paper/study_grid.py). The first runs several rows side by side, each in a process of its
own, on this machine or on SLURM (extra `study`); the second one after another.
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
from poster_ada.paper.engine import CLUSTERS, Engine
from poster_ada.paper.study_grid import SEEDS, STAGES, grid

PARTS = {"photographs": STAGES, "ferplus": ferplus_grid.PARTS}  # of each study, by its set


def parser() -> CommandParser:
    """Command line."""
    p = CommandParser(
        "study", description="Compare AdaFace's head with others on real faces, over many runs. Finished runs are "
        "kept, stopped ones go on at their last epoch.",
        epilog="On a cluster: python -m poster_ada.study --set ferplus --data data/ferplus --cluster slurm "
        "--partition gpu --gpus 1 --workers 16",
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
    action.add_argument("--summary", action="store_true", help="make tables and figures from the table, without runs; "
                        "ferplus with --data: add to older rows what is kept of a run by now")
    action.add_argument("--choose", action="store_true", help="ferplus: once the search is done, choose by its rule on "
                        "validation faces what part confirm runs")
    p.add_argument("--workers", type=int, default=2, metavar="N", help="ferplus: runs side by side, each with one "
                   "thread (default 2; without the extra `study`, as on Windows, one)")
    p.add_argument("--cluster", choices=CLUSTERS, default="local", help="ferplus: where runs go (default this machine)")
    p.add_argument("--partition", metavar="NAME", help="ferplus: of SLURM")
    p.add_argument("--time", type=int, default=24 * 60, metavar="MINUTES", help="ferplus: for one run; SLURM then "
                   "queues it again and it goes on (default 1440)")
    p.add_argument("--gpus", type=int, metavar="N", help="ferplus: of each run (default one where this machine has "
                   "any; SLURM: none)")
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
    if args.plan or args.discard or args.choose:
        raise InputError("--plan, --discard and --choose are for --set ferplus.")
    if args.summary:
        from poster_ada.paper.study_runs import read_results
        from poster_ada.paper.study_summary import findings, write_summary

        table = read_results(results)
        write_summary(table, results)
        print(*findings(table), sep="\n")
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
    results = Path(args.results)
    if args.choose:
        from poster_ada.paper.ferplus_choice import write_choice

        for name, value in write_choice(results).items():
            print(f"{name:18} {value}")
        return None
    of_files = (results / ferplus_grid.FACES).is_file() or not (results / ferplus_grid.TABLE).is_file()
    if args.summary and of_files and not args.data:
        summarise(results)
        return None
    whole = ferplus_grid.grid(ferplus_grid.read_choice(results))
    rows = [row for row in whole if row.part in (args.part or ferplus_grid.PARTS)
            and (args.only or "") in row.id and (not args.seeds or row.seed in args.seeds)]
    named = {row.id: row for row in whole}
    if not rows or args.repeat and args.repeat not in named:
        raise InputError(f"the grid has no such run as {args.repeat or args.only!r}; --list shows the names.")
    from poster_ada.data.datasets import open_dataset
    from poster_ada.paper.ferplus_runs import FerplusStudy, plan, repeat, run_rows
    from poster_ada.training.runs import slug

    dataset = open_dataset(args.data or "data/ferplus", num_classes=ferplus_grid.CLASSES, family="ferplus",
                           needs=("train", "validation", "test"))
    folder = Path(args.folder or f"runs/study-{slug(dataset.name)}")
    study = FerplusStudy(dataset, folder, results, args.device)
    if args.summary:
        study.keep_faces()
        study.keep_class_cosines()
        summarise(results)
        return None
    if args.repeat:
        return 0 if repeat(study, named[args.repeat]) else 1
    if args.plan:
        print(plan(study, rows, args.workers).to_string(index=False, float_format="%.1f", na_rep=""))
    elif args.list:
        for row in rows:
            choices = ", ".join(f"{name} {value}" for name, value in row.choices.items())
            print(f"{'done' if study.is_done(row) else '-':4}  {row.id:44} {choices}")
    else:
        run_rows(study, rows, args.discard,
                 Engine(args.cluster, args.workers, args.partition, args.time, args.gpus))
    return None


def summarise(results: Path) -> None:
    """Tables and figures of the FER+ study, and what was found."""
    from poster_ada.paper.ferplus_figures import write_summary
    from poster_ada.paper.ferplus_results import FerplusResults

    print(*write_summary(FerplusResults(results)), sep="\n")


if __name__ == "__main__":
    main()
