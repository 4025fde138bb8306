"""How near class vectors may lie, and what the table says of it."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from poster_ada.model.heads import AdaFaceHead, MlpHead
from poster_ada.paper.ferplus_classes import COSINES, class_cosines, classes_table, reach, sentences
from poster_ada.paper.ferplus_grid import PREDICTIONS, TABLE, grid
from poster_ada.paper.ferplus_results import FerplusResults, write_faces


@pytest.mark.parametrize("margin", [0.1, 0.4, 0.75])
def test_no_face_wins_by_the_margin_between_classes_beyond_reach(margin):
    """The best face of two class vectors lies along their difference; a grid of others is no better."""
    for cosine in (reach(margin) + 1e-3, reach(margin) - 1e-3):
        one, other = np.array([1.0, 0.0]), np.array([cosine, math.sqrt(1 - cosine**2)])
        angles = np.linspace(0, 2 * np.pi, 100_001)
        gaps = np.stack((np.cos(angles), np.sin(angles)), 1) @ (one - other)
        best = (one - other) @ (one - other) / np.linalg.norm(one - other)
        assert gaps.max() == pytest.approx(best, abs=1e-6)
        assert (best >= margin) == (cosine < reach(margin))


def test_cosines_are_those_of_the_class_vectors():
    torch.manual_seed(1)
    head = AdaFaceHead(5, 3)
    with torch.no_grad():
        head.kernel[:, 1] = -2 * head.kernel[:, 0]  # its length does not count
    found = class_cosines(head)
    np.testing.assert_allclose(np.diag(found), 1, atol=1e-6)
    assert found[0, 1] == pytest.approx(-1, abs=1e-6)
    np.testing.assert_allclose(found, torch.stack([
        nn.functional.cosine_similarity(head.kernel.T, column[None]) for column in head.kernel.T]).detach(), atol=1e-6)
    mlp = MlpHead(5, 3)
    assert class_cosines(mlp)[0, 2] == pytest.approx(
        nn.functional.cosine_similarity(mlp.weight[0], mlp.weight[2], dim=0).item(), abs=1e-6)


def test_the_table_counts_pairs_beyond_reach_and_ties(tmp_path):
    wanted = ("published-mlp-e6", "published-adaface-m0.4-e6", "ingredients-mlp-e6")
    rows = [row for row in grid() if row.id.rsplit("-", 1)[0] in wanted and row.seed in (1, 2, 11)]
    write_faces(tmp_path, np.arange(20) % 7, np.arange(20) % 7, np.zeros(20, bool), np.full(20, 9), "f")
    for row in rows:
        cosines = np.eye(7, dtype=np.float32)
        cosines[4, 5] = cosines[5, 4] = 0.9 if row.seed == 1 else 0.96
        np.savez(tmp_path / PREDICTIONS / f"{row.id}.npz", gap=np.linspace(-0.975, 0.925, 20), **{COSINES: cosines})
    pd.DataFrame([{"id": row.id, "part": row.part, "setting": row.setting, "epochs": row.epochs, "preset": row.preset,
                   "seed": row.seed, "fingerprint": "f"} for row in rows]).to_csv(tmp_path / TABLE, index=False)
    results = FerplusResults(tmp_path)
    table = classes_table(results)
    assert set(table.index) == {"published"} and len(table) == 2 * 21  # the search is not told of test faces
    line = table.set_index(["setting", "class", "other"]).loc[("adaface-m0.4", "Fear", "Disgust")]
    assert line["cosine"] == pytest.approx(0.93) and line["beyond"] == 1 and line["reach"] == pytest.approx(0.92)
    assert line["seeds"] == 2 and line["ties"] == pytest.approx(10)
    of_mlp = table[table["setting"] == "mlp"]
    assert of_mlp[["reach", "beyond", "ties"]].isna().all(axis=None)
    (told,) = sentences(results)
    assert "0.5 of 21 pairs" in told and "nearest Fear and Disgust (0.93)" in told and "10 % of test faces" in told
