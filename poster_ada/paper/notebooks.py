"""The whole report: `python -m poster_ada.report` runs the six notebooks and typesets the paper from what they leave.

On the demo faces the executed notebooks replace those in `notebooks/` and the figures go to `figures/`; other data,
presets or settings get a folder of their own, `figures/<data>-<preset>/`.
"""

from __future__ import annotations

import argparse
import copy
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

from poster_ada.data import open_dataset
from poster_ada.errors import InputError, command
from poster_ada.paper.figures import NOTEBOOKS
from poster_ada.model.poster import PRESETS

CHECKOUT = Path(__file__).resolve().parents[1]
DEMO = {"data": "data/demo", "preset": "nano"}
PAPER = CHECKOUT / "report" / "report.typ"
STUDY = CHECKOUT / "results" / "study.typ"  # the section on real faces, once the study has written it


class NotebookFailed(InputError):
    """A notebook stopped; the message names it, the cell and the error."""


def accepted_parameters(notebook: nbformat.NotebookNode) -> set[str]:
    """Names that the notebook's cell tagged `parameters` assigns."""
    cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    return set(re.findall(r"^(\w+) =", cell.source, re.MULTILINE))


def run_notebook(source: Path, target: Path, parameters: dict[str, Any], folder: Path) -> None:
    """Execute a notebook from top to bottom and write a clean copy with its outputs.

    Args:
        parameters: values for the names in its `parameters` cell; names it does not have are left out.
        folder: the kernel's working folder.

    Raises:
        NotebookFailed: after keeping the copy as far as it came, beside `target` as `<name>.failed.ipynb`.
    """
    known = accepted_parameters(nbformat.read(source, as_version=4))
    failed = target.with_suffix(".failed.ipynb")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            source, failed, {name: value for name, value in parameters.items() if name in known},
            kernel_name="python3", cwd=folder, progress_bar=False, extra_arguments=["--IPKernelApp.log_level=40"],
        )
    except PapermillExecutionError as error:
        raise NotebookFailed(
            f"{source.name} stopped in cell {error.cell_index + 1} with {error.ename}: {error.evalue} "
            f"(the executed copy with its traceback is {failed})."
        ) from error
    nbformat.write(clean(nbformat.read(failed, as_version=4), folder), target)
    failed.unlink()


def clean(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """A copy without this machine's traces: absolute paths, progress bars, stderr, what cells tagged `live` printed."""
    notebook = copy.deepcopy(notebook)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = {"tags": tags} if tags else {}
        if cell.cell_type != "code":
            continue
        cell.outputs = [output for output in cell.outputs if not (
            output.output_type == "stream" and ("live" in tags or output.name == "stderr" or "\r" in output.text)
        )]
        for output in cell.outputs:
            if output.output_type == "stream":
                output.text = without_paths(output.text, folder)
            for kind, content in output.get("data", {}).items():
                if kind.startswith("text/") and isinstance(content, str):
                    output.data[kind] = without_paths(content, folder)
    return notebook


def without_paths(text: str, folder: Path) -> str:
    """Absolute paths become relative to the working folder, the checkout, the environment or the home folder."""
    text = re.sub(r"/\S*/ipykernel_\d+/\d+\.py:\d+", "cell", text)
    places = {str(folder): ".", str(CHECKOUT): ".", sys.prefix: "<environment>", str(Path.home()): "~"}
    for place in sorted(places, key=len, reverse=True):
        text = re.sub(rf"{re.escape(place)}(?=[/\s\"':,)]|$)", places[place], text)
    return text


def typeset(figures: Path, paper: Path = PAPER) -> Path:
    """Typeset `figures/report.pdf` from the tables, numbers and figures in `figures`; returns its path."""
    import typst  # of the notebooks extra, like papermill, but only this step needs it

    figures = figures.resolve()
    # Typst reads no file outside its root.
    root = Path(os.path.commonpath([figures, paper]))
    target = figures / "report.pdf"
    places = {"figures": figures} | ({"study": STUDY} if STUDY.is_file() else {})
    try:
        typst.compile(paper, output=target, root=root, ignore_system_fonts=True,
                      sys_inputs={name: "/" + place.relative_to(root).as_posix() for name, place in places.items()})
    except typst.TypstError as error:
        raise InputError(f"{paper.name} could not be typeset: {error}; run the report again from its start.") from error
    return target


def parser() -> argparse.ArgumentParser:
    """Command line."""
    p = argparse.ArgumentParser(
        "python -m poster_ada.report", description="Run the six notebooks, export their figures and tables, and "
        "typeset the paper. Trained runs in runs/ are used again.")
    p.add_argument("--data", default=DEMO["data"], metavar="ROOT", help="face set (default data/demo)")
    p.add_argument("--preset", default=DEMO["preset"], choices=tuple(PRESETS), help="model size (default nano)")
    p.add_argument("--epochs", type=int, help="epochs of every training (default: the preset's own schedules)")
    p.add_argument("--seeds", type=int, nargs="+", help="seeds of the ablation")
    p.add_argument("--device", default="auto", help="cpu, cuda or auto (default)")
    p.add_argument("--only", nargs="+", metavar="NN", default=[], help="run these notebooks only, e.g. --only 03 05")
    p.add_argument("--pdf-only", action="store_true", help="typeset from what is there")
    p.add_argument("--fast", action="store_true", help="smallest sizes: a check that everything runs")
    return p


@command
def main(argv: Sequence[str] | None = None) -> int | None:
    """Command line."""
    args = parser().parse_args(argv)
    if not (CHECKOUT / "notebooks").is_dir():
        raise InputError(f"{CHECKOUT} has no notebooks/; the report is made in a git clone of the project.")
    folder = Path.cwd()
    changed = {"data": args.data, "preset": args.preset, "epochs": args.epochs, "seeds": args.seeds,
               "device": args.device, "fast": args.fast}
    defaults = DEMO | {"epochs": None, "seeds": None, "device": "auto", "fast": False}
    parameters = {name: value for name, value in changed.items() if value != defaults[name]}
    figures, notebooks = Path("figures"), CHECKOUT / "notebooks"
    if parameters:
        name = re.sub(r"[^a-z0-9]+", "-", open_dataset(args.data, check=False).name.lower()).strip("-")
        figures = figures / f"{name}-{args.preset}"
        notebooks = folder / figures / "notebooks"
        parameters["figures"] = str(figures)
    chosen = [name for name in NOTEBOOKS if not args.only or name.startswith(tuple(args.only))]
    started = time.perf_counter()
    for number, name in enumerate([] if args.pdf_only else chosen, 1):
        begun = time.perf_counter()
        print(f"[{number}/{len(chosen)}] {name} ... ", end="", flush=True)
        try:
            run_notebook(CHECKOUT / "notebooks" / f"{name}.ipynb", notebooks / f"{name}.ipynb", parameters, folder)
        except NotebookFailed:
            print("failed")
            raise
        print(f"{time.perf_counter() - begun:.0f} s", flush=True)
    missing = [name for name in NOTEBOOKS if not any((folder / figures).glob(f"{name}_*"))]
    if missing:
        print(f"not typeset: {', '.join(missing)} has not run yet.")
    else:
        print(f"{typeset(folder / figures)}: {time.perf_counter() - started:.0f} s in all")
    return None


if __name__ == "__main__":
    main()
