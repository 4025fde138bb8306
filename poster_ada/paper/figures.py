"""One look for every figure and table of the report, and a record of where each came from.

    apply_style()
    fig, axis = plt.subplots(figsize=(COLUMN_WIDTH, 2.4))
    save_figure(fig, "03_adaface_head_margins", data="demo faces")   # figures/03_adaface_head_margins.{pdf,png}
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from filelock import FileLock
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from poster_ada.errors import InputError
from poster_ada.expressions import short_name
from poster_ada.files import write_json_atomically, write_text_atomically
from poster_ada.model.heads import Head
from poster_ada.palette import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY_BLUE, VERMILION
from poster_ada.training.runs import Run, code_version

COLUMN_WIDTH, PAGE_WIDTH = 3.3, 6.9  # inches, of a two-column paper
FOLDER = Path("figures")
Runs = Sequence[str] | Mapping[str, str]  # names in `runs/`, or names and the commits that trained them
HEAD_COLOURS = {name: head.colour for name, head in Head.classes.items()}
HEAD_NAMES = {name: head.title for name, head in Head.classes.items()}


def apply_style() -> None:
    """Serif type from matplotlib's own fonts, 8 pt, sizes that hold at print width; for all later figures."""
    sns.set_theme(
        context="paper", style="ticks", palette=[BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY_BLUE, BLACK],
        rc={
            "font.family": "STIXGeneral", "mathtext.fontset": "stix", "font.size": 8, "axes.titlesize": 8,
            "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7,
            "legend.frameon": False, "figure.constrained_layout.use": True, "figure.dpi": 150, "savefig.dpi": 300,
            "axes.spines.top": False, "axes.spines.right": False, "lines.linewidth": 1.2, "axes.linewidth": 0.6,
            "xtick.major.width": 0.6, "ytick.major.width": 0.6, "pdf.fonttype": 42, "image.interpolation": "nearest",
        },
    )


def start_notebook() -> None:
    """Style, and the checkout as working folder: Jupyter starts a notebook in `notebooks/`, its paths are relative to
    the folder above."""
    if Path.cwd().name == "notebooks":
        os.chdir("..")
    apply_style()


def save_figure(
    fig: Figure, name: str, *, data: str, runs: Runs = (), folder: str | Path = FOLDER
) -> None:
    """Write `name`.pdf (vector) and `name`.png (300 dpi) and list them in the manifest.

    Args:
        name: `<notebook>_<what>`.
        data: the face set the figure shows, or "none" where it shows no faces.
        runs: names of the training runs behind it, in `runs/`; or their names and the commits that trained them.
        folder: where figures go.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # Without dates, the same picture is the same file.
    fig.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})
    fig.savefig(folder / f"{name}.png", metadata={"Software": None})
    _list_in_manifest(folder, [f"{name}.pdf", f"{name}.png"], data, runs)


def save_table(
    table: pd.DataFrame, name: str, *, data: str, runs: Runs = (), folder: str | Path = FOLDER
) -> None:
    """Write `name`.csv (full precision) and `name`.tex (booktabs, two decimals), the index as first column if named."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    index = table.index.name is not None
    table.to_csv(folder / f"{name}.csv", index=index)
    write_text_atomically(folder / f"{name}.tex",
                          table.to_latex(index=index, float_format="%.2f", escape=True, na_rep="--"))
    _list_in_manifest(folder, [f"{name}.csv", f"{name}.tex"], data, runs)


