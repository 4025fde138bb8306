"""The whole report: `python -m poster_ada.report` trains what the notebooks ask for, side by side, runs them side by
side, and typesets the paper from what they leave. `runs/report_times.csv` then says where the time went.

On the demo faces the executed notebooks replace those in `notebooks/` and the figures go to `figures/`; other data,
presets or settings get a folder of their own, `figures/<data>-<preset>/`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from poster_ada.errors import InputError, command
from poster_ada.flags import CommandParser
from poster_ada.model.config import PRESETS

DEMO = {"data": "data/demo", "preset": "nano"}


def parser() -> CommandParser:
    """Command line."""
    p = CommandParser(
        "report", description="Run the notebooks, export their figures and tables, and "
        "typeset the paper. Trained runs in runs/ are used again.")
    p.add_argument("--data", default=DEMO["data"], metavar="ROOT", help="face set (default data/demo)")
    p.add_argument("--preset", default=DEMO["preset"], choices=tuple(PRESETS), help="model size (default nano)")
    p.add_argument("--epochs", type=int, help="epochs of every training (default: the preset's own schedules)")
    p.add_argument("--seeds", type=int, nargs="+", help="seeds of the ablation")
    p.add_argument("--device", default="auto", help="cpu, cuda or auto (default)")
    p.add_argument("--only", nargs="+", metavar="NN", default=[],
                   help="run these notebooks only, e.g. --only 03 05 solutions")
    p.add_argument("--pdf-only", action="store_true", help="typeset from what is there")
    p.add_argument("--fast", action="store_true", help="smallest sizes: a check that everything runs")
    return p


@command
def main(argv: Sequence[str] | None = None) -> int | None:
    """Command line."""
    args = parser().parse_args(argv)
    from poster_ada.data.datasets import open_dataset
    from poster_ada.paper.figures import NOTEBOOKS, SOLUTIONS
    from poster_ada.paper.notebooks import CHECKOUT, run_notebooks, write_times
    from poster_ada.paper.trainings import trainings_of
    from poster_ada.paper.typesetting import typeset
    from poster_ada.training.runs import slug
    from poster_ada.training.side_by_side import train_all

    if not (CHECKOUT / "notebooks").is_dir():
        raise InputError(f"{CHECKOUT} has no notebooks/; the report is made in a git clone of the project.")
    folder = Path.cwd()
    changed = {"data": args.data, "preset": args.preset, "epochs": args.epochs, "seeds": args.seeds,
               "device": args.device, "fast": args.fast}
    defaults = DEMO | {"epochs": None, "seeds": None, "device": "auto", "fast": False}
    parameters = {name: value for name, value in changed.items() if value != defaults[name]}
    figures, notebooks = Path("figures"), CHECKOUT / "notebooks"
    if parameters:
        figures = figures / f"{slug(open_dataset(args.data, check=False).name)}-{args.preset}"
        notebooks = folder / figures / "notebooks"
        parameters["figures"] = str(figures)
    there = NOTEBOOKS if parameters else (*NOTEBOOKS, SOLUTIONS)
    chosen = [name for name in there if not args.only or name.startswith(tuple(args.only))]
    started = time.perf_counter()
    if not args.pdf_only:
        dataset = open_dataset(args.data, check=False)
        configs = trainings_of(chosen, dataset, args.preset, args.epochs, args.seeds, args.fast)
        train_all(configs, dataset, args.device)
        trained = time.perf_counter() - started
        print(f"trainings ({len(configs)}): {trained:.0f} s", flush=True)
        took = run_notebooks(chosen, notebooks, parameters, folder,
                             finished=lambda took: print(f"{took.name}: {took.seconds:.0f} s", flush=True))
        write_times(Path("runs/report_times.csv"), trained, took)
    missing = [name for name in NOTEBOOKS if not any((folder / figures).glob(f"{name}_*"))]
    if missing:
        print(f"not typeset: {', '.join(missing)} has not run yet.")
    else:
        print(f"{typeset(folder / figures)}: {time.perf_counter() - started:.0f} s in all")
    return None


if __name__ == "__main__":
    main()
