"""Notebooks run from top to bottom, and cleaned of this machine's traces."""

from __future__ import annotations

import copy
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

from poster_ada.devices import available_cores
from poster_ada.errors import InputError
from poster_ada.files import write_text_atomically

KERNEL, KERNEL_OF_ONE_THREAD = "poster-ada", "poster-ada-one-thread"
WIDGET = "application/vnd.jupyter.widget-view+json"
CHECKOUT = Path(__file__).resolve().parents[2]
ALONE = ("02",)  # it measures how fast the model is
MOST_AT_ONCE = 4  # each kernel takes 1 GB


class NotebookFailed(InputError):
    """A notebook stopped; the message names it, the cell and the error."""


class Took(NamedTuple):
    """How long one notebook took: when it began, after the first one; its `seconds`; and those of each code cell."""

    name: str
    began: float
    seconds: float
    cells: list[float]


def accepted_parameters(notebook: nbformat.NotebookNode) -> set[str]:
    """Names that the notebook's cell tagged `parameters` assigns."""
    cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    return set(re.findall(r"^(\w+) =", cell.source, re.MULTILINE))


@contextmanager
def own_kernels() -> Iterator[None]:
    """Two kernels that run this very interpreter, one of them with one thread, for as long as the block lasts.

    `python3` may be anything where JUPYTER_PATH is set, as on a JupyterHub.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, environment in ((KERNEL, {}), (KERNEL_OF_ONE_THREAD, {"OMP_NUM_THREADS": "1"})):
            place = Path(folder) / "kernels" / name
            place.mkdir(parents=True)
            (place / "kernel.json").write_text(json.dumps({
                "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                "display_name": name, "language": "python", "env": environment,
            }), encoding="utf-8")
        before = os.environ.get("JUPYTER_PATH")
        os.environ["JUPYTER_PATH"] = os.pathsep.join([folder, *([before] if before else [])])
        try:
            yield
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
    with own_kernels(), chdir(folder):
        _execute(source, target, parameters, folder, KERNEL)


def run_notebooks(
    names: Sequence[str], out: Path, parameters: dict[str, Any], folder: Path, at_once: int | None = None,
    finished: Callable[[Took], None] = lambda took: None,
) -> list[Took]:
    """As `run_notebook`, of several that do not wait for each other, side by side with one thread each.

    Those of `ALONE` come last, one after another, with all threads.

    Args:
        out: folder of the copies.
        at_once: notebooks; default as many as cores, at most `MOST_AT_ONCE`.
        finished: called after each one.

    Raises:
        NotebookFailed: the first that stops; no other is begun then.
    """
    first, took = time.perf_counter(), []

    def execute(name: str, kernel: str) -> Took:
        begun, source = time.perf_counter(), CHECKOUT / "notebooks" / f"{name}.ipynb"
        cells = _execute(source, out / source.name, parameters, folder, kernel)
        return Took(name, begun - first, time.perf_counter() - begun, cells)

    at_once = at_once or min(available_cores(), MOST_AT_ONCE)
    alone = [name for name in names if at_once == 1 or len(names) == 1 or name.startswith(ALONE)]
    # papermill steps into `folder` and out of it, which threads would do to each other
    with own_kernels(), chdir(folder), ThreadPoolExecutor(at_once) as pool:
        # the later ones take longest, and one of those begun last would leave a core idle
        pending = [pool.submit(execute, name, KERNEL_OF_ONE_THREAD) for name in reversed(names) if name not in alone]
        try:
            for future in as_completed(pending):
                took.append(future.result())
                finished(took[-1])
        finally:
            pool.shutdown(cancel_futures=True)
        for name in alone:
            took.append(execute(name, KERNEL))
            finished(took[-1])
    return took


def write_times(path: Path, trained: float, took: Sequence[Took]) -> None:
    """Where the report's time goes: a row for the trainings before the notebooks, for each notebook, and for each of
    its code cells; `began` counts from the end of the trainings, `cell` is empty for a whole notebook."""
    rows: list[tuple[Any, ...]] = [("trainings", "", -trained, trained)]
    for name, began, seconds, cells in took:
        rows.append((name, "", began, seconds))
        rows += [(name, number, "", cell) for number, cell in enumerate(cells, 1)]
    text = "".join(f"{name},{cell},{began if began == '' else format(began, '.1f')},{seconds:.1f}\n"
                   for name, cell, began, seconds in rows)
    write_text_atomically(path, "part,cell,began,seconds\n" + text)


def _execute(source: Path, target: Path, parameters: dict[str, Any], folder: Path, kernel: str) -> list[float]:
    """Run by one of `own_kernels`; the seconds of each code cell."""
    known = accepted_parameters(nbformat.read(source, as_version=4))
    failed = target.with_suffix(".failed.ipynb")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            source, failed, {name: value for name, value in parameters.items() if name in known},
            kernel_name=kernel, cwd=folder, progress_bar=False, extra_arguments=["--IPKernelApp.log_level=50"],
        )
    except PapermillExecutionError as error:
        raise NotebookFailed(
            f"{source.name} stopped in cell {error.cell_index + 1} with {error.ename}: {error.evalue} "
            f"(the executed copy with its traceback is {failed})."
        ) from error
    executed = nbformat.read(failed, as_version=4)
    nbformat.write(clean(executed, folder), target)
    failed.unlink()
    return [cell.metadata.get("papermill", {}).get("duration") or 0.0
            for cell in executed.cells if cell.cell_type == "code"]


def clean(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """A copy without this machine's traces: absolute paths, progress bars, stderr, what cells tagged `live` printed,
    widgets, which are nothing without the kernel that made them; and what is another with every run: addresses in
    memory, and the names that pandas draws for its tables."""
    notebook = copy.deepcopy(notebook)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for place, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags", [])
        cell.metadata = {"tags": tags} if tags else {}
        if cell.cell_type != "code":
            continue
        cell.outputs = [output for output in cell.outputs if not (
            output.output_type == "stream" and ("live" in tags or output.name == "stderr" or "\r" in output.text)
            or WIDGET in output.get("data", {})
        )]
        for number, output in enumerate(cell.outputs):
            if output.output_type == "stream":
                output.text = without_paths(output.text, folder)
            for kind, content in output.get("data", {}).items():
                if kind.startswith("text/") and isinstance(content, str):
                    named = re.sub(r"\bT_[0-9a-f]{5}(?=_|\b)", f"T_{place}_{number}", without_paths(content, folder))
                    output.data[kind] = re.sub(r" at 0x[0-9a-f]+", "", named)
    return notebook


def without_paths(text: str, folder: Path) -> str:
    """Absolute paths become relative to the working folder, the checkout, the environment or the home folder."""
    text = re.sub(r"/\S*/ipykernel_\d+/\d+\.py:\d+", "cell", text)
    places = {str(folder): ".", str(CHECKOUT): ".", sys.prefix: "<environment>", str(Path.home()): "~"}
    for place in sorted(places, key=len, reverse=True):
        text = re.sub(rf"{re.escape(place)}(?=[/\s\"':,)]|$)", places[place], text)
    return text