def save_numbers(
    numbers: dict[str, Any], name: str, *, data: str, runs: Runs = (), folder: str | Path = FOLDER
) -> None:
    """Write `name`.json: single numbers that the paper quotes."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(numbers, indent=1, default=lambda value: value.item()) + "\n"
    write_text_atomically(folder / f"{name}.json", text)
    _list_in_manifest(folder, [f"{name}.json"], data, runs)


def _list_in_manifest(folder: Path, files: list[str], data: str, runs: Runs) -> None:
    path = folder / "manifest.json"
    trained_by = sorted(set(runs.values() if isinstance(runs, Mapping) else map(_commit_of, runs)))
    drawn_by = code_version()
    with FileLock(folder / "manifest.lock"):  # notebooks run side by side
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        entries = {entry["file"]: entry for entry in known}
        for file in files:
            notebook = next((name for name in NOTEBOOKS if file.startswith(name)), None)
            entries[file] = {"file": file, "notebook": notebook, "data": data, "run": list(runs),
                             "run_commits": trained_by, "drawn_by_commit": drawn_by}
        write_json_atomically(path, [entries[file] for file in sorted(entries)])


def _commit_of(run: str) -> str:
    try:
        return Run(Path("runs") / run).record["environment"]["commit"]
    except (InputError, KeyError):
        return "unknown"


NOTEBOOKS = (
    "01_data_exploration", "02_backbone", "03_adaface_head", "04_training", "05_ablation", "06_gradcam_confusion",
    "07_your_own_pictures",
)
SOLUTIONS = "solutions"  # of their exercises; leaves no figures, speaks of the demo faces alone


def draw_confusion(axis: Axes, matrix: np.ndarray, class_names: Sequence[str], difference: bool = False) -> None:
    """Draw a row-normalised confusion matrix with its numbers; readable at 3.3 inches.

    Args:
        matrix: (C, C) in 0..1, rows are true classes; with `difference`, a difference of two such, in -1..1.
        class_names: long names, drawn as two letters.
        difference: diverging colours around 0, signed numbers.
    """
    matrix = np.asarray(matrix, dtype=float)
    limit = max(0.05, np.nanmax(np.abs(matrix))) if difference else 1.0
    cells = np.ma.masked_invalid(matrix)  # a class without test faces has no row
    axis.imshow(cells, cmap="PuOr" if difference else "Blues", vmin=-limit if difference else 0.0, vmax=limit)
    for (row, column), value in np.ndenumerate(matrix):
        if np.isnan(value):
            continue
        text = f"{value:+.2f}".replace("+0.", "+.").replace("-0.", "\N{MINUS SIGN}.") if difference else f"{value:.2f}"
        strong = abs(value) > 0.6 * limit
        axis.text(column, row, text, ha="center", va="center", fontsize=6.5, color="white" if strong else "black")
    names = [short_name(name) for name in class_names]
    axis.set(xticks=range(len(names)), yticks=range(len(names)), xticklabels=names, yticklabels=names,
             xlabel="predicted", ylabel="true")
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)


def show_faces(axes: np.ndarray, images: Any, titles: Sequence[str] | None = None) -> None:
    """Fill an array of axes with pictures, uint8 (N, 3, H, W) or (N, H, W, 3) or float in 0..1, without ticks."""
    pictures = np.asarray(images)
    if pictures.ndim == 4 and pictures.shape[1] == 3:
        pictures = pictures.transpose(0, 2, 3, 1)
    for number, axis in enumerate(np.ravel(axes)):
        axis.set_axis_off()
        if number < len(pictures):
            axis.imshow(pictures[number], interpolation="bilinear")
            if titles is not None:
                axis.set_title(titles[number], fontsize=7, pad=2)


def interval_text(mean: float, half_width: float) -> str:
    """`91.2 +- 0.4`, in the style of the tables; without the half width where it is not known, nothing where the
    mean is not."""
    if np.isnan(mean):
        return ""
    return f"{mean:.1f}" if np.isnan(half_width) else f"{mean:.1f} \N{PLUS-MINUS SIGN} {half_width:.1f}"


def difference_text(difference: float, low: float, high: float) -> str:
    """`-4.0 (-6.3 to -1.7)`; without the interval where it is not known, nothing where the difference is not."""
    if np.isnan(difference):
        return ""
    return f"{difference:+.1f}" + ("" if np.isnan(low) else f" ({low:+.1f} to {high:+.1f})")
