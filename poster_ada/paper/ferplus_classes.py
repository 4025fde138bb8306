"""How near the classes of a head lie to each other: where a margin head loses rare expressions on FER+.

A head's logit of a class is the product of a face's embedding with that class's vector. Between two classes y and j,
the cosine gap of any embedding f of length 1 is f . (w_y - w_j) <= |w_y - w_j| = sqrt(2 - 2 cos(w_y, w_j)). So no face
of either can win by a margin m over the other where cos(w_y, w_j) > 1 - m^2 / 2: 0.92 for m 0.4, 0.72 for m 0.75. Rare
classes whose vectors come to lie together are minority collapse (Fang, He, Long, Su 2021, arXiv 2101.12699).
"""

from __future__ import annotations

from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch.nn.functional as F
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from poster_ada.model.heads import Head, MarginHead
from poster_ada.palette import BLACK
from poster_ada.paper.ablation import seed_interval
from poster_ada.paper.ferplus_grid import PUBLISHED, SEARCHED
from poster_ada.paper.ferplus_results import CLASS_NAMES, KEY, FerplusResults, setting_name
from poster_ada.paper.ferplus_summary import settings_in
from poster_ada.paper.figures import PAGE_WIDTH

COSINES = "class_cosines"  # in a run's file of predictions
TIE = 0.1  # cosine gaps this near to 0 are ties
SUBTRACTS_FROM_COSINE = ("adaface", "cosface")  # heads whose m is, on average, a gap in cosine


def class_cosines(head: Head) -> np.ndarray:
    """float32 (C, C): cosines between the class vectors, those of a margin head or the rows of MLP's weight."""
    vectors = head.kernel.detach().T if isinstance(head, MarginHead) else head.weight.detach()  # type: ignore[attr-defined]
    vectors = F.normalize(vectors.float(), dim=1)
    return (vectors @ vectors.T).cpu().numpy()


def reach(margin: float) -> float:
    """The largest cosine of two class vectors at which a face can still win by `margin`, a cosine gap."""
    return 1 - margin**2 / 2


def classes_table(results: FerplusResults) -> pd.DataFrame:
    """One line per setting that is tested and pair of classes: mean cosine over seeds, half width of its 95 % interval,
    `reach` (heads with a cosine margin) and in how many seeds the pair is beyond it; `ties`: of the setting, the
    percentage of test faces within TIE of a tie between their class and the next."""
    lines = []
    for row in settings_in(results):
        if row.part in SEARCHED:
            continue
        runs = [run for run in map(results.predictions, results.of(row.key)["id"]) if COSINES in run]
        if not runs:
            continue
        cosines = np.stack([run[COSINES] for run in runs])
        of_cosine = row.choices["head"] in SUBTRACTS_FROM_COSINE
        limit = reach(row.choices["margin"]) if of_cosine else np.nan
        ties = np.mean([100 * (np.abs(run["gap"].astype(float)) < TIE).mean() for run in runs])
        for one, other in combinations(range(len(CLASS_NAMES)), 2):
            values = cosines[:, one, other].astype(float)
            lines.append(dict(zip(KEY, row.key, strict=True)) | {
                "seeds": len(runs), "class": CLASS_NAMES[one], "other": CLASS_NAMES[other], "cosine": values.mean(),
                "cosine_interval": seed_interval(values.tolist()), "reach": limit,
                "beyond": int((values > limit).sum()) if of_cosine else np.nan,
                "ties": ties if row.choices["head"] != "mlp" else np.nan})
    return pd.DataFrame(lines).set_index("part") if lines else pd.DataFrame()


def draw_classes(results: FerplusResults) -> plt.Figure:
    """The mean cosines of the published heads at every length; a cross where no face can win by the margin."""
    table = classes_table(results).loc[["published"]]
    names = [name for name in PUBLISHED if name in set(table["setting"])]
    lengths = sorted(set(table.loc[table["setting"].isin(names), "epochs"]))
    fig, axes = plt.subplots(len(lengths), len(names), figsize=(PAGE_WIDTH, 0.7 + 1.35 * len(lengths)), squeeze=False,
                             sharex=True, sharey=True, layout="compressed")
    colours = ScalarMappable(Normalize(0, 1), "cividis")
    for (row, column), axis in np.ndenumerate(axes):
        own = table[(table["setting"] == names[column]) & (table["epochs"] == lengths[row])]
        if not len(own):
            axis.axis("off")
            continue
        square = np.full((len(CLASS_NAMES),) * 2, np.nan)
        for *pair, cosine, limit in own[["class", "other", "cosine", "reach"]].itertuples(index=False):
            one, other = map(CLASS_NAMES.index, pair)
            square[one, other] = square[other, one] = cosine
            if cosine > limit:
                axis.plot([one, other], [other, one], "x", color=BLACK, markersize=4)
        axis.imshow(square, cmap=colours.cmap, norm=colours.norm)
        axis.set(title="" if row else setting_name(names[column]), yticks=range(len(CLASS_NAMES)),
                 yticklabels=CLASS_NAMES, ylabel="" if column else f"{lengths[row]} epochs")
        axis.set_xticks(range(len(CLASS_NAMES)), CLASS_NAMES, rotation=90)
    fig.colorbar(colours, ax=axes, label="cosine of two class vectors", shrink=0.8, extend="min")
    return fig


def sentences(results: FerplusResults) -> list[str]:
    """What the class vectors say, a sentence per setting with a cosine margin."""
    table = classes_table(results)
    told = []
    for (part, setting, epochs), own in table[table["reach"].notna()].groupby(
            ["part", "setting", "epochs"], sort=False) if len(table) else ():
        seeds, limit = own["seeds"].iloc[0], own["reach"].iloc[0]
        near = own.iloc[int(own["cosine"].argmax())]
        told.append(
            f"{part}, {setting}, {epochs} epochs, seeds: {seeds}: {own['beyond'].sum() / seeds:.1f} of {len(own)} "
            f"pairs of classes lie too near for a face to win by the margin (cosine above {limit:.2f}), nearest "
            f"{near['class']} and {near['other']} ({near['cosine']:.2f}); {own['ties'].iloc[0]:.0f} % of test faces "
            f"are within {TIE} of a tie.")
    return told
