"""Notebooks run from top to bottom, cleaned of this machine's traces, and the paper typeset from what they leave."""

from __future__ import annotations

import copy
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

from poster_ada.errors import InputError

KERNEL = "poster-ada"
WIDGET = "application/vnd.jupyter.widget-view+json"
CHECKOUT = Path(__file__).resolve().parents[2]
PAPER = CHECKOUT / "report" / "report.typ"
STUDY = CHECKOUT / "results" / "study.typ"  # the section on real faces, once the study has written it


class NotebookFailed(InputError):
    """A notebook stopped; the message names it, the cell and the error."""


def accepted_parameters(notebook: nbformat.NotebookNode) -> set[str]:
    """Names that the notebook's cell tagged `parameters` assigns."""
    cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    return set(re.findall(r"^(\w+) =", cell.source, re.MULTILINE))


@contextmanager
def own_kernel() -> Iterator[str]:
    """The name of a kernel that runs this very interpreter, for as long as the block lasts.

    `python3` may be anything where JUPYTER_PATH is set, as on a JupyterHub.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "kernels" / KERNEL
        place.mkdir(parents=True)
        (place / "kernel.json").write_text(json.dumps({
            "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": KERNEL, "language": "python",
        }), encoding="utf-8")
        before = os.environ.get("JUPYTER_PATH")
        os.environ["JUPYTER_PATH"] = os.pathsep.join([folder, *([before] if before else [])])
        try:
            yield KERNEL
        finally:
            os.environ.pop("JUPYTER_PATH")
            if before:
                os.environ["JUPYTER_PATH"] = before


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
        with own_kernel() as kernel:
            papermill.execute_notebook(
                source, failed, {name: value for name, value in parameters.items() if name in known},
                kernel_name=kernel, cwd=folder, progress_bar=False, extra_arguments=["--IPKernelApp.log_level=40"],
            )
    except PapermillExecutionError as error:
        raise NotebookFailed(
            f"{source.name} stopped in cell {error.cell_index + 1} with {error.ename}: {error.evalue} "
            f"(the executed copy with its traceback is {failed})."
        ) from error
    nbformat.write(clean(nbformat.read(failed, as_version=4), folder), target)
    failed.unlink()


def clean(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """A copy without this machine's traces: absolute paths, progress bars, stderr, what cells tagged `live` printed,
    and widgets, which are nothing without the kernel that made them."""
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
            or WIDGET in output.get("data", {})
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
