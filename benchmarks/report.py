"""The measured rows as .csv, as a Markdown table and as a figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from poster_ada.files import write_atomically
from poster_ada.palette import NEUTRAL_COLOUR
from poster_ada.paper import figures

PARTS = ("limit", "inference", "training", "precision", "busy", "agreement", "data", "checkpoint", "peers")
COLUMNS = ("part", "model", "batch", "way", "rate", "low", "high", "unit", "gain", "share_of_limit", "peak_mib",
           "rafdb_epoch_seconds", "faces", "accuracy", "accuracy_low", "accuracy_high", "macro_f1",
           "agreement", "largest_difference")
FORMATS = {"rate": "{:.4g}", "low": "{:.4g}", "high": "{:.4g}", "gain": "{:.2f} x", "share_of_limit": "{:.0%}",
           "peak_mib": "{:.0f}", "rafdb_epoch_seconds": "{:.0f}", "batch": "{:.0f}", "faces": "{:.0f}",
           "accuracy": "{:.1%}", "accuracy_low": "{:.1%}", "accuracy_high": "{:.1%}", "macro_f1": "{:.1%}",
           "agreement": "{:.2%}", "largest_difference": "{:.2g}"}
WAYS = {"plain": NEUTRAL_COLOUR, "float32": "#56B4E9", "default": "#0072B2", "compiled": "#009E73",
        "cuda-graph": "#CC79A7", "onnxruntime-float32": "#F0E442", "openvino-bfloat16": "#E69F00",
        "openvino-int8": "#D55E00"}


def write_report(rows: pd.DataFrame, folder: Path, machine: str) -> None:
    """Write `machine`.{csv,md,pdf,png}; parts and models that `rows` leave out keep an earlier run's."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{machine}.csv"
    if path.is_file():
        earlier = pd.read_csv(path)
        jobs = set(map(tuple, rows[["part", "model"]].fillna("").to_numpy()))
        kept = [job not in jobs for job in map(tuple, earlier[["part", "model"]].fillna("").to_numpy())]
        rows = pd.concat([earlier[kept], rows], ignore_index=True)
    rows = rows.sort_values("part", key=lambda parts: parts.map(PARTS.index), kind="stable")
    rows = rows.reindex(columns=[name for name in COLUMNS if name in rows]).dropna(axis=1, how="all")
    write_atomically(path, lambda temporary: rows.to_csv(temporary, index=False, float_format="%.5g"))
    write_atomically(path.with_suffix(".md"), lambda temporary: temporary.write_text(markdown(rows), encoding="utf-8"))
    timed = rows[rows["part"].isin(("inference", "training"))]
    if len(timed):
        draw(timed, folder / machine)


def markdown(rows: pd.DataFrame) -> str:
    """One table per part, without its empty columns."""
    pieces = []
    for part, table in rows.groupby("part", sort=False):
        table = table.drop(columns="part").dropna(axis=1, how="all")
        cells = [
            ["" if pd.isna(value) else FORMATS.get(name, "{}").format(value) for name, value in row.items()]
            for row in table.to_dict("records")
        ]
        lines = [list(table.columns), ["---"] * len(table.columns), *cells]
        pieces.append(f"## {part}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n")
    return "\n".join(pieces)


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Bars of throughput, grouped by job, one colour per way; the whisker is the range over the rounds."""
    figures.apply_style()
    jobs = rows[["part", "model", "batch"]].drop_duplicates().reset_index(drop=True)
    fig, axis = plt.subplots(figsize=(figures.PAGE_WIDTH, 2.6))
    names = [way for way in WAYS if way in set(rows["way"])]
    width = 0.85 / len(names)
    for number, way in enumerate(names):
        shown = jobs.merge(rows[rows["way"] == way], how="left")
        place = np.arange(len(jobs)) + (number - (len(names) - 1) / 2) * width
        error = np.stack([shown["rate"] - shown["low"], shown["high"] - shown["rate"]])
        axis.bar(place, shown["rate"], width, color=WAYS[way], label=way, yerr=error, error_kw={"linewidth": 0.5})
    axis.set(yscale="log", ylabel="images per second", xticks=range(len(jobs)), xticklabels=[
        f"{job.part}\n{job.model}, batch {job.batch:.0f}" for job in jobs.itertuples()])
    axis.legend(ncols=len(names), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    fig.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})  # without dates, the same bars are one file
    fig.savefig(path.with_suffix(".png"), metadata={"Software": None})
    plt.close(fig)
