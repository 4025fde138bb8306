"""Compare AdaFace's head with MLP on real faces, run by run: `python -m poster_ada.study --data ROOT`.

Start it several times on one folder, on many machines or, with CUDA_VISIBLE_DEVICES, on many GPUs: each run is done
once, by whichever process locks it first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from poster_ada.devices import DEVICES
from poster_ada.errors import InputError, command
from poster_ada.flags import CommandParser
from poster_ada.model.config import PRESETS
from poster_ada.paper.study_grid import SEEDS, STAGES, grid


def parser() -> CommandParser:
    """Command line."""
    p = CommandParser(
        "study", description="Compare AdaFace's head with MLP on a set of real faces, over many "
        "runs. Finished runs are kept, and the same command goes on; several processes may share a folder.")
    p.add_argument("--data", metavar="ROOT", help="face set, e.g. from: python -m poster_ada.data fetch faces")
    p.add_argument("--preset", choices=tuple(PRESETS), default="nano", help="model size (default nano)")
    p.add_argument("--stage", choices=STAGES, nargs="+", default=STAGES, help="which part (default all)")
    p.add_argument("--only", metavar="TEXT", help="only runs whose name contains this")
    p.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="of protocol and confirm (default 1 to 5)")
    p.add_argument("--epochs", type=int, help="default: nano 10, else the preset's")
    p.add_argument("--device", choices=DEVICES, default="auto", help="cpu to leave GPUs alone (default auto)")
    p.add_argument("--folder", metavar="DIR", help="runs (default runs/study-<data>-<preset>)")
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
        from poster_ada.paper.study_runs import read_results
        from poster_ada.paper.study_summary import write_summary

        write_summary(read_results(results), results)
        return None
    if args.data is None:
        raise InputError("no faces were named; give --data ROOT, e.g. data/faces from: "
                         "python -m poster_ada.data fetch faces.")
    rows = [row for row in grid(args.seeds) if row.stage in args.stage and (args.only or "") in row.id]
    if not rows:
        raise InputError(f"no run of these stages has {args.only!r} in its name; --list shows the names.")
    from poster_ada.data.datasets import open_dataset
    from poster_ada.paper.study_runs import Study, read_results, repeat, run_rows
    from poster_ada.training.runs import slug

    dataset = open_dataset(args.data)
    folder = Path(args.folder or f"runs/study-{slug(dataset.name)}-{args.preset}")
    study = Study(dataset, args.preset, folder, args.epochs, args.device)
    if args.repeat:
        return 0 if repeat(study, read_results(results), args.repeat) else 1
    if args.list:
        for row in rows:
            choices = ", ".join(f"{name} {value}" for name, value in row.choices.items())
            print(f"{'done' if study.is_done(row) else '-':4}  {row.id:36} {choices}")
        return None
    run_rows(study, rows, results)
    return None


if __name__ == "__main__":
    main()
